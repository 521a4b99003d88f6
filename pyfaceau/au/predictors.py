"""The linear AU predictors: one pass over the descriptor for all intensities and presences.

A score is ``(x - means - median) . w + bias``, without the median for static predictors (OpenFace 2.2
specification, part 3 §6). By linearity it is ``x.w - (means.w - bias) - median.w``: x.w is all that has to be kept
of a frame to predict it again once the final medians are known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau.au.fhog import LENGTH as HOG_LENGTH
from pyfaceau.errors import ModelError
from pyfaceau.weights.models import AUPredictors

_PAD = 4  # f64 lanes of a vector register


class Scorer:
    """The intensity predictors, then the presence predictors of one set, as one matrix product.

    Attributes
    ----------
    intensities, presences : number of predictors of either kind; columns of scores are in this order.
    """

    def __init__(self, predictors: AUPredictors) -> None:
        kinds = (predictors.intensity, predictors.presence)
        self.intensities, self.presences = (len(kind.names) for kind in kinds)
        length = HOG_LENGTH + 3 * predictors.pdm.n + predictors.pdm.m
        for kind in kinds:
            if kind.weights.shape[1] not in (HOG_LENGTH, length):
                raise ModelError(
                    f"AU predictors take {kind.weights.shape[1]} features, but their face model gives {length}: "
                    "predictors and PDM belong to different packs"
                )
        count = self.intensities + self.presences
        self._weights = np.zeros((length, -(-count // _PAD) * _PAD))
        self._base = np.zeros(count)
        self._dynamic = np.zeros(count)
        column = 0
        for kind in kinds:
            here = slice(column, column + len(kind.names))
            # Predictors of HOG alone: the rest of their weights stays 0.
            self._weights[: kind.weights.shape[1], here] = kind.weights.T
            self._base[here] = np.einsum("ij,ij->i", kind.means, kind.weights) - kind.bias
            self._dynamic[here] = kind.dynamic
            column = here.stop
        self._positive = np.array(predictors.presence.positive)
        self._negative = np.array(predictors.presence.negative)
        self._work = np.empty((2, self._weights.shape[1]))

    def products(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """``features . w`` of every predictor: f64 (intensities + presences,)."""
        out = np.empty((2, self._weights.shape[1]))
        _products(features, features, self._weights, out[0], out[1])
        return out[0, : self._base.shape[0]]

    def predict(
        self,
        features: NDArray[np.float64],
        median: NDArray[np.float64],
        intensity: NDArray[np.float64],
        presence: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Everything about one frame in one kernel.

        Parameters
        ----------
        features, median : f64 (D,), descriptor and running median.
        intensity, presence : f64 (intensities,), (presences,), filled with raw intensities and classes.

        Returns
        -------
        f64 (2, intensities + presences): `products` of the descriptor, and of the median.
        """
        products = np.empty((2, self._base.shape[0]))
        _predict(
            features, median, self._weights, self._work, self._base, self._dynamic, self._positive, self._negative,
            products, intensity, presence,
        )  # fmt: skip
        return products

    def scores(
        self, products: NDArray[np.float64], median_products: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Raw intensities (..., intensities) and presence scores (..., presences).

        Both arguments come from `products`: of descriptors, f64 (..., k), and of the medians, f64 (k,).
        """
        scores = products - self._base - self._dynamic * median_products
        return scores[..., : self.intensities], scores[..., self.intensities :]

    def classes(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Classes (1 present, 0 absent) of presence scores: for most AUs a positive score means absent."""
        return np.where(scores > 0, self._positive, self._negative)


@kernel(fastmath={"contract"})
def _products(x, y, weights, x_out, y_out):
    """``x_out = x weights`` and ``y_out = y weights`` with one pass over the weights.

    Four rows at a time, and none whose entries of x and y are all zero (masked cells).
    """
    for k in range(x_out.shape[0]):
        x_out[k] = 0.0
        y_out[k] = 0.0
    whole = x.shape[0] // 4 * 4
    for i in range(0, whole, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        e, f, g, h = y[i], y[i + 1], y[i + 2], y[i + 3]
        if a == 0.0 and b == 0.0 and c == 0.0 and d == 0.0 and e == 0.0 and f == 0.0 and g == 0.0 and h == 0.0:
            continue
        wa, wb, wc, wd = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for k in range(x_out.shape[0]):
            x_out[k] += (a * wa[k] + b * wb[k]) + (c * wc[k] + d * wd[k])
            y_out[k] += (e * wa[k] + f * wb[k]) + (g * wc[k] + h * wd[k])
    for i in range(whole, x.shape[0]):
        for k in range(x_out.shape[0]):
            x_out[k] += x[i] * weights[i, k]
            y_out[k] += y[i] * weights[i, k]


@kernel
def _predict(x, median, weights, work, base, dynamic, positive, negative, products, intensity, presence):
    """See `Scorer.predict`; ``work`` f64 (2, columns of the weights)."""
    _products(x, median, weights, work[0], work[1])
    first = intensity.shape[0]
    for k in range(base.shape[0]):
        products[0, k], products[1, k] = work[0, k], work[1, k]
        score = work[0, k] - base[k] - dynamic[k] * work[1, k]
        if k < first:
            intensity[k] = score
        else:
            presence[k - first] = positive[k - first] if score > 0.0 else negative[k - first]
