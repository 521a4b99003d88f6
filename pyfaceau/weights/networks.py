"""Readers of the convolutional networks: MTCNN's three and the detection validator's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyfaceau.errors import ModelError
from pyfaceau.weights.formats import F32, F64, I32, BinaryFile, frozen, radians
from pyfaceau.weights.models import (
    CNN,
    CNNLayer,
    Conv,
    Dense,
    MaxPool,
    PReLU,
    ReLU,
    Sigmoid,
    Validator,
    ValidatorView,
)


def read_cnn(path: Path) -> CNN:
    """Read one network of MTCNN (OpenFace 2.2 specification, part 1 §6)."""
    file = BinaryFile(path)
    layers = tuple(_read_mtcnn_layer(file) for _ in range(file.count("number of layers", 1, 1000)))
    file.close()
    return CNN(layers)


def _read_mtcnn_layer(file: BinaryFile) -> CNNLayer:
    kind = file.count("layer type", 0, 4)
    if kind == 0:
        return _read_conv(file)
    if kind == 1:
        kx, ky, sx, sy = (file.count("pooling size", 1, 100) for _ in range(4))
        return MaxPool(kx, ky, sx, sy)
    if kind == 2:
        return _read_dense(file)
    if kind == 3:
        return PReLU(frozen(file.matrix("PReLU slopes", F32, cols=1).ravel(), np.float32))
    return Sigmoid()


def _read_validator_layer(file: BinaryFile) -> CNNLayer:
    """As MTCNN's, but pooling (always 2 x 2) and the rectifier (always plain) carry no payload."""
    kind = file.count("layer type", 0, 4)
    if kind == 0:
        return _read_conv(file)
    if kind == 1:
        return MaxPool(2, 2, 2, 2)
    if kind == 2:
        return _read_dense(file)
    return ReLU() if kind == 3 else Sigmoid()


def _read_conv(file: BinaryFile) -> Conv:
    n_in = file.count("input maps", 1)
    n_out = file.count("output maps", 1)
    bias = file.array(F32, n_out, "convolution bias")
    first = file.matrix("kernel", F32)
    kernels = [first]
    rows, cols = first.shape
    kernels += [file.matrix("kernel", F32, rows=rows, cols=cols) for _ in range(n_in * n_out - 1)]
    # The file's outer loop runs over the input maps.
    stacked = np.stack(kernels).reshape(n_in, n_out, *first.shape).swapaxes(0, 1)
    return Conv(frozen(stacked, np.float32), frozen(bias.astype(np.float32)))


def _read_dense(file: BinaryFile) -> Dense:
    bias = file.matrix("bias of a fully connected layer", F32)
    weights = file.matrix("weights of a fully connected layer", F32, cols=bias.size)
    return Dense(frozen(weights.T, np.float32), frozen(bias.ravel().astype(np.float32)))


def read_validator(path: Path) -> Validator:
    """Read a detection validator of kind 3 (part 1 §7)."""
    file = BinaryFile(path)
    kind = file.int32("validator kind")
    if kind == 2:
        raise ModelError(
            f"{path}: is a validator of the old kind 2, which OpenFace 2.2 does not read either; "
            "use a main list that names validator_cnn.txt or validator_cnn_68.txt"
        )
    if kind != 3:
        file.fail(f"validator kind is {kind}, expected 3: not a file of this kind")
    count = file.count("number of views", 1, 1000)
    orientations = radians(np.array([file.matrix("view orientation", F64, items=3).ravel() for _ in range(count)]))
    views = tuple(_read_validator_view(file, orientations[view]) for view in range(count))
    file.close()
    return Validator(views)


def _read_validator_view(file: BinaryFile, orientation: np.ndarray) -> ValidatorView:
    mean = file.matrix("mean image", F64, rows=1)
    std = file.matrix("deviation image", F64, rows=1, cols=mean.shape[1])
    layers = tuple(_read_validator_layer(file) for _ in range(file.count("number of layers", 1, 1000)))
    if not any(isinstance(layer, Dense) for layer in layers):
        file.fail("the validator's network has no fully connected layer")
    file.expect(mean.shape[1], "number of pixels of the warp")
    min_x, min_y = file.float64("min_x"), file.float64("min_y")
    destination = file.matrix("destination landmarks", F64, cols=1)
    triangles = file.matrix("triangles", I32, cols=3)
    triangle_id = file.matrix("triangle index", I32)
    mask = file.matrix("mask", I32, rows=triangle_id.shape[0], cols=triangle_id.shape[1])
    alpha = file.matrix("alpha", F64, rows=triangles.shape[0], cols=3)
    beta = file.matrix("beta", F64, rows=triangles.shape[0], cols=3)
    if ((mask != 0) != (triangle_id >= 0)).any() or int((mask != 0).sum()) != mean.shape[1]:
        file.fail("the mask does not fit the triangle index or the mean image")
    if triangle_id.max() >= len(triangles) or triangles.min() < 0 or triangles.max() >= len(destination) // 2:
        file.fail("a triangle index is out of range")
    return ValidatorView(
        orientation=frozen(orientation),
        mean=frozen(mean.ravel().astype(np.float64)),
        std=frozen(std.ravel().astype(np.float64)),
        cnn=CNN(layers),
        min_x=min_x,
        min_y=min_y,
        destination=frozen(destination.ravel().astype(np.float64)),
        triangles=frozen(triangles.astype(np.int32)),
        triangle_id=frozen(triangle_id.astype(np.int32)),
        alpha=frozen(alpha.astype(np.float64)),
        beta=frozen(beta.astype(np.float64)),
    )
