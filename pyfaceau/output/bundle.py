"""All files of one input, which appear together when the input has ended, or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyfaceau.output.aligned import AlignedWriter
from pyfaceau.output.columns import Layout
from pyfaceau.output.details import Details
from pyfaceau.output.files import part_of, prepare_folder, remove
from pyfaceau.output.hog_file import HogWriter
from pyfaceau.output.openface_csv import CsvWriter
from pyfaceau.output.overlay import VideoWriter

if TYPE_CHECKING:
    from pyfaceau.config import Config
    from pyfaceau.face import Face
    from pyfaceau.video import Source


class _Paths(NamedTuple):
    """Final names; ``None``: not wanted."""

    csv: Path
    hog: Path | None
    video: Path | None
    aligned: Path | None

    def parts(self) -> list[Path]:
        """All names that unfinished outputs can have."""
        parts = [part_of(self.csv), CsvWriter.rows_part_of(self.csv)]
        parts += [part_of(path) for path in (self.hog, self.aligned) if path is not None]
        return parts if self.video is None else [*parts, VideoWriter.part_of(self.video)]


class Outputs:
    """Writers of one input, as a context manager: leaving it without `finish` removes what was written.

    Parameters
    ----------
    csv : path of the CSV; the other files lie beside it and share its stem.
    source : the opened input; camera : float32 (4,) fx, fy, cx, cy in px.
    layout : columns of the CSV.

    Raises
    ------
    PyfaceauError
        The folder or a file cannot be written; on entering, from `write`, or from `finish`.
    """

    def __init__(self, csv: Path, config: Config, source: Source, camera: NDArray[np.float32], layout: Layout) -> None:
        def beside(ending: str, wanted: bool) -> Path | None:
            return csv.with_name(csv.stem + ending) if wanted else None

        self._paths = _Paths(
            csv, beside(".hog", config.hog), beside(".avi", config.tracked), beside("_aligned", config.aligned)
        )
        names = [None if path is None else path.name for path in self._paths[1:]]
        self._details = Details(source.location, camera, layout.groups, csv.name, *names)
        self._config, self._source, self._camera, self._layout = config, source, camera, layout
        self._csv: CsvWriter | None = None
        self._hog: HogWriter | None = None
        self._video: VideoWriter | None = None
        self._aligned: AlignedWriter | None = None
        self._unfinished = contextlib.ExitStack()

    @property
    def paths(self) -> list[Path]:
        """Final names of all outputs, the CSV first, without the details file."""
        return [path for path in self._paths if path is not None]

    def __enter__(self) -> Outputs:
        try:
            # By name as well: an interruption may come between the making of a file and the noting of it.
            self._unfinished.callback(remove, self._paths.parts())
            self._open(self._unfinished)
        except BaseException:
            self._unfinished.close()
            raise
        return self

    def _open(self, opened: contextlib.ExitStack) -> None:
        csv, hog, video, aligned = self._paths
        prepare_folder(csv.parent)
        self._csv = CsvWriter(csv, self._layout, self._config.dialect)
        opened.callback(self._csv.discard)
        if hog is not None:
            self._hog = HogWriter(hog)
            opened.callback(self._hog.discard)
        if video is not None:
            size = (self._source.width, self._source.height)
            gaze = "gaze" in self._layout.groups
            self._video = VideoWriter(video, self._source.fps, size, self._camera, gaze)
            opened.callback(self._video.discard)
        if aligned is not None:
            self._aligned = AlignedWriter(aligned, self._config.aligned_format, self._config.aligned_failed)
            opened.callback(self._aligned.discard)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unfinished.close()

    def write(self, face: Face, bgr: NDArray[np.uint8]) -> None:
        """Record one frame: its face and its BGR picture (height, width, 3)."""
        if self._csv is None:
            raise ValueError("outputs are opened by a with statement")
        self._csv.write(face)
        if self._hog is not None and face.hog is not None:
            self._hog.write(face.success, face.hog)
        if self._aligned is not None:
            self._aligned.write(face)
        if self._video is not None:
            self._video.write(face, bgr)

    def finish(self, intensity: NDArray[np.float64] | None, presence: NDArray[np.float64] | None) -> None:
        """Complete all files with the final action units, float64 (n, 17) and (n, 18), and name them, the CSV last."""
        if self._csv is None:
            raise ValueError("outputs are opened by a with statement")
        self._csv.close(intensity, presence)
        others = [writer for writer in (self._hog, self._aligned, self._video) if writer is not None]
        for writer in others:
            writer.close()
        for writer in others:
            writer.publish()
        csv = self._paths.csv
        self._details.write(csv.with_name(f"{csv.stem}_of_details.txt"))
        self._csv.publish()
        self._unfinished.pop_all()
