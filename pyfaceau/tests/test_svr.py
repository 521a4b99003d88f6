"""SVR patch experts: recorded response maps, check vectors, OpenCV's template matching, the twin."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pyfaceau.landmarks.experts import Experts, prepare_experts
from pyfaceau.landmarks.experts.svr import SVRExperts
from pyfaceau.tests import landmark_twin as twin
from pyfaceau.tests.landmark_material import FRAMES, check_area, openface_model, recordings
from pyfaceau.tests.shared import needs_shared, stage
from pyfaceau.weights.models import SVRPatches

TOLERANCE = 2e-6  # of response maps, whose values are between 0 and 1


def respond(experts: Experts, view: int, areas: np.ndarray) -> np.ndarray:
    """Response maps (n, w, w); NaN where invisible."""
    window = areas.shape[1] - 10
    responses = np.full((len(areas), window, window), np.nan, np.float32)
    experts.respond(areas.astype(np.float32), view, responses)
    return responses


def tiny_svr(n: int = 5, modalities: tuple[int, ...] = (0, 1), seed: int = 0) -> SVRPatches:
    rng = np.random.default_rng(seed)
    shape = (1, n, len(modalities))
    visible = np.ones((1, n), bool)
    visible[0, -1] = False
    return SVRPatches(
        0.25, np.zeros((1, 3)), visible, rng.normal(size=(*shape, 11, 11)).astype(np.float32),
        rng.uniform(0.1, 0.5, shape), rng.uniform(3, 12, shape), rng.uniform(-5, 1, shape),
        np.broadcast_to(np.array(modalities, np.int32), shape).copy(),
    )  # fmt: skip


# --- recordings and check vectors ---------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize("recorded", [f for f in FRAMES if "_clm_" in f[3]], ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_responses(recorded: tuple[str, str, str, str]) -> None:
    """Every map of the face, from the recorded areas, to the bit."""
    face = next(recordings(*recorded))
    experts = prepare_experts(face.model)
    assert isinstance(experts[0], SVRExperts)
    for k in face.scales:
        visible = face[f"s{k}.visibility"] != 0
        found = respond(experts[k], int(face[f"s{k}.view"]), face[f"s{k}.areas"])
        assert np.isnan(found[~visible]).all()
        np.testing.assert_array_equal(found[visible], face[f"s{k}.responses"][visible])


@needs_shared
@pytest.mark.parametrize("clip", ["video01", "2015-10-15-15-14"])
def test_recorded_responses_of_all_hypotheses(clip: str) -> None:
    """Six landmarks in all seven views, three scales: 2e-6."""
    arrays, experts = stage(clip, "clm_frame_1"), prepare_experts(openface_model("main_clm_general"))
    selected, views = arrays["hyps.selected_landmarks"], set()
    for h in range(11):
        for k in range(3):
            at = f"hyps.main.s{k}."
            view, seen = int(arrays[at + "view"][h]), arrays[at + "visibility"][h][selected] != 0
            areas = np.zeros((68, *arrays[at + "areas_sel"].shape[2:]), np.float32)
            areas[selected] = arrays[at + "areas_sel"][h]
            found = respond(experts[k], view, areas)[selected]
            np.testing.assert_allclose(found[seen], arrays[at + "responses_sel"][h][seen], rtol=0, atol=TOLERANCE)
            views.add(view)
    assert len(views) >= 6


@needs_shared
@pytest.mark.parametrize(
    ("modalities", "corner", "total"),
    [([0], 0.00465287, 0.329456), ([1], 0.0107232, 1.27307), ([0, 1], 4.98939e-5, 0.00491268)],
    ids=["raw", "gradient", "product"],
)
def test_check_vectors(modalities: list[int], corner: float, total: float) -> None:
    """Part 1, section 11; printed to 6 digits."""
    patches = openface_model("main_clm_general").patches[0]
    assert isinstance(patches, SVRPatches)
    names = ("templates", "confidence", "scaling", "bias", "modality")
    chosen = replace(patches, **{name: getattr(patches, name)[:, :, modalities] for name in names})
    response = respond(SVRExperts(chosen), 0, np.repeat(check_area(19)[None], 68, axis=0))[0]
    assert response[0, 0] == pytest.approx(corner, rel=1e-5)
    assert response.sum() == pytest.approx(total, rel=1e-5)


@needs_shared
def test_confidence_is_the_sum_over_modalities() -> None:
    patches = openface_model("main_clm_general").patches[0]
    assert isinstance(patches, SVRPatches)
    np.testing.assert_allclose(SVRExperts(patches).confidence, patches.confidence.sum(axis=2), rtol=1e-6)
    assert patches.confidence[0, 0, 0] == pytest.approx(0.128226, rel=1e-5)


# --- independent evaluations ----------------------------------------------------------------------------


@pytest.mark.parametrize("window", [3, 7, 9, 11, 13, 15])
@pytest.mark.parametrize("modalities", [(0,), (1,), (0, 1), (1, 0, 0)])
def test_experts_agree_with_the_twin(window: int, modalities: tuple[int, ...]) -> None:
    patches = tiny_svr(modalities=modalities, seed=window)
    areas = np.random.default_rng(window).integers(0, 256, (5, window + 10, window + 10)).astype(np.float32)
    found = respond(SVRExperts(patches), 0, areas)
    assert np.isnan(found[4]).all()
    for landmark in range(4):
        expected = twin.svr(patches, 0, landmark, areas[landmark])
        np.testing.assert_allclose(found[landmark], expected, rtol=1e-5, atol=TOLERANCE)


def test_experts_are_opencvs_template_matching() -> None:
    patches, rng = tiny_svr(modalities=(0, 1)), np.random.default_rng(1)
    areas = (rng.integers(0, 256 * 1024, (5, 19, 19)) / 1024).astype(np.float32)
    found = respond(SVRExperts(patches), 0, areas)
    for landmark in range(4):
        area, expected = areas[landmark], np.ones((9, 9))
        for k, image in enumerate(((area - area.mean()) / area.std(), twin.squared_gradient(area))):
            template = patches.templates[0, landmark, k]
            rho = cv2.matchTemplate(image.astype(np.float32), template, cv2.TM_CCOEFF_NORMED)
            expected *= twin.logistic(patches.scaling[0, landmark, k] * rho + patches.bias[0, landmark, k])
        np.testing.assert_allclose(found[landmark], expected, rtol=2e-5, atol=TOLERANCE)


@pytest.mark.parametrize("modality", [0, 1])
@pytest.mark.parametrize("grey", [0, 128.5, 255])
def test_a_flat_area_correlates_with_nothing(modality: int, grey: float) -> None:
    patches = tiny_svr(modalities=(modality,))
    found = respond(SVRExperts(patches), 0, np.full((5, 19, 19), grey))
    for landmark in range(4):
        np.testing.assert_allclose(found[landmark], twin.logistic(patches.bias[0, landmark, 0]), rtol=1e-5)


def test_a_flat_template_correlates_with_everything() -> None:
    patches = replace(tiny_svr(modalities=(0,)), templates=np.full((1, 5, 1, 11, 11), 0.5, np.float32))
    areas = np.random.default_rng(2).integers(0, 256, (5, 19, 19)).astype(np.float32)
    found = respond(SVRExperts(patches), 0, areas)
    for landmark in range(4):
        expected = twin.logistic(patches.scaling[0, landmark, 0] + patches.bias[0, landmark, 0])
        np.testing.assert_allclose(found[landmark], expected, rtol=1e-5)


def test_a_template_found_in_the_area_correlates_fully() -> None:
    patches = tiny_svr(modalities=(0,))
    area = np.random.default_rng(3).integers(0, 256, (19, 19)).astype(np.float32)
    templates = np.broadcast_to(area[4:15, 6:17] * np.float32(0.3) + np.float32(5), (1, 5, 1, 11, 11))
    found = respond(SVRExperts(replace(patches, templates=templates)), 0, np.repeat(area[None], 5, axis=0))
    for landmark in range(4):
        assert np.unravel_index(found[landmark].argmax(), (9, 9)) == (4, 6)
        expected = twin.logistic(patches.scaling[0, landmark, 0] + patches.bias[0, landmark, 0])
        assert found[landmark].max() == pytest.approx(expected, rel=1e-5)
