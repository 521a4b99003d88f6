"""Vector code of the CCNF responses: eight or sixteen positions of a response map side by side.

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

from pyfaceau._simd import _FUSE, LANES, LINE, WIDE, _data, _load, _splat, _vector_at, prefetch, vectors_of
from pyfaceau.landmarks.areas import SUPPORT

#: Neurons that one call of `neuron_products` evaluates, and how many of them in two chains.
GROUP, IN_TWO_CHAINS = 7, 4
#: Largest side of a response map.
MAX_WINDOW = 32
_PIXELS = SUPPORT * SUPPORT

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_SIZE = ir.IntType(64)


def _constant(vector: Any, value: float) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, fused where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=_FUSE), c, flags=_FUSE)


@intrinsic
def shift_lines(typingctx, area, first, side, window, count, columns, to):
    """``columns[to + y window + x] = area[first + y side + x]`` for y < ``count`` and x < ``window``, by whole vectors.

    What they write beyond a line the next line overwrites; up to 15 floats after the last line are spoilt.
    """

    def generate(context, builder, signature, args):
        source = _data(context, builder, signature, args, 0, args[1])
        target = _data(context, builder, signature, args, 5, args[6])

        def copy_lines(vectors: int) -> None:
            with cgutils.for_range(builder, args[4]) as loop:
                line = builder.gep(source, [builder.mul(loop.index, args[2])])
                slot = builder.gep(target, [builder.mul(loop.index, args[3])])
                for at, lanes in vectors_of(vectors):
                    builder.store(_load(builder, line, at, lanes), _vector_at(builder, slot, at, lanes), align=4)

        def choose(vectors: int) -> None:
            fits = builder.icmp_signed("<=", args[3], ir.Constant(_SIZE, LANES * vectors))
            with builder.if_else(fits) as (then, otherwise):
                with then:
                    copy_lines(vectors)
                with otherwise:
                    if vectors < MAX_WINDOW // LANES:
                        choose(vectors + 1)

        choose(1)
        return context.get_dummy_value()

    size = types.intp
    return types.void(area, size, size, size, size, columns, size), generate


@cache
def centre_blocks(vectors: int, lanes: int = WIDE) -> Any:
    """An intrinsic that takes the mean out of the blocks at ``lanes vectors`` positions and finds what is left's norm.

    The returned function has the signature ``(columns, stride, window, first, centred, inverses)``.
    ``centred[lanes (121 v + k) + i]``: pixel k (column by column) of the block at position ``first + lanes v + i``;
    ``inverses[lanes v + i]``: 1 / its L2 norm. Plain float32 sums, that of the values line by line,
    that of the squares column by column; a norm of 0 counts as 1.
    """

    @intrinsic
    def centre(typingctx, columns, stride, window, first, centred, inverses):
        def generate(context, builder, signature, args):
            start = _data(context, builder, signature, args, 0, args[3])
            blocks, inverse_at = (_data(context, builder, signature, args, i) for i in (4, 5))
            floats = ir.VectorType(ir.FloatType(), lanes)
            zero, one = _constant(floats, 0.0), _constant(floats, 1.0)

            def summed(outer: Any, inner: Any, term: Any) -> list[Any]:
                sums = [cgutils.alloca_once_value(builder, zero) for _ in range(vectors)]
                with cgutils.for_range(builder, ir.Constant(_SIZE, SUPPORT)) as loop:
                    line = builder.gep(start, [builder.mul(loop.index, outer)])
                    target = builder.gep(blocks, [builder.mul(loop.index, ir.Constant(_SIZE, SUPPORT * lanes))])
                    current = [builder.load(slot) for slot in sums]
                    for k in range(SUPPORT):
                        for v in range(vectors):
                            at = lanes * (_PIXELS * v + k)
                            value = _load(builder, line, lanes * v, lanes)
                            current[v] = builder.fadd(current[v], term(v, value, target, at))
                        line = builder.gep(line, [inner])
                    for slot, value in zip(sums, current, strict=True):
                        builder.store(value, slot)
                return [builder.load(slot) for slot in sums]

            def square(v: int, value: Any, target: Any, at: int) -> Any:
                rest = builder.fsub(value, means[v])
                builder.store(rest, _vector_at(builder, target, at, lanes), align=4)
                return builder.fmul(rest, rest)

            sums = summed(args[2], args[1], lambda v, value, target, at: value)
            means = [builder.fdiv(s, _constant(floats, float(_PIXELS))) for s in sums]
            kind = ir.FunctionType(floats, [floats])
            square_root = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{lanes}f32")
            for v, s in enumerate(summed(args[1], args[2], square)):
                norm = builder.call(square_root, [s])
                norm = builder.select(builder.fcmp_ordered("==", norm, zero), one, norm)
                builder.store(builder.fdiv(one, norm), _vector_at(builder, inverse_at, lanes * v, lanes), align=4)
            return context.get_dummy_value()

        size = types.intp
        return types.void(columns, size, size, size, centred, inverses), generate

    return centre


_STEPS = _PIXELS // 2 - 1  # of two pixels each; three are left
_LINES_A_STEP = WIDE // LANES
#: Cache lines that one call of a function of `neuron_products` can fetch.
FETCHED = _STEPS * _LINES_A_STEP


@cache
def neuron_products(with_last: bool, lanes: int = WIDE) -> Any:
    """An intrinsic for the bias and weighted sum of ``lanes`` normalised blocks, for seven neurons.

    The returned function has the signature
    ``(centred, inverses, v, last, weights, at, z, to, z_stride, last_to, ahead, lines)``: the ``v``-th vector of those
    that `centre_blocks` left. ``weights[at + 8 k + q]``: neuron q's bias at k = 0, then its weights column by column.
    Stores neuron q's sums at ``z[to + q z_stride]``. Neurons 0-3 are summed in two fused chains, even and odd k (the
    last two k both belong to the even one), the others in one.

    ``with_last`` adds the one block ``last``, counted likewise, whose sums go to ``z[last_to + q]``, with one chain
    for every neuron. On its own that chain would take as long as a vector of blocks does.

    Meanwhile the next ``lines`` cache lines from the address ``ahead`` on come closer, `FETCHED` of them at most.
    """

    @intrinsic
    def products(typingctx, centred, inverses, v, last, weights, at, z, to, z_stride, last_to, ahead, lines):
        def generate(context, builder, signature, args):
            lines = builder.inttoptr(args[10], ir.ArrayType(ir.IntType(8), LINE).as_pointer())
            first = builder.mul(args[2], ir.Constant(_SIZE, lanes))
            block = _data(context, builder, signature, args, 0, builder.mul(first, ir.Constant(_SIZE, _PIXELS)))
            inverse = _load(builder, _data(context, builder, signature, args, 1, first), 0, lanes)
            table = _data(context, builder, signature, args, 4, args[5])

            def spread(pointer: Any, width: int) -> Any:
                return _splat(builder, builder.load(pointer), width)

            def factor(row: Any, q: int) -> Any:
                return spread(builder.gep(row, [ir.Constant(_SIZE, q)]), lanes)

            begins = [factor(table, q) for q in range(GROUP)] + [_constant(inverse.type, 0.0)] * IN_TWO_CHAINS
            sums = [cgutils.alloca_once_value(builder, begin) for begin in begins]
            if with_last:
                lane = builder.and_(args[3], ir.Constant(_SIZE, lanes - 1))
                last = builder.add(builder.mul(builder.sub(args[3], lane), ir.Constant(_SIZE, _PIXELS)), lane)
                last_block = _data(context, builder, signature, args, 0, last)
                last_inverse = builder.load(_data(context, builder, signature, args, 1, args[3]))
                # In memory, as there is no register left for the inverse norm in the loop below.
                last_pixels = cgutils.alloca_once(builder, ir.ArrayType(ir.FloatType(), _PIXELS))
                last_pixels = builder.bitcast(last_pixels, ir.FloatType().as_pointer())
                with cgutils.for_range(builder, ir.Constant(_SIZE, _PIXELS)) as loop:
                    pixel = builder.gep(last_block, [builder.mul(loop.index, ir.Constant(_SIZE, lanes))])
                    x = builder.fmul(builder.load(pixel), last_inverse)
                    builder.store(x, builder.gep(last_pixels, [loop.index]))
                last_sums = cgutils.alloca_once_value(builder, _load(builder, table))

            def add_pixels(k: Any, odd: tuple[bool, ...]) -> None:
                """The pixels from ``k`` on; ``odd`` ones belong to the odd chain."""
                pixels = builder.gep(block, [builder.mul(k, ir.Constant(_SIZE, lanes))])
                rows = builder.gep(table, [builder.mul(k, ir.Constant(_SIZE, LANES))])
                for j, other in enumerate(odd):
                    row = builder.gep(rows, [ir.Constant(_SIZE, LANES * (j + 1))])
                    if with_last:
                        x = spread(builder.gep(last_pixels, [builder.add(k, ir.Constant(_SIZE, j))]), LANES)
                        builder.store(_fma(builder, x, _load(builder, row), builder.load(last_sums)), last_sums)
                    x = builder.fmul(_load(builder, pixels, lanes * j, lanes), inverse)
                    for q in range(GROUP):
                        slot = sums[GROUP + q if other and q < IN_TWO_CHAINS else q]
                        builder.store(_fma(builder, x, factor(row, q), builder.load(slot)), slot)

            with cgutils.for_range(builder, ir.Constant(_SIZE, _STEPS)) as loop:
                line = builder.mul(loop.index, ir.Constant(_SIZE, _LINES_A_STEP))
                with builder.if_then(builder.icmp_signed("<", line, args[11])):
                    for i in range(_LINES_A_STEP):
                        prefetch(builder, builder.gep(lines, [builder.add(line, ir.Constant(_SIZE, i))]), near=2)
                add_pixels(builder.mul(loop.index, ir.Constant(_SIZE, 2)), (True, False))
            add_pixels(ir.Constant(_SIZE, _PIXELS - 3), (True, False, False))
            target = _data(context, builder, signature, args, 6, args[7])
            for q in range(GROUP):
                value = builder.load(sums[q])
                if q < IN_TWO_CHAINS:
                    value = builder.fadd(value, builder.load(sums[GROUP + q]))
                place = builder.gep(target, [builder.mul(args[8], ir.Constant(_SIZE, q))])
                builder.store(value, _vector_at(builder, place, 0, lanes), align=4)
            if with_last:
                target = _data(context, builder, signature, args, 6, args[9])
                builder.store(builder.load(last_sums), _vector_at(builder, target), align=4)
            return context.get_dummy_value()

        size = types.intp
        return types.void(centred, inverses, size, size, weights, size, z, size, size, size, size, size), generate

    return products
