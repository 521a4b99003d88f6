"""The landmark kernels in plain NumPy: their executable specification.

Double precision throughout, except where a rounding is part of the rule (the 1/32-pixel sampling, the 0.1-cell
grid of the mean shift). Shapes are vectors x0..xn-1 y0..yn-1 (z0..), as in the kernels. Sections are those of
the OpenFace 2.2 specification, part 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyfaceau.landmarks.fit import PART_SETTINGS, FitSettings
from pyfaceau.weights.models import CCNFPatches, CENPatches, LandmarkModel, Patches, SVRPatches

Array = np.ndarray
SUPPORT = 11


# --- linear algebra -------------------------------------------------------------------------------


def solve(h: Array, b: Array) -> Array:
    """Solution of the normal equations; zero if ``h`` is not positive definite."""
    try:
        np.linalg.cholesky(h.astype(float))
    except np.linalg.LinAlgError:
        return np.zeros(len(b))
    return np.linalg.solve(h.astype(float), b.astype(float))


def axis_angle_to_matrix(vector: Array) -> Array:
    x, y, z = vector.astype(float)
    theta = math.sqrt(x * x + y * y + z * z)
    if theta == 0:
        return np.eye(3)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) / theta
    return np.eye(3) + math.sin(theta) * k + (1 - math.cos(theta)) * k @ k


def matrix_to_axis_angle(r: Array) -> Array:
    """For proper rotations by less than half a turn."""
    u, _, vt = np.linalg.svd(r.astype(float))
    r = u @ vt
    v = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    sine = np.linalg.norm(v) / 2
    if sine < 1e-5:
        return np.zeros(3)
    return v / (2 * sine) * math.acos(min(1.0, max(-1.0, (np.trace(r) - 1) / 2)))


# --- the shape model (section 6) ------------------------------------------------------------------


@dataclass
class Shape:
    """A shape model in double precision."""

    mean: Array
    modes: Array
    eigenvalues: Array

    @classmethod
    def of(cls, pdm: object) -> Shape:
        return cls(*(np.asarray(getattr(pdm, name), float) for name in ("mean", "modes", "eigenvalues")))

    def only(self, known: Array) -> Shape:
        rows = np.tile(known, 3)
        return Shape(self.mean[rows], self.modes[rows], self.eigenvalues)

    def points_3d(self, p: Array) -> Array:
        """(3, n)"""
        return (self.mean + self.modes @ p.astype(float)).reshape(3, -1)

    def project(self, g: Array, p: Array) -> Array:
        g = g.astype(float)
        plane = g[0] * rotation(g[1:4])[:2] @ self.points_3d(p) + g[4:, None]
        return plane.ravel()

    def jacobian(self, g: Array, p: Array) -> Array:
        """(2n, 6 + m)"""
        s, r, (x, y, z) = float(g[0]), rotation(g[1:4]), self.points_3d(p)
        modes = self.modes.reshape(3, -1, self.modes.shape[1])
        halves = []
        for row in range(2):
            r0, r1, r2 = r[row]
            ones = np.ones_like(x)
            rigid = [r0 * x + r1 * y + r2 * z, s * (y * r2 - z * r1), -s * (x * r2 - z * r0), s * (x * r1 - y * r0)]
            rigid += [ones * (row == 0), ones * (row == 1)]
            halves.append(np.column_stack([*rigid, s * np.einsum("a,anm->nm", r[row], modes)]))
        return np.vstack(halves)


def rotation(euler: Array) -> Array:
    """Rx Ry Rz"""
    (c1, c2, c3), (s1, s2, s3) = np.cos(np.asarray(euler, float)), np.sin(np.asarray(euler, float))
    rx = np.array([[1, 0, 0], [0, c1, -s1], [0, s1, c1]])
    ry = np.array([[c2, 0, s2], [0, 1, 0], [-s2, 0, c2]])
    rz = np.array([[c3, -s3, 0], [s3, c3, 0], [0, 0, 1]])
    return rx @ ry @ rz


def euler_angles(r: Array) -> Array:
    """Of a rotation matrix, with the middle angle within a quarter turn."""
    return np.array([math.atan2(-r[1, 2], r[2, 2]), math.asin(min(1, max(-1, r[0, 2]))), math.atan2(-r[0, 1], r[0, 0])])


def update_rigid(g: Array, delta: Array) -> Array:
    g, (w1, w2, w3) = g.astype(float), delta[1:4].astype(float)
    u, _, vt = np.linalg.svd(np.array([[1, -w3, w2], [w3, 1, -w1], [-w2, w1, 1]]))
    small = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    angles = euler_angles(rotation(g[1:4]) @ small)
    return np.array([g[0] + delta[0], *angles, g[4] + delta[4], g[5] + delta[5]])


def fit_to_points(pdm: object, landmarks: Array) -> tuple[Array, Array, list[float]]:
    """The fit "CalcParams": g, p and the residual norms before and after every pass."""
    known = landmarks[: len(landmarks) // 2] != 0
    shape, target = Shape.of(pdm).only(known), landmarks[np.tile(known, 2)].astype(float)
    points, box = target.reshape(2, -1), shape.mean.reshape(3, -1)[:2]
    low, high = points.min(axis=1), points.max(axis=1)
    scale = ((high - low) / np.ptp(box, axis=1)).mean()
    g = np.array([scale, 0, 0, 0, *(low + high) / 2])
    p: Array = np.zeros(len(shape.eigenvalues))
    prior = np.concatenate([np.zeros(6), 1 / shape.eigenvalues])
    errors, misses = [float(np.linalg.norm(shape.project(g, p) - target))], 0
    while misses < 3 and len(errors) <= 1000:
        j = shape.jacobian(g, p)
        b = j.T @ (target - shape.project(g, p)) - prior * np.concatenate([np.zeros(6), p])
        delta = 0.75 * np.linalg.solve(j.T @ j + np.diag(prior), b)
        g = update_rigid(g, delta)
        error = float(np.linalg.norm(shape.project(g, p) - target))  # new pose, old shape
        p = p + delta[6:]
        misses += 0.999 * errors[-1] < error
        errors.append(error)
    return g, p, errors


# --- areas of interest (section 7) ----------------------------------------------------------------


def nearest_view(centers: Array, euler: Array) -> int:
    return int(((np.asarray(euler, float) - centers) ** 2).sum(axis=1).argmin())


def similarity(source: Array, target: Array) -> Array:
    """Scaled rotation (2, 2) from ``source`` to ``target``, both [2n]."""
    centred, radii = [], []
    for shape in (source, target):
        raw = shape.astype(float).reshape(2, -1)
        points = raw - raw.mean(axis=1, keepdims=True)
        radii.append(math.sqrt((points**2).sum() / points.shape[1]))
        centred.append(points / radii[-1])
    u, _, vt = np.linalg.svd(centred[0] @ centred[1].T)
    q = vt.T @ np.diag([1, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    return radii[1] / radii[0] * q


def area_map(backward: Array, x: float, y: float, side: int) -> Array:
    """(2, 3): area pixel to picture pixel."""
    a, b, h = float(backward[0, 0]), -float(backward[0, 1]), (side - 1) / 2
    return np.array([[a, -b, x - a * h + b * h], [b, a, y - a * h - b * h]])


def sample(gray: Array, m: Array, side: int) -> Array:
    """Bilinear with positions rounded to 1/32 pixel; every tap outside the picture counts as 0."""
    m = m.astype(float)
    y, x = np.mgrid[:side, :side]
    sx = (np.rint((m[0, 1] * y + m[0, 2]) * 1024).astype(int) + 16 + np.rint(m[0, 0] * x * 1024).astype(int)) >> 5
    sy = (np.rint((m[1, 1] * y + m[1, 2]) * 1024).astype(int) + 16 + np.rint(m[1, 0] * x * 1024).astype(int)) >> 5
    fx, fy = (sx & 31) / 32, (sy & 31) / 32

    def tap(dy: int, dx: int) -> Array:
        row, column = (sy >> 5) + dy, (sx >> 5) + dx
        inside = (row >= 0) & (row < gray.shape[0]) & (column >= 0) & (column < gray.shape[1])
        return np.where(inside, gray[np.where(inside, row, 0), np.where(inside, column, 0)], 0).astype(float)

    top, bottom = (1 - fx) * tap(0, 0) + fx * tap(0, 1), (1 - fx) * tap(1, 0) + fx * tap(1, 1)
    return (1 - fy) * top + fy * bottom


@dataclass
class Scale:
    """What one scale of a fit prepares before it looks at responses."""

    view: int
    base: Array  # (2n,)
    forward: Array  # (2, 2) picture to reference frame
    backward: Array
    areas: Array  # (n, a, a)


def prepare(gray: Array, pdm: object, patches: Patches, g: Array, p: Array, window: int) -> Scale:
    shape, side = Shape.of(pdm), window + 10
    base = shape.project(g, p)
    forward = similarity(base, shape.project(np.array([patches.scale, 0, 0, 0, 0, 0]), p))
    backward, n, view = np.linalg.inv(forward), len(base) // 2, nearest_view(patches.centers, g[1:4])
    areas = np.zeros((n, side, side))
    for i in np.flatnonzero(patches.visible[view]):
        areas[i] = sample(gray, area_map(backward, base[i], base[n + i], side), side)
    return Scale(view, base, forward, backward, areas)


# --- patch experts --------------------------------------------------------------------------------


def blocks(area: Array) -> Array:
    """(w, w, 11, 11)"""
    return np.lib.stride_tricks.sliding_window_view(area.astype(float), (SUPPORT, SUPPORT))


def contrast_normalised(area: Array) -> Array:
    """Blocks less their mean, over their norm, which counts as 1 where it is 0."""
    centred = blocks(area) - blocks(area).mean(axis=(2, 3), keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=(2, 3), keepdims=True))
    return centred / np.where(norms > 1e-9, norms, 1)


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def sigma(patches: CCNFPatches, view: int, landmark: int, window: int) -> Array:
    """Covariance of the field, (w^2, w^2)."""
    precision = patches.alpha[view, landmark].sum() * np.eye(window * window)
    components = patches.sigma_components.get(window)
    if components is not None:
        precision = precision + np.tensordot(patches.betas[view, landmark], components, 1)
    return np.linalg.inv(2 * precision)


def ccnf(patches: CCNFPatches, view: int, landmark: int, area: Array) -> Array:
    normalised = contrast_normalised(area)
    window = len(normalised)
    neurons = (getattr(patches, name)[view, landmark] for name in ("weights", "bias", "norm", "alpha"))
    unary = np.zeros((window, window))
    for weights, bias, norm, alpha in zip(*neurons, strict=True):
        if alpha > 1e-4:
            z = bias + norm * np.einsum("yxrc,rc->yx", normalised, weights.astype(float))
            unary += 2 * alpha * logistic(z)
    response = (sigma(patches, view, landmark, window) @ unary.ravel()).reshape(window, window)
    return response - min(0, response.min())


def squared_gradient(area: Array) -> Array:
    out = np.zeros_like(area, float)
    a = area.astype(float)
    out[1:-1, 1:-1] = (a[1:-1, 2:] - a[1:-1, :-2]) ** 2 + (a[2:, 1:-1] - a[:-2, 1:-1]) ** 2
    return out


def svr(patches: SVRPatches, view: int, landmark: int, area: Array) -> Array:
    response = np.ones(np.array(area.shape) - SUPPORT + 1)
    for k, modality in enumerate(patches.modality[view, landmark]):
        image = squared_gradient(area) if modality == 1 else area.astype(float)
        template = patches.templates[view, landmark, k].astype(float)
        template = template - template.mean()
        if (template**2).sum() == 0:
            rho = np.ones(response.shape)  # OpenCV's convention
        else:
            rho = np.einsum("yxrc,rc->yx", contrast_normalised(image), template) / np.sqrt((template**2).sum())
        response *= logistic(patches.scaling[view, landmark, k] * rho + patches.bias[view, landmark, k])
    return response


def cen(patches: CENPatches, view: int, landmark: int, area: Array) -> Array:
    expert, flip = patches.expert[view, landmark], False
    if expert < 0:
        other = 0 if view == 0 else patches.mirror_views[view]
        expert, flip = patches.expert[other, patches.mirror_inds[landmark]], True
    response = cen_network(patches.experts[expert], area[:, ::-1] if flip else area)
    return response[:, ::-1] if flip else response


def cen_network(layers: tuple, area: Array) -> Array:
    normalised = contrast_normalised(area)
    window = len(normalised)
    # every block column by column, blocks column by column, a constant one before each
    y: Array = normalised.transpose(1, 0, 3, 2).reshape(window * window, -1).T
    y = np.vstack([np.ones(window * window), y])
    for layer in layers:
        y = layer.weights.astype(float) @ y + layer.bias[:, None]
        y = logistic(y) if layer.activation == 0 else np.maximum(y, 0) if layer.activation == 2 else y
    dense = y.reshape(window, window).T
    row, column = np.mgrid[:window, :window]
    odd = (row + column) % 2 == 1
    padded_values, padded_odd = np.pad(np.where(odd, dense, 0), 1), np.pad(odd, 1).astype(float)
    neighbours = [(slice(0, -2), slice(1, -1)), (slice(2, None), slice(1, -1))]
    neighbours += [(slice(1, -1), slice(0, -2)), (slice(1, -1), slice(2, None))]
    total, count = sum(padded_values[n] for n in neighbours), sum(padded_odd[n] for n in neighbours)
    return np.where(odd, dense, total / np.where(odd, 1, count))


EXPERTS: dict[type, Callable[..., Array]] = {CCNFPatches: ccnf, SVRPatches: svr, CENPatches: cen}


def respond(patches: Patches, scale: Scale) -> Array:
    """Response maps (n, w, w); zero where invisible."""
    side = scale.areas.shape[1] - 10
    responses = np.zeros((len(scale.areas), side, side))
    for i in np.flatnonzero(patches.visible[scale.view]):
        responses[i] = EXPERTS[type(patches)](patches, scale.view, int(i), scale.areas[i])
    return responses


# --- NU-RLMS (section 9) --------------------------------------------------------------------------


def mean_shift(response: Array, dx: float, dy: float, width: float) -> tuple[float, float]:
    """Shift (x, y) in response pixels; the kernel stands on the 0.1 grid, the shift is taken from where we are."""
    w, edge = len(response), np.float32(len(response)) - np.float32(0.1)
    dx32, dy32 = (np.float32(min(max(np.float32(d), np.float32(0)), edge)) for d in (dx, dy))
    qx, qy = (int(float(d / np.float32(0.1)) + 0.5) * 0.1 for d in (dx32, dy32))
    r, c = np.mgrid[:w, :w]
    v = response * np.exp(-((qy - r) ** 2 + (qx - c) ** 2) / (2 * width**2))
    return float((v * c).sum() / v.sum() - dx32), float((v * r).sum() / v.sum() - dy32)


def density(response: Array, dx: float, dy: float, width: float) -> float:
    r, c = np.mgrid[: len(response), : len(response)]
    return float((response * np.exp(-((dy - r) ** 2 + (dx - c) ** 2) / (2 * width**2))).sum())


@dataclass
class Solution:
    """One NU-RLMS solve: the parameters, pass by pass, and the landmark likelihoods."""

    g: Array
    p: Array
    path: list[tuple[Array, Array]]
    likelihoods: Array
    likelihood: float


def rlms(
    pdm: object, responses: Array, visible: Array, weights: Array, scale: Scale, settings: tuple[float, float, int],
    rigid: bool, g: Array, p: Array,
) -> Solution:  # fmt: skip
    reg, width, iterations = settings
    shape, n, w = Shape.of(pdm), len(responses), responses.shape[1]
    g, p = g.astype(float), p.astype(float)
    prior = np.concatenate([np.zeros(6), reg / shape.eigenvalues])
    used, bound = np.tile(visible, 2), 3 * np.sqrt(shape.eigenvalues)
    path, previous, where = [(g, p)], None, np.zeros((n, 2))
    for _ in range(iterations):
        points = shape.project(g, p)
        if previous is not None and np.linalg.norm(points - previous) < 0.01:
            break
        previous = points
        where = (scale.forward @ (points - scale.base).reshape(2, n)).T + (w - 1) / 2
        shifts = np.zeros((2, n))
        for i in np.flatnonzero(visible):
            shifts[:, i] = scale.backward @ np.array(mean_shift(responses[i], where[i, 0], where[i, 1], width))
        j = shape.jacobian(g, p)[:, : 6 if rigid else None] * used[:, None]
        jw = j * np.tile(weights, 2)[:, None]
        b, h = jw.T @ shifts.ravel(), jw.T @ j
        if not rigid:
            b, h = b - prior * np.concatenate([np.zeros(6), p]), h + np.diag(prior)
        delta = solve(h, b)
        g, p = update_rigid(g, delta), np.clip(p if rigid else p + delta[6:], -bound, bound)
        path.append((g, p))
    likelihoods = np.full(n, -1e8)
    for i in np.flatnonzero(visible):
        likelihoods[i] = density(responses[i], where[i, 0], where[i, 1], width)
    return Solution(g, p, path, likelihoods, float(np.log(likelihoods[visible] + 1e-8).mean()))


# --- whole fits (sections 8 and 10) ---------------------------------------------------------------


@dataclass
class Fit:
    g: Array
    p: Array
    likelihood: float
    success: bool


def fit(model: LandmarkModel, gray: Array, g: Array, p: Array, settings: FitSettings) -> Fit:
    """The scale loop."""
    likelihood = -10.0
    for k, patches in enumerate(model.patches):
        window = (*settings.windows, 0, 0, 0, 0)[k]
        if window == 0:
            continue
        scale = prepare(gray, model.pdm, patches, g, p, window)
        responses, visible = respond(patches, scale), patches.visible[scale.view]
        reg, width, factor = settings.at_scale(model.patches[min(k, 2)].scale)
        confidence = patches.confidence[scale.view]
        confidence = confidence.sum(axis=-1) if confidence.ndim == 2 else confidence
        weights = factor * confidence if factor > 0 else np.ones(len(visible))
        steps = (float(reg), float(width), settings.iterations)
        rigid = rlms(model.pdm, responses, visible, weights, scale, steps, True, g, p)
        full = rlms(model.pdm, responses, visible, weights, scale, steps, False, rigid.g, rigid.p)
        last = k + 1 == len(model.patches) or (*settings.windows, 0)[k + 1] == 0
        if last or rigid.g[0] < 0.3:
            likelihood = full.likelihood
        g, p = full.g, full.p
        if g[0] < 0.25:
            return Fit(g, p, likelihood, False)
    return Fit(g, p, likelihood, True)


def fit_with_parts(model: LandmarkModel, gray: Array, g: Array, p: Array, settings: FitSettings) -> tuple[Fit, Array]:
    """The scale loop, the parts, the refit: the fit and the landmarks [2N]."""
    whole, shape = fit(model, gray, g, p, settings), Shape.of(model.pdm)
    landmarks, found = shape.project(whole.g, whole.p), []
    for part in model.parts:
        given, n = np.zeros(2 * part.model.pdm.n), part.model.pdm.n
        main, own = part.pairs.T
        given[own], given[n + own] = landmarks[main], landmarks[len(landmarks) // 2 + main]
        part_g, part_p, _ = fit_to_points(part.model.pdm, given)
        if whole.g[0] > 0.9 * part.model.patches[0].scale:
            refined = fit(part.model, gray, part_g, part_p, PART_SETTINGS[part.name])
            found.append((main, own, Shape.of(part.model.pdm).project(refined.g, refined.p)))
    for main, own, points in found:
        landmarks[main] = points[own]
        landmarks[len(landmarks) // 2 + main] = points[len(points) // 2 + own]
    if found:
        whole.g, whole.p, _ = fit_to_points(model.pdm, landmarks)
        landmarks = shape.project(whole.g, whole.p)
    return whole, landmarks
