"""Vector code of the least-squares steps: sums in registers, each in the order that its bits depend on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import _FUSE, LANES, WIDE, _data, _load, _splat, _vector_at, vectors_of

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_INDEX = ir.IntType(64)


@cache
def chain_tile(rows: int, vectors: int, chains: int = 1) -> Any:
    """An intrinsic for a ``rows`` x ``8 vectors`` tile of a float32 matrix product, in one or two chains.

    The returned function has the signature
    ``(a, first, a_step, b, start, b_step, depth, out, to, out_stride)``; arrays are contiguous. For r < rows and c < 8
    vectors ``out[to + r out_stride + c]`` becomes the sum over k < depth of
    ``a[first + k a_step + r] * b[start + k b_step + c]``: a chain of fused operations in the order of k; or one of
    even and one of odd k, added at the end, where those k beyond a multiple of eight join the even ones. Nothing is
    checked: the caller answers for the bounds.
    """
    pieces = vectors_of(vectors)

    @intrinsic
    def tile(typingctx, a, first, a_step, b, start, b_step, depth, out, to, out_stride):
        def generate(context, builder, signature, args):
            left, right, target = (_data(context, builder, signature, args, i, args[i + 1]) for i in (0, 3, 7))
            zeros = [ir.Constant(ir.VectorType(ir.FloatType(), lanes), [0.0] * lanes) for _, lanes in pieces]
            sums = [
                [[cgutils.alloca_once_value(builder, zero) for zero in zeros] for _ in range(rows)]
                for _ in range(chains)
            ]

            def multiply(k: Any, chain: Sequence[Sequence[Any]]) -> None:
                weights = builder.gep(left, [builder.mul(k, args[2])])
                line = builder.gep(right, [builder.mul(k, args[5])])
                loaded = [_load(builder, line, *piece) for piece in pieces]
                for r in range(rows):
                    weight = builder.load(builder.gep(weights, [ir.Constant(_INDEX, r)]))
                    for v, (_, lanes) in enumerate(pieces):
                        term = builder.fmul(_splat(builder, weight, lanes), loaded[v], flags=_FUSE)
                        builder.store(builder.fadd(builder.load(chain[r][v]), term, flags=_FUSE), chain[r][v])

            shared = args[6] if chains == 1 else builder.and_(args[6], ir.Constant(_INDEX, -8))
            with cgutils.for_range(builder, builder.udiv(shared, ir.Constant(_INDEX, chains))) as loop:
                for i, chain in enumerate(sums):
                    k = builder.mul(loop.index, ir.Constant(_INDEX, chains))
                    multiply(builder.add(k, ir.Constant(_INDEX, i)), chain)
            if chains > 1:
                with cgutils.for_range(builder, builder.sub(args[6], shared)) as loop:
                    multiply(builder.add(shared, loop.index), sums[0])
            for r in range(rows):
                row = builder.gep(target, [builder.mul(args[9], ir.Constant(_INDEX, r))])
                for v, piece in enumerate(pieces):
                    total = builder.load(sums[0][r][v])
                    for chain in sums[1:]:
                        total = builder.fadd(total, builder.load(chain[r][v]))
                    builder.store(total, _vector_at(builder, row, *piece), align=4)
            return context.get_dummy_value()

        size = types.intp
        return types.void(a, size, size, b, size, size, size, out, size, size), generate

    return tile


@cache
def wide_sums(vectors: int) -> Any:
    """An intrinsic for weighted sums of ``8 vectors`` neighbouring columns of a float32 matrix, in float64.

    The returned function has the signature ``(matrix, start, step, weights, depth, out, to)``; arrays are contiguous.
    For c < 8 vectors ``out[to + c]`` (float64) becomes the sum over k < depth of ``matrix[start + k step + c] *
    weights[k]``, added in the order of k; the products are exact. Nothing is checked.
    """

    @intrinsic
    def add(typingctx, matrix, start, step, weights, depth, out, to):
        def generate(context, builder, signature, args):
            rows, target = (_data(context, builder, signature, args, i, args[i + 1]) for i in (0, 5))
            factors = _data(context, builder, signature, args, 3)
            zero = ir.Constant(_DOUBLES, [0.0] * LANES)
            sums = [cgutils.alloca_once_value(builder, zero) for _ in range(vectors)]
            with cgutils.for_range(builder, args[4]) as loop:
                line = builder.gep(rows, [builder.mul(loop.index, args[2])])
                weight = builder.load(builder.gep(factors, [loop.index]))
                weight = _splat(builder, builder.fpext(weight, ir.DoubleType()))
                for v in range(vectors):
                    values = builder.fpext(_load(builder, line, LANES * v), _DOUBLES)
                    term = builder.fmul(values, weight, flags=_FUSE)
                    builder.store(builder.fadd(builder.load(sums[v]), term, flags=_FUSE), sums[v])
            for v in range(vectors):
                builder.store(builder.load(sums[v]), _vector_at(builder, target, LANES * v), align=8)
            return context.get_dummy_value()

        size = types.intp
        return types.void(matrix, size, size, weights, size, out, size), generate

    return add


@cache
def factor_row(vectors: int) -> Any:
    """An intrinsic for ``8 vectors`` elements of one row of a Cholesky factor, in the reference's order of roundings.

    The returned function has the signature ``(h, row, stride, at, inverse, pivots)``; ``h`` (rows ``stride`` apart) is
    float32, ``pivots`` float64. For every i from ``at`` on, the float32 products ``h[k, i] * h[k, row]``,
    k = 0 .. row - 1, widened, are subtracted from ``h[row, i]`` one after another; the rest times ``inverse`` replaces
    it, and its square is taken off ``pivots[i]``. Nothing is checked.
    """

    @intrinsic
    def factor(typingctx, h, row, stride, at, inverse, pivots):
        def generate(context, builder, signature, args):
            four = WIDE // 2  # more products would be taken apart to be widened
            narrow, wide = (ir.VectorType(kind, four) for kind in (ir.FloatType(), ir.DoubleType()))
            offsets = range(0, LANES * vectors, four)
            matrix = _data(context, builder, signature, args, 0)
            squares = _data(context, builder, signature, args, 5, args[3])
            target = builder.gep(matrix, [builder.add(builder.mul(args[1], args[2]), args[3])])
            sums = [
                cgutils.alloca_once_value(builder, builder.fpext(_load(builder, target, i, four), wide))
                for i in offsets
            ]
            with cgutils.for_range(builder, args[1]) as loop:
                line = builder.gep(matrix, [builder.mul(loop.index, args[2])])
                pivot = _splat(builder, builder.load(builder.gep(line, [args[1]])), four)
                values = builder.gep(line, [args[3]])
                for i, total in zip(offsets, sums, strict=True):
                    product = builder.fpext(builder.fmul(_load(builder, values, i, four), pivot), wide)
                    builder.store(builder.fsub(builder.load(total), product), total)
            factor = _splat(builder, args[4], four)
            for i, total in zip(offsets, sums, strict=True):
                result = builder.fptrunc(builder.fmul(builder.load(total), factor), narrow)
                builder.store(result, _vector_at(builder, target, i, four), align=4)
                result, slot = builder.fpext(result, wide), _vector_at(builder, squares, i, four)
                left = builder.fsub(builder.load(slot, align=8), builder.fmul(result, result))
                builder.store(left, slot, align=8)
            return context.get_dummy_value()

        size = types.intp
        return types.void(h, size, size, size, types.float64, pivots), generate

    return factor


def transposed_quads(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Four vectors whose fours are rows of 4 x 4 blocks: the blocks transposed, by two rounds of pairs."""
    lanes = rows[0].type.count

    def paired(a: Any, b: Any, order: tuple[int, ...]) -> Any:
        places = [first + (at if at < 4 else lanes + at - 4) for first in range(0, lanes, 4) for at in order]
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), lanes), places))

    a, b, c, d = rows
    found = []
    for order in ((0, 4, 1, 5), (2, 6, 3, 7)):
        upper, lower = paired(a, b, order), paired(c, d, order)
        found += [paired(upper, lower, (0, 1, 4, 5)), paired(upper, lower, (2, 3, 6, 7))]
    return found


def transposed(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Eight vectors whose eights are rows of 8 x 8 blocks: the blocks transposed."""
    lanes, half = rows[0].type.count, LANES // 2
    upper, lower = transposed_quads(builder, rows[:half]), transposed_quads(builder, rows[half:])
    found = []
    for side in (0, half):
        places = [i + side if i % LANES < half else lanes + i + side - half for i in range(lanes)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), places)
        found += [builder.shuffle_vector(*pair, mask) for pair in zip(upper, lower, strict=True)]
    return found


@intrinsic
def transpose_block(typingctx, matrix, start, to, stride):
    """``matrix[to + 8 rows] = matrix[start + 8 rows]`` transposed: 8 x 8 float32, rows ``stride`` apart."""

    def generate(context, builder, signature, args):
        source, target = (_data(context, builder, signature, args, 0, at) for at in args[1:3])
        steps = [builder.mul(args[3], ir.Constant(_INDEX, r)) for r in range(LANES)]
        rows = transposed(builder, [_load(builder, builder.gep(source, [step])) for step in steps])
        for row, step in zip(rows, steps, strict=True):
            builder.store(row, _vector_at(builder, builder.gep(target, [step])), align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(matrix, size, size, size), generate


@intrinsic
def subtract_multiple(typingctx, h, first, weight, sums, at, vectors):
    """``sums[at + i] -= h[first + i] * weight`` for i < 8 ``vectors``: float32 product, float64 sum."""

    def generate(context, builder, signature, args):
        values, target = (_data(context, builder, signature, args, i, args[i + 1]) for i in (0, 3))
        weight = _splat(builder, args[2])
        with cgutils.for_range(builder, args[5]) as loop:
            step = [builder.mul(loop.index, ir.Constant(ir.IntType(64), LANES))]
            product = builder.fmul(_load(builder, builder.gep(values, step)), weight)
            slot = _vector_at(builder, builder.gep(target, step))
            left = builder.fsub(builder.load(slot, align=8), builder.fpext(product, _DOUBLES))
            builder.store(left, slot, align=8)
        return context.get_dummy_value()

    size = types.intp
    return types.void(h, size, types.float32, sums, size, size), generate
