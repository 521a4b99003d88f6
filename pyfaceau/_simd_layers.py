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
        prefetch(builder, builder.gep(following, [builder.add(turn, loop.index)]))
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
