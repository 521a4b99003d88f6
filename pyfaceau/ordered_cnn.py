"""Small convolutional networks with the roundings of the reference, for where a result must be equal to the bit.

:mod:`pyfaceau.cnn` sums in whatever order is fastest; this evaluates one image after another as the original does:
a convolution is one matrix product of all windows (map by map, each column by column, then a one for the bias) with
all kernels; so is a fully connected layer of 100 outputs or more, whose bias comes first. OpenCV multiplies smaller
matrices itself, in float64.

Source: OpenFace 2.2 specification, part 1 §6 and part 2 §6a; the orders were found by comparing with recorded values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pyfaceau._gemm import WORK, add_product, cut
from pyfaceau._jit import kernel
from pyfaceau._linalg import OPENCV_ROWS
from pyfaceau._simd import LANES
from pyfaceau.cnn import Packer
from pyfaceau.weights.models import CNN, Conv, Dense, MaxPool, PReLU, ReLU

Maps = NDArray[np.float32]  # (height, width, maps), the maps padded to a multiple of eight but for the input
Step = Callable[[Maps], Maps]


def _padded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """With zeros up to a multiple of eight columns."""
    missing = -values.shape[-1] % LANES
    return np.ascontiguousarray(np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)]))


def _convolution(layer: Conv, height: int, width: int) -> Step:
    n_out, n_in, kh, kw = layer.kernels.shape
    by_column = layer.kernels.transpose(0, 1, 3, 2).reshape(n_out, -1)
    kernels = _padded(np.column_stack([by_column, layer.bias]).T)
    out_h, out_w = height - kh + 1, width - kw + 1
    windows = np.ones((len(kernels), out_h * out_w), np.float32)
    taps = windows[:-1].reshape(n_in, kw, kh, out_h, out_w)
    planes = np.empty((n_in, height, width), np.float32)
    shifted = sliding_window_view(planes, (n_in, out_h, out_w))[0].transpose(2, 1, 0, 3, 4)
    out = np.empty((out_h * out_w, kernels.shape[1]), np.float32)
    tiles, sums = cut(len(out), n_out), np.empty(WORK, np.float32)

    def step(maps: Maps) -> Maps:
        planes[:] = maps[:, :, :n_in].transpose(2, 0, 1)
        taps[:] = shifted
        out[:] = 0
        add_product(windows, kernels, tiles, sums, out)
        return out.reshape(out_h, out_w, -1)

    return step


def _dense_per_pixel(layer: Dense) -> Step:
    n_in = layer.weights.shape[1]
    weights, bias = _padded(layer.weights.T).astype(np.float64), _padded(layer.bias)
    return lambda maps: (maps[:, :, :n_in].astype(np.float64) @ weights).astype(np.float32) + bias


def _dense(layer: Dense, n_maps: int) -> Step:
    n_out, n_in = layer.weights.shape
    if n_out < OPENCV_ROWS:
        weights, bias = _padded(layer.weights.T).T.astype(np.float64), _padded(layer.bias)

        def small(maps: Maps) -> Maps:
            values = maps[:, :, :n_maps].transpose(2, 1, 0).reshape(-1)
            return ((weights * values).sum(axis=1) + bias).astype(np.float32).reshape(1, 1, -1)

        return small

    by_output, bias = _padded(layer.weights.T), _padded(layer.bias)
    tiles, sums = cut(1, n_out), np.empty(WORK, np.float32)
    values, out = np.empty((n_in, 1), np.float32), np.zeros((1, by_output.shape[1]), np.float32)

    def large(maps: Maps) -> Maps:
        values[:, 0] = maps[:, :, :n_maps].transpose(2, 1, 0).reshape(-1)
        out[0] = bias
        add_product(values, by_output, tiles, sums, out)
        return out.reshape(1, 1, -1)

    return large


@kernel
def max_pool(maps, ky, kx, sy, sx, out):
    """Greatest values of ``maps`` (h, w, n) in windows ky x kx, sy and sx apart, cut off at the edges."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            best = out[y, x]
            for c in range(best.size):
                best[c] = maps[y * sy, x * sx, c]
            for row in range(y * sy, min(y * sy + ky, maps.shape[0])):
                for column in range(x * sx, min(x * sx + kx, maps.shape[1])):
                    values = maps[row, column]
                    for c in range(best.size):
                        best[c] = max(best[c], values[c])


def _pooling(layer: MaxPool, height: int, width: int, n_maps: int) -> Step:
    out = np.empty((height, width, n_maps), np.float32)

    def step(maps: Maps) -> Maps:
        max_pool(np.ascontiguousarray(maps), layer.ky, layer.kx, layer.sy, layer.sx, out)
        return out

    return step


@kernel
def prelu(maps, slope):
    """Multiply what is negative in ``maps`` (h, w, n) by ``slope`` (n,), in place."""
    zero = np.float32(0)
    for y in range(maps.shape[0]):
        for x in range(maps.shape[1]):
            values = maps[y, x]
            for c in range(values.size):
                values[c] = max(values[c], zero) + slope[c] * min(values[c], zero)


def _prelu(layer: PReLU, n_maps: int) -> Step:
    slope = np.zeros(n_maps, np.float32)
    slope[: len(layer.slope)] = layer.slope

    def step(maps: Maps) -> Maps:
        maps = np.ascontiguousarray(maps)
        prelu(maps, slope)
        return maps

    return step


def _sigmoid(maps: Maps) -> Maps:
    return np.float32(1) / (np.float32(1) + np.exp(-maps))


def _stored(n_maps: int) -> int:
    return -(-n_maps // LANES) * LANES


@dataclass(frozen=True)
class OrderedNetwork:
    """A network prepared for one input size, with its work buffers: use it from one thread at a time.

    Attributes
    ----------
    output_shape : (maps, height, width)
    batch : most images per call of :meth:`run`
    """

    output_shape: tuple[int, int, int]
    batch: int
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    steps: tuple[Step, ...]

    @classmethod
    def prepare(cls, cnn: CNN, maps: int, height: int, width: int, batch: int = 1) -> OrderedNetwork:
        """Pack ``cnn`` for inputs of ``maps`` maps of ``height`` x ``width``.

        Raises :class:`~pyfaceau.errors.ModelError` if the layers do not fit each other or the input.
        """
        inputs = np.zeros((maps, batch, height, width), np.float32)
        steps: list[Step] = []
        shapes, stored = Packer(maps, height, width, batch=1), maps
        for layer in cnn.layers:
            before = shapes.maps, shapes.height, shapes.width
            shapes.add(layer)  # raises if the layer does not fit
            match layer:
                case Conv():
                    steps.append(_convolution(layer, *before[1:]))
                    stored = _stored(shapes.maps)
                case Dense():
                    per_pixel = shapes.height * shapes.width > 1
                    steps.append(_dense_per_pixel(layer) if per_pixel else _dense(layer, before[0]))
                    stored = _stored(shapes.maps)
                case MaxPool():
                    steps.append(_pooling(layer, shapes.height, shapes.width, stored))
                case PReLU():
                    steps.append(_prelu(layer, stored))
                case ReLU():
                    steps.append(lambda values: np.maximum(values, np.float32(0)))
                case _:
                    steps.append(_sigmoid)
        outputs = np.empty((shapes.maps, batch, shapes.height, shapes.width), np.float32)
        return cls((shapes.maps, shapes.height, shapes.width), batch, inputs, outputs, tuple(steps))

    def input_buffer(self) -> NDArray[np.float32]:
        """Where the input goes, f32 (maps, batch, height, width)."""
        return self.inputs

    def run(self, n_images: int) -> NDArray[np.float32]:
        """Evaluate the first ``n_images`` of :meth:`input_buffer`: a view (maps, n_images, height, width)."""
        for image in range(n_images):
            maps = self.inputs[:, image].transpose(1, 2, 0)
            for step in self.steps:
                maps = step(maps)
            self.outputs[:, image] = maps[:, :, : len(self.outputs)].transpose(2, 0, 1)
        return self.outputs[:, :n_images]
