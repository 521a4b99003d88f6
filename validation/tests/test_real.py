"""pyfaceau itself, with OpenFace's weights, on the shortest clip; and the replay of its analysis stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from validation import goldens, record, replay
from validation.cli import main
from validation.compare import join
from validation.figures import evaluate
from validation.files import SHARED
from validation.reference import Table, read_csv

CLIP = "intel_head-pose-face-detection-female"
pytestmark = pytest.mark.skipif(
    not (SHARED / "openface").is_dir(), reason="needs OpenFace's weights and clips in ../shared, which are not shipped"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict, Table, Path]:
    """Exit code, record, CSV and folder of a real run."""
    folder = tmp_path_factory.mktemp("run")
    patch = pytest.MonkeyPatch()
    patch.setattr(record, "RUNS", folder / "runs")
    arguments = ["run", "--clips", CLIP, "--keep", str(folder), "--pictures", "-o", str(folder / "r.json")]
    code = main(arguments)
    patch.undo()
    return code, record.load(folder / "r.json"), read_csv(folder / f"{CLIP}.csv"), folder


def test_the_clip_is_as_close_as_a_recompile(run):
    _, data, _, _ = run
    (clip,) = data["clips"]
    assert clip["error"] is None and clip["pixels"]["verdict"] == "same"
    accuracy = [g for g in data["gates"] if not (g["figure"] or "").startswith("speed.")]
    assert {g["verdict"] for g in accuracy} == {"PASS"}
    assert clip["counts"]["both_succeed"] == 23 and clip["floor"]["of"] == "clnf"
    assert clip["speed"]["calibration_ms"] > 0 and clip["speed"]["stages"]["landmarks"]["mean"] > 0


def test_pictures_of_the_worst_frames_lie_beside_the_record(run):
    *_, data, _, folder = run
    names = [frame["picture"] for frame in data["clips"][0]["worst_frames"]]
    assert len(names) == 4 and all((folder / name).stat().st_size > 1000 for name in names)


def test_the_replay_without_a_defect_gives_the_same_action_units(run):
    *_, table, _ = run
    store = goldens.load()
    video = SHARED / "videos" / store.clips[CLIP].file
    recording = replay.Recorder(*store.settings("clnf", None), lambda clip: video).record(store.clips[CLIP])
    np.testing.assert_array_equal(recording.replay(table, "", 0, 1).values, table.values)
    for defect, size in (("swapped HOG bins", 144), ("stale median", 100), ("wrong SVR weight sign", 300)):
        broken = recording.replay(table, defect, size, 1)
        figures = evaluate(join(table, broken)).figures
        # A median that stands still moves every score of a dynamic AU by one amount, and the intensities' own offset,
        # taken at the end of the clip, takes that away again: only presence shows it.
        figure = "presence.flips" if defect == "stale median" else "intensity.mae"
        assert figures[figure].value > 0, defect
        assert figures["landmarks.mean_px"].value == 0, defect
