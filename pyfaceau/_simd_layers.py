"""Vector code of dense layers: tiles of a product whose weights stream from memory, and what surrounds it."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import _FUSE, LANES, LINE, WIDE, _data, _load, _splat, _vector_at, prefetch, vectors_of


def _are_flat(*arrays: Any) -> bool:
    return all(isinstance(array, types.Array) and array.dtype == types.float32 for array in arrays)


def _rows_of(builder: Any, base: Any, stride: Any, rows: int) -> list[Any]:
    return [builder.gep(base, [builder.mul(stride, ir.Constant(ir.IntType(64), r))]) for r in range(rows)]


def _fetch(builder: Any, ahead: Any, stride: Any, rows: Any, count: Any, k: Any) -> None:
    """Ask for term ``k`` of one of ``rows`` rows ahead: in turn, so that each of their cache lines is asked for once.

    Where sums are wide, all columns of the input pass through the first-level cache before those rows' turn, and would
    drive them out of it again.
    """
    turn = builder.and_(count, ir.Constant(ir.IntType(64), LINE // 8 - 1))  # a line holds so many pairs of terms
    turn = builder.select(builder.icmp_unsigned("<", turn, rows), turn, builder.sub(rows, ir.Constant(rows.type, 1)))
    following = builder.inttoptr(ahead, ir.FloatType().as_pointer())
    term = builder.gep(following, [builder.add(builder.mul(turn, stride), k)])
    prefetch(builder, term, 3 if WIDE == LANES else 2)


def _conclude(
    builder: Any, sums: list[list[Any]], targets: list[Any], places: list[tuple[Any, int]], bias: Any, earlier: Any,
    end: Any,
) -> None:  # fmt: skip
    """Store sums [row][vector]: plus what is there where ``earlier``; ``end`` is 1 for the bias, 2 for ReLU too.

    ``places``: how far into a row each vector goes, and its lanes.
    """
    cells = [(r, slot, *place) for r, slots in enumerate(sums) for slot, place in zip(slots, places, strict=True)]
    with builder.if_then(cgutils.is_not_null(builder, earlier)):
        for r, slot, at, lanes in cells:
            before = _load(builder, builder.gep(targets[r], [at]), 0, lanes)
            builder.store(builder.fadd(before, builder.load(slot)), slot)
    with builder.if_then(cgutils.is_not_null(builder, end)):
        numbers = [builder.gep(bias, [ir.Constant(ir.IntType(64), r)]) for r in range(len(sums))]
        offsets = [builder.load(number) for number in numbers]
        for r, slot, _, lanes in cells:
            builder.store(builder.fadd(builder.load(slot), _splat(builder, offsets[r], lanes)), slot)
    with builder.if_then(builder.icmp_signed("==", end, ir.Constant(ir.IntType(64), 2))):
        for _, slot, _, lanes in cells:
            value, zero = builder.load(slot), _constant(0.0, lanes)
            builder.store(builder.select(builder.fcmp_ordered(">", value, zero), value, zero), slot)
    for r, slot, at, lanes in cells:
        builder.store(builder.load(slot), _vector_at(builder, builder.gep(targets[r], [at]), 0, lanes), align=4)


def _constant(value: float, lanes: int) -> Any:
    return ir.Constant(ir.VectorType(ir.FloatType(), lanes), [value] * lanes)


def _add_to(builder: Any, slots: list[Any], factor: Any, values: list[Any]) -> None:
    for value, slot in zip(values, slots, strict=True):
        term = builder.fmul(_splat(builder, factor, value.type.count), value, flags=_FUSE)
        builder.store(builder.fadd(builder.load(slot), term, flags=_FUSE), slot)


def _layer_tile(builder: Any, args: Any, rows: int, eights: int, paired: bool) -> None:
    index = ir.IntType(64)
    one = ir.Constant(index, 1)
    first, inputs, depth, x, columns, out, gap, offsets, earlier, end, ahead, ahead_inputs, ahead_rows = args
    start, source, target, bias = (builder.inttoptr(a, ir.FloatType().as_pointer()) for a in (first, x, out, offsets))
    weights = _rows_of(builder, start, inputs, rows)
    targets = _rows_of(builder, target, columns, rows)
    if paired:
        places = [(builder.mul(gap, ir.Constant(index, i)), LANES) for i in range(eights)]
    else:
        places = [(ir.Constant(index, first), lanes) for first, lanes in vectors_of(eights)]

    def zeros(lanes: list[int]) -> list[list[Any]]:
        return [[cgutils.alloca_once_value(builder, _constant(0.0, n)) for n in lanes] for _ in range(rows)]

    def line(k: Any) -> list[Any]:
        begin = builder.gep(source, [builder.mul(k, columns)])
        return [_load(builder, builder.gep(begin, [place]), 0, lanes) for place, lanes in places]

    def add(k: Any) -> None:
        values = line(k)
        for row, slots in zip(weights, sums, strict=True):
            _add_to(builder, slots, builder.load(builder.gep(row, [k])), values)

    def add_pair(k: Any) -> None:
        both = [_shuffled(builder, a, b, _INTERLEAVED) for a, b in zip(line(k), line(builder.add(k, one)), strict=True)]
        pair = ir.DoubleType()  # two weights, as one number of their size
        for row, slots in zip(weights, pairs, strict=True):
            factors = builder.load(builder.bitcast(builder.gep(row, [k]), pair.as_pointer()), align=4)
            factors = builder.bitcast(_splat(builder, factors, LANES), _constant(0.0, 2 * LANES).type)
            for value, slot in zip(both, slots, strict=True):
                term = builder.fmul(factors, value, flags=_FUSE)
                builder.store(builder.fadd(builder.load(slot), term, flags=_FUSE), slot)

    sums = zeros([lanes for _, lanes in places])
    pairs = zeros([2 * LANES] * eights) if paired else []
    whole = builder.and_(depth, ir.Constant(index, -8))
    with cgutils.for_range(builder, builder.lshr(whole, one)) as loop:
        k = builder.shl(loop.index, one)
        _fetch(builder, ahead, ahead_inputs, ahead_rows, loop.index, k)
        if paired:
            add_pair(k)
        elif rows * len(places) <= 12:
            add(k)
            add(builder.add(k, one))
        else:  # one after the other, else the compiler gathers the factors of both and has no registers for the sums
            left, two = builder.sub(depth, k), ir.Constant(index, 2)
            with cgutils.for_range(builder, builder.select(builder.icmp_signed("<", left, two), left, two)) as step:
                add(builder.add(k, step.index))
    if paired:
        for slots, others in zip(sums, pairs, strict=True):
            for slot, other in zip(slots, others, strict=True):
                value = builder.load(other)
                builder.store(_shuffled(builder, value, value, _EVEN), slot)
    with cgutils.for_range(builder, builder.sub(depth, whole)) as loop:
        add(builder.add(whole, loop.index))
    if paired:
        for slots, others in zip(sums, pairs, strict=True):
            for slot, other in zip(slots, others, strict=True):
                value = builder.load(other)
                odd = _shuffled(builder, value, value, _ODD)
                builder.store(builder.fadd(builder.load(slot), odd), slot)
    _conclude(builder, sums, targets, places, bias, earlier, end)


# Two vectors of eight in one of sixteen: pairs of lanes, within each half of the registers, which is all that AVX can
# do at once. And back again.
_INTERLEAVED = [0, 8, 1, 9, 4, 12, 5, 13, 2, 10, 3, 11, 6, 14, 7, 15]
_EVEN, _ODD = ([_INTERLEAVED.index(i) for i in range(first, first + LANES)] for first in (0, LANES))


def _shuffled(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


@cache
def layer_tile(rows: int, eights: int, in_two_chains: bool = False) -> Any:
    """An intrinsic for a ``rows`` x ``8 eights`` tile of a dense layer's output, with weights streaming from memory.

    The returned function has the signature ``(weights, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead,
    ahead_inputs, ahead_rows)``: ``weights``, ``x``, ``out`` and ``bias`` are addresses of float32 numbers that the
    caller keeps alive (see `floats_at`; the weights may lie in a mapped file). For r < rows and c < 8 eights
    ``weights[r inputs + k] * x[k columns + c]`` is summed over k < depth from 0, as one chain of fused operations in
    the order of k, or as two, even and odd k, that are added at the end (terms that are over after a multiple of eight
    belong to the even one). Where ``earlier`` is not 0, ``out[r columns + c]`` is added; then, where ``end`` is 1 or 2,
    ``bias[r]``; where it is 2, a negative result becomes 0. The result is stored there in ``out``. In two chains, the
    i-th eight columns are those from ``i gap`` on, which need not be neighbours; in one, ``gap`` is of no account.
    Meanwhile the processor is asked to fetch other weights [ahead_rows <= 8, ahead_inputs] at ``ahead``, ``depth`` of
    each row. Nothing is checked: the caller answers for the bounds.
    """

    @intrinsic
    def tile(
        typingctx, weights, inputs, depth, x, columns, out, gap, bias, earlier, end, ahead, ahead_inputs, ahead_rows
    ):  # fmt: skip
        def generate(context, builder, signature, args):
            _layer_tile(builder, args, rows, eights, in_two_chains)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 13), generate

    return tile


@intrinsic
def floats_at(typingctx, values, at):
    """Address of ``values[at]``, a flat float32 array."""

    def generate(context, builder, signature, args):
        return builder.ptrtoint(_data(context, builder, signature, args, 0, args[1]), ir.IntType(64))

    return (types.intp(values, types.intp), generate) if _are_flat(values) else None


@intrinsic
def block_moments(typingctx, blocks, at, stride, side, means, inverses, to):
    """Mean, and 1 / the L2 norm of what differs from it, of 4 WIDE square blocks of ``side`` x ``side`` pixels.

    ``blocks[at + (column side + row) stride + i]`` for i < 4 WIDE; ``means[to + i]``, ``inverses[to + i]``. Plain
    float32 sums, that of the values line by line, that of the squares column by column; a norm of 0 counts as 1. Flat
    float32 arrays.
    """

    def generate(context, builder, signature, args):
        index = ir.IntType(64)
        zero, one = (_constant(value, WIDE) for value in (0.0, 1.0))
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
                        value = term(v, _load(builder, line, WIDE * v, WIDE))
                        builder.store(builder.fadd(builder.load(slot), value), slot)
            return [builder.load(slot) for slot in sums]

        def square(v: int, value: Any) -> Any:
            rest = builder.fsub(value, means[v])
            return builder.fmul(rest, rest)

        count = _splat(builder, builder.sitofp(pixels, ir.FloatType()), WIDE)
        means = [builder.fdiv(total, count) for total in summed(next_pixel, args[3], lambda v, value: value)]
        root = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(zero.type, [zero.type]), f"llvm.sqrt.v{WIDE}f32"
        )
        for v, total in enumerate(summed(args[3], next_pixel, square)):
            norm = builder.call(root, [total])
            norm = builder.select(builder.fcmp_ordered("==", norm, zero), one, norm)
            for target, value in zip(targets, (means[v], builder.fdiv(one, norm)), strict=True):
                builder.store(value, _vector_at(builder, target, WIDE * v, WIDE), align=4)
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
