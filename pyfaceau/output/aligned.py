"""The folder of aligned faces (OpenFace 2.2 specification, part 3 §2.5 and §12.6)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pyfaceau.errors import PyfaceauError
from pyfaceau.output.files import part_of, remove, replace_folder, writing

if TYPE_CHECKING:
    from pyfaceau.face import Face


class AlignedWriter:
    """Writes ``frame_det_00_000001.<ending>`` and so on; the folder gets its name by `publish`.

    Parameters
    ----------
    folder : final name; an older folder of that name is replaced.
    ending : "bmp", "png" or "jpg".
    failed : also write the black picture of frames on which no face was accepted.
    """

    def __init__(self, folder: Path, ending: str = "bmp", failed: bool = True) -> None:
        self._folder = folder
        self._part = part_of(folder)
        self._ending = ending
        self._failed = failed
        with writing(folder):
            shutil.rmtree(self._part, ignore_errors=True)
            self._part.mkdir(parents=True)

    def write(self, face: Face) -> None:
        """Write the aligned picture of ``face``."""
        import cv2

        if not (face.success or self._failed):
            return
        if face.aligned is None:
            raise ValueError("the face has no aligned picture")
        ok, data = cv2.imencode(f".{self._ending}", face.aligned)
        if not ok:
            raise PyfaceauError(f"aligned faces cannot be written as {self._ending}: choose bmp")
        with writing(self._folder):
            name = f"frame_det_{face.face_id:02d}_{face.frame:06d}.{self._ending}"
            (self._part / name).write_bytes(data.tobytes())

    def close(self) -> None:
        """Nothing is left open between pictures."""

    def publish(self) -> None:
        """Give the folder its name."""
        replace_folder(self._part, self._folder)

    def discard(self) -> None:
        """Remove what was written."""
        remove([self._part])
