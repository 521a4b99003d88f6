"""Vector code of convolutions: several maps at several places, all sums in registers."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import _FUSE, _data, _load, _splat, _vector_at, vectors_of


@cache
def tap_tile(maps: int, eights: int) -> Any:
    """An intrinsic for ``maps`` output maps of a convolution at ``8 eights`` neighbouring places.

    The returned function has the signature ``(source, start, offsets, first, taps, weights, at, stride, bias, out, to,
    out_stride)``; arrays are flat, ``offsets`` is int64, the others are float32. For m < maps and i < 8 eights,
    ``out[to + m out_stride + i]`` becomes ``weights[bias + m]`` plus the sum over k < taps of ``weights[at + m stride
    + k] * source[start + offsets[first + k] + i]``, as one chain of fused operations in the order of k. Nothing is
    checked: the caller answers for the bounds.
    """

    @intrinsic
    def tile(typingctx, source, start, offsets, first, taps, weights, at, stride, bias, out, to, out_stride):
        def generate(context, builder, signature, args):
            index = ir.IntType(64)
            inputs, steps, kernels, biases, target = (
                _data(context, builder, signature, args, i, args[k])
                for i, k in ((0, 1), (2, 3), (5, 6), (5, 8), (9, 10))
            )

            def rows(base: Any, step: Any) -> list[Any]:
                return [builder.gep(base, [builder.mul(step, ir.Constant(index, m))]) for m in range(maps)]

            weight_rows, target_rows = rows(kernels, args[7]), rows(target, args[11])
            chunks = vectors_of(eights)
            sums = []
            for bias_of_map in rows(biases, ir.Constant(index, 1)):
                bias_value = builder.load(bias_of_map)
                sums.append([cgutils.alloca_once_value(builder, _splat(builder, bias_value, n)) for _, n in chunks])
            with cgutils.for_range(builder, args[4]) as loop:
                line = builder.gep(inputs, [builder.load(builder.gep(steps, [loop.index]))])
                loaded = [_load(builder, line, at, n) for at, n in chunks]
                for weight_row, slots in zip(weight_rows, sums, strict=True):
                    weight = builder.load(builder.gep(weight_row, [loop.index]))
                    for values, slot in zip(loaded, slots, strict=True):
                        term = builder.fmul(_splat(builder, weight, values.type.count), values, flags=_FUSE)
                        builder.store(builder.fadd(builder.load(slot), term, flags=_FUSE), slot)
            for row, slots in zip(target_rows, sums, strict=True):
                for (at, n), slot in zip(chunks, slots, strict=True):
                    builder.store(builder.load(slot), _vector_at(builder, row, at, n), align=4)
            return context.get_dummy_value()

        size = types.intp
        return types.void(source, size, offsets, size, size, weights, size, size, size, out, size, size), generate

    return tile
