"""Whole fits: recorded frames from their recorded starts, check vectors, parts, settings per scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pyfaceau.config import Config
from pyfaceau.landmarks import fit as module
from pyfaceau.landmarks.certainty import Certainty
from pyfaceau.landmarks.fit import PART_SETTINGS, FitSettings, Fitter, PartFitter, refine_parts
from pyfaceau.landmarks.pdm import shape_2d
from pyfaceau.landmarks.points import fit_to_points
from pyfaceau.landmarks.rlms import solve_scale
from pyfaceau.landmarks.tracker import Tracker
from pyfaceau.tests import landmark_twin as twin
from pyfaceau.tests.landmark_material import (
    FRAMES,
    Recording,
    openface_model,
    planar,
    recordings,
    tiny_model,
    tiny_patches,
    tiny_pdm,
    wave_picture,
)
from pyfaceau.tests.shared import needs_shared, stage
from pyfaceau.weights.models import PDM, LandmarkModel, Part

TRACKING = FitSettings(windows=(0, 9, 7, 0))


def refined(gray: np.ndarray, pdm: PDM, parts: list[PartFitter], g: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Landmarks after the parts' fits; ``g`` and ``p`` are updated."""
    landmarks = shape_2d(pdm, g, p)
    refine_parts(gray, pdm, parts, landmarks, g, p)
    return landmarks


def fresh_parts(model: LandmarkModel) -> list[PartFitter]:
    return [PartFitter(part, model.pdm.n) for part in model.parts]


def start_of(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    return recording["start_global"].copy(), recording["start_local"].copy()


def settings_of(recording: Recording) -> FitSettings:
    return FitSettings() if "hyp00" in recording.prefix else TRACKING


# --- recorded frames ------------------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize("recorded", FRAMES, ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_frames_before_the_parts(recorded: tuple[str, str, str, str]) -> None:
    """Two or three scales on end: landmarks 0.02 px at most, 0.005 px in the mean, likelihood 2e-4.

    (A last bit of a response may move the kernel of the mean shift by a step of its 0.1 grid.)
    """
    face = next(recordings(*recorded))
    fitter, (g, p) = Fitter(face.model), start_of(face)
    assert fitter.fit(face.gray, g, p, settings_of(face)) == face["fit_success"]
    off = np.abs(shape_2d(fitter.pdm, g, p) - planar(face["fit_landmarks"]))
    assert off.max() < 0.02
    assert off.mean() < 0.005
    last = face.scales[-1]
    assert fitter.view == face[f"s{last}.view"]
    assert float(fitter.likelihood) == pytest.approx(float(face[f"s{last}.nonrigid.likelihood"]), abs=2e-4)
    np.testing.assert_allclose(fitter.likelihoods, face[f"s{last}.nonrigid.landmark_likelihoods"], atol=0.01)


@needs_shared
@pytest.mark.parametrize("recorded", FRAMES, ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_parts_and_refit(recorded: tuple[str, str, str, str]) -> None:
    """From the recorded fit of the face: part landmarks 0.03 px, final landmarks 5e-4 px, final certainty equal."""
    face, *recorded_parts = recordings(*recorded)
    parts, fitter = fresh_parts(face.model), Fitter(face.model)
    g, p = face["fit_global"].copy(), face["fit_local"].copy()
    landmarks = refined(face.gray, fitter.pdm, parts, g, p)
    np.testing.assert_allclose(landmarks, planar(face["final_landmarks"]), rtol=0, atol=5e-4)
    np.testing.assert_allclose(g, face["final_global"], rtol=0, atol=1e-4)
    fitted = recorded[0] == "2015-10-15-15-14"  # the other clip's face is too small for parts
    for part, expected in zip(parts, recorded_parts, strict=True):
        assert expected.has("final_landmarks") == fitted
        if fitted:
            np.testing.assert_allclose(part.state.landmarks, planar(expected["final_landmarks"]), rtol=0, atol=0.03)
        else:
            part.refine(face.gray, landmarks, float(g[0]))  # nobody needs all of them then
            np.testing.assert_array_equal(part.state.p, expected["init_local"])
    if not fitted:
        np.testing.assert_array_equal(p, face["fit_local"])
    assert face.model.validator is not None
    certainty = Certainty(face.model.validator)(face.gray, landmarks, g[1:4])
    assert np.float32(certainty) == face["certainty"]


@needs_shared
@pytest.mark.parametrize("recorded", [f for f in FRAMES if f[1].endswith("frame_1")], ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_hypotheses(recorded: tuple[str, str, str, str]) -> None:
    """All 11 start rotations through all scales and parts: landmarks in the mean 0.05 px, likelihoods 2e-3.

    Nine of ten at least: a start from behind may end on a knife's edge.
    """
    arrays, face = stage(*recorded[:2]), next(recordings(*recorded))
    fitter, parts, close = Fitter(face.model), fresh_parts(face.model), 0
    for h in range(11):
        g, p = arrays["hyps.main.start_global"][h].copy(), arrays["hyps.main.start_local"][h].copy()
        assert fitter.fit(face.gray, g, p, FitSettings())
        landmarks = refined(face.gray, fitter.pdm, parts, g, p)
        off = np.abs(landmarks - planar(arrays["hyps.main.final_landmarks"][h])).mean()
        close += off < 0.05 and abs(fitter.likelihood - arrays["hyps.model_likelihood"][h]) < 2e-3
    assert close >= 10


# --- check vectors (part 2, section 16) ---------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize(
    ("windows", "likelihood", "g", "p", "total"),
    [
        (
            (11, 0, 0, 0), -1.231932, (0.921651, -0.0285766, 0.1046264, 0.000123122, 319.4211, 236.3391),
            (6.96796, -0.17151, 28.17235), 37791.69,
        ),
        (
            (0, 9, 0, 0), -2.060721, (1.04173, 0.0504314, 0.1090968, -0.0051505, 320.5457, 239.9596),
            (10.28586, -14.47975, 20.97672), 38114.36,
        ),
    ],
)  # fmt: skip
def test_one_scale_of_the_wave_picture(
    windows: tuple[int, ...], likelihood: float, g: tuple[float, ...], p: tuple[float, ...], total: float
) -> None:
    """Tolerance as stated there: 1e-3 (relative where values are large)."""
    fitter = Fitter(openface_model())
    found_g, found_p = np.array([1.2, 0.05, 0.1, -0.02, 320, 240], np.float32), np.zeros(34, np.float32)
    assert fitter.fit(wave_picture(), found_g, found_p, FitSettings(windows=windows))
    assert float(fitter.likelihood) == pytest.approx(likelihood, abs=1e-3)
    np.testing.assert_allclose(found_g, g, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found_p[:3], p, atol=5e-3)
    assert shape_2d(fitter.pdm, found_g, found_p).sum() == pytest.approx(total, abs=0.05)
    if windows[0]:
        assert float(fitter.likelihoods[0]) == pytest.approx(1.38034, abs=1e-3)


@needs_shared
def test_all_scales_of_the_wave_picture() -> None:
    fitter = Fitter(openface_model())
    g, p = np.array([1.2, 0.05, 0.1, -0.02, 320, 240], np.float32), np.zeros(34, np.float32)
    assert fitter.fit(wave_picture(), g, p, FitSettings())
    assert float(fitter.likelihood) == pytest.approx(-1.36006, abs=0.01)
    np.testing.assert_allclose(g, [0.89459, -0.0265, 0.0774, 0.0040, 318.728, 236.579], rtol=2e-4, atol=2e-3)
    assert shape_2d(fitter.pdm, g, p).sum() == pytest.approx(37760.9, abs=2)


@needs_shared
def test_parts_of_the_wave_picture() -> None:
    model = openface_model()
    fitter, parts, gray = Fitter(model), fresh_parts(model), wave_picture()
    g, p = np.array([1.8, 0.05, 0.1, -0.02, 320, 240], np.float32), np.zeros(34, np.float32)
    assert fitter.fit(gray, g, p, FitSettings())
    landmarks = refined(gray, fitter.pdm, parts, g, p)
    assert float(fitter.likelihood) == pytest.approx(-1.2879, abs=0.01)
    np.testing.assert_allclose(g, [1.8128, 0.1215, 0.1087, -0.0226, 323.781, 250.012], rtol=5e-4, atol=5e-3)
    by_name = {part.name: part for part in parts}
    expected = {"inner": -1.5252, "left_eye_28": -2.2474, "right_eye_28": -1.9820}
    for name, likelihood in expected.items():
        assert float(by_name[name].fitter.likelihood) == pytest.approx(likelihood, abs=0.05)
    assert by_name["left_eye_28"].state.landmarks[0] == pytest.approx(241.246, abs=0.2)
    assert by_name["inner"].state.landmarks[0] == pytest.approx(210.171, abs=0.2)
    assert model.validator is not None
    assert Certainty(model.validator)(gray, landmarks, g[1:4]) == pytest.approx(0.45)


# --- settings per scale (part 2, section 2) -----------------------------------------------------------------


class NoDetector:
    def detect(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("not to be asked")


def searching_settings(config: Config, name: str = "main_clnf_general") -> FitSettings:
    return Tracker(tiny_model(name=name), NoDetector(), config)._searching  # type: ignore[arg-type]


SCALES = (0.25, 0.35, 0.5, 0.5)  # the fourth scale is adapted as the third


@pytest.mark.parametrize(
    ("preset", "name", "reg", "sigma", "weight"),
    [
        ("openface-2.2", "main_clnf_general", (25, 17.7186, 10, 10), (1.5, 1.62136, 1.75, 1.75), (0, 0, 0, 0)),
        ("openface-2.2", "main_clm_general", (25, 17.7186, 10, 10), (1.5, 1.62136, 1.75, 1.75), (0, 0, 0, 0)),
        ("openface-2.2", "main_ceclm_general", (22.5, 15.2186, 7.5, 7.5), (2.25, 2.37136, 2.5, 2.5), (0, 0, 0, 0)),
        ("wild", "main_clnf_wild", (35, 27.7186, 20, 20), (1.25, 1.37136, 1.5, 1.5), (2.5, 4.92713, 7.5, 7.5)),
        ("wild", "main_ceclm_general", (31.5, 24.2186, 16.5, 16.5), (1.875, 1.99636, 2.125, 2.125),
         (2.5, 4.92713, 7.5, 7.5)),
    ],
)  # fmt: skip
def test_settings_at_each_scale(
    preset: str, name: str, reg: tuple[float, ...], sigma: tuple[float, ...], weight: tuple[float, ...]
) -> None:
    settings = searching_settings(Config.preset(preset), name)
    found = np.array([settings.at_scale(scale) for scale in SCALES])
    np.testing.assert_allclose(found.T, [reg, sigma, weight], rtol=1e-5)
    assert settings.windows == ((11, 9, 7, 5) if preset == "openface-2.2" else (15, 13, 11, 11))
    assert settings.iterations == (5 if preset == "openface-2.2" else 10)


@needs_shared
def test_settings_are_the_recorded_ones() -> None:
    for face in recordings(*FRAMES[6]):
        settings = FitSettings() if face.name == "main" else PART_SETTINGS[next(
            part.name for part in openface_model().parts if part.name.startswith(face.name))]  # fmt: skip
        for k in face.scales:
            sigma, reg, weight, iterations = face[f"s{k}.fit_params"]
            found = settings.at_scale(face.model.patches[min(k, 2)].scale)
            np.testing.assert_array_equal(np.array(found, np.float32), [reg, sigma, weight])
            assert settings.iterations == iterations
            assert settings.windows[k] == face[f"s{k}.window"]


def test_regularisation_never_vanishes() -> None:
    reg, _, _ = FitSettings(reg=25).at_scale(1.0)
    assert reg == np.float32(0.001)


def test_parts_keep_their_settings_at_every_scale() -> None:
    for name, (reg, sigma, weight) in {
        "left_eye_28": (0.5, 1.0, 0), "right_eye_28": (0.5, 1.0, 0), "inner": (2.5, 1.75, 2.5),
    }.items():  # fmt: skip
        for scale in (0.5, 1.0, 1.5):
            np.testing.assert_array_equal(PART_SETTINGS[name].at_scale(scale), [reg, sigma, weight])
        assert PART_SETTINGS[name].iterations == 5


# --- the scale loop -----------------------------------------------------------------------------------------


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every scale of a fit asks of the solver, which works as ever."""
    calls: list[dict[str, Any]] = []
    original = solve_scale

    def watched(*args: Any) -> Any:
        calls.append({
            "window": args[4].shape[1], "weights": args[6], "reg": args[11], "sigma": args[12],
            "iterations": args[13], "last": args[14],
        })  # fmt: skip
        return original(*args)

    monkeypatch.setattr(module, "solve_scale", watched)
    return calls


def tiny_start(scale: float = 1.1) -> tuple[np.ndarray, np.ndarray]:
    return np.array([scale, 0, 0, 0, 320, 240], np.float32), np.zeros(3, np.float32)


def by_scale(model: LandmarkModel) -> Fitter:
    """A fitter that takes one scale after another, as it does for experts other than CCNF."""
    fitter = Fitter(model)
    fitter._fused = None
    return fitter


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ((11, 9, 7, 5), [(11, False), (9, False), (7, False), (5, True)]),
        ((0, 9, 7, 0), [(9, False), (7, True)]),
        ((11,), [(11, True)]),
        ((0, 9, 7), [(9, False), (7, True)]),
        ((11, 0, 7, 5), [(11, True), (7, False), (5, True)]),
        ((0, 0, 0, 0), []),
    ],
)
def test_scales_run_where_there_is_a_window(
    solved: list[dict[str, Any]], windows: tuple[int, ...], expected: list[tuple[int, bool]]
) -> None:
    """Likelihoods are taken at the last scale and before a skipped one."""
    fitter = by_scale(tiny_model((0.25, 0.35, 0.5, 1.0)))
    assert fitter.fit(wave_picture(), *tiny_start(), FitSettings(windows=windows))
    assert [(call["window"], call["last"]) for call in solved] == expected
    assert (float(fitter.likelihood) == -10) == (not expected)


def test_more_windows_than_scales(solved: list[dict[str, Any]]) -> None:
    assert by_scale(tiny_model((1.0, 1.5))).fit(wave_picture(), *tiny_start(), FitSettings(windows=(3, 5, 9)))
    assert [(call["window"], call["last"]) for call in solved] == [(3, False), (5, True)]


def test_the_fourth_scale_is_adapted_as_the_third(solved: list[dict[str, Any]]) -> None:
    settings = FitSettings(weight_factor=2.5, iterations=3)
    assert by_scale(tiny_model((0.25, 0.35, 0.5, 1.0))).fit(wave_picture(), *tiny_start(), settings)
    np.testing.assert_allclose([call["reg"] for call in solved], [25, 17.7186, 10, 10], rtol=1e-5)
    np.testing.assert_allclose([call["sigma"] for call in solved], [1.5, 1.62136, 1.75, 1.75], rtol=1e-5)
    assert {call["iterations"] for call in solved} == {3}
    confidence = [tiny_patches(scale=s, seed=k).confidence[0] for k, s in enumerate((0.25, 0.35, 0.5, 1.0))]
    for call, factor, values in zip(solved, (2.5, 4.92713, 7.5, 7.5), confidence, strict=True):
        np.testing.assert_allclose(call["weights"], factor * values, rtol=1e-5)


def test_no_weights_unless_asked_for(solved: list[dict[str, Any]]) -> None:
    assert by_scale(tiny_model()).fit(wave_picture(), *tiny_start(), FitSettings())
    assert {call["weights"].shape for call in solved} == {(0,)}


def test_weights_follow_the_view_and_leave_out_the_invisible(solved: list[dict[str, Any]]) -> None:
    model = tiny_model((0.5,), views=3)
    fitter = by_scale(model)
    for view in (0, 2, 1):
        g, p = tiny_start()
        g[2] = -0.35 * view
        fitter.fit(wave_picture(), g, p, FitSettings(windows=(7,), weight_factor=2.5, per_scale=False))
        patches = model.patches[0]
        expected = np.where(patches.visible[view], 2.5 * patches.confidence[view], 0)
        np.testing.assert_allclose(solved[-1]["weights"], expected, rtol=1e-6)
        assert (solved[-1]["weights"][-2:] == 0).all() == (view > 0)


@needs_shared
def test_weights_of_the_inner_part_are_the_recorded_ones(solved: list[dict[str, Any]]) -> None:
    inner = list(recordings(*FRAMES[7]))[1]
    assert inner.name == "inner"
    g, p = inner["init_global"].copy(), inner["init_local"].copy()
    by_scale(inner.model).fit(inner.gray, g, p, PART_SETTINGS["inner"])
    np.testing.assert_array_equal(solved[0]["weights"], inner["s0.rigid.weights"])


def test_a_face_that_becomes_too_small_is_given_up(solved: list[dict[str, Any]]) -> None:
    """Below 0.25 px per mm after a scale; its likelihood is still taken, the scales to come are skipped."""
    fitter, (g, p) = by_scale(tiny_model()), tiny_start(0.2)
    assert not fitter.fit(np.zeros((480, 640), np.uint8), g, p, FitSettings())
    assert len(solved) == 1
    assert g[0] < 0.25
    assert fitter.likelihood != -10


def test_a_small_face_is_fitted(solved: list[dict[str, Any]]) -> None:
    fitter, (g, p) = by_scale(tiny_model()), tiny_start(0.27)
    assert fitter.fit(np.zeros((480, 640), np.uint8), g, p, FitSettings())
    assert len(solved) == 3


@pytest.mark.parametrize("windows", [(11, 9, 7, 5), (0, 9, 7, 0), (11, 0, 7, 5), (0, 0, 0, 0)])
@pytest.mark.parametrize("factor", [0.0, 2.5])
@pytest.mark.parametrize("scale", [0.2, 1.1])
def test_one_kernel_does_what_the_scales_do(windows: tuple[int, ...], factor: float, scale: float) -> None:
    model = tiny_model((0.25, 0.35, 0.5, 1.0), views=3)
    settings = FitSettings(windows=windows, weight_factor=factor)
    states = []
    for make in (Fitter, by_scale):
        fitter, (g, p) = make(model), tiny_start(scale)
        g[2] = -0.7
        fitted = [fitter.fit(wave_picture(), g, p, settings) for _ in range(2)]
        states.append((fitted, g.tobytes(), p.tobytes(), fitter.likelihoods.tobytes(), fitter.likelihood, fitter.view))
    assert states[0] == states[1]


def test_fits_agree_with_the_twin() -> None:
    """One pass on one scale, anywhere: 0.02 px in the mean but where a sample or a kernel steps (one in ten)."""
    rng, close = np.random.default_rng(0), 0
    model = tiny_model((0.5,))
    fitter, gray = Fitter(model), wave_picture()
    settings = FitSettings(windows=(9,), iterations=1)
    for _ in range(10):
        g = np.array([rng.uniform(0.8, 1.6), *rng.uniform(-0.2, 0.2, 3), *rng.uniform(200, 400, 2)], np.float32)
        p = rng.normal(size=3).astype(np.float32)
        expected = twin.fit(model, gray, g, p, settings)
        assert fitter.fit(gray, g, p, settings)
        off = shape_2d(model.pdm, g, p) - twin.Shape.of(model.pdm).project(expected.g, expected.p)
        close += np.abs(off).mean() < 0.02 and abs(float(fitter.likelihood) - expected.likelihood) < 5e-3
    assert close >= 9


def test_fits_do_not_depend_on_those_before() -> None:
    model, gray = tiny_model(), wave_picture()
    fitter = Fitter(model)
    results = []
    for x in (320, 100, 320):
        g, p = tiny_start()
        g[4] = x
        fitter.fit(gray, g, p, FitSettings())
        results.append((g, p, fitter.likelihoods.copy()))
    for first, again in zip(results[0], results[2], strict=True):
        np.testing.assert_array_equal(first, again)


# --- parts ------------------------------------------------------------------------------------------------------


def tiny_with_part(name: str = "inner") -> LandmarkModel:
    """A face of 9 points, three of which (2, 4, 6) are points 5, 1, 0 of a part of 6."""
    small = LandmarkModel("part", "ccnf", tiny_pdm(6, 2, seed=5), (tiny_patches(6, scale=1.0, seed=9),), (), None, None)
    part = Part(name, np.array([(2, 5), (4, 1), (6, 0)], np.int32), small)
    return replace(tiny_model(), parts=(part,))


@pytest.mark.parametrize(("scale", "fitted"), [(0.9, False), (np.nextafter(0.9, 1), True), (0.5, False), (2.0, True)])
def test_parts_are_fitted_in_faces_larger_than_a_share_of_their_scale(scale: float, fitted: bool) -> None:
    """More than 0.9 px per mm for parts whose first scale is 1.0. Without a fit their shape is that of the points."""
    model = tiny_with_part()
    part = PartFitter(model.parts[0], model.pdm.n)
    landmarks = shape_2d(model.pdm, *tiny_start())
    assert part.refine(wave_picture(), landmarks, scale) == fitted
    given = np.zeros(12, np.float32)
    given[[5, 1, 0, 11, 7, 6]] = landmarks[[2, 4, 6, 11, 13, 15]]
    g, p, _, _ = fit_to_points(part.pdm, given)
    expected = shape_2d(part.pdm, g, p)
    assert np.array_equal(part.state.landmarks, expected) == (not fitted)
    np.testing.assert_array_equal(part.state.landmarks, shape_2d(part.pdm, part.state.g, part.state.p))


def test_parts_write_their_points_into_the_face_which_is_fitted_again() -> None:
    model, gray = tiny_with_part(), wave_picture()
    parts, fitter = fresh_parts(model), Fitter(model)
    g, p = tiny_start()
    before = shape_2d(model.pdm, g, p)
    landmarks = refined(gray, fitter.pdm, parts, g, p)
    merged = before.copy()
    merged[[2, 4, 6, 11, 13, 15]] = parts[0].state.landmarks[[5, 1, 0, 11, 7, 6]]
    expected_g, expected_p, _, _ = fit_to_points(model.pdm, merged)
    np.testing.assert_array_equal(g, expected_g)
    np.testing.assert_array_equal(p, expected_p)
    np.testing.assert_array_equal(landmarks, shape_2d(model.pdm, g, p))


def test_later_parts_overwrite_earlier_ones() -> None:
    model = tiny_with_part()
    parts = [*fresh_parts(model), *fresh_parts(model)]
    for value, part in enumerate(parts):
        part.state.landmarks = np.full(12, value, np.float32)
    landmarks = np.full(18, -1, np.float32)
    for part in parts:
        part.write_back(landmarks)
    np.testing.assert_array_equal(np.flatnonzero(landmarks == 1), [2, 4, 6, 11, 13, 15])
    assert (landmarks == -1).sum() == 12


def test_small_faces_keep_their_parameters() -> None:
    model = tiny_with_part()
    g, p = tiny_start(0.8)
    p[:] = [40, -3, 2]
    landmarks = refined(wave_picture(), model.pdm, fresh_parts(model), g, p)
    np.testing.assert_array_equal(g, tiny_start(0.8)[0])
    np.testing.assert_array_equal(p, [40, -3, 2])
    np.testing.assert_array_equal(landmarks, shape_2d(model.pdm, g, p))


@pytest.mark.parametrize(("name", "found"), [("inner", False), ("left_eye_28", True)])
def test_in_a_small_face_only_reported_parts_are_found(name: str, found: bool) -> None:
    """Nothing is written back there, so the state of other parts is never read."""
    model = tiny_with_part(name)
    parts = fresh_parts(model)
    refined(wave_picture(), model.pdm, parts, *tiny_start(0.8))
    assert parts[0].state.landmarks.any() == found


def test_one_fitted_part_is_enough_for_a_write_back_of_all() -> None:
    """The gate is each part's own; the points of all parts are written."""
    model = tiny_with_part()
    finer = replace(model.parts[0].model, patches=(tiny_patches(6, scale=2.0, seed=9),))
    other = Part("left_eye_28", np.array([(0, 0), (1, 1), (3, 2)], np.int32), finer)
    model = replace(model, parts=(model.parts[0], other))
    parts = fresh_parts(model)
    g, p = tiny_start(1.2)
    before = shape_2d(model.pdm, g, p)
    refined(wave_picture(), model.pdm, parts, g, p)
    merged = before.copy()
    for part in parts:
        part.write_back(merged)
    assert (merged != before).sum() > 6  # those of the first part and some
    np.testing.assert_array_equal(g, fit_to_points(model.pdm, merged)[0])


def test_part_states_copy_deeply() -> None:
    model = tiny_with_part()
    part = PartFitter(model.parts[0], model.pdm.n)
    kept = part.state.copy()
    part.state.g[0] = part.state.p[0] = part.state.landmarks[0] = 99
    assert kept.g[0] == 1 and kept.p[0] == 0 and kept.landmarks[0] == 0
