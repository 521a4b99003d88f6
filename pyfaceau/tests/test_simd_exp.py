"""The C library's exponential, and the logistic function with it."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform

import numpy as np
import pytest
from numba.core.errors import TypingError

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES
from pyfaceau._simd_exp import exact_exponential, exact_logistic
from pyfaceau.tests.cen_twin import logistic


@kernel
def apply(values):
    for i in range(0, values.size, LANES):
        exact_logistic(values, i)


@kernel
def powers_of(values):
    for i in range(0, values.size, LANES):
        exact_exponential(values, i)


def material() -> np.ndarray:
    rng = np.random.default_rng(0)
    near = np.concatenate([rng.normal(size=20_000) * 4, rng.uniform(-110, 110, 4_000)])
    return np.concatenate([near, [0, -0.0, 88.7, 88.8, -88.7, -88.8, 1e30, -1e30]]).astype(np.float32)


def test_logistic_differs_from_the_correctly_rounded_one_seldom_and_by_little() -> None:
    """In the last place, for one exponential in 1600."""
    found, x = material(), material()
    apply(found)
    expected = logistic(x)
    assert (found != expected).mean() < 1e-3
    np.testing.assert_allclose(found, expected, rtol=2.4e-7, atol=0)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, whose expf it is")
def test_logistic_has_the_exponential_of_the_c_library() -> None:
    """To the bit."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    library.expf.restype, library.expf.argtypes = ctypes.c_float, [ctypes.c_float]
    found, x = material(), material()
    apply(found)
    powers = np.array([library.expf(-float(value)) for value in x], np.float32)
    np.testing.assert_array_equal(found, np.float32(1) / (np.float32(1) + powers))
    small = np.concatenate([[-np.inf, -1e30, np.nan], np.linspace(-110, -80, 5_000), x[abs(x) < 88]])
    small = small[: len(small) // LANES * LANES].astype(np.float32)
    found = small.copy()
    powers_of(found)
    np.testing.assert_array_equal(found, np.array([library.expf(float(value)) for value in small], np.float32))


def test_other_types_do_not_compile() -> None:
    with pytest.raises(TypingError):
        apply(np.zeros(8))
