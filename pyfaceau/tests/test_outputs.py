"""Details file, descriptors, aligned faces, tracked video, and all of them together."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pyfaceau.config import Config
from pyfaceau.errors import PyfaceauError
from pyfaceau.face import Face
from pyfaceau.output.aligned import AlignedWriter
from pyfaceau.output.bundle import Outputs
from pyfaceau.output.columns import Layout
from pyfaceau.output.details import Details
from pyfaceau.output.hog_file import HogWriter, read_hog
from pyfaceau.output.overlay import draw
from pyfaceau.tests.shared import SHARED, needs_shared
from pyfaceau.video import Source

CAMERA = np.array([500, 500, 320, 240], np.float32)
SEQUENCE = SHARED / "golden" / "clnf-image-sequence"


def face(frame: int = 1, success: bool = True, confidence: float = 0.98) -> Face:
    """A face of 68 points on a ring around (320, 240), looking into the camera from 500 mm."""
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    ring = np.stack([320 + 60 * np.cos(turn), 240 + 60 * np.sin(turn)], 1).astype(np.float32)
    eyes = np.concatenate([[[300, 230]] * 28, [[340, 230]] * 28]).astype(np.float32)
    eyes_3d = np.concatenate([[[-20, -10, 500]] * 28, [[20, -10, 500]] * 28]).astype(np.float32)
    return Face(
        frame, 0, 0.0, success, success, confidence, ring, np.zeros((68, 3), np.float32),
        np.array([0, 0, 500, 0, 0, 0], np.float32), np.array([[0, 0, -1], [0, 0, -1]], np.float32),
        np.zeros(2, np.float32), eyes, eyes_3d, np.zeros(6, np.float32), np.zeros(34, np.float32),
        hog=np.full(4464, 0.25 if success else 0.0, np.float32),
        aligned=np.full((112, 112, 3), 90 if success else 0, np.uint8),
    )  # fmt: skip


@needs_shared
def test_details_equal_the_reference_but_for_its_missing_input_lines() -> None:
    name = "openface_image_sequence"
    details = Details(name, CAMERA, ("2d", "3d", "pdm", "pose", "aus", "gaze"), f"{name}.csv", f"{name}.hog",
                      aligned=f"{name}_aligned")  # fmt: skip
    lines = details.text().splitlines(keepends=True)
    assert lines[0] == f"Input:{name}\n"
    assert lines[1] == f"Input full path:{Path.cwd() / name}\n"
    assert "".join(lines[2:]).encode() == (SEQUENCE / f"{name}_of_details.txt").read_bytes()


def test_details_of_a_camera_and_of_odd_intrinsics() -> None:
    camera = np.array([656.25, 1234567.0, 0.1, 270.123456], np.float32)
    lines = Details("webcam", camera, ("pose",), "w.csv", video="w.avi").text().splitlines()
    assert lines[:4] == [
        "Input:webcam",
        "Camera parameters:656.25,1.23457e+06,0.1,270.123",
        "Output video:w.avi",
        "Output csv:w.csv",
    ]
    assert lines[4:] == ["Gaze: 0", "AUs: 0", "Landmarks 2D: 0", "Landmarks 3D: 0", "Pose: 1", "Shape parameters: 0"]


@needs_shared
def test_hog_file_is_written_to_the_byte(tmp_path: Path) -> None:
    golden = SEQUENCE / "openface_image_sequence.hog"
    success, values = read_hog(golden)
    assert success.all() and values.shape == (30, 4464)
    writer = HogWriter(tmp_path / "a.hog")
    for flag, row in zip(success, values, strict=True):
        writer.write(bool(flag), row)
    writer.publish()
    assert (tmp_path / "a.hog").read_bytes() == golden.read_bytes()


def test_hog_file_marks_failures(tmp_path: Path) -> None:
    writer = HogWriter(tmp_path / "a.hog")
    writer.write(True, np.full(4464, 0.5, np.float32))
    writer.write(False, np.zeros(4464, np.float32))
    assert not (tmp_path / "a.hog").exists()
    writer.publish()
    data = (tmp_path / "a.hog").read_bytes()
    assert len(data) == 2 * 17872
    assert np.frombuffer(data, "<f4")[[3, 17872 // 4 + 3]].tolist() == [1.0, -1.0]
    assert read_hog(tmp_path / "a.hog")[0].tolist() == [True, False]


def test_reading_a_cut_off_hog_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.hog").write_bytes(b"\x0c" * 100)
    with pytest.raises(PyfaceauError, match="cut off"):
        read_hog(tmp_path / "a.hog")


@needs_shared
def test_aligned_faces_are_written_as_the_reference_writes_them(tmp_path: Path) -> None:
    writer = AlignedWriter(tmp_path / "aligned")
    golden = sorted((SEQUENCE / "aligned").iterdir())
    for frame, path in enumerate(golden, 1):
        one = face(frame)
        one.aligned = np.asarray(cv2.imread(str(path)), np.uint8)
        writer.write(one)
    writer.publish()
    written = sorted((tmp_path / "aligned").iterdir())
    assert [path.name for path in written] == [path.name for path in golden]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(written, golden, strict=True))


@pytest.mark.parametrize(("failed", "count"), [(True, 3), (False, 2)])
def test_aligned_faces_of_failed_frames_are_optional(tmp_path: Path, failed: bool, count: int) -> None:
    (tmp_path / "aligned").mkdir()
    (tmp_path / "aligned" / "frame_det_00_000099.bmp").touch()  # of an older run
    writer = AlignedWriter(tmp_path / "aligned", "png", failed)
    for frame in (1, 2, 3):
        writer.write(face(frame, success=frame != 2))
    writer.publish()
    assert len(list((tmp_path / "aligned").iterdir())) == count


def test_drawing_marks_the_landmarks_and_the_gaze() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    draw(picture, face(), CAMERA)
    # A landmark is a blue dot with a red rim, at (320 + 60, 240).
    assert picture[240, 380, 0] > 100 and picture[236:245, 376:385, 2].max() > 200
    with_gaze = picture.copy()
    picture[:] = 0
    draw(picture, face(), CAMERA, gaze=False)
    assert (with_gaze != picture).any()


def test_hidden_landmarks_are_darker() -> None:
    pictures = []
    for seen in (True, False):
        one = face()
        one.visible = np.full(68, seen)
        picture = np.zeros((480, 640, 3), np.uint8)
        draw(picture, one, CAMERA, gaze=False)
        pictures.append(picture[200:280, 370:390, 2].max())
    assert pictures[0] > 200 > 160 > pictures[1] > 100


def test_nothing_is_drawn_without_confidence() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    draw(picture, face(confidence=0.4), CAMERA)
    assert not picture.any()


def test_drawing_survives_points_far_outside() -> None:
    one = face()
    one.landmarks = one.landmarks * 1e6
    one.pose = np.array([-3e7, -3e7, 1e-3, 0, 0, 0], np.float32)
    picture = np.zeros((480, 640, 3), np.uint8)
    draw(picture, one, CAMERA)
    assert picture.shape == (480, 640, 3)


def outputs(folder: Path, **changes: object) -> Outputs:
    config = Config(hog=True, aligned=True, tracked=True, columns=("pose", "aus"), **changes)  # type: ignore[arg-type]
    source = Source("in.mp4", "in", 25.0, None)
    source.width, source.height = 640, 480
    return Outputs(folder / "in.csv", config, source, CAMERA, Layout(config.columns, 34, ("AU01",), ("AU01",)))


def test_all_outputs_appear_together(tmp_path: Path) -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    with outputs(tmp_path / "new" / "folder") as all_files:
        for frame in (1, 2):
            all_files.write(face(frame), picture)
        before = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
        all_files.finish(np.zeros((2, 1)), np.ones((2, 1)))
    assert all(".part" in name for name in before)
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert names == {"in.csv", "in.hog", "in.avi", "in_aligned", "in_of_details.txt"}
    assert not picture.any(), "the frame itself must not be drawn into"
    capture = cv2.VideoCapture(str(tmp_path / "new" / "folder" / "in.avi"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2 and capture.get(cv2.CAP_PROP_FPS) == 25.0


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), outputs(tmp_path) as all_files:
        all_files.write(face(), np.zeros((480, 640, 3), np.uint8))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_keeps_the_files_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("earlier")
    with pytest.raises(ValueError, match="stop"), outputs(tmp_path):
        raise ValueError("stop")
    assert (tmp_path / "in.csv").read_text() == "earlier"


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(PyfaceauError, match=r"cannot write .*taken.*--out-dir"), outputs(tmp_path / "taken"):
        pass
