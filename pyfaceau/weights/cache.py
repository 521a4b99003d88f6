"""Arrays kept in the user cache: one file of raw arrays behind a small header, mapped read-only.

A cache file is a preamble (magic, lengths, checksum), a JSON header (key, array table, free-form
``meta``) and one contiguous blob in which every array starts at a multiple of 64 bytes. It is written
beside its final name and renamed, so that it is complete or absent. A file that is damaged, or
that belongs to another key, counts as absent and is written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pyfaceau._jit import user_cache_dir

_MAGIC = b"PYFACEA1"
_PREAMBLE = struct.Struct("<8sQQQ")  # magic, header bytes, blob bytes, checksum of header and blob
_ALIGN = 64
_KEEP_S = 60 * 86400.0  # cache files not used for so long are removed when another is written


def array_digest(*arrays: np.ndarray) -> str:
    """SHA-256 over dtypes, shapes and contents: the part of a ``derived_arrays`` key that names its inputs."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def derived_arrays(key: str, build: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that ``build()`` computes once per machine and that later runs map from the user cache.

    ``key`` must name everything the arrays depend on: what they are, the version of the computation, and
    its inputs, for instance ``f"ccnf-sigma v1 {array_digest(alpha, betas)}"``. The arrays returned are
    read-only, C-contiguous and 64-byte aligned; processes share their memory. A cache folder that
    cannot be written is no error: the arrays are then computed in every run.
    """
    path = user_cache_dir() / "derived" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.blob"
    arrays, _ = load_or_build(path, key, lambda: (build(), None))
    return arrays


def load_or_build(
    path: Path, key: str, build: Callable[[], tuple[Mapping[str, np.ndarray], Any]]
) -> tuple[dict[str, np.ndarray], Any]:
    """Arrays and JSON-able ``meta`` from the cache file, or from ``build()``, which is then cached."""
    found = read_blob(path, key)
    if found is not None:
        _note_use(path)
        return found
    arrays, meta = build()
    with contextlib.suppress(OSError):  # full disk, read-only home, or a file that Windows holds mapped
        write_blob(path, key, arrays, meta)
        _remove_unused(path.parent)
        found = read_blob(path, key)
        if found is not None:
            return found
    return {name: _read_only(array) for name, array in arrays.items()}, meta


def _read_only(array: np.ndarray) -> np.ndarray:
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def write_blob(path: Path, key: str, arrays: Mapping[str, np.ndarray], meta: Any = None) -> None:
    """Write a cache file; raises OSError and leaves nothing behind if that is impossible."""
    table: dict[str, list[Any]] = {}
    length = 0
    for name, array in arrays.items():
        table[name] = [array.dtype.str, list(array.shape), length]
        length += -(-array.nbytes // _ALIGN) * _ALIGN
    header = json.dumps({"key": key, "arrays": table, "meta": meta}, separators=(",", ":")).encode()
    header += b" " * (-(len(header) + _PREAMBLE.size) % _ALIGN)
    checksum = _checksum(header)
    with atomic_file(path) as file:
        file.write(_PREAMBLE.pack(_MAGIC, len(header), length, 0))
        file.write(header)
        for array in arrays.values():
            data = np.ascontiguousarray(array).tobytes()
            data += bytes(-len(data) % _ALIGN)
            checksum = (checksum + _checksum(data)) % 2**64
            file.write(data)
        file.seek(0)
        file.write(_PREAMBLE.pack(_MAGIC, len(header), length, checksum))


def read_blob(path: Path, key: str) -> tuple[dict[str, np.ndarray], Any] | None:
    """Map a cache file: its arrays and meta; None if it is absent, damaged, or has another key."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, header_length, length, checksum = _PREAMBLE.unpack_from(mapped)
        start = _PREAMBLE.size + header_length
        if magic != _MAGIC or len(mapped) != start + length or _checksum(mapped, _PREAMBLE.size) != checksum:
            return None
        header = json.loads(mapped[_PREAMBLE.size : start])
        if header["key"] != key:
            return None
        arrays: dict[str, np.ndarray] = {
            name: np.ndarray(shape, np.dtype(dtype), mapped, start + offset)
            for name, (dtype, shape, offset) in header["arrays"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return arrays, header["meta"]


def _checksum(data: bytes | mmap.mmap, offset: int = 0) -> int:
    """Sum of the 64-bit words modulo 2**64: reads at memory speed, and this is no defence against an attacker."""
    words = np.frombuffer(data, "<u8", (len(data) - offset) // 8, offset) if len(data) - offset >= 8 else np.zeros(0)
    return int(np.add.reduce(words, dtype=np.uint64))


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A new binary file under a temporary name in the folder of ``path``, renamed to ``path`` at the end.

    On any error the temporary file is removed and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _note_use(path: Path) -> None:
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > 86400.0:
            os.utime(path)


def _remove_unused(folder: Path) -> None:
    oldest = time.time() - _KEEP_S
    for path in [*folder.glob("*.blob"), *folder.glob(".*.part")]:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
