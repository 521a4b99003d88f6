"""CEN patch experts (convolutional experts network): grey areas to response maps.

Zadeh, Baltrušaitis & Morency 2017, "Convolutional experts constrained local model"; OpenFace 2.2
specification, part 1 section 5 and part 2 section 7.

Half of a response map is computed: positions are numbered column by column and every second one goes
through the network, the others are the mean of their neighbours. One network may serve a landmark and
its mirror image, whose area and response are flipped.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, logistic, tile_product
from pyfaceau.landmarks.areas import SUPPORT
from pyfaceau.landmarks.experts.blocks import block_statistics
from pyfaceau.weights.models import CENPatches, Layer

_INPUTS = SUPPORT * SUPPORT + 1  # a constant one, then the block's pixels
_DEPTH = 128  # rows of a layer's input that stay in the first-level cache
_SIGMOID, _RELU = 0, 2

_tile_4x3, _tile_6x2, _tile_8x1 = tile_product(4, 3), tile_product(6, 2), tile_product(8, 1)
_tile_1x3, _tile_1x2, _tile_1x1 = tile_product(1, 3), tile_product(1, 2), tile_product(1, 1)


@kernel
def _product(address, rows, inputs, x, padded, out):
    """``out`` [rows, padded] += weights [rows, inputs] at ``address`` times ``x`` [inputs, padded], flat arrays."""
    item = 4
    for low in range(0, inputs, _DEPTH):
        depth = min(_DEPTH, inputs - low)
        column = 0
        while column < padded:
            width = min(3, (padded - column) // LANES)
            step = 4 if width == 3 else 6 if width == 2 else 8
            start, r = low * padded + column, 0
            while r + step <= rows:
                weights, to = address + item * (r * inputs + low), r * padded + column
                if width == 3:
                    _tile_4x3(weights, inputs, 1, depth, x, start, padded, out, to, padded)
                elif width == 2:
                    _tile_6x2(weights, inputs, 1, depth, x, start, padded, out, to, padded)
                else:
                    _tile_8x1(weights, inputs, 1, depth, x, start, padded, out, to, padded)
                r += step
            while r < rows:
                weights, to = address + item * (r * inputs + low), r * padded + column
                if width == 3:
                    _tile_1x3(weights, inputs, 1, depth, x, start, padded, out, to, padded)
                elif width == 2:
                    _tile_1x2(weights, inputs, 1, depth, x, start, padded, out, to, padded)
                else:
                    _tile_1x1(weights, inputs, 1, depth, x, start, padded, out, to, padded)
                r += 1
            column += LANES * width


@kernel
def _activate(values, count, kind):
    """Apply an activation in place: 0 sigmoid, 2 ReLU, any other none."""
    if kind == _SIGMOID:
        for i in range(0, count, LANES):
            logistic(values, i)
    elif kind == _RELU:
        for i in range(count):
            values[i] = max(np.float32(0), values[i])


@kernel
def _contrast_normalised(area, flipped, window, padded, means, inverse_norms, sums, squares, turned, x):
    """Network input [122, padded] at the odd positions of an area; ``flipped`` mirrors the area first."""
    side = area.shape[0]
    offset = np.rint(area[side // 2, side // 2])  # keeps the running sums and the differences small
    for r in range(side):
        for c in range(side):
            turned[r, c] = (area[r, side - 1 - c] if flipped else area[r, c]) - offset
    block_statistics(turned, window, means, inverse_norms, sums, squares)
    for k in range(1, window * window, 2):
        column, row, to = k // window, k % window, k // 2
        mean, inverse = means[row * window + column], inverse_norms[row * window + column]
        x[to] = np.float32(1)
        for c in range(SUPPORT):
            for r in range(SUPPORT):
                x[(1 + c * SUPPORT + r) * padded + to] = (turned[row + r, column + c] - mean) * inverse


@kernel
def _spread(values, flipped, response):
    """Response map [w, w] from its odd positions: the even ones are the mean of their neighbours."""
    window = response.shape[0]
    for k in range(1, window * window, 2):
        column, row = k // window, k % window
        response[row, window - 1 - column if flipped else column] = values[k // 2]
    for row in range(window):
        for column in range(row % 2, window, 2):
            total, count = np.float32(0), np.float32(0)
            if row > 0:
                total, count = total + response[row - 1, column], count + np.float32(1)
            if row + 1 < window:
                total, count = total + response[row + 1, column], count + np.float32(1)
            if column > 0:
                total, count = total + response[row, column - 1], count + np.float32(1)
            if column + 1 < window:
                total, count = total + response[row, column + 1], count + np.float32(1)
            response[row, column] = total / count


@kernel
def cen_responses(areas, jobs, addresses, biases, shapes, first, last, widest, responses):
    """Response maps of some of the landmarks of one view.

    Parameters
    ----------
    areas : np.ndarray [shape=(n, w + 10, w + 10), dtype=float32]
    jobs : np.ndarray [shape=(j, 5), dtype=int64]
        Expert, then landmark and flip (0 or 1) twice; a landmark of -1 is none.
    addresses : np.ndarray [shape=(experts, layers), dtype=int64]
        Where each layer's weights [out, in] (float32) lie in memory.
    biases : np.ndarray [shape=(experts, layers, widest bias), dtype=float32]
    shapes : np.ndarray [shape=(experts, layers, 3), dtype=int64]
        Outputs, inputs, activation of each layer; no outputs marks the end.
    first, last : int
        The jobs to do.
    widest : int
        Most rows of any layer's input or output.
    responses : np.ndarray [shape=(n, w, w), dtype=float32], out
    """
    side, window = areas.shape[1], responses.shape[1]
    cells = window * window
    padded = -(-(cells // 2) // LANES) * LANES
    means, inverse_norms = np.empty(cells, np.float32), np.empty(cells, np.float32)
    sums, squares = np.empty(side, np.float64), np.empty(side, np.float64)
    turned = np.empty((side, side), np.float32)
    work = np.zeros((2, 2, widest * padded), np.float32)  # (input or output, landmark of the job, values)
    for job in range(first, last):
        expert = jobs[job, 0]
        for which in range(2):
            if jobs[job, 1 + 2 * which] >= 0:
                _contrast_normalised(
                    areas[jobs[job, 1 + 2 * which]], jobs[job, 2 + 2 * which] == 1, window, padded,
                    means, inverse_norms, sums, squares, turned, work[0, which],
                )  # fmt: skip
        side_in = 0
        for layer in range(shapes.shape[1]):
            outputs, inputs, activation = shapes[expert, layer, 0], shapes[expert, layer, 1], shapes[expert, layer, 2]
            if outputs == 0:
                break
            # Layer by layer for both landmarks: the second finds the weights in the cache.
            for which in range(2):
                if jobs[job, 1 + 2 * which] >= 0:
                    x, y = work[side_in, which], work[1 - side_in, which]
                    for r in range(outputs):
                        y[r * padded : (r + 1) * padded] = biases[expert, layer, r]
                    _product(addresses[expert, layer], outputs, inputs, x, padded, y)
                    _activate(y, outputs * padded, activation)
            side_in = 1 - side_in
        for which in range(2):
            if jobs[job, 1 + 2 * which] >= 0:
                _spread(work[side_in, which], jobs[job, 2 + 2 * which] == 1, responses[jobs[job, 1 + 2 * which]])


def view_jobs(patches: CENPatches, view: int) -> np.ndarray:
    """Which expert serves which visible landmarks of a view; see `cen_responses`.

    In view 0 an empty expert is that of the mirrored landmark, in the others that of the mirrored view and landmark
    (part 1, section 5).
    """
    served: dict[int, list[tuple[int, int]]] = {}
    for landmark in np.flatnonzero(patches.visible[view]):
        expert, flip = int(patches.expert[view, landmark]), 0
        if expert < 0:
            mirrored = 0 if view == 0 else int(patches.mirror_views[view])
            expert, flip = int(patches.expert[mirrored, patches.mirror_inds[landmark]]), 1
        served.setdefault(expert, []).append((int(landmark), flip))
    rows = []
    for expert, landmarks in served.items():
        for low in range(0, len(landmarks), 2):
            pair = [*landmarks[low : low + 2], (-1, 0)][:2]
            rows.append((expert, *pair[0], *pair[1]))
    return np.array(rows, np.int64).reshape(-1, 5)


@dataclass
class CENExperts:
    """The patch experts of one scale, used where they lie: a mapped file is shared by all processes.

    ``pool`` with ``threads`` > 1 lets that many threads share the landmarks; the result does not depend on it.
    """

    patches: CENPatches
    threads: int = 1
    pool: ThreadPoolExecutor | None = None

    def __post_init__(self) -> None:
        experts = self.patches.experts
        layers = max((len(expert) for expert in experts), default=0)
        most = max((layer.bias.size for expert in experts for layer in expert), default=1)
        self._addresses = np.zeros((len(experts), layers), np.int64)
        self._biases = np.zeros((len(experts), layers, most), np.float32)
        self._shapes = np.zeros((len(experts), layers, 3), np.int64)
        self._kept: list[np.ndarray] = []  # whatever an address points at must stay alive
        for e, expert in enumerate(experts):
            for k, layer in enumerate(expert):
                self._add(e, k, layer)
        self._widest = max(_INPUTS, most)
        self._jobs = [view_jobs(self.patches, view) for view in range(len(self.patches.centers))]
        self.confidence = self.patches.confidence.astype(np.float32)

    def _add(self, e: int, k: int, layer: Layer) -> None:
        weights = np.ascontiguousarray(layer.weights, np.float32)
        self._kept.append(weights)
        self._addresses[e, k] = weights.ctypes.data
        self._biases[e, k, : layer.bias.size] = layer.bias
        self._shapes[e, k] = (*weights.shape, layer.activation)

    def respond(self, areas: np.ndarray, view: int, responses: np.ndarray) -> None:
        """Fill ``responses`` [n, w, w] from ``areas`` [n, w + 10, w + 10] for one view."""
        jobs = self._jobs[view]

        def part(first: int, last: int) -> None:
            cen_responses(
                areas, jobs, self._addresses, self._biases, self._shapes, first, last, self._widest, responses
            )

        if self.pool is None or self.threads < 2:
            part(0, len(jobs))
            return
        # Small pieces in a queue: a thread that also has other work takes fewer of them.
        edges = np.linspace(0, len(jobs), 4 * self.threads + 1).astype(int)
        for piece in [self.pool.submit(part, int(a), int(b)) for a, b in pairwise(edges)]:
            piece.result()
