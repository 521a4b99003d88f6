"""The reference's matrix product in plain NumPy, cell by cell: the executable specification of pyfaceau._gemm."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def in_two_chains(rows: int, columns: int) -> np.ndarray:
    """Which cells of a product are summed in two chains, bool (rows, columns)."""
    row, column = np.mgrid[:rows, :columns]
    whole = column < columns - columns % 8
    # Of twelve rows, the upper six: eight columns, sixteens, an eight; the lower six: sixteens, an eight.
    upper = (column < 8) | (whole & (column >= 8 + (columns - 8) // 16 * 16))
    lower = whole & (column >= columns // 16 * 16)
    twelves = (columns >= 16) & np.where(row % 12 < 6, upper, lower)
    rest = rows % 12
    fours = whole & (row < rows - rest % 4)
    return np.where(row < rows - rest, twelves, fours)


def fused_chain(left: np.ndarray, right: np.ndarray, order: Iterable[int]) -> np.ndarray:
    """Sum of left[k]^T right[k] over k in this order, each term added by a fused operation."""
    total = np.zeros((left.shape[1], right.shape[1]), np.float32)
    for k in order:
        term = left[k, :, None].astype(np.longdouble) * right[k].astype(np.longdouble)
        total = (total + term).astype(np.float32)
    return total


def blocks(depth: int) -> list[range]:
    """Blocks of at most 320; what is between 320 and 640 is halved, the first half rounded up to eights."""
    found, start = [], 0
    while start < depth:
        left = depth - start
        size = 320 if left >= 640 else -(-(left // 2) // 8) * 8 if left > 320 else left
        found.append(range(start, start + size))
        start += size
    return found


def add_product(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> np.ndarray:
    """``out + left^T right``, block after block."""
    two = in_two_chains(left.shape[1], right.shape[1])
    for block in blocks(len(left)):
        paired = block[: len(block) // 8 * 8]
        even = fused_chain(left, right, [*paired[::2], *block[len(paired) :]])
        chains = even + fused_chain(left, right, paired[1::2])
        out = out + np.where(two, chains, fused_chain(left, right, block))
    return out
