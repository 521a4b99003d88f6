"""The shape model: check vectors, recorded fits to the bit, the twin."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from pyfaceau.landmarks import normal
from pyfaceau.landmarks import pdm as module
from pyfaceau.landmarks.pdm import rotation_matrix, shape_2d, shape_3d
from pyfaceau.landmarks.points import fit_to_points
from pyfaceau.tests import landmark_twin as twin
from pyfaceau.tests.landmark_material import CLIPS, FRAMES, openface_model, planar, recordings, tiny_pdm
from pyfaceau.tests.shared import needs_shared, stage
from pyfaceau.weights.models import PDM

G0 = np.array([1.5, 0.1, -0.2, 0.3, 320, 240], np.float32)


def steps(m: int) -> np.ndarray:
    """The shape parameters of the check vectors: p_k = (k mod 5) - 2."""
    return (np.arange(m) % 5 - 2).astype(np.float32)


def euler(r: ArrayLike) -> np.ndarray:
    angles = np.empty(3, np.float32)
    module.euler_angles(np.ascontiguousarray(r, np.float32), angles)
    return angles


def jacobian(pdm: PDM, g: np.ndarray, p: np.ndarray, columns: int) -> np.ndarray:
    j = np.empty((2 * pdm.n, columns), np.float32)
    module.jacobian(g, rotation_matrix(g[1:4]), shape_3d(pdm, p), pdm.modes, columns, j)
    return j


def update(g: np.ndarray, delta: ArrayLike) -> np.ndarray:
    g = g.copy()
    work = np.empty((4, 3, 3), np.float32), np.empty(3)
    module.update_rigid(g, rotation_matrix(g[1:4]), np.asarray(delta, np.float32), *work)
    return g


def padded(j: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.pad(j, ((0, 0), (0, normal.padded_columns(j.shape[1]) - j.shape[1]))), np.float32)


def normal_matrix(jw: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Lower triangle of jw^T j; zeros above."""
    columns, side = j.shape[1], normal.padded_columns(j.shape[1])
    h = np.full((side, side), np.nan, np.float32)
    normal.normal_matrix(padded(jw), padded(j), columns, h)
    return np.tril(h[:columns, :columns])


def gradient(jw: np.ndarray, residual: np.ndarray) -> np.ndarray:
    columns = jw.shape[1]
    b = np.empty(columns, np.float32)
    normal.gradient(padded(jw), residual, columns, np.empty(normal.padded_columns(columns)), b)
    return b


# --- rotations, shapes, derivatives ----------------------------------------------------------------


def test_rotation_is_rounded_sines_and_plain_products() -> None:
    rng = np.random.default_rng(0)
    for angles in rng.uniform(-1.5, 1.5, (500, 3)).astype(np.float32):
        r = rotation_matrix(angles)
        np.testing.assert_allclose(r, twin.rotation(angles), atol=2e-7)
        c, s = np.cos(angles.astype(float)).astype(np.float32), np.sin(angles.astype(float)).astype(np.float32)
        assert r[0, 0] == c[1] * c[2]
        assert r[1, 0] == c[0] * s[2] + c[2] * s[0] * s[1]
        assert r[2, 0] == s[0] * s[2] - c[0] * c[2] * s[1]
        np.testing.assert_allclose(euler(r), angles, atol=2e-5)  # near a quarter turn the arc sine is steep
        np.testing.assert_allclose(euler(r), twin.euler_angles(r), atol=2e-3 * abs(np.tan(angles[1])) ** 0.5 + 2e-6)


def test_euler_angles_of_more_than_a_quarter_turn_stay_in_range() -> None:
    r = rotation_matrix(np.array([0.2, 2.0, 0.1], np.float32))
    angles = euler(r)
    assert abs(angles[1]) <= np.pi / 2 + 1e-6
    np.testing.assert_allclose(rotation_matrix(angles), r, atol=1e-4)


@needs_shared
@pytest.mark.parametrize(
    ("part", "x0", "others"),
    [
        (None, -94.345, {1: -101.241, -1: 65.3015}),
        ("inner", -68.4178, {-1: 76.3053}),
        ("left_eye_28", 1.10513, {-1: 18.3153}),
    ],
)
def test_projection_check_vectors(part: str | None, x0: float, others: dict[int, float]) -> None:
    """Part 1, section 11; printed to 6 digits."""
    model = openface_model()
    pdm = model.pdm if part is None else next(p.model.pdm for p in model.parts if p.name == part)
    points = shape_2d(pdm, np.array([1.5, 0.1, -0.2, 0.3, 10, 20], np.float32), steps(pdm.m))
    assert points[0] == pytest.approx(x0, rel=1e-5)
    for index, value in others.items():
        assert points[index] == pytest.approx(value, rel=1e-5)
    if part is None:
        shape = shape_3d(pdm, steps(pdm.m))
        assert shape[[0, -1]] == pytest.approx([-73.2295, -20.0484], rel=1e-5)


def test_shape_projection_and_jacobian_agree_with_the_twin() -> None:
    rng = np.random.default_rng(1)
    for seed in range(20):
        pdm = tiny_pdm(int(rng.integers(4, 30)), int(rng.integers(1, 10)), seed)
        reference = twin.Shape.of(pdm)
        g = np.array([rng.uniform(0.3, 3), *rng.uniform(-0.8, 0.8, 3), 320, 240], np.float32)
        p = (rng.normal(size=pdm.m) * np.sqrt(pdm.eigenvalues)).astype(np.float32)
        np.testing.assert_allclose(shape_3d(pdm, p), reference.points_3d(p).ravel(), atol=3e-5)
        np.testing.assert_allclose(shape_2d(pdm, g, p), reference.project(g, p), atol=2e-4)
        np.testing.assert_allclose(jacobian(pdm, g, p, 6 + pdm.m), reference.jacobian(g, p), atol=3e-4)
        np.testing.assert_array_equal(jacobian(pdm, g, p, 6), jacobian(pdm, g, p, 6 + pdm.m)[:, :6])


def test_jacobian_is_the_derivative_of_an_update() -> None:
    pdm, step = tiny_pdm(), 1e-3
    g, p = G0.copy(), np.array([3, -5, 2], np.float32)
    j, reference = jacobian(pdm, g, p, 6 + pdm.m), twin.Shape.of(pdm)
    for k in range(6 + pdm.m):
        delta = np.zeros(6 + pdm.m)
        delta[k] = step
        ahead = reference.project(twin.update_rigid(g, delta), p + delta[6:])
        behind = reference.project(twin.update_rigid(g, -delta), p - delta[6:])
        np.testing.assert_allclose(j[:, k], (ahead - behind) / (2 * step), atol=2e-3)


@needs_shared
def test_jacobian_check_vectors() -> None:
    """Part 2, section 16; printed to 7 digits."""
    pdm = openface_model().pdm
    j = jacobian(pdm, G0, steps(34), 40)
    expected = {
        0: [-69.56335, 28.91449, 44.00165, 72.1212, 1, 0, -0.07556, -0.14707],
        78: [71.19083, -35.5131, 12.14478, 18.86761, 0, 1, -0.12460, -0.08232],
    }
    for row, values in expected.items():
        np.testing.assert_allclose(j[row, :8], values, rtol=2e-6, atol=6e-6)


def test_normal_equations_agree_with_the_twin() -> None:
    rng = np.random.default_rng(2)
    for columns in (6, 7, 10, 16, 22, 23, 38, 40, 48):
        j = rng.normal(size=(136, columns)).astype(np.float32)
        weights, residual = rng.uniform(0, 2, 136).astype(np.float32), rng.normal(size=136).astype(np.float32)
        jw = j * weights[:, None]
        h = normal_matrix(jw, j)
        np.testing.assert_allclose(h, np.tril(jw.T.astype(float) @ j), atol=2e-4)
        np.testing.assert_array_equal(gradient(jw, residual), (jw.T.astype(float) @ residual).astype(np.float32))


@needs_shared
@pytest.mark.parametrize("recorded", FRAMES, ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_jacobians_and_normal_matrices(recorded: tuple[str, str, str, str]) -> None:
    """First passes of every recorded solve: J equal to the bit; H too, relative 1e-7 where rigid."""
    for recording in recordings(*recorded):
        for k in recording.scales:
            for kind in ("rigid", "nonrigid"):
                at, columns = f"s{k}.{kind}.", 6 if kind == "rigid" else 6 + recording.model.pdm.m
                g, p = recording[at + "iter_global"][0], recording[at + "iter_local"][0]
                visible = np.tile(recording[f"s{k}.visibility"] != 0, 2)
                j = jacobian(recording.model.pdm, g, p, columns)
                j[~visible] = 0
                np.testing.assert_array_equal(j, recording[at + "first_jacobian"])
                weights = np.tile(recording[at + "weights"], 2)[:, None]
                h = normal_matrix(j * weights, j)
                expected = recording[at + "first_hessian"]
                if columns > 6:
                    reg = recording[f"s{k}.fit_params"][1]
                    h[np.arange(6, columns), np.arange(6, columns)] += reg / recording.model.pdm.eigenvalues
                np.testing.assert_array_equal(h, np.tril(expected))


# --- update ---------------------------------------------------------------------------------------


def test_update_check_vector() -> None:
    """Part 2, section 16."""
    g = update(G0, [0.05, 0.1, -0.2, 0.15, 3, -4])
    np.testing.assert_allclose(g[1:4], [0.2715806, -0.3426937, 0.4933208], atol=3e-7)
    np.testing.assert_array_equal(g[[0, 4, 5]], G0[[0, 4, 5]] + np.array([0.05, 3, -4], np.float32))


def test_update_agrees_with_the_twin() -> None:
    rng = np.random.default_rng(3)
    for _ in range(500):
        g = np.array([1.2, *rng.uniform(-1, 1, 3), 320, 240], np.float32)
        delta = rng.normal(size=6).astype(np.float32) * np.float32(0.2)
        np.testing.assert_allclose(update(g, delta), twin.update_rigid(g, delta), rtol=2e-6, atol=3e-6)


def test_an_update_by_nothing_keeps_the_pose_but_for_rounding() -> None:
    np.testing.assert_allclose(update(G0, np.zeros(6)), G0, atol=1e-7)


@pytest.mark.parametrize("position", [1, 2, 3])
def test_nan_in_an_update_gives_no_rotation(position: int) -> None:
    delta = np.zeros(6)
    delta[position] = np.nan
    g = update(G0, delta)
    assert not g[1:4].any()
    np.testing.assert_array_equal(g[[0, 4, 5]], G0[[0, 4, 5]])


# --- the fit to points ----------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize("clip", CLIPS)
def test_every_recorded_fit_to_the_bit(clip: str) -> None:
    """Parameters and number of passes of all successful frames (1272 fits in the three clips)."""
    light, pdm, fits = stage(clip, "light"), openface_model().pdm, 0
    frames = light.get("fa_calcparams_iterations.frames", light["frames"])
    passes = dict(zip(frames, light["fa_calcparams_iterations"], strict=True))
    for i, frame in enumerate(light["frames"]):
        if not light["fa_success"][i]:
            continue
        g, p, count, _ = fit_to_points(pdm, planar(light["landmarks_2d"][i]))
        np.testing.assert_array_equal(g, light["fa_params_global"][i], err_msg=f"{clip} frame {frame}")
        np.testing.assert_array_equal(p, light["fa_params_local"][i], err_msg=f"{clip} frame {frame}")
        assert count == passes[frame]
        fits += 1
    assert fits == {"video01": 300, "2015-10-15-15-14": 842, "lost": 130}[clip]


@needs_shared
@pytest.mark.parametrize("recorded", FRAMES, ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_errors_of_fits_pass_by_pass(recorded: tuple[str, str, str, str]) -> None:
    """``calcparams.errors`` of parts, refit and face analysis, with as many passes: 6e-6 px (they are float32).

    g and p to the bit.
    """
    main, *parts = recordings(*recorded)
    analysed = fit_to_points(main.model.pdm, planar(main["final_landmarks"]))[3]
    np.testing.assert_allclose(analysed, stage(*recorded[:2])["fa.calcparams.errors"], rtol=0, atol=6e-6)
    assert main.has("writeback_landmarks") == (recorded[0] == "2015-10-15-15-14")
    assert len(parts) == (2 if "clm" in recorded[1] else 3)
    fits = [(part, "given_landmarks", "init") for part in parts]
    if main.has("writeback_landmarks"):
        fits.append((main, "writeback_landmarks", "final"))
    for recording, given, result in fits:
        g, p, _, errors = fit_to_points(recording.model.pdm, planar(recording[given]))
        np.testing.assert_allclose(errors, recording["calcparams.errors"], rtol=0, atol=6e-6)
        np.testing.assert_array_equal(g, recording[f"{result}_global"])
        np.testing.assert_array_equal(p, recording[f"{result}_local"])


@needs_shared
def test_fit_check_vector() -> None:
    """Part 2, section 16: the prior keeps the fit from the parameters that made the points."""
    pdm = openface_model().pdm
    g, p, passes, errors = fit_to_points(pdm, shape_2d(pdm, G0, steps(34)))
    np.testing.assert_allclose(g, [1.501837, 0.1025365, -0.2014236, 0.3002095, 320, 240], rtol=2e-6, atol=2e-5)
    np.testing.assert_allclose(p[:4], [-1.1345, -1.86949, 0.26906, 0.61838], atol=2e-4)
    assert p.sum() == pytest.approx(-1.6828, abs=1e-3)
    assert passes == 10
    expected = [222.5275, 69.7998, 17.0689, 4.6354, 1.7596, 1.3642, 1.3290, 1.3249, 1.3242, 1.3240, 1.3240]
    np.testing.assert_allclose(errors, expected, atol=2e-4)


@needs_shared
def test_fit_check_vector_with_missing_landmarks() -> None:
    """A landmark is missing where its x is exactly 0, whatever its y."""
    pdm = openface_model().pdm
    landmarks = shape_2d(pdm, G0, steps(34))
    landmarks[[5, 68 + 5, 40]] = 0
    g, p, _, _ = fit_to_points(pdm, landmarks)
    np.testing.assert_allclose(g, [1.502525, 0.1026214, -0.2009795, 0.3002177, 320.0014, 239.998], rtol=2e-6, atol=2e-5)
    assert p[0] == pytest.approx(-0.68344, abs=2e-4)
    assert p.sum() == pytest.approx(-0.8990, abs=1e-3)


def test_fit_agrees_with_the_twin() -> None:
    rng = np.random.default_rng(4)
    for seed in range(10):
        pdm = tiny_pdm(20, 4, seed)
        g = np.array([1.2, *rng.uniform(-0.3, 0.3, 3), 320, 240], np.float32)
        landmarks = shape_2d(pdm, g, (rng.normal(size=4) * 5).astype(np.float32))
        landmarks += rng.normal(size=40).astype(np.float32)
        if seed % 2:
            landmarks[[3, 23, 7]] = 0
        mine, (g, p, errors) = fit_to_points(pdm, landmarks), twin.fit_to_points(pdm, landmarks)
        assert mine[2] == len(errors) - 1
        np.testing.assert_allclose(mine[0], g, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(mine[1], p, atol=5e-4)
        np.testing.assert_allclose(mine[3], errors, rtol=1e-5)


def test_missing_landmarks_do_not_influence_the_fit() -> None:
    pdm = tiny_pdm(20, 4)
    landmarks = shape_2d(pdm, G0, np.zeros(4, np.float32))
    landmarks[4] = 0
    expected = fit_to_points(pdm, landmarks)
    landmarks[20 + 4] = 12345
    for mine, value in zip(fit_to_points(pdm, landmarks), expected, strict=True):
        np.testing.assert_array_equal(mine, value)


def test_no_landmark_at_all_gives_zeros() -> None:
    g, p, passes, _ = fit_to_points(tiny_pdm(), np.zeros(18, np.float32))
    assert passes == 0
    assert not g.any()
    assert not p.any()


def test_landmarks_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"landmarks of shape \(20,\), expected \(18,\)"):
        fit_to_points(tiny_pdm(), np.zeros(20, np.float32))
