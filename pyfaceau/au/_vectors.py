"""Vector code of the face analysis: a vector of pixels, or the four values of one pixel, at a time.

As in `pyfaceau._simd`, these functions emit LLVM IR, which LLVM lowers to whatever the processor has. Nothing is
checked: callers answer for the bounds.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import WIDE, _data, _load, _vector_at

_BYTE, _WORD, _INDEX = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_WORDS, _SINGLES = ir.VectorType(_WORD, WIDE), ir.VectorType(ir.FloatType(), WIDE)
WARPED = WIDE // 4  # pixels that are warped at a time
_QUAD = ir.VectorType(ir.FloatType(), 4)
# cos and sin of 20, 40, 60, 80 degrees, to the reference's four digits.
_UX, _UY = (0.9397, 0.7660, 0.5, 0.1736), (0.3420, 0.6428, 0.8660, 0.9848)


def _lanes(numbers: Any) -> Any:
    numbers = list(numbers)
    return ir.Constant(ir.VectorType(_WORD, len(numbers)), numbers)


def _all(value: int, count: int = WIDE) -> Any:
    return _lanes([value] * count)


def _quad_splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, 4), ir.Undefined)
    lane = builder.insert_element(undefined, scalar, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(lane, undefined, _all(0, 4))


def _quad_at(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, _QUAD.as_pointer())


def _steps(builder: Any, first: Any, last: Any, step: int = 1) -> Any:
    return cgutils.for_range_slice(builder, first, last, ir.Constant(_INDEX, step), _INDEX, inc=True)


@intrinsic
def warp_row(typingctx, pixels, pitch, places, right, down, inside, inside_at, first, last, out, to):
    """Sample a row of colours, all of whose taps lie in the picture: ``out[to + 3 x + c]`` for first <= x < last.

    There are `WARPED` of them at least. ``places[x]`` is the flat index of the pixel above and to the left,
    ``right[x]`` and ``down[x]`` the distance from it in 1/32 px (int32); rows of ``pixels`` are ``pitch`` bytes long.
    Colours are rounded half up, and black where ``inside[inside_at + x]`` is 0. Reads two bytes behind the last tap.
    """

    def generate(context, builder, signature, args):
        source, target = (_data(context, builder, signature, args, i, k) for i, k in ((0, None), (9, args[10])))
        rows = source, builder.gep(source, [args[1]])
        tables = [_data(context, builder, signature, args, i) for i in (2, 3, 4)]
        masks = _data(context, builder, signature, args, 5, args[6])
        half, group = ir.IntType(16), range(WARPED)

        def pick(values: Any, one_pixel: Any, step: int, absent: Any = None) -> Any:
            """Of every pixel, whose values are ``step`` apart, the elements ``one_pixel``; None for ``absent``."""
            other = ir.Constant(values.type, [absent or 0] * values.type.count)
            lanes = [values.type.count if k is None else step * i + k for i in group for k in one_pixel]
            return builder.shuffle_vector(values, other, _lanes(lanes))

        def vector(values: Any, kind: Any) -> Any:
            count = values.type.count * values.type.element.width // kind.width
            return builder.bitcast(values, ir.VectorType(kind, count))

        def between(a: Any, b: Any, share: Any) -> Any:
            five = ir.Constant(a.type, [5] * a.type.count)
            return builder.add(builder.shl(a, five), builder.mul(share, builder.sub(b, a)))

        def several(x: Any) -> None:
            place = builder.gep(tables[0], [x])
            taps = ir.Constant(ir.VectorType(_INDEX, 2 * WARPED), ir.Undefined)
            for i in group:
                at = builder.zext(builder.load(builder.gep(place, [ir.Constant(_INDEX, i)])), _INDEX)
                for k, row in enumerate(rows):
                    eight = builder.bitcast(builder.gep(row, [at]), _INDEX.as_pointer())
                    taps = builder.insert_element(taps, builder.load(eight, align=1), ir.Constant(_WORD, 2 * i + k))
            taps = vector(taps, _BYTE)
            share_x, share_y = (_load(builder, builder.gep(table, [x]), 0, WARPED) for table in tables[1:])
            # 16 bits for each of four colours above and four below; the fourth is a neighbour's and not used.
            near, far = (
                vector(pick(taps, [b for k in (0, 8) for c in range(4) for b in (k + t + c, None)], 16), half)
                for t in (0, 3)
            )
            across = between(near, far, pick(vector(share_x, half), [0] * 8, 2))
            above, below = (
                vector(pick(across, [b for c in range(4) for b in (k + c, None)], 8), _WORD) for k in (0, 4)
            )
            total = between(above, below, pick(share_y, [0] * 4, 1))
            total = builder.lshr(builder.add(total, _all(512, 4 * WARPED)), _all(10, 4 * WARPED))
            colours = pick(builder.trunc(total, ir.VectorType(_BYTE, 4 * WARPED)), range(3), 4)
            mask = pick(builder.load(_vector_at(builder, builder.gep(masks, [x]), 0, WARPED), align=1), [0] * 3, 1)
            colours = builder.select(builder.icmp_unsigned("!=", mask, mask.type(None)), colours, mask.type(None))
            slot = builder.gep(target, [builder.mul(x, ir.Constant(_INDEX, 3))])
            builder.store(colours, _vector_at(builder, slot, 0, 3 * WARPED), align=1)

        last = builder.sub(args[8], ir.Constant(_INDEX, WARPED))
        with _steps(builder, args[7], last, WARPED) as (x, _):
            several(x)
        several(last)  # may redo some of the group before
        return context.get_dummy_value()

    size = types.intp
    return types.void(pixels, size, places, right, down, inside, size, size, size, out, size), generate


def _gradient(builder: Any, pixels: Any, channel: int) -> tuple[Any, Any, Any]:
    """Differences right - left and below - above, and the sum of their squares."""
    dx = builder.sub(pixels(1, channel, 1), pixels(1, channel, -1))
    dy = builder.sub(pixels(2, channel, 0), pixels(0, channel, 0))
    return dx, dy, builder.add(builder.mul(dx, dx), builder.mul(dy, dy))


def _stronger(builder: Any, new: Any, old: Any) -> tuple[Any, ...]:
    more = builder.icmp_signed(">", new[2], old[2])
    return tuple(builder.select(more, a, b) for a, b in zip(new, old, strict=True))


def _orientation(builder: Any, dx: Any, dy: Any, line: int) -> Any:
    """The first of 18 directions with the largest projection, times ``line``.

    Directions o and 9 - o mirror each other: with absolute differences the better one of a pair shows, and the signs
    tell which one that is.
    """
    zero, half_turn = _all(0), _all(9 * line)
    left, up = (builder.icmp_signed("<", d, zero) for d in (dx, dy))
    across, along = (
        builder.sitofp(builder.select(negative, builder.sub(zero, d), d), _SINGLES)
        for negative, d in ((left, dx), (up, dy))
    )
    best, found = across, zero
    for o, (ux, uy) in enumerate(zip(_UX, _UY, strict=True), 1):
        parts = (builder.fmul(a, ir.Constant(_SINGLES, [u] * WIDE)) for a, u in ((across, ux), (along, uy)))
        projection = builder.fadd(*parts)
        more = builder.fcmp_ordered(">", projection, best)
        best = builder.select(more, projection, best)
        found = builder.select(more, _all(o * line), found)
    slanted = builder.icmp_signed(">", found, zero)
    falling = builder.icmp_signed("<", builder.mul(dx, dy), zero)
    found = builder.select(builder.and_(slanted, falling), builder.sub(half_turn, found), found)
    backward = builder.select(slanted, builder.zext(up, _WORDS), builder.zext(left, _WORDS))
    return builder.add(found, builder.mul(backward, half_turn))


@cache
def orient_row(width: int, line: int, red_first: bool) -> Any:
    """An intrinsic for the gradients of a row: magnitude and direction.

    The returned function has the signature ``(planes, above, here, below, first, last, cells, magnitude, places)``:
    rows of ``planes`` (flat uint8) start at ``above``, ``here`` and ``below``, one of ``width`` pixels for each of
    blue, green and red. For first <= x < last, rounded up to whole vectors, ``magnitude[x]`` (float32) is the length of
    the gradient of the channel in which it is strongest, and ``places[x]`` (int32) is ``line`` times its direction
    0 .. 17, plus ``cells[x]``. Ties go to blue, then green, or, if ``red_first``, to red, then green.
    """

    @intrinsic
    def orient(typingctx, planes, above, here, below, first, last, cells, magnitude, places):
        def generate(context, builder, signature, args):
            source = _data(context, builder, signature, args, 0)
            cell, size, place = (_data(context, builder, signature, args, i) for i in (6, 7, 8))
            root = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_SINGLES, [_SINGLES]), f"llvm.sqrt.v{WIDE}f32"
            )
            with _steps(builder, args[4], args[5], WIDE) as (x, _):

                def pixels(row: int, channel: int, offset: int) -> Any:
                    at = builder.add(builder.add(args[1 + row], x), ir.Constant(_INDEX, channel * width + offset))
                    many = ir.VectorType(_BYTE, WIDE).as_pointer()
                    return builder.zext(builder.load(builder.bitcast(builder.gep(source, [at]), many), align=1), _WORDS)

                blue, green, red = (_gradient(builder, pixels, channel) for channel in range(3))
                if red_first:
                    dx, dy, square = _stronger(builder, blue, _stronger(builder, green, red))
                else:
                    dx, dy, square = _stronger(builder, _stronger(builder, red, green), blue)
                found = _orientation(builder, dx, dy, line)
                found = builder.add(found, _load(builder, builder.gep(cell, [x]), 0, WIDE))
                builder.store(found, _vector_at(builder, builder.gep(place, [x]), 0, WIDE), align=4)
                length = builder.call(root, [builder.sitofp(square, _SINGLES)])
                builder.store(length, _vector_at(builder, builder.gep(size, [x]), 0, WIDE), align=4)
            return context.get_dummy_value()

        size = types.intp
        return types.void(planes, size, size, size, size, size, cells, magnitude, places), generate

    return orient


@intrinsic
def vote_row(typingctx, magnitude, places, shares, upper, lower, first, last, votes):
    """``votes[places[x] + k] += (shares[4 x + k] * magnitude[x]) * (upper, lower, upper, lower)[k]``, k < 4.

    For first <= x < last, one after another. Flat arrays; ``places`` is int32, the others are float32.
    """

    def generate(context, builder, signature, args):
        size, place, share, target = (_data(context, builder, signature, args, i) for i in (0, 1, 2, 7))
        rows = ir.Constant(_QUAD, ir.Undefined)
        for k in range(4):
            rows = builder.insert_element(rows, args[3 + k % 2], ir.Constant(_WORD, k))
        with _steps(builder, args[5], args[6]) as (x, _):
            length = _quad_splat(builder, builder.load(builder.gep(size, [x])))
            four = builder.gep(share, [builder.shl(x, ir.Constant(_INDEX, 2))])
            vote = builder.fmul(builder.fmul(builder.load(_quad_at(builder, four), align=4), length), rows)
            at = builder.zext(builder.load(builder.gep(place, [x])), _INDEX)
            slot = _quad_at(builder, builder.gep(target, [at]))
            builder.store(builder.fadd(builder.load(slot, align=4), vote), slot, align=4)
        return context.get_dummy_value()

    size, single = types.intp, types.float32
    return types.void(magnitude, places, shares, single, single, size, size, votes), generate


@intrinsic
def fetch(typingctx, values, at):
    """Ask for ``values[at]`` to be brought into the cache, to be changed soon."""

    def generate(context, builder, signature, args):
        byte = _BYTE.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _WORD, _WORD, _WORD])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        write, near, data = (ir.Constant(_WORD, value) for value in (1, 3, 1))
        pointer = _data(context, builder, signature, args, 0, args[1])
        builder.call(function, [builder.bitcast(pointer, byte), write, near, data])
        return context.get_dummy_value()

    return types.void(values, types.intp), generate
