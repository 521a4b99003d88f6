"""CCNF responses in plain NumPy with every rounding of the reference: the executable specification of the kernel."""

from __future__ import annotations

import numpy as np

from pyfaceau.weights.models import CCNFPatches

Array = np.ndarray
F = np.float32


def fused(a: Array, b: Array, c: Array) -> Array:
    """a b + c, rounded once to float32 (but for double roundings, one in 2^29)."""
    return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(F)


def sequential(terms: Array) -> Array:
    """Float32 sum over the last axis, one after the other."""
    total = np.zeros(terms.shape[:-1], F)
    for k in range(terms.shape[-1]):
        total = total + terms[..., k]
    return total


def chain(weights: Array, x: Array, ks: range | list[int]) -> Array:
    """Fused float32 chain over ``ks`` of weights [k] times x [positions, k]."""
    total = np.zeros(len(x), F)
    for k in ks:
        total = fused(x[:, k], weights[k], total)
    return total


def normalised_blocks(area: Array) -> Array:
    """[w^2, 122]: a one, then the block less its mean over its norm, column by column; positions line by line."""
    blocks = np.lib.stride_tricks.sliding_window_view(area, (11, 11)).reshape(-1, 11, 11)
    by_lines, by_columns = blocks.reshape(-1, 121), blocks.transpose(0, 2, 1).reshape(-1, 121)
    centred = by_columns - (sequential(by_lines) / F(121))[:, None]
    norm = np.sqrt(sequential(centred * centred))
    x = centred * (F(1) / np.where(norm == 0, F(1), norm))[:, None]
    return np.concatenate([np.ones((len(x), 1), F), x], axis=1)


def unary(patches: CCNFPatches, view: int, landmark: int, area: Array) -> Array:
    """Sum of the neurons at every position, line by line."""
    x, total = normalised_blocks(area), np.zeros((len(area) - 10) ** 2, F)
    paired = 120
    for q in range(patches.alpha.shape[2]):
        alpha = patches.alpha[view, landmark, q]
        if alpha <= 1e-4:
            continue
        scaled = patches.weights[view, landmark, q].T.ravel() * F(patches.norm[view, landmark, q])
        weights = np.concatenate([[F(patches.bias[view, landmark, q])], scaled]).astype(F)
        z = chain(weights, x, range(122))
        if q % 7 < 4:
            even = chain(weights, x, [*range(0, paired, 2), 120, 121])
            z[:-1] = (even + chain(weights, x, range(1, paired, 2)))[:-1]
        total = (total + 2 * alpha / (1 + np.exp(-z.astype(np.float64)))).astype(F)
    return total


def response(patches: CCNFPatches, view: int, landmark: int, area: Array, sigma: Array) -> Array:
    """Response map; ``sigma`` [w^2, w^2] is the covariance, float32."""
    total = chain_of_columns(sigma, unary(patches, view, landmark, area))
    window = len(area) - 10
    return (total - min(F(0), total.min())).reshape(window, window)


def chain_of_columns(matrix: Array, vector: Array) -> Array:
    """Matrix times vector, one fused float32 chain per row."""
    total = np.zeros(len(matrix), F)
    for k in range(len(vector)):
        total = fused(matrix[:, k], vector[k], total)
    return total
