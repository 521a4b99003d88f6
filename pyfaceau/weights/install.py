"""Brings the files of an OpenFace installation into the user cache, and checks what is there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from pyfaceau.errors import ModelError
from pyfaceau.weights import registry
from pyfaceau.weights.cache import atomic_file
from pyfaceau.weights.fetch import CEN_DIGESTS, Progress, folder_lock, install_cen, note_cen_digests, silent
from pyfaceau.weights.source import ModelSource

MANIFEST = "SHA256SUMS"  # of a pack: its own digests, in place of OpenFace's


@dataclass
class ImportReport:
    """What became of the files of an import, by path in a models folder."""

    imported: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)  # intact in the cache already
    absent: list[str] = field(default_factory=list)  # neither in the cache nor in the folder imported from
    damaged: list[str] = field(default_factory=list)  # in that folder, but not what was published


def import_models(source: ModelSource, folder: Path, progress: Progress = silent) -> ImportReport:
    """Copy OpenFace's files from an installation to ``folder``, each only if its digest is the published one.

    CEN files, whose digests are not published, must have the right size and parse. They may also lie directly
    in the folder that is named. Raises ModelError if ``source`` is ``folder`` or holds nothing of OpenFace.
    """
    if source.path.resolve() == folder.resolve():
        raise ModelError(f"{folder}: importing a folder into itself; name the folder of an OpenFace installation")
    report = ImportReport()
    expected = registry.official_digests()
    with folder_lock(folder):
        for number, (name, digest) in enumerate(expected.items(), 1):
            _import_file(source, folder, name, digest, report)
            progress(name, number, len(expected))
        for file in registry.CEN_FILES:
            _import_cen(source, folder, file, report)
        if any(file.name in report.imported for file in registry.CEN_FILES):
            note_cen_digests(folder)
    if not report.imported and not report.present and not report.damaged:
        raise ModelError(f"{source.path}: holds none of OpenFace 2.2's model files; name the folder of an installation")
    return report


def _import_file(source: ModelSource, folder: Path, name: str, digest: str, report: ImportReport) -> None:
    target, origin = folder / name, locate(source, name)
    if target.is_file() and registry.file_digest(target) == digest:
        report.present.append(name)
    elif not origin.is_file():
        report.absent.append(name)
    elif registry.file_digest(origin) != digest:
        report.damaged.append(name)
    else:
        _copy(origin, target)
        report.imported.append(name)


def _import_cen(source: ModelSource, folder: Path, file: registry.CENFile, report: ImportReport) -> None:
    target = folder / file.name
    places = [locate(source, file.name), source.path / target.name]
    origin = next((place for place in places if place.is_file()), None)
    if target.is_file() and target.stat().st_size == file.size:
        report.present.append(file.name)
    elif origin is None:
        report.absent.append(file.name)
    elif origin.stat().st_size != file.size:
        report.damaged.append(file.name)
    else:
        part = target.with_name(target.name + ".part")
        _copy(origin, part)
        try:
            install_cen(part, target, file)
            report.imported.append(file.name)
        except ModelError:
            report.damaged.append(file.name)


def locate(source: ModelSource, name: str) -> Path:
    """The file of a source that has ``name`` in a models folder."""
    top, _, rest = name.partition("/")
    return (source.landmarks if top == "model" else source.action_units) / rest


def _copy(origin: Path, target: Path) -> None:
    try:
        with origin.open("rb") as data, atomic_file(target) as out:
            shutil.copyfileobj(data, out, 1 << 20)
    except OSError as error:
        raise ModelError(f"{target}: cannot write ({error.strerror}); check space and rights of the folder") from None


@dataclass
class VerifyReport:
    """The state of a models folder, by path in it."""

    intact: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # not among the files whose digests are known
    cen_missing: list[str] = field(default_factory=list)  # optional


def verify_models(source: ModelSource, progress: Progress = silent) -> VerifyReport:
    """Compare every file of a source with its digest: OpenFace 2.2's, or those of the pack's own SHA256SUMS."""
    report = VerifyReport()
    manifest = source.path / MANIFEST
    expected = registry.read_digests(manifest) if manifest.is_file() else registry.official_digests()
    for number, (name, digest) in enumerate(expected.items(), 1):
        path = locate(source, name)
        if not path.is_file():
            report.missing.append(name)
        else:
            (report.intact if registry.file_digest(path) == digest else report.damaged).append(name)
        progress(name, number, len(expected))
    if not manifest.is_file():
        _verify_cen(source, report)
    known = {*expected, *report.intact, *report.damaged}
    report.unknown = sorted(set(model_paths(source)) - known)
    return report


def _verify_cen(source: ModelSource, report: VerifyReport) -> None:
    noted = source.path / CEN_DIGESTS
    digests = registry.read_digests(noted) if noted.is_file() else {}
    for file in registry.CEN_FILES:
        path = locate(source, file.name)
        if not path.is_file():
            report.cen_missing.append(file.name)
        elif path.stat().st_size != file.size:
            report.damaged.append(file.name)
        elif file.name in digests:
            same = registry.file_digest(path) == digests[file.name]
            (report.intact if same else report.damaged).append(file.name)


def model_paths(source: ModelSource) -> list[str]:
    """Every regular file of a source by its path in a models folder, sorted; hidden and .part files left out."""
    names = []
    for top, folder in (("model", source.landmarks), ("AU_predictors", source.action_units)):
        for path in folder.rglob("*"):
            relative = path.relative_to(folder)
            hidden = any(part.startswith(".") for part in relative.parts)
            if path.is_file() and not hidden and path.suffix != ".part":
                names.append(f"{top}/{relative.as_posix()}")
    return sorted(names)
