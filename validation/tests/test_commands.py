"""The commands from their arguments to their exit codes, with stand-ins for OpenFace, the network and pyfaceau."""

from __future__ import annotations

import json
import stat
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from validation import adapter, goldens, history, record, suite
from validation import run as runs
from validation.cli import main
from validation.commands import repeat
from validation.files import GOLDEN, sha256
from validation.goldens import Store
from validation.tests.conftest import make_csv, table
from validation.tests.test_goldens import store  # noqa: F401 (a fixture)

GATES = '[[gate]]\nname="landmarks"\nfigure="landmarks.mean_px"\nover="each"\nat_most=0.05\nor_floor_times=3.0\n'


@pytest.fixture(autouse=True)
def _own_runs(tmp_path, monkeypatch):
    """Records and history of tests go to a folder of their own."""
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")


class TestCompare:
    def test_two_files(self, csv_files, capsys, tmp_path):
        a, b = map(str, csv_files)
        assert main(["compare", a, b, "--floor", b, "-o", str(tmp_path / "r.json")]) == 0
        out = capsys.readouterr().out
        assert "landmarks.mean_px" in out and "AU45_c" in out
        assert record.load(tmp_path / "r.json")["clips"][0]["counts"]["common"] == 60

    def test_gates_decide_the_exit_code(self, csv_files, capsys, tmp_path):
        (tmp_path / "gates.toml").write_text(GATES.replace("0.05", "0.0001").replace("or_floor_times=3.0", ""))
        a, b = map(str, csv_files)
        assert main(["compare", a, b, "--gates", str(tmp_path / "gates.toml")]) == 1
        assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith("FAIL: reference: landmarks.mean_px")

    def test_errors_are_one_line_with_exit_code_2(self, csv_files, capsys):
        assert main(["compare", str(csv_files[0]), "absent.csv"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "absent.csv: cannot be read" in line

    def test_release_dialect_against_source_dialect(self, tmp_path, capsys):
        text = make_csv(30)
        (tmp_path / "a.csv").write_text(text)
        (tmp_path / "b.csv").write_bytes(text.replace(",", ", ").replace("\n", "\r\n").encode())
        assert main(["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]) == 0
        assert "100.00" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda text: text.replace("0.100000", "-nan(ind)", 1), "1 frames left out, as a value is not a number"),
            (lambda text: text[:-40], "1 rows missing; 1 cut-off last line left out"),
            (lambda text: make_csv(20), "10 rows missing"),
            (lambda text: make_csv(40), "10 rows too many"),
            (lambda text: make_csv(30, faces=2), "2 faces, joined by face_id"),
            (lambda text: make_csv(30, lost=(3,)), "face lost here but not in the reference in 1 frames"),
            (lambda text: text.replace("x_67", "extra"), "a file has no landmarks columns"),
        ],
    )
    def test_odd_files_are_compared_and_the_table_says_what_is_odd(self, change, says, tmp_path, capsys):
        (tmp_path / "a.csv").write_text(make_csv(30))
        (tmp_path / "b.csv").write_text(change(make_csv(30)))
        assert main(["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]) == 0
        assert says in capsys.readouterr().out


STAND_IN = """#!{python}
import os, pathlib, sys
switches = sys.argv[1:]
video, out = pathlib.Path(switches[switches.index("-f") + 1]), pathlib.Path(switches[switches.index("-out_dir") + 1])
assert switches[switches.index("-mloc") + 1] == "model/main.txt" and "-2Dfp" in switches and "-aus" in switches
assert os.environ["LEVEL"] == "3" and pathlib.Path.cwd() == pathlib.Path(__file__).resolve().parent
if not video.is_file(): sys.exit("could not open the video")
(out / (video.stem + ".csv")).write_bytes((pathlib.Path(__file__).parent / "answer.csv").read_bytes())
"""


@pytest.fixture
def openface(tmp_path: Path) -> Path:
    """A program with FeatureExtraction's command line that writes ``answer.csv``."""
    binary = tmp_path / "openface" / "FeatureExtraction"
    binary.parent.mkdir()
    binary.write_text(STAND_IN.format(python=sys.executable))
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    (binary.parent / "answer.csv").write_text(make_csv())
    return binary


class TestGolden:
    def call(self, store: Store, *arguments: object) -> int:  # noqa: F811
        """`golden` on the made-up store."""
        return main(["golden", "--golden", str(store.folder), *map(str, arguments)])

    def test_list_and_verify(self, store, tmp_path, capsys):  # noqa: F811
        assert self.call(store, "list") == 0
        assert "FeatureExtraction 2.2.0, model/main.txt; clip: CC0" in capsys.readouterr().out
        assert self.call(store, "verify", "--videos", tmp_path / "videos") == 0
        assert "2 goldens, 1 of 1 clips here, 0 problems" in capsys.readouterr().out
        (tmp_path / "videos" / "face.avi").write_bytes(b"other bytes")
        assert self.call(store, "verify", "--videos", tmp_path / "videos") == 1

    def test_unpack(self, store, tmp_path):  # noqa: F811
        assert self.call(store, "unpack", tmp_path / "out") == 0
        assert (tmp_path / "out" / "clnf" / "face.csv").read_text() == make_csv()

    def test_regen_with_the_same_answer_changes_nothing(self, store, openface, tmp_path):  # noqa: F811
        before = (store.folder / "manifest.json").read_bytes()
        assert self.call(store, "regen", "--openface", openface, "--videos", tmp_path / "videos") == 0
        assert (store.folder / "manifest.json").read_bytes() == before

    def test_regen_wants_a_reason_shows_the_difference_and_fails(self, store, openface, tmp_path, capsys):  # noqa: F811
        new = make_csv(seed=9, noise=0.1)
        (openface.parent / "answer.csv").write_text(new)
        arguments = ("regen", "--openface", openface, "--videos", tmp_path / "videos")
        assert self.call(store, *arguments) == 2
        said = capsys.readouterr()
        assert "rows differ, by up to" in said.out and "give --reason" in said.err
        assert goldens.load(store.folder).csv(store.get("clnf", "face")) == make_csv().encode()
        assert self.call(store, *arguments, "--reason", "new compiler") == 1
        renewed = goldens.load(store.folder)
        assert renewed.csv(renewed.get("clnf", "face")) == new.encode()
        # The repetition, packed against the old one, is still what it was.
        assert renewed.csv(renewed.get("clnf-rebuild", "face")) == make_csv(seed=2, noise=0.2).encode()
        assert renewed.log[0]["reason"] == "new compiler" and goldens.problems(renewed) == []

    def test_a_program_that_fails_is_named_with_its_last_words(self, store, openface, tmp_path, capsys):  # noqa: F811
        openface.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no model found')\n")
        assert self.call(store, "regen", "--openface", openface, "--videos", tmp_path / "videos") == 2
        assert "no usable CSV (no model found)" in capsys.readouterr().err
        assert self.call(store, "regen", "--openface", tmp_path / "absent", "--videos", tmp_path / "videos") == 2

    def test_add(self, store, openface, tmp_path, monkeypatch, capsys):  # noqa: F811
        monkeypatch.setattr(adapter, "decoded_digests", lambda video: ["00000000"] * 60)
        video = tmp_path / "videos" / "new.avi"
        video.write_bytes(b"new")
        assert self.call(store, "add", video, "--openface", openface, "--licence", "CC BY 4.0") == 0
        added = goldens.load(store.folder)
        assert added.csv(added.get("clnf", "new")) == make_csv().encode()
        assert (added.clips["new"].licence, added.clips["new"].sha256) == ("CC BY 4.0", sha256(b"new"))
        assert json.loads((store.folder / "frame-crc32.json").read_text())["new.avi"].count("00000000") == 60
        assert self.call(store, "add", video, "--openface", openface, "--licence", "CC BY 4.0") == 2
        assert "has a golden" in capsys.readouterr().err

    def test_add_refuses_a_csv_of_another_clip(self, store, tmp_path, monkeypatch, capsys):  # noqa: F811
        monkeypatch.setattr(adapter, "decoded_digests", lambda video: ["00000000"] * 59)
        (tmp_path / "new.avi").write_bytes(b"new")
        (tmp_path / "new.csv").write_text(make_csv())
        arguments = ("add", tmp_path / "new.avi", "--csv", tmp_path / "new.csv", "--licence", "CC0")
        assert self.call(store, *arguments) == 2
        assert "not the same clip" in capsys.readouterr().err
        assert self.call(store, *arguments, "--ship") == 2
        assert "move it there" in capsys.readouterr().err


class _Repository(BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        """Serve the files; a name with ``short`` in it is cut off."""
        body = self.files.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write((body or b"")[: -1 if "short" in self.path else None])

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def repository():
    """A local server in place of the clips' public repositories."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Repository)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{{repository}}/{{commit}}/{{path}}"
    server.shutdown()
    thread.join()
    server.server_close()


class TestClips:
    @pytest.fixture
    def fetch(self, store, repository, tmp_path, monkeypatch):  # noqa: F811
        """`clips fetch` for a clip that is published as ``path``."""
        monkeypatch.setattr("validation.clips.SHARED", tmp_path / "nowhere")
        monkeypatch.setattr("validation.clips.download_folder", lambda: tmp_path / "cache")

        def call(path: str, served: bytes | None, *more: str) -> int:
            _Repository.files = {} if served is None else {f"/a/b/c0ffee/{path}": served}
            clip = store.clips["face"]
            source = {"repository": "a/b", "commit": "c0ffee", "path": path}
            store.clips["face"] = goldens.Clip(**{**vars(clip), "source": source})
            store.save()
            return main(["clips", "fetch", "--golden", str(store.folder), "--base-url", repository, *more])

        return call

    def test_downloads_and_keeps(self, fetch, tmp_path, capsys):
        good = b"not really a video"
        assert fetch("x/face.avi", good) == 0
        assert (tmp_path / "cache" / "face.avi").read_bytes() == good
        assert "licence: CC0" in capsys.readouterr().out
        assert fetch("x/face.avi", None) == 0  # there already: nothing is asked of the server

    @pytest.mark.parametrize(
        ("path", "served"), [("face.avi", b"wrong"), ("face.avi", None), ("short.avi", b"not really a video")]
    )
    def test_wrong_missing_and_cut_off_files_leave_nothing(self, fetch, tmp_path, capsys, path, served):
        assert fetch(path, served) == 2
        assert "ERROR" in capsys.readouterr().out
        assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]

    def test_no_network(self, fetch, capsys):
        assert fetch("face.avi", None, "--base-url", "http://127.0.0.1:9/{repository}{commit}{path}") == 2
        assert "cannot be downloaded" in capsys.readouterr().out

    def test_a_folder_of_the_user_comes_first(self, fetch, tmp_path, capsys):
        assert fetch("face.avi", None, "--videos", str(tmp_path / "videos")) == 0
        assert str(tmp_path / "videos" / "face.avi") in capsys.readouterr().out


class _Pyfaceau:
    """Stands in for the pipeline: writes a given CSV and claims plausible times."""

    csv = make_csv(seed=2, noise=0.2)
    load_ms = 12.0
    weights = Path("absent")

    def __init__(self, settings, models, threads):
        assert settings == {"landmarks": "clnf"}

    def warm_up(self, video):
        """No compilation to wait for."""
        return 0.0

    def run(self, video, csv):
        """Write the CSV."""
        text = self.csv
        csv.write_text(text)
        frames = len(table(text).values)
        times = np.full(frames, 8.0)
        return adapter.Timing(frames, 0.008 * frames, times, {"landmarks": times - 2, "analysis": times - 7}, 1.0)


class TestRun:
    @pytest.fixture
    def run(self, store, tmp_path, monkeypatch):  # noqa: F811
        """`run` on the made-up store; returns exit code and record."""
        monkeypatch.setattr(runs, "decoded_digests", lambda video: ["1", "2", "3"])
        (store.folder / "gates.toml").write_text(GATES)
        (store.folder / "frame-crc32.json").write_text(json.dumps({"face.avi": "1 2 3"}))

        def call(csv: str, *more: str) -> tuple[int, dict]:
            monkeypatch.setattr(runs, "Runner", type("Runner", (_Pyfaceau,), {"csv": csv}))
            path = tmp_path / "record.json"
            arguments = ["run", "--golden", str(store.folder), "--videos", str(tmp_path / "videos"), "-o", str(path)]
            code = main([*arguments, "--no-calibration", "--junit", str(tmp_path / "junit.xml"), *more])
            return code, record.load(path) if path.is_file() else {}

        return call

    def test_pass(self, run, tmp_path, capsys):
        code, data = run(make_csv(seed=2, noise=0.2))
        assert code == 0 and data["verdict"]["verdict"] == "PASS"
        clip = data["clips"][0]
        assert clip["pixels"] == {"verdict": "same", "frames": 3, "differing": 0, "first": None}
        assert clip["figures"]["speed.fps"]["value"] == pytest.approx(125)
        assert clip["speed"]["work_ms"] == pytest.approx(7.0) and clip["speed"]["unaccounted_share"] is None
        assert (tmp_path / "junit.xml").is_file()
        assert "125.0  landmarks 6.00 analysis 1.00" in capsys.readouterr().out
        assert len(history.read(tmp_path / "runs" / "history.jsonl")) == 1

    def test_one_thread_accounts_for_its_time(self, run):
        _, data = run(make_csv(seed=2, noise=0.2), "--threads", "1")
        assert data["clips"][0]["speed"]["unaccounted_share"] == pytest.approx(1 / 8)

    def test_an_offset_of_half_a_pixel_fails(self, run, capsys):
        from validation.defects import offset

        moved = offset(table(make_csv(seed=2, noise=0.2)), 0.5)
        at = {name: i for i, name in enumerate(moved.columns)}
        lines = make_csv(seed=2, noise=0.2).splitlines()
        for row, line in enumerate(lines[1:]):
            cells = line.split(",")
            for i in range(68):
                cells[at[f"x_{i}"]] = f"{moved.values[row, at[f'x_{i}']]:.1f}"
            lines[row + 1] = ",".join(cells)
        code, data = run("\n".join(lines) + "\n")
        assert code == 1 and "face: landmarks.mean_px is 0.5" in data["verdict"]["sentence"]
        assert "FAIL" in capsys.readouterr().out

    def test_other_pixels_are_inconclusive(self, run, monkeypatch):
        monkeypatch.setattr(runs, "decoded_digests", lambda video: ["1", "x", "3"])
        code, data = run(make_csv(seed=2, noise=0.2))
        assert code == 3 and data["clips"][0]["pixels"]["first"] == 2

    def test_a_changed_clip_is_an_error(self, run, tmp_path):
        (tmp_path / "videos" / "face.avi").write_bytes(b"other")
        code, data = run(make_csv())
        assert code == 2 and "not the bytes its golden was made from" in data["verdict"]["sentence"]

    def test_a_missing_clip_is_an_error_that_says_how_to_get_it(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr("validation.clips.SHARED", tmp_path / "nowhere")
        (tmp_path / "videos" / "face.avi").unlink()
        code, data = run(make_csv())
        assert code == 2 and "clips fetch" in data["verdict"]["sentence"]

    def test_a_csv_that_pyfaceau_did_not_finish_is_an_error(self, run):
        assert run("frame,success\n")[0] != 0
        code, data = run("")
        assert code == 2 and "is empty" in data["verdict"]["sentence"]

    def test_no_such_clip_or_configuration(self, run, capsys):
        assert run(make_csv(), "--clips", "nonsense")[0] == 2
        assert run(make_csv(), "--config", "nonsense")[0] == 2
        assert run(make_csv(), "--config", "clnf-rebuild")[0] == 2
        assert "has no settings to run pyfaceau with" in capsys.readouterr().err

    def test_judge_again_and_accept_as_baseline(self, run, store, tmp_path, capsys):  # noqa: F811
        given = (GOLDEN / "gates.toml").read_text()
        with (store.folder / "gates.toml").open("a") as gates:
            gates.write(given[given.index("[tripwires]") :])
        run(make_csv(seed=2, noise=0.2))
        judge = partial(main, ["judge", str(tmp_path / "record.json"), "--gates", str(store.folder / "gates.toml"),
                               "--baseline", str(store.folder / "baseline.json"), "--accept", "first run"])  # fmt: skip
        assert judge() == 0
        assert "checks passed" in capsys.readouterr().out
        code, data = run(make_csv(seed=2, noise=0.2))
        assert code == 0 and any(c["gate"].startswith("tripwire") for c in data["gates"])
        code, data = run(make_csv(seed=2, noise=0.24))
        assert code == 1 and "the baseline" in data["verdict"]["sentence"]


class TestSeveralRuns:
    """`all` and `repeat` on the made-up store."""

    @pytest.fixture(autouse=True)
    def _setting(self, store, tmp_path, monkeypatch):  # noqa: F811
        monkeypatch.setattr(runs, "decoded_digests", lambda video: ["1", "2", "3"])
        monkeypatch.setattr(runs, "Calibrator", _Steady)
        monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
        monkeypatch.setattr(suite, "page", lambda paths, folder: folder / "index.html")
        monkeypatch.setattr(suite, "lacking", lambda store, name, models: None)
        (store.folder / "gates.toml").write_text(GATES)
        (store.folder / "frame-crc32.json").write_text(json.dumps({"face.avi": "1 2 3"}))
        self.given = ["--golden", str(store.folder), "--videos", str(tmp_path / "videos")]
        self.monkeypatch = monkeypatch

    def pyfaceau_writes(self, *csvs: str) -> None:
        """One after the other."""
        left = iter(csvs)
        self.monkeypatch.setattr(
            runs, "Runner", type("Runner", (_Pyfaceau,), {"csv": property(lambda runner: next(left))})
        )

    def test_all_runs_what_it_can_and_says_what_is_left_out(self, store, tmp_path, monkeypatch, capsys):  # noqa: F811
        store.configurations["clm"] = {**store.configurations["clnf"]}
        store.put("clm", "face", make_csv().encode())
        store.save()
        monkeypatch.setattr(suite, "lacking", lambda store, name, models: "no weights" if name == "clm" else None)
        self.pyfaceau_writes(make_csv(seed=2, noise=0.2))
        assert main(["all", *self.given]) == 0
        said = capsys.readouterr().out
        assert "left out: clm, as no weights" in said and "PASS: all" in said and "report:" in said
        assert (tmp_path / "runs" / "all" / "clnf" / "face.csv").is_file()
        assert not (tmp_path / "runs" / "all" / "clm.json").exists()
        assert main(["all", *self.given, "--configs", "nonsense"]) == 2
        assert main(["all", *self.given, "--configs", "clm"]) == 2
        self.pyfaceau_writes(make_csv(seed=2, noise=3.0))
        assert main(["all", *self.given]) == 1

    def test_repeat_passes_only_if_every_run_passes_with_the_same_figures(self, monkeypatch, capsys):
        def here(command: list[str]) -> str:
            assert command[1:3] == ["-m", "validation"]
            main(command[3:])
            return "Traceback\nit broke\n"

        monkeypatch.setattr(repeat, "start", here)
        same, other, bad = make_csv(seed=2, noise=0.2), make_csv(seed=2, noise=0.21), make_csv(seed=2, noise=3.0)
        for csvs, code, text in (
            ([same] * 3, 0, "PASS: 3 of 3 runs pass"),
            ([same, same, other], 1, "run 3: face: gaze.angle_deg is not the first run's"),
            ([same, bad, same], 1, "FAIL: 2 of 3 runs pass"),
        ):
            self.pyfaceau_writes(*csvs)
            assert main(["repeat", "3", *self.given]) == code, text
            assert text in capsys.readouterr().out
        assert main(["repeat", "1", *self.given]) == 2
        assert main(["repeat", "2", *self.given, "--clips", "nonsense"]) == 2
        assert "run 1 left no record: it broke" in capsys.readouterr().err


class _Steady:
    """A calibration workload that always takes 100 ms."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def measure(self):
        """One pass, ms."""
        return 100.0


def test_frames_that_one_side_lacks_are_differing_pixels():
    assert runs.compare_pixels("1 2 3", ["1", "2"]) == {"verdict": "differ", "frames": 3, "differing": 1, "first": 3}
    assert runs.compare_pixels("1", ["1", "2"])["verdict"] == "differ"
    assert runs.compare_pixels(None, ["1"])["verdict"] == "unknown"


def test_an_unsteady_machine_is_noted():
    times = np.full(10, 8.0)
    timing = adapter.Timing(10, 0.08, times, {"landmarks": times, "landmarks.parts": times}, 0.0)
    speed = runs.speed_record(timing, 100.0, 120.0, None, 2)
    assert speed["unsteady"] == "calibration 100 ms before, 120 ms after"
    assert speed["per_calibration"] == pytest.approx(8 / 110)
    assert speed["work_ms"] == pytest.approx(8.0)  # the part is within its stage
    assert runs.speed_record(timing, 100.0, 101.0, None, 2)["unsteady"] is None


def test_times_of_a_stage_add_up_per_frame():
    found = adapter.per_frame(np.array([1, 2, 2, 0, 9]), np.array([1.0, 2, 3, 50, 50]), 3)
    np.testing.assert_array_equal(found, [1, 5, 0])
