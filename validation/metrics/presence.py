"""Agreement of two series of AU presence (0 or 1).

Conventions: ``reference`` and ``estimated`` are bool (frames,), of the frames on which both programs have a face.
``confusion`` counts a, b, c, d as in Fleiss: both present, only the reference, only the estimate, none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from validation.errors import Undefined


class Confusion(NamedTuple):
    """Frames by what the two say."""

    both: int
    only_reference: int
    only_estimated: int
    neither: int


def confusion(reference: np.ndarray, estimated: np.ndarray) -> Confusion:
    """The 2 x 2 table."""
    if len(reference) == 0:
        raise Undefined("no frame on which both programs have a face")
    return Confusion(
        int((reference & estimated).sum()),
        int((reference & ~estimated).sum()),
        int((~reference & estimated).sum()),
        int((~reference & ~estimated).sum()),
    )


def agreement(reference: np.ndarray, estimated: np.ndarray) -> float:
    """(a + d) / n."""
    table = confusion(reference, estimated)
    return (table.both + table.neither) / len(reference)


def flips(reference: np.ndarray, estimated: np.ndarray) -> int:
    """b + c: frames on which the two differ."""
    table = confusion(reference, estimated)
    return table.only_reference + table.only_estimated


def kappa(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Cohen's kappa (p_o - p_e) / (1 - p_e) (Cohen 1960); undefined if both say the same thing throughout."""
    a, b, c, d = confusion(reference, estimated)
    n = len(reference)
    chance = ((a + b) * (a + c) + (c + d) * (b + d)) / n**2
    if chance == 1:
        raise Undefined("both programs give one and the same answer throughout")
    return ((a + d) / n - chance) / (1 - chance)


def f1(reference: np.ndarray, estimated: np.ndarray) -> float:
    """2a / (2a + b + c) of "present"; undefined if neither program ever says so."""
    table = confusion(reference, estimated)
    denominator = 2 * table.both + table.only_reference + table.only_estimated
    if denominator == 0:
        raise Undefined("the AU is never present in either")
    return 2 * table.both / denominator


def mcc(reference: np.ndarray, estimated: np.ndarray) -> float:
    """Matthews' correlation (ad - bc) / sqrt((a+b)(a+c)(d+b)(d+c)) (Matthews 1975); undefined if one is constant."""
    a, b, c, d = confusion(reference, estimated)
    product = (a + b) * (a + c) * (d + b) * (d + c)
    if product == 0:
        raise Undefined("a program gives one and the same answer throughout")
    return (a * d - b * c) / product**0.5


def prevalence(present: np.ndarray) -> float:
    """Share of frames with the AU present."""
    if len(present) == 0:
        raise Undefined("no frame on which both programs have a face")
    return float(present.mean())
