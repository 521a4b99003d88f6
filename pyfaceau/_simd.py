"""Explicit vector code where LLVM's loop vectoriser cannot keep the accumulators in registers.

`row_products` emits LLVM IR through Numba's extension interface: portable vector operations that LLVM
lowers to whatever the processor has (AVX2, AVX-512, NEON).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8


_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_FUSE = ("contract",)


def _splat(builder: Any, scalar: Any) -> Any:
    """A vector with ``scalar`` in every lane."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    lane = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(_INTEGERS, [0] * LANES))


def _vector_at(builder: Any, pointer: Any, offset: int = 0) -> Any:
    """Address of the (unaligned) vector ``offset`` elements after ``pointer``."""
    return builder.bitcast(builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)]), _VECTOR.as_pointer())


def _load(builder: Any, pointer: Any, offset: int = 0) -> Any:
    return builder.load(_vector_at(builder, pointer, offset), align=4)


def _data(context: Any, builder: Any, signature: Any, args: Any, position: int, offset: Any = None) -> Any:
    """Address of an array argument's first element, or of the one at ``offset``."""
    data = context.make_array(signature.args[position])(context, builder, args[position]).data
    return data if offset is None else builder.gep(data, [offset])


def _logistic(builder: Any, z: Any) -> Any:
    """1 / (1 + exp(-z)) per lane: range reduction by log 2 in two parts and a polynomial (the classic Cephes expf)."""

    def constant(value: float) -> Any:
        return ir.Constant(_VECTOR, [value] * LANES)

    def fma(a: Any, b: Any, c: Any) -> Any:
        return builder.fadd(builder.fmul(a, b, flags=_FUSE), c, flags=_FUSE)

    x = builder.fsub(constant(-0.0), z)
    x = builder.select(builder.fcmp_ordered("<", x, constant(88.0)), x, constant(88.0))
    x = builder.select(builder.fcmp_ordered(">", x, constant(-87.0)), x, constant(-87.0))
    magic = constant(12582912.0)  # 1.5 * 2^23: adding it leaves the rounded integer in the low bits
    shifted = fma(x, constant(1.4426950216293335), magic)
    n = builder.fsub(shifted, magic)
    r = fma(n, constant(-0.693359375), x)
    r = fma(n, constant(2.1219444170128554e-4), r)
    y = constant(1.9875691214110702e-4)
    for coefficient in (
        1.3981999363750219e-3,
        8.333452045917511e-3,
        4.166579619050026e-2,
        0.1666666567325592,
        0.5,
    ):
        y = fma(y, r, constant(coefficient))
    y = builder.fadd(fma(builder.fmul(y, r), r, r), constant(1.0))
    exponent = builder.shl(builder.bitcast(shifted, _INTEGERS), ir.Constant(_INTEGERS, [23] * LANES))
    power = builder.bitcast(builder.add(builder.bitcast(y, _INTEGERS), exponent), _VECTOR)
    return builder.fdiv(constant(1.0), builder.fadd(constant(1.0), power))


@intrinsic
def logistic(typingctx, values, at):
    """Replace ``values[at : at + 8]`` (flat float32) by their logistic function, to 2 units in the last place."""

    def generate(context, builder, signature, args):
        pointer = _data(context, builder, signature, args, 0, args[1])
        builder.store(_logistic(builder, _load(builder, pointer)), _vector_at(builder, pointer), align=4)
        return context.get_dummy_value()

    return types.void(values, types.intp), generate


@intrinsic
def neuron_sums(typingctx, products, means, inverse_norms, bias, weight_sums, twice_alpha, count, sums):
    """Add the sum over eight neurons q of ``twice_alpha[q] logistic(z[k, q])`` to ``sums[k]``, k < ``count``, where

    ``z[k, q] = bias[q] + (products[8 k + q] - means[k] weight_sums[q]) inverse_norms[k]``. Flat float32 arrays.
    """

    def generate(context, builder, signature, args):
        pointers = [_data(context, builder, signature, args, i) for i in (0, 1, 2, 7)]
        offset, slope, weight = (_load(builder, _data(context, builder, signature, args, i)) for i in (3, 4, 5))
        with cgutils.for_range(builder, args[6]) as loop:
            first = builder.mul(loop.index, ir.Constant(ir.IntType(64), LANES))
            product = _load(builder, builder.gep(pointers[0], [first]))
            mean, inverse = (_splat(builder, builder.load(builder.gep(p, [loop.index]))) for p in pointers[1:3])
            centred = builder.fsub(product, builder.fmul(mean, slope, flags=_FUSE), flags=_FUSE)
            z = builder.fadd(offset, builder.fmul(centred, inverse, flags=_FUSE), flags=_FUSE)
            value, width = builder.fmul(weight, _logistic(builder, z)), LANES
            while width > 1:  # halves onto each other
                width //= 2
                low, high = (
                    ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(start, start + width)))
                    for start in (0, width)
                )
                undefined = ir.Constant(value.type, ir.Undefined)
                value = builder.fadd(
                    builder.shuffle_vector(value, undefined, low), builder.shuffle_vector(value, undefined, high)
                )
            total = builder.extract_element(value, ir.Constant(ir.IntType(32), 0))
            slot = builder.gep(pointers[3], [loop.index])
            builder.store(builder.fadd(builder.load(slot), total), slot)
        return context.get_dummy_value()

    flat = (products, means, inverse_norms, bias, weight_sums, twice_alpha)
    return types.void(*flat, types.intp, sums), generate


@cache
def row_products(count: int, taps: int) -> Any:
    """An intrinsic that correlates one row of ``count`` positions with eight templates at once.

    The returned function has the signature ``(area, start, stride, weights, first, out, to)``, all arrays
    one-dimensional and float32. For every position x < count and lane q < 8 it stores
    ``out[to + 8 x + q] = sum over r, c < taps of area[start + r stride + c + x] * weights[first + 8 (taps r + c) + q]``
    with one fused accumulator per (x, q). Nothing is checked: the caller answers for the bounds.
    """

    @intrinsic
    def products(typingctx, area, start, stride, weights, first, out, to):
        def generate(context, builder, signature, args):
            def constant(value):
                return ir.Constant(ir.IntType(64), value)

            source, templates, target = (_data(context, builder, signature, args, i, args[i + 1]) for i in (0, 3, 5))
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            accumulators = [cgutils.alloca_once_value(builder, zero) for _ in range(count)]
            with cgutils.for_range(builder, constant(taps)) as loop:
                row = builder.gep(source, [builder.mul(loop.index, args[2])])
                row_templates = builder.gep(templates, [builder.mul(loop.index, constant(taps * LANES))])
                current = [builder.load(slot) for slot in accumulators]
                for c in range(taps):
                    weight = _load(builder, row_templates, c * LANES)
                    for x in range(count):
                        scalar = builder.load(builder.gep(row, [constant(c + x)]))
                        product = builder.fmul(_splat(builder, scalar), weight, flags=_FUSE)
                        current[x] = builder.fadd(current[x], product, flags=_FUSE)
                for slot, value in zip(accumulators, current, strict=True):
                    builder.store(value, slot)
            for x in range(count):
                builder.store(builder.load(accumulators[x]), _vector_at(builder, target, x * LANES), align=4)
            return context.get_dummy_value()

        if not all(isinstance(a, types.Array) and a.dtype == types.float32 for a in (area, weights, out)):
            return None
        return types.void(area, types.intp, types.intp, weights, types.intp, out, types.intp), generate

    return products


@cache
def tile_product(rows: int, vectors: int) -> Any:
    """An intrinsic for a ``rows`` x ``8 vectors`` tile of a float32 matrix product.

    The returned function has the signature
    ``(address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride)``: ``address`` is that of
    float32 weights in memory that the caller keeps alive (a mapped file, say), ``x`` and ``out`` are one-dimensional
    float32 arrays. For r < rows and c < 8 vectors it adds the sum over k < depth of
    ``weights[r weight_stride + k weight_step] * x[start + k stride + c]`` to ``out[to + r out_stride + c]``, as one
    chain of fused operations in the order of k. Nothing is checked: the caller answers for the bounds.
    """

    @intrinsic
    def product(typingctx, address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride):
        def generate(context, builder, signature, args):
            index = ir.IntType(64)
            weights = builder.inttoptr(args[0], ir.FloatType().as_pointer())
            weight_rows = [builder.gep(weights, [builder.mul(args[1], ir.Constant(index, r))]) for r in range(rows)]
            source, target = (_data(context, builder, signature, args, i, args[i + 1]) for i in (4, 7))
            target_rows = [builder.gep(target, [builder.mul(args[9], ir.Constant(index, r))]) for r in range(rows)]
            sums = [
                [cgutils.alloca_once_value(builder, _load(builder, row, LANES * v)) for v in range(vectors)]
                for row in target_rows
            ]
            with cgutils.for_range(builder, args[3]) as loop:
                line = builder.gep(source, [builder.mul(loop.index, args[6])])
                step = builder.mul(loop.index, args[2])
                loaded = [_load(builder, line, LANES * v) for v in range(vectors)]
                for r in range(rows):
                    spread = _splat(builder, builder.load(builder.gep(weight_rows[r], [step])))
                    for v in range(vectors):
                        term = builder.fmul(spread, loaded[v], flags=_FUSE)
                        builder.store(builder.fadd(builder.load(sums[r][v]), term, flags=_FUSE), sums[r][v])
            for r in range(rows):
                for v in range(vectors):
                    builder.store(builder.load(sums[r][v]), _vector_at(builder, target_rows[r], LANES * v), align=4)
            return context.get_dummy_value()

        arrays = all(isinstance(a, types.Array) and a.dtype == types.float32 for a in (x, out))
        if not arrays:
            return None
        size = types.intp
        return types.void(size, size, size, size, x, size, size, out, size, size), generate

    return product


def _are_flat(*arrays: Any) -> bool:
    return all(isinstance(array, types.Array) and array.dtype == types.float32 for array in arrays)


def _prefetch(builder: Any, pointer: Any) -> None:
    """Ask for a place in memory; one that does not exist does no harm."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    read, near, data = (ir.Constant(number, value) for value in (0, 3, 1))
    builder.call(function, [builder.bitcast(pointer, byte), read, near, data])


def _layer_tile(context: Any, builder: Any, signature: Any, args: Any, rows: int, vectors: int) -> None:
    index, zero = ir.IntType(64), ir.Constant(_VECTOR, [0.0] * LANES)
    address, inputs, depth, _, start, columns, _, to, _, at, begin, rectify, ahead, ahead_inputs = args
    single = ir.FloatType().as_pointer()

    def matrix_rows(base: Any, stride: Any) -> list[Any]:
        return [builder.gep(base, [builder.mul(stride, ir.Constant(index, r))]) for r in range(rows)]

    source, target, bias = (_data(context, builder, signature, args, i, k) for i, k in ((3, start), (6, to), (8, at)))
    weights, targets = matrix_rows(builder.inttoptr(address, single), inputs), matrix_rows(target, columns)
    following = builder.inttoptr(ahead, single)
    sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(vectors)] for _ in range(rows)]
    places = [(row, v, sums[row][v]) for row in range(rows) for v in range(vectors)]
    with builder.if_else(cgutils.is_not_null(builder, begin)) as (then, otherwise):
        with then:
            offsets = [_splat(builder, builder.load(builder.gep(bias, [ir.Constant(index, r)]))) for r in range(rows)]
            for r, _, slot in places:
                builder.store(offsets[r], slot)
        with otherwise:
            for r, v, slot in places:
                builder.store(_load(builder, targets[r], LANES * v), slot)
    with cgutils.for_range(builder, depth) as loop:
        # A row in turn, so that not every term asks for the same line of the cache.
        turn = builder.mul(builder.and_(loop.index, ir.Constant(index, rows - 1)), ahead_inputs)
        _prefetch(builder, builder.gep(following, [builder.add(turn, loop.index)]))
        line = builder.gep(source, [builder.mul(loop.index, columns)])
        loaded = [_load(builder, line, LANES * v) for v in range(vectors)]
        spread = [_splat(builder, builder.load(builder.gep(weights[r], [loop.index]))) for r in range(rows)]
        for r, v, slot in places:
            term = builder.fmul(spread[r], loaded[v], flags=_FUSE)
            builder.store(builder.fadd(builder.load(slot), term, flags=_FUSE), slot)
    with builder.if_then(cgutils.is_not_null(builder, rectify)):
        for _, _, slot in places:
            value = builder.load(slot)
            builder.store(builder.select(builder.fcmp_ordered(">", value, zero), value, zero), slot)
    for r, v, slot in places:
        builder.store(builder.load(slot), _vector_at(builder, targets[r], LANES * v), align=4)


@cache
def layer_tile(rows: int, vectors: int) -> Any:
    """An intrinsic for a ``rows`` x ``8 vectors`` tile of a dense layer's output, with weights streaming from memory.

    The returned function has the signature ``(address, inputs, depth, x, start, columns, out, to, bias, at, begin,
    rectify, ahead, ahead_inputs)``: ``address`` is that of float32 weights [rows, inputs] in memory that the caller
    keeps alive (a mapped file, say), ``x``, ``out`` and ``bias`` are one-dimensional float32 arrays. For r < rows and
    c < 8 vectors it adds the sum over k < depth of ``weights[r inputs + k] * x[start + k columns + c]``, as one chain
    of fused operations in the order of k, to ``out[to + r columns + c]``, or, where ``begin`` is not 0, to
    ``bias[at + r]``; where ``rectify`` is not 0, a negative result becomes 0. Meanwhile the processor is asked to fetch
    the tile of other weights [rows, ahead_inputs] at ``ahead``. ``rows`` is a power of two.
    Nothing is checked: the caller answers for the bounds.
    """

    @intrinsic
    def tile(
        typingctx, address, inputs, depth, x, start, columns, out, to, bias, at, begin, rectify, ahead, ahead_inputs
    ):  # fmt: skip
        def generate(context, builder, signature, args):
            _layer_tile(context, builder, signature, args, rows, vectors)
            return context.get_dummy_value()

        if not _are_flat(x, out, bias):
            return None
        size = types.intp
        return types.void(size, size, size, x, size, size, out, size, bias, size, size, size, size, size), generate

    return tile


@intrinsic
def move(typingctx, source, at, target, to):
    """Copy eight values, ``target[to : to + 8] = source[at : at + 8]``. Flat float32 arrays."""

    def generate(context, builder, signature, args):
        value = _load(builder, _data(context, builder, signature, args, 0, args[1]))
        builder.store(value, _vector_at(builder, _data(context, builder, signature, args, 2, args[3])), align=4)
        return context.get_dummy_value()

    return (types.void(source, types.intp, target, types.intp), generate) if _are_flat(source, target) else None


@intrinsic
def normalise(typingctx, values, at, centre, scale, first, target, to):
    """``target[to + i] = (values[at + i] - centre[first + i]) * scale[first + i]`` for i < 8. Flat float32 arrays."""

    def generate(context, builder, signature, args):
        places = [_data(context, builder, signature, args, i, args[k]) for i, k in ((0, 1), (2, 4), (3, 4), (5, 6))]
        value, mean, factor = (_load(builder, place) for place in places[:3])
        result = builder.fmul(builder.fsub(value, mean), factor)
        builder.store(result, _vector_at(builder, places[3]), align=4)
        return context.get_dummy_value()

    size = types.intp
    flat = _are_flat(values, centre, scale, target)
    return (types.void(values, size, centre, scale, size, target, size), generate) if flat else None


@intrinsic
def claim(typingctx, counter):
    """Take the next number: ``counter[0]`` (int64) before it is raised by one, different for every thread that asks."""

    def generate(context, builder, signature, args):
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", _data(context, builder, signature, args, 0), one, "monotonic")

    numbers = isinstance(counter, types.Array) and counter.dtype == types.int64
    return (types.int64(counter), generate) if numbers else None


@intrinsic
def subtract_products(typingctx, h, first, stride, pivot, count, column, at):
    """Eight steps of a Cholesky column at once, in the order of k.

    ``subtract_products(h, first, stride, pivot, count, column, at)`` subtracts, for i < 8 and k = 0 .. count - 1, the
    float32 product ``h[first + k stride + i] * h[pivot + k stride]``, widened, from ``column[at + i]``. ``h`` is a flat
    float32 array, ``column`` float64. Nothing is checked.
    """

    def generate(context, builder, signature, args):
        narrow = ir.VectorType(ir.FloatType(), LANES)
        wide = ir.VectorType(ir.DoubleType(), LANES)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        matrix = context.make_array(signature.args[0])(context, builder, args[0]).data
        sums = context.make_array(signature.args[5])(context, builder, args[5]).data
        target = builder.bitcast(builder.gep(sums, [args[6]]), wide.as_pointer())
        total = cgutils.alloca_once_value(builder, builder.load(target, align=8))
        with cgutils.for_range(builder, args[4]) as loop:
            row = builder.gep(matrix, [builder.mul(loop.index, args[2])])
            values = builder.load(builder.bitcast(builder.gep(row, [args[1]]), narrow.as_pointer()), align=4)
            scalar = builder.load(builder.gep(row, [args[3]]))
            lane = builder.insert_element(ir.Constant(narrow, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
            spread = builder.shuffle_vector(lane, ir.Constant(narrow, ir.Undefined), mask)
            product = builder.fpext(builder.fmul(values, spread), wide)
            builder.store(builder.fsub(builder.load(total), product), total)
        builder.store(builder.load(total), target, align=8)
        return context.get_dummy_value()

    size = types.intp
    return types.void(h, size, size, size, size, column, size), generate
