"""Wiring: frames in, faces out (OpenFace 2.2 specification, part 3 §0).

Everything that lives from frame to frame sits in two objects, made anew for each video: the tracker and the face
analyser.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyfaceau import weights
from pyfaceau.au.align import aligned_face
from pyfaceau.au.analyser import Analysis, FaceAnalyser
from pyfaceau.clock import StageClock
from pyfaceau.config import Config
from pyfaceau.detect.mtcnn import MTCNN
from pyfaceau.errors import PyfaceauError
from pyfaceau.face import Face
from pyfaceau.gaze import eyes_in_space
from pyfaceau.gray import gray_picture
from pyfaceau.landmarks.tracker import Track, Tracker, visible_landmarks
from pyfaceau.pose import head_in_space
from pyfaceau.threads import Crew, in_background, opencv_threads, prefetched
from pyfaceau.video import Frame, intrinsics

if TYPE_CHECKING:
    from pyfaceau.weights.models import AUPredictors

_AHEAD = 4  # frames decoded ahead of the tracker
_AHEAD_ONLINE = 1  # a camera's frames should not wait
_PICTURES_PER_SECOND = 30.0  # of pictures that come without a time


class Pipeline:
    """The loaded models and the settings; use it for as many videos as you like, one after another.

    Parameters
    ----------
    config : the settings; `Config` defaults if ``None``.

    Attributes
    ----------
    config, source (where the weights were found), model (the landmark model), detector.

    Raises
    ------
    ModelError
        Weights are missing or damaged.

    Examples
    --------
    >>> pipeline = Pipeline(Config(landmarks="clnf"))               # doctest: +SKIP
    >>> for face in pipeline.track(frames):                         # doctest: +SKIP
    ...     print(face.frame, face.success, face.au_intensity)
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.source = weights.find_models(self.config.models)
        name = self.config.landmark_model or weights.choose_landmark_model(self.source)
        self.model = weights.load_landmark_model(self.source, name)
        self.detector = MTCNN(weights.load_mtcnn(self.source))
        self._predictors = (
            weights.load_au_predictors(self.source, static=self.config.au == "static")
            if self.config.needs_analysis
            else None
        )

    @property
    def au_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Sorted names of the action units that have an intensity, and of those that have a presence."""
        if self._predictors is None:
            return (), ()
        return tuple(sorted(self._predictors.intensity.names)), tuple(sorted(self._predictors.presence.names))

    @property
    def has_eyes(self) -> bool:
        """Whether the landmark model has both eyes, without which there is no gaze."""
        return {"left_eye_28", "right_eye_28"} <= {part.name for part in self.model.parts}

    def track(
        self, frames: Iterable[Frame | NDArray[np.uint8]], *, online: bool = False, clock: StageClock | None = None
    ) -> Tracking:
        """Follow one face through the frames of one video.

        Parameters
        ----------
        frames : `Frame`, or BGR uint8 (height, width, 3) pictures, which get numbers from 1 and 30 frames a second.
        online : the frames come from a camera: action units are corrected as they come (part 3 §6), and no more
            frames are taken in advance than needed.
        clock : collects the stages' times.

        Returns
        -------
        Tracking
            An iterator of `Face`, which also knows the final action units.
        """
        return Tracking(self, frames, online, clock or StageClock())

    def new_tracker(self, crew: Crew | None = None) -> Tracker:
        """A tracker that has seen nothing; it shares its work with the ``crew``."""
        return Tracker(self.model, self.detector, self.config, crew)

    def new_analyser(self, online: bool = False) -> FaceAnalyser | None:
        """A face analyser that has seen nothing, or ``None`` if nothing needs one."""
        return None if self._predictors is None else FaceAnalyser(self._predictors, online)


class Tracking:
    """One video on its way through the pipeline: an iterator of faces, one per frame, to be used once."""

    def __init__(
        self,
        pipeline: Pipeline,
        frames: Iterable[Frame | NDArray[np.uint8]],
        online: bool,
        clock: StageClock,
        tracker: Tracker | None = None,
    ) -> None:
        self.clock = clock
        self._pipeline = pipeline
        self._frames = frames
        self._online = online
        self._crew = Crew()
        self._tracker = tracker or pipeline.new_tracker(self._crew)
        self._analyser = pipeline.new_analyser(online)
        self._camera: NDArray[np.float32] | None = None
        self._pairs = self._run()

    def __iter__(self) -> Iterator[Face]:
        return self

    def __next__(self) -> Face:
        return next(self._pairs)[1]

    def pairs(self) -> Iterator[tuple[Frame, Face]]:
        """The same, each face with its frame."""
        return self._pairs

    def close(self) -> None:
        """Stop before the end of the frames; ends the threads."""
        self._pairs.close()

    def final_action_units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Action units after the corrections of the whole video, once all faces were taken.

        Returns
        -------
        float64 (frames, 17) intensities 0..5 and (frames, 18) presences 0 or 1, in the order of
        `Pipeline.au_names`; ``None`` if none were asked for. OpenFace 2.2 specification, part 3 §7.
        """
        if self._analyser is None:
            return None
        with self.clock.stage("finish", 0):
            result: tuple[NDArray[np.float64], NDArray[np.float64]] = self._analyser.finish()
        return result

    def _run(self) -> Generator[tuple[Frame, Face], None, None]:
        threads = self._pipeline.config.threads
        ahead = _AHEAD_ONLINE if self._online else _AHEAD
        frames: Iterator[tuple[Frame, NDArray[np.uint8]]] = self._decoded()
        # Kernels and OpenCV release the interpreter, so the tracker's thread runs beside this one, which records,
        # and shares the tracker's work where it would wait; whichever has the time decodes and analyses.
        with opencv_threads(max(1, threads - 1)), self._crew.helpers(max(0, threads - 3)):
            if threads > 2:
                frames = prefetched(frames, ahead)
            if threads == 1:
                for pictures in frames:
                    yield self._face(self._track(pictures))
            else:
                yield from in_background(frames, self._track, self._face, ahead, self._crew)

    def _decoded(self) -> Iterator[tuple[Frame, NDArray[np.uint8]]]:
        """The frames, each with its grey picture: made here because the tracker is the busiest thread."""
        source = iter(self._frames)
        index = 0
        while True:
            start = perf_counter_ns()
            item = next(source, None)
            if item is None:
                return
            index += 1
            frame = item if isinstance(item, Frame) else Frame(index, (index - 1) / _PICTURES_PER_SECOND, item)
            _check_picture(frame)
            decoded = perf_counter_ns()
            gray = gray_picture(frame.bgr)
            self.clock.add("decode", frame.index, decoded - start)
            self.clock.add("gray", frame.index, perf_counter_ns() - decoded)
            yield frame, gray

    def _track(self, pictures: tuple[Frame, NDArray[np.uint8]]) -> tuple[Frame, Track]:
        frame, gray = pictures
        with self.clock.stage("landmarks", frame.index):
            track = self._tracker.track(frame.bgr, gray)
        for stage, nanoseconds in self._tracker.nanoseconds.items():
            self.clock.add(f"landmarks.{stage}", frame.index, nanoseconds)
        return frame, track

    def _face(self, tracked: tuple[Frame, Track]) -> tuple[Frame, Face]:
        frame, track = tracked
        if self._camera is None:
            height, width = frame.bgr.shape[:2]
            self._camera = intrinsics(width, height, self._pipeline.config)
        config, clock, pdm, camera = self._pipeline.config, self.clock, self._pipeline.model.pdm, self._camera
        with clock.stage("pose", frame.index):
            points, pose = head_in_space(pdm, track.g, track.p, track.landmarks, camera)
        with clock.stage("gaze", frame.index):
            eyes, eyes_3d, gaze_vectors, angle = _look(track, points, pose, camera)
        face = Face(
            frame.index, 0, frame.timestamp, track.success, track.detected, track.certainty,
            _points(track.landmarks, 2), _points(points, 3), pose, gaze_vectors, angle, eyes, eyes_3d, track.g, track.p,
        )  # fmt: skip
        if self._analyser is not None:
            with clock.stage("analysis", frame.index):
                self._analyse(self._analyser, frame, track, face)
        if config.tracked:
            face.visible = visible_landmarks(self._pipeline.model, track.g[1:4])
        return frame, face

    def _analyse(self, analyser: FaceAnalyser, frame: Frame, track: Track, face: Face) -> None:
        analysis = analyser.analyse(frame.bgr, track.landmarks, track.detected)
        face.au_intensity, face.au_presence, face.hog = analysis.intensity, analysis.presence, analysis.hog
        config = self._pipeline.config
        if config.aligned:
            face.aligned = self._aligned(analyser.predictors, frame, track, analysis)

    def _aligned(self, predictors: AUPredictors, frame: Frame, track: Track, analysis: Analysis) -> NDArray[np.uint8]:
        """The aligned face as it is written, which may differ from the one that is analysed (part 3 §2.5)."""
        config = self._pipeline.config
        size, scale = config.aligned_size, config.output_scale
        if (size, scale) == (112, 0.7) and config.aligned_mask and not config.aligned_gray:
            return analysis.face
        if not track.detected:
            return np.zeros((size, size) if config.aligned_gray else (size, size, 3), np.uint8)
        return aligned_face(
            frame.bgr, track.landmarks, analysis.g, predictors.pdm, predictors.triangles,
            size, scale, config.aligned_mask, config.aligned_gray,
        )  # fmt: skip


def _look(
    track: Track, points: NDArray[np.float32], pose: NDArray[np.float32], camera: NDArray[np.float32]
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, NDArray[np.float32], NDArray[np.float32]]:
    """Eye landmarks (56, 2) and (56, 3), of the parts' last state even on a failed frame; gaze, 0 on such a frame."""
    if track.eyes is None:
        return None, None, np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    flat, deep, vectors, angle = eyes_in_space(track.eyes, points, pose, camera, track.success)
    return flat.T, deep.T, vectors, angle


def _points(planar: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """(n, dimensions) view of all x, then all y, ..."""
    return planar.reshape(dimensions, -1).T


def _check_picture(frame: Frame) -> None:
    shape, kind = np.shape(frame.bgr), getattr(frame.bgr, "dtype", None)
    if len(shape) != 3 or shape[2] != 3 or kind != np.uint8:
        raise PyfaceauError(
            f"frame {frame.index}: shape {shape} of {kind}: frames must be BGR uint8 (height, width, 3)"
        )
