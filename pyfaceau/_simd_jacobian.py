"""Vector code of the Jacobian: derivatives of image points by a shape's rigid parameters and coefficients."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._simd import _VECTOR, LANES, WIDE, _data, _load, _splat, _vector_at
from pyfaceau._simd_solve import transposed_quads

_INDEX = ir.IntType(64)


@intrinsic
def turned_vectors(typingctx, vectors, points, count, r, scale, out, to, step):
    """Derivatives of ``points`` image points by ``count`` >= 8 coefficients: the turned and scaled vectors.

    ``vectors`` (float32 [3 points, count]) holds their x, y, z. For rows 0 and 1 of ``r`` (float32 [3, 3])
    ``out[to + (row points + i) step + k]`` becomes ``scale * ((r0 * x + r1 * y) + r2 * z)``, every step rounded.
    """

    def generate(context, builder, signature, args):
        axes, turn, target = (_data(context, builder, signature, args, *which) for which in ((0,), (3,), (5, args[6])))
        entries = [builder.load(builder.gep(turn, [ir.Constant(_INDEX, i)])) for i in range(6)]
        pitch = builder.mul(args[1], args[2])

        def turn_some(first: Any, places: list[Any], k: Any, lanes: int) -> None:
            at = [builder.gep(first, [builder.add(k, builder.mul(pitch, ir.Constant(_INDEX, a)))]) for a in range(3)]
            vector = [_load(builder, pointer, 0, lanes) for pointer in at]
            for place, row in zip(places, (entries[:3], entries[3:]), strict=True):
                x, y, z = (builder.fmul(_splat(builder, r, lanes), v) for r, v in zip(row, vector, strict=True))
                total = builder.fadd(builder.fadd(x, y), z)
                total = builder.fmul(_splat(builder, args[4], lanes), total)
                builder.store(total, _vector_at(builder, builder.gep(place, [k]), 0, lanes), align=4)

        last = builder.sub(args[2], ir.Constant(_INDEX, LANES))
        with cgutils.for_range(builder, args[1]) as point:
            first = builder.gep(axes, [builder.mul(point.index, args[2])])
            places = [
                builder.gep(target, [builder.mul(i, args[7])]) for i in (point.index, builder.add(args[1], point.index))
            ]
            done = ir.Constant(_INDEX, 0)
            for lanes in dict.fromkeys((WIDE, LANES)):
                width, left = ir.Constant(_INDEX, lanes), builder.sub(args[2], done)
                with cgutils.for_range(builder, builder.udiv(left, width)) as loop:
                    turn_some(first, places, builder.add(done, builder.mul(loop.index, width)), lanes)
                done = builder.sub(args[2], builder.urem(left, width))
            with builder.if_then(builder.icmp_unsigned("<", done, args[2])):
                turn_some(first, places, last, LANES)  # some of them once more
        return context.get_dummy_value()

    size = types.intp
    return types.void(vectors, size, size, r, types.float32, out, size, size), generate


@intrinsic
def rigid_derivatives(typingctx, shape, points, r, scale, out, step):
    """Derivatives of ``points`` >= 8 image points by scale, the three angles of a small rotation, and the place.

    ``shape`` (float32 [3 points]) holds x, y, z. For rows 0 and 1 of ``r`` (float32 [3, 3]) six elements from
    ``out[(row points + i) step]`` on become ``(r0 x + r1 y) + r2 z``, ``scale (y r2 - z r1)``,
    ``-scale (x r2 - z r0)``, ``scale (x r1 - y r0)`` and a row of the unit matrix, every step rounded.
    """

    def generate(context, builder, signature, args):
        axes, turn, target = (_data(context, builder, signature, args, i) for i in (0, 2, 4))
        rotation = [_splat(builder, builder.load(builder.gep(turn, [ir.Constant(_INDEX, i)]))) for i in range(6)]
        scale, eight, half = _splat(builder, args[3]), ir.Constant(_INDEX, LANES), LANES // 2
        minus, last = builder.fsub(ir.Constant(_VECTOR, [-0.0] * LANES), scale), builder.sub(args[1], eight)
        groups = builder.udiv(builder.add(args[1], ir.Constant(_INDEX, LANES - 1)), eight)
        starts = ir.Constant(_INDEX, 0), args[1]
        with cgutils.for_range(builder, groups) as loop:
            i = builder.mul(loop.index, eight)
            i = builder.select(builder.icmp_signed("<", i, last), i, last)  # may redo some of the group before
            at = [builder.add(i, builder.mul(args[1], ir.Constant(_INDEX, axis))) for axis in range(3)]
            x, y, z = (_load(builder, builder.gep(axes, [place])) for place in at)

            def crossed(a: Any, ra: Any, b: Any, rb: Any, factor: Any) -> Any:
                return builder.fmul(factor, builder.fsub(builder.fmul(a, ra), builder.fmul(b, rb)))

            for row, (r0, r1, r2) in enumerate((rotation[:3], rotation[3:])):
                turned = builder.fadd(builder.fadd(builder.fmul(r0, x), builder.fmul(r1, y)), builder.fmul(r2, z))
                angles = crossed(y, r2, z, r1, scale), crossed(x, r2, z, r0, minus), crossed(x, r1, y, r0, scale)
                quads = transposed_quads(builder, (turned, *angles))
                moved = ir.Constant(ir.VectorType(ir.FloatType(), 2), [1.0 - row, float(row)])
                for point in range(LANES):
                    first, quad = half * (point // half), quads[point % half]
                    lanes = ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(first, first + half)))
                    place = builder.add(builder.add(i, ir.Constant(_INDEX, point)), starts[row])
                    line = builder.gep(target, [builder.mul(place, args[5])])
                    four = builder.shuffle_vector(quad, quad, lanes)
                    builder.store(four, _vector_at(builder, line, 0, half), align=4)
                    builder.store(moved, _vector_at(builder, line, half, 2), align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(shape, size, r, types.float32, out, size), generate
