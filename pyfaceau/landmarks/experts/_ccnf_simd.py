"""Vector code of the CCNF responses: eight positions of a response map side by side.

All of it reads *shifted columns* [11, stride]: row c holds, for every line of the area, the w values from
column c on, so that pixel (r, c) of the blocks at positions p, p + 1, ... (row by row over the map) is found at
``c stride + r w + p``, p + 1, ... The order of every sum is the reference's (see `ccnf_responses`), which is why
nothing here may be reassociated or contracted but for the fused operations written as such.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import _FUSE, LANES, _data, _load, _splat, _vector_at
from pyfaceau.landmarks.areas import SUPPORT

#: Neurons that one call of `neuron_products` evaluates, and how many of them in two chains.
GROUP, IN_TWO_CHAINS = 7, 4

_FLOATS, _DOUBLES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.DoubleType(), LANES)
_LONGS = ir.VectorType(ir.IntType(64), LANES)
_SIZE = ir.IntType(64)


def _constant(vector: Any, value: float) -> Any:
    return ir.Constant(vector, [value] * LANES)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, fused where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=_FUSE), c, flags=_FUSE)


@intrinsic
def copy_vector(typingctx, source, first, target, to):
    """Copy eight float32 from ``source[first]`` on to ``target[to]`` on."""

    def generate(context, builder, signature, args):
        values = _load(builder, _data(context, builder, signature, args, 0, args[1]))
        builder.store(values, _vector_at(builder, _data(context, builder, signature, args, 2, args[3])), align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), generate


@cache
def contrast(count: int) -> Any:
    """An intrinsic for mean and 1 / L2 norm (of the centred values) of the blocks at ``8 count`` positions.

    ``(columns, stride, window, first, means, inverses)``: plain float32 sums, that of the values line by line,
    that of the squares column by column; a norm of 0 counts as 1.
    """

    @intrinsic
    def statistics(typingctx, columns, stride, window, first, means, inverses):
        def generate(context, builder, signature, args):
            start = _data(context, builder, signature, args, 0, args[3])
            targets = [_data(context, builder, signature, args, i, args[3]) for i in (4, 5)]
            zero = _constant(_FLOATS, 0.0)

            def summed(outer: Any, inner: Any, term: Any) -> list[Any]:
                sums = [cgutils.alloca_once_value(builder, zero) for _ in range(count)]
                with cgutils.for_range(builder, ir.Constant(_SIZE, SUPPORT)) as loop:
                    line = builder.gep(start, [builder.mul(loop.index, outer)])
                    current = [builder.load(slot) for slot in sums]
                    for _ in range(SUPPORT):
                        for v in range(count):
                            current[v] = builder.fadd(current[v], term(v, _load(builder, line, LANES * v)))
                        line = builder.gep(line, [inner])
                    for slot, value in zip(sums, current, strict=True):
                        builder.store(value, slot)
                return [builder.load(slot) for slot in sums]

            def square(v: int, value: Any) -> Any:
                centred = builder.fsub(value, mean[v])
                return builder.fmul(centred, centred)

            sums = summed(args[2], args[1], lambda v, value: value)
            mean = [builder.fdiv(s, _constant(_FLOATS, float(SUPPORT * SUPPORT))) for s in sums]
            kind = ir.FunctionType(_FLOATS, [_FLOATS])
            square_root = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f32")
            one = _constant(_FLOATS, 1.0)
            for v, s in enumerate(summed(args[1], args[2], square)):
                norm = builder.call(square_root, [s])
                norm = builder.select(builder.fcmp_ordered("==", norm, zero), one, norm)
                builder.store(mean[v], _vector_at(builder, targets[0], LANES * v), align=4)
                builder.store(builder.fdiv(one, norm), _vector_at(builder, targets[1], LANES * v), align=4)
            return context.get_dummy_value()

        arrays = (columns, types.intp, types.intp, types.intp, means, inverses)
        return types.void(*arrays), generate

    return statistics


@intrinsic
def neuron_products(typingctx, columns, stride, window, first, means, inverses, weights, at, z, z_stride):
    """Bias and weighted sum of the normalised blocks at eight positions, for seven neurons.

    ``weights[at + 8 k + q]``: neuron q's bias at k = 0, then its weights column by column. Stores neuron q's sums
    at ``z[q z_stride + first]``. Neurons 0-3 are summed in two fused chains, even and odd k (the last two k both
    belong to the even one), the others in one.
    """

    def generate(context, builder, signature, args):
        start, mean_at, inverse_at = (_data(context, builder, signature, args, i, args[3]) for i in (0, 4, 5))
        mean, inverse = _load(builder, mean_at), _load(builder, inverse_at)
        table = _data(context, builder, signature, args, 6, args[7])
        sums = [cgutils.alloca_once_value(builder, _splat(builder, builder.load(
            builder.gep(table, [ir.Constant(_SIZE, q)])))) for q in range(GROUP)]  # fmt: skip
        sums += [cgutils.alloca_once_value(builder, _constant(_FLOATS, 0.0)) for _ in range(IN_TWO_CHAINS)]

        def add_pixels(column: Any, weight: Any, count: int, paired: int) -> None:
            """``count`` columns of pixels from ``column`` on; those beyond ``paired`` belong to the even chain."""
            current = [builder.load(slot) for slot in sums]
            for j in range(count * SUPPORT):
                if j % SUPPORT == 0:
                    pixel = column
                    column = builder.gep(column, [args[1]])
                x = builder.fmul(builder.fsub(_load(builder, pixel), mean), inverse)
                pixel = builder.gep(pixel, [args[2]])
                for q in range(GROUP):
                    chain = GROUP + q if q < IN_TWO_CHAINS and j < paired and j % 2 == 0 else q
                    factor = builder.load(builder.gep(weight, [ir.Constant(_SIZE, LANES * (j + 1) + q)]))
                    current[chain] = _fma(builder, x, _splat(builder, factor), current[chain])
            for slot, value in zip(sums, current, strict=True):
                builder.store(value, slot)

        with cgutils.for_range(builder, ir.Constant(_SIZE, SUPPORT // 2)) as loop:
            column = builder.gep(start, [builder.mul(builder.mul(loop.index, args[1]), ir.Constant(_SIZE, 2))])
            weight = builder.gep(table, [builder.mul(loop.index, ir.Constant(_SIZE, 2 * SUPPORT * LANES))])
            add_pixels(column, weight, 2, 2 * SUPPORT)
        column = builder.gep(start, [builder.mul(args[1], ir.Constant(_SIZE, SUPPORT - 1))])
        weight = builder.gep(table, [ir.Constant(_SIZE, (SUPPORT - 1) * SUPPORT * LANES)])
        add_pixels(column, weight, 1, SUPPORT - 1)
        target = _data(context, builder, signature, args, 8, args[3])
        for q in range(GROUP):
            value = builder.load(sums[q])
            if q < IN_TWO_CHAINS:
                value = builder.fadd(value, builder.load(sums[GROUP + q]))
            builder.store(value, _vector_at(builder, target), align=4)
            target = builder.gep(target, [args[9]])
        return context.get_dummy_value()

    size = types.intp
    return types.void(columns, size, size, size, means, inverses, weights, size, z, size), generate


@intrinsic
def last_products(typingctx, columns, stride, window, position, means, inverses, weights, at, z, z_stride):
    """As `neuron_products`, for the one block at ``position``: one chain for every neuron."""

    def generate(context, builder, signature, args):
        start, mean_at, inverse_at = (_data(context, builder, signature, args, i, args[3]) for i in (0, 4, 5))
        mean, inverse = builder.load(mean_at), builder.load(inverse_at)
        table = _data(context, builder, signature, args, 6, args[7])
        sums = cgutils.alloca_once_value(builder, _load(builder, table))
        with cgutils.for_range(builder, ir.Constant(_SIZE, SUPPORT)) as loop:
            pixel = builder.gep(start, [builder.mul(loop.index, args[1])])
            weight = builder.gep(table, [builder.mul(loop.index, ir.Constant(_SIZE, SUPPORT * LANES))])
            current = builder.load(sums)
            for r in range(SUPPORT):
                x = builder.fmul(builder.fsub(builder.load(pixel), mean), inverse)
                pixel = builder.gep(pixel, [args[2]])
                current = _fma(builder, _splat(builder, x), _load(builder, weight, LANES * (r + 1)), current)
            builder.store(current, sums)
        target, values = _data(context, builder, signature, args, 8, args[3]), builder.load(sums)
        for q in range(GROUP):
            builder.store(builder.extract_element(values, ir.Constant(ir.IntType(32), q)), target)
            target = builder.gep(target, [args[9]])
        return context.get_dummy_value()

    size = types.intp
    return types.void(columns, size, size, size, means, inverses, weights, size, z, size), generate


def _exponential(builder: Any, x: Any) -> Any:
    """exp per lane in float64, to 1e-14: range reduction by log 2 in two parts and the Taylor polynomial."""
    for predicate, bound in ((">", 700.0), ("<", -700.0)):
        limit = _constant(_DOUBLES, bound)
        x = builder.select(builder.fcmp_ordered(predicate, x, limit), limit, x)
    magic = _constant(_DOUBLES, 6755399441055744.0)  # 1.5 * 2^52: adding it leaves the rounded integer in the low bits
    shifted = _fma(builder, x, _constant(_DOUBLES, 1.4426950408889634), magic)
    n = builder.fsub(shifted, magic)
    r = _fma(builder, n, _constant(_DOUBLES, -0.6931471805599453), x)
    r = _fma(builder, n, _constant(_DOUBLES, -2.3190468138462996e-17), r)
    factorial, coefficients = 1.0, [1.0]
    for k in range(1, 12):
        factorial *= k
        coefficients.append(1.0 / factorial)
    y = _constant(_DOUBLES, coefficients.pop())
    while coefficients:
        y = _fma(builder, y, r, _constant(_DOUBLES, coefficients.pop()))
    exponent = builder.shl(builder.bitcast(shifted, _LONGS), ir.Constant(_LONGS, [52] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(y, _LONGS), exponent), _DOUBLES)


@intrinsic
def add_neurons(typingctx, z, z_stride, count, twice_alpha, at, sums):
    """Add ``twice_alpha[at + q] / (1 + exp(-z[q z_stride + p]))``, q = 0 .. 6 in this order, to ``sums[p]``, p < ``count``.

    Terms in float64 (``twice_alpha`` is), each sum rounded to the float32 of ``sums``; by eight positions.
    """

    def generate(context, builder, signature, args):
        start, target = (_data(context, builder, signature, args, i) for i in (0, 5))
        factors = _data(context, builder, signature, args, 3, args[4])
        undefined = ir.Constant(_DOUBLES, ir.Undefined)
        first, lanes = ir.Constant(ir.IntType(32), 0), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        one, minus = _constant(_DOUBLES, 1.0), _constant(_DOUBLES, -0.0)
        with cgutils.for_range_slice(
            builder, ir.Constant(_SIZE, 0), args[2], ir.Constant(_SIZE, LANES), intp=_SIZE
        ) as (p, _):
            slot = _vector_at(builder, builder.gep(target, [p]))
            total = cgutils.alloca_once_value(builder, builder.load(slot, align=4))
            with cgutils.for_range(builder, ir.Constant(_SIZE, GROUP)) as loop:
                values = _load(builder, builder.gep(start, [builder.add(p, builder.mul(loop.index, args[1]))]))
                power = _exponential(builder, builder.fsub(minus, builder.fpext(values, _DOUBLES)))
                factor = builder.insert_element(undefined, builder.load(builder.gep(factors, [loop.index])), first)
                factor = builder.shuffle_vector(factor, undefined, lanes)
                term = builder.fdiv(factor, builder.fadd(one, power))
                wide = builder.fadd(builder.fpext(builder.load(total), _DOUBLES), term)
                builder.store(builder.fptrunc(wide, _FLOATS), total)
            builder.store(builder.load(total), slot, align=4)
        return context.get_dummy_value()

    return types.void(z, types.intp, types.intp, twice_alpha, types.intp, sums), generate
