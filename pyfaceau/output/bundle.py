"""All files of one input, which appear together when the input has ended, or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyfaceau.output.aligned import AlignedWriter
from pyfaceau.output.columns import Layout
from pyfaceau.output.details import Details
from pyfaceau.output.files import prepare_folder
from pyfaceau.output.hog_file import HogWriter
from pyfaceau.output.openface_csv import CsvWriter
from pyfaceau.output.overlay import VideoWriter

if TYPE_CHECKING:
    from pyfaceau.config import Config
    from pyfaceau.face import Face
    from pyfaceau.video import Source


class Outputs:
    """Writers of one input, as a context manager: leaving it without `finish` removes what was written.

    Parameters
    ----------
    csv : path of the CSV; the other files lie beside it and share its stem.
    source : the opened input; camera : float32 (4,) fx, fy, cx, cy in px.
    layout : columns of the CSV.

    Attributes
    ----------
    paths : final names of all outputs, the CSV first, without the details file.

    Raises
    ------
    PyfaceauError
        The folder or a file cannot be written; also later, from `write` and `finish`.
    """

    def __init__(self, csv: Path, config: Config, source: Source, camera: NDArray[np.float32], layout: Layout) -> None:
        prepare_folder(csv.parent)

        def beside(ending: str, wanted: bool) -> Path | None:
            return csv.with_name(csv.stem + ending) if wanted else None

        hog, video = beside(".hog", config.hog), beside(".avi", config.tracked)
        aligned = beside("_aligned", config.aligned)
        names = [None if path is None else path.name for path in (hog, video, aligned)]
        self._details = Details(source.location, camera, layout.groups, csv.name, *names)
        self._details_path = csv.with_name(f"{csv.stem}_of_details.txt")
        self.paths = [path for path in (csv, hog, video, aligned) if path is not None]
        self._hog: HogWriter | None = None
        self._video: VideoWriter | None = None
        self._aligned: AlignedWriter | None = None
        with contextlib.ExitStack() as opened:  # a writer that cannot be opened takes the others with it
            self._csv = CsvWriter(csv, layout, config.dialect)
            opened.callback(self._csv.discard)
            if hog is not None:
                self._hog = HogWriter(hog)
                opened.callback(self._hog.discard)
            if video is not None:
                size = (source.width, source.height)
                self._video = VideoWriter(video, source.fps, size, camera, "gaze" in layout.groups)
                opened.callback(self._video.discard)
            if aligned is not None:
                self._aligned = AlignedWriter(aligned, config.aligned_format, config.aligned_failed)
                opened.callback(self._aligned.discard)
            self._unfinished = opened.pop_all()

    def write(self, face: Face, bgr: NDArray[np.uint8]) -> None:
        """Record one frame: its face and its BGR picture (height, width, 3)."""
        self._csv.write(face)
        if self._hog is not None and face.hog is not None:
            self._hog.write(face.success, face.hog)
        if self._aligned is not None:
            self._aligned.write(face)
        if self._video is not None:
            self._video.write(face, bgr)

    def finish(self, intensity: NDArray[np.float64] | None, presence: NDArray[np.float64] | None) -> None:
        """Complete all files with the final action units, float64 (n, 17) and (n, 18), and name them, the CSV last."""
        self._csv.close(intensity, presence)
        others = [writer for writer in (self._hog, self._aligned, self._video) if writer is not None]
        for writer in others:
            writer.close()
        for writer in others:
            writer.publish()
        self._details.write(self._details_path)
        self._csv.publish()
        self._unfinished.pop_all()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unfinished.close()
