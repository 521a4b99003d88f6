"""Inverse of a symmetric positive definite float32 matrix in the roundings of OpenBLAS's AVX2 kernels.

OpenCV leaves matrices of 100 and more rows to LAPACK: ``spotrf`` on the lower triangle, then ``spotrs`` with the
identity. OpenBLAS works by blocks, and what is fused, and in which order sums run, depends on a cell's place in
them. The rules below were found by comparing single steps with the library; the tests compare whole inverses.

The factor is kept by columns: ``columns[j, i]`` is row i of column j, so that all work runs along rows.
"""

from __future__ import annotations

import math

import numpy as np

from pyfaceau._jit import kernel

_UNBLOCKED = 32  # largest block factored column by column
_TALL = 8  # rows that a substitution takes at once


@kernel(fastmath={"contract"})
def _add_fused(total, at, factor, row, first, count):
    for j in range(count):
        total[at + j] += factor * row[first + j]


@kernel
def _subtract_product(total, at, factor, row, first, count):
    for j in range(count):
        total[at + j] -= factor * row[first + j]


@kernel
def _squares(columns, first, end):
    """Sum of squares of row ``end`` over the columns from ``first``: pairs in float32, added up in float64."""
    total, k = 0.0, first
    while k + 1 < end:
        a, b = columns[k, end], columns[k + 1, end]
        total += np.float64(a * a + b * b)
        k += 2
    if k < end:
        total += np.float64(columns[k, end] * columns[k, end])
    return np.float32(total)


@kernel
def _subtract_columns(columns, first, j, end, work):
    """Take the columns from ``first`` out of column ``j`` below the diagonal, to row ``end``."""
    rows = end - j - 1
    whole = rows - rows % 4
    single = whole % 16
    y, t = columns[j], work[0]
    k = first
    while k + 4 <= j:
        work[:2] = np.float32(0)
        for step in range(4):
            source, factor = columns[k + step], columns[k + step, j]
            # the first rows in two chains, whole sixteens in one
            _add_fused(work[step % 2], 0, factor, source, j + 1, single)
            _add_fused(t, single, factor, source, j + 1 + single, whole - single)
        for i in range(single):
            y[j + 1 + i] -= work[0, i] + work[1, i]
        for i in range(single, whole):
            y[j + 1 + i] -= t[i]
        k += 4
    while k < j:
        _subtract_product(y, j + 1, columns[k, j], columns[k], j + 1, whole)
        k += 1
    for i in range(j + 1 + whole, end):  # up to three last rows: plain sums
        total = np.float32(0)
        for k in range(first, j):
            total += columns[k, i] * columns[k, j]
        y[i] -= total


@kernel
def _factor_unblocked(columns, first, end, work):
    """Cholesky factor of the diagonal block of rows ``first`` to ``end``; False if there is none."""
    for j in range(first, end):
        pivot = columns[j, j] - _squares(columns, first, j)
        if not pivot > np.float32(0):
            return False
        root = np.float32(math.sqrt(pivot))
        columns[j, j] = root
        _subtract_columns(columns, first, j, end, work)
        inverse = np.float32(1) / root
        for i in range(j + 1, end):
            columns[j, i] *= inverse
    return True


@kernel
def _solve_below(columns, first, last, end, work):
    """Rows ``last`` to ``end`` of the factor's columns ``first`` to ``last``, whose diagonal block is known."""
    rows, total = end - last, work[0]
    block = first
    while block < last:
        left = last - block
        width = 12 if left >= 12 else 8 if left >= 8 else 4 if left >= 4 else 2 if left >= 2 else 1
        for j in range(block, block + width):
            total[:rows] = np.float32(0)
            for k in range(first, block):
                _add_fused(total, 0, columns[k, j], columns[k], last, rows)
            for i in range(rows):
                columns[j, last + i] -= total[i]
            for k in range(block, j):
                if width > 2:
                    _add_fused(columns[j], last, -columns[k, j], columns[k], last, rows)
                else:
                    _subtract_product(columns[j], last, columns[k, j], columns[k], last, rows)
            inverse = np.float32(1) / columns[j, j]
            for i in range(last, end):
                columns[j, i] *= inverse
        block += width


@kernel
def _eliminate(columns, first, last, end, work):
    """After the diagonal block ``first`` to ``last`` is factored: the rows below, and their products taken out."""
    _solve_below(columns, first, last, end, work)
    total = work[0]
    for j in range(last, end):
        rows = end - j
        total[:rows] = np.float32(0)
        for k in range(first, last):
            _add_fused(total, 0, columns[k, j], columns[k], j, rows)
        for i in range(rows):
            columns[j, j + i] -= total[i]


@kernel
def _factor_block(columns, first, end, work):
    size = end - first
    if size <= _UNBLOCKED:
        return _factor_unblocked(columns, first, end, work)
    for start in range(first, end, size // 4):
        last = min(start + size // 4, end)
        if not _factor_unblocked(columns, start, last, work):
            return False
        _eliminate(columns, start, last, end, work)
    return True


@kernel
def _substitute(columns, inverse, work):
    """Solve for the identity. The last column is the odd one out: there the steps inside a block are not fused."""
    size = columns.shape[0]
    total, edge = work[0], size - 1
    inverse[:] = np.float32(0)
    for i in range(size):
        block, line = i - i % _TALL, inverse[i]
        line[i] = np.float32(1)
        total[:size] = np.float32(0)
        for k in range(block):
            _add_fused(total, 0, columns[k, i], inverse[k], 0, k + 1)
        for j in range(i + 1):
            line[j] -= total[j]
        for k in range(block, i):
            _add_fused(line, 0, -columns[k, i], inverse[k], 0, k + 1)  # never the last column: k < size - 1
        factor = np.float32(1) / columns[i, i]
        for j in range(i + 1):
            line[j] *= factor
    for i in range(size - 1, -1, -1):
        block, line = min(size, i - i % _TALL + _TALL), inverse[i]
        total[:size] = np.float32(0)
        for k in range(size - 1, block - 1, -1):
            _add_fused(total, 0, columns[i, k], inverse[k], 0, edge)
        for k in range(block, size):
            _add_fused(total, edge, columns[i, k], inverse[k], edge, 1)
        for j in range(size):
            line[j] -= total[j]
        for k in range(block - 1, i, -1):
            _add_fused(line, 0, -columns[i, k], inverse[k], 0, edge)
            _subtract_product(line, edge, columns[i, k], inverse[k], edge, 1)
        factor = np.float32(1) / columns[i, i]
        for j in range(size):
            line[j] *= factor


@kernel
def lapack_inverse(a, inverse):
    """Inverse of a symmetric positive definite float32 matrix as ``spotrf`` and ``spotrs`` of OpenBLAS give it.

    Parameters
    ----------
    a : np.ndarray [shape=(k, k), dtype=float32]
        Symmetric. Overwritten by the factor. Alike to the bit for k = 8 m + 1 (odd windows) up to 320.
    inverse : np.ndarray [shape=(k, k), dtype=float32], out

    Returns
    -------
    bool
        False, with ``inverse`` undefined, when ``a`` is not positive definite.
    """
    size = a.shape[0]
    work = np.empty((2, size), np.float32)
    step = size if size <= _UNBLOCKED else size // 4
    for first in range(0, size, step):
        last = min(first + step, size)
        if not _factor_block(a, first, last, work):
            return False
        if last < size:
            _eliminate(a, first, last, size, work)
    _substitute(a, inverse, work)
    return True
