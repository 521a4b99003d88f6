"""Columns of OpenFace's CSV: groups, names, order and decimals (OpenFace 2.2 specification, part 3 §12.1).

Conventions: a row is ``frame, face_id, timestamp``, then a vector of float32 values (first ``confidence`` and
``success``), then the action units, which are known only at the end of a video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfaceau.config import COLUMN_GROUPS
from pyfaceau.face import Face

#: The columns before the float32 values.
HEAD = ("frame", "face_id", "timestamp")


@dataclass(frozen=True)
class Block:
    """Neighbouring columns of one source."""

    names: tuple[str, ...]
    decimals: int | tuple[int, ...]  #: of all, or of each
    read: Callable[[Face], Any]  #: the values, as many as names, in their order if flattened, from a face


def _indexed(prefixes: Iterable[str], count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i}" for prefix in prefixes for i in range(count))


def _across(points: Any) -> Any:
    """(n, d) points as d rows: all x, then all y, ..."""
    return points.T


def _gaze_blocks() -> list[Block]:
    vectors = tuple(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz")
    return [
        Block(vectors, 6, lambda face: face.gaze),
        Block(("gaze_angle_x", "gaze_angle_y"), 3, lambda face: face.gaze_angle),
        Block(_indexed(("eye_lmk_x_", "eye_lmk_y_"), 56), 1, lambda face: _across(face.eye_landmarks)),
        Block(_indexed(("eye_lmk_X_", "eye_lmk_Y_", "eye_lmk_Z_"), 56), 1, lambda face: _across(face.eye_landmarks_3d)),
    ]


def _blocks(groups: frozenset[str], modes: int) -> list[Block]:
    blocks = [Block(("confidence", "success"), (2, 0), lambda face: (face.confidence, face.success))]
    if "gaze" in groups:
        blocks += _gaze_blocks()
    if "pose" in groups:
        names = ("pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz")
        blocks.append(Block(names, (1, 1, 1, 3, 3, 3), lambda face: face.pose))
    if "2d" in groups:
        blocks.append(Block(_indexed(("x_", "y_"), 68), 1, lambda face: _across(face.landmarks)))
    if "3d" in groups:
        blocks.append(Block(_indexed(("X_", "Y_", "Z_"), 68), 1, lambda face: _across(face.landmarks_3d)))
    if "pdm" in groups:
        rigid = ("p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty")
        blocks += [
            Block(rigid, 3, lambda face: face.params_global),
            Block(_indexed(("p_",), modes), 3, lambda face: face.params_local),
        ]
    return blocks


class Layout:
    """The columns of one file.

    Parameters
    ----------
    groups : some of ``pyfaceau.config.COLUMN_GROUPS``, in any order; the file's order is fixed.
    modes : number of shape parameters of the face model (34 for OpenFace's).
    intensity, presence : names of the action units ("AU01", ...), sorted; used if ``groups`` has "aus".

    Attributes
    ----------
    values : names of the float32 columns (W of them); decimals : uint8 (W,);
    au_names : names of the action unit columns ("AU01_r", ..., "AU01_c", ...), empty without them.
    """

    def __init__(
        self, groups: Iterable[str], modes: int, intensity: Iterable[str] = (), presence: Iterable[str] = ()
    ) -> None:
        chosen = frozenset(groups)
        if unknown := chosen - frozenset(COLUMN_GROUPS):
            raise ValueError(f"unknown column groups: {sorted(unknown)}")
        self.groups = chosen
        blocks = _blocks(chosen, modes)
        self._readers = [block.read for block in blocks]
        self.values = tuple(name for block in blocks for name in block.names)
        self.decimals = np.concatenate([np.full(len(block.names), block.decimals, np.uint8) for block in blocks])
        self.au_names: tuple[str, ...] = ()
        if "aus" in chosen:
            self.au_names = (*(f"{name}_r" for name in intensity), *(f"{name}_c" for name in presence))

    @property
    def names(self) -> tuple[str, ...]:
        """All columns of the file, in order."""
        return HEAD + self.values + self.au_names

    def fill(self, face: Face, out: NDArray[np.float32]) -> None:
        """Write the float32 values of a row into ``out`` (W,)."""
        np.concatenate([read(face) for read in self._readers], axis=None, out=out)
