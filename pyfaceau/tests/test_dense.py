"""Dense layers against NumPy: every shape of tile, all activations, and independence of the shape."""

from __future__ import annotations

import numpy as np
import pytest

from pyfaceau.landmarks.experts.dense import dense_layer


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


def run(weights: np.ndarray, bias: np.ndarray, kind: int, x: np.ndarray) -> np.ndarray:
    rows, inputs = weights.shape
    out, columns = np.full(rows * x.shape[1] + 8, np.nan, np.float32), x.shape[1]
    address = weights.ctypes.data
    dense_layer(address, rows, inputs, bias, kind, np.ascontiguousarray(x).ravel(), columns, out, address, inputs)
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


def test_a_column_does_not_depend_on_its_neighbours() -> None:
    """To the bit, whatever tiles it is part of."""
    weights, bias, x = material(50, 300, 120)
    for kind in (0, 1, 2):
        together = run(weights, bias, kind, x)
        for first, count in ((0, 8), (16, 16), (40, 40), (48, 24), (0, 80)):
            alone = run(weights, bias, kind, x[:, first : first + count])
            np.testing.assert_array_equal(alone, together[:, first : first + count])
