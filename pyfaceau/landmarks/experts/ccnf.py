"""CCNF patch experts: grey areas to response maps.

Baltrušaitis, Robinson & Morency 2014, "Continuous conditional neural fields"; OpenFace 2.2
specification, part 1 section 3 and part 2 section 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._lapack import lapack_inverse
from pyfaceau._linalg import OPENCV_ROWS, cholesky_inverse
from pyfaceau._memory import aligned
from pyfaceau._simd import LANES, LINE, WIDE, tile_product
from pyfaceau.landmarks.areas import SUPPORT
from pyfaceau.landmarks.experts._ccnf_simd import FETCHED, GROUP, centre_blocks, neuron_products, shift_lines
from pyfaceau.landmarks.experts._logistic_simd import TOGETHER, add_quotients, denominators, lowest
from pyfaceau.weights.cache import array_digest, derived_arrays
from pyfaceau.weights.models import CCNFPatches

_DIAGONAL = np.zeros((0, 0, 0, 0), np.float32)
_DIAGONAL.flags.writeable = False  # as the mapped matrices are: one kind of array, one compilation
_MIN_ALPHA = 1e-4  # neurons below it do not contribute to a response (but do to Sigma)

_tile_11, _tile_8, _tile_7, _tile_1 = (tile_product(1, vectors) for vectors in (11, 8, 7, 1))
#: Vectors of blocks that are centred together: the first-level cache has room for the most.
_MOST, _SOME, _FEW = (4, 2, 1) if WIDE > LANES else (7, 4, 2)
_centre_most, _centre_some, _centre_few = (centre_blocks(vectors) for vectors in (_MOST, _SOME, _FEW))
_products, _products_and_last = neuron_products(with_last=False), neuron_products(with_last=True)


@kernel
def _multiply(matrix, padded, vector, cells, out):
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
def _shift_columns(area, window, columns, stride):
    """``columns[c stride + y w + x] = area[y, x + c]`` for c < 11 and x < w."""
    side = area.shape[0]
    flat = area.reshape(-1)
    for c in range(SUPPORT):
        shift_lines(flat, c, side, window, side - 1, columns, c * stride)
        to = c * stride + (side - 1) * window
        for x in range(window):
            columns[to + x] = area[side - 1, c + x]


@kernel
def _centre(columns, stride, window, first, vectors, centred, inverse_norms):
    """Centre the blocks of the next of ``vectors``, from the ``first`` on; returns how many, at most as many as fit.

    There may be more of them than are left: the columns end in some that are of no use.
    """
    left, at = vectors - first, first * WIDE
    if left > _SOME:
        _centre_most(columns, stride, window, at, centred, inverse_norms)
        return _MOST
    if left > _FEW:
        _centre_some(columns, stride, window, at, centred, inverse_norms)
        return _SOME
    _centre_few(columns, stride, window, at, centred, inverse_norms)
    return _FEW


@kernel
def _add_neurons(z, first, positions, twice_alpha, divisors, unary, last):
    """Add ``twice_alpha[q]`` times the logistic function of neuron q's sums to ``unary``, neuron by neuron.

    ``z[first + q positions + p]`` is the sum at p, ``z[first + GROUP positions + q]`` that at the ``last`` cell.
    """
    denominators(z, first, GROUP * positions + GROUP, divisors)
    total = unary[last]
    for q in range(GROUP):
        add_quotients(twice_alpha[q], divisors, q * positions, positions, unary)
    for q in range(GROUP):
        total = np.float32(np.float64(total) + twice_alpha[q] / divisors[GROUP * positions + q])
    unary[last] = total


@kernel
def _unary(area, window, weights, twice_alpha, work, ahead, lines):
    """Sum of the neurons at every position of one area, row by row; fetches ``lines`` cache lines at ``ahead``."""
    columns, centred, inverse_norms, z, divisors, unary = work
    groups, stride, last = weights.shape[0], area.shape[0] * window, window * window - 1
    whole = (last + WIDE - 1) // WIDE  # vectors of positions but for the last, whose sums are of another order
    positions, flat = whole * WIDE, weights.reshape(-1)
    of_group = GROUP * positions + LANES
    unwanted = groups * of_group  # a place for the sums of a vector that has the last position only
    _shift_columns(area, window, columns, stride)
    first, vectors = 0, last // WIDE + 1
    while first < vectors:
        count = _centre(columns, stride, window, first, vectors, centred, inverse_norms)
        left, here = last - first * WIDE, min(count, whole - first)
        for group in range(groups):
            row, to = group * weights.shape[1] * LANES, group * of_group
            last_to = to + GROUP * positions
            for v in range(max(1, here)):
                at, apart = (to + (first + v) * WIDE, positions) if here > 0 else (unwanted, 0)
                if v == 0 and left < count * WIDE:
                    _products_and_last(
                        centred, inverse_norms, v, left, flat, row, z, at, apart, last_to, ahead, lines
                    )  # fmt: skip
                else:
                    _products(centred, inverse_norms, v, left, flat, row, z, at, apart, last_to, ahead, lines)
                ahead, lines = ahead + LINE * FETCHED, lines - FETCHED
        first += count
    unary[:] = np.float32(0)
    for group in range(groups):
        _add_neurons(z, group * of_group, positions, twice_alpha[group], divisors, unary, last)


@kernel
def ccnf_responses(areas, visible, weights, twice_alpha, sigma, variance, responses):
    """Response maps of the visible landmarks of one view.

    To the last bit those of OpenFace 2.2 with OpenBLAS's AVX2 kernels, found by trying orders of summation on
    recorded maps. Per block: mean = float32 sum, line by line, / 121; norm = root of the float32 sum of squares,
    column by column; times the float32 reciprocal. The neurons' weighted sums are fused float32 chains over 1
    (the bias) and the block column by column; the first four of seven neurons have two such chains, but at the
    map's last cell. Logistic functions in float64, the sum over neurons rounded to float32 after each. Product
    with the covariance: one fused chain per cell. Experts of other than seven neurons have no reference here.

    Parameters
    ----------
    areas : np.ndarray [shape=(n, w + 10, w + 10), dtype=float32]
        Grey values.
    visible : np.ndarray [shape=(n,), dtype=bool]
    weights : np.ndarray [shape=(n, groups, 122, 8), dtype=float32]
        Of seven neurons to a group, zero-padded: bias, then weights times norm column by column.
    twice_alpha : np.ndarray [shape=(n, groups, 7), dtype=float64]
        2 alpha, 0 where it is too small to count.
    sigma : np.ndarray [shape=(n, w^2, padded) or (0, 0, 0), dtype=float32]
        Transposed covariance of the field; empty where it is the diagonal ``variance``.
    variance : np.ndarray [shape=(n,), dtype=float32]
        1 / (2 sum of alpha).
    responses : np.ndarray [shape=(n, w, w), dtype=float32], out
        Non-negative; those of invisible landmarks are left alone.
    """
    n, side = areas.shape[0], areas.shape[1]
    window = responses.shape[1]
    cells = window * window
    width = sigma.shape[2] if sigma.shape[0] > 0 else cells
    places = cells + WIDE + TOGETHER  # whole vectors, and as many of them as are worked on together
    columns = aligned(SUPPORT * side * window + _MOST * WIDE)
    columns[:] = np.float32(0)
    z = aligned(weights.shape[1] * GROUP * places)
    z[:] = np.float32(0)
    divisors = aligned(2 * GROUP * places).view(np.float64)
    centred, inverse_norms = aligned(_MOST * WIDE * SUPPORT * SUPPORT), aligned(_MOST * WIDE)
    unary, smooth = aligned(places), aligned(width)
    work = columns, centred, inverse_norms, z, divisors, unary
    lines = cells * width * 4 // LINE if sigma.shape[0] > 0 else 0
    for i in range(n):
        if not visible[i]:
            continue
        # The matrix is read once, at the end, and far larger than the caches when all landmarks' are counted.
        ahead = sigma[i].ctypes.data if sigma.shape[0] > 0 else 0
        _unary(areas[i], window, weights[i], twice_alpha[i], work, ahead, lines)
        response = responses[i].reshape(-1)
        if sigma.shape[0] > 0:
            _multiply(sigma[i].reshape(-1), width, unary, cells, smooth)
            least = lowest(smooth, width)
            for k in range(cells):
                response[k] = smooth[k] - least
        else:
            for k in range(cells):
                response[k] = variance[i] * unary[k]


def _sums_of_alpha(patches: CCNFPatches) -> np.ndarray:
    """[nv, n] float32: each float64 alpha added to a float32 sum."""
    sums = np.zeros(patches.alpha.shape[:2], np.float32)
    for neuron in range(patches.alpha.shape[2]):
        sums = (sums + patches.alpha[:, :, neuron]).astype(np.float32)
    return sums


def _variances(sums: np.ndarray, cells: int) -> np.ndarray:
    """1 / (2 sum of alpha) as a Cholesky inverse gives it: OpenCV's own below 100 rows, LAPACK's from there."""
    twice = np.where(sums > 0, 2 * sums, np.float32(1))
    small = cells < OPENCV_ROWS
    root = (1 / np.sqrt(twice.astype(np.float64 if small else np.float32))).astype(np.float32)
    return np.where(sums > 0, root * root, np.float32(0))


def sigma_matrices(patches: CCNFPatches, window: int) -> np.ndarray:
    """Transposed covariance matrices of all experts for one window, or an empty array where they are diagonal.

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
    key = f"ccnf sigma v3 window {window} {array_digest(components, patches.alpha, patches.betas)}"
    return derived_arrays(key, lambda: {"sigma": _invert_fields(patches, window, components)})["sigma"]


def _invert_fields(patches: CCNFPatches, window: int, components: np.ndarray) -> np.ndarray:
    views, n = patches.visible.shape
    cells = window * window
    padded = -(-cells // LANES) * LANES
    sigma = np.zeros((views, n, cells, padded), np.float32)
    sums = _sums_of_alpha(patches)
    betas = patches.betas.astype(np.float32).astype(np.float64)
    inverse = np.empty((cells, cells), np.float32)
    for view, i in np.argwhere(sums > 0):
        precision = np.zeros((cells, cells), np.float32)
        for beta, component in zip(betas[view, i], components, strict=True):  # one fused float32 operation each
            precision = (beta * component + precision).astype(np.float32)
        precision[np.diag_indices(cells)] += sums[view, i]
        invert = cholesky_inverse if cells < OPENCV_ROWS else lapack_inverse
        if not invert(2 * precision, inverse):
            # Never so in OpenFace's files; a field that is no covariance still has an inverse.
            inverse[:] = np.linalg.inv(2.0 * precision.astype(np.float64))
        sigma[view, i, :, :cells] = inverse.T
    return sigma


@dataclass
class CCNFExperts:
    """The patch experts of one scale, laid out for the kernels. All views; see `ccnf_responses`."""

    patches: CCNFPatches
    _sigma: dict[int, np.ndarray] = field(default_factory=dict)
    _variance: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source = self.patches
        views, n, neurons = source.alpha.shape
        groups = -(-neurons // GROUP)
        taps = SUPPORT * SUPPORT
        lines = np.zeros((views, n, groups * GROUP, 1 + taps), np.float32)
        lines[:, :, :neurons, 0] = source.bias
        columns = source.weights.swapaxes(-1, -2).reshape(views, n, neurons, taps)
        lines[:, :, :neurons, 1:] = columns * source.norm.astype(np.float32)[..., None]
        self.weights = np.zeros((views, n, groups, 1 + taps, LANES), np.float32)
        self.weights[..., :GROUP] = lines.reshape(views, n, groups, GROUP, 1 + taps).swapaxes(-1, -2)
        self.twice_alpha = np.zeros((views, n, groups, GROUP))
        twice = np.where(source.alpha > _MIN_ALPHA, 2 * source.alpha, 0)
        self.twice_alpha.reshape(views, n, -1)[:, :, :neurons] = twice
        self._alpha = _sums_of_alpha(source)
        self.confidence = source.confidence.astype(np.float32)

    def covariance(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the field of a window: `sigma_matrices` and, where they are empty, the variances [nv, n]."""
        if window not in self._sigma:
            self._sigma[window] = sigma_matrices(self.patches, window)
            self._variance[window] = _variances(self._alpha, window * window)
        return self._sigma[window], self._variance[window]

    def respond(self, areas: np.ndarray, view: int, responses: np.ndarray) -> None:
        """Fill ``responses`` [n, w, w] from ``areas`` [n, w + 10, w + 10] for one view."""
        sigma, variance = self.covariance(responses.shape[1])
        ccnf_responses(
            areas, self.patches.visible[view], self.weights[view], self.twice_alpha[view],
            sigma[view] if len(sigma) else sigma.reshape(0, 0, 0), variance[view], responses,
        )  # fmt: skip
