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


def _rows_of(builder: Any, base: Any, stride: Any, rows: int) -> list[Any]:
    return [builder.gep(base, [builder.mul(stride, ir.Constant(ir.IntType(64), r))]) for r in range(rows)]


def _fetch(builder: Any, ahead: Any, stride: Any, rows: int, count: Any, k: Any) -> None:
    """Ask for term ``k`` of a row ahead: a row in turn, so that not every term asks for the same line of the cache."""
    turns = 1 << (rows - 1).bit_length()  # a few rows too many do no harm
    turn = builder.mul(builder.and_(count, ir.Constant(ir.IntType(64), turns - 1)), stride)
    following = builder.inttoptr(ahead, ir.FloatType().as_pointer())
    prefetch(builder, builder.gep(following, [builder.add(turn, k)]))


def _conclude(builder: Any, sums: list[list[Any]], targets: list[Any], bias: Any, earlier: Any, end: Any) -> None:
    """Store sums [row][vector]: plus what is there where ``earlier``; ``end`` is 1 for the bias, 2 for ReLU too."""
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    places = [(r, v, slot) for r, slots in enumerate(sums) for v, slot in enumerate(slots)]
    with builder.if_then(cgutils.is_not_null(builder, earlier)):
        for r, v, slot in places:
            builder.store(builder.fadd(_load(builder, targets[r], LANES * v), builder.load(slot)), slot)
    with builder.if_then(cgutils.is_not_null(builder, end)):
        numbers = [builder.gep(bias, [ir.Constant(ir.IntType(64), r)]) for r in range(len(sums))]
        offsets = [_splat(builder, builder.load(number)) for number in numbers]
        for r, _, slot in places:
            builder.store(builder.fadd(builder.load(slot), offsets[r]), slot)
    with builder.if_then(builder.icmp_signed("==", end, ir.Constant(ir.IntType(64), 2))):
        for _, _, slot in places:
            value = builder.load(slot)
            builder.store(builder.select(builder.fcmp_ordered(">", value, zero), value, zero), slot)
    for r, v, slot in places:
        builder.store(builder.load(slot), _vector_at(builder, targets[r], LANES * v), align=4)


def _layer_tile(
    context: Any, builder: Any, signature: Any, args: Any, rows: int, vectors: int, in_two_chains: bool
) -> None:
    index, zero = ir.IntType(64), ir.Constant(_VECTOR, [0.0] * LANES)
    one = ir.Constant(index, 1)
    address, inputs, depth, _, start, columns, _, to, _, at, earlier, end, ahead, ahead_inputs = args
    source, target, bias = (_data(context, builder, signature, args, i, k) for i, k in ((3, start), (6, to), (8, at)))
    weights = _rows_of(builder, builder.inttoptr(address, ir.FloatType().as_pointer()), inputs, rows)
    targets = _rows_of(builder, target, columns, rows)

    def zeros() -> list[list[Any]]:
        return [[cgutils.alloca_once_value(builder, zero) for _ in range(vectors)] for _ in range(rows)]

    def add(k: Any, sums: list[list[Any]]) -> None:
        line = builder.gep(source, [builder.mul(k, columns)])
        loaded = [_load(builder, line, LANES * v) for v in range(vectors)]
        spread = [_splat(builder, builder.load(builder.gep(row, [k]))) for row in weights]
        for factor, slots in zip(spread, sums, strict=True):
            for values, slot in zip(loaded, slots, strict=True):
                term = builder.fmul(factor, values, flags=_FUSE)
                builder.store(builder.fadd(builder.load(slot), term, flags=_FUSE), slot)

    even = zeros()
    odd = zeros() if in_two_chains else even
    paired = builder.and_(depth, ir.Constant(index, -8))
    with cgutils.for_range(builder, builder.lshr(paired, one)) as loop:
        k = builder.shl(loop.index, one)
        _fetch(builder, ahead, ahead_inputs, rows, loop.index, k)
        add(k, even)
        add(builder.add(k, one), odd)
    with cgutils.for_range(builder, builder.sub(depth, paired)) as loop:
        add(builder.add(paired, loop.index), even)
    if in_two_chains:
        for slots, others in zip(even, odd, strict=True):
            for slot, other in zip(slots, others, strict=True):
                builder.store(builder.fadd(builder.load(slot), builder.load(other)), slot)
    _conclude(builder, even, targets, bias, earlier, end)


@cache
def layer_tile(rows: int, vectors: int, in_two_chains: bool = False) -> Any:
    """An intrinsic for a ``rows`` x ``8 vectors`` tile of a dense layer's output, with weights streaming from memory.

    The returned function has the signature ``(address, inputs, depth, x, start, columns, out, to, bias, at, earlier,
    end, ahead, ahead_inputs)``: ``address`` is that of float32 weights [rows, inputs] in memory that the caller keeps
    alive (a mapped file, say), ``x``, ``out`` and ``bias`` are one-dimensional float32 arrays. For r < rows and
    c < 8 vectors ``weights[r inputs + k] * x[start + k columns + c]`` is summed over k < depth from 0, as one chain of
    fused operations in the order of k, or as two, even and odd k, that are added at the end (terms that are over after
    a multiple of eight belong to the even one). Where ``earlier`` is not 0, ``out[to + r columns + c]`` is added; then,
    where ``end`` is 1 or 2, ``bias[at + r]``; where it is 2, a negative result becomes 0. The result is stored there in
    ``out``. Meanwhile the processor is asked to fetch the tile of other weights [rows, ahead_inputs] at ``ahead``.
    Nothing is checked: the caller answers for the bounds.
    """

    @intrinsic
    def tile(
        typingctx, address, inputs, depth, x, start, columns, out, to, bias, at, earlier, end, ahead, ahead_inputs
    ):  # fmt: skip
        def generate(context, builder, signature, args):
            _layer_tile(context, builder, signature, args, rows, vectors, in_two_chains)
            return context.get_dummy_value()

        if not _are_flat(x, out, bias):
            return None
        size = types.intp
        kinds = (size, size, size, x, size, size, out, size, bias, size, size, size, size, size)
        return types.void(*kinds), generate

    return tile


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
