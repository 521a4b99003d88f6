"""Explicit vector code where LLVM's loop vectoriser cannot keep the accumulators in registers.

These functions emit LLVM IR through Numba's extension interface: portable vector operations that LLVM
lowers to whatever the processor has (AVX2, AVX-512, NEON).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pyfaceau._jit import target

#: Elements of float32 vectors, and of the blocks in which arrays are laid out.
LANES = 8
#: Elements of the widest vectors: 16 with AVX-512. What is computed does not depend on it, as lanes do not mix.
WIDE = 16 if "+avx512f" in target()[1].split(",") else 8
#: Bytes of a cache line.
LINE = 64


_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_FUSE = ("contract",)


def _splat(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    """A vector with ``scalar`` in every lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    lane = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def _vector_at(builder: Any, pointer: Any, offset: int = 0, lanes: int = LANES) -> Any:
    """Address of the (unaligned) vector ``offset`` elements after ``pointer``."""
    vector = ir.VectorType(pointer.type.pointee, lanes)
    return builder.bitcast(builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)]), vector.as_pointer())


def _load(builder: Any, pointer: Any, offset: int = 0, lanes: int = LANES) -> Any:
    return builder.load(_vector_at(builder, pointer, offset, lanes), align=4)


def _data(context: Any, builder: Any, signature: Any, args: Any, position: int, offset: Any = None) -> Any:
    """Address of an array argument's first element, or of the one at ``offset``."""
    data = context.make_array(signature.args[position])(context, builder, args[position]).data
    return data if offset is None else builder.gep(data, [offset])


def prefetch(builder: Any, pointer: Any, near: int = 3) -> None:
    """Ask for a place in memory, as near as the first-level cache (3) or the second (2); a wrong one does no harm."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    read, distance, data = (ir.Constant(number, value) for value in (0, near, 1))
    builder.call(function, [builder.bitcast(pointer, byte), read, distance, data])


def vectors_of(eights: int, wide: int = WIDE) -> list[tuple[int, int]]:
    """(first element, elements) of the vectors that hold ``eights`` times 8 elements, the widest first.

    >>> vectors_of(3, wide=16)
    [(0, 16), (16, 8)]
    """
    size, found, at = LANES * eights, [], 0
    while at < size:
        lanes = wide if size - at >= wide else LANES
        found.append((at, lanes))
        at += lanes
    return found


@cache
def tile_product(rows: int, vectors: int) -> Any:
    """An intrinsic for a ``rows`` x ``8 vectors`` tile of a float32 matrix product.

    The returned function has the signature
    ``(address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride)``: ``address`` is that of
    float32 weights in memory that the caller keeps alive (a mapped file, say), ``x`` and ``out`` are one-dimensional
    float32 arrays. For r < rows and c < 8 vectors it adds the sum over k < depth of
    ``weights[r weight_stride + k weight_step] * x[start + k stride + c]`` to ``out[to + r out_stride + c]``, as one
    chain of fused operations in the order of k. Nothing is checked: the caller answers for the bounds.
    """

    @intrinsic
    def product(typingctx, address, weight_stride, weight_step, depth, x, start, stride, out, to, out_stride):
        def generate(context, builder, signature, args):
            index = ir.IntType(64)
            weights = builder.inttoptr(args[0], ir.FloatType().as_pointer())
            weight_rows = [builder.gep(weights, [builder.mul(args[1], ir.Constant(index, r))]) for r in range(rows)]
            source, target = (_data(context, builder, signature, args, i, args[i + 1]) for i in (4, 7))
            target_rows = [builder.gep(target, [builder.mul(args[9], ir.Constant(index, r))]) for r in range(rows)]
            places = vectors_of(vectors)
            sums = [
                [cgutils.alloca_once_value(builder, _load(builder, row, *place)) for place in places]
                for row in target_rows
            ]
            with cgutils.for_range(builder, args[3]) as loop:
                line = builder.gep(source, [builder.mul(loop.index, args[6])])
                step = builder.mul(loop.index, args[2])
                loaded = [_load(builder, line, *place) for place in places]
                for weight_row, slots in zip(weight_rows, sums, strict=True):
                    weight = builder.load(builder.gep(weight_row, [step]))
                    for slot, value in zip(slots, loaded, strict=True):
                        term = builder.fmul(_splat(builder, weight, value.type.count), value, flags=_FUSE)
                        builder.store(builder.fadd(builder.load(slot), term, flags=_FUSE), slot)
            for row, slots in zip(target_rows, sums, strict=True):
                for slot, place in zip(slots, places, strict=True):
                    builder.store(builder.load(slot), _vector_at(builder, row, *place), align=4)
            return context.get_dummy_value()

        arrays = all(isinstance(a, types.Array) and a.dtype == types.float32 for a in (x, out))
        if not arrays:
            return None
        size = types.intp
        return types.void(size, size, size, size, x, size, size, out, size, size), generate

    return product


@intrinsic
def sample_row(typingctx, image, pitch, x, y, along_x, along_y, count, out, to):
    """Sample ``count`` >= 8 places inside a grey picture: ``out[to + i]`` float32, i < ``count``.

    Place i is ``(x + along_x[i], y + along_y[i]) >> 5`` in 1/32 pixel (int32); ``image`` is the flat uint8 picture with
    rows of ``pitch`` bytes. Bilinear, in integers: exactly the float32 sum of the four weighted pixels. Two more
    pixels to the right of a place, or in the next line, are read with it.
    """

    def generate(context, builder, signature, args):
        pixels = _data(context, builder, signature, args, 0)
        rows = [pixels, builder.gep(pixels, [args[1]])]
        out_at = _data(context, builder, signature, args, 7, args[8])
        steps = [_data(context, builder, signature, args, i) for i in (4, 5)]
        pitch = builder.trunc(args[1], ir.IntType(32))

        def sample(first: Any, lanes: int) -> None:
            integers, floats = (ir.VectorType(kind, lanes) for kind in (ir.IntType(32), ir.FloatType()))

            def constant(value: int) -> Any:
                return ir.Constant(integers, [value] * lanes)

            x, y = (
                builder.add(_splat(builder, start, lanes), _load(builder, builder.gep(step, [first]), 0, lanes))
                for start, step in zip(args[2:4], steps, strict=True)
            )
            x, y = builder.ashr(x, constant(5)), builder.ashr(y, constant(5))
            at = builder.mul(builder.ashr(y, constant(5)), _splat(builder, pitch, lanes))
            pairs = _pairs(builder, rows, builder.add(at, builder.ashr(x, constant(5))))
            fx, fy = (builder.and_(v, constant(31)) for v in (x, y))

            def between(a: Any, b: Any, share: Any) -> Any:
                return builder.add(builder.shl(a, constant(5)), builder.mul(share, builder.sub(b, a)))

            def across(pair: Any) -> Any:
                left, right = (builder.and_(builder.lshr(pair, constant(shift)), constant(255)) for shift in (0, 8))
                return between(left, right, fx)

            above, below = pairs
            grey = builder.sitofp(between(across(above), across(below), fy), floats)
            grey = builder.fmul(grey, ir.Constant(floats, [1 / 1024] * lanes))
            builder.store(grey, _vector_at(builder, builder.gep(out_at, [first]), 0, lanes), align=4)

        def sample_all(lanes: int) -> None:
            size = ir.Constant(ir.IntType(64), lanes)
            last = builder.sub(args[6], size)
            groups = builder.sdiv(builder.sub(args[6], ir.Constant(ir.IntType(64), 1)), size)
            with cgutils.for_range(builder, groups) as loop:
                sample(builder.mul(loop.index, size), lanes)
            sample(last, lanes)  # may redo some of the group before

        if WIDE == LANES:
            sample_all(LANES)
        else:
            enough = builder.icmp_signed(">=", args[6], ir.Constant(ir.IntType(64), WIDE))
            with builder.if_else(enough) as (then, otherwise):
                with then:
                    sample_all(WIDE)
                with otherwise:
                    sample_all(LANES)
        return context.get_dummy_value()

    size, narrow = types.intp, types.int32
    return types.void(image, size, narrow, narrow, along_x, along_y, size, out, size), generate


def _pairs(builder: Any, rows: list[Any], at: Any) -> list[Any]:
    """For every row: its bytes at the places ``at`` (int32) and right of them, in the lower halves of int32."""
    lanes, number = at.type.count, ir.IntType(32)
    if lanes == 16:
        return [gathered(builder, row, at) for row in rows]
    word = ir.IntType(16)
    taps = ir.Constant(ir.VectorType(word, 2 * lanes), ir.Undefined)
    for lane in range(lanes):
        offset = builder.sext(builder.extract_element(at, ir.Constant(number, lane)), ir.IntType(64))
        for half, row in enumerate(rows):
            pair = builder.load(builder.bitcast(builder.gep(row, [offset]), word.as_pointer()), align=1)
            taps = builder.insert_element(taps, pair, ir.Constant(number, 2 * lane + half))
    taps = builder.bitcast(taps, at.type)
    return [taps, builder.lshr(taps, ir.Constant(at.type, [16] * lanes))]


def gathered(builder: Any, base: Any, at: Any) -> Any:
    """The four bytes at each of sixteen offsets ``at`` (int32) as int32: one instruction of AVX-512."""
    byte, bit, number = ir.IntType(8).as_pointer(), ir.VectorType(ir.IntType(1), 16), ir.IntType(32)
    kind = ir.FunctionType(at.type, [at.type, byte, at.type, bit, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.gather.dpi.512")
    nothing, everywhere = ir.Constant(at.type, [0] * 16), ir.Constant(bit, [1] * 16)
    return builder.call(function, [nothing, builder.bitcast(base, byte), at, everywhere, ir.Constant(number, 1)])
