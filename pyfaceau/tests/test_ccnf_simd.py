"""Vector code of the CCNF responses and of the areas against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from pyfaceau._jit import kernel
from pyfaceau.landmarks.areas import _nearest
from pyfaceau.landmarks.experts._ccnf_simd import GROUP, centre_blocks, neuron_products
from pyfaceau.landmarks.experts._logistic_simd import add_quotients, denominators, lowest


@kernel
def _denominators(z, first, count, out):
    denominators(z, first, count, out)


@kernel
def _quotients(numerator, divisors, first, count, sums):
    add_quotients(numerator, divisors, first, count, sums)


@kernel
def _lowest(values, count):
    return lowest(values, count)


@kernel
def _integers(values, out):
    for i in range(values.shape[0]):
        out[i] = _nearest(values[i])


_centre_8, _centre_16 = centre_blocks(4, lanes=8), centre_blocks(2, lanes=16)
_alone_8, _alone_16 = neuron_products(False, lanes=8), neuron_products(False, lanes=16)
_last_8, _last_16 = neuron_products(True, lanes=8), neuron_products(True, lanes=16)


@kernel
def _by_eights(columns, stride, window, weights, centred, inverses, z):
    _centre_8(columns, stride, window, 3, centred, inverses)
    for v in range(4):
        _alone_8(centred, inverses, v, 0, weights, 0, z, 8 * v, 32, 0, 0, 0)
    _last_8(centred, inverses, 3, 21, weights, 0, z, 24, 32, 32 * GROUP, 0, 0)


@kernel
def _by_sixteens(columns, stride, window, weights, centred, inverses, z):
    _centre_16(columns, stride, window, 3, centred, inverses)
    for v in range(2):
        _alone_16(centred, inverses, v, 0, weights, 0, z, 16 * v, 32, 0, 0, 0)
    _last_16(centred, inverses, 1, 21, weights, 0, z, 16, 32, 32 * GROUP, 0, 0)


def test_sums_of_neurons_do_not_depend_on_the_width_of_vectors() -> None:
    """Both widths on every processor: vectors that it does not have are taken apart."""
    rng = np.random.default_rng(0)
    window, stride = 7, 7 * 17
    columns = rng.uniform(0, 255, 11 * stride + 40).astype(np.float32)
    weights = rng.standard_normal(8 * 122).astype(np.float32)
    found = []
    for sums in (_by_eights, _by_sixteens):
        z, inverses = np.zeros(32 * GROUP + 8, np.float32), np.zeros(32, np.float32)
        sums(columns, stride, window, weights, np.zeros(32 * 121, np.float32), inverses, z)
        found.append(np.concatenate([z, inverses]))
    assert (found[0] != 0).sum() > 250
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("count", [1, 32, 63])
def test_denominators_of_the_logistic_function(count: int) -> None:
    """To 1e-13, of small and of huge arguments; nothing beyond the last 32 is written."""
    z = np.random.default_rng(count).normal(0, 8, 80).astype(np.float32)
    z[3:8] = 0, 600, -600, 1e30, -1e30
    out, written = np.full(80, -1.0), -(-count // 32) * 32
    _denominators(z, 3, count, out)
    expected = 1 + np.exp(-np.clip(z[3 : 3 + written].astype(np.float64), -700, 700))
    np.testing.assert_allclose(out[:written], expected, rtol=1e-13)
    assert (out[written:] == -1).all()


@pytest.mark.parametrize("largest", [0.1, 5, 690])
def test_quotients_are_added_in_float64_and_rounded(largest: float) -> None:
    """Of denominators of the logistic function, up to the greatest ones."""
    rng = np.random.default_rng(0)
    divisors, sums = 1 + np.exp(rng.uniform(-largest, largest, 4000)), np.zeros(4000, np.float32)
    expected = sums.copy()
    for numerator in rng.uniform(1e-4, 3, 50):
        expected[:3992] = (expected[:3992] + numerator / divisors[5:3997]).astype(np.float32)
        _quotients(numerator, divisors, 5, 3992, sums)
    np.testing.assert_array_equal(sums, expected)


@pytest.mark.parametrize("at", [0, 5, 23, 24])
def test_lowest(at: int) -> None:
    values = np.arange(1, 33, dtype=np.float32)
    values[at] = -2
    assert _lowest(values, 24) == (-2 if at < 24 else 0)


def test_nearest_integers_are_those_of_rint() -> None:
    values = np.concatenate([np.arange(-9, 9, 0.25), np.random.default_rng(1).uniform(-1e9, 1e9, 1000)])
    values = np.concatenate([values, np.rint(values[-500:]) + 0.5])
    found = np.empty(len(values), np.int32)
    _integers(values, found)
    np.testing.assert_array_equal(found, np.rint(values).astype(np.int32))
