"""Downloads from a local HTTP server that misbehaves in every way that real ones do."""

from __future__ import annotations

import hashlib
import http.server
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pyfaceau.errors import ModelError
from pyfaceau.tests import weights_files as files
from pyfaceau.weights import registry
from pyfaceau.weights.cli import add_models_parser
from pyfaceau.weights.fetch import _BLOCK, CEN_DIGESTS, fetch_cen, fetch_models, folder_lock
from pyfaceau.weights.install import verify_models
from pyfaceau.weights.source import ModelSource

CONTENT = {
    "LandmarkDetector/model/main_clnf_general.txt": b"LandmarkDetector clnf.txt\n",
    "LandmarkDetector/model/pdms/pdm.txt": b"# mean\n" + b"1 2 3\n" * 500,
    "FaceAnalyser/AU_predictors/svm/AU_1.dat": bytes(range(256)) * 300,
    "FaceAnalyser/AU_predictors/svm/AU_2.dat": b"x" * 70_000,
}
LOCAL = [path.partition("/")[2] for path in CONTENT]
CEN = {
    f"cen_patches_{scale}_of.dat": files.cen(np.random.default_rng(3), float(scale), views=7)
    for scale in ("0.25", "0.50")
}
KEPT = len(CEN["cen_patches_0.25_of.dat"]) * 2 // 3 // _BLOCK * _BLOCK  # of an answer that is cut off at two thirds
HTML = b"<!DOCTYPE html>\n<html><body>Sorry, this file gets too much traffic.</body></html>"


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT and CEN; ``faults`` says which paths go wrong and how."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {**CONTENT, **CEN}
        self.faults: dict[str, str] = {}
        self.ranges = True
        self.requests: list[tuple[str, str]] = []  # path, Range

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        wanted = self.headers.get("Range", "")
        self.server.requests.append((name, wanted))
        fault = self.server.faults.get(name)
        body = self.server.files.get(name)
        if body is None or fault == "404":
            self.send_error(404)
            return
        if fault == "html":
            body = HTML
        elif fault == "wrong":
            body = body[:-1] + b"!"
        elif fault == "other":
            body = b"\0" * len(body)
        elif fault == "long":
            body += b"more"
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : len(body) * 2 // 3] if fault in ("cut", "cut once") else body[start:])
        if fault == "cut once":
            del self.server.faults[name]

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(registry.BASE_URL_VARIABLE, raising=False)
    monkeypatch.delenv(registry.CEN_URL_VARIABLE, raising=False)
    monkeypatch.setattr(
        registry, "_published", lambda: {path: hashlib.sha256(data).hexdigest() for path, data in CONTENT.items()}
    )
    with Server() as running:
        monkeypatch.setattr(registry, "CEN_FILES", tuple(cen_file(name, running.url) for name in CEN))
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def cen_file(name: str, url: str) -> registry.CENFile:
    scale = float(name.split("_")[2])
    return registry.CENFile(f"model/patch_experts/{name}", len(CEN[name]), struct.pack("<di", scale, 7), (url + name,))


def names_in(folder: Path) -> set[str]:
    """Every file there but the lock."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".lock"}


def test_fetch_brings_what_is_missing(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    fetched = fetch_models(tmp_path, server.url, lambda *step: seen.append(step))
    assert sorted(fetched) == sorted(LOCAL)
    assert names_in(tmp_path) == set(LOCAL)
    for path, data in CONTENT.items():
        assert (tmp_path / path.partition("/")[2]).read_bytes() == data
    assert [(done, total) for _, done, total in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert verify_models(ModelSource(tmp_path, "test")).damaged == []
    server.requests.clear()
    assert fetch_models(tmp_path, server.url) == []
    assert server.requests == []


def test_fetch_replaces_damaged_files_only(server: Server, tmp_path: Path) -> None:
    fetch_models(tmp_path, server.url)
    server.requests.clear()
    (tmp_path / LOCAL[1]).write_bytes(b"damaged")
    assert fetch_models(tmp_path, server.url) == [LOCAL[1]]
    assert (tmp_path / LOCAL[1]).read_bytes() == CONTENT["LandmarkDetector/model/pdms/pdm.txt"]
    assert len(server.requests) == 1


def test_address_from_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.BASE_URL_VARIABLE, server.url.rstrip("/"))
    assert len(fetch_models(tmp_path)) == 4


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("wrong", "has another SHA-256"),
        ("html", "has another SHA-256"),
        ("cut", "broke off|another SHA-256"),
        ("404", "the server answers 404"),
    ],
)
def test_bad_answers(fault: str, message: str, server: Server, tmp_path: Path) -> None:
    server.faults["FaceAnalyser/AU_predictors/svm/AU_1.dat"] = fault
    with pytest.raises(ModelError, match=message) as caught:
        fetch_models(tmp_path, server.url)
    text = str(caught.value)
    assert f"{server.url}FaceAnalyser/AU_predictors/svm/AU_1.dat" in text
    assert "--base-url" in text
    assert "\n" not in text
    assert names_in(tmp_path) == set(LOCAL) - {"AU_predictors/svm/AU_1.dat"}
    server.faults.clear()
    assert fetch_models(tmp_path, server.url) == ["AU_predictors/svm/AU_1.dat"]


def test_one_cut_off_answer_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.faults["FaceAnalyser/AU_predictors/svm/AU_1.dat"] = "cut once"
    assert len(fetch_models(tmp_path, server.url)) == 4
    assert names_in(tmp_path) == set(LOCAL)


def test_damaged_file_stays_until_a_good_one_comes(server: Server, tmp_path: Path) -> None:
    path = tmp_path / LOCAL[3]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    server.faults["FaceAnalyser/AU_predictors/svm/AU_2.dat"] = "wrong"
    with pytest.raises(ModelError):
        fetch_models(tmp_path, server.url)
    assert path.read_bytes() == b"old"


def test_no_network(server: Server, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        fetch_models(tmp_path, server.url)
    assert server.url in str(caught.value)
    assert names_in(tmp_path) == set()
    with pytest.raises(ModelError, match="cannot be reached"):
        fetch_cen(tmp_path)
    assert names_in(tmp_path) == set()


def test_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"file.*cannot write"):
        fetch_models(tmp_path / "file" / "folder", server.url)


def test_cen(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    assert len(fetch_cen(tmp_path, progress=lambda *step: seen.append(step))) == 2
    for name, data in CEN.items():
        assert (tmp_path / "model" / "patch_experts" / name).read_bytes() == data
    assert seen[-1][1] == seen[-1][2] == len(CEN["cen_patches_0.50_of.dat"])
    server.requests.clear()
    assert fetch_cen(tmp_path) == []
    assert server.requests == []
    path = tmp_path / "model" / "patch_experts" / "cen_patches_0.25_of.dat"
    path.write_bytes(path.read_bytes()[:-1] + b"!")  # no published digest, but ours of the first time
    assert fetch_cen(tmp_path) == ["model/patch_experts/cen_patches_0.25_of.dat"]
    assert names_in(tmp_path) == {CEN_DIGESTS, *(f"model/patch_experts/{name}" for name in CEN)}


@pytest.mark.parametrize("ranges", [True, False])
def test_cen_resumes(ranges: bool, server: Server, tmp_path: Path) -> None:
    name = "cen_patches_0.25_of.dat"
    server.ranges = ranges
    server.faults[name] = "cut once"
    fetch_cen(tmp_path)
    assert (tmp_path / "model" / "patch_experts" / name).read_bytes() == CEN[name]
    first, second = (wanted for path, wanted in server.requests if path == name)
    assert first == ""
    assert second == f"bytes={KEPT}-"
    assert KEPT > 0


def test_cen_resumes_in_a_later_run(server: Server, tmp_path: Path) -> None:
    name = "cen_patches_0.25_of.dat"
    server.faults[name] = "cut"
    with pytest.raises(ModelError, match=f"broke off: {KEPT} bytes came, {len(CEN[name])} expected"):
        fetch_cen(tmp_path)
    assert names_in(tmp_path) == {f"model/patch_experts/{name}.part"}
    server.faults.clear()
    server.requests.clear()
    fetch_cen(tmp_path)
    assert server.requests[0] == (name, f"bytes={KEPT}-")
    assert (tmp_path / "model" / "patch_experts" / name).read_bytes() == CEN[name]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("html", "answers with a web page instead of the file"),
        ("404", "the server answers 404"),
        ("other", "serves another file: its first bytes"),
        ("long", "bytes, .* expected"),
    ],
)
def test_cen_bad_answers(fault: str, message: str, server: Server, tmp_path: Path) -> None:
    server.faults["cen_patches_0.50_of.dat"] = fault
    with pytest.raises(ModelError, match=message) as caught:
        fetch_cen(tmp_path)
    assert f"{server.url}cen_patches_0.50_of.dat" in str(caught.value)
    assert "--cen-url" in str(caught.value)
    assert names_in(tmp_path) == {"model/patch_experts/cen_patches_0.25_of.dat"}


def test_cen_that_does_not_parse(server: Server, tmp_path: Path) -> None:
    data = bytearray(CEN["cen_patches_0.25_of.dat"])
    data[20] ^= 255  # the type of a matrix, behind the first bytes that are checked at once
    server.files["cen_patches_0.25_of.dat"] = bytes(data)
    with pytest.raises(ModelError, match="not a file of this kind"):
        fetch_cen(tmp_path)
    assert names_in(tmp_path) == set()


def test_cen_mirrors(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "cen_patches_0.25_of.dat"
    for path, data in CEN.items():
        server.files[f"good/{path}"] = data
        server.files[f"bad/{path}"] = data
        server.faults[f"bad/{path}"] = "html"
    server.faults[f"bad/{name}"] = "cut"
    fetch_cen(tmp_path, [server.url + "bad", server.url + "good/"])
    # The second mirror goes on where the first stopped.
    assert (f"good/{name}", f"bytes={KEPT}-") in server.requests
    assert not [path for path, _ in server.requests if "/" not in path]
    for path, data in CEN.items():
        assert (tmp_path / "model" / "patch_experts" / path).read_bytes() == data
    monkeypatch.setenv(registry.CEN_URL_VARIABLE, f"{server.url}bad {server.url}good")
    assert len(fetch_cen(tmp_path / "other")) == 2


def test_two_processes_at_once(server: Server, tmp_path: Path) -> None:
    script = f"""
from pyfaceau.tests import test_weights_fetch as t
from pyfaceau.weights import registry
from pyfaceau.weights.fetch import fetch_cen, fetch_models
from pathlib import Path
import hashlib
registry._published = lambda: {{path: hashlib.sha256(data).hexdigest() for path, data in t.CONTENT.items()}}
registry.CEN_FILES = tuple(t.cen_file(name, {server.url!r}) for name in t.CEN)
print(len(fetch_models(Path({str(tmp_path)!r}), {server.url!r})), len(fetch_cen(Path({str(tmp_path)!r}))))
"""
    runs = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [run.communicate(timeout=120)[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sorted(int(count[0]) for count in counts) == [0, 4]  # the second found everything there
    assert sorted(int(count[1]) for count in counts) == [0, 2]
    assert len(server.requests) == 6
    assert names_in(tmp_path) == {*LOCAL, CEN_DIGESTS, *(f"model/patch_experts/{name}" for name in CEN)}


def test_lock_keeps_others_waiting(tmp_path: Path) -> None:
    done: list[str] = []
    with folder_lock(tmp_path):
        waiting = threading.Thread(target=lambda: _note_with_lock(tmp_path, done))
        waiting.start()
        waiting.join(0.3)
        assert done == []
    waiting.join(10)
    assert done == ["got it"]


def _note_with_lock(folder: Path, done: list[str]) -> None:
    with folder_lock(folder):
        done.append("got it")


def test_command(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_models_parser(parser.add_subparsers())
    args = parser.parse_args(["models", "fetch", "--base-url", server.url, "--to", str(tmp_path), "--cen"])
    assert args.run(args) == 0
    assert f"6 files fetched, {tmp_path} is complete" in capsys.readouterr().out


def test_published_addresses() -> None:
    assert registry.base_url().endswith("TadasBaltrusaitis/OpenFace/OpenFace_2.2.0/lib/local/")
    assert sum(file.size for file in registry.CEN_FILES) == 2 * 60_602_360 + 2 * 154_289_792
    for file in registry.CEN_FILES:
        assert registry.cen_urls(file)[0].endswith(f"/{file.name.rpartition('/')[2]}?dl=1")
        assert registry.cen_urls(file, ["http://here/"]) == (f"http://here/{file.name.rpartition('/')[2]}",)
    assert registry.published_paths()["model/pdms/Multi-PIE_aligned_PDM_68.txt"].startswith("LandmarkDetector/model/")
    assert registry.published_paths()["AU_predictors/tris_68_full.txt"].startswith("FaceAnalyser/AU_predictors/")
