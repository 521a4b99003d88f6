"""Vector code of the CCNF responses: eight positions of a response map side by side.

All of it reads *shifted columns* [11, stride]: row c holds, for every line of the area, the w values from
column c on, so that pixel (r, c) of the blocks at positions p, p + 1, ... (row by row over the map) is found at
``c stride + r w + p``, p + 1, ... The order of every sum is the reference's (see `ccnf_responses`), which is why
nothing here may be reassociated or contracted but for the fused operations written as such.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import _FUSE, LANES, LINE, _data, _load, _splat, _vector_at, prefetch
from pyfaceau.landmarks.areas import SUPPORT

#: Neurons that one call of `neuron_products` evaluates, and how many of them in two chains.
GROUP, IN_TWO_CHAINS = 7, 4
#: Vectors of positions that are normalised together.
TILE = 4
#: Largest side of a response map.
MAX_WINDOW = 32
_PIXELS = SUPPORT * SUPPORT

_FLOATS, _DOUBLES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.DoubleType(), LANES)
_LONGS = ir.VectorType(ir.IntType(64), LANES)
_SIZE = ir.IntType(64)


def _constant(vector: Any, value: float) -> Any:
    return ir.Constant(vector, [value] * LANES)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, fused where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=_FUSE), c, flags=_FUSE)


@intrinsic
def shift_lines(typingctx, area, first, side, window, count, columns, to):
    """``columns[to + y window + x] = area[first + y side + x]`` for y < ``count`` and x < ``window``, by whole vectors.

    What they write beyond a line the next line overwrites; up to seven floats after the last line are spoilt.
    """

    def generate(context, builder, signature, args):
        source = _data(context, builder, signature, args, 0, args[1])
        target = _data(context, builder, signature, args, 5, args[6])

        def copy_lines(vectors: int) -> None:
            with cgutils.for_range(builder, args[4]) as loop:
                line = builder.gep(source, [builder.mul(loop.index, args[2])])
                slot = builder.gep(target, [builder.mul(loop.index, args[3])])
                for v in range(vectors):
                    builder.store(_load(builder, line, LANES * v), _vector_at(builder, slot, LANES * v), align=4)

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


@intrinsic
def centre_blocks(typingctx, columns, stride, window, first, centred, inverses):
    """Take the mean out of the blocks at 32 positions, and find 1 / the L2 norm of what is left.

    ``centred[8 (121 v + k) + lane]``: pixel k (column by column) of the block at position ``first + 8 v + lane``;
    ``inverses[8 v + lane]``. Plain float32 sums, that of the values line by line, that of the squares column by
    column; a norm of 0 counts as 1.
    """

    def generate(context, builder, signature, args):
        start = _data(context, builder, signature, args, 0, args[3])
        blocks, inverse_at = (_data(context, builder, signature, args, i) for i in (4, 5))
        zero, one = _constant(_FLOATS, 0.0), _constant(_FLOATS, 1.0)

        def summed(outer: Any, inner: Any, term: Any) -> list[Any]:
            sums = [cgutils.alloca_once_value(builder, zero) for _ in range(TILE)]
            with cgutils.for_range(builder, ir.Constant(_SIZE, SUPPORT)) as loop:
                line = builder.gep(start, [builder.mul(loop.index, outer)])
                target = builder.gep(blocks, [builder.mul(loop.index, ir.Constant(_SIZE, SUPPORT * LANES))])
                current = [builder.load(slot) for slot in sums]
                for k in range(SUPPORT):
                    for v in range(TILE):
                        at = LANES * (_PIXELS * v + k)
                        current[v] = builder.fadd(current[v], term(v, _load(builder, line, LANES * v), target, at))
                    line = builder.gep(line, [inner])
                for slot, value in zip(sums, current, strict=True):
                    builder.store(value, slot)
            return [builder.load(slot) for slot in sums]

        def square(v: int, value: Any, target: Any, at: int) -> Any:
            rest = builder.fsub(value, means[v])
            builder.store(rest, _vector_at(builder, target, at), align=4)
            return builder.fmul(rest, rest)

        sums = summed(args[2], args[1], lambda v, value, target, at: value)
        means = [builder.fdiv(s, _constant(_FLOATS, float(_PIXELS))) for s in sums]
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        square_root = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f32")
        for v, s in enumerate(summed(args[1], args[2], square)):
            norm = builder.call(square_root, [s])
            norm = builder.select(builder.fcmp_ordered("==", norm, zero), one, norm)
            builder.store(builder.fdiv(one, norm), _vector_at(builder, inverse_at, LANES * v), align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(columns, size, size, size, centred, inverses), generate


#: Cache lines that one call of `neuron_products` can fetch.
FETCHED = _PIXELS // 2 - 1


@intrinsic
def neuron_products(typingctx, centred, inverses, v, weights, at, z, ahead, lines):
    """Bias and weighted sum of eight normalised blocks (the ``v``-th eight of a tile), for seven neurons.

    ``weights[at + 8 k + q]``: neuron q's bias at k = 0, then its weights column by column. Stores neuron q's sums
    at ``z[32 q + 8 v]``. Neurons 0-3 are summed in two fused chains, even and odd k (the last two k both
    belong to the even one), the others in one.

    Meanwhile the next ``lines`` cache lines from the address ``ahead`` on come closer, `FETCHED` of them at most.
    """

    def generate(context, builder, signature, args):
        lines = builder.inttoptr(args[6], ir.ArrayType(ir.IntType(8), LINE).as_pointer())
        first = builder.mul(args[2], ir.Constant(_SIZE, LANES))
        block = _data(context, builder, signature, args, 0, builder.mul(first, ir.Constant(_SIZE, _PIXELS)))
        inverse = _load(builder, _data(context, builder, signature, args, 1, first))
        table = _data(context, builder, signature, args, 3, args[4])

        def factor(row: Any, q: int) -> Any:
            return _splat(builder, builder.load(builder.gep(row, [ir.Constant(_SIZE, q)])))

        sums = [cgutils.alloca_once_value(builder, factor(table, q)) for q in range(GROUP)]
        sums += [cgutils.alloca_once_value(builder, _constant(_FLOATS, 0.0)) for _ in range(IN_TWO_CHAINS)]

        def add_pixels(k: Any, odd: tuple[bool, ...]) -> None:
            """The pixels from ``k`` on; ``odd`` ones belong to the odd chain."""
            first = builder.mul(k, ir.Constant(_SIZE, LANES))
            pixels, rows = builder.gep(block, [first]), builder.gep(table, [first])
            for j, other in enumerate(odd):
                x = builder.fmul(_load(builder, pixels, LANES * j), inverse)
                row = builder.gep(rows, [ir.Constant(_SIZE, LANES * (j + 1))])
                for q in range(GROUP):
                    slot = sums[GROUP + q if other and q < IN_TWO_CHAINS else q]
                    builder.store(_fma(builder, x, factor(row, q), builder.load(slot)), slot)

        with cgutils.for_range(builder, ir.Constant(_SIZE, FETCHED)) as loop:
            with builder.if_then(builder.icmp_signed("<", loop.index, args[7])):
                prefetch(builder, builder.gep(lines, [loop.index]), near=2)
            add_pixels(builder.mul(loop.index, ir.Constant(_SIZE, 2)), (True, False))
        add_pixels(ir.Constant(_SIZE, _PIXELS - 3), (True, False, False))
        target = _data(context, builder, signature, args, 5, first)
        for q in range(GROUP):
            value = builder.load(sums[q])
            if q < IN_TWO_CHAINS:
                value = builder.fadd(value, builder.load(sums[GROUP + q]))
            builder.store(value, _vector_at(builder, target, TILE * LANES * q), align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(centred, inverses, size, weights, size, z, size, size), generate


@intrinsic
def last_products(typingctx, centred, inverses, position, weights, at, z):
    """As `neuron_products`, for the one block at ``position`` of a tile: one chain for every neuron."""

    def generate(context, builder, signature, args):
        lane = builder.and_(args[2], ir.Constant(_SIZE, LANES - 1))
        block = builder.add(builder.mul(builder.sub(args[2], lane), ir.Constant(_SIZE, _PIXELS)), lane)
        block = _data(context, builder, signature, args, 0, block)
        inverse = builder.load(_data(context, builder, signature, args, 1, args[2]))
        table = _data(context, builder, signature, args, 3, args[4])
        sums = cgutils.alloca_once_value(builder, _load(builder, table))
        with cgutils.for_range(builder, ir.Constant(_SIZE, _PIXELS)) as loop:
            first = builder.mul(loop.index, ir.Constant(_SIZE, LANES))
            x = builder.fmul(builder.load(builder.gep(block, [first])), inverse)
            row = _load(builder, builder.gep(table, [first]), LANES)
            builder.store(_fma(builder, _splat(builder, x), row, builder.load(sums)), sums)
        target, values = _data(context, builder, signature, args, 5, args[2]), builder.load(sums)
        for q in range(GROUP):
            slot = builder.gep(target, [ir.Constant(_SIZE, TILE * LANES * q)])
            builder.store(builder.extract_element(values, ir.Constant(ir.IntType(32), q)), slot)
        return context.get_dummy_value()

    return types.void(centred, inverses, types.intp, weights, types.intp, z), generate


#: exp(-r) for abs(r) <= log(2) / 2, to 4e-16: interpolated at Chebyshev's nodes.
_POLYNOMIAL = (
    1.0, -1.0000000000000067, 0.5000000000000006, -0.16666666666554314, 0.041666666666573066, -0.008333333385699212,
    0.001388888893251478, -0.00019841170230570286, 2.480150431378554e-05, -2.764019739169484e-06,
    2.7626371065696354e-07,
)  # fmt: skip


def _negative_exponential(builder: Any, z: Any) -> Any:
    """exp(-z) per lane in float64, to 1e-14, for float32 z; beyond 700 it stops growing and shrinking."""
    for predicate, bound in ((">", 700.0), ("<", -700.0)):
        limit = _constant(_FLOATS, bound)
        z = builder.select(builder.fcmp_ordered(predicate, z, limit), limit, z)
    z = builder.fpext(z, _DOUBLES)
    magic = _constant(_DOUBLES, 6755399441055744.0)  # 1.5 * 2^52: adding it leaves the rounded integer in the low bits
    shifted = _fma(builder, z, _constant(_DOUBLES, -1.4426950408889634), magic)
    n = builder.fsub(shifted, magic)
    r = _fma(builder, n, _constant(_DOUBLES, 0.6931471805599453), z)
    terms, power = [_constant(_DOUBLES, c) for c in _POLYNOMIAL], r
    while len(terms) > 1:  # neighbours first (Estrin): short chains
        pairs, rest = zip(terms[::2], terms[1::2]), terms[len(terms) // 2 * 2 :]  # noqa: B905 - the odd one is `rest`
        terms = [_fma(builder, high, power, low) for low, high in pairs] + rest
        power = builder.fmul(power, power)
    exponent = builder.shl(builder.bitcast(shifted, _LONGS), ir.Constant(_LONGS, [52] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(terms[0], _LONGS), exponent), _DOUBLES)


@intrinsic
def add_neurons(typingctx, z, count, twice_alpha, at, sums, to):
    """Add ``twice_alpha[at + q] / (1 + exp(-z[32 q + p]))``, q = 0 .. 6 in this order, to ``sums[to + p]``.

    For p < ``count``, by eight positions. Terms in float64 (``twice_alpha`` is), each sum rounded to float32.
    """

    def generate(context, builder, signature, args):
        start = _data(context, builder, signature, args, 0)
        target = _data(context, builder, signature, args, 4, args[5])
        factors = _data(context, builder, signature, args, 2, args[3])
        undefined = ir.Constant(_DOUBLES, ir.Undefined)
        first, lanes = ir.Constant(ir.IntType(32), 0), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        one = _constant(_DOUBLES, 1.0)
        with cgutils.for_range_slice(
            builder, ir.Constant(_SIZE, 0), args[1], ir.Constant(_SIZE, LANES), intp=_SIZE
        ) as (p, _):
            slot = _vector_at(builder, builder.gep(target, [p]))
            total = cgutils.alloca_once_value(builder, builder.load(slot, align=4))
            with cgutils.for_range(builder, ir.Constant(_SIZE, GROUP)) as loop:
                row = builder.mul(loop.index, ir.Constant(_SIZE, TILE * LANES))
                values = _load(builder, builder.gep(start, [builder.add(p, row)]))
                power = _negative_exponential(builder, values)
                factor = builder.insert_element(undefined, builder.load(builder.gep(factors, [loop.index])), first)
                factor = builder.shuffle_vector(factor, undefined, lanes)
                term = builder.fdiv(factor, builder.fadd(one, power))
                wide = builder.fadd(builder.fpext(builder.load(total), _DOUBLES), term)
                builder.store(builder.fptrunc(wide, _FLOATS), total)
            builder.store(builder.load(total), slot, align=4)
        return context.get_dummy_value()

    return types.void(z, types.intp, twice_alpha, types.intp, sums, types.intp), generate
