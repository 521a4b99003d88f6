"""From one input to its files or its table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfaceau.clock import StageClock
from pyfaceau.config import Config
from pyfaceau.face import Face
from pyfaceau.output.bundle import Outputs
from pyfaceau.output.columns import HEAD, Layout
from pyfaceau.pipeline import Pipeline
from pyfaceau.video import Source, intrinsics, open_source

if TYPE_CHECKING:
    import pandas as pd

#: Called after each frame with the number of frames done and of frames promised, if known.
Progress = Callable[[int, int | None], None]


@dataclass
class Extraction:
    """What became of one input."""

    location: str
    frames: int = 0
    successes: int = 0  #: frames with OpenFace's ``success``
    note: str | None = None  #: one line about a problem met while reading the input
    paths: list[Path] = field(default_factory=list)  #: files written, the CSV first
    clock: StageClock = field(default_factory=StageClock)


class _Rows:
    """The float32 values of all rows, unrounded."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._heads: list[tuple[int, int, float]] = []
        self._rows: list[NDArray[np.float32]] = []

    def add(self, face: Face) -> None:
        row = np.empty(len(self._layout.values), np.float32)
        self._layout.fill(face, row)
        self._heads.append((face.frame, face.face_id, face.timestamp))
        self._rows.append(row)

    def table(self, aus: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> pd.DataFrame:
        import pandas as pd

        parts = [
            pd.DataFrame(self._heads, columns=list(HEAD)),
            pd.DataFrame(np.stack(self._rows), columns=list(self._layout.values)),
        ]
        if self._layout.au_names and aus is not None:
            parts.append(pd.DataFrame(np.hstack(aus), columns=list(self._layout.au_names)))
        return pd.concat(parts, axis=1).astype({"success": int})


def layout_for(pipeline: Pipeline) -> Layout:
    """The CSV's columns; without eyes in the landmark model there are no gaze columns (part 3 §13)."""
    groups = set(pipeline.config.columns)
    if not pipeline.has_eyes:
        groups.discard("gaze")
    return Layout(groups, pipeline.model.pdm.m, *pipeline.au_names)


def run(
    pipeline: Pipeline,
    source: Source,
    csv: Path | None = None,
    *,
    rows: _Rows | None = None,
    progress: Progress | None = None,
    clock: StageClock | None = None,
) -> tuple[Extraction, tuple[NDArray[np.float64], NDArray[np.float64]] | None]:
    """Send an opened source through the pipeline and write its files, all of them or none.

    Parameters
    ----------
    csv : path of the CSV, beside which the other files go; ``None`` writes nothing.
    rows : collects the rows.
    progress : called after every frame.
    clock : collects the stages' times.

    Returns
    -------
    What became of the input, and its final action units if there are any.
    """
    result = Extraction(source.location, clock=clock or StageClock())
    config, clock = pipeline.config, result.clock
    camera = intrinsics(source.width, source.height, config)
    layout = layout_for(pipeline)
    tracking = pipeline.track(source, online=source.online, clock=clock)
    with closing(tracking), Outputs(csv, config, source, camera, layout) if csv else nullcontext() as outputs:
        for frame, face in tracking.pairs():
            with clock.stage("record", frame.index):
                if outputs is not None:
                    outputs.write(face, frame.bgr)
                if rows is not None:
                    rows.add(face)
            result.frames += 1
            result.successes += face.success
            if progress is not None:
                progress(result.frames, source.promised)
        aus = tracking.final_action_units()
        if outputs is not None:
            outputs.finish(*(aus or (None, None)))
            result.paths = outputs.paths
    result.note = source.note
    return result, aus


def extract(
    path: str | Path | int,
    config: Config | None = None,
    output: str | Path | None = None,
    *,
    pipeline: Pipeline | None = None,
    **changes: Any,
) -> pd.DataFrame:
    """Measure the face in a video and return OpenFace's table, one row per frame.

    Parameters
    ----------
    path : video file, folder of images, or number of a camera.
    config : settings; **changes are applied on top (``extract("a.mp4", au="static")``).
    output : also write OpenFace's CSV (and what else the settings name) here.
    pipeline : use these loaded models, and their settings, instead of loading them.

    Returns
    -------
    DataFrame with OpenFace's column names. Values are not rounded: float32 as computed, action units and
    timestamps float64, ``frame``, ``face_id`` and ``success`` integers. ``attrs["note"]`` tells of problems with
    the input, ``attrs["models"]`` which weights were used.

    Raises
    ------
    PyfaceauError
        The input, the output or a setting is of no use; the message says what to do.
    """
    if pipeline is None:
        pipeline = Pipeline((config or Config()).with_changes(**changes))
    elif config is not None or changes:
        raise ValueError("a pipeline has its own settings: give it, or a config, not both")
    rows = _Rows(layout_for(pipeline))
    with open_source(path, pipeline.config) as source:
        result, aus = run(pipeline, source, None if output is None else Path(output), rows=rows)
    table = rows.table(aus)
    table.attrs.update(note=result.note, models=f"{pipeline.model.name} in {pipeline.source.path}")
    return table
