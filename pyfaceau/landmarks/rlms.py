"""Non-uniform regularised landmark mean shift (NU-RLMS): from response maps to model parameters.

Saragih, Lucey & Cohn 2011; Baltrušaitis, Robinson & Morency 2013; OpenFace 2.2 specification, part 2, section 9.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._linalg import cholesky_solve, norm_of_difference
from pyfaceau._simd import LANES, WIDE
from pyfaceau._simd_exp import exact_exponential
from pyfaceau._simd_shift import map_means
from pyfaceau.landmarks.normal import gradient, normal_matrix, padded_columns
from pyfaceau.landmarks.pdm import jacobian, project, rotation, shape_3d_kernel, update_rigid
from pyfaceau.weights.cache import derived_arrays

_wide_means, _eight_means = map_means(WIDE), map_means(LANES)
_SETTLED = 0.01  # movement of all image points since the last pass, pixels


@cache
def kernel_table(window: int, sigma: float) -> np.ndarray:
    """Gaussian kernels of the mean shift, centred at every tenth of a response pixel; computed once per machine.

    Returns
    -------
    np.ndarray [shape=(10 window, 10 window, window^2), dtype=float32]
        ``[ix, iy, r window + c] = exp(-((0.1 iy - r)^2 + (0.1 ix - c)^2) / (2 sigma^2))``, the exponent in float32.
    """
    key = f"mean shift v1 {window} {float(sigma)!r} numpy {np.__version__}"
    return derived_arrays(key, lambda: _kernel_table(window, sigma))["table"]


def _kernel_table(window: int, sigma: float) -> dict[str, np.ndarray]:
    factor = np.float32(-0.5) / (np.float32(sigma) * np.float32(sigma))
    steps = np.arange(10 * window, dtype=np.float32)[:, None] * np.float32(0.1)
    squares = (steps - np.arange(window, dtype=np.float32)) ** 2  # (position, cell)
    exponents = factor * (squares[None, :, :, None] + squares[:, None, None, :])
    table = np.exp(exponents.astype(np.float64)).astype(np.float32).reshape(10 * window, 10 * window, window**2)
    return {"table": table}


@kernel
def _cell_places(window, cells_at):
    """x and y of a response map's cells in raster order: ``cells_at`` [2, w^2]."""
    for r in range(window):
        for c in range(window):
            cells_at[0, r * window + c], cells_at[1, r * window + c] = c, r


@kernel
def mean_positions(responses, table, cells_at, landmarks, count, places, starts, means):
    """Kernel-weighted mean positions around places in response maps: three float32 sums in raster order, as the
    reference, for as many landmarks at a time as vectors have lanes. The shifts then agree to the bit.

    Parameters
    ----------
    responses : np.ndarray [shape=(n, w, w), dtype=float32]
    table : np.ndarray
        `kernel_table` of the window and sigma.
    cells_at : np.ndarray [shape=(2, w^2), dtype=float32]
        Of `_cell_places`.
    landmarks : np.ndarray [shape=(>= count,), dtype=int64]
        Whose maps.
    places : np.ndarray [shape=(2, n), dtype=float32]
        x and y of all landmarks in response pixels; they must lie in the map.
    starts : np.ndarray [shape=(3, padded), dtype=int64]
        Work space; padded is a multiple of eight, >= n.
    means : np.ndarray [shape=(2, padded), dtype=float32], out
        x and y of those landmarks, one after another, in response pixels.
    """
    w, width = responses.shape[1], starts.shape[1]
    cells, steps, tenth = w * w, table.shape[0], np.float32(0.1)
    for i in range(places.shape[1]):
        x, y = np.int32(np.float64(places[0, i] / tenth) + 0.5), np.int32(np.float64(places[1, i] / tenth) + 0.5)
        starts[2, i] = (x * steps + y) * cells
    padded = padded_columns(count)
    for k in range(padded):
        i = landmarks[min(k, count - 1)]  # the last group is filled up with the last landmark
        starts[0, k], starts[1, k] = i * cells, starts[2, i]
    at = 0
    while at + WIDE <= padded:
        _wide_means(responses, table, starts, at, width + at, cells_at, cells, means, at, width)
        at += WIDE
    if at < padded:
        _eight_means(responses, table, starts, at, width + at, cells_at, cells, means, at, width)


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _density(response, bells, x, y):
    """Kernel density of a response map [w, w]: factors of its columns and rows are in ``bells`` from x and y on."""
    w = response.shape[0]
    total = np.float32(0)
    for r in range(w):
        s0 = np.float32(0)
        for c in range(w):
            s0 += response[r, c] * bells[x + c]
        total += s0 * bells[y + r]
    return total


@kernel
def _bells(offsets, sigma, window, bells):
    """Gaussian factors of all columns of response maps, then of all rows, seen from ``offsets`` [2, n].

    ``bells`` is float32 [2 n w], padded to a multiple of eight.
    """
    a, n = np.float32(-0.5) / (sigma * sigma), offsets.shape[1]
    for axis in range(2):
        for i in range(n):
            first = (axis * n + i) * window
            for c in range(window):
                away = offsets[axis, i] - np.float32(c)
                bells[first + c] = a * (away * away)
    for k in range(0, bells.shape[0], LANES):
        exact_exponential(bells, k)


@kernel
def _turned(m, row, x, y):
    """One component of a 2x2 float32 matrix times (x, y): summed in float64, rounded to float32."""
    return np.float32(np.float64(m[row, 0]) * np.float64(x) + np.float64(m[row, 1]) * np.float64(y))


@kernel
def _places_in_maps(points, base, forward, window, offsets, places):
    """Where landmarks [2n] lie in their response maps: ``offsets`` [2, n]; ``places`` [2, n] are kept in the map."""
    n, zero = points.shape[0] // 2, np.float32(0)
    centre, edge = np.float32((window - 1) * 0.5), np.float32(window) - np.float32(0.1)
    for i in range(n):
        ox, oy = points[i] - base[i], points[n + i] - base[n + i]
        dx, dy = _turned(forward, 0, ox, oy) + centre, _turned(forward, 1, ox, oy) + centre
        offsets[0, i], offsets[1, i] = dx, dy
        # NaN of a runaway fit fails both comparisons and must not index the table
        dx = dx if dx > zero else zero
        dy = dy if dy > zero else zero
        places[0, i], places[1, i] = min(dx, edge), min(dy, edge)


@kernel
def _without_invisible(visible, weights, j, jw):
    """Clear the rows of ``j`` [2n, padded] that belong to invisible landmarks; ``jw`` is ``j`` unless weighted."""
    n, zero = visible.shape[0], np.float32(0)
    for i in range(n):
        if not visible[i]:
            for k in range(j.shape[1]):
                j[i, k] = j[n + i, k] = zero
    for i in range(weights.shape[0]):
        for k in range(j.shape[1]):
            jw[i, k] = j[i, k] * weights[i]
            jw[n + i, k] = j[n + i, k] * weights[i]


@kernel
def _log_likelihood(responses, visible, offsets, sigma, likelihoods):
    """Landmark likelihoods at ``offsets`` [2, n] and their mean logarithm over the visible landmarks."""
    n, w, total, count = visible.shape[0], responses.shape[1], 0.0, 0
    bells = np.zeros(padded_columns(2 * n * w), np.float32)
    _bells(offsets, sigma, w, bells)
    for i in range(n):
        if not visible[i]:
            likelihoods[i] = np.float32(-1e8)
            continue
        likelihoods[i] = _density(responses[i], bells, i * w, (n + i) * w)
        total += math.log(np.float64(likelihoods[i]) + 1e-8)
        count += 1
    return np.float32(total / count) if count > 0 else np.float32(0)


@kernel
def rlms(
    mean, modes, modes_t, eigenvalues, responses, visible, weights, table, base, forward, backward,
    reg, sigma, iterations, rigid, g, p, likelihoods,
):  # fmt: skip
    """One rigid or non-rigid NU-RLMS solve; ``g`` and ``p`` are updated in place.

    Parameters
    ----------
    responses : np.ndarray [shape=(n, w, w), dtype=float32]
    visible : np.ndarray [shape=(n,), dtype=bool]
    weights : np.ndarray [shape=(n,) or (0,), dtype=float32]
        Landmark weights; empty for all ones.
    table : np.ndarray
        `kernel_table` of the window and sigma.
    base, forward, backward
        Of `cut_areas`.
    reg, sigma : float32
        Weight of the shape prior; kernel width in response pixels.
    likelihoods : np.ndarray [shape=(n,) or (0,), dtype=float32], out
        Landmark likelihoods where asked for, taken at the start of the last pass; -1e8 where invisible.

    Returns
    -------
    float32
        Mean log likelihood of the visible landmarks; 0 where not asked for.
    """
    n, m, w = mean.shape[0] // 3, modes.shape[1], responses.shape[1]
    columns = 6 if rigid else 6 + m
    shape, points = np.empty(3 * n, np.float32), np.empty(2 * n, np.float32)
    previous, shifts = np.empty(2 * n, np.float32), np.zeros(2 * n, np.float32)
    offsets, r = np.empty((2, n), np.float32), np.empty((3, 3), np.float32)
    matrices = np.empty((4, 3, 3), np.float32)
    places, means = np.empty((2, n), np.float32), np.empty((2, padded_columns(n)), np.float32)
    starts, cells_at = np.empty((3, padded_columns(n)), np.int64), np.empty((2, w * w), np.float32)
    _cell_places(w, cells_at)
    seen, count = np.empty(n, np.int64), 0
    for i in range(n):
        if visible[i]:
            seen[count] = i
            count += 1
    padded = padded_columns(columns)
    j, h = np.zeros((2 * n, padded), np.float32), np.zeros((padded, padded), np.float32)
    jw = np.zeros((2 * n, padded), np.float32) if weights.shape[0] > 0 else j
    b, total = np.empty(columns, np.float32), np.empty(3 * padded, np.float64)
    bounds, prior = np.empty(m, np.float32), np.empty(m, np.float32)
    for k in range(m):
        bounds[k], prior[k] = 3.0 * math.sqrt(np.float64(eigenvalues[k])), reg / eigenvalues[k]

    for iteration in range(iterations):
        if not rigid or iteration < 2:  # a rigid pass changes the local parameters only by its first clamp
            shape_3d_kernel(mean, modes_t, p, shape)
        rotation(g[1:4], r)
        project(g, r, shape, points)
        if iteration > 0 and norm_of_difference(points, previous) < _SETTLED:
            break
        for i in range(2 * n):  # a slice would be assigned with a text for its error, dear to compile
            previous[i] = points[i]
        _places_in_maps(points, base, forward, w, offsets, places)
        mean_positions(responses, table, cells_at, seen, count, places, starts, means)
        for k in range(count):
            i = seen[k]
            sx, sy = means[0, k] - places[0, i], means[1, k] - places[1, i]
            shifts[i], shifts[n + i] = _turned(backward, 0, sx, sy), _turned(backward, 1, sx, sy)
        jacobian(g, r, shape, modes, columns, j)
        _without_invisible(visible, weights, j, jw)
        normal_matrix(jw, j, columns, h)
        gradient(jw, shifts, columns, total, b)
        for k in range(columns - 6):
            h[6 + k, 6 + k] += prior[k]
            b[6 + k] = np.float32(np.float64(b[6 + k]) - np.float64(prior[k]) * np.float64(p[k]))
        cholesky_solve(h, b, total)
        update_rigid(g, r, b, matrices, total)
        for k in range(m):
            value = p[k] if rigid else p[k] + b[6 + k]
            p[k] = min(bounds[k], max(-bounds[k], value))
    if likelihoods.shape[0] == 0:
        return np.float32(0)
    return _log_likelihood(responses, visible, offsets, sigma, likelihoods)


@kernel
def solve_scale(
    mean, modes, modes_t, eigenvalues, responses, visible, weights, table, base, forward, backward,
    reg, sigma, iterations, last, g, p, likelihoods,
):  # fmt: skip
    """The rigid and then the non-rigid solve of one scale on the same responses (part 2, section 8).

    Likelihoods are taken on the last scale, and already here when the rigid solve leaves a face so
    small (scale < 0.30) that the fit may be given up. Returns whether, and the mean log likelihood.
    """
    wanted, likelihood = False, np.float32(0)
    for rigid in (True, False):
        wanted = not rigid and (last or g[0] < np.float32(0.30))
        likelihood = rlms(
            mean, modes, modes_t, eigenvalues, responses, visible, weights, table, base, forward, backward,
            reg, sigma, iterations, rigid, g, p, likelihoods if wanted else likelihoods[:0],
        )  # fmt: skip
    return wanted, likelihood
