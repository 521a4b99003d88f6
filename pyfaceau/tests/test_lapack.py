"""The inverse in LAPACK's roundings: its twin, and that it is one. Recorded response maps prove the rules."""

from __future__ import annotations

import numpy as np
import pytest

from pyfaceau._lapack import lapack_inverse
from pyfaceau.tests import lapack_twin as twin


def definite(size: int) -> np.ndarray:
    rows = np.random.default_rng(size).normal(size=(size, 2 * size)).astype(np.float32)
    return rows @ rows.T


@pytest.mark.parametrize("size", [1, 9, 25, 33, 49, 121, 169])
def test_the_kernel_equals_the_twin(size: int) -> None:
    a = definite(size)
    a = np.tril(a) + np.tril(a, -1).T
    found = np.empty_like(a)
    assert lapack_inverse(a.copy(), found)
    np.testing.assert_array_equal(found, twin.inverse(a))


@pytest.mark.parametrize("size", [2, 17, 40, 100, 225])
def test_it_is_the_inverse(size: int) -> None:
    a = definite(size)
    found = np.empty_like(a)
    assert lapack_inverse(a.copy(), found)
    np.testing.assert_allclose(found, np.linalg.inv(a.astype(float)), rtol=0, atol=1e-4 * np.abs(found).max())


@pytest.mark.parametrize("bad", [0, 40, 120])
def test_no_inverse_of_what_is_not_definite(bad: int) -> None:
    a = np.eye(121, dtype=np.float32)
    a[bad, bad] = -1
    assert not lapack_inverse(a, np.empty_like(a))
