"""Frame sources: a video file, a folder of images, a camera (OpenFace 2.2 specification, part 3 §11).

Conventions: frames are BGR, uint8, (height, width, 3), numbered from 1; timestamps are seconds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfaceau.errors import PyfaceauError

if TYPE_CHECKING:
    from pyfaceau.config import Config

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
FALLBACK_FPS = 30.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source."""

    index: int  #: number, from 1
    timestamp: float  #: seconds
    bgr: NDArray[np.uint8]  #: (height, width, 3)


def quiet_opencv() -> Any:
    """OpenCV with its decoders silent: what they would say is said once, in one line, by an exception."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.setLogLevel(0)
    return cv2


def intrinsics(width: int, height: int, config: Config) -> NDArray[np.float32]:
    """Camera of a picture of this size: float32 (4,) fx, fy, cx, cy in px; a guess where the settings name none.

    OpenFace 2.2 specification, part 2 §1: f = (500 w/640 + 500 h/480)/2 for both axes, centre in the middle. The
    guess is made in float32, as recorded gaze shows for pictures whose focal length is not a short binary fraction.
    """
    usual, across, down = np.float32(500), np.float32(width) / np.float32(640), np.float32(height) / np.float32(480)
    focal = (usual * across + usual * down) / np.float32(2)
    fx = focal if config.fx is None else config.fx
    fy = focal if config.fy is None else config.fy
    cx = width / 2.0 if config.cx is None else config.cx
    cy = height / 2.0 if config.cy is None else config.cy
    return np.array([fx, fy, cx, cy], np.float32)


class Source:
    """An opened source, to be iterated once. Opening decodes the first frame, so that errors come early.

    Attributes
    ----------
    location : what the user named; name : base name of output files.
    width, height : of the first frame; fps : 0 where unknown.
    promised : number of frames that the container promises, or ``None``.
    online : whether frames come from a camera, in real time.
    note : one line about a problem met while reading, or ``None``; complete after the iteration.
    """

    def __init__(self, location: str, name: str, fps: float, promised: int | None, online: bool = False) -> None:
        self.location = location
        self.name = name
        self.fps = fps
        self.promised = promised
        self.online = online
        self.note: str | None = None
        self.width = self.height = 0
        self._first: Frame | None = None
        self._stopped = False

    def stop(self) -> None:
        """End the iteration after the frame in hand: how a camera, which has no end, is ended."""
        self._stopped = True

    def _start(self, first: Frame | None, failure: str) -> None:
        if first is None:
            self.close()
            raise PyfaceauError(failure)
        self._first = first
        self.height, self.width = first.bgr.shape[:2]

    def _read(self) -> Frame | None:
        raise NotImplementedError

    def _ended(self, count: int) -> None:
        """Called once when the source has no more frames."""

    def __iter__(self) -> Iterator[Frame]:
        frame, self._first = self._first, None
        count = 0
        while frame is not None:
            count += 1
            yield frame
            frame = None if self._stopped else self._read()
        self._ended(count)

    def close(self) -> None:
        """Release the file or the device."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Capture(Source):
    """What files and cameras share: OpenCV's capture."""

    _capture: Any

    def _decode(self) -> NDArray[np.uint8] | None:
        ok, picture = self._capture.read()
        return picture if ok and picture is not None and picture.size else None

    def close(self) -> None:
        self._capture.release()


class VideoFile(_Capture):
    """A video file. ``threads`` is what the decoder may use."""

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        file = Path(path)
        _check_file(file)
        cv2 = quiet_opencv()
        options = [cv2.CAP_PROP_N_THREADS, threads] if hasattr(cv2, "CAP_PROP_N_THREADS") else []
        self._capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG, options)
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        promised = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        super().__init__(str(path), file.stem, _usable(fps), promised if promised > 0 else None)
        self._next = 1
        self._start(
            self._read(),
            f"{path}: no frame can be decoded: the file is cut off, damaged or not a video; "
            f"try to repair it with: ffmpeg -i {file.name} repaired.mp4",
        )

    def _read(self) -> Frame | None:
        picture = self._decode()
        if picture is None:
            return None
        index, self._next = self._next, self._next + 1
        return Frame(index, (index - 1) * (1.0 / self.fps), picture)

    def _ended(self, count: int) -> None:
        # Containers count packets, so a few frames fewer are normal.
        if self.promised is not None and self.promised - count > max(5.0, 0.05 * self.promised):
            self.note = (
                f"{self.location}: only {count} of {self.promised} promised frames could be decoded: "
                "the file may be cut off"
            )


class ImageFolder(Source):
    """The images of a folder, sorted by path in byte order; all timestamps are 0."""

    def __init__(self, path: str | Path) -> None:
        folder = Path(path)
        self._cv2 = quiet_opencv()
        try:
            found = [entry for entry in folder.iterdir() if entry.suffix in IMAGE_ENDINGS]
        except OSError as error:
            raise PyfaceauError(f"{path}: cannot be read: {error.strerror}: check its permissions") from error
        self._files = sorted(found, key=os.fsencode)
        if not found:
            raise PyfaceauError(f"{path}: holds no image ending in {', '.join(IMAGE_ENDINGS)} (lower case)")
        super().__init__(str(path), folder.resolve().name, 0.0, len(found))
        self._next = 1
        self._start(self._read(), f"{self._files[0]}: cannot be decoded as an image: replace or remove it")

    def _read(self) -> Frame | None:
        if self._next > len(self._files):
            return None
        picture = self._cv2.imread(str(self._files[self._next - 1]), self._cv2.IMREAD_COLOR)
        if picture is None:
            return None
        index, self._next = self._next, self._next + 1
        return Frame(index, 0.0, picture)

    def _ended(self, count: int) -> None:
        if count < len(self._files):
            self.note = f"{self._files[count]}: cannot be decoded as an image: the sequence ends before it"


class Camera(_Capture):
    """A camera by its number; timestamps are seconds since it was opened."""

    def __init__(self, device: int, width: int = 640, height: int = 480) -> None:
        cv2 = quiet_opencv()
        self._capture = cv2.VideoCapture(device)
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        name = f"webcam_{datetime.now():%Y-%m-%d-%H-%M}"
        super().__init__("webcam", name, _usable(fps), None, online=True)
        self._opened = time.perf_counter()
        self._next = 1
        self._start(self._read(), f"camera {device} gives no picture: check that it is connected and not in use")

    def _read(self) -> Frame | None:
        picture = self._decode()
        if picture is None:
            return None
        index, self._next = self._next, self._next + 1
        return Frame(index, time.perf_counter() - self._opened, picture)


def _usable(fps: float) -> float:
    return fps if math.isfinite(fps) and fps > 0 else FALLBACK_FPS


def _check_file(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise PyfaceauError(f"{path}: no such file: check the path") from None
    except OSError as error:
        raise PyfaceauError(f"{path}: cannot be read: {error.strerror}: check its permissions") from error
    if empty:
        raise PyfaceauError(f"{path}: the file is empty: copy or record it again")


def open_source(path: str | Path | int, config: Config) -> Source:
    """Open a video file, a folder of images, or (a number) a camera.

    Raises
    ------
    PyfaceauError
        It is missing, empty, unreadable, or yields no frame. The message names it and the remedy.
    """
    if isinstance(path, int):
        return Camera(path, config.camera_width, config.camera_height)
    if Path(path).is_dir():
        return ImageFolder(path)
    # With two threads the second one is busy decoding and analysing; only further ones are free to decode.
    return VideoFile(path, max(1, config.threads - 1))
