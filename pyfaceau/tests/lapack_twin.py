"""``spotrf`` and ``spotrs`` in plain NumPy with OpenBLAS's roundings: the executable specification of the kernel."""

from __future__ import annotations

import numpy as np

from pyfaceau.tests.ccnf_twin import fused

Array = np.ndarray
F = np.float32


def _chain(rows: Array, factors: Array) -> Array:
    """Fused float32 chain over the columns of ``rows`` times ``factors``."""
    total = np.zeros(len(rows), F)
    for k in range(rows.shape[1]):
        total = fused(rows[:, k], factors[k], total)
    return total


def _squares(row: Array) -> np.float32:
    products, total = row * row, 0.0
    for k in range(0, len(row) - 1, 2):
        total += float(products[k] + products[k + 1])
    return F(total + (float(products[-1]) if len(row) % 2 else 0.0))


def _less_columns(rows: Array, factors: Array, y: Array) -> Array:
    """y - rows times factors, as the matrix-vector product does it: by four columns and four rows."""
    y, m, n = y.copy(), len(rows) - len(rows) % 4, len(factors)
    a = m % 16
    for k in range(0, n - n % 4, 4):
        four, by = rows[:, k : k + 4], factors[k : k + 4]
        y[:a] -= _chain(four[:a, ::2], by[::2]) + _chain(four[:a, 1::2], by[1::2])
        y[a:m] -= _chain(four[a:m], by)
    for k in range(n - n % 4, n):
        y[:m] -= rows[:m, k] * factors[k]
    total = np.zeros(len(rows) - m, F)
    for k in range(n):
        total = total + rows[m:, k] * factors[k]
    y[m:] -= total
    return y


def _unblocked(a: Array) -> Array:
    factor = np.tril(a)
    for j in range(len(a)):
        root = np.sqrt(factor[j, j] - _squares(factor[j, :j]))
        factor[j, j] = root
        factor[j + 1 :, j] = _less_columns(factor[j + 1 :, :j], factor[j, :j], factor[j + 1 :, j]) * (F(1) / root)
    return factor


def _solve_below(b: Array, diagonal: Array) -> Array:
    x, block, size = np.zeros_like(b), 0, len(diagonal)
    while block < size:
        width = next(w for w in (12, 8, 4, 2, 1) if w <= size - block)
        for j in range(block, block + width):
            y = b[:, j] - _chain(x[:, :block], diagonal[j])
            for k in range(block, j):
                y = fused(x[:, k], -diagonal[j, k], y) if width > 2 else y - x[:, k] * diagonal[j, k]
            x[:, j] = y * (F(1) / diagonal[j, j])
        block += width
    return x


def factor(a: Array) -> Array:
    """Lower Cholesky factor."""
    size = len(a)
    if size <= 32:
        return _unblocked(a)
    a, lower = a.copy(), np.zeros_like(a)
    for first in range(0, size, size // 4):
        last = min(first + size // 4, size)
        lower[first:last, first:last] = factor(a[first:last, first:last])
        below = _solve_below(a[last:, first:last], lower[first:last, first:last])
        lower[last:, first:last] = below
        for j in range(size - last):
            a[last:, last + j] -= _chain(below, below[j])
    return lower


def inverse(a: Array) -> Array:
    """Solutions for the columns of the identity; the last column's steps inside a block of eight are not fused."""
    lower, x, size = factor(a), np.eye(len(a), dtype=F), len(a)
    for i in range(size):
        block = i - i % 8
        y = x[i] - _chain(x[:block].T, lower[i])
        for k in range(block, i):
            y = np.append(fused(x[k], -lower[i, k], y)[:-1], y[-1] - x[k, -1] * lower[i, k])
        x[i] = y * (F(1) / lower[i, i])
    for i in reversed(range(size)):
        block = min(size, i - i % 8 + 8)
        y = x[i] - np.append(
            _chain(x[block:, :-1][::-1].T, lower[block:, i][::-1]), _chain(x[block:, -1:].T, lower[block:, i])
        )
        for k in range(block - 1, i, -1):
            y = np.append(fused(x[k], -lower[k, i], y)[:-1], y[-1] - x[k, -1] * lower[k, i])
        x[i] = y * (F(1) / lower[i, i])
    return x
