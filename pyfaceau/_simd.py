"""Explicit vector code where LLVM's loop vectoriser cannot keep the accumulators in registers.

These functions emit LLVM IR through Numba's extension interface: portable vector operations that LLVM
lowers to whatever the processor has (AVX2, AVX-512, NEON).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic


def _widest() -> int:
    """Float32 numbers in a register of the processor that Numba compiles for, as far as these kernels go: 8 or 16."""
    features, name = (getattr(config, setting, None) for setting in ("CPU_FEATURES", "CPU_NAME"))
    if features is not None or name is not None:  # Numba's NUMBA_CPU_FEATURES and NUMBA_CPU_NAME
        return 16 if "+avx512f" in (features or "").split(",") else 8
    return 16 if binding.get_host_cpu_features().get("avx512f", False) else 8


#: Elements of float32 vectors, and of the blocks in which arrays are laid out.
LANES = 8
#: Elements of the widest vectors: 16 with AVX-512. What is computed does not depend on it, as lanes do not mix.
WIDE = _widest()
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
            sums = [
                [cgutils.alloca_once_value(builder, _load(builder, row, LANES * v)) for v in range(vectors)]
                for row in target_rows
            ]
            with cgutils.for_range(builder, args[3]) as loop:
                line = builder.gep(source, [builder.mul(loop.index, args[6])])
                step = builder.mul(loop.index, args[2])
                loaded = [_load(builder, line, LANES * v) for v in range(vectors)]
                for r in range(rows):
                    spread = _splat(builder, builder.load(builder.gep(weight_rows[r], [step])))
                    for v in range(vectors):
                        term = builder.fmul(spread, loaded[v], flags=_FUSE)
                        builder.store(builder.fadd(builder.load(sums[r][v]), term, flags=_FUSE), sums[r][v])
            for r in range(rows):
                for v in range(vectors):
                    builder.store(builder.load(sums[r][v]), _vector_at(builder, target_rows[r], LANES * v), align=4)
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
    rows of ``pitch`` bytes. Bilinear, in integers: exactly the float32 sum of the four weighted pixels.
    """

    def generate(context, builder, signature, args):
        word, index = ir.IntType(16), ir.IntType(64)
        pixels = _data(context, builder, signature, args, 0)
        out_at = _data(context, builder, signature, args, 7, args[8])
        below_pixels = builder.gep(pixels, [args[1]])
        steps = [_data(context, builder, signature, args, i) for i in (4, 5)]
        starts = [_splat(builder, args[i]) for i in (2, 3)]
        pitches = _splat(builder, builder.trunc(args[1], ir.IntType(32)))

        def constant(value: int) -> Any:
            return ir.Constant(_INTEGERS, [value] * LANES)

        def eight(first: Any) -> None:
            x, y = (
                builder.ashr(builder.add(start, _load(builder, builder.gep(step, [first]))), constant(5))
                for start, step in zip(starts, steps, strict=True)
            )
            at = builder.add(builder.mul(builder.ashr(y, constant(5)), pitches), builder.ashr(x, constant(5)))
            # Two pixels above and two below in the four bytes of a lane.
            taps = ir.Constant(ir.VectorType(word, 2 * LANES), ir.Undefined)
            for lane in range(LANES):
                offset = builder.sext(builder.extract_element(at, ir.Constant(ir.IntType(32), lane)), index)
                for half, base in enumerate((pixels, below_pixels)):
                    pair = builder.load(builder.bitcast(builder.gep(base, [offset]), word.as_pointer()), align=1)
                    taps = builder.insert_element(taps, pair, ir.Constant(ir.IntType(32), 2 * lane + half))
            taps = builder.bitcast(taps, _INTEGERS)
            corners = [builder.and_(builder.lshr(taps, constant(8 * k)), constant(255)) for k in range(4)]
            fx, fy = (builder.and_(v, constant(31)) for v in (x, y))

            def between(a: Any, b: Any, share: Any) -> Any:
                return builder.add(builder.shl(a, constant(5)), builder.mul(share, builder.sub(b, a)))

            total = between(between(corners[0], corners[1], fx), between(corners[2], corners[3], fx), fy)
            grey = builder.fmul(builder.sitofp(total, _VECTOR), ir.Constant(_VECTOR, [1 / 1024] * LANES))
            builder.store(grey, _vector_at(builder, builder.gep(out_at, [first])), align=4)

        last = builder.sub(args[6], ir.Constant(index, LANES))
        groups = builder.sdiv(builder.add(last, ir.Constant(index, LANES - 1)), ir.Constant(index, LANES))
        with cgutils.for_range(builder, groups) as loop:
            eight(builder.mul(loop.index, ir.Constant(index, LANES)))
        eight(last)  # may redo some of the group before
        return context.get_dummy_value()

    size, narrow = types.intp, types.int32
    return types.void(image, size, narrow, narrow, along_x, along_y, size, out, size), generate
