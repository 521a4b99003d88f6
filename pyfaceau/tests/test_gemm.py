from __future__ import annotations

import numpy as np
import pytest

from pyfaceau._gemm import WORK, add_product, cut
from pyfaceau.tests import gemm_twin

SIZES = [
    (64, 64, 577), (9, 128, 257), (81, 48, 253), (100, 28, 28), (61, 10, 91), (41, 16, 145), (39, 17, 60), (35, 24, 13),
    (1, 256, 1152), (30, 24, 641), (5, 6, 3), (7, 13, 330), (24, 40, 1), (13, 130, 7),
]  # fmt: skip


def material(rows: int, columns: int, depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    left = rng.standard_normal((depth, rows)).astype(np.float32)
    right = np.zeros((depth, -(-columns // 8) * 8), np.float32)
    right[:, :columns] = rng.standard_normal((depth, columns))
    start = np.zeros((rows, right.shape[1]), np.float32)
    start[:, :columns] = rng.standard_normal((rows, columns))
    return left, right, start


@pytest.mark.parametrize(("rows", "columns", "depth"), SIZES)
def test_product_equals_its_twin_to_the_bit(rows: int, columns: int, depth: int) -> None:
    left, right, start = material(rows, columns, depth)
    out = start.copy()
    add_product(left, right, cut(rows, columns), np.full(WORK, np.nan, np.float32), out)
    expected = gemm_twin.add_product(left, right[:, :columns], start[:, :columns])
    assert np.array_equal(out[:, :columns], expected)
    assert not out[:, columns:].any()


def test_the_order_matters() -> None:
    # Else the test above could not tell one chain from two.
    left, right, start = material(60, 32, 200)
    two = gemm_twin.in_two_chains(60, 32)
    assert 0.2 < two.mean() < 0.8
    ordered = gemm_twin.add_product(left, right, start)
    one = start + gemm_twin.fused_chain(left, right, range(200))
    assert np.array_equal(ordered[~two], one[~two])
    assert (ordered[two] != one[two]).mean() > 0.5


@pytest.mark.parametrize("rows", [1, 4, 9, 12, 18, 23, 36])
@pytest.mark.parametrize("columns", [1, 8, 13, 16, 28, 40, 64, 130])
def test_tiles_cover_every_cell_once(rows: int, columns: int) -> None:
    count = np.zeros((rows, -(-columns // 8) * 8), int)
    two = np.zeros(count.shape, bool)
    for row, height, column, width, chains in cut(rows, columns):
        assert (height, width) in {(6, 64), (6, 32), (6, 16), (6, 8), (4, 8), (1, 64), (1, 8)}
        count[row : row + height, column : column + width] += 1
        two[row : row + height, column : column + width] = chains
    assert (count == 1).all()
    assert np.array_equal(two[:, :columns], gemm_twin.in_two_chains(rows, columns))
