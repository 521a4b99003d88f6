"""CCNF patch experts: grey areas to response maps.

Baltrušaitis, Robinson & Morency 2014, "Continuous conditional neural fields"; OpenFace 2.2
specification, part 1 section 3 and part 2 section 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, neuron_sums, row_products, tile_product
from pyfaceau.landmarks.areas import SUPPORT
from pyfaceau.weights.cache import array_digest, derived_arrays
from pyfaceau.weights.models import CCNFPatches

_DIAGONAL = np.zeros((0, 0, 0, 0), np.float32)
_DIAGONAL.flags.writeable = False  # as the mapped matrices are: one kind of array, one compilation
_MIN_ALPHA = 1e-4  # neurons below it do not contribute to a response (but do to Sigma)

_rows_3, _rows_5, _rows_7 = row_products(3, SUPPORT), row_products(5, SUPPORT), row_products(7, SUPPORT)
_rows_9, _rows_11, _rows_1 = row_products(9, SUPPORT), row_products(11, SUPPORT), row_products(1, SUPPORT)
_tile_11, _tile_8, _tile_7, _tile_1 = (tile_product(1, vectors) for vectors in (11, 8, 7, 1))


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


@kernel
def _multiply_symmetric(matrix, padded, vector, cells, out):
    """``out[c] = sum over k of vector[k] matrix[k, c]``: rows of ``padded`` floats, read once in order."""
    for c in range(padded):
        out[c] = np.float32(0)
    address, column = vector.ctypes.data, 0
    while column < padded:
        left = padded - column
        if left == 88:
            _tile_11(address, 0, 1, cells, matrix, column, padded, out, column, 0)
            column += 88
        elif left >= 64:
            _tile_8(address, 0, 1, cells, matrix, column, padded, out, column, 0)
            column += 64
        elif left >= 56:
            _tile_7(address, 0, 1, cells, matrix, column, padded, out, column, 0)
            column += 56
        else:
            _tile_1(address, 0, 1, cells, matrix, column, padded, out, column, 0)
            column += 8


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
    products, unary = np.empty(cells * LANES, np.float32), np.empty(cells, np.float32)
    smooth = np.empty(padded, np.float32)
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
        unary[:] = np.float32(0)
        flat = area.reshape(-1)
        for group in range(groups):
            correlate(flat, window, side, weights[i, group].reshape(-1), products)
            neuron_sums(
                products,
                means,
                inverse_norms,
                bias[i, group],
                weight_sums[i, group],
                twice_alpha[i, group],
                cells,
                unary,
            )
        response = responses[i].reshape(-1)
        if sigma.shape[0] > 0:
            _multiply_symmetric(sigma[i].reshape(-1), padded, unary, cells, smooth)
            lowest = np.float32(0)
            for k in range(cells):
                lowest = min(lowest, smooth[k])
            for k in range(cells):
                response[k] = smooth[k] - lowest
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

    def covariance(self, window: int) -> np.ndarray:
        """`sigma_matrices` of the window."""
        if window not in self._sigma:
            self._sigma[window] = sigma_matrices(self.patches, window)
        return self._sigma[window]

    def respond(self, areas: np.ndarray, view: int, responses: np.ndarray) -> None:
        """Fill ``responses`` [n, w, w] from ``areas`` [n, w + 10, w + 10] (which are used up) for one view."""
        sigma = self.covariance(responses.shape[1])
        ccnf_responses(
            areas, self.patches.visible[view], self.weights[view], self.weight_sums[view], self.bias[view],
            self.twice_alpha[view], sigma[view] if len(sigma) else sigma.reshape(0, 0, 0), self.inverse_alpha[view],
            responses,
        )  # fmt: skip
