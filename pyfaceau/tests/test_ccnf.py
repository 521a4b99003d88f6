"""CCNF patch experts: recorded response maps, check vectors, the twin, and shapes that OpenFace's files lack."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from pyfaceau.landmarks.experts import Experts, prepare_experts
from pyfaceau.landmarks.experts.ccnf import CCNFExperts, sigma_matrices
from pyfaceau.tests import ccnf_twin
from pyfaceau.tests import landmark_twin as twin
from pyfaceau.tests.demo import PACK, needs_demo
from pyfaceau.tests.landmark_material import FRAMES, check_area, openface_model, recordings, tiny_patches
from pyfaceau.tests.shared import needs_shared, stage
from pyfaceau.weights.models import CCNFPatches, LandmarkModel
from pyfaceau.weights.store import load_landmark_model

#: Largest difference from the recorded maps, whose values are between 0 and about 1. Asked for: 1e-4.
TOLERANCE = 5e-6


@cache
def experts_of(name: str, part: str = "main") -> tuple[CCNFExperts, ...]:
    model = openface_model(name)
    if part != "main":
        model = next(p.model for p in model.parts if p.name.removesuffix("_28") == part)
    return tuple(CCNFExperts(patches) for patches in model.patches if isinstance(patches, CCNFPatches))


def respond(experts: Experts, view: int, areas: np.ndarray) -> np.ndarray:
    """Response maps (n, w, w); NaN where invisible."""
    window = areas.shape[1] - 10
    responses = np.full((len(areas), window, window), np.nan, np.float32)
    experts.respond(areas.astype(np.float32), view, responses)
    return responses


def respond_one(experts: CCNFExperts, view: int, landmark: int, area: np.ndarray) -> np.ndarray:
    areas = np.zeros((experts.patches.visible.shape[1], *area.shape), np.float32)
    areas[landmark] = area
    return respond(experts, view, areas)[landmark]


# --- recordings -----------------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize("recorded", [f for f in FRAMES if "clnf" in f[3]], ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_responses(recorded: tuple[str, str, str, str]) -> None:
    """Every map of face and parts, from the recorded areas: equal to the bit."""
    maps = 0
    for recording in recordings(*recorded):
        for k in recording.scales:
            visible = recording[f"s{k}.visibility"] != 0
            experts = experts_of(recorded[3], recording.name)[k]
            found = respond(experts, int(recording[f"s{k}.view"]), recording[f"s{k}.areas"])
            assert np.isnan(found[~visible]).all()
            expected = recording[f"s{k}.responses"][visible]
            np.testing.assert_array_equal(found[visible], expected)
            maps += visible.sum()
    assert maps >= 136


@needs_shared
@pytest.mark.parametrize("clip", ["video01", "2015-10-15-15-14"])
def test_recorded_responses_of_all_hypotheses(clip: str) -> None:
    """Six landmarks in all seven views, three scales: equal to the bit."""
    arrays, experts = stage(clip, "frame_1"), experts_of("main_clnf_general")
    selected, views = arrays["hyps.selected_landmarks"], set()
    for h in range(11):
        for k in range(3):
            at = f"hyps.main.s{k}."
            view, visible = int(arrays[at + "view"][h]), arrays[at + "visibility"][h] != 0
            areas = np.zeros((68, *arrays[at + "areas_sel"].shape[2:]), np.float32)
            areas[selected] = arrays[at + "areas_sel"][h]
            found, seen = respond(experts[k], view, areas)[selected], visible[selected]
            np.testing.assert_array_equal(found[seen], arrays[at + "responses_sel"][h][seen])
            views.add(view)
    assert views == set(range(7))


# --- check vectors (part 1, section 11; printed to 6 digits) ----------------------------------------


@needs_shared
@pytest.mark.parametrize(
    ("landmark", "window", "cells", "total", "peak"),
    [
        (0, 11, (3.61855e-5, 0, 1.8571e-5), 0.189559, 0.010083),
        (0, 13, (1.11069e-4, 6.84874e-5, 4.86471e-5), 0.374847, 0.0619477),
        (48, 11, (0.0457707, 0.149169, 0.122174), 5.09652, 0.196151),
    ],
)
def test_response_check_vectors(
    landmark: int, window: int, cells: tuple[float, ...], total: float, peak: float
) -> None:
    response = respond_one(experts_of("main_clnf_general")[0], 0, landmark, check_area(window + 10))
    np.testing.assert_allclose(response[[0, 0, 1], [0, 1, 0]], cells, rtol=3e-5, atol=2e-8)
    assert response.sum() == pytest.approx(total, rel=5e-6)
    assert response.max() == pytest.approx(peak, rel=2e-5)


@needs_shared
def test_eye_response_check_vector() -> None:
    response = respond_one(experts_of("main_clnf_general", "left_eye")[0], 0, 0, check_area(13))
    np.testing.assert_allclose(response[[0, 1], [0, 0]], [2.95734e-5, 3.12926e-4], rtol=2e-5)
    assert response.sum() == pytest.approx(0.095856, rel=1e-5)


@needs_shared
@pytest.mark.parametrize(
    ("landmark", "window", "corner", "total"),
    [(0, 11, 0.00753503, 0.887374), (0, 13, 0.0119412, 2.01807), (48, 11, 0.00555387, 0.675017)],
)
def test_sigma_check_vectors(landmark: int, window: int, corner: float, total: float) -> None:
    """Window 13 has no field in OpenFace's files: its Sigma is I / (2 sum of alpha)."""
    experts = experts_of("main_clnf_general")[0]
    sigma = sigma_matrices(experts.patches, window)
    if window == 13:
        assert len(sigma) == 0
        respond_one(experts, 0, landmark, check_area(window + 10))
        inverse = experts._variance[window][0, landmark]
        assert inverse == pytest.approx(corner, rel=1e-5)
        assert inverse * window**2 == pytest.approx(total, rel=1e-5)
    else:
        assert sigma[0, landmark, 0, 0] == pytest.approx(corner, rel=1e-5)
        assert sigma[0, landmark].sum() == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(twin.sigma(experts.patches, 0, landmark, window).sum(), total, rtol=1e-5)


def some_of(patches: CCNFPatches, views: list[int], landmarks: list[int]) -> CCNFPatches:
    """A few experts: the fields of all of them take seconds to invert for large windows."""
    names = ("visible", "weights", "bias", "norm", "alpha", "betas", "confidence")
    some = np.ix_(views, landmarks)
    chosen: dict[str, Any] = {name: np.ascontiguousarray(getattr(patches, name)[some]) for name in names}
    return replace(patches, centers=patches.centers[views], **chosen)


@needs_shared
@pytest.mark.parametrize(("window", "fields"), [(3, False), (5, False), (7, True), (9, True), (11, True), (15, True)])
def test_windows_that_have_fields(window: int, fields: bool) -> None:
    experts = experts_of("main_clnf_general")
    assert (len(sigma_matrices(some_of(experts[2].patches, [0], [0, 1]), window)) > 0) == fields
    for part in ("left_eye", "right_eye"):
        assert len(sigma_matrices(experts_of("main_clnf_general", part)[0].patches, window)) == 0


@needs_shared
@pytest.mark.parametrize("window", [7, 13, 15])
@pytest.mark.parametrize("name", ["main_clnf_general", "main_clnf_wild"])
def test_openface_experts_agree_with_the_twin(name: str, window: int) -> None:
    """Windows of ``-wild`` too; in frontal and side views: 5e-6."""
    patches = some_of(experts_of(name)[1].patches, [0, 2], [0, 30, 57])
    experts = CCNFExperts(patches)
    areas = np.random.default_rng(window).integers(0, 256, (3, window + 10, window + 10)).astype(np.float32)
    for view in range(2):
        found = respond(experts, view, areas)
        for landmark in np.flatnonzero(patches.visible[view]):
            expected = twin.ccnf(patches, view, int(landmark), areas[landmark])
            np.testing.assert_allclose(found[landmark], expected, rtol=0, atol=TOLERANCE)


@needs_shared
@pytest.mark.parametrize("window", [3, 5, 7, 9])
def test_openface_experts_equal_the_rounded_twin(window: int) -> None:
    """The twin with all roundings, on other areas than recorded ones: equal to the bit, flat areas included."""
    part = "left_eye" if window < 7 else "main"
    patches = some_of(experts_of("main_clnf_general", part)[1].patches, [0], [0, 13, 27])
    experts = CCNFExperts(patches)
    noise = np.random.default_rng(window).integers(0, 256 * 1024, (3, window + 10, window + 10)) / 1024
    noise[1, 3:] = 199.3125
    areas = noise.astype(np.float32)
    found, sigma = respond(experts, 0, areas), sigma_matrices(patches, window)
    for landmark in range(3):
        field = np.eye(window**2, dtype=np.float32) * experts._variance[window][0, landmark]
        if len(sigma):
            field = sigma[0, landmark, :, : window**2].T
        np.testing.assert_array_equal(found[landmark], ccnf_twin.response(patches, 0, landmark, areas[landmark], field))


@needs_shared
@pytest.mark.parametrize("window", [7, 9])
def test_covariances_are_those_of_cv2(window: int) -> None:
    """Fused sums of the components, and OpenCV's own Cholesky inverse: equal to the bit."""
    patches = some_of(experts_of("main_clnf_general")[2].patches, [0, 3], [0, 30])
    sigma = sigma_matrices(patches, window)
    for view in range(2):
        for landmark in range(2):
            total = np.float32(0)
            for alpha in patches.alpha[view, landmark]:
                total = np.float32(total + alpha)
            precision = np.zeros((window**2, window**2), np.float32)
            for beta, component in zip(patches.betas[view, landmark], patches.sigma_components[window], strict=True):
                precision = ccnf_twin.fused(component, np.float32(beta), precision)
            precision += total * np.eye(window**2, dtype=np.float32)
            _, expected = cv2.invert(2 * precision, flags=cv2.DECOMP_CHOLESKY)
            np.testing.assert_array_equal(sigma[view, landmark, :, : window**2].T, expected)


# --- other shapes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("neurons", [1, 2, 7, 8, 9, 17])
@pytest.mark.parametrize("window", [1, 3, 9])
def test_any_number_of_neurons(neurons: int, window: int) -> None:
    """Kernels take neurons by eights; responses of up to 10: 2e-5."""
    patches = tiny_patches(neurons=neurons, views=2, seed=neurons, sigma_windows=(9,))
    patches = replace(patches, alpha=np.maximum(patches.alpha, [0.2] + [0.0] * (neurons - 1)))
    experts = CCNFExperts(patches)
    areas = np.random.default_rng(window).uniform(0, 255, (9, window + 10, window + 10))
    areas = np.rint(areas * 1024) / 1024  # as sampling leaves them
    for view in range(2):
        found = respond(experts, view, areas)
        for landmark in np.flatnonzero(patches.visible[view]):
            expected = twin.ccnf(patches, view, int(landmark), areas[landmark])
            np.testing.assert_allclose(found[landmark], expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("window", [1, 3, 5, 6, 7, 9, 11, 13, 15, 19, 23, 31])
def test_any_window(window: int) -> None:
    patches = tiny_patches(seed=window, sigma_windows=(3, 13))
    areas = np.random.default_rng(window).integers(0, 256, (9, window + 10, window + 10)).astype(float)
    found = respond(CCNFExperts(patches), 0, areas)
    for landmark in range(9):
        expected = twin.ccnf(patches, 0, landmark, areas[landmark])
        np.testing.assert_allclose(found[landmark], expected, rtol=1e-5, atol=2e-5)


@needs_demo
def test_demo_pack_experts_of_two_neurons() -> None:
    model: LandmarkModel = load_landmark_model(PACK, "main_ceclm_general")
    rng = np.random.default_rng(0)
    for part in model.parts:
        for patches, experts in zip(part.model.patches, prepare_experts(part.model), strict=True):
            assert isinstance(patches, CCNFPatches)
            assert patches.alpha.shape[2] == 2
            for window in (3, 5):
                areas = rng.integers(0, 256, (28, window + 10, window + 10)).astype(np.float32)
                found = respond(experts, 0, areas)
                for landmark in (0, 13, 27):
                    expected = twin.ccnf(patches, 0, landmark, areas[landmark])
                    np.testing.assert_allclose(found[landmark], expected, rtol=0, atol=TOLERANCE)


# --- edges ------------------------------------------------------------------------------------------


def test_a_negative_response_is_lifted_to_zero() -> None:
    patches = tiny_patches(seed=3, sigma_windows=(9,))
    betas = np.full_like(patches.betas, -0.8)  # couples neighbours with the other sign
    peaked: dict[str, Any] = {"norm": 4 * patches.norm, "bias": patches.bias - 3}
    patches = replace(patches, betas=betas, alpha=np.ones_like(patches.alpha), **peaked)
    areas = np.random.default_rng(0).integers(0, 256, (9, 19, 19)).astype(float)
    found, lifted = respond(CCNFExperts(patches), 0, areas), 0
    for landmark in range(9):
        expected = twin.ccnf(patches, 0, landmark, areas[landmark])
        np.testing.assert_allclose(found[landmark], expected, rtol=2e-4, atol=2e-4)
        lifted += expected.min() == 0
    assert lifted
    assert (found >= 0).all()


def test_small_neurons_count_in_the_divisor_only() -> None:
    """Alpha of at most 1e-4 is left out of the sum, not out of Sigma."""
    patches = tiny_patches(neurons=2)
    alpha = np.array([1.0, 9e-5])
    bias = np.array([-1.0, 200.0])  # the second would dominate if it were let in
    shaped = replace(patches, alpha=np.broadcast_to(alpha, (1, 9, 2)), bias=np.broadcast_to(bias, (1, 9, 2)))
    area = check_area(19)
    found = respond_one(CCNFExperts(shaped), 0, 4, area)
    alone = twin.logistic(-1 + patches.norm[0, 4, 0] * np.einsum(
        "yxrc,rc->yx", twin.contrast_normalised(area), patches.weights[0, 4, 0]))  # fmt: skip
    np.testing.assert_allclose(found, alone / (1 + 9e-5), rtol=1e-5)


@pytest.mark.parametrize("grey", [0, 1, 77.25, 255])
def test_a_flat_area_has_the_response_of_the_biases(grey: float) -> None:
    """A block without contrast has the norm 1."""
    patches = tiny_patches(seed=2)
    found = respond(CCNFExperts(patches), 0, np.full((9, 19, 19), grey))
    for landmark in range(9):
        alpha, bias = patches.alpha[0, landmark], patches.bias[0, landmark]
        expected = (2 * alpha * (alpha > 1e-4) * twin.logistic(bias)).sum() / (2 * alpha.sum())
        np.testing.assert_allclose(found[landmark], expected, rtol=1e-5, atol=1e-7)


def test_an_expert_without_neurons_answers_nothing() -> None:
    patches = tiny_patches()
    empty = replace(patches, alpha=np.zeros_like(patches.alpha))
    assert not respond(CCNFExperts(empty), 0, np.full((9, 19, 19), 50.0)).any()
