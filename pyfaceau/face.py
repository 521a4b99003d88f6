"""What the pipeline says about one face in one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Bytes = NDArray[np.uint8]


@dataclass(slots=True)
class Face:
    """One face in one frame, unrounded; OpenFace's rounding is the CSV writer's business.

    Image coordinates are pixels (x right, y down, the centre of the top-left pixel is the origin); camera
    coordinates are millimetres (x right, y down, z away from the camera). Arrays belong to the face: the
    pipeline does not change them later. On a failed frame everything but gaze and action units holds what the
    tracker holds (OpenFace 2.2 specification, part 3 §12.2).
    """

    frame: int  #: number of the frame, from 1
    face_id: int  #: always 0: one face is tracked
    timestamp: float  #: seconds
    success: bool  #: the tracker's verdict, OpenFace's ``success``
    detected: bool  #: the validator's verdict, which the action units follow
    confidence: float  #: certainty of the landmark validator, 0..1
    landmarks: Floats  #: (68, 2) px
    landmarks_3d: Floats  #: (68, 3) mm
    pose: Floats  #: (6,) Tx, Ty, Tz in mm, then Rx, Ry, Rz in radians
    gaze: Floats  #: (2, 3) unit vectors; first the eye on the left of the picture; zero where ``success`` is false
    gaze_angle: Floats  #: (2,) radians, horizontal and vertical
    eye_landmarks: Floats | None  #: (56, 2) px, 28 of each eye; ``None`` if the model has no eyes
    eye_landmarks_3d: Floats | None  #: (56, 3) mm
    params_global: Floats  #: (6,) scale, three angles in radians, translation in px
    params_local: Floats  #: (m,) shape parameters
    au_intensity: Doubles | None = None  #: (17,) running, before the corrections made at the end of a video
    au_presence: Doubles | None = None  #: (18,) running, 0 or 1
    hog: Floats | None = None  #: (4464,) descriptor of the aligned face; zero where ``detected`` is false
    aligned: Bytes | None = None  #: (size, size, 3) BGR or (size, size) picture, only if aligned faces are wanted
    visible: NDArray[np.bool_] | None = None  #: (68,) landmarks that face the camera, only if a drawing is wanted
