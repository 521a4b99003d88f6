"""The networks of the detector and the validator in plain NumPy: the executable specification of pyfaceau.cnn."""

from __future__ import annotations

import math

import numpy as np

from pyfaceau.weights.models import CNN, Conv, Dense, MaxPool, PReLU, ReLU, Sigmoid


def evaluate(cnn: CNN, maps: np.ndarray) -> np.ndarray:
    """Evaluate ``cnn`` on (maps, height, width) in double precision: (maps', height', width')."""
    maps = maps.astype(np.float64)
    for layer in cnn.layers:
        maps = apply(layer, maps)
    return maps


def apply(layer: object, maps: np.ndarray) -> np.ndarray:
    match layer:
        case Conv():
            height, width = layer.kernels.shape[2:]
            windows = np.lib.stride_tricks.sliding_window_view(maps, (len(maps), height, width))[0]
            return np.einsum("yxcij,kcij->kyx", windows, layer.kernels) + layer.bias[:, None, None]
        case MaxPool():
            return max_pool(layer, maps)
        case Dense():
            if layer.weights.shape[1] == len(maps):
                return np.einsum("kc,cyx->kyx", layer.weights, maps) + layer.bias[:, None, None]
            column_major = maps.transpose(0, 2, 1).ravel()
            return (layer.weights @ column_major + layer.bias)[:, None, None]
        case PReLU():
            return np.where(maps >= 0, maps, layer.slope[:, None, None] * maps)
        case ReLU():
            return np.maximum(maps, 0)
        case Sigmoid():
            return 1 / (1 + np.exp(-maps))
    raise TypeError(layer)


def max_pool(layer: MaxPool, maps: np.ndarray) -> np.ndarray:
    _, height, width = maps.shape
    tops = range(0, window_count(height, layer.ky, layer.sy) * layer.sy, layer.sy)
    lefts = range(0, window_count(width, layer.kx, layer.sx) * layer.sx, layer.sx)
    return np.array(
        [[[m[top : top + layer.ky, left : left + layer.kx].max() for left in lefts] for top in tops] for m in maps]
    )


def window_count(size: int, window: int, stride: int) -> int:
    ratio = (size - window) / stride
    return int(math.copysign(math.floor(abs(ratio) + 0.5), ratio)) + 1
