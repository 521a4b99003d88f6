"""One compact file for a whole models folder: tar.xz with a list of digests as its first member.

Equal folders give equal bytes. A pack is used like a folder: it is unpacked into the user cache
once, each file checked by its digest, and mapped from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from pyfaceau._jit import user_cache_dir
from pyfaceau.errors import ModelError
from pyfaceau.weights import registry
from pyfaceau.weights.cache import atomic_file
from pyfaceau.weights.fetch import Progress, silent
from pyfaceau.weights.install import MANIFEST, locate, model_paths
from pyfaceau.weights.source import ModelSource

_TOPS = ("model", "AU_predictors")


def pack_models(source: ModelSource, file: Path, progress: Progress = silent) -> list[str]:
    """Write every model file of ``source`` into the pack ``file``; returns their paths. Raises ModelError."""
    names = model_paths(source)
    if not any(name.startswith("model/main_") for name in names):
        raise ModelError(f"{source.path}: holds no main list (model/main_*.txt), nothing to pack; name a models folder")
    manifest = "".join(f"{registry.file_digest(locate(source, name))}  {name}\n" for name in names).encode()
    try:
        with (
            atomic_file(file) as raw,
            lzma.open(raw, "wb", preset=6) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            archive.addfile(_member(MANIFEST, len(manifest)), io.BytesIO(manifest))
            for number, name in enumerate(names, 1):
                path = locate(source, name)
                with path.open("rb") as data:
                    archive.addfile(_member(name, path.stat().st_size), data)
                progress(name, number, len(names))
    except OSError as error:
        raise ModelError(f"{file}: cannot write the pack ({error.strerror}); choose another place") from None
    return names


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A header that says nothing of the machine, the user or the time."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member


def unpacked(file: Path) -> Path:
    """The folder in the user cache that holds the content of the pack ``file``; unpacks it if it is new.

    Raises ModelError if the file is no pack, or is damaged; nothing is then left of it.
    """
    status = file.stat()
    key = hashlib.sha256(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:24]
    folder = user_cache_dir() / "packs" / f"{file.name.partition('.')[0]}-{key}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".unpack.", dir=folder.parent))
    except OSError as error:
        raise ModelError(f"{folder}: cannot unpack {file} there ({error.strerror}); set $PYFACEAU_CACHE") from None
    try:
        _unpack(file, scratch)
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(scratch, folder)
    except OSError as error:
        raise ModelError(f"{folder}: cannot unpack {file} there ({error.strerror}); set $PYFACEAU_CACHE") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not folder.is_dir():
        raise ModelError(f"{folder}: cannot unpack {file} there; set $PYFACEAU_CACHE to a folder that can be written")
    return folder


def _unpack(file: Path, folder: Path) -> None:
    digests: dict[str, str] = {}
    try:
        with lzma.open(file) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
            for member in archive:
                data = archive.extractfile(member)
                if not digests:
                    digests = _read_manifest(file, member, data, folder)
                    continue
                if data is None or member.name not in digests:
                    raise ModelError(f"{file}: holds {member.name!r}, which its list of digests does not name")
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(data, out, 1 << 20)
                if registry.file_digest(target) != digests.pop(member.name):
                    raise ModelError(f"{file}: {member.name} in it is damaged; get the pack again")
    except (lzma.LZMAError, tarfile.TarError, EOFError):
        raise ModelError(f"{file}: is not a model pack, or is cut off; write it with `pyfaceau models pack`") from None
    if digests:
        raise ModelError(f"{file}: lacks {next(iter(digests))} and is damaged or cut off; get the pack again")


def _read_manifest(file: Path, member: tarfile.TarInfo, data: object, folder: Path) -> dict[str, str]:
    if member.name != MANIFEST or not isinstance(data, io.BufferedIOBase) or member.size > 1 << 20:
        raise ModelError(f"{file}: is not a model pack; write one with `pyfaceau models pack`")
    target = folder / MANIFEST
    target.write_bytes(data.read())
    digests = registry.read_digests(target)
    for name in digests:
        parts = PurePosixPath(name).parts
        if parts[0] not in _TOPS or ".." in parts or "\\" in name or ":" in name:
            raise ModelError(f"{file}: names {name!r}, which is no path of a model file; do not use this pack")
    if not digests:
        raise ModelError(f"{file}: is an empty pack; write it again with `pyfaceau models pack`")
    return digests
