"""How kernels are compiled, kept and loaded: the ones that kernels call inside these, in one file each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numba.core import event

from pyfaceau._dispatch import Kernel

# A module of its own, as kernels are told apart by module, name and line.
SOURCE = """
import sys
from pathlib import Path

import numpy as np

from pyfaceau import _jit

_jit.kernel_cache_dir = lambda: Path(sys.argv[1] if __name__ == "__main__" else FOLDER)
kernel = _jit.kernel


@kernel
def root(x):
    if x < 0:
        raise ValueError("below zero", x)
    return np.sqrt(x)


@kernel
def roots(values, out):
    for i in range(values.shape[0]):
        out[i] = root(values[i])


@kernel
def twice(values, out):
    scratch = np.empty_like(values)
    roots(values, scratch)
    roots(scratch, out)
"""


class Kernels:
    """The functions of SOURCE, made anew, in one cache folder."""

    def __init__(self, folder: Path) -> None:
        space: dict[str, object] = {"__name__": "kernels_of_a_test", "FOLDER": str(folder)}
        exec(compile(SOURCE, "<kernels of a test>", "exec"), space)
        self.root, self.roots, self.twice = (self._kernel(space[name]) for name in ("root", "roots", "twice"))

    @staticmethod
    def _kernel(value: object) -> Kernel:
        assert isinstance(value, Kernel)
        return value


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Kernels]:
    from pyfaceau import _jit

    monkeypatch.setattr(_jit, "kernel_cache_dir", _jit.kernel_cache_dir)  # SOURCE replaces it
    return lambda: Kernels(tmp_path / "kept")


def compiled(call: Callable[[], object]) -> list[str]:
    """Names of the kernels that ``call`` compiles."""
    names: list[str] = []

    class Listener(event.Listener):  # type: ignore[misc]
        def on_start(self, event: event.Event) -> None:
            if isinstance(event.data["dispatcher"], Kernel):  # NumPy's functions are compiled as well
                names.append(event.data["dispatcher"].py_func.__name__)

        def on_end(self, event: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        call()
    return names


def kept(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in folder.rglob("*.nbc"))


def fourth_root(kernel: Kernel) -> float:
    out = np.empty(1)
    kernel(np.array([81.0]), out)
    return float(out[0])


def test_a_kernel_called_by_kernels_is_compiled_once_and_kept_only_inside_them(
    make: Callable[[], Kernels], tmp_path: Path
) -> None:
    kernels = make()
    assert sorted(compiled(lambda: fourth_root(kernels.twice))) == ["root", "roots", "twice"]
    assert kept(tmp_path) == ["kernels_of_a_test.twice"]
    assert fourth_root(kernels.twice) == 3


def test_it_can_be_called_from_python_too(make: Callable[[], Kernels], tmp_path: Path) -> None:
    kernels = make()
    fourth_root(kernels.twice)
    assert compiled(lambda: fourth_root(kernels.roots)) == ["roots"]
    assert kept(tmp_path) == ["kernels_of_a_test.roots", "kernels_of_a_test.twice"]
    assert (fourth_root(kernels.roots), fourth_root(kernels.twice), kernels.root(9.0)) == (9, 3, 3)


def test_a_kept_kernel_is_loaded_not_compiled(make: Callable[[], Kernels]) -> None:
    fourth_root(make().twice)
    again = make()
    assert compiled(lambda: fourth_root(again.twice)) == []
    assert fourth_root(again.twice) == 3


def test_a_loaded_kernel_can_be_called_by_a_kernel(make: Callable[[], Kernels]) -> None:
    fourth_root(make().roots)
    again = make()
    assert compiled(lambda: fourth_root(again.roots)) == []
    assert sorted(compiled(lambda: fourth_root(again.twice))) == ["root", "roots", "twice"]
    assert (fourth_root(again.roots), fourth_root(again.twice)) == (9, 3)


def test_other_types_get_a_file_of_their_own(make: Callable[[], Kernels], tmp_path: Path) -> None:
    kernels = make()
    frozen = np.array([81.0])
    frozen.flags.writeable = False
    for values in (np.array([81.0]), frozen, np.array([81], np.float32)):
        kernels.twice(values, np.empty(1))
    assert kept(tmp_path) == ["kernels_of_a_test.twice"] * 3


def test_errors_of_inner_kernels_arrive(make: Callable[[], Kernels]) -> None:
    for kernels in (make(), make()):  # compiled, then loaded
        with pytest.raises(ValueError, match="below zero"):
            kernels.twice(np.array([-1.0]), np.empty(1))


@pytest.mark.parametrize("damage", [b"", b"no pickle", None])
def test_damaged_files_are_written_anew(make: Callable[[], Kernels], tmp_path: Path, damage: bytes | None) -> None:
    fourth_root(make().twice)
    (path,) = tmp_path.rglob("*.nbc")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    again = make()
    assert "twice" in compiled(lambda: fourth_root(again.twice))
    assert fourth_root(again.twice) == 3
    assert compiled(lambda: fourth_root(make().twice)) == []


def test_loading_does_not_prepare_to_compile(tmp_path: Path) -> None:
    """Numba would import all that it can compile, and SciPy, before it loads the first kernel."""
    script = tmp_path / "script.py"
    script.write_text(
        SOURCE + "\nout = np.empty(1)\ntwice(np.array([81.0]), out)\nassert out[0] == 3\n"
        'print("numba.np.arraymath" in sys.modules, "scipy.linalg" in sys.modules)\n'
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, str(script), str(tmp_path / "kept")]
    environment = os.environ | {"PYTHONPATH": str(root)}
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
        for _ in range(2)
    ]
    assert said[0][0] == "True"
    assert said[1] == ["False", "False"]
