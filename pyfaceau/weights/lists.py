"""Readers of the list files that tie a model together (OpenFace 2.2 specification, part 1 §1, §6, §9)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from pyfaceau.errors import ModelError
from pyfaceau.weights.formats import REMEDY

Kind: TypeAlias = Literal["ccnf", "cen", "svr"]
CEN_VARIABLE = "PYFACEAU_CEN"  # a folder that is searched for CEN files that a models folder lacks
PATCH_KEYWORDS: dict[str, Kind] = {"PatchesIntensity": "svr", "PatchesCCNF": "ccnf", "PatchesCEN": "cen"}
_PRECEDENCE: tuple[Kind, ...] = (
    "cen",
    "ccnf",
    "svr",
)  # a list with several kinds uses the first of these


@dataclass(frozen=True)
class InnerList:
    """What a landmark detector list names."""

    path: Path
    pdm: Path
    kind: Kind
    patches: tuple[Path, ...]  # of that kind, coarse to fine
    triangulations: Path | None
    early_termination: Path | None

    def files(self) -> Iterator[Path]:
        """Every file that has to exist, this list first."""
        yield self.path
        yield self.pdm
        yield from self.patches
        yield from (path for path in (self.triangulations, self.early_termination) if path is not None)


@dataclass(frozen=True)
class PartEntry:
    """One LandmarkDetector_part line."""

    name: str
    main: Path
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class MainList:
    """What a main list names."""

    path: Path
    detector: Path
    parts: tuple[PartEntry, ...]
    validator: Path | None


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Keyword and the rest of the line after one blank, line by line; empty lines are skipped."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise ModelError(f"{path}: model list is missing; {REMEDY}") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model list ({error.strerror}); {REMEDY}") from None
    lines = []
    for line in text.split("\n"):
        keyword, _, rest = line.removesuffix("\r").partition(" ")
        if keyword:
            lines.append((keyword, rest))
    return lines


def read_main_list(path: Path) -> MainList:
    """Read ``main_*.txt``. Unknown keywords are ignored, as in the original."""
    detector: Path | None = None
    validator: Path | None = None
    parts: list[PartEntry] = []
    for keyword, rest in read_lines(path):
        tokens = rest.split()
        if keyword not in ("LandmarkDetector", "LandmarkDetector_part", "DetectionValidator"):
            continue
        if not tokens:
            raise ModelError(f"{path}: line {keyword!r} names no file; {REMEDY}")
        if keyword == "LandmarkDetector":
            detector = path.parent / tokens[0]
        elif keyword == "DetectionValidator":
            validator = path.parent / tokens[0]
        else:
            parts.append(_part_entry(path, tokens))
    if detector is None:
        raise ModelError(f"{path}: no LandmarkDetector line: not a main model list; {REMEDY}")
    return MainList(path, detector, tuple(parts), validator)


def _part_entry(path: Path, tokens: list[str]) -> PartEntry:
    try:
        main, name, *numbers = tokens
        indices = [int(token) for token in numbers]
        pairs = tuple(zip(indices[::2], indices[1::2], strict=True))
    except ValueError:
        line = " ".join(tokens)[:60]
        raise ModelError(f"{path}: cannot read the part line {line!r}: list, name, pairs of landmarks") from None
    return PartEntry(name, path.parent / main, pairs)


def read_inner_list(path: Path) -> InnerList:
    """Read the list of a landmark detector: PDM, patch experts, triangulations, early termination."""
    single: dict[str, Path] = {}
    patches: dict[Kind, list[Path]] = {}
    for keyword, rest in read_lines(path):
        if keyword in PATCH_KEYWORDS:
            kind_read = PATCH_KEYWORDS[keyword]
            patches.setdefault(kind_read, []).append(_located(path.parent / rest, kind_read))
        elif keyword in ("PDM", "Triangulations", "EarlyTermination"):
            single[keyword] = path.parent / rest
    kind = next((kind for kind in _PRECEDENCE if kind in patches), None)
    if "PDM" not in single or kind is None:
        raise ModelError(f"{path}: names no PDM or no patch experts: not a landmark detector list; {REMEDY}")
    return InnerList(
        path, single["PDM"], kind, tuple(patches[kind]), single.get("Triangulations"), single.get("EarlyTermination")
    )


def _located(path: Path, kind: Kind) -> Path:
    """``path``, or the CEN file of this name in the folder $PYFACEAU_CEN if ``path`` does not exist."""
    folder = os.environ.get(CEN_VARIABLE)
    if kind == "cen" and folder and not path.is_file():
        elsewhere = Path(folder).expanduser() / path.name
        return elsewhere if elsewhere.is_file() else path
    return path


def model_files(main: Path, validator: bool = True) -> list[Path]:
    """Every file that the main list needs, its lists first, in reading order; the main list must exist.

    ``validator=False`` leaves out the detection validator, for runs that do without.
    """
    entries = read_main_list(main)
    files = [main]
    files += [entries.detector] if not entries.detector.is_file() else read_inner_list(entries.detector).files()
    for part in entries.parts:
        files += [part.main] if not part.main.is_file() else model_files(part.main)
    if validator and entries.validator is not None:
        files.append(entries.validator)
    return list(dict.fromkeys(files))


def pair_array(pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Landmark pairs as i32 (k, 2), read-only."""
    array = np.array(pairs, np.int32).reshape(-1, 2)
    array.flags.writeable = False
    return array


def read_mtcnn_list(path: Path) -> dict[str, Path]:
    """Read ``MTCNN_detector.txt``: the files of PNet, RNet and ONet by name."""
    nets = {keyword: path.parent / rest.strip() for keyword, rest in read_lines(path)}
    absent = [name for name in ("PNet", "RNet", "ONet") if name not in nets]
    if absent:
        raise ModelError(f"{path}: does not name {', '.join(absent)}; {REMEDY}")
    return nets


def read_au_main_list(path: Path) -> dict[str, Path]:
    """Read ``main_*_svms.txt``: the files of AUPredictor, PDM and Triangulation by keyword."""
    files = {keyword: path.parent / rest.strip() for keyword, rest in read_lines(path)}
    absent = [name for name in ("AUPredictor", "PDM", "Triangulation") if name not in files]
    if absent:
        raise ModelError(f"{path}: does not name {', '.join(absent)}; {REMEDY}")
    return files


def au_files(main: Path) -> list[Path]:
    """Every file that a main list of predictors needs, itself first; the lists must exist."""
    files = read_au_main_list(main)
    return [main, *files.values(), *(path for path, _ in read_au_list(files["AUPredictor"]))]


def read_au_list(path: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Read an AU list: file and the action units it predicts, in file order."""
    entries = []
    for name, rest in read_lines(path):
        units = tuple(unit.strip() for unit in rest.split(",") if unit.strip())
        if not units:
            raise ModelError(f"{path}: line {name!r} names no action unit; {REMEDY}")
        entries.append((path.parent / name, units))
    return entries
