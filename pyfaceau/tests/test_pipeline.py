"""The whole pipeline: agreement with the C++ program, threads, frames one by one, tables, settings, times."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

import pyfaceau
from pyfaceau import Config, Pipeline, PyfaceauError, extract
from pyfaceau.au.analyser import FaceAnalyser
from pyfaceau.clock import StageClock
from pyfaceau.extraction import layout_for
from pyfaceau.face import Face
from pyfaceau.landmarks.experts.cen import CENExperts
from pyfaceau.tests.demo import CLIP, GOLDEN, PACK, needs_demo
from pyfaceau.tests.shared import SHARED, needs_shared
from pyfaceau.video import Frame, VideoFile


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(Config(models=PACK, threads=1))


@pytest.fixture(scope="module")
def table(pipeline: Pipeline) -> pd.DataFrame:
    return extract(CLIP, pipeline=pipeline)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """The first frames of the clip, with a face."""
    with VideoFile(CLIP) as source:
        return [frame for frame, _ in zip(source, range(12), strict=False)]


def as_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_demo
def test_demo_clip_agrees_with_the_cpp_program(table: pd.DataFrame) -> None:
    golden = pd.read_csv(GOLDEN)
    assert list(table.columns) == list(golden.columns)
    assert table["success"].tolist() == golden["success"].tolist()
    found = (golden["success"] == 1).to_numpy()
    assert 40 < found.sum() < 60, "the clip must show losses"
    points = [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    difference = np.abs(table.loc[found, points].round(1) - golden.loc[found, points])
    assert difference.to_numpy().mean() < 0.05
    angles = ["pose_Rx", "pose_Ry", "pose_Rz", "gaze_angle_x", "gaze_angle_y"]
    assert np.abs(table.loc[found, angles] - golden.loc[found, angles]).to_numpy().max() < 0.01
    presence = [name for name in golden if name.endswith("_c")]
    assert (table[presence] == golden[presence]).to_numpy().mean() >= 0.99
    intensity = [name for name in golden if name.endswith("_r")]
    assert np.abs(table[intensity] - golden[intensity]).to_numpy().mean() < 0.02


@needs_shared
@pytest.mark.parametrize("au", ["dynamic", "static"])
def test_openfaces_own_weights_agree_with_the_cpp_program(au: str) -> None:
    folder = "clnf" if au == "dynamic" else "clnf-au-static"
    golden = pd.read_csv(SHARED / "golden" / folder / "grid_bbaf2n.csv")
    table = extract(SHARED / "videos" / "grid_bbaf2n.mpg", landmarks="clnf", au=au, models=SHARED / "openface")
    assert table["success"].eq(golden["success"]).mean() >= 0.99
    points = [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    assert np.abs(table[points].round(1) - golden[points]).to_numpy().mean() < 0.10
    presence = [name for name in golden if name.endswith("_c")]
    assert table[presence].eq(golden[presence]).to_numpy().mean() >= 0.97


@needs_demo
def test_table_holds_what_the_csv_rounds(pipeline: Pipeline, table: pd.DataFrame, tmp_path: Path) -> None:
    again = extract(CLIP, output=tmp_path / "out.csv", pipeline=pipeline)
    pd.testing.assert_frame_equal(again, table)
    written = pd.read_csv(tmp_path / "out.csv")
    assert list(written.columns) == list(table.columns)
    assert np.abs(written["p_scale"] - table["p_scale"]).max() <= 0.0005001
    assert np.abs(written["AU01_r"] - table["AU01_r"]).max() <= 0.005001
    assert table["x_0"].dtype == np.float32
    assert table["frame"].tolist() == list(range(1, 101))
    assert table.attrs["note"] is None
    assert str(PACK) in table.attrs["models"]


@needs_demo
def test_a_failed_frame_has_no_gaze_but_keeps_the_trackers_state(table: pd.DataFrame) -> None:
    failed = table[table["success"] == 0]
    assert len(failed) > 40
    assert not failed[["gaze_0_x", "gaze_1_z", "gaze_angle_x", "gaze_angle_y"]].to_numpy().any()
    assert failed[["x_30", "eye_lmk_x_0", "p_scale", "pose_Tz"]].to_numpy().all()


@needs_demo
@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bytes(tmp_path: Path, threads: int) -> None:
    for count in (1, threads):
        config = Config(models=PACK, threads=count, hog=True, aligned=True, tracked=True)
        extract(CLIP, config, tmp_path / str(count) / "out.csv")
    one, many = as_files(tmp_path / "1"), as_files(tmp_path / str(threads))
    assert len(one) == 4 + 100
    assert one == many
    assert not any(thread.name.startswith("pyfaceau-") for thread in threading.enumerate())


@needs_demo
def test_faces_come_one_by_one_with_running_action_units(pipeline: Pipeline, frames: list[Frame]) -> None:
    tracking = pipeline.track(frame.bgr for frame in frames)
    faces = list(tracking)
    assert [face.frame for face in faces] == list(range(1, 13))
    assert faces[3].timestamp == pytest.approx(0.1)
    face = faces[-1]
    shapes = {
        "landmarks": (68, 2), "landmarks_3d": (68, 3), "pose": (6,), "gaze": (2, 3), "gaze_angle": (2,),
        "eye_landmarks": (56, 2), "eye_landmarks_3d": (56, 3), "params_global": (6,), "params_local": (12,),
        "hog": (4464,),
    }  # fmt: skip
    assert {name: getattr(face, name).shape for name in shapes} == shapes
    names = pipeline.au_names
    assert face.au_intensity is not None
    assert face.au_presence is not None
    assert (face.au_intensity.size, face.au_presence.size) == (len(names[0]), len(names[1]))
    final = tracking.final_action_units()
    assert final is not None
    assert (final[0].shape, final[1].shape) == ((12, len(names[0])), (12, len(names[1])))


@needs_demo
def test_faces_are_not_changed_by_later_frames(pipeline: Pipeline, frames: list[Frame]) -> None:
    tracking = pipeline.track(frames)
    first = next(tracking)

    def values() -> list[Any]:
        return [np.array(part) for part in (first.landmarks, first.eye_landmarks, first.hog, first.params_local)]

    before = values()
    list(tracking)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(), strict=True))


@needs_demo
def test_videos_do_not_influence_each_other(pipeline: Pipeline, frames: list[Frame]) -> None:
    runs = [[face.landmarks for face in pipeline.track(frames)] for _ in range(2)]
    assert np.array_equal(runs[0], runs[1])


@needs_demo
@pytest.mark.parametrize(("threads", "sharing"), [(1, 1), (2, 2), (3, 2), (4, 3)])
def test_the_knob_for_threads_reaches_the_patch_experts(frames: list[Frame], threads: int, sharing: int) -> None:
    """Of three threads or more, one decodes."""
    tracking = Pipeline(Config(models=PACK, landmarks="ceclm", threads=threads)).track(frames)
    experts = tracking._tracker._fitter.experts
    next(tracking)
    assert len(experts) == 4
    assert all(isinstance(scale, CENExperts) and scale.crew and scale.crew.threads == sharing for scale in experts)
    tracking.close()


@needs_demo
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_in_the_frames_reaches_the_caller(frames: list[Frame], threads: int, tmp_path: Path) -> None:
    def failing() -> Iterator[Frame]:
        yield from frames[:3]
        raise OSError("the disk is gone")

    faces: list[Face] = []
    with pytest.raises(OSError, match="disk is gone"):
        for face in Pipeline(Config(models=PACK, threads=threads)).track(failing()):
            faces.append(face)  # noqa: PERF402
    assert [face.frame for face in faces] == [1, 2, 3]


@needs_demo
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_in_the_analysis_comes_after_the_earlier_faces(
    frames: list[Frame], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse, done = FaceAnalyser.analyse, []

    def failing(self: FaceAnalyser, *arguments: Any) -> Any:
        done.append(1)
        if len(done) == 4:
            raise MemoryError("no room for a face")
        return analyse(self, *arguments)

    monkeypatch.setattr(FaceAnalyser, "analyse", failing)
    faces: list[Face] = []
    with pytest.raises(MemoryError, match="no room"):
        for face in Pipeline(Config(models=PACK, threads=threads)).track(frames):
            faces.append(face)  # noqa: PERF402
    assert [face.frame for face in faces] == [1, 2, 3]
    assert len(done) == 4


@needs_demo
def test_while_frames_are_waited_for_the_other_thread_analyses_to_the_same_values(
    pipeline: Pipeline, frames: list[Frame]
) -> None:
    def slow() -> Iterator[Frame]:
        for frame in frames:
            time.sleep(0.05)
            yield frame

    threads = []
    clock = StageClock(lambda stage, *_: threads.append(threading.current_thread().name) if stage == "analysis" else 0)
    slowly = list(Pipeline(Config(models=PACK, threads=2)).track(slow(), clock=clock))
    assert len(threads) == 12
    assert threads.count("pyfaceau-work") > 6
    for face, expected in zip(slowly, pipeline.track(frames), strict=True):
        assert face.frame == expected.frame
        for name in ("landmarks_3d", "pose", "gaze", "au_intensity", "au_presence", "hog"):
            assert np.array_equal(getattr(face, name), getattr(expected, name)), name


@needs_demo
@pytest.mark.parametrize("bad", [np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3), np.float32)])
def test_frames_of_another_kind_are_refused(pipeline: Pipeline, bad: Any) -> None:
    with pytest.raises(PyfaceauError, match="BGR uint8"):
        next(pipeline.track([bad]))


@needs_demo
def test_a_video_without_a_face_gives_failed_rows(pipeline: Pipeline, tmp_path: Path) -> None:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((120, 160, 3), 40 * i, np.uint8))
    table = extract(tmp_path, pipeline=pipeline)
    assert table["success"].tolist() == [0, 0, 0]
    assert not table[["confidence", "x_0", "gaze_0_x", "AU01_r", "AU01_c"]].to_numpy().any()
    assert table["Z_0"].to_numpy().all(), "3-D points are those of the mean shape"


@needs_demo
def test_stage_times_are_taken_for_each_frame(pipeline: Pipeline, frames: list[Frame]) -> None:
    called: list[tuple[str, int]] = []
    clock = StageClock(lambda stage, frame, nanoseconds: called.append((stage, frame)))
    list(pipeline.track(frames, clock=clock))
    times = clock.milliseconds()
    for stage in ("decode", "gray", "landmarks", "landmarks.face", "pose", "gaze", "analysis"):
        assert times[stage].size == 12, stage
        assert (times[stage] > 0).all()
        assert [frame for name, frame in called if name == stage] == list(range(1, 13))
    assert times["landmarks.detect"].size == 1
    assert clock.frames("landmarks.detect").tolist() == [1]
    inner = sum(times[name].sum() for name in times if name.startswith("landmarks."))
    assert inner <= times["landmarks"].sum()
    assert "landmarks.face" in clock.table()


@needs_demo
def test_columns_decide_what_is_computed(frames: list[Frame]) -> None:
    pipeline = Pipeline(Config(models=PACK, columns=("pose", "2d"), threads=1))
    clock = StageClock()
    tracking = pipeline.track(frames[:2], clock=clock)
    assert next(tracking).hog is None
    list(tracking)
    assert tracking.final_action_units() is None
    assert "analysis" not in clock.milliseconds()
    assert len(layout_for(pipeline).names) == 5 + 6 + 136


@needs_demo
def test_written_aligned_faces_follow_their_settings_and_the_action_units_do_not(
    frames: list[Frame], table: pd.DataFrame
) -> None:
    plain = next(Pipeline(Config(models=PACK, aligned=True, threads=1)).track(frames))
    config = Config(models=PACK, aligned=True, aligned_size=64, aligned_mask=False, aligned_gray=True, threads=1)
    other = next(Pipeline(config).track(frames))
    assert plain.aligned is not None
    assert other.aligned is not None
    assert (plain.aligned.shape, other.aligned.shape) == ((112, 112, 3), (64, 64))
    assert (plain.aligned == 0).mean() > 0.1 > (other.aligned == 0).mean()
    assert np.array_equal(np.array(plain.hog), np.array(other.hog))


@needs_demo
@pytest.mark.parametrize(
    "changes",
    [
        {"sigma": 3.0}, {"reg": 5.0}, {"w_reg": 2.5}, {"n_iter": 1}, {"windows_init": (5, 5, 5, 5)},
        {"windows_small": (0, 5, 5, 0)}, {"validate": False}, {"au": "static"}, {"fx": 900.0, "fy": 900.0},
        {"cx": 200.0, "cy": 150.0},
    ],
)  # fmt: skip
def test_every_setting_changes_the_result(frames: list[Frame], changes: dict[str, Any]) -> None:
    def outcome(config: Config) -> list[Any]:
        pipeline = Pipeline(config)
        tracking = pipeline.track(frames)
        values = [
            (face.landmarks.tolist(), face.confidence, face.pose.tolist(), face.landmarks_3d.tolist())
            for face in tracking
        ]
        final = tracking.final_action_units()
        return [values, pipeline.au_names, None if final is None else final[0].tolist()]

    base = Config(models=PACK, threads=1)
    assert outcome(base.with_changes(**changes)) != outcome(base)


def test_wild_is_openfaces_preset() -> None:
    wild = Config.preset("wild", threads=1)
    assert (wild.windows_init, wild.sigma, wild.reg, wild.w_reg, wild.n_iter) == ((15, 13, 11, 11), 1.25, 35.0, 2.5, 10)
    assert Config.preset() == Config()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"au": "both"}, "dynamic or static"),
        ({"columns": ("2d", "4d")}, "4d"),
        ({"dialect": "german"}, "source or release"),
        ({"threads": 0}, "threads=0"),
        ({"sigma": -1.0}, "sigma"),
        ({"fx": 500.0}, "both fx and fy"),
        ({"cy": 240.0}, "both cx and cy"),
        ({"windows_init": (4, 9)}, "odd"),
        ({"aligned_format": "gif"}, "gif"),
        ({"landmarks": ""}, "landmarks"),
    ],
)
def test_senseless_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PyfaceauError, match=message):
        Config(**changes)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(PyfaceauError, match="colour"):
        Config().with_changes(colour="red")
    with pytest.raises(PyfaceauError, match="fast-ish"):
        Config.preset("fast-ish")


def test_importing_pyfaceau_loads_nothing_heavy() -> None:
    code = "import sys, pyfaceau; print(sorted({'numpy', 'numba', 'cv2', 'pandas', 'onnxruntime'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert set(pyfaceau.__all__) <= set(dir(pyfaceau))
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = pyfaceau.nothing_such
