"""Layouts read back from files written for the test, and every way in which a file can be wrong."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyfaceau.errors import ModelError
from pyfaceau.tests import weights_files as files
from pyfaceau.weights.models import Conv, Dense, MaxPool, PReLU, ReLU
from pyfaceau.weights.networks import read_cnn, read_validator
from pyfaceau.weights.patches import read_ccnf, read_cen, read_svr
from pyfaceau.weights.pdm import read_early_termination, read_pdm, read_triangles, read_triangulations
from pyfaceau.weights.predictors import read_predictor, read_predictors
from pyfaceau.weights.store import load_au_predictors, load_landmark_model, load_mtcnn, read_model

Reader = Callable[[Path], Any]
BINARY: dict[str, tuple[Reader, Callable[[np.random.Generator], bytes]]] = {
    "ccnf": (read_ccnf, files.ccnf),
    "cen": (read_cen, files.cen),
    "net": (read_cnn, files.net),
    "validator": (read_validator, files.validator),
    "intensity": (read_predictor, lambda rng: files.predictor(rng, 1, 6)),
    "presence": (read_predictor, lambda rng: files.predictor(rng, 5, 6)),
}
TEXT: dict[str, tuple[Reader, Callable[[np.random.Generator], str]]] = {
    "svr": (read_svr, files.svr),
    "pdm": (read_pdm, files.pdm),
    "triangles": (read_triangles, lambda rng: files.text_matrix(np.array([[0, 1, 2], [1, 2, 3]]), "i4")),
    "triangulations": (
        read_triangulations,
        lambda rng: "# n\n1\n# view 0\n" + files.text_matrix(np.array([[0, 1, 2]]), "i4"),
    ),
    "early": (lambda path: read_early_termination(path, 2), lambda rng: "1 2 3 4 5 6 "),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYFACEAU_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files.write_pack(tmp_path_factory.mktemp("pack"))


def fails(reader: Reader, path: Path) -> str:
    """The message with which reading the file fails; it names the file and a remedy."""
    with pytest.raises(ModelError) as caught:
        reader(path)
    message = str(caught.value)
    assert str(path) in message
    assert "pyfaceau models" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", BINARY)
def test_binary_file_cut_anywhere(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    reader, write = BINARY[kind]
    data, path = write(rng), tmp_path / f"{kind}.dat"
    path.write_bytes(data)
    reader(path)
    edges = {0, 1, 3, 4, 8, 12, 16, 20, 24, len(data) // 2, len(data) - 8, len(data) - 4, len(data) - 1}
    for length in sorted(edges | set(rng.integers(0, len(data), 60).tolist())):
        path.write_bytes(data[:length])
        message = fails(reader, path)
        assert f"{length} bytes found, at least" in message, length


@pytest.mark.parametrize("kind", BINARY)
def test_extra_bytes(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    reader, write = BINARY[kind]
    path = tmp_path / f"{kind}.dat"
    data = write(rng)
    path.write_bytes(data + b"\0")
    assert f"{len(data) + 1} bytes found, {len(data)} expected" in fails(reader, path)


@pytest.mark.parametrize("kind", BINARY)
def test_every_matrix_type_is_checked(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    reader, write = BINARY[kind]
    data, path = write(rng), tmp_path / f"{kind}.dat"
    changed = 0
    for offset in range(0, len(data) - 12, 4):
        rows, cols, code = struct.unpack_from("<iii", data, offset)
        if 0 < rows < 200 and 0 < cols < 200 and code in (4, 5, 6) and rows * cols > 2:
            other = {4: 5, 5: 4, 6: 4}[code]
            path.write_bytes(data[: offset + 8] + struct.pack("<i", other) + data[offset + 12 :])
            message = fails(reader, path)
            changed += "matrix type" in message
    assert changed > (1 if kind in ("intensity", "presence") else 5)


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html><body>Sign in to see this file, please.</body></html>\n" * 9]
)
def test_other_content(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "page.dat"
    path.write_bytes(b"<!DOCTYPE html><html><body>Sign in to see this file</body></html>\n" * 9)
    if kind in ("intensity", "presence"):  # OpenFace passes over predictors of unknown kinds
        assert BINARY[kind][0](path) is None
    else:
        fails(BINARY[kind][0], path)


@pytest.mark.parametrize("kind", TEXT)
def test_text_file_cut_after_any_number(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    reader, write = TEXT[kind]
    text, path = write(rng), tmp_path / f"{kind}.txt"
    ends = [match.end() for match in re.finditer(r"\S+", text)][:-1]
    starts_comment = [text.rfind("\n", 0, end) + 1 for end in ends]
    ends = [end for end, start in zip(ends, starts_comment, strict=True) if text[start] != "#"]
    for end in {ends[0], ends[-1], *rng.choice(ends, 20).tolist()}:
        path.write_text(text[:end])
        assert "cut off" in fails(reader, path)


@pytest.mark.parametrize("kind", TEXT)
def test_text_file_with_more_or_other_words(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    reader, write = TEXT[kind]
    path = tmp_path / f"{kind}.txt"
    path.write_text(write(rng) + "\n1.5\n")
    assert "extra numbers" in fails(reader, path)
    path.write_text(write(rng) + "\n<html>\n")
    assert "'<html>' where a number is expected" in fails(reader, path)


def test_text_matrix_of_another_type(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "pdm.txt"
    path.write_text(files.pdm(rng).replace("\n6\n", "\n5\n", 1))
    assert "matrix type 5, expected 6" in fails(read_pdm, path)


def test_missing_and_unreadable(tmp_path: Path) -> None:
    for reader in (read_ccnf, read_pdm):
        assert "missing" in fails(reader, tmp_path / "nothing.txt")
        assert "cannot read" in fails(reader, tmp_path)


def test_empty_file_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert "0 bytes found, at least 8 expected" in fails(read_cen, tmp_path / "empty")


def test_ccnf_layout(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "ccnf.txt"
    path.write_bytes(files.ccnf(rng))
    patches = read_ccnf(path)
    same = np.random.default_rng(7)
    for view, landmark in np.argwhere(files.visibility()):
        for k in range(files.NEURONS):
            norm, bias, alpha = same.random(3)
            assert patches.norm[view, landmark, k] == norm
            assert patches.bias[view, landmark, k] == bias
            assert patches.alpha[view, landmark, k] == alpha
            np.testing.assert_array_equal(patches.weights[view, landmark, k], same.random((11, 11)).astype(np.float32))
        np.testing.assert_array_equal(patches.betas[view, landmark], same.random(2))
        assert patches.confidence[view, landmark] == same.random()
    assert not patches.weights[-1, -1].any()
    np.testing.assert_allclose(patches.centers, np.deg2rad([[0, 0, 0], [0, -20, 0]]))
    assert patches.sigma_components[5][1, 3, 4] == 6


def test_visible_landmark_without_expert(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "ccnf.txt"
    data = files.ccnf(rng)
    hidden = files.column(files.visibility()[-1], "i4")
    path.write_bytes(data.replace(hidden, files.column(np.ones(files.N), "i4"), 2))
    assert f"landmark {files.N - 1} is visible in view 1 but has no expert" in fails(read_ccnf, path)


def test_other_support_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "ccnf.txt"
    path.write_bytes(files.ccnf(rng).replace(struct.pack("<iii", 5, 11, 11), struct.pack("<iii", 5, 13, 11), 1))
    assert "width of expert (0, 0) is 13, expected 11" in fails(read_ccnf, path)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_cen_layout(dtype: str, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "cen.dat"
    path.write_bytes(files.cen(rng, 0.25, dtype))
    patches = read_cen(path)
    same = np.random.default_rng(7)
    assert patches.mirror_inds.tolist() == [1, 0, 2, 3, 4]
    assert patches.mirror_views.tolist() == [1, 0]
    for entry in np.ndindex(files.VIEWS, files.N):
        index = patches.expert[entry]
        assert (index < 0) == (entry[1] == 1)
        if index >= 0:
            first, last = patches.experts[index]
            assert (first.activation, last.activation) == (2, 0)
            np.testing.assert_array_equal(first.bias, same.random(2).astype(np.float32))
            np.testing.assert_array_equal(first.weights, same.random((2, 122)).astype(np.float32))
            np.testing.assert_array_equal(last.bias, same.random(1).astype(np.float32))
            np.testing.assert_array_equal(last.weights, same.random((1, 2)).astype(np.float32))
        assert patches.confidence[entry] == same.random()


def test_cen_without_mirror(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "cen.dat"
    mirrors = files.matrix(np.array([1, 0, 2, 3, 4]), "i4")
    path.write_bytes(files.cen(rng).replace(mirrors, files.matrix(np.arange(5), "i4")))
    assert "landmark 1 is visible in view 0 but neither it nor its mirror has an expert" in fails(read_cen, path)
    path.write_bytes(files.cen(rng).replace(mirrors, files.matrix(np.array([1, 0, 2, 3, 5]), "i4")))
    assert "out of range" in fails(read_cen, path)


def test_network_layout(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "net.dat"
    path.write_bytes(files.net(rng))
    conv, prelu, pool, dense, sigmoid = read_cnn(path).layers
    same = np.random.default_rng(7)
    assert isinstance(prelu, PReLU)
    np.testing.assert_array_equal(prelu.slope, same.random(2).astype(np.float32))
    assert isinstance(conv, Conv)
    kernels = same.random((3 * 2, 3, 3)).astype(np.float32)  # drawn before the bias, as the writer does
    np.testing.assert_array_equal(conv.bias, same.random(2).astype(np.float32))
    for n_in in range(3):
        for n_out in range(2):
            np.testing.assert_array_equal(conv.kernels[n_out, n_in], kernels[n_in * 2 + n_out])
    assert isinstance(pool, MaxPool)
    assert (pool.kx, pool.ky, pool.sx, pool.sy) == (3, 2, 2, 1)
    assert isinstance(dense, Dense)
    np.testing.assert_array_equal(dense.bias, same.random(6).astype(np.float32))
    np.testing.assert_array_equal(dense.weights, same.random((2, 6)).astype(np.float32).T)
    assert type(sigmoid).__name__ == "Sigmoid"


def test_validator_layout(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "validator.txt"
    path.write_bytes(files.validator(rng))
    validator = read_validator(path)
    view = validator.views[0]
    assert validator.bins == 6
    assert np.rad2deg(view.orientation).tolist() == pytest.approx([0, 20, 0])
    conv, relu, pool, dense = view.cnn.layers
    assert isinstance(conv, Conv)
    assert isinstance(relu, ReLU)
    assert isinstance(pool, MaxPool)
    assert (pool.kx, pool.ky, pool.sx, pool.sy) == (2, 2, 2, 2)
    assert isinstance(dense, Dense)
    assert (view.min_x, view.min_y) == (-2.5, 1.5)
    assert view.triangle_id[1].tolist() == [-1, 1, 1, 0]
    assert view.destination.shape == (2 * files.N,)


def test_validator_with_another_mask(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "validator.txt"
    mask = files.matrix(np.array([[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]), "i4")
    path.write_bytes(files.validator(rng).replace(mask, mask[:12] + bytes(48)))
    assert "mask does not fit" in fails(read_validator, path)


def test_list_syntax(pack: Path) -> None:
    model = load_landmark_model(pack)
    assert (model.name, model.kind, model.pdm.n) == ("main_clnf_general", "ccnf", files.N)
    assert [(part.name, part.pairs.tolist()) for part in model.parts] == [("left", [[0, 1], [2, 3]])]
    assert len(model.triangulations) == 1
    clm, ceclm = load_landmark_model(pack, "main_clm_general.txt"), load_landmark_model(pack, "main_ceclm_general")
    assert (clm.kind, clm.validator, clm.early_termination) == ("svr", None, None)
    assert ceclm.early_termination is not None
    assert ceclm.early_termination.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert load_mtcnn(pack).onet.layers[0] is not None
    units = load_au_predictors(pack)
    assert units.presence.names == ("AU01", "AU02", "AU45")
    np.testing.assert_array_equal(units.presence.weights[0], units.presence.weights[2])
    assert units.presence.dynamic.tolist() == [False, True, False]
    assert units.intensity.dynamic.tolist() == [False, True]
    assert (units.intensity.cutoff[0], units.intensity.cutoff[1] > 0) == (-1, True)


def test_sigma_components_of_the_last_file_serve_all_scales(pack: Path) -> None:
    own = read_ccnf(pack / "model" / "ccnf_a.txt")
    assert sorted(own.sigma_components) == [3, 5, 7]
    model = load_landmark_model(pack)
    assert [sorted(scale.sigma_components) for scale in model.patches] == [[3, 7], [3, 7]]  # type: ignore[union-attr]
    assert model.parts[0].model.patches[0].sigma_components == {}  # type: ignore[union-attr]


def test_means_are_those_of_the_first_file_of_a_kind(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.dat").write_bytes(files.predictor(rng, 4, 6))
    (tmp_path / "c.dat").write_bytes(files.predictor(rng, 5, 6))
    (tmp_path / "odd.dat").write_bytes(struct.pack("<i", 7))  # a kind that is passed over
    (tmp_path / "list.txt").write_text("b.dat AU12\na.dat AU04\nc.dat AU26  \nodd.dat AU99\n")
    intensity, presence = read_predictors(tmp_path / "list.txt")
    assert intensity.names == ()
    assert presence.names == ("AU04", "AU12", "AU26")
    first, last = read_predictor(tmp_path / "b.dat"), read_predictor(tmp_path / "c.dat")
    assert first is not None
    assert last is not None
    np.testing.assert_array_equal(presence.means, [first.means, first.means, last.means])
    assert presence.bias[1] == first.bias


def test_last_file_without_components_leaves_none(pack: Path, tmp_path: Path) -> None:
    copy = edited(pack, tmp_path, "model/clnf.txt", "ccnf_b.txt", "eye/ccnf_eye.txt")
    assert [scale.sigma_components for scale in load_landmark_model(copy).patches] == [{}, {}]  # type: ignore[union-attr]


def edited(pack: Path, tmp_path: Path, name: str, old: str, new: str) -> Path:
    """A copy of the pack in which one text file is changed."""
    copy = files.write_pack(tmp_path / "edited")
    text = (pack / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    return copy


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("model/main_clnf_general.txt", "left 0 1 2 3", "left 0 1 2 9", "pairs a landmark that does not exist"),
        ("model/main_clnf_general.txt", "left 0 1 2 3", "left 0 1 2", "cannot read the part line"),
        ("model/main_clnf_general.txt", "LandmarkDetector clnf.txt", "", "no LandmarkDetector line"),
        ("model/main_clnf_general.txt", "clnf.txt", "gone.txt", "gone.txt"),
        ("model/clnf.txt", "PDM pdm.txt", "", "names no PDM"),
        ("model/clnf.txt", "tris.txt", "gone.txt", "missing from .*: gone.txt"),
        ("model/clnf.txt", "ccnf_b.txt", "ccnf_b.txt ", "missing"),  # a trailing blank breaks an inner list
        ("model/clnf.txt", "ccnf_a.txt", "eye/ccnf_eye.txt", "fewer betas than the model's 2 sigma components"),
    ],
)
def test_wrong_lists(pack: Path, tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    copy = edited(pack, tmp_path, name, old, new)
    with pytest.raises(ModelError, match=message):
        load_landmark_model(copy)


def test_pdm_of_another_size(pack: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    copy = files.write_pack(tmp_path / "pack")
    (copy / "model" / "pdm.txt").write_text(files.pdm(rng, n=6))
    with pytest.raises(ModelError, match="its PDM has 6 landmarks, its patch experts 5"):
        load_landmark_model(copy)


def test_predictors_of_another_size(tmp_path: Path, rng: np.random.Generator) -> None:
    copy = files.write_pack(tmp_path / "pack")
    for name in files.PREDICTORS:
        (copy / "AU_predictors" / f"{name}.dat").write_bytes(files.predictor(rng, files.PREDICTORS[name], 4464))
    with pytest.raises(ModelError, match=f"have 4464 features, {files.FEATURES} expected"):
        load_au_predictors(copy)
    (copy / "AU_predictors" / "svr" / "AU_1.dat").write_bytes(files.predictor(rng, 0, 4465))
    with pytest.raises(ModelError, match="differ in their number of features"):
        load_au_predictors(copy)


def test_unknown_model_names_those_that_are_there(pack: Path) -> None:
    with pytest.raises(ModelError, match=r"main_nothing\.txt.*here: main_ceclm_general, main_clm_general, main_clnf"):
        load_landmark_model(pack, "main_nothing")


def test_without_validator(pack: Path, tmp_path: Path) -> None:
    copy = files.write_pack(tmp_path / "pack")
    (copy / "model" / "validator.txt").unlink()
    with pytest.raises(ModelError, match=r"missing from .*validator\.txt"):
        load_landmark_model(copy)
    assert load_landmark_model(copy, validator=False).validator is None
    assert read_model(pack / "model" / "main_clnf_general.txt").validator is not None


def test_cen_files_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = files.write_pack(tmp_path / "pack")
    elsewhere = tmp_path / "cen"
    elsewhere.mkdir()
    (copy / "model" / "cen_patches_b.dat").rename(elsewhere / "cen_patches_b.dat")
    with pytest.raises(ModelError, match=r"cen_patches_b\.dat.*\$PYFACEAU_CEN"):
        load_landmark_model(copy, "main_ceclm_general")
    monkeypatch.setenv("PYFACEAU_CEN", str(elsewhere))
    assert [p.scale for p in load_landmark_model(copy, "main_ceclm_general").patches] == [0.25, 0.5]
