"""Views, alignment and areas of interest: equal to the bit to the recorded ones, and to OpenCV 4.12's sampling."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pyfaceau.landmarks import areas as module
from pyfaceau.tests import landmark_twin as twin
from pyfaceau.tests.landmark_material import (
    FRAMES,
    Recording,
    openface_model,
    planar,
    recordings,
    tiny_patches,
    tiny_pdm,
    wave_picture,
)
from pyfaceau.tests.shared import needs_shared, stage
from pyfaceau.weights.models import PDM, Patches

needs_quantising_warp = pytest.mark.skipif(
    not (4, 5) <= tuple(int(v) for v in cv2.__version__.split(".")[:2]) <= (4, 12),
    reason="cv2.warpAffine of this version does not round positions to 1/32 pixel",
)


def cut(gray: np.ndarray, pdm: PDM, patches: Patches, g: np.ndarray, p: np.ndarray, window: int) -> twin.Scale:
    n = pdm.n
    base, forward, backward = np.empty(2 * n, np.float32), np.empty((2, 2), np.float32), np.empty((2, 2), np.float32)
    areas = np.zeros((n, window + 10, window + 10), np.float32)
    view = module.cut_areas(
        gray, pdm.mean, pdm.modes_t, patches.centers, patches.visible, patches.scale, g, p, base, forward, backward,
        areas,
    )  # fmt: skip
    return twin.Scale(view, base, forward, backward, areas)


def nearest_view(centers: np.ndarray, euler: object) -> int:
    return module.nearest_view(np.asarray(centers, float), np.asarray(euler, np.float32))


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    forward = np.empty((2, 2), np.float32)
    module.similarity(source, target, forward)
    return forward


def area_map(backward: np.ndarray, x: float, y: float, side: int) -> np.ndarray:
    m = np.empty((2, 3), np.float32)
    module.area_warp(backward, np.float32(x), np.float32(y), side, m)
    return m


# --- against the recordings -----------------------------------------------------------------------


def start_of_scale(recording: Recording, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Parameters at which a scale cut its areas."""
    return recording[f"s{k}.rigid.iter_global"][0], recording[f"s{k}.rigid.iter_local"][0]


@needs_shared
@pytest.mark.parametrize("recorded", FRAMES, ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_scales_to_the_bit(recorded: tuple[str, str, str, str]) -> None:
    """View, base shape, both maps and every grey value of face and parts, all scales of a frame."""
    scales = 0
    for recording in recordings(*recorded):
        for k in recording.scales:
            at, patches = f"s{k}.", recording.model.patches[k]
            g, p = start_of_scale(recording, k)
            found = cut(recording.gray, recording.model.pdm, patches, g, p, int(recording[at + "window"]))
            assert patches.scale == recording[at + "patch_scaling"]
            assert found.view == recording[at + "view"]
            np.testing.assert_array_equal(patches.visible[found.view], recording[at + "visibility"] != 0)
            np.testing.assert_array_equal(found.base, planar(recording[at + "base_shape"]))
            np.testing.assert_array_equal(found.forward, recording[at + "sim_img_to_ref"])
            np.testing.assert_array_equal(found.backward, recording[at + "sim_ref_to_img"])
            np.testing.assert_array_equal(found.areas, recording[at + "areas"])
            scales += 1
    assert scales >= 2


@needs_shared
@pytest.mark.parametrize("recorded", [f for f in FRAMES if f[1].endswith("frame_1")], ids=lambda r: f"{r[0]}-{r[1]}")
def test_recorded_hypotheses_to_the_bit(recorded: tuple[str, str, str, str]) -> None:
    """First scale of all 11 start rotations (up to 90 degrees): views, maps, and the areas of six landmarks.

    The starting parameters of the later scales are those that the scale before left.
    """
    arrays, model = stage(*recorded[:2]), openface_model(recorded[3])
    selected, views = arrays["hyps.selected_landmarks"], set()
    gray = next(iter(recordings(*recorded))).gray
    for h in range(11):
        g, p = arrays["hyps.main.start_global"][h], arrays["hyps.main.start_local"][h]
        for k in range(3):
            at, patches = f"hyps.main.s{k}.", model.patches[k]
            found = cut(gray, model.pdm, patches, g, p, int(arrays[at + "window"][h]))
            assert found.view == arrays[at + "view"][h]
            np.testing.assert_array_equal(found.base, planar(arrays[at + "base_shape"][h]))
            np.testing.assert_array_equal(found.forward, arrays[at + "sim_img_to_ref"][h])
            np.testing.assert_array_equal(found.backward, arrays[at + "sim_ref_to_img"][h])
            np.testing.assert_array_equal(found.areas[selected], arrays[at + "areas_sel"][h])
            g, p = arrays[at + "nonrigid.out_global"][h], arrays[at + "nonrigid.out_local"][h]
            views.add(found.view)
    assert views == set(range(7))


@needs_shared
def test_recorded_reference_shapes() -> None:
    """The local shape at the experts' scale, unrotated (1e-5 response px)."""
    for recording in recordings(*FRAMES[7]):
        for k in recording.scales:
            _, p = start_of_scale(recording, k)
            upright = np.array([recording[f"s{k}.patch_scaling"], 0, 0, 0, 0, 0])
            reference = twin.Shape.of(recording.model.pdm).project(upright, p)
            np.testing.assert_allclose(reference, planar(recording[f"s{k}.ref_shape"]), atol=1e-5)


@needs_shared
def test_recorded_maps_of_areas() -> None:
    for recording in recordings(*FRAMES[7]):
        for k in recording.scales:
            backward, base = recording[f"s{k}.sim_ref_to_img"], recording[f"s{k}.base_shape"]
            side = int(recording[f"s{k}.window"]) + 10
            for i in np.flatnonzero(recording[f"s{k}.visibility"]):
                m = area_map(backward, base[i, 0], base[i, 1], side)
                np.testing.assert_array_equal(m, recording[f"s{k}.area_warps"][i])


# --- sampling -------------------------------------------------------------------------------------


def rigid(scale: float, euler: tuple[float, float, float], x: float, y: float) -> np.ndarray:
    return np.array([scale, *euler, x, y], np.float32)


def maps_of(found: twin.Scale) -> list[np.ndarray]:
    """The map of every landmark's area."""
    n, side = len(found.areas), found.areas.shape[1]
    return [area_map(found.backward, found.base[i], found.base[n + i], side) for i in range(n)]


@needs_quantising_warp
@pytest.mark.parametrize(
    ("where", "spread"), [("inside", 40), ("edge", 12), ("outside", 30)], ids=["inside", "at the edges", "far outside"]
)
def test_sampling_is_warp_affines_to_the_bit(where: str, spread: float) -> None:
    """Also half outside the picture, where every tap outside counts as 0 by itself."""
    rng, pdm = np.random.default_rng(0), tiny_pdm()
    gray = rng.integers(0, 256, (360, 480)).astype(np.uint8)
    places: dict[str, list[tuple[float, float]]] = {
        "inside": [(240, 180)],
        "edge": [(0, 180), (479, 180), (240, 0), (240, 359), (0, 0), (479, 359)],
        "outside": [(-1400, 180), (2900, 180), (240, -1300), (240, 1700), (5e5, -5e5)],
    }
    some = False
    for trial in range(60):
        window, patches = int(rng.choice([3, 5, 7, 9, 11, 15])), tiny_patches(scale=rng.uniform(0.25, 1.5))
        x, y = places[where][trial % len(places[where])] + rng.uniform(-spread, spread, 2)
        size = rng.uniform(0.3, 0.9) if where == "inside" else rng.uniform(0.3, 4)
        g = rigid(size, (*rng.uniform(-0.3, 0.3, 2), rng.uniform(-3, 3)), x, y)
        found = cut(gray, pdm, patches, g, np.zeros(3, np.float32), window)
        for area, m in zip(found.areas, maps_of(found), strict=True):
            flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
            expected = cv2.warpAffine(gray.astype(np.float32), m, area.shape[::-1], flags=flags)
            np.testing.assert_array_equal(area, expected)
            np.testing.assert_array_equal(area, twin.sample(gray, m, len(area)))
            some |= bool(expected.any())
    assert some == (where != "outside")


def whole_pixels() -> tuple[PDM, Patches]:
    """A model whose landmarks fall on pixels where its size is 1 px per mm, that of its experts."""
    pdm = tiny_pdm()
    return PDM(np.rint(pdm.mean), pdm.modes, pdm.eigenvalues), tiny_patches(scale=1.0)


def test_upright_sampling_at_whole_pixels_copies_the_picture() -> None:
    gray = np.random.default_rng(2).integers(0, 256, (300, 400)).astype(np.uint8)
    pdm, patches = whole_pixels()
    found = cut(gray, pdm, patches, rigid(1, (0, 0, 0), 200, 150), np.zeros(3, np.float32), 11)
    for area, x, y in zip(found.areas, found.base[:9].astype(int), found.base[9:].astype(int), strict=True):
        np.testing.assert_array_equal(area, gray[y - 10 : y + 11, x - 10 : x + 11])


def test_a_picture_smaller_than_an_area() -> None:
    gray = np.full((2, 3), 200, np.uint8)
    pdm, patches = whole_pixels()
    x, y = pdm.mean[4], pdm.mean[9 + 4]
    found = cut(gray, pdm, patches, rigid(1, (0, 0, 0), 1 - x, -y), np.zeros(3, np.float32), 5)
    expected = np.zeros((15, 15))
    expected[7:9, 6:9] = 200
    np.testing.assert_array_equal(found.areas[4], expected)


# --- the whole step -------------------------------------------------------------------------------


def test_cut_areas_agrees_with_its_twin() -> None:
    """Grey values within 4: rounding of the map may move a sample by 1/32 px, most areas are equal."""
    rng, pdm, gray, equal = np.random.default_rng(3), tiny_pdm(), wave_picture(), []
    for seed in range(20):
        patches = tiny_patches(views=3, scale=0.35, seed=seed)
        g = np.array([rng.uniform(0.3, 2), *rng.uniform(-0.8, 0.8, 3), *rng.uniform(0, 640, 2)], np.float32)
        p = rng.normal(size=3).astype(np.float32) * 5
        found, expected = cut(gray, pdm, patches, g, p, 9), twin.prepare(gray, pdm, patches, g, p, 9)
        assert found.view == expected.view
        np.testing.assert_allclose(found.base, expected.base, atol=2e-4)
        np.testing.assert_allclose(found.forward, expected.forward, atol=1e-6)
        np.testing.assert_allclose(found.backward, expected.backward, atol=2e-5)
        np.testing.assert_allclose(found.areas, expected.areas, atol=4)
        equal.append((found.areas == expected.areas).mean())
    assert np.mean(equal) > 0.98


def test_areas_of_invisible_landmarks_are_left_alone() -> None:
    pdm, patches = tiny_pdm(), tiny_patches(views=2)
    g, p = np.array([1, 0, -0.35, 0, 320, 240], np.float32), np.zeros(3, np.float32)
    base, forward, backward = np.empty(18, np.float32), np.empty((2, 2), np.float32), np.empty((2, 2), np.float32)
    areas = np.full((9, 15, 15), -7, np.float32)
    view = module.cut_areas(
        wave_picture(), pdm.mean, pdm.modes_t, patches.centers, patches.visible, 0.5, g, p, base, forward, backward,
        areas,
    )  # fmt: skip
    assert view == 1
    assert (areas[7:] == -7).all()
    assert (areas[:7] >= 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e20])
def test_a_runaway_face_gives_black_areas(value: float) -> None:
    for position in (0, 4, 5):
        g = np.array([1, 0, 0, 0, 320, 240], np.float32)
        g[position] = value
        found = cut(wave_picture(), tiny_pdm(), tiny_patches(), g, np.zeros(3, np.float32), 9)
        assert not found.areas.any()


# --- views and alignment --------------------------------------------------------------------------


def test_the_nearest_view_is_taken_by_plain_differences_of_angles() -> None:
    centers = np.radians([(0, 0, 0), (0, -20, 0), (0, -45, 0), (0, 45, 0), (0, 20, 0)])
    assert nearest_view(centers, np.radians([5, -8, 3])) == 0
    assert nearest_view(centers, np.radians([5, -12, 3])) == 1
    assert nearest_view(centers, np.radians([0, 90, 0])) == 3
    assert nearest_view(centers, np.radians([0, 359, 0])) == 3  # no wrap-around
    rng = np.random.default_rng(4)
    for euler in rng.uniform(-1, 1, (300, 3)):
        assert nearest_view(centers, euler) == twin.nearest_view(centers, euler.astype(np.float32))


def test_the_first_of_equally_near_views_wins() -> None:
    assert nearest_view(np.array([[0, 0.5, 0], [0, -0.5, 0], [0, 0.5, 0]]), [0, 0, 0]) == 0
    assert nearest_view(np.zeros((3, 3)), [np.nan, 0, 0]) == 0


def test_similarity_recovers_a_turn_and_a_scale() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        source = rng.normal(size=(2, 30)) * 40 + 200
        angle, scale = rng.uniform(-3.1, 3.1), rng.uniform(0.2, 4)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        target = turn @ source + rng.uniform(-50, 50, (2, 1))
        found = similarity(source.ravel().astype(np.float32), target.ravel().astype(np.float32))
        np.testing.assert_allclose(found, turn, atol=2e-5)


def test_similarity_agrees_with_its_twin_and_never_mirrors() -> None:
    rng = np.random.default_rng(6)
    for trial in range(200):
        source, target = rng.normal(size=(2, 2, 20)).astype(np.float32)
        if trial % 2:
            target[0], target[1] = -source[0], source[1]  # best fitted by a mirror image
            target += rng.normal(size=(2, 20)).astype(np.float32) * np.float32(0.3)
        found = similarity(source.ravel(), target.ravel())
        np.testing.assert_allclose(found, twin.similarity(source.ravel(), target.ravel()), atol=2e-5)
        assert np.linalg.det(found) > 0
        inverse = np.empty((2, 2), np.float32)
        module._invert(found, inverse)
        np.testing.assert_allclose(inverse, np.linalg.inv(found.astype(float)), rtol=1e-5, atol=1e-6)
