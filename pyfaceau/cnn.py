"""Small convolutional networks on one core: the face detector's three and the landmark validator's.

A network is *prepared* once for the size of its input: layers that belong together are fused
(convolution + activation + pooling), weights are packed, work buffers are allocated. One compiled
call then evaluates it. Sums run in a fixed order on one thread, so results do not depend on the
number of threads; arithmetic is float32 with fused multiply-add.

Layout of all feature maps in the work buffers: ``[map][image of the batch][row][column]``. A valid
convolution needs no copying then: output element ``i`` of the flat run over images, rows and columns
is the weighted sum of the input at ``i + offset`` for one constant offset per kernel tap. Run ends
that hang over a row or an image are computed and thrown away; in exchange the innermost loop is one
long contiguous run, which the compiler turns into vector instructions.

Source: OpenFace 2.2 specification, part 1 §6 and §7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfaceau._jit import kernel
from pyfaceau.errors import ModelError
from pyfaceau.weights.models import CNN, Conv, Dense, MaxPool, PReLU, ReLU, Sigmoid

TAPS = 6  # kernel taps per pass of the innermost loop: 6 inputs x 2 maps fill the 16 vector registers of AVX2
TILE = 1024  # floats of two output maps that stay in the first-level cache during all passes
STEP = 32  # runs are rounded up to this, so that the compiler's scalar remainder loop never runs

_CONV, _DENSE, _POST = 0, 1, 2
_NONE, _RELU, _PRELU, _SIGMOID = 0, 1, 2, 3

# Columns of a row of the operation table.
(
    _KIND, _IN_MAPS, _IN_H, _IN_W, _MAPS, _H, _W, _ACT, _POOL_X, _POOL_Y, _STRIDE_X, _STRIDE_Y, _OUT_H, _OUT_W,
    _WEIGHTS, _BIAS, _SLOPE, _OFFSETS, _N_TAPS, _FIELDS,
) = range(20)  # fmt: skip


def _round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


def pooled_size(size: int, window: int, stride: int) -> int:
    """Number of pooling windows along an axis: round((size - window) / stride) + 1, half away from zero."""
    ratio = (size - window) / stride
    return (_round_half_up(ratio) if ratio >= 0 else -_round_half_up(-ratio)) + 1


class _Packer:
    """Collects the rows of the operation table and the flat arrays they point into."""

    def __init__(self, maps: int, height: int, width: int, batch: int) -> None:
        self.maps, self.height, self.width, self.batch = maps, height, width, batch
        self.rows: list[list[int]] = []
        self.weights: list[NDArray[np.float32]] = []
        self.n_weights = 0
        self.offsets: list[NDArray[np.int64]] = []
        self.n_offsets = 0
        self.largest = maps * height * width
        self.largest_raw = 0

    def _store(self, values: NDArray[np.float32]) -> int:
        start = self.n_weights
        self.weights.append(np.ascontiguousarray(values, dtype=np.float32).ravel())
        self.n_weights += values.size
        return start

    def _row(self, kind: int, maps: int, height: int, width: int) -> list[int]:
        row = [0] * _FIELDS
        row[_KIND], row[_IN_MAPS], row[_IN_H], row[_IN_W] = kind, self.maps, self.height, self.width
        row[_MAPS], row[_H], row[_W], row[_OUT_H], row[_OUT_W] = maps, height, width, height, width
        row[_POOL_X] = row[_POOL_Y] = row[_STRIDE_X] = row[_STRIDE_Y] = 1
        return row

    def _push(self, row: list[int]) -> None:
        self.rows.append(row)
        self.maps, self.height, self.width = row[_MAPS], row[_OUT_H], row[_OUT_W]
        self.largest = max(self.largest, self.maps * self.height * self.width)
        self.largest_raw = max(self.largest_raw, row[_IN_H] * row[_IN_W])

    def convolution(self, kernels: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        n_out, n_in, kh, kw = kernels.shape
        if n_in != self.maps or kh > self.height or kw > self.width:
            raise ModelError(
                f"network layer {len(self.rows)}: a {kh}x{kw} convolution of {n_in} maps cannot follow "
                f"{self.maps} maps of {self.height}x{self.width}"
            )
        row = self._row(_CONV, n_out, self.height - kh + 1, self.width - kw + 1)
        n_taps = n_in * kh * kw
        padded = -(-n_taps // TAPS) * TAPS
        packed = np.zeros((n_out + n_out % 2, padded), np.float32)
        packed[:n_out, :n_taps] = kernels.reshape(n_out, n_taps)
        padded_bias = np.zeros(n_out + n_out % 2, np.float32)
        padded_bias[:n_out] = bias
        plane = self.batch * self.height * self.width
        taps = (
            np.arange(n_in)[:, None, None] * plane
            + np.arange(kh)[None, :, None] * self.width
            + np.arange(kw)[None, None, :]
        ).ravel()
        row[_WEIGHTS], row[_BIAS], row[_N_TAPS] = self._store(packed), self._store(padded_bias), padded
        row[_OFFSETS] = self.n_offsets
        # Padding taps have weight zero and read what the last true tap reads.
        self.offsets.append(np.concatenate([taps, np.full(padded - n_taps, taps[-1])]).astype(np.int64))
        self.n_offsets += padded
        self._push(row)

    def dense(self, layer: Dense) -> None:
        n_out, n_in = layer.weights.shape
        pixels = self.height * self.width
        if pixels > 1 and n_in == self.maps:  # one unit per map: the same weights at every pixel
            self.convolution(layer.weights.reshape(n_out, n_in, 1, 1), layer.bias)
            return
        if n_in != self.maps * pixels:
            raise ModelError(
                f"network layer {len(self.rows)}: a fully connected layer of {n_in} inputs cannot follow "
                f"{self.maps} maps of {self.height}x{self.width}"
            )
        # The file's order of inputs is map, column, row; the work buffer's is map, row, column.
        by_row = layer.weights.reshape(n_out, self.maps, self.width, self.height).transpose(0, 1, 3, 2)
        row = self._row(_DENSE, n_out, 1, 1)
        row[_WEIGHTS], row[_BIAS] = self._store(by_row), self._store(layer.bias)
        self._push(row)

    def activation(self, kind: int, slope: NDArray[np.float32] | None = None) -> None:
        row = self.rows.pop() if self.rows else self._row(_POST, self.maps, self.height, self.width)
        if row[_ACT] != _NONE or row[_POOL_X] * row[_POOL_Y] * row[_STRIDE_X] * row[_STRIDE_Y] != 1:
            self.rows.append(row)  # an activation after pooling is an operation of its own
            row = self._row(_POST, self.maps, self.height, self.width)
        row[_ACT] = kind
        if slope is not None:
            if slope.size != self.maps:
                raise ModelError(f"network layer {len(self.rows)}: {slope.size} slopes for {self.maps} maps")
            row[_SLOPE] = self._store(slope)
        self._push(row)

    def pool(self, layer: MaxPool) -> None:
        height = pooled_size(self.height, layer.ky, layer.sy)
        width = pooled_size(self.width, layer.kx, layer.sx)
        inside = (height - 1) * layer.sy < self.height and (width - 1) * layer.sx < self.width
        if height < 1 or width < 1 or not inside:
            raise ModelError(
                f"network layer {len(self.rows)}: {layer.kx}x{layer.ky} pooling cannot follow maps of "
                f"{self.height}x{self.width}"
            )
        row = self.rows.pop() if self.rows else self._row(_POST, self.maps, self.height, self.width)
        pooled = row[_POOL_X] * row[_POOL_Y] * row[_STRIDE_X] * row[_STRIDE_Y] != 1
        if row[_KIND] == _DENSE or pooled:
            self.rows.append(row)
            row = self._row(_POST, self.maps, self.height, self.width)
        row[_POOL_X], row[_POOL_Y], row[_STRIDE_X], row[_STRIDE_Y] = layer.kx, layer.ky, layer.sx, layer.sy
        row[_OUT_H], row[_OUT_W] = height, width
        self._push(row)

    def add(self, layer: object) -> None:
        match layer:
            case Conv():
                self.convolution(layer.kernels, layer.bias)
            case Dense():
                self.dense(layer)
            case MaxPool():
                self.pool(layer)
            case PReLU():
                self.activation(_PRELU, layer.slope)
            case ReLU():
                self.activation(_RELU)
            case Sigmoid():
                self.activation(_SIGMOID)
            case _:
                raise ModelError(f"network layer {len(self.rows)}: {type(layer).__name__} is no known layer")


@dataclass(frozen=True)
class Network:
    """A network prepared for one input size, with its work buffers: use it from one thread at a time.

    Attributes
    ----------
    input_shape, output_shape : (maps, height, width)
    batch : most images per call
    program : the seven arrays that :func:`run_network` takes, in its order. The caller of the kernel writes
        the input into ``program[3][0]`` and finds the output in ``program[3][len(program[0]) % 2]``, both
        laid out as ``[map][image][row][column]`` with room for ``batch`` images.
    """

    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    batch: int
    program: tuple[
        NDArray[np.int64],
        NDArray[np.float32],
        NDArray[np.int64],
        NDArray[np.float32],
        NDArray[np.float32],
        NDArray[np.float32],
    ]

    @classmethod
    def prepare(cls, cnn: CNN, maps: int, height: int, width: int, batch: int = 1) -> Network:
        """Pack ``cnn`` for inputs of ``maps`` maps of ``height`` x ``width``, up to ``batch`` images a call.

        Raises :class:`~pyfaceau.errors.ModelError` if the layers do not fit each other or the input.
        """
        packer = _Packer(maps, height, width, batch)
        for layer in cnn.layers:
            packer.add(layer)
        if not packer.rows:
            raise ModelError("the network has no layers")
        table = np.array(packer.rows, np.int64)
        features = int(max((r[_IN_MAPS] * r[_IN_H] * r[_IN_W] for r in packer.rows if r[_KIND] == _DENSE), default=1))
        weights = np.concatenate(packer.weights) if packer.weights else np.zeros(1, np.float32)
        offsets = np.concatenate(packer.offsets) if packer.offsets else np.zeros(1, np.int64)
        # A run rounded up to STEP reads and writes a little behind the last map, pooling one row further.
        margin = STEP + max(row[_IN_W] for row in packer.rows)
        work = np.zeros((2, batch * packer.largest + margin), np.float32)
        raw = np.zeros((4, batch * packer.largest_raw + margin), np.float32)
        return cls(
            (maps, height, width),
            (packer.maps, packer.height, packer.width),
            batch,
            (table, weights, offsets, work, raw, np.zeros(features, np.float32)),
        )

    def input_buffer(self) -> NDArray[np.float32]:
        """Where the input goes, f32 (maps, batch, height, width)."""
        maps, height, width = self.input_shape
        return self.program[3][0, : maps * self.batch * height * width].reshape(maps, self.batch, height, width)

    def output_buffer(self) -> NDArray[np.float32]:
        """Where :meth:`run` leaves the output, f32 (maps, batch, height, width); the next run overwrites it."""
        maps, height, width = self.output_shape
        work = self.program[3][len(self.program[0]) % 2]
        return work[: maps * self.batch * height * width].reshape(maps, self.batch, height, width)

    def run(self, n_images: int) -> NDArray[np.float32]:
        """Evaluate the first ``n_images`` of :meth:`input_buffer`: a view (maps, n_images, height, width)."""
        run_network(*self.program, self.batch, n_images)
        return self.output_buffer()[:, :n_images]

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Evaluate any number of images, f32 (n, maps, height, width): a new array (n, maps', height', width')."""
        if images.shape[1:] != self.input_shape:
            raise ValueError(f"expected images of shape (n, {self.input_shape}), got {images.shape}")
        result = np.empty((len(images), *self.output_shape), np.float32)
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            self.input_buffer()[:, : len(part)] = part.swapaxes(0, 1)
            result[start : start + self.batch] = self.run(len(part)).swapaxes(0, 1)
        return result


@kernel(fastmath={"contract"})
def _accumulate(low, high, source, offsets, weights_low, weights_high, n):
    """Add to two output runs the weighted inputs at every offset, six offsets in one pass over the run."""
    for group in range(len(offsets) // 6):
        t = 6 * group
        in0 = source[offsets[t] :]
        in1 = source[offsets[t + 1] :]
        in2 = source[offsets[t + 2] :]
        in3 = source[offsets[t + 3] :]
        in4 = source[offsets[t + 4] :]
        in5 = source[offsets[t + 5] :]
        a0, a1, a2 = weights_low[t], weights_low[t + 1], weights_low[t + 2]
        a3, a4, a5 = weights_low[t + 3], weights_low[t + 4], weights_low[t + 5]
        b0, b1, b2 = weights_high[t], weights_high[t + 1], weights_high[t + 2]
        b3, b4, b5 = weights_high[t + 3], weights_high[t + 4], weights_high[t + 5]
        for i in range(n):
            v0, v1, v2, v3, v4, v5 = in0[i], in1[i], in2[i], in3[i], in4[i], in5[i]
            a = low[i]
            b = high[i]
            a = a + a0 * v0
            b = b + b0 * v0
            a = a + a1 * v1
            b = b + b1 * v1
            a = a + a2 * v2
            b = b + b2 * v2
            a = a + a3 * v3
            b = b + b3 * v3
            a = a + a4 * v4
            b = b + b4 * v4
            a = a + a5 * v5
            b = b + b5 * v5
            low[i] = a
            high[i] = b


@kernel
def _activate(values, n, kind, slope):
    """Apply an activation to ``values[:n]`` in place."""
    zero = np.float32(0)
    if kind == 1:
        for i in range(n):
            values[i] = max(values[i], zero)
    elif kind == 2:
        for i in range(n):
            values[i] = max(values[i], zero) + slope * min(values[i], zero)
    elif kind == 3:
        one = np.float32(1)
        for i in range(n):
            values[i] = one / (one + np.exp(-values[i]))


@kernel
def _pool(raw, pitch, rows, op, n_images, work, out):
    """Max-pool one map of all images, rows ``pitch`` and images ``rows`` rows apart, into the compact ``out``.

    The flat maps in ``work`` gather the maximum of the window that starts at every element: neighbour by
    neighbour along the row, then row by row, always from one array to another so that the loops vectorise.
    Windows over the edge are done apart.
    """
    height, width = op[5], op[6]
    kx, ky, sx, sy = op[8], op[9], op[10], op[11]
    out_h, out_w = op[12], op[13]
    n = (((n_images - 1) * rows + height - 1) * pitch + width + 31) // 32 * 32
    source, spread, spare = raw, work[0], work[1]
    for step in range(max(kx + ky - 2, 1)):
        beside = source[(1 if step < kx - 1 else pitch) if kx + ky > 2 else 0 :]
        for i in range(n):
            spread[i] = max(source[i], beside[i])
        source, spread, spare = spread, spare, spread
    for image in range(n_images):
        for y in range(out_h):
            row = source[(image * rows + y * sy) * pitch :]
            line = out[(image * out_h + y) * out_w :]
            for x in range(out_w):
                line[x] = row[x * sx]
        whole_h, whole_w = (height - ky) // sy + 1, (width - kx) // sx + 1
        for y in range(out_h):
            for x in range(whole_w if y < whole_h else 0, out_w):
                out[(image * out_h + y) * out_w + x] = _clipped_maximum(
                    raw, (image * rows + y * sy) * pitch + x * sx, pitch,
                    min(ky, height - y * sy), min(kx, width - x * sx),
                )  # fmt: skip


@kernel
def _clipped_maximum(raw, start, pitch, height, width):
    best = raw[start]
    for y in range(height):
        for x in range(width):
            best = max(best, raw[start + y * pitch + x])
    return best


@kernel
def _finish(raw, pitch, rows, op, weights, map_index, n_images, work, target):
    """Activation and pooling of one map of all images: from ``raw`` (rows ``pitch`` apart) to ``target``."""
    kind = op[7]
    slope = weights[op[16] + map_index] if kind == 2 else np.float32(0)
    # Functions that never fall may follow the maximum, where there are fewer values.
    falling = kind == 2 and slope < np.float32(0)
    if falling:
        _activate(raw, ((n_images - 1) * rows + op[5] - 1) * pitch + op[6], kind, slope)
    size = op[12] * op[13]
    if op[8] * op[9] * op[10] * op[11] > 1:
        _pool(raw, pitch, rows, op, n_images, work, target)
    else:
        # Rows in whole steps: what hangs over is overwritten by the next row, image or map.
        n = (op[6] + 31) // 32 * 32
        for image in range(n_images):
            for y in range(op[5]):
                row, line = raw[(image * rows + y) * pitch :], target[image * size + y * op[6] :]
                for x in range(n):
                    line[x] = row[x]
    if not falling:
        _activate(target, (n_images * size + 31) // 32 * 32, kind, slope)


@kernel
def _convolve(op, weights, offsets, source, target, raw, capacity, n_images):
    """Valid convolution, activation and pooling, two output maps at a time."""
    pitch = op[3]
    # From the first image's first output to the last image's last one.
    length = ((n_images - 1) * op[2] + op[5] - 1) * pitch + op[6]
    n_tiles = (length + 1023) // 1024
    tile = ((length + n_tiles - 1) // n_tiles + 31) // 32 * 32
    n_taps = op[18]
    taps = offsets[op[17] : op[17] + n_taps]
    size = capacity * op[12] * op[13]
    for first in range(0, op[4], 2):
        w = op[14] + first * n_taps
        for start in range(0, length, tile):
            n = (min(tile, length - start) + 31) // 32 * 32
            low = raw[0, start : start + n]
            high = raw[1, start : start + n]
            low[:] = weights[op[15] + first]
            high[:] = weights[op[15] + first + 1]
            _accumulate(low, high, source[start:], taps, weights[w:], weights[w + n_taps :], n)
        for k in range(min(2, op[4] - first)):
            _finish(raw[k], pitch, op[2], op, weights, first + k, n_images, raw[2:], target[(first + k) * size :])


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _dot(a, b, n):
    total = np.float32(0)
    for i in range(n):
        total += a[i] * b[i]
    return total


@kernel
def _connect(op, weights, source, target, features, capacity, n_images):
    """Fully connected layer and activation."""
    pixels = op[2] * op[3]
    n_in = op[1] * pixels
    for image in range(n_images):
        for m in range(op[1]):
            for i in range(pixels):
                features[m * pixels + i] = source[(m * capacity + image) * pixels + i]
        for k in range(op[4]):
            value = _dot(features, weights[op[14] + k * n_in :], n_in) + weights[op[15] + k]
            target[k * capacity + image] = value
    for k in range(op[4]):
        slope = weights[op[16] + k] if op[7] == 2 else np.float32(0)
        _activate(target[k * capacity :], n_images, op[7], slope)


@kernel
def run_network(operations, weights, offsets, work, raw, features, capacity, n_images):
    """Evaluate a prepared network on ``n_images`` of at most ``capacity`` images; see :class:`Network`."""
    for index in range(len(operations)):
        op = operations[index]
        source = work[index % 2]
        target = work[(index + 1) % 2]
        if op[0] == 0:
            _convolve(op, weights, offsets, source, target, raw, capacity, n_images)
        elif op[0] == 1:
            _connect(op, weights, source, target, features, capacity, n_images)
        else:
            rows, pitch = op[2], op[3]
            plane = capacity * rows * pitch
            for m in range(op[4]):
                size = capacity * op[12] * op[13]
                _finish(source[m * plane :], pitch, rows, op, weights, m, n_images, raw[2:], target[m * size :])
