"""Arithmetic on face boxes: suppression, regression, squares, and which face to follow.

Boxes are f32 (k, 4) rows x, y, width, height in pixels, integers being pixel centres. Rounding is the
original's and matters: "rint" is half to even, "trunc" towards zero.

Source: OpenFace 2.2 specification, part 2 §4.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel

Boxes = NDArray[np.float32]


def suppress(boxes: Boxes, scores: NDArray[np.float32], threshold: float, minimum: bool = False) -> NDArray[np.int64]:
    """Non-maximum suppression: indices of the boxes kept, best score first.

    Of two boxes that overlap by more than ``threshold`` the one with the lower score goes; of equal scores the
    earlier one. The overlap is the intersection over the union, or over the smaller box if ``minimum``,
    of boxes whose x, y, width and height were rounded (rint).
    """
    order = np.argsort(scores, kind="stable")[::-1]
    rounded = np.rint(boxes[order]).astype(np.float32)
    kept = np.ones(len(order), np.bool_)
    _suppress(rounded, np.float32(threshold), minimum, kept)
    return order[kept]


@kernel
def _suppress(boxes, threshold, minimum, kept):
    """Clear ``kept`` for every box that overlaps an earlier kept one; boxes come best first."""
    zero = np.float32(0)
    for i in range(len(boxes)):
        if not kept[i]:
            continue
        x, y, w, h = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        area = w * h
        for j in range(i + 1, len(boxes)):
            if not kept[j]:
                continue
            other = boxes[j, 2] * boxes[j, 3]
            across = min(x + w, boxes[j, 0] + boxes[j, 2]) - max(x, boxes[j, 0])
            down = min(y + h, boxes[j, 1] + boxes[j, 3]) - max(y, boxes[j, 1])
            shared = across * down if across > zero and down > zero else zero
            whole = min(area, other) if minimum else area + other - shared
            if shared / whole > threshold:
                kept[j] = False


def correct(boxes: Boxes, corrections: NDArray[np.float32], margin: int = 0) -> Boxes:
    """Move the edges left, top, right, bottom by ``corrections`` f32 (k, 4), fractions of the box's size.

    The boxes are rounded (rint) first and made ``margin`` pixels wider and higher.
    """
    whole = np.rint(boxes)
    size = whole[:, 2:] + np.float32(margin)
    near = whole[:, :2] + corrections[:, :2] * size
    far = (whole[:, :2] + size) + corrections[:, 2:] * size
    return np.hstack([near, far - near])


def square(boxes: Boxes) -> Boxes:
    """Squares of the longer side around the same centres, whole numbers (trunc)."""
    side = np.maximum(boxes[:, 2], boxes[:, 3])
    corner = np.trunc(boxes[:, :2] + np.float32(0.5) * (boxes[:, 2:] - side[:, None]))
    whole = np.trunc(side)
    return np.column_stack([corner, whole, whole])


def landmark_tight(boxes: Boxes) -> Boxes:
    """From the detector's idea of a face to a box tight around the 68 landmarks."""
    x, y, w, h = boxes.astype(np.float64).T
    return np.column_stack([x - 0.0075 * w, y + 0.2459 * h, 1.0323 * w, 0.7751 * h]).astype(np.float32)


def touches(boxes: Boxes, height: int, width: int) -> NDArray[np.bool_]:
    """Which square boxes have a side of at least one pixel and a crop that is not wholly outside the picture."""
    x, y, w, h = boxes.T
    return (w >= 1) & (x + w >= 1) & (x <= width) & (y + h >= 1) & (y <= height)


def widest(boxes: Boxes) -> int | None:
    """Index of the widest box, the first one on ties; None if there are no boxes."""
    return int(np.argmax(boxes[:, 2])) if len(boxes) else None


def choose(boxes: Boxes, preference: tuple[float, float] | None = None) -> int | None:
    """Index of the face to follow: the one whose centre is nearest to ``preference`` (px), else the widest."""
    if preference is None or not len(boxes):
        return widest(boxes)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    return int(np.argmin(np.hypot(*(centres - np.array(preference, np.float32)).T)))
