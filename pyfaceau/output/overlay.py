"""The tracked video: what was found, drawn into the frames (OpenFace 2.2 specification, part 3 §12.7).

OpenFace also writes its own speed into the picture; here the same input gives the same video, so that is left out.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfaceau.errors import PyfaceauError
from pyfaceau.landmarks.pdm import rotation_matrix
from pyfaceau.output.files import remove, writing

if TYPE_CHECKING:
    from pyfaceau.face import Face

_FRACTION_BITS = 4  # Positions are drawn to 1/16 px.
_LEAST_CONFIDENCE = 0.4
_RED, _BLUE, _DARK_RED, _DARK_BLUE = (0, 0, 255), (255, 0, 0), (0, 0, 155), (155, 0, 0)
_GAZE_COLOUR = (110, 220, 0)
_GAZE_LENGTH = 50.0  # mm
_CUBE = 100.0 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1]
#: Closed contours of an eye's 28 points, and their colours: iris rim, lids, pupil rim.
_EYE_RINGS = ((range(0, 8), _BLUE), (range(8, 20), _RED), (range(20, 28), _BLUE))


def _fixed(point: NDArray[Any]) -> tuple[int, int]:
    scaled = np.clip(np.rint(point * (1 << _FRACTION_BITS)), -(2**30), 2**30)
    return int(scaled[0]), int(scaled[1])


def _project(points: NDArray[Any], camera: NDArray[np.float32]) -> NDArray[np.float64]:
    fx, fy, cx, cy = camera.tolist()
    depth = np.where(points[:, 2] == 0, 1.0, points[:, 2])
    return np.stack([points[:, 0] / depth * fx + cx, points[:, 1] / depth * fy + cy], axis=1)


def _draw_landmarks(cv2: Any, picture: NDArray[np.uint8], face: Face) -> None:
    width = picture.shape[1]
    thin = math.ceil(width / 640)
    visible = np.ones(len(face.landmarks), bool) if face.visible is None else face.visible
    for point, seen in zip(face.landmarks, visible, strict=True):
        thick = math.ceil((3.0 if seen else 2.5) * width / 640)
        for colour, thickness in (
            (_RED if seen else _DARK_RED, thick),
            (_BLUE if seen else _DARK_BLUE, thin),
        ):
            cv2.circle(picture, _fixed(point), 1 << _FRACTION_BITS, colour, thickness, cv2.LINE_AA, _FRACTION_BITS)


def _draw_cube(cv2: Any, picture: NDArray[np.uint8], face: Face, camera: NDArray[np.float32]) -> None:
    height, width = picture.shape[:2]
    share = (min(face.confidence, 1.0) - _LEAST_CONFIDENCE) / (1.0 - _LEAST_CONFIDENCE)
    colour = (255.0 * share, 0.0, 255.0 * (1.0 - share))
    rotation = np.asarray(rotation_matrix(face.pose[3:]), float)
    corners = _project(_CUBE @ rotation.T + face.pose[:3], camera)
    inside = np.all((corners >= 0) & (corners < (width, height)), axis=1).tolist()
    for a, b in _EDGES:
        if inside[a] or inside[b]:
            ends = _fixed(corners[a]), _fixed(corners[b])
            cv2.line(picture, *ends, colour, math.ceil(2 * width / 640), cv2.LINE_AA, _FRACTION_BITS)


def _draw_gaze(cv2: Any, picture: NDArray[np.uint8], face: Face, camera: NDArray[np.float32]) -> None:
    if face.eye_landmarks is None or face.eye_landmarks_3d is None:
        return
    for eye in (0, 1):
        points = face.eye_landmarks[28 * eye : 28 * (eye + 1)]
        for ring, colour in _EYE_RINGS:
            corners = np.array([_fixed(points[i]) for i in ring], np.int32)
            cv2.polylines(picture, [corners], True, colour, 1, cv2.LINE_AA, _FRACTION_BITS)
        start = face.eye_landmarks_3d[28 * eye : 28 * eye + 8].mean(axis=0)
        line = _project(np.stack([start, start + _GAZE_LENGTH * face.gaze[eye]]), camera)
        cv2.line(picture, _fixed(line[0]), _fixed(line[1]), _GAZE_COLOUR, 2, cv2.LINE_AA, _FRACTION_BITS)


def draw(picture: NDArray[np.uint8], face: Face, camera: NDArray[np.float32], gaze: bool = True) -> None:
    """Draw ``face`` into the BGR ``picture`` in place; nothing if the confidence is 0.4 or less.

    ``camera`` is float32 (4,) fx, fy, cx, cy in px.
    """
    import cv2

    if face.confidence <= _LEAST_CONFIDENCE:
        return
    _draw_landmarks(cv2, picture, face)
    _draw_cube(cv2, picture, face, camera)
    if gaze and face.success:
        _draw_gaze(cv2, picture, face, camera)


class VideoWriter:
    """Writes the tracked video, MPEG-4 in AVI, at the input's rate and size; named by `publish`."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int], camera: NDArray[np.float32], gaze: bool) -> None:
        import cv2

        self._path = path
        self._part = self.part_of(path)
        self._size = size
        self._camera = camera
        self._gaze = gaze
        self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*"DIVX"), fps or 30.0, size)
        if not self._writer.isOpened():
            raise PyfaceauError(f"cannot write {path}: OpenCV refuses to open it: choose another place with --out-dir")

    @staticmethod
    def part_of(path: Path) -> Path:
        """Where the video is while it is not complete: the ending, which tells OpenCV the container, stays last."""
        return path.with_name(f"{path.stem}.part{path.suffix}")

    def write(self, face: Face, bgr: NDArray[np.uint8]) -> None:
        """Append a frame with ``face`` drawn into a copy of it."""
        import cv2

        picture = bgr.copy()
        draw(picture, face, self._camera, self._gaze)
        if picture.shape[1::-1] != self._size:  # images of a folder may differ
            self._writer.write(cv2.resize(picture, self._size))
        else:
            self._writer.write(picture)

    def close(self) -> None:
        """Complete the file."""
        self._writer.release()

    def publish(self) -> None:
        """Give the file its name."""
        with writing(self._path):
            os.replace(self._part, self._path)

    def discard(self) -> None:
        """Remove what was written."""
        self._writer.release()
        remove([self._part])
