"""Vector code of the mean shift: a landmark in every lane."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import LANES, _data, _load, _splat, _vector_at
from pyfaceau._simd_solve import transposed

_INDEX = ir.IntType(64)


@cache
def map_means(lanes: int) -> Any:
    """An intrinsic for weighted mean positions in ``lanes`` (8 or 16) maps of float32 values, one in every lane.

    The returned function has the signature ``(values, weights, starts, at, weights_at, cells_at, cells, means, to,
    pitch)``; arrays are contiguous, starts int64, the others float32; ``cells_at`` [2, cells] is where a map's cells
    are, in x and y. For i < lanes and ``v[k] = values[starts[at + i] + k] * weights[starts[weights_at + i] + k]``,
    ``means[to + i]`` becomes the sum over k < cells of ``v[k] * cells_at[0, k]``, divided by that of ``v[k]``, and
    ``means[to + pitch + i]`` the same of ``cells_at[1]``. Sums are in the order of k, every product and partial sum
    rounded to float32. There are eight cells at least. Nothing else is checked.
    """

    @intrinsic
    def means_of(typingctx, values, weights, starts, at, weights_at, cells_at, cells, means, to, pitch):
        def generate(context, builder, signature, args):
            vector, eight = ir.VectorType(ir.FloatType(), lanes), ir.Constant(_INDEX, LANES)
            joined = ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(lanes)))
            sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * lanes)) for _ in range(3)]

            def places(array: int, at: Any) -> list[Any]:
                data, first = (_data(context, builder, signature, args, *which) for which in ((array,), (2, at)))
                maps = (builder.gep(first, [ir.Constant(_INDEX, i)]) for i in range(lanes))
                return [builder.gep(data, [builder.load(start)]) for start in maps]

            maps, kernels = places(0, args[3]), places(1, args[4])
            axes = [_data(context, builder, signature, args, 5, at) for at in (ir.Constant(_INDEX, 0), args[6])]

            def row(pointers: list[Any], i: int, cell: Any) -> Any:
                """Eight cells of map i; with 16 lanes those of map i + 8 behind them."""
                parts = [_load(builder, builder.gep(pointer, [cell])) for pointer in pointers[i::LANES]]
                return parts[0] if len(parts) == 1 else builder.shuffle_vector(*parts, joined)

            def eight_cells(cell: Any) -> list[Any]:
                """Eight cells' values times weights, those of all maps in a vector each."""
                products = [builder.fmul(row(maps, i, cell), row(kernels, i, cell)) for i in range(LANES)]
                return transposed(builder, products)

            def add(product: Any, cell: Any) -> None:
                factors = (_splat(builder, builder.load(builder.gep(axis, [cell])), lanes) for axis in axes)
                terms = (product, *(builder.fmul(product, factor) for factor in factors))
                for total, term in zip(sums, terms, strict=True):
                    builder.store(builder.fadd(builder.load(total), term), total)

            with cgutils.for_range(builder, builder.udiv(args[6], eight)) as loop:
                first = builder.mul(loop.index, eight)
                for i, product in enumerate(eight_cells(first)):
                    add(product, builder.add(first, ir.Constant(_INDEX, i)))
            left = builder.urem(args[6], eight)
            with builder.if_then(builder.icmp_unsigned("!=", left, ir.Constant(_INDEX, 0))):
                first = builder.sub(args[6], eight)  # some of these cells are in the sums already
                kept = cgutils.alloca_once(builder, vector, LANES)
                for i, product in enumerate(eight_cells(first)):
                    builder.store(product, builder.gep(kept, [ir.Constant(_INDEX, i)]))
                with cgutils.for_range(builder, left) as loop:
                    i = builder.add(builder.sub(eight, left), loop.index)
                    add(builder.load(builder.gep(kept, [i])), builder.add(first, i))
            whole, *moments = (builder.load(total) for total in sums)
            target = _data(context, builder, signature, args, 7, args[8])
            for moment, place in zip(moments, (target, builder.gep(target, [args[9]])), strict=True):
                builder.store(builder.fdiv(moment, whole), _vector_at(builder, place, 0, lanes), align=4)
            return context.get_dummy_value()

        size = types.intp
        return types.void(values, weights, starts, size, size, cells_at, size, means, size, size), generate

    return means_of
