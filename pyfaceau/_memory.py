"""Work space of kernels."""

from __future__ import annotations

import numpy as np

from pyfaceau._jit import kernel
from pyfaceau._simd import LINE


@kernel
def aligned(count):
    """Uninitialised float32 array [count] that starts a cache line: vectors must not straddle two."""
    memory = np.empty(count + LINE // 4, np.float32)
    start = (LINE - memory.ctypes.data % LINE) % LINE // 4
    return memory[start : start + count]
