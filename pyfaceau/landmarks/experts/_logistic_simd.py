"""Vector code of the CCNF responses after the neurons' sums: logistic functions, their sum, the least response."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import LANES, WIDE, _data, _load, _vector_at
from pyfaceau.landmarks.experts._ccnf_simd import _FLOATS, _SIZE, _constant, _fma

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)

#: exp(-r) for abs(r) <= log(2) / 2, to 4e-16: interpolated at Chebyshev's nodes.
_POLYNOMIAL = (
    1.0, -1.0000000000000067, 0.5000000000000006, -0.16666666666554314, 0.041666666666573066, -0.008333333385699212,
    0.001388888893251478, -0.00019841170230570286, 2.480150431378554e-05, -2.764019739169484e-06,
    2.7626371065696354e-07,
)  # fmt: skip


#: Numbers that go through `denominators` side by side, as one vector alone waits for its own results; doubles to it.
TOGETHER, _HALF = 32, WIDE // 2


def _negative_exponentials(builder: Any, values: list[Any]) -> list[Any]:
    """exp(-z) per lane in float64, to 3e-14, for float32 vectors; beyond 700 it stops growing and shrinking."""
    floats, doubles, longs = (ir.VectorType(t, _HALF) for t in (ir.FloatType(), ir.DoubleType(), ir.IntType(64)))

    def constant(value: float) -> Any:
        return ir.Constant(doubles, [value] * _HALF)

    def fused(a: list[Any], b: list[Any], c: list[Any]) -> list[Any]:
        return [_fma(builder, *operands) for operands in zip(a, b, c, strict=True)]

    def everywhere(value: float) -> list[Any]:
        return [constant(value)] * len(values)

    for predicate, bound in ((">", 700.0), ("<", -700.0)):
        limit = ir.Constant(floats, [bound] * _HALF)
        values = [builder.select(builder.fcmp_ordered(predicate, z, limit), limit, z) for z in values]
    values = [builder.fpext(z, doubles) for z in values]
    magic = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the rounded integer in the low bits
    shifted = fused(values, everywhere(-1.4426950408889634), everywhere(magic))
    power = fused([builder.fsub(s, constant(magic)) for s in shifted], everywhere(0.6931471805599453), values)
    terms = [everywhere(c) for c in _POLYNOMIAL]
    while len(terms) > 1:  # neighbours first (Estrin): short chains
        pairs, rest = zip(terms[::2], terms[1::2]), terms[len(terms) // 2 * 2 :]  # noqa: B905 - the odd one is `rest`
        terms = [fused(high, power, low) for low, high in pairs] + rest
        power = [builder.fmul(p, p) for p in power]
    exponents = [builder.shl(builder.bitcast(s, longs), ir.Constant(longs, [52] * _HALF)) for s in shifted]
    sums = [builder.add(builder.bitcast(t, longs), e) for t, e in zip(terms[0], exponents, strict=True)]
    return [builder.bitcast(s, doubles) for s in sums]


def _half_at(builder: Any, pointer: Any, offset: int) -> Any:
    """Address of the (unaligned) half vector ``offset`` elements after ``pointer``."""
    vector = ir.VectorType(pointer.type.pointee, _HALF)
    return builder.bitcast(builder.gep(pointer, [ir.Constant(_SIZE, offset)]), vector.as_pointer())


@intrinsic
def denominators(typingctx, z, first, count, out):
    """``out[i] = 1 + exp(-z[first + i])`` in float64 for i < ``count``, by 32 at once."""

    def generate(context, builder, signature, args):
        source = _data(context, builder, signature, args, 0, args[1])
        target = _data(context, builder, signature, args, 3)
        one = ir.Constant(ir.VectorType(ir.DoubleType(), _HALF), [1.0] * _HALF)
        step = ir.Constant(_SIZE, TOGETHER)
        with cgutils.for_range_slice(builder, ir.Constant(_SIZE, 0), args[2], step, intp=_SIZE) as (i, _):
            values, results = (builder.gep(pointer, [i]) for pointer in (source, target))
            loaded = [builder.load(_half_at(builder, values, _HALF * j), align=4) for j in range(TOGETHER // _HALF)]
            for j, power in enumerate(_negative_exponentials(builder, loaded)):
                builder.store(builder.fadd(one, power), _half_at(builder, results, _HALF * j), align=8)
        return context.get_dummy_value()

    return types.void(z, types.intp, types.intp, out), generate


def _quotient(builder: Any, numerator: Any, divisor: Any) -> Any:
    """Vectors of float64 divided, of positive numbers far from overflow.

    AVX-512's division takes 16 cycles for eight; from its estimate of 1 / divisor, to 2^-14, it takes five: two steps
    of Newton, then the quotient's remainder, which is exact (Markstein 1990). The result is the rounded quotient, but
    where that lies within 2^-52 units of its last place from halfway between two numbers.
    """
    if WIDE == LANES:
        return builder.fdiv(numerator, divisor)
    doubles, byte = divisor.type, ir.IntType(8)
    kind = ir.FunctionType(doubles, [doubles, doubles, byte])
    estimate = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.rcp14.pd.512")
    inverse = builder.call(estimate, [divisor, ir.Constant(doubles, [0.0] * LANES), ir.Constant(byte, 255)])
    negative, one = builder.fneg(divisor), ir.Constant(doubles, [1.0] * LANES)
    for _ in range(2):
        inverse = _fma(builder, inverse, _fma(builder, negative, inverse, one), inverse)
    quotient = builder.fmul(numerator, inverse)
    return _fma(builder, _fma(builder, negative, quotient, numerator), inverse, quotient)


@intrinsic
def add_quotients(typingctx, numerator, divisors, first, count, sums):
    """Add ``numerator / divisors[first + p]`` to ``sums[p]`` for p < ``count``, by eight.

    Quotients and sums in float64, each sum rounded to float32.
    """

    def generate(context, builder, signature, args):
        divisors = _data(context, builder, signature, args, 1, args[2])
        target = _data(context, builder, signature, args, 4)
        undefined = ir.Constant(_DOUBLES, ir.Undefined)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        numerator = builder.insert_element(undefined, args[0], ir.Constant(ir.IntType(32), 0))
        numerator = builder.shuffle_vector(numerator, undefined, lanes)
        step = ir.Constant(_SIZE, LANES)
        with cgutils.for_range_slice(builder, ir.Constant(_SIZE, 0), args[3], step, intp=_SIZE) as (p, _):
            slot = _vector_at(builder, builder.gep(target, [p]))
            divisor = builder.load(_vector_at(builder, builder.gep(divisors, [p])), align=8)
            total = builder.fpext(builder.load(slot, align=4), _DOUBLES)
            total = builder.fadd(total, _quotient(builder, numerator, divisor))
            builder.store(builder.fptrunc(total, _FLOATS), slot, align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(types.float64, divisors, size, size, sums), generate


@intrinsic
def lowest(typingctx, values, count):
    """The least of 0 and the first ``count`` float32 values, a multiple of 8."""

    def generate(context, builder, signature, args):
        source = _data(context, builder, signature, args, 0)
        least = cgutils.alloca_once_value(builder, _constant(_FLOATS, 0.0))
        step = ir.Constant(_SIZE, LANES)
        with cgutils.for_range_slice(builder, ir.Constant(_SIZE, 0), args[1], step, intp=_SIZE) as (i, _):
            value, current = _load(builder, builder.gep(source, [i])), builder.load(least)
            builder.store(builder.select(builder.fcmp_ordered("<", value, current), value, current), least)
        lanes = [builder.extract_element(builder.load(least), ir.Constant(ir.IntType(32), i)) for i in range(LANES)]
        while len(lanes) > 1:
            pairs = zip(lanes[::2], lanes[1::2], strict=True)
            lanes = [builder.select(builder.fcmp_ordered("<", a, b), a, b) for a, b in pairs]
        return lanes[0]

    return types.float32(values, types.intp), generate
