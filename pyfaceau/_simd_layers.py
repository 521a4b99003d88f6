"""Vector code of dense layers: tiles of a product whose weights stream from memory, and what surrounds it."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import _FUSE, _VECTOR, LANES, _data, _load, _splat, _vector_at, prefetch


def _are_flat(*arrays: Any) -> bool:
    return all(isinstance(array, types.Array) and array.dtype == types.float32 for array in arrays)


def _layer_tile(context: Any, builder: Any, signature: Any, args: Any, rows: int, vectors: int) -> None:
    index, zero = ir.IntType(64), ir.Constant(_VECTOR, [0.0] * LANES)
    address, inputs, depth, _, start, columns, _, _, to, _, at, begin, earlier, end, ahead, ahead_inputs = args
    single = ir.FloatType().as_pointer()

    def matrix_rows(base: Any, stride: Any) -> list[Any]:
        return [builder.gep(base, [builder.mul(stride, ir.Constant(index, r))]) for r in range(rows)]

    source, part, target, bias = (
        _data(context, builder, signature, args, i, k) for i, k in ((3, start), (6, to), (7, to), (9, at))
    )
    weights, parts, targets = (
        matrix_rows(builder.inttoptr(address, single), inputs),
        matrix_rows(part, columns),
        matrix_rows(target, columns),
    )
    following = builder.inttoptr(ahead, single)
    sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(vectors)] for _ in range(rows)]
    places = [(row, v, sums[row][v]) for row in range(rows) for v in range(vectors)]
    with builder.if_else(cgutils.is_not_null(builder, begin)) as (then, otherwise):
        with then:
            for _, _, slot in places:
                builder.store(zero, slot)
        with otherwise:
            for r, v, slot in places:
                builder.store(_load(builder, parts[r], LANES * v), slot)
    with cgutils.for_range(builder, depth) as loop:
        # A row in turn, so that not every term asks for the same line of the cache.
        turn = builder.mul(builder.and_(loop.index, ir.Constant(index, rows - 1)), ahead_inputs)
        prefetch(builder, builder.gep(following, [builder.add(turn, loop.index)]))
        line = builder.gep(source, [builder.mul(loop.index, columns)])
        loaded = [_load(builder, line, LANES * v) for v in range(vectors)]
        spread = [_splat(builder, builder.load(builder.gep(weights[r], [loop.index]))) for r in range(rows)]
        for r, v, slot in places:
            term = builder.fmul(spread[r], loaded[v], flags=_FUSE)
            builder.store(builder.fadd(builder.load(slot), term, flags=_FUSE), slot)
    with builder.if_then(cgutils.is_not_null(builder, earlier)):
        for r, v, slot in places:
            builder.store(builder.fadd(_load(builder, targets[r], LANES * v), builder.load(slot)), slot)
    with builder.if_then(cgutils.is_not_null(builder, end)):
        offsets = [_splat(builder, builder.load(builder.gep(bias, [ir.Constant(index, r)]))) for r in range(rows)]
        for r, _, slot in places:
            builder.store(builder.fadd(builder.load(slot), offsets[r]), slot)
    with builder.if_then(builder.icmp_signed("==", end, ir.Constant(index, 2))):
        for _, _, slot in places:
            value = builder.load(slot)
            builder.store(builder.select(builder.fcmp_ordered(">", value, zero), value, zero), slot)
    for r, v, slot in places:
        builder.store(builder.load(slot), _vector_at(builder, targets[r], LANES * v), align=4)


@cache
def layer_tile(rows: int, vectors: int) -> Any:
    """An intrinsic for a ``rows`` x ``8 vectors`` tile of a dense layer's output, with weights streaming from memory.

    The returned function has the signature ``(address, inputs, depth, x, start, columns, part, out, to, bias, at,
    begin, earlier, end, ahead, ahead_inputs)``: ``address`` is that of float32 weights [rows, inputs] in memory that
    the caller keeps alive (a mapped file, say), ``x``, ``part``, ``out`` and ``bias`` are one-dimensional float32
    arrays. For r < rows and c < 8 vectors the sum over k < depth of ``weights[r inputs + k] * x[start + k columns +
    c]``, one chain of fused operations in the order of k, goes on from ``part[to + r columns + c]``, or, where
    ``begin`` is not 0, from 0. Where ``earlier`` is not 0, ``out`` is added; then, where ``end`` is 1 or 2,
    ``bias[at + r]``; where it is 2, a negative result becomes 0. The result is stored in ``out``. Meanwhile the
    processor is asked to fetch the tile of other weights [rows, ahead_inputs] at ``ahead``. ``rows`` is a power of two.
    Nothing is checked: the caller answers for the bounds.
    """

    @intrinsic
    def tile(
        typingctx, address, inputs, depth, x, start, columns, part, out, to, bias, at, begin, earlier, end, ahead,
        ahead_inputs,
    ):  # fmt: skip
        def generate(context, builder, signature, args):
            _layer_tile(context, builder, signature, args, rows, vectors)
            return context.get_dummy_value()

        if not _are_flat(x, part, out, bias):
            return None
        size = types.intp
        kinds = (size, size, size, x, size, size, part, out, size, bias, size, size, size, size, size, size)
        return types.void(*kinds), generate

    return tile


#: Chains of `chained_rows`, as many as there are numbers in the reference's vectors.
CHAINS = 16


def _chained_rows(context: Any, builder: Any, signature: Any, args: Any, rows: int) -> None:
    index, zero = ir.IntType(64), ir.Constant(_VECTOR, [0.0] * LANES)
    address, depth, _, start, columns, _, to, _, at, rectify = args
    single = ir.FloatType().as_pointer()
    source, target, bias = (_data(context, builder, signature, args, i, k) for i, k in ((2, start), (5, to), (7, at)))
    base = builder.inttoptr(address, single)
    weights = [builder.gep(base, [builder.mul(depth, ir.Constant(index, r))]) for r in range(rows)]
    whole = builder.sdiv(depth, ir.Constant(index, CHAINS))

    def add(k: Any, slots: list[Any]) -> None:
        values = _load(builder, builder.gep(source, [builder.mul(k, columns)]))
        for row, slot in zip(weights, slots, strict=True):
            term = builder.fmul(_splat(builder, builder.load(builder.gep(row, [k]))), values, flags=_FUSE)
            builder.store(builder.fadd(builder.load(slot), term, flags=_FUSE), slot)

    def chains(numbers: range) -> list[Any]:
        slots = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(rows)] for _ in numbers]
        for some in slots:
            for slot in some:
                builder.store(zero, slot)
        with cgutils.for_range(builder, whole) as loop:
            first = builder.mul(loop.index, ir.Constant(index, CHAINS))
            for i, some in zip(numbers, slots, strict=True):
                add(builder.add(first, ir.Constant(index, i)), some)
        first = builder.mul(whole, ir.Constant(index, CHAINS))
        for i, some in zip(numbers, slots, strict=True):
            k = builder.add(first, ir.Constant(index, i))
            with builder.if_then(builder.icmp_signed("<", k, depth)):
                add(k, some)
        sums = [[builder.load(slot) for slot in some] for some in slots]
        while len(sums) > 1:
            neighbours = zip(sums[::2], sums[1::2], strict=True)
            sums = [[builder.fadd(*pair) for pair in zip(*two, strict=True)] for two in neighbours]
        return sums[0]

    halves = [chains(range(half, half + CHAINS // 2)) for half in (0, CHAINS // 2)]  # all at once need more registers
    for r, (low, high) in enumerate(zip(*halves, strict=True)):
        offset = _splat(builder, builder.load(builder.gep(bias, [ir.Constant(index, r)])))
        value = builder.fadd(builder.fadd(low, high), offset)
        positive = builder.select(builder.fcmp_ordered(">", value, zero), value, zero)
        value = builder.select(cgutils.is_not_null(builder, rectify), positive, value)
        place = builder.gep(target, [builder.mul(columns, ir.Constant(index, r))])
        builder.store(value, _vector_at(builder, place), align=4)


@cache
def chained_rows(rows: int) -> Any:
    """An intrinsic for ``rows`` rows and eight columns of a dense layer's output, each cell summed in sixteen chains.

    The returned function has the signature ``(address, depth, x, start, columns, out, to, bias, at, rectify)``. For
    r < rows and c < 8, chain i sums ``weights[r depth + k] * x[start + k columns + c]`` over k = i, i + 16, ... <
    ``depth`` by fused operations from 0, and the chains are added in pairs of neighbours; then ``bias[at + r]`` is
    added, and where ``rectify`` is not 0, a negative result becomes 0: ``out[to + r columns + c]``. ``address`` is that
    of the float32 weights [rows, depth]; flat float32 arrays. Nothing is checked.
    """

    @intrinsic
    def chained(typingctx, address, depth, x, start, columns, out, to, bias, at, rectify):
        def generate(context, builder, signature, args):
            _chained_rows(context, builder, signature, args, rows)
            return context.get_dummy_value()

        size = types.intp
        flat = _are_flat(x, out, bias)
        return (types.void(size, size, x, size, size, out, size, bias, size, size), generate) if flat else None

    return chained


@intrinsic
def block_moments(typingctx, blocks, at, stride, side, means, inverses, to):
    """Mean, and 1 / the L2 norm of what differs from it, of 32 square blocks of ``side`` x ``side`` pixels.

    ``blocks[at + (column side + row) stride + i]`` for i < 32; ``means[to + i]``, ``inverses[to + i]``. Plain float32
    sums, that of the values line by line, that of the squares column by column; a norm of 0 counts as 1. Flat float32
    arrays.
    """

    def generate(context, builder, signature, args):
        index = ir.IntType(64)
        zero, one = (ir.Constant(_VECTOR, [value] * LANES) for value in (0.0, 1.0))
        source = _data(context, builder, signature, args, 0, args[1])
        targets = [_data(context, builder, signature, args, i, args[6]) for i in (4, 5)]
        next_pixel, pixels = ir.Constant(index, 1), builder.mul(args[3], args[3])

        def summed(outer: Any, inner: Any, term: Any) -> list[Any]:
            sums = [cgutils.alloca_once_value(builder, zero) for _ in range(4)]
            with cgutils.for_range(builder, args[3]) as loop:
                start = builder.mul(loop.index, outer)
                with cgutils.for_range(builder, args[3]) as along:
                    pixel = builder.add(start, builder.mul(along.index, inner))
                    line = builder.gep(source, [builder.mul(pixel, args[2])])
                    for v, slot in enumerate(sums):
                        value = term(v, _load(builder, line, LANES * v))
                        builder.store(builder.fadd(builder.load(slot), value), slot)
            return [builder.load(slot) for slot in sums]

        def square(v: int, value: Any) -> Any:
            rest = builder.fsub(value, means[v])
            return builder.fmul(rest, rest)

        count = _splat(builder, builder.sitofp(pixels, ir.FloatType()))
        means = [builder.fdiv(total, count) for total in summed(next_pixel, args[3], lambda v, value: value)]
        root = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR]), f"llvm.sqrt.v{LANES}f32"
        )
        for v, total in enumerate(summed(args[3], next_pixel, square)):
            norm = builder.call(root, [total])
            norm = builder.select(builder.fcmp_ordered("==", norm, zero), one, norm)
            for target, value in zip(targets, (means[v], builder.fdiv(one, norm)), strict=True):
                builder.store(value, _vector_at(builder, target, LANES * v), align=4)
        return context.get_dummy_value()

    size = types.intp
    flat = _are_flat(blocks, means, inverses)
    return (types.void(blocks, size, size, size, means, inverses, size), generate) if flat else None


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
