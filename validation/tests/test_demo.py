"""The demo pack measured and compared with the C++ program's CSVs, within the noise floor that ships with it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pyfaceau.weights.install import verify_models
from pyfaceau.weights.source import demo_folders, demo_source
from validation import adapter, clips, goldens, record, suite
from validation.adapter import Runner, Timing
from validation.cli import main
from validation.clips import require_same
from validation.compare import join
from validation.errors import HarnessError
from validation.figures import evaluate
from validation.files import GOLDEN, REPOSITORY, read_json, read_toml
from validation.floor import floor_from_summary, floor_of
from validation.reference import read_csv
from validation.run import compare_pixels

STORE = goldens.load()
DEMOS = [golden for golden in STORE.goldens if golden.configuration.startswith("demo")]


@cache
def runner(configuration: str) -> Runner:
    """pyfaceau with a configuration's settings and the demo pack."""
    settings = dict(STORE.configurations[configuration]["settings"])
    return Runner(settings, STORE.folder / settings.pop("models"), threads=2)


def test_there_are_four_goldens_of_three_configurations():
    assert [(golden.configuration, golden.clip) for golden in DEMOS] == [
        ("demo", "astronaut"),
        ("demo", "astronaut_lost"),
        ("demo-au-static", "astronaut"),
        ("demo-avi", "astronaut_lost_avi"),
    ]


@pytest.mark.parametrize("golden", DEMOS, ids=lambda golden: f"{golden.configuration}/{golden.clip}")
def test_every_clip_within_the_noise_floor(golden, tmp_path):
    clip = STORE.clips[golden.clip]
    video = clips.locate(STORE, clip, [])
    require_same(clip, video)
    digests = read_json(GOLDEN / "frame-crc32.json", "digests")
    assert compare_pixels(digests[clip.file], adapter.decoded_digests(video))["verdict"] == "same"
    runner(golden.configuration).run(video, tmp_path / "ours.csv")
    reference, ours = STORE.table(golden), read_csv(tmp_path / "ours.csv")
    assert ours.columns == reference.columns
    np.testing.assert_array_equal(ours.column("success"), reference.column("success"))
    figures = evaluate(join(reference, ours)).figures
    if reference.has("x_0"):
        assert figures["landmarks.mean_px"].value <= 0.05
    assert figures["presence.agreement"].value >= 0.99
    assert figures["intensity.mae"].value <= 0.015  # the two builds: 0.004 to 0.007
    assert figures["pose.axis_deg"].value <= 0.01


def test_the_floor_is_read_from_the_summary_of_two_builds(tmp_path):
    of = {golden.file.rpartition("/")[2]: floor_of(STORE, golden) for golden in DEMOS}
    found = of["astronaut.csv"]
    assert found.configuration == "demo" and list(found.sources) == ["rebuild"]
    values = {name: figure.value for name, figure in found.worst.items() if figure.value is not None}
    assert values == pytest.approx(
        {
            "landmarks.mean_px": 0.00314, "pose.axis_deg": np.degrees(0.00003), "gaze.angle_deg": np.degrees(0.0001),
            "intensity.mae": 0.0065, "presence.agreement": 0.99861, "tracking.agreement": 1.0,
        }
    )  # fmt: skip
    assert found.worst["intensity.ccc"].reason == "the summary of the two builds does not say"
    assert of["astronaut_lost_avi.csv"].worst["landmarks.mean_px"].value == pytest.approx(0.00326)
    assert of["astronaut_au_static.csv"].worst["landmarks.mean_px"].value is None
    (tmp_path / "floor.txt").write_text("== astronaut.csv\nnothing\n")
    with pytest.raises(HarnessError, match="does not say in how many frames"):
        floor_from_summary(tmp_path / "floor.txt", DEMOS[0])
    with pytest.raises(HarnessError, match="no part '== astronaut_lost"):
        floor_from_summary(tmp_path / "floor.txt", DEMOS[1])


class TestPack:
    def test_every_file_has_its_digest_and_no_other_file_is_there(self):
        report = verify_models(demo_source())
        assert len(report.intact) == 50
        assert not report.damaged and not report.missing and not report.unknown

    def test_size(self):
        assert sum(path.stat().st_size for path in (GOLDEN / "demo").rglob("*") if path.is_file()) <= 6e6

    def test_a_wheel_holds_it_where_an_installed_pyfaceau_looks(self):
        wheel = read_toml(REPOSITORY / "pyproject.toml", "the project")["tool"]["hatch"]["build"]["targets"]["wheel"]
        in_checkout, in_package = demo_folders()
        ((source, target),) = wheel["force-include"].items()
        assert (REPOSITORY / source, REPOSITORY / target) == (in_checkout, in_package)


class TestCommand:
    """`validation demo`, with the reference's own CSVs in place of pyfaceau's where only the wiring matters."""

    @pytest.fixture(autouse=True)
    def _instead_of_pyfaceau(self, tmp_path, monkeypatch):
        monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
        monkeypatch.setenv("PYFACEAU_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("PYFACEAU_MODELS", raising=False)
        monkeypatch.setattr("pyfaceau.weights.source.beside_checkout", lambda: tmp_path / "nowhere")
        self.change = lambda text: text

        def run(runner: Runner, video: Path, csv: Path) -> Timing:
            name = "astronaut_au_static.csv" if runner.config.au == "static" else csv.name
            csv.write_text(self.change((GOLDEN / "demo" / "golden" / name).read_text()))
            frames = csv.read_text().count("\n") - 1
            return Timing(frames, 1.0, np.full(frames, 10.0), {"landmarks": np.full(frames, 9.0)}, 1.0)

        monkeypatch.setattr(Runner, "run", run)
        monkeypatch.setattr(Runner, "warm_up", lambda runner, video, frames=12: 0.1)

    def test_without_weights_it_says_so_and_judges_the_pack(self, tmp_path, capsys):
        assert main(["demo", "-o", str(tmp_path / "out")]) == 0
        said = capsys.readouterr().out
        assert said.startswith("The demo pack (OpenFace's weights are not here; `pyfaceau models fetch` brings them)")
        assert "4 CSVs of the C++ program, 700 frames" in said
        page = Path(re.search(r"\nreport: (.*)\n", said).group(1))
        assert page.parent == tmp_path / "out" / "report" and "astronaut_lost" in page.read_text()
        for name in ("demo", "demo-au-static", "demo-avi"):
            assert record.load(tmp_path / "out" / f"{name}.json")["verdict"]["verdict"] == "PASS"
            assert list((tmp_path / "out" / name).glob("astronaut*.csv"))

    @pytest.fixture
    def _no_page(self, monkeypatch):
        monkeypatch.setattr(suite, "page", lambda paths, folder: "none")

    @pytest.mark.usefixtures("_no_page")
    def test_a_lost_face_fails(self, tmp_path, capsys):
        self.change = lambda text: re.sub(r"(?m)^(9,0,[^,]*, *[^,]*), *1,", r"\1,0,", text)
        assert main(["demo", "--pack", "-o", str(tmp_path / "out")]) == 1
        assert re.search(r"\nFAIL: .*tracking\.agreement is 0\.99", capsys.readouterr().out)

    @pytest.mark.usefixtures("_no_page")
    def test_weights_without_clips_are_not_enough(self, tmp_path, monkeypatch, capsys):
        models = tmp_path / "models"
        (models / "model").mkdir(parents=True)
        (models / "model" / "main_clnf_general.txt").write_text("LandmarkDetector clnf_general.txt\n")
        assert main(["demo", "--models", str(models), "-o", str(tmp_path / "out")]) == 0
        assert "the weights of main_clnf_general are not here or not whole" in capsys.readouterr().out
        monkeypatch.setattr("pyfaceau.weights.landmark_models", lambda source: {"main_clnf_general": []})
        monkeypatch.setattr(clips, "folders", lambda named: [])
        assert main(["demo", "--models", str(models), "-o", str(tmp_path / "out")]) == 0
        assert "the clip grid_bbaf2n is not here" in capsys.readouterr().out

    def test_named_weights_that_are_not_there_are_an_error(self, tmp_path, capsys):
        assert main(["demo", "--models", str(tmp_path / "absent")]) == 2
        assert "absent: no such models folder" in capsys.readouterr().err
