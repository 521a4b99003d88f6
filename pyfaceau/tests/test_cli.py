"""The command: exit codes, one line per error, files, several inputs at once, interruption."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyfaceau.cli import main
from pyfaceau.tests.demo import CLIP, PACK, needs_demo

Capture = pytest.CaptureFixture[str]


def error_line(capsys: Capture) -> str:
    """The only line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pyfaceau", *map(str, arguments)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "no such file"),
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"not a video\n" * 50, "not a video"),
        ("cut.mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41\0\0\0\x08free", "cut off"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: Capture, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert main(["extract", str(path), "--out-dir", str(tmp_path / "out")]) == 2
    line = error_line(capsys)
    assert line.startswith("pyfaceau: ")
    assert name in line
    assert message in line
    assert not (tmp_path / "out").exists()


@needs_demo
def test_unwritable_output_is_one_line_and_exit_code_2(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "taken").touch()
    assert main(["extract", str(CLIP), "--models", str(PACK), "--out-dir", str(tmp_path / "taken")]) == 2
    line = error_line(capsys)
    assert "cannot write" in line
    assert "--out-dir" in line


@needs_demo
def test_missing_weights_are_one_line_and_exit_code_2(tmp_path: Path, capsys: Capture) -> None:
    assert main(["extract", str(CLIP), "--models", str(tmp_path), "-o", str(tmp_path / "a.csv")]) == 2
    assert "models fetch" in error_line(capsys)
    assert not (tmp_path / "a.csv").exists()


@needs_demo
def test_a_damaged_weight_file_is_named(tmp_path: Path, capsys: Capture) -> None:
    shutil.copytree(PACK, tmp_path / "pack")
    file = tmp_path / "pack" / "model" / "mtcnn_detector" / "RNet.dat"
    file.write_bytes(file.read_bytes()[:100])
    out = tmp_path / "a.csv"
    assert main(["extract", str(CLIP), "--models", str(tmp_path / "pack"), "-o", str(out)]) == 2
    assert "RNet.dat" in error_line(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to measure"),
        (["a.mp4", "b.mp4", "-o", "c.csv"], "--out-dir"),
        (["a/x.mp4", "b/x.avi"], "would both write x.csv"),
        (["a.mp4", "--columns", "2d,4d"], "4d"),
        (["a.mp4", "--preset", "mild"], "mild"),
        (["a.mp4", "--fx", "500"], "both fx and fy"),
    ],
)
def test_senseless_options_are_one_line_and_exit_code_2(capsys: Capture, arguments: list[str], message: str) -> None:
    assert main(["extract", *arguments]) == 2
    assert message in error_line(capsys)


def test_a_missing_camera_is_named(capsys: Capture) -> None:
    assert main(["extract", "--device", "97"]) == 2
    assert "camera 97" in error_line(capsys)


@needs_demo
def test_a_camera_is_recorded_until_ctrl_c(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    class PlayedCamera:
        """The clip in place of a camera; somebody presses Ctrl-C before the tenth picture."""

        def __init__(self, device: int) -> None:
            self.capture, self.count = file(str(CLIP)), 0

        def read(self) -> tuple[bool, object]:
            self.count += 1
            if self.count == 10:
                signal.raise_signal(signal.SIGINT)
            ok, picture = self.capture.read()
            return ok, picture

        def get(self, what: int) -> float:
            return self.capture.get(what)

        def set(self, what: int, value: float) -> bool:
            return False

        def release(self) -> None:
            self.capture.release()

    file = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", PlayedCamera)
    assert main(["extract", "--device", "0", "--out-dir", str(tmp_path), "--models", str(PACK)]) == 0
    assert "webcam: " in capsys.readouterr().out
    (csv,) = tmp_path.glob("webcam_20??-??-??-??-??.csv")
    rows = csv.read_text().splitlines()[1:]
    times = [float(row.split(",")[2]) for row in rows]
    assert 10 <= len(rows) <= 14
    assert times == sorted(times)
    assert times[-1] > 0
    details = csv.with_name(f"{csv.stem}_of_details.txt").read_text().splitlines()
    assert details[0] == "Input:webcam"
    assert details[1].startswith("Camera parameters:")


@needs_demo
def test_extract_writes_beside_what_it_says(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "deep" / "result.csv"
    options = ["--models", str(PACK), "--columns", "pose,aus", "--dialect", "release", "--timings", "--threads", "1"]
    assert main(["extract", str(CLIP), "-o", str(out), *options]) == 0
    captured = capsys.readouterr()
    assert "100 frames, 52 with a face" in captured.out
    assert str(out) in captured.out
    assert "analysis" in captured.out, "the timings"
    assert "main_ceclm_general" in captured.err, "which model was used"
    assert "\r" not in captured.err, "no progress bar outside a terminal"
    assert sorted(path.name for path in out.parent.iterdir()) == ["result.csv", "result_of_details.txt"]
    assert out.read_bytes().startswith(b"frame, face_id, timestamp, confidence, success, pose_Tx")


@needs_demo
def test_several_at_once_equal_one_after_another_and_errors_do_not_stop_the_others(
    tmp_path: Path, capfd: Capture
) -> None:
    clips = [shutil.copy(CLIP, tmp_path / f"{name}.mp4") for name in "abc"]
    (tmp_path / "bad.mp4").write_text("no video")
    inputs = [str(clips[0]), str(tmp_path / "bad.mp4"), *map(str, clips[1:])]
    options = ["--models", str(PACK), "--columns", "2d,aus"]
    assert main(["extract", *inputs, "--out-dir", str(tmp_path / "two"), "--jobs", "2", *options]) == 2
    assert "bad.mp4" in capfd.readouterr().err
    assert main(["extract", str(clips[0]), "--out-dir", str(tmp_path / "one"), *options]) == 0
    expected = (tmp_path / "one" / "a.csv").read_bytes()
    assert [(tmp_path / "two" / f"{name}.csv").read_bytes() for name in "abc"] == [expected] * 3
    assert not (tmp_path / "two" / "bad.csv").exists()


@needs_demo
@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("jobs", [1, 2])
def test_interruption_leaves_no_file_and_exit_code_130(tmp_path: Path, jobs: int) -> None:
    inputs = [shutil.copy(CLIP, tmp_path / f"{i}.mp4") for i in range(40)]
    out = tmp_path / "out"
    arguments = command("extract", *inputs, "--out-dir", out, "--models", PACK, "--jobs", str(jobs), "--hog")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(out.glob("*.part")):
        assert time.monotonic() < deadline, "nothing was ever written"
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "pyfaceau: interrupted"
    assert "Traceback" not in errors
    assert list(out.glob("*.part")) == []
    finished = {path.stem for path in out.glob("*.csv")}
    assert len(finished) < 40
    assert {path.stem for path in out.glob("*.hog")} == finished


@needs_demo
def test_doctor_reports_what_is_there(capsys: Capture, tmp_path: Path) -> None:
    assert main(["doctor", "--models", str(PACK)]) == 0
    text = capsys.readouterr().out
    for expected in (
        "Python",
        "numpy",
        "numba",
        "opencv",
        "compiled kernels",
        "vectors of",
        "main_ceclm_general: complete",
    ):
        assert expected in text
    assert main(["doctor", "--models", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().out


@needs_demo
def test_after_a_warm_up_nothing_is_left_to_compile(tmp_path: Path) -> None:
    from pyfaceau.warmup import compiled_kinds

    main(["warmup", "--models", str(PACK)])
    assert any("cen" in kind for kind in compiled_kinds())
    code = (
        "import sys\n"
        "from numba.core import event\n"
        "from pyfaceau.cli import main\n"
        "names = []\n"
        "class Listener(event.Listener):\n"
        "    def on_start(self, event): names.append(event.data['dispatcher'].py_func.__qualname__)\n"
        "    def on_end(self, event): pass\n"
        "event.register('numba:compile', Listener())\n"
        "code = main(sys.argv[1:])\n"
        "print('compiled:', names)\n"
        "sys.exit(code)\n"
    )
    arguments = ["extract", str(CLIP), "-o", str(tmp_path / "a.csv"), "--models", str(PACK), "--hog", "--aligned"]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "compiled: []" in run.stdout
    assert "compiling kernels" not in run.stderr


def test_version_and_module(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("pyfaceau ")
