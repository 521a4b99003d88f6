"""The cache of parsed weights and derived arrays: what is kept, when it is built anew, and damage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyfaceau.errors import ModelError
from pyfaceau.tests import weights_files as files
from pyfaceau.weights import (
    array_digest,
    derived_arrays,
    formats,
    load_au_predictors,
    load_landmark_model,
    load_mtcnn,
    parsed,
    store,
)
from pyfaceau.weights.cache import atomic_file, read_blob, write_blob
from pyfaceau.weights.models import CENPatches, LandmarkModel


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("PYFACEAU_CACHE", str(folder))
    return folder


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return files.write_pack(tmp_path / "pack")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The main lists that are read from OpenFace's files, not from the cache."""
    seen: list[Path] = []
    read = store.read_model

    def counted(main: Path, validator: bool = True) -> LandmarkModel:
        if main.name.startswith("main_c"):
            seen.append(main)
        return read(main, validator)

    monkeypatch.setattr(store, "read_model", counted)
    return seen


def blobs(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.blob"))


def test_second_start_reads_no_model_file(pack: Path, reads: list[Path], cache: Path) -> None:
    first = load_landmark_model(pack)
    second = load_landmark_model(pack)
    assert len(reads) == 1
    assert len(blobs(cache)) == 1
    np.testing.assert_array_equal(first.pdm.modes, second.pdm.modes)
    np.testing.assert_array_equal(first.patches[1].weights, second.patches[1].weights)  # type: ignore[union-attr]
    assert second.patches[0].sigma_components.keys() == {3, 7}  # type: ignore[union-attr]
    assert second.validator is not None
    assert second.validator.bins == 6
    for array in (second.pdm.mean, second.patches[0].visible, second.parts[0].pairs):
        assert array.ctypes.data % 64 == 0
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize("name", ["pdm.txt", "ccnf_b.txt", "clnf.txt", "eye/ccnf_eye.txt", "validator.txt"])
def test_changed_file_is_read_again(name: str, pack: Path, reads: list[Path], cache: Path) -> None:
    load_landmark_model(pack)
    path = pack / "model" / name
    os.utime(path, ns=(1, 1))
    load_landmark_model(pack)
    assert len(reads) == 2
    load_landmark_model(pack)
    assert len(reads) == 2
    assert len(blobs(cache)) == 1  # the same file, written again


def test_list_with_other_content_but_the_same_time_is_read_again(pack: Path, reads: list[Path]) -> None:
    path = pack / "model" / "clnf.txt"
    before = path.stat()
    load_landmark_model(pack)
    path.write_text(path.read_text().replace("ccnf_b", "ccnf_a"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [p.scale for p in load_landmark_model(pack).patches] == [0.25, 0.25]


def test_edited_reader_reads_again(pack: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    load_landmark_model(pack)
    monkeypatch.setattr(parsed, "_reader_version", lambda: "another")
    load_landmark_model(pack)
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "header", "magic", "longer", "text"])
def test_damaged_cache_is_rebuilt(damage: str, pack: Path, reads: list[Path], cache: Path) -> None:
    whole = load_landmark_model(pack)
    expected = np.array(whole.patches[0].weights)  # type: ignore[union-attr]
    del whole
    path = blobs(cache)[0]
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "empty":
        data.clear()
    elif damage == "flipped":
        data[len(data) * 2 // 3] ^= 1
    elif damage == "header":
        data[40] ^= 1
    elif damage == "magic":
        data[0] ^= 1
    elif damage == "longer":
        data += bytes(64)
    else:
        data[:] = b"not a cache file" * 9
    path.unlink()  # a mapping of the old file must not change under those who hold it
    path.write_bytes(data)
    again = load_landmark_model(pack)
    np.testing.assert_array_equal(again.patches[0].weights, expected)  # type: ignore[union-attr]
    assert len(reads) == 2
    load_landmark_model(pack)
    assert len(reads) == 2


def test_unwritable_cache_is_no_error(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PYFACEAU_CACHE", str(tmp_path / "file"))
    model = load_landmark_model(pack)
    assert not model.pdm.mean.flags.writeable
    assert len(load_au_predictors(pack).presence.names) == 3
    assert len(load_mtcnn(pack).pnet.layers) == 5
    assert derived_arrays("k", lambda: {"a": np.ones(3)})["a"].sum() == 3


def test_models_of_one_folder_do_not_mix(pack: Path, cache: Path) -> None:
    for _ in range(2):
        assert load_landmark_model(pack, "main_clm_general").kind == "svr"
        assert load_landmark_model(pack, "main_clnf_general").kind == "ccnf"
        assert load_landmark_model(pack, "main_clnf_general", validator=False).validator is None
        assert load_landmark_model(pack, "main_clnf_general").validator is not None
        assert load_au_predictors(pack).presence.dynamic.any()
        assert not load_au_predictors(pack, static=True).presence.dynamic.any()
    assert len(blobs(cache)) == 5


def test_mapped_files_are_not_copied(
    pack: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, reads: list[Path]
) -> None:
    monkeypatch.setattr(formats, "_MAP_FROM", 1)
    for _ in range(2):
        fine, converted = load_landmark_model(pack, "main_ceclm_general").patches
        assert isinstance(fine, CENPatches)
        assert isinstance(converted, CENPatches)
        weights = fine.experts[3][0].weights
        place = formats.mapped_place(weights)
        assert place is not None
        assert place[0] == pack / "model" / "cen_patches_a.dat"
        assert np.array_equal(np.fromfile(place[0], "<f4", weights.size, offset=place[1]), weights.ravel())
        assert not weights.flags.writeable
        assert formats.mapped_place(converted.experts[3][0].weights) is None  # f64 in the file
    assert len(reads) == 1
    (pack / "model" / "cen_patches_a.dat").unlink()
    with pytest.raises(ModelError, match=r"cen_patches_a\.dat"):
        load_landmark_model(pack, "main_ceclm_general")


def test_derived_arrays_are_built_once(cache: Path) -> None:
    calls = []

    def build() -> dict[str, np.ndarray]:
        calls.append(1)
        return {
            "sigma": np.arange(24.0, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
            "none": np.zeros((0, 5)),
            "flag": np.array([True, False]),
            "one": np.array(2.5),
        }

    for _ in range(3):
        arrays = derived_arrays("sigma v1 abc", build)
        np.testing.assert_array_equal(arrays["sigma"], build()["sigma"])
        calls.pop()
        assert arrays["sigma"].dtype == np.float32
        assert arrays["sigma"].flags.c_contiguous
        assert not arrays["sigma"].flags.writeable
        assert arrays["none"].shape == (0, 5)
        assert arrays["flag"].tolist() == [True, False]
        assert arrays["one"] == 2.5
    assert len(calls) == 1
    derived_arrays("sigma v2 abc", build)
    assert len(calls) == 2
    assert len(blobs(cache)) == 2


def test_array_digest_tells_contents_shapes_and_types_apart() -> None:
    array = np.arange(6.0)
    digests = {
        array_digest(array),
        array_digest(array.reshape(2, 3)),
        array_digest(array.astype(np.float32)),
        array_digest(array, array),
        array_digest(array + 1),
    }
    assert len(digests) == 5
    assert array_digest(array.reshape(2, 3).T) == array_digest(array.reshape(2, 3).T.copy())


def test_blob_of_another_key_is_not_used(tmp_path: Path) -> None:
    write_blob(tmp_path / "a.blob", "key", {"x": np.arange(3)}, {"n": 1})
    found = read_blob(tmp_path / "a.blob", "key")
    assert found is not None
    assert (found[0]["x"].tolist(), found[1]) == ([0, 1, 2], {"n": 1})
    assert read_blob(tmp_path / "a.blob", "other") is None


def test_atomic_file_leaves_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(target) as out:
        out.write(b"half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["file"]
    assert target.read_bytes() == b"old"


def test_two_processes_at_once(pack: Path, cache: Path) -> None:
    script = f"""
from pyfaceau.weights import load_landmark_model, load_au_predictors
for _ in range(20):
    model = load_landmark_model({str(pack)!r})
    assert model.pdm.n == 5
    import shutil; shutil.rmtree({str(cache)!r}, ignore_errors=True)
"""
    runs = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(2)]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors.decode()
