"""The vector intrinsics of dense layers against NumPy."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numba.core.errors import TypingError

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES
from pyfaceau._simd_layers import claim, layer_tile, move, normalise

_layer_1x1, _layer_4x3, _layer_2x5 = layer_tile(1, 1), layer_tile(4, 3), layer_tile(2, 5)


@kernel
def layer_1x1(address, inputs, depth, x, start, columns, out, to, bias, at, begin, rectify, ahead, ahead_inputs):
    _layer_1x1(address, inputs, depth, x, start, columns, out, to, bias, at, begin, rectify, ahead, ahead_inputs)


@kernel
def layer_4x3(address, inputs, depth, x, start, columns, out, to, bias, at, begin, rectify, ahead, ahead_inputs):
    _layer_4x3(address, inputs, depth, x, start, columns, out, to, bias, at, begin, rectify, ahead, ahead_inputs)


@kernel
def layer_2x5(address, inputs, depth, x, start, columns, out, to, bias, at, begin, rectify, ahead, ahead_inputs):
    _layer_2x5(address, inputs, depth, x, start, columns, out, to, bias, at, begin, rectify, ahead, ahead_inputs)


@kernel
def move_eight(source, at, target, to):
    move(source, at, target, to)


@kernel
def normalise_eight(values, at, centre, scale, first, target, to):
    normalise(values, at, centre, scale, first, target, to)


@kernel
def claim_all(counter, limit, taken):
    number = claim(counter)
    while number < limit:
        taken[number] += 1
        number = claim(counter)


@pytest.mark.parametrize(("compiled", "rows", "vectors"), [(layer_1x1, 1, 1), (layer_4x3, 4, 3), (layer_2x5, 2, 5)])
@pytest.mark.parametrize("depth", [1, 7, 122])
@pytest.mark.parametrize("begin", [0, 1])
@pytest.mark.parametrize("rectify", [0, 1])
def test_layer_tile(compiled: object, rows: int, vectors: int, depth: int, begin: int, rectify: int) -> None:
    """Adds to what is there, or to the bias; 3e-5 for 122 float32 terms; the weights ahead may be anywhere."""
    rng = np.random.default_rng(rows)
    width, columns = LANES * vectors, LANES * vectors + 3
    weights = rng.normal(size=(rows + 1, depth + 4)).astype(np.float32)
    x = rng.normal(size=2 + depth * columns).astype(np.float32)
    before = rng.normal(size=1 + rows * columns).astype(np.float32)
    bias = rng.normal(size=3 + rows).astype(np.float32)
    out, address = before.copy(), weights.ctypes.data + 4 * (weights.shape[1] + 2)  # of row 1, term 2
    compiled(address, weights.shape[1], depth, x, 2, columns, out, 1, bias, 3, begin, rectify, 0, 7)  # type: ignore[operator]
    expected = before.astype(float)
    tile = expected[1:].reshape(rows, columns)[:, :width]
    if begin:
        tile[:] = bias[3:, None]
    tile += weights[1:, 2 : 2 + depth].astype(float) @ x[2:].reshape(depth, columns)[:, :width].astype(float)
    if rectify:
        assert (tile < 0).any()
        np.maximum(tile, 0, out=tile)
    np.testing.assert_allclose(out, expected, rtol=0, atol=3e-5)


def test_eight_at_a_time() -> None:
    rng = np.random.default_rng(0)
    source, centre, scale = (rng.normal(size=13).astype(np.float32) for _ in range(3))
    target = np.zeros(12, np.float32)
    move_eight(source, 3, target, 2)
    np.testing.assert_array_equal(target, np.pad(source[3:11], 2))
    normalise_eight(source, 4, centre, scale, 1, target, 3)
    expected = np.pad((source[4:12] - centre[1:9]) * scale[1:9], (3, 1))
    expected[2] = source[3]
    np.testing.assert_array_equal(target, expected)


def test_every_number_is_claimed_once() -> None:
    """By four threads at once, a hundred thousand times."""
    counter, taken = np.zeros(1, np.int64), np.zeros(100_000, np.int64)
    threads = [threading.Thread(target=claim_all, args=(counter, len(taken), taken)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (taken == 1).all()
    assert counter[0] == len(taken) + 4


def test_other_types_do_not_compile() -> None:
    """Nothing is checked at run time, so a wrong dtype must not get that far."""
    out = np.zeros(8, np.float32)
    with pytest.raises(TypingError):
        layer_1x1(0, 1, 1, np.zeros(8), 0, 8, out, 0, out, 0, 1, 0, 0, 1)
    with pytest.raises(TypingError):
        move_eight(np.zeros(8), 0, out, 0)
    with pytest.raises(TypingError):
        normalise_eight(np.zeros(8), 0, out, out, 0, out, 0)
    with pytest.raises(TypingError):
        claim_all(np.zeros(1), 1, np.zeros(1, np.int64))


def test_tiles_are_made_once() -> None:
    assert layer_tile(4, 3) is _layer_4x3
