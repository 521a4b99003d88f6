"""Search order, import, verify, pack and validate, on packs written for the test and on the real files."""

from __future__ import annotations

import argparse
import hashlib
import lzma
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pyfaceau.errors import ModelError
from pyfaceau.tests import weights_files as files
from pyfaceau.tests.shared import OPENFACE, SHARED, needs_shared
from pyfaceau.weights import registry, source
from pyfaceau.weights.cli import add_models_parser
from pyfaceau.weights.install import MANIFEST, import_models, verify_models
from pyfaceau.weights.pack import pack_models, unpacked
from pyfaceau.weights.source import (
    ModelSource,
    choose_landmark_model,
    find_models,
    landmark_models,
    models_cache,
)
from pyfaceau.weights.store import load_au_predictors, load_landmark_model
from pyfaceau.weights.validate import validate_models


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and no weights beside the checkout."""
    monkeypatch.setenv("PYFACEAU_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PYFACEAU_MODELS", raising=False)
    monkeypatch.delenv("PYFACEAU_CEN", raising=False)
    monkeypatch.setattr(source, "beside_checkout", lambda: tmp_path / "shared" / "openface")


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return files.write_pack(tmp_path / "pack")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def published(pack: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """As if the files of the test's pack were what OpenFace publishes, the last CEN file apart."""
    digests = {}
    for path in sorted(pack.rglob("*.*")):
        name = path.relative_to(pack).as_posix()
        if path.is_file() and not path.name.startswith("cen_patches"):
            prefix = "LandmarkDetector/" if name.startswith("model/") else "FaceAnalyser/"
            digests[prefix + name] = digest(path)
    monkeypatch.setattr(registry, "_published", lambda: digests)
    cen = tuple(
        registry.CENFile(f"model/{name}", (pack / "model" / name).stat().st_size, b"", ())
        for name in ("cen_patches_a.dat", "cen_patches_b.dat")
    )
    monkeypatch.setattr(registry, "CEN_FILES", cen)
    return registry.official_digests()


def models(*args: str) -> int:
    """The exit code of `pyfaceau models ARGS`."""
    parser = argparse.ArgumentParser()
    add_models_parser(parser.add_subparsers())
    parsed = parser.parse_args(["models", *args])
    code: int = parsed.run(parsed)
    return code


def test_search_order(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"no OpenFace weights found in .*run `pyfaceau models fetch`"):
        find_models()
    beside = shutil.copytree(pack, tmp_path / "shared" / "openface")
    assert find_models().path == beside
    cache = shutil.copytree(pack, models_cache())
    assert (find_models().path, find_models().origin) == (cache, "user cache")
    variable = shutil.copytree(pack, tmp_path / "variable")
    monkeypatch.setenv("PYFACEAU_MODELS", str(variable))
    assert find_models().path == variable
    assert "PYFACEAU_MODELS" in find_models().origin
    assert find_models(pack).path == pack
    assert find_models(str(pack)).path == pack


def test_named_place_without_models_is_an_error(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(pack, models_cache())
    with pytest.raises(ModelError, match="nowhere: no such models folder"):
        find_models(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty: holds no OpenFace models"):
        find_models(tmp_path / "empty")
    monkeypatch.setenv("PYFACEAU_MODELS", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match=r"nowhere.*\$PYFACEAU_MODELS"):
        find_models()


@pytest.mark.parametrize("lost", ["mtcnn_detector/RNet.dat", "mtcnn_detector/MTCNN_detector.txt", "pdm.txt"])
def test_half_filled_cache_is_passed_over(lost: str, pack: Path, tmp_path: Path) -> None:
    cache = shutil.copytree(pack, models_cache())
    (cache / "model" / lost).unlink()
    beside = shutil.copytree(pack, tmp_path / "shared" / "openface")
    assert find_models().path == beside


@pytest.mark.parametrize("layout", ["", "build/bin", "lib/local"])
def test_layouts_of_openface(layout: str, pack: Path, tmp_path: Path) -> None:
    root = tmp_path / "OpenFace"
    in_repository = layout == "lib/local"
    shutil.copytree(pack / "model", root / layout / ("LandmarkDetector/model" if in_repository else "model"))
    units = "FaceAnalyser/AU_predictors" if in_repository else "AU_predictors"
    shutil.copytree(pack / "AU_predictors", root / layout / units)
    found = find_models(root)
    assert load_landmark_model(found).pdm.n == files.N
    assert load_au_predictors(found).pdm.n == files.N


def test_choice_of_the_landmark_model(pack: Path) -> None:
    found = ModelSource(pack, "test")
    assert choose_landmark_model(found) == "main_ceclm_general"
    (pack / "model" / "cen_patches_a.dat").unlink()
    assert [path.name for path in landmark_models(found)["main_ceclm_general"]] == ["cen_patches_a.dat"]
    assert choose_landmark_model(found) == "main_clnf_general"
    assert choose_landmark_model(found, "clm") == "main_clm_general"
    assert choose_landmark_model(found, "ceclm") == "main_ceclm_general"  # loading it then says what is missing
    assert choose_landmark_model(found, "main_mine") == "main_mine"
    (pack / "model" / "pdm.txt").unlink()
    with pytest.raises(ModelError, match="no landmark model there is complete"):
        choose_landmark_model(found)


def test_demo_only_by_name(tmp_path: Path, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="--models demo"):
        find_models()
    monkeypatch.setattr(source, "demo_folders", lambda: [tmp_path / "golden"])
    with pytest.raises(ModelError, match="golden/demo/pack"):
        find_models("demo")
    shutil.copytree(pack, tmp_path / "golden")
    assert find_models("demo").path == tmp_path / "golden"
    assert "demo clips only" in find_models("demo").origin
    with pytest.raises(ModelError, match="--models demo"):
        find_models()
    monkeypatch.setenv("PYFACEAU_MODELS", "demo")
    assert find_models().path == tmp_path / "golden"


def test_import(published: dict[str, str], pack: Path, tmp_path: Path) -> None:
    (pack / "model" / "pdm.txt").write_text("changed")
    (pack / "model" / "tris.txt").unlink()
    target = tmp_path / "to"
    report = import_models(find_models(pack), target)
    assert report.damaged == ["model/pdm.txt"]
    assert report.absent == ["model/tris.txt"]
    assert len(report.imported) == len(published) - 2 + 2
    assert not (target / "model" / "pdm.txt").exists()
    for name in report.imported:
        assert (target / name).read_bytes() == (pack / name).read_bytes()
    assert not list(target.rglob("*.part"))
    again = import_models(find_models(pack), target)
    assert (again.imported, len(again.present)) == ([], len(report.imported))


def test_import_of_cen_files_that_do_not_parse(published: dict[str, str], pack: Path, tmp_path: Path) -> None:
    path = pack / "model" / "cen_patches_b.dat"
    data = bytearray(path.read_bytes())
    data[8] = 3  # another number of views, the same size
    path.write_bytes(data)
    shutil.move(pack / "model" / "cen_patches_a.dat", pack / "cen_patches_a.dat")  # as users keep their downloads
    report = import_models(find_models(pack), tmp_path / "to")
    assert report.damaged == ["model/cen_patches_b.dat"]
    assert (tmp_path / "to" / "model" / "cen_patches_a.dat").is_file()
    assert not (tmp_path / "to" / "model" / "cen_patches_b.dat").exists()
    assert not list((tmp_path / "to").rglob("*.part"))


def test_import_of_downloaded_cen_files(published: dict[str, str], pack: Path, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    for path in (pack / "model").glob("cen_patches_*.dat"):
        shutil.copy(path, downloads)
    assert models("import", str(downloads), "--to", str(tmp_path / "to")) == 0
    assert len(list((tmp_path / "to" / "model").glob("cen_patches_*.dat"))) == 2
    with pytest.raises(ModelError, match="no such models folder"):
        models("import", str(tmp_path / "nowhere"), "--to", str(tmp_path / "to"))


def test_import_refuses_other_folders(published: dict[str, str], pack: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="into itself"):
        import_models(find_models(pack), pack)
    (tmp_path / "other" / "model").mkdir(parents=True)
    with pytest.raises(ModelError, match="holds none of OpenFace"):
        import_models(find_models(tmp_path / "other"), tmp_path / "to")


def test_verify(published: dict[str, str], pack: Path, tmp_path: Path) -> None:
    import_models(find_models(pack), models_cache())
    found = find_models()
    report = verify_models(found)
    assert (report.damaged, report.missing, report.unknown, report.cen_missing) == ([], [], [], [])
    assert len(report.intact) == len(published) + 2
    assert models("verify") == 0
    (found.path / "model" / "early.txt").write_bytes(b"1 2 3")
    (found.path / "model" / "mine.txt").write_bytes(b"")
    cen = found.path / "model" / "cen_patches_a.dat"
    cen.write_bytes(cen.read_bytes()[:-1] + b"!")  # noticed by the digest noted at the import
    assert verify_models(found).damaged == ["model/early.txt", "model/cen_patches_a.dat"]
    assert verify_models(found).unknown == ["model/mine.txt"]
    assert models("verify", "--allow-missing") == 2


def test_verify_exit_code_for_missing_files(
    published: dict[str, str], pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pack / "AU_predictors" / "tris.txt").unlink()
    assert models("verify", "--models", str(pack)) == 2
    assert "AU_predictors/tris.txt" in capsys.readouterr().out
    assert models("verify", "--models", str(pack), "--allow-missing") == 0


def test_verify_of_other_weights(pack: Path) -> None:
    (pack / "model" / "tris_68.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"holds other weights than OpenFace 2\.2's"):
        models("verify", "--models", str(pack))


def test_pack_round_trip(pack: Path, tmp_path: Path) -> None:
    (pack / "model" / ".hidden").write_text("left out")
    (pack / "README").write_text("left out")
    target = tmp_path / "out" / "mine.tar.xz"
    names = pack_models(find_models(pack), target)
    assert "model/cen_patches_a.dat" in names
    assert not any("hidden" in name or "README" in name for name in names)
    found = find_models(target)
    for name in names:
        assert (found.path / name).read_bytes() == (pack / name).read_bytes()
    assert verify_models(found).intact == names
    assert load_landmark_model(found).pdm.n == files.N
    assert validate_models(found).errors == []
    assert find_models(target).path == found.path
    assert not [path for path in found.path.parent.iterdir() if path.name.startswith(".")]


def test_pack_is_deterministic(pack: Path, tmp_path: Path) -> None:
    other = shutil.copytree(pack, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    pack_models(find_models(pack), tmp_path / "a.tar.xz")
    pack_models(find_models(other), tmp_path / "b.tar.xz")
    assert (tmp_path / "a.tar.xz").read_bytes() == (tmp_path / "b.tar.xz").read_bytes()


def test_changed_pack_is_unpacked_anew(pack: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine.tar.xz"
    pack_models(find_models(pack), target)
    before = unpacked(target)
    (pack / "model" / "new.txt").write_text("1")
    pack_models(find_models(pack), target)
    assert unpacked(target) != before
    assert (unpacked(target) / "model" / "new.txt").is_file()


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("change", [_cut, _flip, lambda data: b"hello", lambda data: b""])
def test_damaged_pack(change: Callable[[bytes], bytes], pack: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine.tar.xz"
    pack_models(find_models(pack), target)
    target.write_bytes(change(target.read_bytes()))
    with pytest.raises(ModelError, match=r"mine\.tar\.xz"):
        find_models(target)
    assert list((tmp_path / "cache" / "packs").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "model/../../evil.txt", "other/evil.txt"])
def test_pack_with_paths_outside(name: str, tmp_path: Path) -> None:
    (tmp_path / "evil.txt").write_text("1")
    (tmp_path / MANIFEST).write_text(f"{digest(tmp_path / 'evil.txt')}  {name}\n")
    with lzma.open(tmp_path / "bad.tar.xz", "wb") as raw, tarfile.open(fileobj=raw, mode="w") as archive:
        archive.add(tmp_path / MANIFEST, MANIFEST)
        archive.add(tmp_path / "evil.txt", name)
    with pytest.raises(ModelError, match="no path of a model file"):
        find_models(tmp_path / "bad.tar.xz")


def test_pack_with_files_that_its_list_does_not_name(pack: Path, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(f"{digest(pack / 'model' / 'pdm.txt')}  model/pdm.txt\n")
    with lzma.open(tmp_path / "bad.tar.xz", "wb") as raw, tarfile.open(fileobj=raw, mode="w") as archive:
        archive.add(tmp_path / MANIFEST, MANIFEST)
        archive.add(pack / "model" / "tris.txt", "model/tris.txt")
    with pytest.raises(ModelError, match=r"'model/tris\.txt', which its list of digests does not name"):
        find_models(tmp_path / "bad.tar.xz")


def test_pack_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty" / "model").mkdir(parents=True)
    with pytest.raises(ModelError, match="nothing to pack"):
        pack_models(find_models(tmp_path / "empty"), tmp_path / "x.tar.xz")
    assert not (tmp_path / "x.tar.xz").exists()


def test_validate(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = validate_models(find_models(pack))
    assert report.errors == []
    assert len(report.usable) == 3 + 1 + 2
    assert report.incomplete == {}
    assert models("validate", str(pack)) == 0
    (pack / "model" / "svr.txt").write_text("1 2 3")
    (pack / "model" / "cen_patches_a.dat").unlink()
    (pack / "model" / "note.txt").write_text("hello")
    (pack / "model" / "ccnf_patches_9_mine.txt").write_text("not one")  # named by no list, but a model file
    report = validate_models(find_models(pack))
    wrong = [Path(error.partition(": ")[0]).name for error in report.errors]
    assert wrong == ["svr.txt", "ccnf_patches_9_mine.txt"]
    assert list(report.incomplete) == ["main_ceclm_general"]
    assert report.unread == ["model/note.txt"]
    capsys.readouterr()
    assert models("validate", str(pack)) == 2
    assert "svr.txt" in capsys.readouterr().out


def test_list(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pack / "model" / "cen_patches_a.dat").unlink()
    assert models("list", "--models", str(pack)) == 0
    out = capsys.readouterr().out
    assert "main_ceclm_general: lacks cen_patches_a.dat" in out
    assert "used by default: main_clnf_general" in out
    assert "non-commercial" in out
    with pytest.raises(ModelError):
        models("list")


@needs_shared
def test_real_files(tmp_path: Path) -> None:
    found = find_models(OPENFACE)
    report = verify_models(found)
    assert len(report.intact) == 177
    assert report.damaged == []
    assert all("multi_pie" in name for name in report.missing)
    assert len(report.cen_missing) == 4
    validation = validate_models(found)
    assert validation.errors == []
    assert set(validation.incomplete) == {"main_ceclm_general", "main_clnf_demos", "main_clnf_multi_pie"}
    assert validation.unread == ["model/haarAlign.txt"]


@needs_shared
def test_demo_pack_as_one_file(tmp_path: Path) -> None:
    target = tmp_path / "demo.tar.xz"
    pack_models(find_models(SHARED / "demo" / "pack"), target)
    assert target.stat().st_size < 800_000
    found = find_models(target)
    assert choose_landmark_model(found) == "main_ceclm_general"
    assert validate_models(found).errors == []
