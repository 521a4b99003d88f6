"""Running medians against a cumulative-sum twin, the specification's example, and the recorded medians."""

from __future__ import annotations

import numpy as np
import pytest

from pyfaceau.au import calibration
from pyfaceau.tests import au_data as data
from pyfaceau.tests.shared import needs_shared, stage

HOG = calibration.make_bins(calibration.HOG_BINS, *calibration.HOG_RANGE, floor=0.0)
GEOMETRY = calibration.make_bins(calibration.GEOMETRY_BINS, *calibration.GEOMETRY_RANGE)


class MedianTwin:
    """Part 3 §5 as written: the whole histogram summed at every update."""

    def __init__(self, size: int, number: int, low: float, high: float, floor: float) -> None:
        self.number, self.low, self.high, self.floor = number, low, high, floor
        self.histogram = np.zeros((size, number), int)
        self.count = 0
        self.median = np.zeros(size)

    def update(self, values: np.ndarray, valid: bool) -> None:
        length = self.high - self.low
        if valid:
            alpha, beta = self.number * (1 / length), (-self.low * self.number) * (1 / length)
            bins = np.clip(values * alpha + beta, 0, self.number - 1).astype(int)
            self.histogram[np.arange(len(values)), bins] += 1
            self.count += 1
        if self.count == 1:
            self.median = values.copy()
        else:
            j = (np.cumsum(self.histogram, axis=1) >= (self.count + 1) // 2).argmax(axis=1)
            self.median = self.low + j * (length / self.number) + 0.5 * length / self.number
        self.median = np.maximum(self.median, self.floor)


def test_specification_example():
    median = calibration.RunningMedian(1, HOG)
    found = []
    for value in (0.1, 0.2, 0.3):
        median.update(np.array([value]), True)
        found.append(median.median[0])
    np.testing.assert_allclose(found, [0.1, 0.1000225, 0.1995175], atol=1e-12)


@pytest.mark.parametrize("kind", ["hog", "geometry"])
@pytest.mark.parametrize("failures", [0.0, 0.3])
def test_equals_the_twin(kind: str, failures: float):
    rng = np.random.default_rng(1)
    size = 60
    if kind == "hog":
        median, twin = calibration.RunningMedian(size, HOG), MedianTwin(size, 1000, -0.005, 1.0, 0.0)
        draw = lambda: np.maximum(rng.normal(0.1, 0.2, size), 0) * (rng.random(size) < 0.7)  # noqa: E731
    else:
        median, twin = calibration.RunningMedian(size, GEOMETRY), MedianTwin(size, 10000, -60.0, 60.0, -np.inf)
        draw = lambda: rng.normal(0, rng.choice([0.01, 5.0, 60.0]), size)  # noqa: E731
    for _ in range(300):
        valid = bool(rng.random() >= failures)
        values = draw() if valid else np.zeros(size)
        median.update(values, valid)
        twin.update(values, valid)
        assert median.count == twin.count
        np.testing.assert_array_equal(median.median, twin.median)


def test_without_samples_the_median_is_the_lowest_bin():
    hog, geometry = calibration.RunningMedian(2, HOG), calibration.RunningMedian(2, GEOMETRY)
    assert hog.update(np.zeros(2), False) and geometry.update(np.zeros(2), False)
    np.testing.assert_array_equal(hog.median, 0)
    np.testing.assert_allclose(geometry.median, -59.994, atol=1e-12)


def test_a_failed_update_after_one_sample_replaces_the_median():
    median = calibration.RunningMedian(2, GEOMETRY)
    median.update(np.array([3.0, -70.0]), True)
    np.testing.assert_array_equal(median.median, [3.0, -70.0])
    assert median.update(np.zeros(2), False)
    np.testing.assert_array_equal(median.median, 0)
    median.update(np.array([3.0, 4.0]), True)
    before = median.median.copy()
    assert not median.update(np.zeros(2), False)
    np.testing.assert_array_equal(median.median, before)


def test_values_out_of_range_and_not_a_number_go_to_the_end_bins():
    median = calibration.RunningMedian(3, GEOMETRY)
    for _ in range(2):
        median.update(np.array([1e9, -1e9, np.nan]), True)
    np.testing.assert_allclose(median.median, [59.994, -59.994, -59.994], atol=1e-12)


@needs_shared
def test_recorded_medians():
    """The first 120 frames of a clip have all descriptors recorded; medians at 1 to 10, 11, 21, .. must be equal."""
    arrays = stage("video01", "light")
    kinds = [
        ("hog", calibration.RunningMedian(4464, HOG), data.row_of(arrays, "hog_median")),
        ("geometry", calibration.RunningMedian(238, GEOMETRY), data.row_of(arrays, "geometry_median")),
    ]
    for name, median, recorded in kinds:
        values = data.row_of(arrays, name)
        compared = 0
        for frame in range(1, 121):
            if frame % 2 == 1:
                median.update(values[frame].astype(np.float64), True)
            if frame in recorded:
                np.testing.assert_array_equal(median.median, recorded[frame])
                compared += 1
        assert compared >= 20
        assert median.count == 60
