"""CEN patch experts: check vectors, the twin, stand-ins of the official size, mirroring, threads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyfaceau.landmarks.experts import prepare_experts
from pyfaceau.landmarks.experts.cen import CENExperts, view_jobs
from pyfaceau.tests import cen_twin as exact_twin
from pyfaceau.tests import landmark_twin as twin
from pyfaceau.tests.demo import PACK, needs_demo
from pyfaceau.tests.landmark_material import check_area
from pyfaceau.tests.shared import OPENFACE, SHARED, needs_shared
from pyfaceau.threads import Crew
from pyfaceau.weights.models import CENPatches, Layer
from pyfaceau.weights.patches import read_cen
from pyfaceau.weights.store import load_landmark_model

TOLERANCE = 2e-5  # of response maps, whose values are between 0 and 1


def respond(experts: CENExperts, view: int, areas: np.ndarray) -> np.ndarray:
    """Response maps (n, w, w); NaN where invisible."""
    window = areas.shape[1] - 10
    responses = np.full((len(areas), window, window), np.nan, np.float32)
    experts.respond(areas.astype(np.float32), view, responses)
    return responses


def check_layers() -> tuple[Layer, ...]:
    """The synthetic network of the check vectors (part 1, section 11)."""
    layers = []
    for index, (kind, inputs, outputs) in enumerate([(2, 122, 8), (2, 8, 6), (0, 6, 4), (0, 4, 1)]):
        o, i = np.mgrid[:outputs, :inputs]
        weights = 0.8 * np.sin(0.37 * (o + 1) * (i + 1) + index)
        bias = 0.05 * (np.arange(outputs) + 1) - 0.1 * index
        layers.append(Layer(kind, bias.astype(np.float32), weights.astype(np.float32)))
    return tuple(layers)


def random_layers(widths: tuple[int, ...], kinds: tuple[int, ...], seed: int) -> tuple[Layer, ...]:
    rng, layers = np.random.default_rng(seed), []
    for kind, inputs, outputs in zip(kinds, (122, *widths[:-1]), widths, strict=True):
        weights = rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)
        layers.append(Layer(kind, rng.normal(size=outputs).astype(np.float32), weights.astype(np.float32)))
    return tuple(layers)


def patches_of(experts: tuple[tuple[Layer, ...], ...], expert: list[list[int]], mirror: list[int]) -> CENPatches:
    """Views 1 and 2 mirror each other."""
    index, mirror_views = np.array(expert, np.int32), np.array([0, 2, 1], np.int32)
    return CENPatches(
        0.25, np.zeros((len(index), 3)), np.ones(index.shape, bool), np.array(mirror, np.int32),
        mirror_views[: len(index)], index, experts, np.full(index.shape, 0.5),
    )  # fmt: skip


# --- check vectors --------------------------------------------------------------------------------------


def test_check_vectors() -> None:
    """Part 1, section 11: a landmark's own expert and its mirror image's."""
    experts = CENExperts(patches_of((check_layers(),), [[0, -1]], [1, 0]))
    direct, mirrored = respond(experts, 0, np.repeat(check_area(15)[None], 2, axis=0))
    np.testing.assert_allclose(
        direct[[0, 0, 1, 4], [0, 1, 0, 4]], [0.219544, 0.211187, 0.227901, 0.217252], rtol=0, atol=TOLERANCE
    )
    np.testing.assert_allclose(
        mirrored[[0, 0, 1, 4], [0, 1, 0, 4]], [0.24112, 0.25211, 0.23013, 0.210709], rtol=0, atol=TOLERANCE
    )
    assert direct.sum() == pytest.approx(5.63928, abs=25 * TOLERANCE / 5)
    assert mirrored.sum() == pytest.approx(5.58125, abs=25 * TOLERANCE / 5)
    wide = respond(experts, 0, np.repeat(check_area(19)[None], 2, axis=0))
    np.testing.assert_allclose(wide.sum(axis=(1, 2)), [18.1327, 18.2683], rtol=0, atol=81 * TOLERANCE / 9)


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Files of the official layout, sizes and mirroring, made from the CCNF experts of the same scale."""
    folder = tmp_path_factory.mktemp("cen")
    command = [sys.executable, str(SHARED / "tools" / "make_cen_standin.py"), str(OPENFACE / "model"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # 430 MB


@needs_shared
@pytest.mark.parametrize(("scale", "window"), [("0.25", 11), ("0.50", 7)])
def test_experts_of_the_official_size_agree_with_the_twin(standins: Path, scale: str, window: int) -> None:
    """Nets of 300 or 500 units, 210 or 212 experts, in a frontal, a side and a mirrored view: 2e-5."""
    patches = read_cen(standins / f"cen_patches_{scale}_of.dat")
    assert len(patches.experts) == (210 if scale == "0.25" else 212)
    experts = CENExperts(patches)
    areas = np.random.default_rng(window).integers(0, 256, (68, window + 10, window + 10)).astype(np.float32)
    for view in (0, 1, 5):
        found = respond(experts, view, areas)
        visible = patches.visible[view]
        assert np.isfinite(found[visible]).all()
        assert np.isnan(found[~visible]).all()
        for landmark in (0, 16, 30, 36, 45):
            if visible[landmark]:
                expected = twin.cen(patches, view, landmark, areas[landmark])
                np.testing.assert_allclose(found[landmark], expected, rtol=0, atol=TOLERANCE)


@needs_shared
@pytest.mark.parametrize("suffix", ["", "_w9", "_w7", "_w5"])
def test_recorded_responses(standins: Path, suffix: str) -> None:
    """Those of the C++ program, windows 11, 9, 7 and 5, in a frontal, a side and a mirrored view.

    They come from a computer with AVX-512, where the matrix product rounds differently: the twin has them to the bit
    with its product and the kernel those of the twin with the product of AVX2, but for the twin's exponential.
    """
    vectors = np.load(SHARED / "golden" / "ceclm-standin" / "check_vectors.npz")
    patches = {scale: read_cen(standins / f"cen_patches_{scale:.2f}_of.dat") for scale in (0.25, 0.5)}
    experts = {scale: CENExperts(some) for scale, some in patches.items()}
    names = ("scale", "view", "landmark", "area", "response")
    cases = list(zip(*(vectors[name + suffix] for name in names), strict=True))
    for number, (scale, view, landmark, area, expected) in enumerate(cases):
        found = respond(experts[float(scale)], int(view), np.repeat(area[None], 68, axis=0))[landmark]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        if number % 12 == 0:  # the twin is slow
            of = patches[float(scale)], int(view), int(landmark), area
            for known, product in ((expected, exact_twin.avx512_product), (found, exact_twin.avx2_product)):
                np.testing.assert_allclose(exact_twin.response(*of, product), known, rtol=2e-6, atol=0)
                assert (exact_twin.response(*of, product) == known).mean() > 0.97
    assert len(cases) == (48 if suffix == "" else 5)


# --- other shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "kinds"),
    [
        ((1,), (0,)),
        ((3, 1), (2, 0)),
        ((13, 9, 1), (2, 1, 0)),  # 1 stands for no activation at all
        ((150, 131, 7, 1), (2, 0, 7, 0)),
        ((300, 100, 50, 1), (2, 2, 0, 0)),
    ],
)
@pytest.mark.parametrize("window", [3, 9])
def test_any_network_agrees_with_the_twin(widths: tuple[int, ...], kinds: tuple[int, ...], window: int) -> None:
    experts = (random_layers(widths, kinds, 0), random_layers((2, 1), (2, 0), 1))  # of different depth
    patches = patches_of(experts, [[0, -1, 1]], [1, 0, 2])
    areas = np.random.default_rng(window).integers(0, 256, (3, window + 10, window + 10)).astype(np.float32)
    found = respond(CENExperts(patches), 0, areas)
    for landmark in range(3):
        expected = twin.cen(patches, 0, landmark, areas[landmark])
        np.testing.assert_allclose(found[landmark], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("window", [3, 5, 7, 9, 11, 13, 15, 17])
def test_any_window_agrees_with_the_twin(window: int) -> None:
    """Positions go through the network 8, 16, 24 or 40 at a time; the last ones may be fewer."""
    patches = patches_of((random_layers((11, 1), (2, 0), window),), [[0, -1]], [1, 0])
    areas = np.random.default_rng(window).integers(0, 256, (2, window + 10, window + 10)).astype(np.float32)
    found = respond(CENExperts(patches), 0, areas)
    for landmark in range(2):
        expected = twin.cen(patches, 0, landmark, areas[landmark])
        np.testing.assert_allclose(found[landmark], expected, rtol=0, atol=TOLERANCE)


@needs_demo
def test_demo_pack_experts_agree_with_the_twin() -> None:
    model = load_landmark_model(PACK, "main_ceclm_general")
    rng = np.random.default_rng(0)
    for patches, experts, window in zip(model.patches, prepare_experts(model), (11, 9, 7, 5), strict=True):
        assert isinstance(patches, CENPatches) and isinstance(experts, CENExperts)
        areas = rng.integers(0, 256, (68, window + 10, window + 10)).astype(np.float32)
        for view in range(3):
            found, visible = respond(experts, view, areas), patches.visible[view]
            assert np.isnan(found[~visible]).all()
            for landmark in np.flatnonzero(visible):
                expected = twin.cen(patches, view, int(landmark), areas[landmark])
                np.testing.assert_allclose(found[landmark], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("grey", [0, 200])
def test_a_flat_area_has_the_same_response_everywhere(grey: float) -> None:
    patches = patches_of((check_layers(),), [[0, -1]], [1, 0])
    found = respond(CENExperts(patches), 0, np.full((2, 19, 19), grey))
    np.testing.assert_allclose(found, found[0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(found[0], twin.cen(patches, 0, 0, np.full((19, 19), grey)), atol=TOLERANCE)


# --- who answers for whom -------------------------------------------------------------------------------


def served(patches: CENPatches, view: int) -> dict[int, tuple[int, int]]:
    """landmark -> (expert, flipped)"""
    found = {}
    for expert, first, first_flip, second, second_flip in view_jobs(patches, view):
        for landmark, flip in ((first, first_flip), (second, second_flip)):
            if landmark >= 0:
                assert landmark not in found
                found[int(landmark)] = (int(expert), int(flip))
    return found


def test_frontal_experts_serve_their_mirror_image_too() -> None:
    patches = patches_of((check_layers(),) * 3, [[0, 1, -1, 2]], [2, 1, 0, 3])
    assert served(patches, 0) == {0: (0, 0), 1: (1, 0), 2: (0, 1), 3: (2, 0)}


def test_an_empty_side_view_takes_the_mirrored_landmark_of_the_mirrored_view() -> None:
    patches = patches_of((check_layers(),) * 5, [[0, 1, -1], [2, 3, 4], [-1, -1, -1]], [2, 1, 0])
    assert served(patches, 1) == {0: (2, 0), 1: (3, 0), 2: (4, 0)}
    assert served(patches, 2) == {0: (4, 1), 1: (3, 1), 2: (2, 1)}


def test_invisible_landmarks_are_left_out_but_their_partners_answered() -> None:
    visible = np.array([[False, True, True]])
    patches = replace(patches_of((check_layers(),) * 2, [[0, 1, -1]], [2, 1, 0]), visible=visible)
    assert served(patches, 0) == {1: (1, 0), 2: (0, 1)}
    areas = np.random.default_rng(0).integers(0, 256, (3, 15, 15)).astype(np.float32)
    found = respond(CENExperts(patches), 0, areas)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[2], twin.cen(patches, 0, 2, areas[2]), rtol=0, atol=TOLERANCE)


def test_an_expert_of_more_than_two_landmarks() -> None:
    """Both sides of a landmark on the middle line, say, and of a pair: nothing is forgotten."""
    patches = patches_of((check_layers(),) * 2, [[0, -1, 1], [0, 0, 0]], [1, 0, 2])
    assert served(patches, 1) == {0: (0, 0), 1: (0, 0), 2: (0, 0)}


def test_nothing_visible_is_nothing_to_do() -> None:
    patches = replace(patches_of((check_layers(),), [[0, -1]], [1, 0]), visible=np.zeros((1, 2), bool))
    assert np.isnan(respond(CENExperts(patches), 0, np.zeros((2, 15, 15)))).all()


# --- threads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("helpers", [1, 4])
def test_the_result_does_not_depend_on_threads(helpers: int) -> None:
    experts = tuple(random_layers((20, 1), (2, 0), seed) for seed in range(20))
    patches = patches_of(experts, [[*range(20), *[-1] * 20]], [*range(20, 40), *range(20)])
    areas = np.random.default_rng(0).integers(0, 256, (40, 17, 17)).astype(np.float32)
    expected = respond(CENExperts(patches), 0, areas)
    assert np.isfinite(expected).all()
    crew = Crew()
    with crew.helpers(helpers):
        for _ in range(20):
            np.testing.assert_array_equal(respond(CENExperts(patches, crew), 0, areas), expected)


def test_a_landmark_has_the_same_response_alone_and_beside_its_partner() -> None:
    """But for roundings: the matrix product's depend on the number of columns."""
    layers = random_layers((30, 6, 1), (2, 2, 0), 0)
    for window in (5, 7, 9, 11):
        areas = np.random.default_rng(window).integers(0, 256, (2, window + 10, window + 10)).astype(np.float32)
        together = patches_of((layers,), [[0, -1]], [1, 0])
        alone = replace(together, visible=np.array([[True, False]]))
        both, one = respond(CENExperts(together), 0, areas)[0], respond(CENExperts(alone), 0, areas)[0]
        np.testing.assert_allclose(both, one, rtol=2e-6, atol=0)


def test_the_mirror_image_comes_second() -> None:
    patches = patches_of((check_layers(),), [[-1, 0]], [1, 0])
    assert view_jobs(patches, 0).tolist() == [[0, 1, 0, 0, 1]]
