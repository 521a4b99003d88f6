"""Vector code of the least-squares steps: sums in registers, each in the order that its bits depend on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import _FUSE, _INTEGERS, _VECTOR, LANES, WIDE, _data, _load, _splat, _vector_at

_WIDE = ir.VectorType(ir.DoubleType(), LANES)
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

    @intrinsic
    def tile(typingctx, a, first, a_step, b, start, b_step, depth, out, to, out_stride):
        def generate(context, builder, signature, args):
            left, right, target = (_data(context, builder, signature, args, i, args[i + 1]) for i in (0, 3, 7))
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            sums = [
                [[cgutils.alloca_once_value(builder, zero) for _ in range(vectors)] for _ in range(rows)]
                for _ in range(chains)
            ]

            def multiply(k: Any, chain: Sequence[Sequence[Any]]) -> None:
                weights = builder.gep(left, [builder.mul(k, args[2])])
                line = builder.gep(right, [builder.mul(k, args[5])])
                loaded = [_load(builder, line, LANES * v) for v in range(vectors)]
                for r in range(rows):
                    spread = _splat(builder, builder.load(builder.gep(weights, [ir.Constant(_INDEX, r)])))
                    for v in range(vectors):
                        term = builder.fmul(spread, loaded[v], flags=_FUSE)
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
                for v in range(vectors):
                    total = builder.load(sums[0][r][v])
                    for chain in sums[1:]:
                        total = builder.fadd(total, builder.load(chain[r][v]))
                    builder.store(total, _vector_at(builder, row, LANES * v), align=4)
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
            zero = ir.Constant(_WIDE, [0.0] * LANES)
            sums = [cgutils.alloca_once_value(builder, zero) for _ in range(vectors)]
            with cgutils.for_range(builder, args[4]) as loop:
                line = builder.gep(rows, [builder.mul(loop.index, args[2])])
                weight = builder.load(builder.gep(factors, [loop.index]))
                weight = _splat(builder, builder.fpext(weight, ir.DoubleType()))
                for v in range(vectors):
                    values = builder.fpext(_load(builder, line, LANES * v), _WIDE)
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


@intrinsic
def transpose_block(typingctx, matrix, start, to, stride):
    """``matrix[to + 8 rows] = matrix[start + 8 rows]`` transposed: 8 x 8 float32, rows ``stride`` apart."""

    def generate(context, builder, signature, args):
        source, target = (_data(context, builder, signature, args, 0, at) for at in args[1:3])
        steps = [builder.mul(args[3], ir.Constant(_INDEX, r)) for r in range(LANES)]
        rows = [_load(builder, builder.gep(source, [step])) for step in steps]
        # Three times: rows that are ``apart`` exchange every second group of ``apart`` elements.
        for apart in (1, 2, 4):
            low = [i if i & apart == 0 else LANES + i - apart for i in range(LANES)]
            high = [i + apart if i & apart == 0 else LANES + i for i in range(LANES)]
            masks = [ir.Constant(_INTEGERS, lanes) for lanes in (low, high)]
            for r in (r for r in range(LANES) if r & apart == 0):
                pair = rows[r], rows[r + apart]
                rows[r], rows[r + apart] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        for row, step in zip(rows, steps, strict=True):
            builder.store(row, _vector_at(builder, builder.gep(target, [step])), align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(matrix, size, size, size), generate


@intrinsic
def turned_vectors(typingctx, vectors, points, count, r, scale, out, to, step):
    """Derivatives of ``points`` image points by ``count`` >= 8 coefficients: the turned and scaled vectors.

    ``vectors`` (float32 [3 points, count]) holds their x, y, z. For rows 0 and 1 of ``r`` (float32 [3, 3])
    ``out[to + (row points + i) step + k]`` becomes ``scale * ((r0 * x + r1 * y) + r2 * z)``, every step rounded.
    """

    def generate(context, builder, signature, args):
        axes, turn, target = (_data(context, builder, signature, args, *which) for which in ((0,), (3,), (5, args[6])))
        rotation = [_splat(builder, builder.load(builder.gep(turn, [ir.Constant(_INDEX, i)]))) for i in range(6)]
        scale, pitch, eight = _splat(builder, args[4]), builder.mul(args[1], args[2]), ir.Constant(_INDEX, LANES)
        last = builder.sub(args[2], eight)
        groups = builder.udiv(builder.add(args[2], ir.Constant(_INDEX, LANES - 1)), eight)
        with cgutils.for_range(builder, args[1]) as point:
            first = builder.gep(axes, [builder.mul(point.index, args[2])])
            places = [
                builder.gep(target, [builder.mul(i, args[7])]) for i in (point.index, builder.add(args[1], point.index))
            ]
            with cgutils.for_range(builder, groups) as loop:
                k = builder.mul(loop.index, eight)
                k = builder.select(builder.icmp_signed("<", k, last), k, last)  # may redo some of the group before
                at = [
                    builder.gep(first, [builder.add(k, builder.mul(pitch, ir.Constant(_INDEX, a)))]) for a in range(3)
                ]
                x, y, z = (_load(builder, pointer) for pointer in at)
                for place, (r0, r1, r2) in zip(places, (rotation[:3], rotation[3:]), strict=True):
                    total = builder.fadd(builder.fmul(r0, x), builder.fmul(r1, y))
                    total = builder.fmul(scale, builder.fadd(total, builder.fmul(r2, z)))
                    builder.store(total, _vector_at(builder, builder.gep(place, [k])), align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(vectors, size, size, r, types.float32, out, size, size), generate


@intrinsic
def subtract_multiple(typingctx, h, first, weight, sums, at, vectors):
    """``sums[at + i] -= h[first + i] * weight`` for i < 8 ``vectors``: float32 product, float64 sum."""

    def generate(context, builder, signature, args):
        wide = ir.VectorType(ir.DoubleType(), LANES)
        values, target = (_data(context, builder, signature, args, i, args[i + 1]) for i in (0, 3))
        weight = _splat(builder, args[2])
        with cgutils.for_range(builder, args[5]) as loop:
            step = [builder.mul(loop.index, ir.Constant(ir.IntType(64), LANES))]
            product = builder.fmul(_load(builder, builder.gep(values, step)), weight)
            slot = _vector_at(builder, builder.gep(target, step))
            left = builder.fsub(builder.load(slot, align=8), builder.fpext(product, wide))
            builder.store(left, slot, align=8)
        return context.get_dummy_value()

    size = types.intp
    return types.void(h, size, types.float32, sums, size, size), generate


@cache
def row_moments(pairs: int) -> Any:
    """An intrinsic for weighted sums over twice ``pairs`` rows of float32 values, each in the order of its cells.

    The returned function has the signature ``(values, weights, starts, at, weights_at, moments, cells, out)``; arrays
    are contiguous, starts int64, the others float32. For i < 2 pairs and ``v[k] = values[starts[at + i] + k] *
    weights[starts[weights_at + i] + k]`` the sum over k < cells of ``v[k] * moments[4 k : 4 k + 4]`` becomes
    ``out[4 (at + i) : 4 (at + i) + 4]``, every product and partial sum rounded to float32. One row alone would wait
    for each of its additions. Nothing is checked.
    """

    @intrinsic
    def moments_of(typingctx, values, weights, starts, at, weights_at, moments, cells, out):
        def generate(context, builder, signature, args):
            half = LANES // 2
            quad = ir.VectorType(ir.FloatType(), half)
            undefined = ir.Constant(quad, ir.Undefined)

            def places(array: int, at: Any) -> list[Any]:
                data, first = (_data(context, builder, signature, args, *which) for which in ((array,), (2, at)))
                rows = (builder.gep(first, [ir.Constant(_INDEX, i)]) for i in range(2 * pairs))
                return [builder.gep(data, [builder.load(row)]) for row in rows]

            rows, scales = places(0, args[3]), places(1, args[4])
            factors = _data(context, builder, signature, args, 5)

            def mask(lanes: list[int]) -> Any:
                return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)

            def four(pointer: Any, offset: Any) -> Any:
                return builder.load(builder.bitcast(builder.gep(pointer, [offset]), quad.as_pointer()), align=4)

            def joined(low: Any, high: Any) -> Any:
                return builder.shuffle_vector(low, high, mask(list(range(LANES))))

            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            totals = [cgutils.alloca_once_value(builder, zero) for _ in range(pairs)]

            def add(products: list[Any], lane: int, cell: Any) -> None:
                moment = four(factors, builder.mul(cell, ir.Constant(_INDEX, half)))
                moment = joined(moment, moment)
                for product, total in zip(products, totals, strict=True):
                    spread = builder.shuffle_vector(product, product, mask([lane] * half + [half + lane] * half))
                    builder.store(builder.fadd(builder.load(total), builder.fmul(spread, moment)), total)

            whole = builder.udiv(args[6], ir.Constant(_INDEX, half))
            with cgutils.for_range(builder, whole) as loop:
                first = builder.mul(loop.index, ir.Constant(_INDEX, half))
                products = []
                for i in range(0, 2 * pairs, 2):
                    value, weight = (joined(four(a[i], first), four(a[i + 1], first)) for a in (rows, scales))
                    products.append(builder.fmul(value, weight))
                for lane in range(half):
                    add(products, lane, builder.add(first, ir.Constant(_INDEX, lane)))
            with cgutils.for_range(builder, builder.urem(args[6], ir.Constant(_INDEX, half))) as loop:
                cell = builder.add(builder.mul(whole, ir.Constant(_INDEX, half)), loop.index)
                products = []
                for row, scale in zip(rows, scales, strict=True):
                    product = builder.fmul(*(builder.load(builder.gep(a, [cell])) for a in (row, scale)))
                    products.append(builder.insert_element(undefined, product, ir.Constant(ir.IntType(32), 0)))
                add([joined(*products[i : i + 2]) for i in range(0, 2 * pairs, 2)], 0, cell)
            target = builder.gep(
                _data(context, builder, signature, args, 7), [builder.mul(args[3], ir.Constant(_INDEX, half))]
            )
            for i, total in enumerate(totals):
                builder.store(builder.load(total), _vector_at(builder, target, LANES * i), align=4)
            return context.get_dummy_value()

        size = types.intp
        return types.void(values, weights, starts, size, size, moments, size, out), generate

    return moments_of
