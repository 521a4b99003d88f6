"""Offsets, clamping, smoothing and the online correction against hand-worked cases and the recorded results."""

from __future__ import annotations

import numpy as np
import pytest

from pyfaceau.au import postprocess as post
from pyfaceau.tests import au_data as data
from pyfaceau.tests.shared import needs_shared, stage


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_offsets_are_quantiles_of_valid_frames():
    intensity = np.tile(column(5, 1, 99, 4, 2, 3), 4)
    valid = np.array([True, True, False, True, True, True])
    dynamic = np.array([True, True, False, True])
    cutoff = np.array([0.5, -1, 0.5, 0.8])  # trunc(5 * 0.5) = 2, none, static, trunc(5 * 0.8) = 4
    np.testing.assert_array_equal(post.intensity_offsets(intensity, valid, dynamic, cutoff), [3, 0, 0, 5])


def test_a_cutoff_of_one_takes_the_largest():
    offsets = post.intensity_offsets(column(1, 2), np.ones(2, bool), np.array([True]), np.array([1.0]))
    np.testing.assert_array_equal(offsets, [2])


def test_without_valid_frames_nothing_is_subtracted():
    offsets = post.intensity_offsets(column(0, 0), np.zeros(2, bool), np.array([True]), np.array([0.5]))
    np.testing.assert_array_equal(offsets, [0])


def test_clamping():
    valid = np.array([True, True, True, False])
    clamped = post.clamp_intensity(column(-1, 3, 9, 9), valid, np.array([1.0]))
    np.testing.assert_array_equal(clamped, column(0, 2, 5, 0))
    # A negative offset raises; it must not raise failed frames.
    clamped = post.clamp_intensity(column(0, 0, 0, 0), valid, np.array([-1.0]))
    np.testing.assert_array_equal(clamped, column(1, 1, 1, 0))


def test_intensity_smoothing_keeps_both_ends():
    np.testing.assert_array_equal(post.smooth_intensity(column(3, 0, 0, 3, 5)), column(3, 1, 1, 8 / 3, 5))


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_intensity_smoothing_of_short_clips_does_nothing(frames: int):
    values = np.arange(2.0 * frames).reshape(frames, 2)
    np.testing.assert_array_equal(post.smooth_intensity(values), values)


def test_presence_smoothing_is_a_vote_of_seven():
    raw = column(1, 0, 1, 0, 1, 0, 1, 0, 0, 1)
    # Frames 3..6: sums of seven are 4, 3, 3, 3.
    np.testing.assert_array_equal(post.smooth_presence(raw), column(1, 0, 1, 1, 0, 0, 0, 0, 0, 1))


@pytest.mark.parametrize("frames", range(7))
def test_presence_smoothing_of_short_clips_does_nothing(frames: int):
    values = (np.arange(3 * frames).reshape(frames, 3) % 2).astype(float)
    np.testing.assert_array_equal(post.smooth_presence(values), values)


def test_presence_smoothing_of_seven_frames_changes_the_middle_one():
    raw = column(1, 1, 1, 0, 1, 0, 0)
    np.testing.assert_array_equal(post.smooth_presence(raw), column(1, 1, 1, 1, 1, 0, 0))


def online_twin(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Part 3 §6, "Online flag", for one AU."""
    histogram, count, out = [0] * 200, 0, []
    for v, ok in zip(values, valid, strict=True):
        offset = 0.0
        if ok:
            histogram[min(max(int((v + 3) * 200 / 8), 0), 199)] += 1
            count += 1
            if count >= 10:
                j = next(j for j in range(200) if sum(histogram[: j + 1]) > int(0.1 * count))
                offset = -3 + 0.04 * j
        out.append(min(max((v if ok else 0.0) - offset, 0.0), 5.0))
    return np.array(out)


def test_online_correction_equals_its_twin():
    rng = np.random.default_rng(1)
    values = rng.normal([0.5, -1.0, 4.5], [0.5, 2.0, 3.0], (80, 3))
    valid = rng.random(80) < 0.8
    correction = post.OnlineCorrection(3)
    reported = [correction.correct(np.where(ok, row, 0.0), bool(ok)) for row, ok in zip(values, valid, strict=True)]
    for au in range(3):
        np.testing.assert_allclose(np.array(reported)[:, au], online_twin(values[:, au], valid), atol=1e-12)


def test_online_correction_waits_for_ten_frames():
    correction = post.OnlineCorrection(1)
    reported = [correction.correct(np.array([1.0]), True)[0] for _ in range(10)]
    assert reported[:9] == [1.0] * 9
    assert reported[9] == pytest.approx(0.0, abs=0.04)


@needs_shared
@pytest.mark.parametrize("clip", list(data.CLIPS))
def test_recorded_results(clip: str):
    """From the recorded re-predictions to the CSV's columns: equal but for the order of three additions (1e-15)."""
    arrays, models = stage(clip, "light"), data.predictors().intensity
    valid = arrays["fa_success"] > 0
    raw = arrays["end.au_intensity_repredicted"].T
    offsets = post.intensity_offsets(raw, valid, models.dynamic, models.cutoff)
    np.testing.assert_array_equal(offsets, arrays["end.au_intensity_offsets"])
    final = post.smooth_intensity(post.clamp_intensity(raw, valid, offsets))
    np.testing.assert_allclose(final, arrays["end.au_intensity_final"].T, atol=1e-15)
    presence = post.smooth_presence(arrays["end.au_presence_repredicted"].T)
    np.testing.assert_array_equal(presence, arrays["end.au_presence_final"].T)
