"""Vector code of the face mask: what a triangle covers, in several rows of pixels at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import WIDE, _data, _load, _splat, _vector_at

ROWS = WIDE  # at a time
WORD = 32  # pixels of a row whose bits are kept together
_FAR = 1000.0
_NEAR = 0.01
_EDGES = ((1, 2, 0), (0, 2, 1), (0, 1, 2))  # two corners, and the one opposite
_FLOATS, _NUMBERS = ir.VectorType(ir.FloatType(), ROWS), ir.VectorType(ir.IntType(32), ROWS)


def _every(value: Any, kind: Any = _NUMBERS) -> Any:
    return ir.Constant(kind, [value] * ROWS)


def _call(builder: Any, name: str, value: Any) -> Any:
    kind = ir.FunctionType(value.type, [value.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{ROWS}f32"), [value])


def _clip(builder: Any, corners: Any, y: Any, first: Any, last: Any) -> tuple[Any, Any, Any]:
    """Cut the pixels first .. last to the inner side of the edge from the first corner to the second.

    And where that is sure. Where it is not, as the cut is close to a pixel's centre, that pixel stays; an edge that is
    flat, or whose end is far away, cuts nothing.
    """
    (ax, ay), (bx, by), (px, py) = corners
    zero = ir.Constant(ir.FloatType(), 0.0)
    dx, dy = builder.fsub(bx, ax), builder.fsub(by, ay)
    corner = builder.fsub(builder.fmul(dx, builder.fsub(py, ay)), builder.fmul(builder.fsub(px, ax), dy))
    begins = builder.xor(builder.fcmp_ordered(">", dy, zero), builder.fcmp_ordered(">", corner, zero))
    slanted = builder.and_(*(builder.fcmp_ordered("!=", value, zero) for value in (dy, corner)))
    ax, ay, dx, slope, slanted = (
        _splat(builder, value, ROWS) for value in (ax, ay, dx, builder.fdiv(ir.Constant(zero.type, 1.0), dy), slanted)
    )
    from_a = builder.fmul(builder.fmul(dx, builder.fsub(y, ay)), slope)
    cut = builder.fadd(ax, from_a)
    below = _call(builder, "floor", cut)
    share = builder.fsub(cut, below)
    close = builder.fcmp_ordered("<", _call(builder, "fabs", from_a), _every(_FAR, _FLOATS))
    close = builder.and_(close, slanted)
    sure = builder.and_(
        builder.fcmp_ordered(">", share, _every(_NEAR, _FLOATS)),
        builder.fcmp_ordered("<", share, _every(1 - _NEAR, _FLOATS)),
    )
    sure = builder.and_(sure, close)
    pixel = builder.fptosi(builder.select(close, below, _every(0.0, _FLOATS)), _NUMBERS)
    more = builder.zext(sure, _NUMBERS)
    after, until = builder.add(pixel, more), builder.add(pixel, builder.sub(_every(1), more))
    later = builder.select(builder.and_(close, builder.icmp_signed(">", after, first)), after, first)
    sooner = builder.select(builder.and_(close, builder.icmp_signed("<", until, last)), until, last)
    return builder.select(begins, later, first), builder.select(begins, last, sooner), sure


@intrinsic
def mark_rows(typingctx, x1, y1, x2, y2, x3, y3, row, end, left, right, bits, pitch, first, last, low, high):
    """Mark the pixels ``left`` to ``right`` inside a triangle in the rows ``row + k`` < ``end``, k < `ROWS`.

    Pixel x of row y is bit ``x % WORD`` of ``bits[x // WORD * pitch + y]`` (int32, flat); ``first[y]`` and ``last[y]``
    (int32) are lowered and raised to the marked ones. Arrays are longer than the rows by what vectors hang over.

    Returns a number whose bit k says of row k that rounding may decide there: nothing is marked in such a row, whose
    pixels inside are among ``low[k]`` to ``high[k]``.
    """

    def generate(context, builder, signature, args):
        corners = list(zip(args[0:6:2], args[1:6:2], strict=True))
        row, end, left, right = (_splat(builder, value, ROWS) for value in args[6:10])
        begin = builder.sext(args[6], ir.IntType(64))
        rows = builder.add(row, ir.Constant(_NUMBERS, list(range(ROWS))))
        y, inside = builder.sitofp(rows, _FLOATS), builder.icmp_signed("<", rows, end)
        clear = inside
        for edge in _EDGES:
            left, right, sure = _clip(builder, [corners[i] for i in edge], y, left, right)
            clear = builder.and_(clear, sure)
        for i, values in ((14, left), (15, right)):
            builder.store(values, _vector_at(builder, _data(context, builder, signature, args, i), 0, ROWS), align=4)
        full = builder.and_(clear, builder.icmp_signed("<=", left, right))
        ends = builder.add(right, _every(1))
        for i, sign, values in ((12, "<", left), (13, ">", right)):
            at = _data(context, builder, signature, args, i, begin)
            old = _load(builder, at, 0, ROWS)
            better = builder.and_(full, builder.icmp_signed(sign, values, old))
            builder.store(builder.select(better, values, old), _vector_at(builder, at, 0, ROWS), align=4)

        def ones_from(position: Any) -> Any:
            """The bits of a word from ``position`` on, which may be outside the word."""
            position = builder.select(builder.icmp_signed("<", position, _every(0)), _every(0), position)
            within = builder.icmp_signed("<", position, _every(WORD))
            return builder.select(within, builder.shl(_every(-1), position), _every(0))

        lines = builder.sdiv(_size(context, builder, signature, args, 10), args[11])
        with cgutils.for_range(builder, lines) as loop:
            offset = builder.add(builder.mul(loop.index, args[11]), begin)
            at = _data(context, builder, signature, args, 10, offset)
            origin = builder.trunc(builder.mul(loop.index, ir.Constant(ir.IntType(64), WORD)), ir.IntType(32))
            origin = _splat(builder, origin, ROWS)
            span = builder.xor(*(ones_from(builder.sub(position, origin)) for position in (left, ends)))
            span = builder.select(full, span, _every(0))
            builder.store(builder.or_(_load(builder, at, 0, ROWS), span), _vector_at(builder, at, 0, ROWS), align=4)
        doubt = builder.and_(inside, builder.not_(clear))
        return builder.zext(builder.bitcast(doubt, ir.IntType(ROWS)), ir.IntType(64))

    single, number = types.float32, types.int32
    return types.int64(
        *[single] * 6, number, number, number, number, bits, types.intp, first, last, low, high
    ), generate


def _size(context: Any, builder: Any, signature: Any, args: Any, position: int) -> Any:
    return context.make_array(signature.args[position])(context, builder, args[position]).nitems


@intrinsic
def unpack(typingctx, word, out, to):
    """``out[to + i]`` (uint8), i < `WORD`, becomes bit i of ``word`` (int32)."""

    def generate(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.VectorType(ir.IntType(1), WORD))
        values = builder.zext(bits, ir.VectorType(ir.IntType(8), WORD))
        at = _data(context, builder, signature, args, 1, args[2])
        builder.store(values, _vector_at(builder, at, 0, WORD), align=1)
        return context.get_dummy_value()

    return types.void(types.int32, out, types.intp), generate
