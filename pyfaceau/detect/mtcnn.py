"""MTCNN face detector: three networks that propose, refine and confirm boxes.

PNet looks at every 12x12 window of an image pyramid, RNet at 24x24 and ONet at 48x48 pictures of what
is left. Weights come from the model files; the smallest face is 60 px. What leaves PNet is whole pixels; RNet's
scores and ONet's corrections go into the result as they are, so these two are summed in the reference's order.

Source: OpenFace 2.2 specification, part 1 §6 and part 2 §4.1; Zhang et al., "Joint face detection and
alignment using multitask cascaded convolutional networks", 2016.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau.cnn import Network
from pyfaceau.detect import boxes as box
from pyfaceau.detect.boxes import Boxes
from pyfaceau.errors import ModelError
from pyfaceau.ordered_cnn import OrderedNetwork
from pyfaceau.weights.models import CNN, MTCNNWeights

MINIMUM_FACE = 60
WINDOW, STRIDE = 12, 2  # of PNet, px of a pyramid level
SHRINK = 0.709
THRESHOLDS = (0.6, 0.7, 0.7)
AnyNetwork = TypeVar("AnyNetwork", Network, OrderedNetwork)


@dataclass(frozen=True)
class Candidates:
    """Boxes f32 (k, 4) x, y, width, height in px; face probabilities f32 (k,); edge corrections f32 (k, 4)."""

    boxes: Boxes
    scores: NDArray[np.float32]
    corrections: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Candidates:
        """The candidates at these indices, in their order."""
        return Candidates(self.boxes[chosen], self.scores[chosen], self.corrections[chosen])

    def likely(self, threshold: float) -> Candidates:
        """The candidates with at least this score, in float32."""
        return self.take(self.scores >= np.float32(threshold))

    def suppress(self, threshold: float) -> Candidates:
        """Non-maximum suppression by intersection over union, best first."""
        return self.take(box.suppress(self.boxes, self.scores, threshold))

    def squares(self) -> Boxes:
        """Corrected boxes, made square."""
        return box.square(box.correct(self.boxes, self.corrections))


def pyramid_scales(height: int, width: int) -> list[float]:
    """Scale of each pyramid level, small faces first; empty if no face of 60 px fits into the picture."""
    shorter = min(height, width)
    if shorter < 1:
        return []
    levels = math.floor(math.log(MINIMUM_FACE / shorter) / math.log(SHRINK)) + 1
    return [WINDOW / MINIMUM_FACE * SHRINK**level for level in range(levels)]


class MTCNN:
    """The detector's networks with their work buffers: use it from one thread at a time.

    Raises :class:`~pyfaceau.errors.ModelError` if the networks do not give two scores and four corrections.
    """

    def __init__(self, weights: MTCNNWeights) -> None:
        self.weights = weights
        self.rnet = _prepare(OrderedNetwork, "RNet", weights.rnet, 24, 24, batch=8)
        self.onet = _prepare(OrderedNetwork, "ONet", weights.onet, 48, 48, batch=8)
        self._frame_size = (0, 0)
        self._pnets: dict[tuple[int, int], Network] = {}

    def _pnet(self, height: int, width: int) -> Network:
        if (height, width) not in self._pnets:
            self._pnets[height, width] = _prepare(Network, "PNet", self.weights.pnet, height, width, batch=1)
        return self._pnets[height, width]

    def propose(self, bgr: NDArray[np.uint8], scale: float) -> Candidates:
        """PNet on one pyramid level of ``bgr``: every window that may be a face, column by column."""
        height, width = bgr.shape[:2]
        network = self._pnet(math.ceil(height * scale), math.ceil(width * scale))
        whole = np.array([[0, 0, width, height]], np.int64)
        crop_and_resize(bgr, whole, network.input_buffer())
        output = network.run(1)[:, 0]
        probability = _probability(output[0], output[1])
        likely = probability >= np.float32(THRESHOLDS[0])
        x, y = np.nonzero(likely.T)
        cell = np.column_stack([x, y])
        near = np.trunc((STRIDE * cell + 1).astype(np.float32) / np.float32(scale))
        far = np.trunc((STRIDE * cell + WINDOW).astype(np.float32) / np.float32(scale))
        return Candidates(np.hstack([near, far - near]), probability[y, x], np.ascontiguousarray(output[2:6, y, x].T))

    def proposals(self, bgr: NDArray[np.uint8]) -> Candidates:
        """PNet on the whole pyramid, after suppression inside and across levels."""
        height, width = bgr.shape[:2]
        if (height, width) != self._frame_size:
            self._pnets.clear()
            self._frame_size = height, width
        levels = [self.propose(bgr, scale).suppress(0.5) for scale in pyramid_scales(height, width)]
        if not levels:
            return Candidates(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 4), np.float32))
        return Candidates(
            np.concatenate([level.boxes for level in levels]),
            np.concatenate([level.scores for level in levels]),
            np.concatenate([level.corrections for level in levels]),
        ).suppress(0.7)

    def refine(self, bgr: NDArray[np.uint8], squares: Boxes, network: OrderedNetwork) -> Candidates:
        """RNet or ONet on square boxes: those that touch the picture, with new scores and corrections."""
        squares = squares[box.touches(squares, *bgr.shape[:2])]
        # Original convention: the crop of a box at x starts at column x - 1 and is one pixel larger.
        crops = squares.astype(np.int64) + np.array([-1, -1, 1, 1])
        outputs = np.empty((len(crops), network.output_shape[0]), np.float32)
        for start in range(0, len(crops), network.batch):
            part = crops[start : start + network.batch]
            crop_and_resize(bgr, part, network.input_buffer())
            outputs[start : start + network.batch] = network.run(len(part))[:, :, 0, 0].T
        return Candidates(squares, _probability(outputs[:, 0], outputs[:, 1]), outputs[:, 2:6])

    def detect(self, bgr: NDArray[np.uint8]) -> tuple[Boxes, NDArray[np.float32]]:
        """Find the faces of a picture; see :func:`detect_faces`."""
        bgr = np.ascontiguousarray(bgr)
        found = self.refine(bgr, self.proposals(bgr).squares(), self.rnet)
        found = found.likely(THRESHOLDS[1]).suppress(0.7)
        found = self.refine(bgr, found.squares(), self.onet).likely(THRESHOLDS[2])
        corrected = box.correct(found.boxes, found.corrections, margin=1)
        best_first = box.suppress(corrected, found.scores, 0.7, minimum=True)
        return box.landmark_tight(corrected[best_first]), found.scores[best_first]


def detect_faces(bgr: NDArray[np.uint8], nets: MTCNN) -> tuple[Boxes, NDArray[np.float32]]:
    """Find the faces of a picture.

    Parameters
    ----------
    bgr : u8 (H, W, 3), blue first
    nets : the detector; its work buffers are overwritten

    Returns
    -------
    boxes : f32 (k, 4), x, y, width, height in px, tight around the 68 landmarks
    confidence : f32 (k,), probability of each, descending

    Pictures whose shorter side is below 60 px have no faces.
    """
    return nets.detect(bgr)


def _prepare(kind: type[AnyNetwork], name: str, cnn: CNN, height: int, width: int, batch: int) -> AnyNetwork:
    try:
        network = kind.prepare(cnn, 3, height, width, batch)
    except ModelError as error:
        raise ModelError(f"{name}.dat: {error}") from error
    if network.output_shape[0] < 6 or (name != "PNet" and network.output_shape[1:] != (1, 1)):
        raise ModelError(f"{name}.dat: output is {network.output_shape}, expected at least 6 values per window")
    return network


def _probability(background: NDArray[np.float32], face: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of a soft-max of two: the power rounded to float32, the rest in float64, as recorded."""
    with np.errstate(over="ignore"):  # certain background: exp(large) = inf, probability 0
        power = np.exp((background - face).astype(np.float64)).astype(np.float32)
    return (1 / (1 + power.astype(np.float64))).astype(np.float32)


@kernel
def crop_and_resize(bgr, crops, out):
    """Cut rectangles out of a picture, resize them bilinearly, and write them as network input.

    ``crops`` i64 (k, 4): x, y, width, height; parts outside the picture are 0. ``out`` f32
    (3, at least k, h, w): red, green, blue, (v - 127.5) / 128. Sampling is at (i + 0.5) * size / new size - 0.5
    without any filter, edges repeated.
    """
    height, width = bgr.shape[0], bgr.shape[1]
    out_h, out_w = out.shape[2], out.shape[3]
    columns = np.empty((2, out_w), np.int64)
    fractions = np.empty(out_w, np.float32)
    scale, shift, one = np.float32(0.0078125), np.float32(0.99609375), np.float32(1)
    for k in range(len(crops)):
        left, top, crop_w, crop_h = crops[k, 0], crops[k, 1], crops[k, 2], crops[k, 3]
        for i in range(out_w):
            columns[0, i], columns[1, i], fractions[i] = _taps(i, crop_w, out_w, left)
        for j in range(out_h):
            row0, row1, fy = _taps(j, crop_h, out_h, top)
            for i in range(out_w):
                fx = fractions[i]
                for c in range(3):
                    v00, v01, v10, v11 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                    col0, col1 = columns[0, i], columns[1, i]
                    if 0 <= row0 < height:
                        if 0 <= col0 < width:
                            v00 = np.float32(bgr[row0, col0, c])
                        if 0 <= col1 < width:
                            v01 = np.float32(bgr[row0, col1, c])
                    if 0 <= row1 < height:
                        if 0 <= col0 < width:
                            v10 = np.float32(bgr[row1, col0, c])
                        if 0 <= col1 < width:
                            v11 = np.float32(bgr[row1, col1, c])
                    upper = v00 * (one - fx) + v01 * fx
                    lower = v10 * (one - fx) + v11 * fx
                    out[2 - c, k, j, i] = (upper * (one - fy) + lower * fy) * scale - shift


@kernel
def _taps(index, size, new_size, start):
    """The two source positions of a resized pixel along one axis, and the second one's weight."""
    position = np.float32((index + 0.5) * (size / new_size) - 0.5)
    first = np.int64(np.floor(position))
    fraction = position - np.float32(first)
    if first < 0:
        first, fraction = 0, np.float32(0)
    if first >= size - 1:
        first, fraction = size - 1, np.float32(0)
    return start + first, start + min(first + 1, size - 1), fraction
