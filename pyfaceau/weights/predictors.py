"""Readers of the action unit predictors (OpenFace 2.2 specification, part 1 §9)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyfaceau.errors import ModelError
from pyfaceau.weights.formats import F64, REMEDY, BinaryFile, frozen
from pyfaceau.weights.lists import read_au_list
from pyfaceau.weights.models import LinearModels

SVR_STATIC, SVR_DYNAMIC, SVM_STATIC, SVM_DYNAMIC = 0, 1, 4, 5
_INTENSITY, _PRESENCE = (SVR_STATIC, SVR_DYNAMIC), (SVM_STATIC, SVM_DYNAMIC)


@dataclass(frozen=True, eq=False)
class Predictor:
    """One predictor file. Static or dynamic is what its kind says, whatever the file's name says."""

    path: Path
    kind: int
    means: np.ndarray  # f64 (D,)
    weights: np.ndarray  # f64 (D,)
    bias: float
    cutoff: float
    positive: float
    negative: float


def read_predictor(path: Path) -> Predictor | None:
    """Read one predictor; None for a kind that OpenFace 2.2 ignores."""
    file = BinaryFile(path)
    kind = file.int32("predictor kind")
    if kind not in _INTENSITY + _PRESENCE:
        return None
    cutoff = file.float64("cutoff") if kind == SVR_DYNAMIC else -1.0
    means = file.matrix("means", F64, rows=1)
    weights = file.matrix("weights", F64, rows=means.shape[1], cols=1)
    bias = file.float64("bias")
    positive, negative = (file.float64("class"), file.float64("class")) if kind in _PRESENCE else (0.0, 0.0)
    file.close()
    return Predictor(path, kind, means.ravel(), weights.ravel(), bias, cutoff, positive, negative)


def read_predictors(list_path: Path) -> tuple[LinearModels, LinearModels]:
    """Read an AU list: the intensity and the presence predictors, each sorted by name."""
    named: list[tuple[str, Predictor]] = []
    for path, names in read_au_list(list_path):
        predictor = read_predictor(path)
        if predictor is not None:
            named += [(name, predictor) for name in names]
    if len({len(predictor.weights) for _, predictor in named}) > 1:
        raise ModelError(f"{list_path}: its predictors differ in their number of features; {REMEDY}")
    # The first listed file of a kind supplies the means of the whole kind.
    means: dict[int, np.ndarray] = {}
    for _, predictor in named:
        means.setdefault(predictor.kind, predictor.means)
    return (
        _stack(list_path, [item for item in named if item[1].kind in _INTENSITY], means),
        _stack(list_path, [item for item in named if item[1].kind in _PRESENCE], means),
    )


def _stack(list_path: Path, named: list[tuple[str, Predictor]], means: dict[int, np.ndarray]) -> LinearModels:
    names = tuple(sorted(name for name, _ in named))
    if len(set(names)) != len(names):
        raise ModelError(f"{list_path}: names an action unit twice for the same purpose; {REMEDY}")
    models = [predictor for _, predictor in sorted(named, key=lambda item: item[0])]
    features = len(models[0].weights) if models else 0
    empty = np.zeros((0, features))
    return LinearModels(
        names=names,
        weights=frozen(np.stack([p.weights for p in models]) if models else empty, np.float64),
        bias=frozen(np.array([p.bias for p in models], np.float64)),
        means=frozen(np.stack([means[p.kind] for p in models]) if models else empty, np.float64),
        dynamic=frozen(np.array([p.kind in (SVR_DYNAMIC, SVM_DYNAMIC) for p in models], np.bool_)),
        cutoff=frozen(np.array([p.cutoff for p in models], np.float64)),
        positive=frozen(np.array([p.positive for p in models], np.float64)),
        negative=frozen(np.array([p.negative for p in models], np.float64)),
    )
