"""The model weights as plain data: frozen dataclasses of read-only, C-contiguous arrays.

Conventions: n landmarks, m shape modes, nv views, K neurons, w window size. Shape vectors are
x0..x(n-1) y0..y(n-1) (z0..z(n-1)), never interleaved. Angles are radians (pitch, yaw, roll).
The file layouts are those of the OpenFace 2.2 specification, part 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray


@dataclass(frozen=True, eq=False)
class PDM:
    """Point distribution model, X = mean + modes @ p (part 1 §2). Lengths are millimetres."""

    mean: Array  # f32 (3n,)
    modes: Array  # f32 (3n, m), orthonormal columns
    eigenvalues: Array  # f32 (m,), descending
    modes_t: Array = field(init=False, repr=False)  # f32 (m, 3n), the transpose as contiguous rows

    def __post_init__(self) -> None:
        transposed = np.ascontiguousarray(self.modes.T)
        transposed.flags.writeable = False
        object.__setattr__(self, "modes_t", transposed)

    @cached_property
    def n(self) -> int:
        """Number of landmarks."""
        return self.mean.shape[0] // 3

    @cached_property
    def m(self) -> int:
        """Number of modes."""
        return self.eigenvalues.shape[0]

    @cached_property
    def prior(self) -> Array:
        """Weight of the prior on each mode, f32 (m,): 1 / eigenvalue."""
        return np.float32(1) / self.eigenvalues


@dataclass(frozen=True, eq=False)
class CCNFPatches:
    """CCNF patch experts of one scale (part 1 §3). Absent experts and absent neurons are zeros."""

    scale: float  # px per model unit
    centers: Array  # f64 (nv, 3)
    visible: Array  # bool (nv, n)
    weights: Array  # f32 (nv, n, K, 11, 11), [r, c] belongs to pixel (y + r, x + c)
    bias: Array  # f64 (nv, n, K)
    norm: Array  # f64 (nv, n, K)
    alpha: Array  # f64 (nv, n, K)
    betas: Array  # f64 (nv, n, nb)
    confidence: Array  # f64 (nv, n)
    sigma_components: Mapping[int, Array]  # window w -> f32 (nc, w*w, w*w); the model's, not the file's


@dataclass(frozen=True, eq=False)
class SVRPatches:
    """SVR patch experts of one scale, M modalities (part 1 §4)."""

    scale: float
    centers: Array  # f64 (nv, 3)
    visible: Array  # bool (nv, n)
    templates: Array  # f32 (nv, n, M, 11, 11), image orientation [row, column]
    confidence: Array  # f64 (nv, n, M)
    scaling: Array  # f64 (nv, n, M)
    bias: Array  # f64 (nv, n, M)
    modality: Array  # i32 (nv, n, M): 0 raw, 1 gradient


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a CEN expert, act(weights @ x + bias)."""

    activation: int  # 0 sigmoid, 2 ReLU, any other identity
    bias: Array  # f32 (h_out,)
    weights: Array  # f32 (h_out, h_in)


@dataclass(frozen=True, eq=False)
class CENPatches:
    """CEN patch experts of one scale (part 1 §5). The layers' arrays are views of the mapped file."""

    scale: float
    centers: Array  # f64 (nv, 3)
    visible: Array  # bool (nv, n)
    mirror_inds: Array  # i32 (n,)
    mirror_views: Array  # i32 (nv,)
    expert: Array  # i32 (nv, n), index into experts, -1 where the entry is empty
    experts: tuple[tuple[Layer, ...], ...]
    confidence: Array  # f64 (nv, n)


Patches: TypeAlias = CCNFPatches | SVRPatches | CENPatches


@dataclass(frozen=True, eq=False)
class Conv:
    """Valid cross-correlation, stride 1."""

    kernels: Array  # f32 (n_out, n_in, kh, kw)
    bias: Array  # f32 (n_out,)


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Maximum over windows of kx columns and ky rows, strides sx and sy."""

    kx: int
    ky: int
    sx: int
    sy: int


@dataclass(frozen=True, eq=False)
class Dense:
    """Fully connected; one row of weights per output. Inputs are flattened map by map, column-major."""

    weights: Array  # f32 (n_out, n_in)
    bias: Array  # f32 (n_out,)


@dataclass(frozen=True, eq=False)
class PReLU:
    """x where x >= 0, slope * x elsewhere; one slope per map or unit."""

    slope: Array  # f32 (n,)


@dataclass(frozen=True, eq=False)
class ReLU:
    """max(x, 0)."""


@dataclass(frozen=True, eq=False)
class Sigmoid:
    """1 / (1 + exp(-x))."""


CNNLayer: TypeAlias = Conv | MaxPool | Dense | PReLU | ReLU | Sigmoid


@dataclass(frozen=True, eq=False)
class CNN:
    """A feed-forward network (part 1 §6)."""

    layers: tuple[CNNLayer, ...]


@dataclass(frozen=True, eq=False)
class ValidatorView:
    """One view of the detection validator: piecewise-affine warp, normalisation, network (part 1 §7)."""

    orientation: Array  # f64 (3,)
    mean: Array  # f64 (N,)
    std: Array  # f64 (N,)
    cnn: CNN
    min_x: float
    min_y: float
    destination: Array  # f64 (2n,), xs then ys
    triangles: Array  # i32 (T, 3)
    triangle_id: Array  # i32 (h, w), -1 outside
    alpha: Array  # f64 (T, 3)
    beta: Array  # f64 (T, 3)


@dataclass(frozen=True, eq=False)
class Validator:
    """The landmark detection validator (part 1 §7)."""

    views: tuple[ValidatorView, ...]

    @property
    def bins(self) -> int:
        """Number of certainty bins: outputs of the networks' last fully connected layer."""
        dense = [layer for layer in self.views[0].cnn.layers if isinstance(layer, Dense)]
        return dense[-1].bias.shape[0]


@dataclass(frozen=True, eq=False)
class Part:
    """A model of a part of the face, tied to the main model's landmarks."""

    name: str
    pairs: Array  # i32 (k, 2): main landmark, part landmark
    model: LandmarkModel


@dataclass(frozen=True, eq=False)
class LandmarkModel:
    """All that one main list names (part 1 §1)."""

    name: str  # stem of the main list
    kind: Literal["ccnf", "cen", "svr"]
    pdm: PDM
    patches: tuple[Patches, ...]  # coarse to fine
    parts: tuple[Part, ...]
    validator: Validator | None
    early_termination: Array | None  # f64 (3, nv): weights, biases, cutoffs
    triangulations: tuple[Array, ...] = ()  # i32 (T, 3) per view, for drawing only


@dataclass(frozen=True, eq=False)
class MTCNNWeights:
    """The three networks of the face detector."""

    pnet: CNN
    rnet: CNN
    onet: CNN


@dataclass(frozen=True, eq=False)
class LinearModels:
    """k linear predictors over D features, sorted by name (part 1 §9)."""

    names: tuple[str, ...]
    weights: Array  # f64 (k, D)
    bias: Array  # f64 (k,)
    means: Array  # f64 (k, D): those of the first listed file of the predictor's kind
    dynamic: Array  # bool (k,): subtract the running median too
    cutoff: Array  # f64 (k,): quantile of the offline shift, -1 none
    positive: Array  # f64 (k,): class of a positive score (presence only, else 0)
    negative: Array  # f64 (k,)


@dataclass(frozen=True, eq=False)
class AUPredictors:
    """One set of action unit predictors, dynamic or static."""

    pdm: PDM
    triangles: Array  # i32 (T, 3), the face mask
    intensity: LinearModels
    presence: LinearModels
