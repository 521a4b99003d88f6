"""Checks that every list and every file of a models folder parses and that they fit each other."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pyfaceau.errors import ModelError
from pyfaceau.weights import lists, store
from pyfaceau.weights.install import locate, model_paths
from pyfaceau.weights.networks import read_cnn, read_validator
from pyfaceau.weights.patches import read_ccnf, read_cen, read_svr
from pyfaceau.weights.pdm import read_pdm, read_triangles, read_triangulations
from pyfaceau.weights.predictors import read_predictor
from pyfaceau.weights.source import ModelSource, landmark_models

# Readers of files that no list names, by file name.
_READERS: tuple[tuple[str, Callable[[Path], Any]], ...] = (
    (r".*PDM.*\.txt|pdm_.*\.txt", read_pdm),
    (r".*ccnf_patches_.*\.txt", read_ccnf),
    (r"svr_patches_.*\.txt", read_svr),
    (r"cen_patches_.*\.dat", read_cen),
    (r"validator_cnn.*\.txt", read_validator),
    (r"[PRO]Net\.dat", read_cnn),
    (r"AU_\d+_.*\.dat", read_predictor),
    (r"tris_68_full\.txt", read_triangles),
    (r"tris_68\.txt", read_triangulations),
)


@dataclass
class ValidationReport:
    """What a models folder can be used for, and what is wrong with it."""

    usable: list[str] = field(default_factory=list)  # models that load
    incomplete: dict[str, list[Path]] = field(default_factory=dict)  # main lists and the files that they lack
    errors: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # files that nothing names or reads


def validate_models(source: ModelSource) -> ValidationReport:
    """Read every model of a source from its files, not from the cache. Never raises for a bad file."""
    report = ValidationReport()
    used: set[Path] = set()
    try:
        mains = landmark_models(source)
    except ModelError as error:
        mains = {}
        report.errors.append(str(error))
    for name, missing in mains.items():
        main = source.landmarks / f"{name}.txt"
        used |= set(lists.model_files(main))
        if missing:
            report.incomplete[name] = missing
        else:
            _try(report, f"landmarks {name}", partial(store.read_model, main))
    _validate_detector(source, report, used)
    for main in sorted(source.action_units.glob("*_svms.txt")):
        _try(report, f"action units {main.stem}", partial(store.read_action_units, main, used))
    if not mains:
        report.errors.append(f"{source.landmarks}: no landmark model (main_*.txt) there; not a models folder")
    _read_unnamed(source, report, {path.resolve() for path in used})
    return report


def _try(report: ValidationReport, what: str, read: Callable[[], Any]) -> None:
    try:
        read()
        report.usable.append(what)
    except ModelError as error:
        report.errors.append(str(error))


def _validate_detector(source: ModelSource, report: ValidationReport, used: set[Path]) -> None:
    main = source.landmarks / "mtcnn_detector" / "MTCNN_detector.txt"
    used.add(main)

    def read() -> None:
        nets = lists.read_mtcnn_list(main)
        used.update(nets.values())
        store.read_mtcnn(nets)

    _try(report, "face detector MTCNN", read)


def _read_unnamed(source: ModelSource, report: ValidationReport, used: set[Path]) -> None:
    for name in model_paths(source):
        path = locate(source, name)
        if path.resolve() in used:
            continue
        reader = next((reader for pattern, reader in _READERS if re.fullmatch(pattern, path.name)), None)
        if reader is None:
            report.unread.append(name)
            continue
        try:
            reader(path)
        except ModelError as error:
            report.errors.append(str(error))
