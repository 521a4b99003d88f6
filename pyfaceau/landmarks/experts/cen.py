"""CEN patch experts (convolutional experts network): grey areas to response maps.

Zadeh, Baltrušaitis & Morency 2017, "Convolutional experts constrained local model"; OpenFace 2.2
specification, part 1 section 5 and part 2 section 7.

Half of a response map is computed: positions are numbered column by column and every second one goes
through the network, the others are the mean of their neighbours. One network may serve a landmark and
its mirror image, whose area and response are flipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._memory import aligned
from pyfaceau._simd import LANES, WIDE
from pyfaceau._simd_layers import block_moments, claim, move, normalise
from pyfaceau.landmarks.areas import SUPPORT
from pyfaceau.landmarks.experts.dense import dense_layer
from pyfaceau.threads import Crew
from pyfaceau.weights.models import CENPatches, Layer

_INPUTS = SUPPORT * SUPPORT + 1  # a constant one, then the block's pixels
_MOMENTS = 4 * WIDE  # blocks whose mean and norm are found together


@kernel
def _split(area, flipped, lines):
    """``lines`` [2, side, > side / 2 + 8]: an area's columns' even and odd rows, mirrored where ``flipped``.

    A column's odd positions are then neighbours, wherever the block that slides over it starts.
    """
    side = area.shape[0]
    for r in range(side):
        for c in range(side):
            lines[r % 2, c, r // 2] = area[r, side - 1 - c] if flipped else area[r, c]


@kernel
def _gather(lines, window, blocks):
    """Pixels of the blocks at the odd positions: ``blocks`` [121, positions + 8], flat, a block's column by column."""
    side, length, flat = lines.shape[1], lines.shape[2], lines.ravel()
    for c in range(SUPPORT):
        for r in range(SUPPORT):
            to = (c * SUPPORT + r) * ((window * window >> 1) + LANES)
            # Where the first odd position of the first two columns lies: row 1 of one, row 0 of the next.
            start = ((1 - (r & 1)) * side + c) * length + (r + 1 >> 1)
            following = ((r & 1) * side + c + 1) * length + (r >> 1)
            for column in range(window):
                count = window + (column & 1) >> 1
                move(flat, start, blocks, to)  # whole vectors: what is too much is overwritten by the next column
                for i in range(LANES, count, LANES):
                    move(flat, start + i, blocks, to + i)
                to, start, following = to + count, following, start + 2 * length


@kernel
def _contrast_normalised(blocks, positions, means, inverse_norms, columns, first, x):
    """Network input [122, columns] of one landmark, whose positions start at column ``first``."""
    stride = positions + LANES
    for k in range(0, positions, _MOMENTS):
        block_moments(blocks, k, stride, SUPPORT, means, inverse_norms, k)
    for k in range(positions):
        x[first + k] = np.float32(1)
    for row in range(SUPPORT * SUPPORT):
        start, to = row * stride, (row + 1) * columns + first
        whole = positions - positions % LANES
        for k in range(0, whole, LANES):
            normalise(blocks, start + k, means, inverse_norms, k, x, to + k)
        for k in range(whole, positions):
            x[to + k] = (blocks[start + k] - means[k]) * inverse_norms[k]


@kernel
def _spread(values, first, flipped, response):
    """Response map [w, w] from its odd positions: the even ones are the mean of their neighbours.

    Neighbours times the float32 reciprocal of their number, summed up in float64.
    """
    window = response.shape[0]
    for k in range(1, window * window, 2):
        column, row = k // window, k % window
        response[row, window - 1 - column if flipped else column] = values[first + k // 2]
    for row in range(window):
        for column in range(row % 2, window, 2):
            total, count = np.float64(0), np.float32(0)
            if column > 0:
                total, count = total + response[row, column - 1], count + np.float32(1)
            if row > 0:
                total, count = total + response[row - 1, column], count + np.float32(1)
            if row + 1 < window:
                total, count = total + response[row + 1, column], count + np.float32(1)
            if column + 1 < window:
                total, count = total + response[row, column + 1], count + np.float32(1)
            response[row, column] = np.float32(total * np.float64(np.float32(1) / count))


@kernel
def cen_responses(areas, jobs, addresses, biases, shapes, widest, counter, threads, responses):
    """Response maps of the landmarks of one view, or of those that no other thread takes.

    To the last bit those of OpenFace 2.2 with OpenBLAS's AVX2 kernels, found by trying orders of summation on
    recorded maps, and confirmed by tracks that are equal to the last bit. Per block: mean = float32 sum, line by line,
    / 121; norm = root of the float32 sum of squares, column by column; times the float32 reciprocal. A landmark and
    its mirror image are columns of one matrix, the one with weights of its own first; layers as in
    `pyfaceau.landmarks.experts.dense.dense_layer`. Even positions: neighbours times the float32 reciprocal of their
    number, summed in float64.

    Parameters
    ----------
    areas : np.ndarray [shape=(n, w + 10, w + 10), dtype=float32]
    jobs : np.ndarray [shape=(j, 5), dtype=int64]
        Expert, then landmark and flip (0 or 1) twice; a second landmark of -1 is none.
    addresses : np.ndarray [shape=(experts, layers), dtype=int64]
        Where each layer's weights [out, in] (float32) lie in memory.
    biases : np.ndarray [shape=(experts, layers, widest bias), dtype=float32]
    shapes : np.ndarray [shape=(experts, layers, 3), dtype=int64]
        Outputs, inputs, activation of each layer; no outputs marks the end.
    widest : int
        Most rows of any layer's input or output.
    counter : np.ndarray [shape=(1,), dtype=int64]
        The next job; shared by all threads.
    threads : int
        How many threads are at work: this one's next job is probably so many jobs away.
    responses : np.ndarray [shape=(n, w, w), dtype=float32], out
    """
    side, window = areas.shape[1], responses.shape[1]
    positions = window * window // 2
    means, inverse_norms = np.empty(positions + _MOMENTS, np.float32), np.empty(positions + _MOMENTS, np.float32)
    lines = np.zeros((2, side, side // 2 + 2 * LANES), np.float32)
    blocks = np.zeros((SUPPORT * SUPPORT) * (positions + LANES) + _MOMENTS, np.float32)
    work = aligned(2 * 2 * LANES * widest * (positions // LANES + 1)).reshape(2, -1)  # input and output, in turns
    while True:
        job = claim(counter)
        if job >= len(jobs):
            break
        expert, following = jobs[job, 0], jobs[min(job + threads, len(jobs) - 1), 0]
        both = jobs[job, 3] >= 0
        used = 2 * positions if both else positions
        columns = -(-used // LANES) * LANES
        for row in range(_INPUTS if used < columns else 0):
            for column in range(used, columns):
                work[0, row * columns + column] = np.float32(0)
        for which in range(2 if both else 1):  # side by side: every weight serves both
            _split(areas[jobs[job, 1 + 2 * which]], jobs[job, 2 + 2 * which] == 1, lines)
            _gather(lines, window, blocks)
            _contrast_normalised(blocks, positions, means, inverse_norms, columns, which * positions, work[0])
        turn, layer = 0, 0
        while layer < shapes.shape[1] and shapes[expert, layer, 0] > 0:
            owner, after = expert, layer + 1
            if after >= shapes.shape[1] or shapes[expert, after, 0] < LANES:  # the last layer is too small to wait for
                owner, after = following, 0
            dense_layer(
                addresses[expert, layer], shapes[expert, layer, 0], shapes[expert, layer, 1], biases[expert, layer],
                shapes[expert, layer, 2], work[turn], columns, used, work[1 - turn],
                addresses[owner, after], shapes[owner, after, 1],
            )  # fmt: skip
            turn, layer = 1 - turn, layer + 1
        for which in range(2 if both else 1):
            landmark = jobs[job, 1 + 2 * which]
            _spread(work[turn], which * positions, jobs[job, 2 + 2 * which] == 1, responses[landmark])


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
        landmarks.sort(
            key=lambda served: served[1]
        )  # the mirror image comes second: the product's roundings differ between columns
        for low in range(0, len(landmarks), 2):
            pair = [*landmarks[low : low + 2], (-1, 0)][:2]
            rows.append((expert, *pair[0], *pair[1]))
    return np.array(rows, np.int64).reshape(-1, 5)


@dataclass
class CENExperts:
    """The patch experts of one scale, used where they lie: a mapped file is shared by all processes.

    The threads of a ``crew`` share the landmarks; the result does not depend on it.
    """

    patches: CENPatches
    crew: Crew | None = None

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
        jobs, counter = self._jobs[view], np.zeros(1, np.int64)
        threads = 1 if self.crew is None else self.crew.threads

        def work() -> None:
            cen_responses(
                areas, jobs, self._addresses, self._biases, self._shapes, self._widest, counter, threads, responses
            )

        if self.crew is None:
            work()
        else:
            self.crew.share(work)
