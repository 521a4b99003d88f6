"""Frame sources: numbering, times, order, intrinsics, and one clear line for each kind of bad input."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from pyfaceau.config import Config
from pyfaceau.errors import PyfaceauError
from pyfaceau.tests.shared import SHARED, needs_shared
from pyfaceau.video import ImageFolder, VideoFile, intrinsics, open_source, quiet_opencv

cv2 = quiet_opencv()  # before the tests' own writers: the decoders read their log level once


def picture(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def make_video(path: Path, frames: int = 12, fps: float = 25.0, noisy: bool = False) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    rng = np.random.default_rng(0)
    for i in range(frames):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8) if noisy else picture(20 * i))
    writer.release()
    return path


def test_video_frames_are_numbered_from_one_and_timed_by_the_containers_rate(tmp_path: Path) -> None:
    with VideoFile(make_video(tmp_path / "a.b.avi")) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(1, 13))
    assert [frame.timestamp for frame in frames] == [i * (1.0 / 25.0) for i in range(12)]
    assert (source.name, source.fps, source.width, source.height, source.note) == ("a.b", 25.0, 64, 48, None)
    assert [round(float(frame.bgr.mean()) / 20) for frame in frames] == list(range(12))


def test_frames_are_not_overwritten_by_later_ones(tmp_path: Path) -> None:
    with VideoFile(make_video(tmp_path / "a.avi")) as source:
        frames = list(source)
    assert len({int(frame.bgr[0, 0, 0]) for frame in frames}) == 12


def test_number_of_decoder_threads_does_not_change_pixels(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", noisy=True)
    one, four = ([zlib.crc32(frame.bgr.tobytes()) for frame in VideoFile(path, threads)] for threads in (1, 4))
    assert one == four


def test_folder_is_sorted_by_bytes_and_has_no_times(tmp_path: Path) -> None:
    for value, name in enumerate(["10.png", "2.png", "B.bmp", "a.png"]):
        cv2.imwrite(str(tmp_path / name), picture(value))
    cv2.imwrite(str(tmp_path / "skipped.tiff"), picture(99))
    (tmp_path / "upper.PNG").write_bytes((tmp_path / "10.png").read_bytes())
    source = open_source(tmp_path, Config())
    frames = list(source)
    assert [int(frame.bgr[0, 0, 0]) for frame in frames] == [0, 1, 2, 3]
    assert {frame.timestamp for frame in frames} == {0.0}
    assert source.fps == 0.0 and source.name == tmp_path.name


def test_gray_images_become_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(7)[:, :, 0])
    assert next(iter(ImageFolder(tmp_path))).bgr.shape == (48, 64, 3)


def test_unreadable_image_ends_the_sequence_with_a_note(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), picture(1))
    (tmp_path / "2.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "3.png"), picture(3))
    source = ImageFolder(tmp_path)
    assert len(list(source)) == 1
    assert source.note and "2.png" in source.note


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 480), (500, 500, 320, 240)), ((480, 360), (375, 375, 240, 180)),
                           ((960, 540), (656.25, 656.25, 480, 270)),
                           ((512, 512), (466.66668701171875, 466.66668701171875, 256, 256))],
)  # fmt: skip
def test_intrinsics_are_guessed_from_the_size(size: tuple[int, int], expected: tuple[float, ...]) -> None:
    camera = intrinsics(*size, Config())
    assert camera.dtype == np.float32 and camera.tolist() == list(expected)


def test_given_intrinsics_are_taken() -> None:
    assert intrinsics(640, 480, Config(fx=600, fy=610, cx=300, cy=200)).tolist() == [600, 610, 300, 200]


def bad_inputs(folder: Path) -> dict[str, Path]:
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "empty.avi").touch()
    whole = make_video(folder / "whole.avi", noisy=True)
    (folder / "cut.avi").write_bytes(whole.read_bytes()[:100])
    (folder / "no images").mkdir()
    return {
        "no such file": folder / "missing.mp4",
        "empty": folder / "empty.avi",
        "no frame can be decoded": folder / "text.mp4",
        "cut off": folder / "cut.avi",
        "holds no image": folder / "no images",
    }


@pytest.mark.parametrize("reason", ["no such file", "empty", "no frame can be decoded", "cut off", "holds no image"])
def test_bad_input_is_one_line_that_names_it(tmp_path: Path, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = bad_inputs(tmp_path)[reason]
    with pytest.raises(PyfaceauError, match=reason) as caught:
        open_source(path, Config())
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_named(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi")
    path.chmod(0)
    with pytest.raises(PyfaceauError, match="permissions"):
        open_source(path, Config())


def test_missing_camera_is_named() -> None:
    with pytest.raises(PyfaceauError, match="camera 97"):
        open_source(97, Config())


def test_cut_off_video_that_still_decodes_leaves_a_note(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.avi", frames=60, noisy=True)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with VideoFile(cut) as source:
        count = len(list(source))
    assert 0 < count < 40
    assert source.note and f"{count} of 60" in source.note and "cut.avi" in source.note


@needs_shared
def test_intact_clips_leave_no_note() -> None:
    clips = [path for path in (SHARED / "videos").iterdir() if path.suffix not in ("", ".md", ".tsv")]
    small = [path for path in clips if path.stat().st_size < 700_000]
    assert len(small) >= 10
    for path in small:
        with VideoFile(path) as source:
            assert sum(1 for _ in source) > 0
        assert source.note is None
