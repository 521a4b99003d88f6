"""Agreement of two series of AU intensities (0 to 5).

Conventions: ``reference`` and ``estimated`` are f64 (frames,), of the frames on which both programs have a face.
Moments are the population's (divided by n) unless a formula says otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from validation.errors import Undefined

VARIES = 0.05
"""An AU varies if the reference's standard deviation is at least this; others have no meaningful correlation."""


def varies(reference: np.ndarray) -> bool:
    """The reference's standard deviation is at least ``VARIES``."""
    return len(reference) > 0 and float(reference.std()) >= VARIES


def ccc(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Concordance correlation 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2) (Lin 1989, moments divided by n)."""
    _need(reference, 2)
    gap = float(reference.mean() - estimated.mean())
    denominator = float(reference.var() + estimated.var()) + gap**2
    if denominator == 0:
        raise Undefined("both series are the same constant")
    return 2 * _covariance(reference, estimated) / denominator


def pcc(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Pearson's correlation s_xy / (s_x s_y)."""
    _need(reference, 2)
    scale = float(reference.std() * estimated.std())
    if scale == 0 or np.ptp(reference) == 0 or np.ptp(estimated) == 0:
        raise Undefined("a series is constant")
    return _covariance(reference, estimated) / scale


class _MeanSquares(NamedTuple):
    rows: float
    columns: float
    error: float
    n: int


def _mean_squares(reference: np.ndarray, estimated: np.ndarray) -> _MeanSquares:
    """Two-way analysis of variance of n targets (frames) by 2 raters (programs)."""
    _need(reference, 2)
    table = np.stack([reference, estimated], axis=1)
    n = len(table)
    grand = table.mean()
    rows = 2 * ((table.mean(axis=1) - grand) ** 2).sum()
    columns = n * ((table.mean(axis=0) - grand) ** 2).sum()
    residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + grand
    return _MeanSquares(rows / (n - 1), columns, (residual**2).sum() / (n - 1), n)


def icc_a1(reference: np.ndarray, estimated: np.ndarray) -> float:
    """ICC(A,1), absolute agreement, single measure (McGraw & Wong 1996), k = 2 raters.

    (MSR - MSE) / (MSR + (k-1) MSE + k/n (MSC - MSE)); the same figure as ICC(2,1) of Shrout & Fleiss 1979.
    """
    ms = _mean_squares(reference, estimated)
    denominator = ms.rows + ms.error + 2 / ms.n * (ms.columns - ms.error)
    if denominator == 0:
        raise Undefined("both series are the same constant")
    return float((ms.rows - ms.error) / denominator)


def icc_31(reference: np.ndarray, estimated: np.ndarray) -> float:
    """ICC(3,1), consistency, single measure (Shrout & Fleiss 1979): (MSR - MSE) / (MSR + (k-1) MSE), k = 2."""
    ms = _mean_squares(reference, estimated)
    if ms.rows + ms.error == 0:
        raise Undefined("both series are constant")
    return float((ms.rows - ms.error) / (ms.rows + ms.error))


def mae(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Mean |y - x|."""
    _need(reference, 1)
    return float(np.abs(estimated - reference).mean())


def rmse(reference: np.ndarray, estimated: np.ndarray) -> float:
    """sqrt(mean (y - x)^2)."""
    _need(reference, 1)
    return float(np.sqrt(((estimated - reference) ** 2).mean()))


def bias(reference: np.ndarray, estimated: np.ndarray) -> float:
    """mean (y - x): above 0 where the estimate is too high."""
    _need(reference, 1)
    return float((estimated - reference).mean())


def limits_of_agreement(reference: np.ndarray, estimated: np.ndarray) -> tuple[float, float]:
    """bias -+ 1.96 s of the differences, s divided by n - 1 (Bland & Altman 1986)."""
    _need(reference, 2)
    difference = estimated - reference
    half = 1.96 * float(difference.std(ddof=1))
    return float(difference.mean()) - half, float(difference.mean()) + half


def share_within(reference: np.ndarray, estimated: np.ndarray, tolerance: float) -> float:
    """Share of frames with |y - x| <= tolerance (with 1e-9 of room, as the values are decimals in binary)."""
    _need(reference, 1)
    return float((np.abs(estimated - reference) <= tolerance + 1e-9).mean())


def _covariance(reference: np.ndarray, estimated: np.ndarray) -> float:
    return float(((reference - reference.mean()) * (estimated - estimated.mean())).mean())


def _need(reference: np.ndarray, frames: int) -> None:
    if len(reference) < frames:
        raise Undefined(f"{len(reference)} frames on which both programs have a face; {frames} needed")
