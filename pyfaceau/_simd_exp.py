"""The exponential of the C library, to the bit, and the logistic function of float32 values with it.

glibc's ``expf`` (since 2.28; from ARM's optimized routines, MIT licence) is within 0.502 units in the last place, but
not correctly rounded: x = (k / 32) log 2 + r; 2^(k/32) from a table; a cubic polynomial of r in float64.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import _FUSE, _VECTOR, LANES, WIDE, _data, _load, _vector_at

_STEPS = 32  # of the table, per octave
_WORDS, _DOUBLES = ir.VectorType(ir.IntType(64), LANES), ir.VectorType(ir.DoubleType(), LANES)
_PER_LOG = float.fromhex("0x1.71547652b82fep+0") * _STEPS  # 32 / log 2
_CUBIC = (  # of r in units of log 2 / 32, from the third power down to the first
    float.fromhex("0x1.c6af84b912394p-5") / _STEPS**3,
    float.fromhex("0x1.ebfce50fac4f3p-3") / _STEPS**2,
    float.fromhex("0x1.62e42ff0c52d6p-1") / _STEPS,
)
_MAGIC = 1.5 * 2.0**52  # adding it leaves the rounded integer in the low bits
_FAR = 100.0  # beyond it 1 + exp(x) is 1 or infinite in float32, as it is here
_VANISHED = -200.0  # from -104 on exp(x) is 0 in float32


@cache
def _powers() -> list[int]:
    """Bits of 2^(i/32), less those that the integer i itself brings to the exponent."""
    with localcontext() as context:
        context.prec = 40
        values = np.array([float(Decimal(2) ** (Decimal(i) / _STEPS)) for i in range(_STEPS)])
    return [int(bits) - (i << 47) for i, bits in enumerate(values.view(np.int64))]


def _powers_at(builder: Any, entries: Any) -> Any:
    """The table's ``entries`` [8]: out of four registers where they hold eight 64-bit numbers, else out of memory."""
    if WIDE == 2 * LANES:
        rows = [ir.Constant(_WORDS, _powers()[i : i + LANES]) for i in range(0, _STEPS, LANES)]
        kind = ir.FunctionType(_WORDS, [_WORDS] * 3)
        pick = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpermi2var.q.512")
        low, high = (builder.call(pick, [first, entries, second]) for first, second in (rows[:2], rows[2:]))
        return builder.select(builder.icmp_signed("<", entries, ir.Constant(_WORDS, [2 * LANES] * LANES)), low, high)
    table = ir.Constant(ir.ArrayType(ir.IntType(64), _STEPS), _powers())
    table, powers = cgutils.global_constant(builder, "powers", table), ir.Constant(_WORDS, ir.Undefined)
    for lane in (ir.Constant(ir.IntType(32), i) for i in range(LANES)):
        place = builder.gep(table, [ir.Constant(ir.IntType(64), 0), builder.extract_element(entries, lane)])
        powers = builder.insert_element(powers, builder.load(place), lane)
    return powers


def _exponential(builder: Any, x: Any) -> Any:
    def constant(value: float) -> Any:
        return ir.Constant(_DOUBLES, [value] * LANES)

    def integer(value: int) -> Any:
        return ir.Constant(_WORDS, [value] * LANES)

    def fused(a: Any, b: Any, c: Any) -> Any:
        return builder.fadd(builder.fmul(a, b, flags=_FUSE), c, flags=_FUSE)

    steps = builder.fmul(builder.fpext(x, _DOUBLES), constant(_PER_LOG), flags=_FUSE)
    shifted = builder.fadd(steps, constant(_MAGIC), flags=_FUSE)
    r = builder.fsub(steps, builder.fsub(shifted, constant(_MAGIC)), flags=_FUSE)
    bits = builder.bitcast(shifted, _WORDS)
    power = _powers_at(builder, builder.and_(bits, integer(_STEPS - 1)))
    power = builder.bitcast(builder.add(power, builder.shl(bits, integer(47))), _DOUBLES)
    high = fused(constant(_CUBIC[0]), r, constant(_CUBIC[1]))
    low = fused(constant(_CUBIC[2]), r, constant(1.0))
    return builder.fptrunc(builder.fmul(fused(high, builder.fmul(r, r), low), power), _VECTOR)


@intrinsic
def exact_logistic(typingctx, values, at):
    """Replace ``values[at : at + 8]`` (flat float32) by ``1 / (1 + expf(-value))``, every operation in float32."""

    def generate(context, builder, signature, args):
        one, far = (ir.Constant(_VECTOR, [value] * LANES) for value in (1.0, _FAR))
        near = ir.Constant(_VECTOR, [-_FAR] * LANES)
        pointer = _data(context, builder, signature, args, 0, args[1])
        x = builder.fsub(ir.Constant(_VECTOR, [-0.0] * LANES), _load(builder, pointer))
        x = builder.select(builder.fcmp_ordered("<", x, far), x, far)
        x = builder.select(builder.fcmp_ordered(">", x, near), x, near)
        result = builder.fdiv(one, builder.fadd(one, _exponential(builder, x)))
        builder.store(result, _vector_at(builder, pointer), align=4)
        return context.get_dummy_value()

    flat = isinstance(values, types.Array) and values.dtype == types.float32
    return (types.void(values, types.intp), generate) if flat else None


@intrinsic
def exact_exponential(typingctx, values, at):
    """Replace ``values[at : at + 8]`` (flat float32, none above 88) by ``expf(value)``."""

    def generate(context, builder, signature, args):
        low = ir.Constant(_VECTOR, [_VANISHED] * LANES)
        pointer = _data(context, builder, signature, args, 0, args[1])
        x = _load(builder, pointer)
        x = builder.select(builder.fcmp_ordered("<", x, low), low, x)  # NaN stays
        builder.store(_exponential(builder, x), _vector_at(builder, pointer), align=4)
        return context.get_dummy_value()

    flat = isinstance(values, types.Array) and values.dtype == types.float32
    return (types.void(values, types.intp), generate) if flat else None
