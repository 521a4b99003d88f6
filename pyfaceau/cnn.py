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

from pyfaceau import _cnn as op
from pyfaceau._cnn import FIELDS, run_network
from pyfaceau.errors import ModelError
from pyfaceau.weights.models import CNN, Conv, Dense, MaxPool, PReLU, ReLU, Sigmoid


def _round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


def pooled_size(size: int, window: int, stride: int) -> int:
    """Number of pooling windows along an axis: round((size - window) / stride) + 1, half away from zero."""
    ratio = (size - window) / stride
    return (_round_half_up(ratio) if ratio >= 0 else -_round_half_up(-ratio)) + 1


class Packer:
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
        row = [0] * FIELDS
        row[op.KIND], row[op.IN_MAPS], row[op.IN_H], row[op.IN_W] = kind, self.maps, self.height, self.width
        row[op.MAPS], row[op.H], row[op.W], row[op.OUT_H], row[op.OUT_W] = maps, height, width, height, width
        row[op.POOL_X] = row[op.POOL_Y] = row[op.STRIDE_X] = row[op.STRIDE_Y] = 1
        return row

    def _push(self, row: list[int]) -> None:
        self.rows.append(row)
        self.maps, self.height, self.width = row[op.MAPS], row[op.OUT_H], row[op.OUT_W]
        self.largest = max(self.largest, self.maps * self.height * self.width)
        self.largest_raw = max(self.largest_raw, row[op.IN_H] * row[op.IN_W])

    def convolution(self, kernels: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        n_out, n_in, kh, kw = kernels.shape
        if n_in != self.maps or kh > self.height or kw > self.width:
            raise ModelError(
                f"network layer {len(self.rows)}: a {kh}x{kw} convolution of {n_in} maps cannot follow "
                f"{self.maps} maps of {self.height}x{self.width}"
            )
        row = self._row(op.CONV, n_out, self.height - kh + 1, self.width - kw + 1)
        n_taps = n_in * kh * kw
        packed = np.zeros((n_out + n_out % 2, n_taps), np.float32)
        packed[:n_out] = kernels.reshape(n_out, n_taps)
        padded_bias = np.zeros(n_out + n_out % 2, np.float32)
        padded_bias[:n_out] = bias
        plane = self.batch * self.height * self.width
        taps = (
            np.arange(n_in)[:, None, None] * plane
            + np.arange(kh)[None, :, None] * self.width
            + np.arange(kw)[None, None, :]
        ).ravel()
        row[op.WEIGHTS], row[op.BIAS], row[op.N_TAPS] = self._store(packed), self._store(padded_bias), n_taps
        row[op.OFFSETS] = self.n_offsets
        self.offsets.append(taps.astype(np.int64))
        self.n_offsets += n_taps
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
        row = self._row(op.DENSE, n_out, 1, 1)
        row[op.WEIGHTS], row[op.BIAS] = self._store(by_row), self._store(layer.bias)
        self._push(row)

    def activation(self, kind: int, slope: NDArray[np.float32] | None = None) -> None:
        row = self.rows.pop() if self.rows else self._row(op.POST, self.maps, self.height, self.width)
        if row[op.ACT] != op.IDENTITY or row[op.POOL_X] * row[op.POOL_Y] * row[op.STRIDE_X] * row[op.STRIDE_Y] != 1:
            self.rows.append(row)  # an activation after pooling is an operation of its own
            row = self._row(op.POST, self.maps, self.height, self.width)
        row[op.ACT] = kind
        if slope is not None:
            if slope.size != self.maps:
                raise ModelError(f"network layer {len(self.rows)}: {slope.size} slopes for {self.maps} maps")
            row[op.SLOPE] = self._store(slope)
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
        row = self.rows.pop() if self.rows else self._row(op.POST, self.maps, self.height, self.width)
        pooled = row[op.POOL_X] * row[op.POOL_Y] * row[op.STRIDE_X] * row[op.STRIDE_Y] != 1
        if row[op.KIND] == op.DENSE or pooled:
            self.rows.append(row)
            row = self._row(op.POST, self.maps, self.height, self.width)
        row[op.POOL_X], row[op.POOL_Y], row[op.STRIDE_X], row[op.STRIDE_Y] = layer.kx, layer.ky, layer.sx, layer.sy
        row[op.OUT_H], row[op.OUT_W] = height, width
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
                self.activation(op.PRELU, layer.slope)
            case ReLU():
                self.activation(op.RELU)
            case Sigmoid():
                self.activation(op.SIGMOID)
            case _:
                raise ModelError(f"network layer {len(self.rows)}: {type(layer).__name__} is no known layer")


@dataclass(frozen=True)
class Network:
    """A network prepared for one input size, with its work buffers: use it from one thread at a time.

    Attributes
    ----------
    input_shape, output_shape : (maps, height, width)
    batch : most images per call
    program : the six arrays that :func:`pyfaceau._cnn.run_network` takes, in its order. The caller of the kernel writes
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
        packer = Packer(maps, height, width, batch)
        for layer in cnn.layers:
            packer.add(layer)
        if not packer.rows:
            raise ModelError("the network has no layers")
        table = np.array(packer.rows, np.int64)
        features = int(
            max((r[op.IN_MAPS] * r[op.IN_H] * r[op.IN_W] for r in packer.rows if r[op.KIND] == op.DENSE), default=1)
        )
        weights = np.concatenate(packer.weights) if packer.weights else np.zeros(1, np.float32)
        offsets = np.concatenate(packer.offsets) if packer.offsets else np.zeros(1, np.int64)
        # A run of whole vectors reads and writes a little behind the last map, pooling one row further.
        margin = op.PAIR_PLACES + max(row[op.IN_W] for row in packer.rows)
        work = np.zeros((2, batch * packer.largest + margin), np.float32)
        raw = np.zeros((op.GROUP + 2, batch * packer.largest_raw + margin), np.float32)
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
