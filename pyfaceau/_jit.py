"""The one decorator of all compiled kernels.

Kernels are private, release the GIL, and are cached on disk. Numba does not notice when a kernel
that another kernel calls has changed, so the cache folder carries a digest of all sources that hold
kernels: an edited or upgraded package never meets machine code of its former self.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding
from numba.core import config


def user_cache_dir() -> Path:
    """Folder for what pyfaceau may rebuild at any time: ``$PYFACEAU_CACHE`` or the platform's own."""
    if override := os.environ.get("PYFACEAU_CACHE"):
        return Path(override).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pyfaceau"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "pyfaceau" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pyfaceau"


# Sources that make a difference to machine code: kernels, what they are built of, and how they are compiled.
_HOLDS_KERNELS = re.compile(rb"import kernel\b|@intrinsic|\(CPUDispatcher\)")


@cache
def kernel_cache_dir() -> Path:
    """Folder of the compiled kernels of exactly these sources, this Numba and this Python."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    root = Path(__file__).parent
    for source in sorted(root.rglob("*.py")):
        if "tests" in source.relative_to(root).parts:
            continue
        text = source.read_bytes()
        if _HOLDS_KERNELS.search(text):
            digest.update(source.relative_to(root).as_posix().encode())
            digest.update(text)
    return user_cache_dir() / "kernels" / digest.hexdigest()[:16]


def target() -> tuple[str, str]:
    """Name and features ("+avx2,-avx512f,...") of the processor that Numba compiles for.

    This one's, but for what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say, each of which leaves the other as it is.
    """
    name, features = (getattr(config, setting, None) for setting in ("CPU_NAME", "CPU_FEATURES"))
    name = binding.get_host_cpu_name() if name is None else name
    return name, binding.get_host_cpu_features().flatten() if features is None else features


def processor() -> str:
    """Digest of the processor that kernels are compiled for: several may share a cache, each with its own files."""
    return hashlib.sha256(" ".join(target()).encode()).hexdigest()[:8]


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a kernel on its first call: ``nogil``, cached on disk, IEEE arithmetic in the order written.

    Pass ``fastmath={"contract"}`` where a multiply and an add may become one fused operation, and
    ``fastmath={"contract", "reassoc", "nsz"}`` where sums may be vectorised (float noise of 1e-7).
    """
    if function is None:
        return lambda f: kernel(f, **options)
    from pyfaceau._dispatch import Kernel

    settings = {"nopython": True, "nogil": True, "error_model": "numpy", "boundscheck": None, **options}
    settings["no_cfunc_wrapper"] = True  # nothing calls kernels from C
    return Kernel(function, settings, kernel_cache_dir())
