"""FHOG against a plain NumPy twin, the specification's check values, and the recorded descriptors."""

from __future__ import annotations

import numpy as np
import pytest

from pyfaceau.au import fhog
from pyfaceau.errors import PyfaceauError
from pyfaceau.tests import au_data as data
from pyfaceau.tests.shared import needs_shared, stage

F = np.float32
UX = np.array([1, 0.9397, 0.7660, 0.5, 0.1736, -0.1736, -0.5, -0.7660, -0.9397], F)
UY = np.array([0, 0.3420, 0.6428, 0.8660, 0.9848, 0.9848, 0.8660, 0.6428, 0.3420], F)


def specification_image() -> np.ndarray:
    y, x, c = np.mgrid[:112, :112, :3]
    return ((7 * x + 13 * y + 29 * c + x * y // 5) % 256).astype(np.uint8)


def gradient_twin(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strongest gradients of rows and columns 1..110; ties by column."""
    signed = image.astype(int)
    gx = signed[1:-1, 2:] - signed[1:-1, :-2]
    gy = signed[2:, 1:-1] - signed[:-2, 1:-1]
    blue, green, red = np.moveaxis(gx**2 + gy**2, -1, 0)
    block = np.where(np.maximum(red, green) > blue, np.where(red > green, 2, 1), 0)
    tail = np.where(green > red, 1, 2)
    tail = np.where(blue > np.maximum(red, green), 0, tail)
    choice = np.where(np.arange(1, 111) <= 104, block, tail)[..., None]
    take = lambda g: np.take_along_axis(g, choice, axis=2)[..., 0].astype(F)  # noqa: E731
    return take(gx), take(gy)


def orientation_twin(gx: np.ndarray, gy: np.ndarray) -> np.ndarray:
    best, bins = np.zeros_like(gx), np.zeros(gx.shape, int)
    for o in range(9):
        d = gx * UX[o] + gy * UY[o]
        forward, backward = d > best, -d > best
        bins = np.where(forward, o, np.where(backward, o + 9, bins))
        best = np.where(forward, d, np.where(backward, -d, best))
    return bins


def histogram_twin(image: np.ndarray) -> np.ndarray:
    gx, gy = gradient_twin(image)
    v, bins = np.sqrt(gx * gx + gy * gy), orientation_twin(gx, gy)
    place = (np.arange(1, 111) + 0.5) / 8 - 0.5
    cell = np.floor(place).astype(int)
    low = (place - cell).astype(F)
    h = np.zeros((16, 16, 18), F)
    for y in range(110):
        b = (F(1) - low[y], low[y])
        for x in range(110):
            a = (F(1) - low[x], low[x])
            for i in (0, 1):
                for j in (0, 1):
                    share = b[i] * (a[j] * v[y, x]) if x + 1 <= 104 else (b[i] * a[j]) * v[y, x]
                    h[cell[y] + 1 + i, cell[x] + 1 + j, bins[y, x]] += share
    return h


def fhog_twin(image: np.ndarray) -> np.ndarray:
    """Part 3 §3, step by step."""
    h = histogram_twin(image)[1:15, 1:15]
    unsigned = h[..., :9] + h[..., 9:]
    energy = np.zeros((14, 14), F)
    for o in range(9):
        energy = energy + unsigned[..., o] * unsigned[..., o]
    out = np.empty((12, 12, 31), F)
    for r in range(12):
        for c in range(12):
            terms = []
            for y, x in ((r + 1, c + 1), (r, c + 1), (r + 1, c), (r, c)):
                block = ((energy[y, x] + energy[y, x + 1]) + energy[y + 1, x]) + energy[y + 1, x + 1] + F(0.0001)
                limit = F(0.2) * np.sqrt(block)
                both = np.concatenate([h[r + 1, c + 1], unsigned[r + 1, c + 1]])
                terms.append(np.minimum(both, limit) * (F(0.1) / limit))
            out[r, c, :27] = (terms[0] + terms[2]) + (terms[1] + terms[3])
            for k in range(4):
                total = F(0)
                for o in range(0, 18, 3):
                    total = total + ((terms[k][o] + terms[k][o + 1]) + terms[k][o + 2])
                out[r, c, 27 + k] = total * F(0.4714)
    return out.ravel()


def test_specification_check_values():
    found = fhog.fhog(specification_image())
    cells = found.reshape(12, 12, 31)
    assert found.sum(dtype=float) == pytest.approx(284.57086, abs=1e-5)
    np.testing.assert_allclose(cells[0, 0, [3, 11, 14]], [0.2236528, 0.4, 0.4], atol=1e-7)
    np.testing.assert_allclose(cells[0, 0, 27:], [0.1182805, 0.1207943, 0.1205470, 0.1229282], atol=1e-7)
    np.testing.assert_allclose(cells[11, 3, [2, 8]], [0.2647650, 0.0795841], atol=1e-7)


@pytest.mark.parametrize("levels", [256, 3])  # few levels: many ties between channels
def test_equals_its_twin(levels: int):
    image = np.random.default_rng(levels).integers(0, levels, (112, 112, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fhog.fhog(image), fhog_twin(image))


def test_row_extents_change_nothing():
    image = specification_image()
    rng = np.random.default_rng(5)
    first = rng.integers(0, 60, 112).astype(np.int32)
    last = rng.integers(50, 112, 112).astype(np.int32)
    first[:9], last[:9] = 112, -1
    first[40], last[40] = 112, -1
    columns = np.arange(112)
    image[(columns < first[:, None]) | (columns > last[:, None])] = 0
    out = np.empty(fhog.LENGTH, F)
    fhog._fhog(image.reshape(112, -1), first, last, *fhog.FhogScratch().arrays, out)
    np.testing.assert_array_equal(out, fhog.fhog(image))


def test_a_black_picture_has_no_features():
    assert not fhog.fhog(np.zeros((112, 112, 3), np.uint8)).any()


@pytest.mark.parametrize(("shape", "dtype"), [((112, 112), "u1"), ((112, 112, 3), "f4"), ((96, 96, 3), "u1")])
def test_other_pictures_are_refused(shape: tuple[int, ...], dtype: str):
    with pytest.raises(PyfaceauError, match="112 x 112"):
        fhog.fhog(np.zeros(shape, dtype))


@needs_shared
@pytest.mark.parametrize(("clip", "frame"), data.DETAILED)
def test_recorded_descriptors_to_the_bit(clip: str, frame: int):
    recorded = stage(clip, f"frame_{frame}")
    found = fhog.fhog(recorded["fhog.input"])
    np.testing.assert_array_equal(found, data.row_of(stage(clip, "light"), "hog")[frame])
    np.testing.assert_array_equal(found.reshape(12, 12, 31), recorded["fhog.cells"])
