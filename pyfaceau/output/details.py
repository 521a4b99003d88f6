"""The ``<name>_of_details.txt`` file (OpenFace 2.2 specification, part 3 §12.4)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyfaceau.output.files import write_text

_FLAGS = {
    "gaze": "Gaze",
    "aus": "AUs",
    "2d": "Landmarks 2D",
    "3d": "Landmarks 3D",
    "pose": "Pose",
    "pdm": "Shape parameters",
}


@dataclass(frozen=True)
class Details:
    """What the file says. Names of outputs are without folder; ``None``: not written."""

    location: str  #: the input as the user named it; "webcam" for a camera
    camera: NDArray[np.float32]  #: (4,) fx, fy, cx, cy in px
    columns: Collection[str]
    csv: str
    hog: str | None = None
    video: str | None = None
    aligned: str | None = None

    def text(self) -> str:
        """The lines of the file, each ended by "\\n"."""
        lines = [f"Input:{self.location}"]
        if self.location != "webcam":
            lines.append(f"Input full path:{Path(self.location).absolute()}")
        lines.append("Camera parameters:" + ",".join(f"{value:g}" for value in self.camera.tolist()))
        for label, name in (("HOG", self.hog), ("video", self.video), ("aligned directory", self.aligned)):
            if name is not None:
                lines.append(f"Output {label}:{name}")
        lines.append(f"Output csv:{self.csv}")
        lines += [f"{label}: {int(group in self.columns)}" for group, label in _FLAGS.items()]
        return "".join(line + "\n" for line in lines)

    def write(self, path: Path) -> None:
        """Write the file in one step."""
        write_text(path, self.text())
