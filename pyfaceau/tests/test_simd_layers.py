"""The vector intrinsics of dense layers against NumPy."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from pyfaceau._jit import kernel
from pyfaceau._simd import LANES, WIDE
from pyfaceau._simd_layers import block_moments, claim, floats_at, layer_tile, move, normalise
from pyfaceau.tests.cen_twin import chain, sequential

TILES = {shape: layer_tile(*shape) for shape in ((1, 1), (4, 3), (2, 5), (6, 8))}
PAIRED = {shape: layer_tile(*shape, True) for shape in ((4, 1), (6, 1), (4, 2), (6, 2))}


def compiled(tile: Any) -> Any:
    """The intrinsic ``tile`` as a kernel of arrays: ``x[start]``, ``out[to]``, ``bias[at]`` and so on are the first."""

    @njit  # not in the cache of kernels, where all these would be one
    def run(address, inputs, depth, x, start, columns, out, to, gap, bias, at, earlier, end):
        places = floats_at(x, start), floats_at(out, to), floats_at(bias, at)
        tile(address, inputs, depth, places[0], columns, places[1], gap, places[2], earlier, end, address, 1, 2)

    return run


@kernel
def move_eight(source, at, target, to):
    move(source, at, target, to)


@kernel
def normalise_eight(values, at, centre, scale, first, target, to):
    normalise(values, at, centre, scale, first, target, to)


@kernel
def address(values, at):
    return floats_at(values, at)


@kernel
def moments(blocks, at, stride, side, means, inverses, to):
    block_moments(blocks, at, stride, side, means, inverses, to)


@kernel
def claim_all(counter, limit, taken):
    number = claim(counter)
    while number < limit:
        taken[number] += 1
        number = claim(counter)


@pytest.fixture(scope="module")
def kernels() -> dict[Any, Any]:
    """(rows, eights, in two chains) -> kernel"""
    one = {(*shape, False): compiled(tile) for shape, tile in TILES.items()}
    two = {(*shape, True): compiled(tile) for shape, tile in PAIRED.items()}
    return {**one, **two}


@pytest.mark.parametrize(("rows", "eights"), TILES)
@pytest.mark.parametrize("depth", [1, 7, 122])
@pytest.mark.parametrize(("earlier", "end"), [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)])
def test_layer_tile(kernels: dict[Any, Any], rows: int, eights: int, depth: int, earlier: int, end: int) -> None:
    """To the bit: one fused chain from 0; then earlier blocks; then the bias; then ReLU."""
    rng = np.random.default_rng(rows)
    width, columns = LANES * eights, LANES * eights + 3
    weights = rng.normal(size=(rows + 1, depth + 4)).astype(np.float32)
    x = rng.normal(size=2 + depth * columns).astype(np.float32)
    before = rng.normal(size=1 + rows * columns).astype(np.float32)
    bias = rng.normal(size=3 + rows).astype(np.float32)
    out, address = before.copy(), weights.ctypes.data + 4 * (weights.shape[1] + 2)  # of row 1, term 2
    run = kernels[rows, eights, False]
    run(address, weights.shape[1], depth, x, 2, columns, out, 1, 0, bias, 3, earlier, end)
    expected = before.copy()
    tile = expected[1:].reshape(rows, columns)[:, :width]
    result = chain(weights[1:, 2 : 2 + depth], x[2:].reshape(depth, columns)[:, :width], range(depth))
    result = tile + result if earlier else result
    result = result + bias[3:, None] if end else result
    tile[:] = np.maximum(result, 0) if end == 2 else result
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("rows", "eights"), PAIRED)
@pytest.mark.parametrize("depth", [3, 50, 128])
@pytest.mark.parametrize(("earlier", "end"), [(0, 0), (0, 1), (1, 2)])
def test_two_chains(kernels: dict[Any, Any], rows: int, eights: int, depth: int, earlier: int, end: int) -> None:
    """To the bit: even and odd terms, the last few among the even ones; eights that are not neighbours."""
    rng = np.random.default_rng(depth)
    weights, x = (rng.normal(size=shape).astype(np.float32) for shape in ((rows, depth + 1), (depth, 24)))
    bias, before = rng.normal(size=rows + 1).astype(np.float32), rng.normal(size=(rows, 24)).astype(np.float32)
    out = before.flatten()
    run = kernels[rows, eights, True]
    run(weights.ctypes.data, depth + 1, depth, x.ravel(), 3, 24, out, 2, 11, bias, 1, earlier, end)
    paired, expected = depth - depth % 8, before.flatten()
    for first in range(0, 11 * eights, 11):
        used = x[:, 3 + first : 11 + first]
        even = chain(weights, used, [*range(0, paired, 2), *range(paired, depth)])
        result = even + chain(weights, used, range(1, paired, 2))
        result = before[:, 2 + first : 10 + first] + result if earlier else result
        result = result + bias[1:, None] if end else result
        result = np.maximum(result, 0) if end == 2 else result
        expected.reshape(rows, 24)[:, 2 + first : 10 + first] = result
    np.testing.assert_array_equal(out, expected.ravel())


def test_block_moments() -> None:
    """To the bit: values are summed line by line, squares column by column; nothing divides by a norm of 0."""
    rng = np.random.default_rng(0)
    count = 4 * WIDE
    blocks = (rng.normal(size=(count + 4, 6, 6)) * 50 + 120).astype(np.float32)  # index, column, row
    blocks[7] = 31
    means, inverses = np.full(count + 1, np.nan, np.float32), np.full(count + 1, np.nan, np.float32)
    moments(blocks.transpose(1, 2, 0).ravel(), 2, count + 4, 6, means, inverses, 1)
    used = blocks[2 : count + 2]
    expected = sequential(used.transpose(0, 2, 1).reshape(count, 36)) / np.float32(36)
    centred = used.reshape(count, 36) - expected[:, None]
    norms = np.sqrt(sequential(centred * centred))
    np.testing.assert_array_equal(means[1:], expected)
    np.testing.assert_array_equal(inverses[1:], np.float32(1) / np.where(norms == 0, np.float32(1), norms))
    assert inverses[6] == 1
    assert np.isnan([means[0], inverses[0]]).all()


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
        address(np.zeros(8), 0)
    with pytest.raises(TypingError):
        moments(np.zeros(8), 0, 8, 1, out, out, 0)
    with pytest.raises(TypingError):
        move_eight(np.zeros(8), 0, out, 0)
    with pytest.raises(TypingError):
        normalise_eight(np.zeros(8), 0, out, out, 0, out, 0)
    with pytest.raises(TypingError):
        claim_all(np.zeros(1), 1, np.zeros(1, np.int64))


def test_tiles_are_made_once() -> None:
    assert layer_tile(4, 3) is TILES[4, 3]
    assert layer_tile(4, 1, True) is PAIRED[4, 1]
