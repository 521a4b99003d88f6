"""The kernel decorator: IEEE arithmetic in the order written, no GIL, a cache that never serves stale code."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import config
from numba.core.dispatcher import Dispatcher

import pyfaceau
from pyfaceau import _jit, warmup


def plain_sum(values):
    total = np.float32(0)
    for i in range(values.shape[0]):
        total += values[i]
    return total


def divide(a, b):
    return a / b


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(_jit, "kernel_cache_dir", lambda: tmp_path)
    return tmp_path


def all_kernels() -> dict[str, Dispatcher]:
    found = {}
    for info in pkgutil.walk_packages(pyfaceau.__path__, "pyfaceau."):
        if info.name.startswith("pyfaceau.tests") or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if isinstance(value, Dispatcher) and value.__module__ == info.name:
                found[f"{info.name}.{name}"] = value
    return found


# --- what a kernel does -----------------------------------------------------------------------------


def test_sums_keep_the_order_written(own_cache: Path) -> None:
    assert _jit.kernel(plain_sum)(np.array([1e8, 1, -1e8] * 8, np.float32)) == 0
    assert _jit.kernel(plain_sum)(np.array([1e8, -1e8, 1], np.float32)) == 1


def test_division_by_zero_is_infinite_not_an_error(own_cache: Path) -> None:
    compiled = _jit.kernel(divide)
    assert compiled(1.0, 0.0) == np.inf
    assert np.isnan(compiled(0.0, 0.0))


def test_options_reach_the_compiler(own_cache: Path) -> None:
    assert _jit.kernel(fastmath={"contract"})(plain_sum).targetoptions["fastmath"] == {"contract"}
    assert not _jit.kernel(plain_sum).targetoptions.get("fastmath")


def test_kernels_lie_in_the_cache_folder(own_cache: Path) -> None:
    _jit.kernel(divide)(1.0, 2.0)
    assert list(own_cache.rglob("*divide*.nbc"))


def test_unknown_options_are_refused(own_cache: Path) -> None:
    with pytest.raises(Exception, match="no_such_option"):
        _jit.kernel(divide, no_such_option=1)(1.0, 2.0)


def test_every_kernel_of_the_package_releases_the_gil_and_is_cached() -> None:
    kernels = all_kernels()
    assert len(kernels) > 30
    for name, compiled in kernels.items():
        assert compiled.targetoptions.get("nogil") is True, name
        assert compiled.targetoptions.get("error_model") == "numpy", name
        assert Path(vars(compiled)["_cache"].cache_path).is_relative_to(_jit.kernel_cache_dir()), name


def test_kernels_of_the_shape_model_are_strict() -> None:
    """Only those whose roundings the reference leaves open may reorder sums."""
    kernels = all_kernels()
    for name in ("pdm.project", "pdm.jacobian", "pdm.update_rigid", "areas.similarity", "areas._cut_area"):
        assert not kernels[f"pyfaceau.landmarks.{name}"].targetoptions.get("fastmath"), name
    for name in ("cholesky_solve", "svd_square", "matrix_to_axis_angle", "axis_angle_to_matrix"):
        assert not kernels[f"pyfaceau._linalg.{name}"].targetoptions.get("fastmath"), name


# --- where the cache is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"PYFACEAU_CACHE": "/somewhere"}, Path("/somewhere")),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/pyfaceau")),
        ("linux", {}, Path("~/.cache/pyfaceau")),
        ("darwin", {"XDG_CACHE_HOME": "/xdg"}, Path("~/Library/Caches/pyfaceau")),
        ("win32", {"LOCALAPPDATA": "/local"}, Path("/local/pyfaceau/cache")),
        ("win32", {"PYFACEAU_CACHE": "~/mine"}, Path("~/mine")),
    ],
)
def test_cache_folder(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: Path
) -> None:
    for name in ("PYFACEAU_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert _jit.user_cache_dir() == expected.expanduser()


@pytest.fixture
def folder_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Path]:
    """Cache folder of a package in ``tmp_path``, worked out anew."""
    monkeypatch.setattr(_jit, "__file__", str(tmp_path / "_jit.py"))
    return lambda: _jit.kernel_cache_dir.__wrapped__()


def test_edited_kernels_get_a_new_cache_folder(tmp_path: Path, folder_of: Callable[[], Path]) -> None:
    """Numba would not notice that a kernel called by another kernel has changed."""
    source, other = tmp_path / "sub" / "kernels.py", tmp_path / "plain.py"
    source.parent.mkdir()
    source.write_text("from pyfaceau._jit import kernel\n# one\n")
    other.write_text("from pyfaceau._jit import kernel_cache_dir\n")
    before = folder_of()
    assert before.parent == _jit.user_cache_dir() / "kernels"
    other.write_text("x = 2\n")
    assert folder_of() == before
    source.write_text("from pyfaceau._jit import kernel\n# two\n")
    changed = folder_of()
    assert changed != before
    source.rename(tmp_path / "moved.py")
    assert folder_of() not in (before, changed)


def test_another_numba_or_python_gets_another_cache_folder(
    monkeypatch: pytest.MonkeyPatch, folder_of: Callable[[], Path]
) -> None:
    before = folder_of()
    monkeypatch.setattr(numba, "__version__", "0.0.1")
    other_numba = folder_of()
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    assert len({before, other_numba, folder_of()}) == 3


def test_what_another_processor_has_compiled_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(warmup, "kernel_cache_dir", lambda: tmp_path)
    (tmp_path / f"compiled-ccnf-au@{_jit.processor()}").touch()
    assert warmup.compiled_kinds() == {"ccnf-au"}
    monkeypatch.setattr(config, "CPU_NAME", "another")
    assert warmup.compiled_kinds() == set()
