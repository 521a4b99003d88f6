"""Grey pictures: OpenCV's weights of blue, green and red, in its integers, so that the bytes are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau._simd import _data, prefetch

_WEIGHTS = (3735, 19235, 9798)  # of 2**15: 0.114, 0.587, 0.299
_SHIFT = 15
_STEP = 32  # pixels at a time
_AHEAD = 1024  # bytes fetched in advance


def gray_picture(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightness u8 (H, W) of a picture u8 (H, W, 3), as from OpenCV's ``cvtColor``."""
    gray = np.empty(bgr.shape[:2], np.uint8)
    _gray(np.ascontiguousarray(bgr).reshape(-1), gray.reshape(-1))
    return gray


@kernel
def _gray(bgr, gray):
    # The vector code reads a few bytes too many.
    whole = max(0, gray.shape[0] - 1) // _STEP * _STEP
    _gray_blocks(bgr, whole, gray)
    for i in range(whole, gray.shape[0]):
        b, g, r = np.uint32(bgr[3 * i]), np.uint32(bgr[3 * i + 1]), np.uint32(bgr[3 * i + 2])
        total = b * np.uint32(_WEIGHTS[0]) + g * np.uint32(_WEIGHTS[1]) + r * np.uint32(_WEIGHTS[2])
        gray[i] = (total + np.uint32(1 << (_SHIFT - 1))) >> np.uint32(_SHIFT)


@intrinsic
def _gray_blocks(typingctx, bgr, count, gray):
    """The first ``count`` pixels, a multiple of `_STEP`; reads four bytes behind them."""

    def generate(context, builder, signature, args):
        byte, word, index = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        source, target = (_data(context, builder, signature, args, i) for i in (0, 2))
        quad = ir.VectorType(byte, 16)

        def numbers(values: Any) -> Any:
            values = list(values)
            return ir.Constant(ir.VectorType(word, len(values)), values)

        def brightness(first: Any) -> Any:
            """Of eight pixels, from two loads of which each fills one half of a register."""
            halves = [
                builder.load(builder.bitcast(builder.gep(first, [ir.Constant(index, k)]), quad.as_pointer()), align=1)
                for k in (0, 12)
            ]
            # All in one register: the bytes of a channel spread over its 32-bit lanes, within each half.
            both = builder.shuffle_vector(*halves, numbers(range(32)))
            total = numbers([1 << (_SHIFT - 1)] * 8)
            for c, weight in enumerate(_WEIGHTS):
                lanes = [k for half in (0, 16) for k in range(half + c, half + c + 12, 3)]
                spread = numbers(k for lane in lanes for k in (lane, 32, 32, 32))
                channel = builder.shuffle_vector(both, ir.Constant(both.type, [0] * 32), spread)
                channel = builder.bitcast(channel, ir.VectorType(word, 8))
                total = builder.add(total, builder.mul(channel, numbers([weight] * 8)))
            return builder.trunc(builder.lshr(total, numbers([_SHIFT] * 8)), ir.VectorType(byte, 8))

        with cgutils.for_range_slice(
            builder, ir.Constant(index, 0), args[1], ir.Constant(index, _STEP), index, inc=True
        ) as (i, _):
            start = builder.gep(source, [builder.mul(i, ir.Constant(index, 3))])
            for line in (0, 64):
                prefetch(builder, builder.gep(start, [ir.Constant(index, _AHEAD + line)]))
            values = [brightness(builder.gep(start, [ir.Constant(index, 24 * k)])) for k in range(_STEP // 8)]
            while len(values) > 1:
                joined = range(2 * values[0].type.count)
                values = [
                    builder.shuffle_vector(a, b, numbers(joined))
                    for a, b in zip(values[::2], values[1::2], strict=True)
                ]
            place = builder.bitcast(builder.gep(target, [i]), values[0].type.as_pointer())
            builder.store(values[0], place, align=1)
        return context.get_dummy_value()

    return types.void(bgr, types.intp, gray), generate
