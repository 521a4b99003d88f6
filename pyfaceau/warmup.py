"""Compiling the kernels: once after an installation, announced, and never silently in the middle of a run."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numba.core.event
import numpy as np

from pyfaceau._jit import kernel_cache_dir

if TYPE_CHECKING:
    from pyfaceau.pipeline import Pipeline

_MARK = "compiled-"


def compiled_kinds() -> set[str]:
    """Kinds of landmark models ("ccnf", "cen", "svr") whose kernels a finished `warm_up` has compiled."""
    folder = kernel_cache_dir()
    return {path.name.removeprefix(_MARK) for path in folder.glob(f"{_MARK}*")} if folder.is_dir() else set()
