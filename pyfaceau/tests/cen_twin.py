"""CEN responses in plain NumPy with every rounding of the reference: the executable specification of the kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from pyfaceau.tests.ccnf_twin import normalised_blocks, sequential
from pyfaceau.tests.gemm_twin import add_product, blocks
from pyfaceau.weights.models import CENPatches, Layer

__all__ = ["avx2_product", "avx512_product", "chain", "layer", "logistic", "pair", "response", "sequential"]

Array = np.ndarray
Product = Callable[[Array, Array], Array]
F = np.float32


def chain(weights: Array, x: Array, ks: Iterable[int]) -> Array:
    """Weights [rows, k] times x [k, columns], each cell one float32 chain of fused operations over ``ks``."""
    total = np.zeros((len(weights), x.shape[1]), F)
    for k in ks:
        term = weights[:, k, None].astype(float) * x[k].astype(float)
        total = (term + total.astype(float)).astype(F)
    return total


def in_sixteen_chains(weights: Array, x: Array) -> Array:
    """Chain i over k = i, i + 16, ...; the sums are added in pairs of neighbours."""
    depth = weights.shape[1]
    sums = [chain(weights, x, range(i, depth, 16)) for i in range(16)]
    while len(sums) > 1:
        sums = [low + high for low, high in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]


def avx2_product(weights: Array, x: Array) -> Array:
    """OpenBLAS with AVX2: blocks of inputs, one or two chains."""
    return add_product(weights.T, x, np.zeros((len(weights), x.shape[1]), F))


def avx512_product(weights: Array, x: Array) -> Array:
    """OpenBLAS with AVX-512: one chain a block; a small product has no blocks, but last columns of another kind."""
    rows, depth = weights.shape
    columns = x.shape[1]
    small = rows * depth * columns <= 1_000_000
    total = chain(weights, x, range(depth)) if small else np.zeros((rows, columns), F)
    for block in [] if small else blocks(depth):
        total = total + chain(weights, x, block)
    if small and 0 < columns % 16 <= 8 and depth >= 32:
        total[:, -(columns % 16) :] = in_sixteen_chains(weights, x[:, -(columns % 16) :])
    return total


def logistic(z: Array) -> Array:
    """In float32, but for an exponential that is rounded correctly (that of glibc is not always: one in 1600)."""
    with np.errstate(over="ignore"):
        return F(1) / (F(1) + np.exp(-z.astype(float)).astype(F))


def layer(weights: Array, bias: Array, kind: int, x: Array, product: Product = avx2_product) -> Array:
    """float32 [rows, columns]"""
    z = product(weights, x) + bias[:, None]
    return logistic(z) if kind == 0 else np.maximum(z, F(0)) if kind == 2 else z


def pair(layers: tuple[Layer, ...], areas: list[Array], product: Product = avx2_product) -> list[Array]:
    """Responses of one network to areas [w + 10, w + 10] whose positions are columns of one matrix."""
    window = len(areas[0]) - 10
    by_column = np.arange(window * window).reshape(window, window).T.ravel()
    y = np.concatenate([normalised_blocks(area)[by_column[1::2]] for area in areas]).T
    for each in layers:
        y = layer(each.weights, each.bias, each.activation, y, product)
    return [_spread(values, window) for values in y.reshape(len(areas), -1)]


def _spread(values: Array, window: int) -> Array:
    """Even positions: neighbours times the float32 reciprocal of their number, in float64."""
    padded, there = np.zeros((window + 2, window + 2)), np.zeros((window + 2, window + 2))
    x, y = np.divmod(np.arange(1, window * window, 2), window)
    padded[y + 1, x + 1], there[y + 1, x + 1] = values, 1

    def around(a: Array) -> Array:
        return a[1:-1, :-2] + a[:-2, 1:-1] + a[2:, 1:-1] + a[1:-1, 2:]

    odd, inside = there[1:-1, 1:-1] == 1, padded[1:-1, 1:-1]
    reciprocal = (F(1) / np.where(odd, 1, around(there)).astype(F)).astype(float)
    return np.where(odd, inside, around(padded) * reciprocal).astype(F)


def response(patches: CENPatches, view: int, landmark: int, area: Array, product: Product = avx2_product) -> Array:
    """Map [w, w]; in view 0 the partner's area is taken to be the same."""
    expert, flip = int(patches.expert[view, landmark]), False
    partner = int(patches.mirror_inds[landmark])
    if expert < 0:
        other = 0 if view == 0 else int(patches.mirror_views[view])
        expert, flip = int(patches.expert[other, partner]), True
    turned = area[:, ::-1] if flip else area
    shared = view == 0 and partner != landmark
    areas = [turned, turned] if shared else [turned]
    found = pair(patches.experts[expert], areas, product)[1 if shared and flip else 0]
    return found[:, ::-1] if flip else found
