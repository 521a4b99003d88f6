"""CCNF patch experts: grey areas to response maps.

Baltrušaitis, Robinson & Morency 2014, "Continuous conditional neural fields"; OpenFace 2.2
specification, part 1 section 3 and part 2 section 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, bits_float, float_bits, row_products
from pyfaceau.landmarks.areas import SUPPORT
from pyfaceau.weights.cache import array_digest, derived_arrays
from pyfaceau.weights.models import CCNFPatches

_DIAGONAL = np.zeros((0, 0, 0, 0), np.float32)
_DIAGONAL.flags.writeable = False  # as the mapped matrices are: one kind of array, one compilation
_MIN_ALPHA = 1e-4  # neurons below it do not contribute to a response (but do to Sigma)

_rows_3, _rows_5, _rows_7 = row_products(3, SUPPORT), row_products(5, SUPPORT), row_products(7, SUPPORT)
_rows_9, _rows_11, _rows_1 = row_products(9, SUPPORT), row_products(11, SUPPORT), row_products(1, SUPPORT)


@kernel(fastmath={"contract"})
def exp_lane(x):
    """exp(x) in float32 to 2 units in the last place, without branches so that loops over it vectorise.

    Range reduction by log 2 in two parts and a degree-5 polynomial (the classic Cephes scheme).
    """
    x = min(np.float32(88.0), max(np.float32(-87.0), x))
    shifted = x * np.float32(1.44269504) + np.float32(12582912.0)  # rounds: the integer is in the low bits
    n = shifted - np.float32(12582912.0)
    r = x - n * np.float32(0.693359375)
    r = r + n * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + np.float32(5.0000001201e-1)
    y = (y * r) * r + r + np.float32(1.0)
    return bits_float(float_bits(y) + (float_bits(shifted) << np.int32(23)))


@kernel
def block_statistics(area, window, means, inverse_norms, column_sums, column_squares):
    """Mean and 1 / L2 norm (of the centred values) of every 11x11 block of an area [w + 10, w + 10].

    Running sums in float64: areas hold multiples of 1/1024, so the sums are exact and a constant block
    is recognised as such (its norm counts as one).
    """
    side = area.shape[0]
    count = 1.0 / (SUPPORT * SUPPORT)
    for x in range(side):
        column_sums[x] = column_squares[x] = 0.0
    for y in range(SUPPORT):
        for x in range(side):
            v = np.float64(area[y, x])
            column_sums[x] += v
            column_squares[x] += v * v
    for y in range(window):
        if y > 0:
            for x in range(side):
                new, old = np.float64(area[y + SUPPORT - 1, x]), np.float64(area[y - 1, x])
                column_sums[x] += new - old
                column_squares[x] += new * new - old * old
        total = squares = 0.0
        for x in range(SUPPORT - 1):
            total += column_sums[x]
            squares += column_squares[x]
        for x in range(window):
            total += column_sums[x + SUPPORT - 1]
            squares += column_squares[x + SUPPORT - 1]
            mean = total * count
            variance = squares - total * mean
            means[y * window + x] = np.float32(mean)
            inverse_norms[y * window + x] = np.float32(1.0 / np.sqrt(variance)) if variance > 1e-6 else np.float32(1)
            total -= column_sums[x]
            squares -= column_squares[x]


@kernel
def correlate(flat, window, side, weights, out):
    """Products of every block of a flattened area with eight templates: ``out[8 (window y + x) + q]``."""
    for y in range(window):
        start, to = y * side, LANES * y * window
        if window == 9:
            _rows_9(flat, start, side, weights, 0, out, to)
        elif window == 7:
            _rows_7(flat, start, side, weights, 0, out, to)
        elif window == 11:
            _rows_11(flat, start, side, weights, 0, out, to)
        elif window == 5:
            _rows_5(flat, start, side, weights, 0, out, to)
        elif window == 3:
            _rows_3(flat, start, side, weights, 0, out, to)
        else:
            x = 0
            while x + 7 <= window:
                _rows_7(flat, start + x, side, weights, 0, out, to + LANES * x)
                x += 7
            while x < window:
                _rows_1(flat, start + x, side, weights, 0, out, to + LANES * x)
                x += 1


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _dot(a, b):
    total = np.float32(0)
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@kernel(fastmath={"contract"})
def _neuron_sum(products, mean, inverse_norm, bias, weight_sums, twice_alpha, lanes):
    """Sum over eight neurons of 2 alpha sigmoid(bias + norm <W, block>)."""
    for q in range(LANES):
        z = bias[q] + (products[q] - mean * weight_sums[q]) * inverse_norm
        lanes[q] = twice_alpha[q] / (np.float32(1) + exp_lane(-z))
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))


@kernel
def ccnf_responses(areas, visible, weights, weight_sums, bias, twice_alpha, sigma, inverse_alpha, responses):
    """Response maps of the visible landmarks of one view.

    Parameters
    ----------
    areas : np.ndarray [shape=(n, w + 10, w + 10), dtype=float32]
        Grey values; **centred in place**.
    visible : np.ndarray [shape=(n,), dtype=bool]
    weights : np.ndarray [shape=(n, groups, 121, 8), dtype=float32]
        Neuron weights times norm, eight neurons to a group, zero-padded.
    weight_sums, bias, twice_alpha : np.ndarray [shape=(n, groups, 8), dtype=float32]
    sigma : np.ndarray [shape=(n, w^2, padded) or (0, 0, 0), dtype=float32]
        Covariance of the field; empty where it is the diagonal ``inverse_alpha``.
    inverse_alpha : np.ndarray [shape=(n,), dtype=float32]
        1 / (2 sum of alpha).
    responses : np.ndarray [shape=(n, w, w), dtype=float32], out
        Non-negative; those of invisible landmarks are left alone.
    """
    n, side = areas.shape[0], areas.shape[1]
    window = responses.shape[1]
    cells = window * window
    padded = sigma.shape[2] if sigma.shape[0] > 0 else cells
    groups = weights.shape[1]
    means, inverse_norms = np.empty(cells, np.float32), np.empty(cells, np.float32)
    sums, squares = np.empty(side, np.float64), np.empty(side, np.float64)
    products, lanes = np.empty(cells * LANES, np.float32), np.empty(LANES, np.float32)
    unary = np.zeros(padded, np.float32)
    for i in range(n):
        if not visible[i]:
            continue
        area = areas[i]
        # Template products cancel a block's mean: taking the bulk of it out first keeps float32 accurate.
        # An integer, so that the subtraction is exact.
        offset = np.rint(area[side // 2, side // 2])
        for y in range(side):
            for x in range(side):
                area[y, x] -= offset
        block_statistics(area, window, means, inverse_norms, sums, squares)
        unary[:cells] = np.float32(0)
        flat = area.reshape(-1)
        for group in range(groups):
            correlate(flat, window, side, weights[i, group].reshape(-1), products)
            for k in range(cells):
                unary[k] += _neuron_sum(
                    products[k * LANES :], means[k], inverse_norms[k],
                    bias[i, group], weight_sums[i, group], twice_alpha[i, group], lanes,
                )  # fmt: skip
        response = responses[i].reshape(-1)
        if sigma.shape[0] > 0:
            lowest = np.float32(0)
            for k in range(cells):
                value = _dot(sigma[i, k], unary)
                response[k] = value
                lowest = min(lowest, value)
            if lowest < 0:
                for k in range(cells):
                    response[k] -= lowest
        else:
            for k in range(cells):
                response[k] = inverse_alpha[i] * unary[k]


def sigma_matrices(patches: CCNFPatches, window: int) -> np.ndarray:
    """Covariance matrices of all experts for one window, or an empty array where they are diagonal.

    Computed once per machine and mapped from the user cache afterwards.

    ``Sigma = [2 (sum(alpha) I + sum_b beta_b C_b)]^-1``; a window without components in the model's last
    patch file has none of the second term (part 1, section 3).

    Returns
    -------
    np.ndarray [shape=(nv, n, w^2, padded), dtype=float32]
        Rows padded with zeros to a multiple of eight.
    """
    components = patches.sigma_components.get(window)
    if components is None or len(components) == 0:
        return _DIAGONAL
    key = f"ccnf sigma v1 window {window} {array_digest(components, patches.alpha, patches.betas)}"
    return derived_arrays(key, lambda: {"sigma": _invert_fields(patches, window, components)})["sigma"]


def _invert_fields(patches: CCNFPatches, window: int, components: np.ndarray) -> np.ndarray:
    views, n = patches.visible.shape
    cells = window * window
    padded = -(-cells // LANES) * LANES
    sigma = np.zeros((views, n, cells, padded), np.float32)
    sums = patches.alpha.astype(np.float32).sum(axis=2, dtype=np.float32)
    betas = patches.betas.astype(np.float32)
    for view in range(views):
        filled = np.flatnonzero(sums[view] > 0)
        precision = np.einsum("lb,bij->lij", betas[view, filled], components, optimize=True)
        precision += sums[view, filled, None, None] * np.eye(cells, dtype=np.float32)
        sigma[view, filled, :, :cells] = np.linalg.inv(2.0 * precision.astype(np.float64))
    return sigma


@dataclass
class CCNFExperts:
    """The patch experts of one scale, laid out for the kernels. All views; see `ccnf_responses`."""

    patches: CCNFPatches
    _sigma: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source = self.patches
        views, n, neurons = source.alpha.shape
        groups = -(-neurons // LANES)

        def grouped(values: np.ndarray) -> np.ndarray:
            padded = np.zeros((views, n, groups * LANES, *values.shape[3:]), np.float32)
            padded[:, :, :neurons] = values
            return padded.reshape(views, n, groups, LANES, *values.shape[3:])

        norm, alpha = source.norm.astype(np.float32), source.alpha.astype(np.float32)
        scaled = grouped(source.weights.reshape(views, n, neurons, -1) * norm[..., None])
        self.weights = np.ascontiguousarray(scaled.swapaxes(-1, -2))
        self.weight_sums = scaled.sum(axis=-1, dtype=np.float64).astype(np.float32)
        self.bias = grouped(source.bias)
        self.twice_alpha = grouped(np.where(source.alpha > _MIN_ALPHA, 2 * alpha, 0))
        sums = alpha.sum(axis=2, dtype=np.float32)
        self.inverse_alpha = np.divide(1, 2 * sums, out=np.zeros_like(sums), where=sums > 0)
        self.confidence = source.confidence.astype(np.float32)

    def respond(self, areas: np.ndarray, view: int, responses: np.ndarray) -> None:
        """Fill ``responses`` [n, w, w] from ``areas`` [n, w + 10, w + 10] (which are used up) for one view."""
        window = responses.shape[1]
        sigma = self._sigma.get(window)
        if sigma is None:
            sigma = self._sigma[window] = sigma_matrices(self.patches, window)
        ccnf_responses(
            areas, self.patches.visible[view], self.weights[view], self.weight_sums[view], self.bias[view],
            self.twice_alpha[view], sigma[view] if len(sigma) else sigma.reshape(0, 0, 0), self.inverse_alpha[view],
            responses,
        )  # fmt: skip
