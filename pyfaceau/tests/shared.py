"""Where tests find the reference material that is not part of the repository."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"
OPENFACE = SHARED / "openface"
needs_shared = pytest.mark.skipif(
    not OPENFACE.is_dir(), reason="needs OpenFace's weights and reference values in ../shared, which are not shipped"
)


@cache
def stage(clip: str, name: str) -> dict[str, np.ndarray]:
    """The reference program's recorded arrays of one clip: ``stage("video01", "frame_2")``."""
    with np.load(SHARED / "stages" / clip / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}
