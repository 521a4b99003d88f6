"""Dense layers against NumPy: every shape of tile, all activations, and independence of the shape."""

from __future__ import annotations

import numpy as np
import pytest

from pyfaceau.landmarks.experts.dense import dense_layer
from pyfaceau.tests import cen_twin as twin


def layer_twin(weights: np.ndarray, bias: np.ndarray, kind: int, x: np.ndarray) -> np.ndarray:
    """float64 [rows, columns]"""
    z = weights.astype(float) @ x.astype(float) + bias[:, None].astype(float)
    return 1 / (1 + np.exp(-z)) if kind == 0 else np.maximum(z, 0) if kind == 2 else z


def material(rows: int, inputs: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [rows, inputs], a bias longer than needed, and input [inputs, columns]."""
    rng = np.random.default_rng(rows + columns)
    shapes = (rows, inputs), (rows + 3,), (inputs, columns)
    weights, bias, x = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return weights / np.float32(np.sqrt(inputs)), bias, x


def run(weights: np.ndarray, bias: np.ndarray, kind: int, x: np.ndarray, used: int = -1) -> np.ndarray:
    rows, inputs = weights.shape
    out, columns = np.full(rows * x.shape[1] + 8, np.nan, np.float32), x.shape[1]
    address = weights.ctypes.data
    flat, used = np.ascontiguousarray(x).ravel(), columns if used < 0 else used
    dense_layer(address, rows, inputs, bias, kind, flat, columns, used, out, address, inputs)
    assert np.isnan(out[-8:]).all()  # nothing is written past the end
    return out[:-8].reshape(rows, columns)


@pytest.mark.parametrize("columns", [8 * vectors for vectors in (*range(1, 12), 15, 21)])
@pytest.mark.parametrize(("rows", "inputs"), [(1, 1), (3, 122), (13, 128), (50, 129), (36, 500)])
def test_every_shape_agrees_with_numpy(rows: int, inputs: int, columns: int) -> None:
    """1e-5 for up to 500 float32 terms of size 1 / sqrt(500)."""
    weights, bias, x = material(rows, inputs, columns)
    for kind in (0, 1, 2):
        expected = layer_twin(weights, bias[:rows], kind, x)
        np.testing.assert_allclose(run(weights, bias, kind, x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("used", [12, 20, 24, 48, 56, 60, 120])
@pytest.mark.parametrize(("rows", "inputs"), [(1, 50), (7, 122), (200, 500), (3, 31), (31, 700)])
def test_layers_are_those_of_the_twin_to_the_bit(rows: int, inputs: int, used: int) -> None:
    """One block of inputs, two, three; rows in twelves, fours and singly; columns in sixteens, eights and fewer."""
    weights, bias, x = material(rows, inputs, -(-used // 8) * 8)
    for kind in (1, 2):
        expected = twin.layer(weights, bias[:rows], kind, x[:, :used])
        np.testing.assert_array_equal(run(weights, bias, kind, x, used)[:, :used], expected)
    found, expected = run(weights, bias, 0, x, used)[:, :used], twin.layer(weights, bias[:rows], 0, x[:, :used])
    np.testing.assert_allclose(found, expected, rtol=2.4e-7, atol=0)
