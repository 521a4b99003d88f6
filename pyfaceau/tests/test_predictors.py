"""AU scores: the specification's check values, recorded scores, and the linear short cut against the long way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pyfaceau.au.predictors import Scorer
from pyfaceau.errors import ModelError
from pyfaceau.tests import au_data as data
from pyfaceau.tests.shared import needs_shared, stage
from pyfaceau.weights.models import AUPredictors


def scores_twin(models: AUPredictors, x: np.ndarray, median: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part 3 §6 as written, one predictor at a time."""
    out = []
    for kind in (models.intensity, models.presence):
        length = kind.weights.shape[1]
        scores = []
        for k in range(len(kind.names)):
            centred = x[:length] - kind.means[k]
            if kind.dynamic[k]:
                centred = centred - median[:length]
            scores.append(centred @ kind.weights[k] + kind.bias[k])
        out.append(np.array(scores))
    return out[0], out[1]


def descriptor(rng: np.random.Generator, length: int) -> np.ndarray:
    x = np.concatenate([rng.uniform(0, 0.4, 4464), rng.normal(0, 10, length - 4464)])
    x[: 31 * 20] = 0  # masked cells
    return x


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("hog_only", [False, True])
def test_short_cut_equals_the_long_way(static: bool, hog_only: bool):
    models = data.made_up_predictors(static, hog_only)
    scorer = Scorer(models)
    rng = np.random.default_rng(3)
    length = 4464 + 204 + 5
    for _ in range(20):
        x, median = descriptor(rng, length), descriptor(rng, length)
        intensity, score = scorer.scores(scorer.products(x), scorer.products(median))
        expected_intensity, expected_score = scores_twin(models, x, median)
        np.testing.assert_allclose(intensity, expected_intensity, atol=1e-12, rtol=0)
        np.testing.assert_allclose(score, expected_score, atol=1e-12, rtol=0)


def test_many_frames_at_once_equal_one_by_one():
    scorer = Scorer(data.made_up_predictors())
    rng = np.random.default_rng(4)
    products = rng.normal(size=(7, scorer.intensities + scorer.presences))
    median = rng.normal(size=products.shape[1])
    intensity, score = scorer.scores(products, median)
    for i in range(7):
        one = scorer.scores(products[i], median)
        np.testing.assert_array_equal(intensity[i], one[0])
        np.testing.assert_array_equal(score[i], one[1])


def test_a_frame_in_one_call_equals_its_steps():
    models = data.made_up_predictors()
    scorer = Scorer(models)
    rng = np.random.default_rng(5)
    length = 4464 + 204 + 5
    for _ in range(5):
        x, median = descriptor(rng, length), descriptor(rng, length)
        median[2000:2031] = 0
        intensity, presence = np.empty(scorer.intensities), np.empty(scorer.presences)
        products = scorer.predict(x, median, intensity, presence)
        np.testing.assert_array_equal(products[0], scorer.products(x))
        np.testing.assert_array_equal(products[1], scorer.products(median))
        raw, score = scorer.scores(*products)
        np.testing.assert_array_equal(intensity, raw)
        np.testing.assert_array_equal(presence, scorer.classes(score))
        assert set(presence) <= {0.0, 1.0}


def test_classes_follow_the_files_and_zero_is_not_positive():
    scorer = Scorer(data.made_up_predictors())  # positive means absent for the first, present for the second
    np.testing.assert_array_equal(scorer.classes(np.array([1e-9, 1e-9])), [0, 1])
    np.testing.assert_array_equal(scorer.classes(np.array([0.0, 0.0])), [1, 0])


def test_predictors_of_another_face_model_are_refused():
    models = data.made_up_predictors()
    other = dataclasses.replace(models, pdm=data.made_up_pdm(modes=6))
    with pytest.raises(ModelError, match="different packs"):
        Scorer(other)


@needs_shared
def test_specification_check_values():
    models = data.predictors()
    scorer = Scorer(models)
    nothing = np.zeros(scorer.intensities + scorer.presences)
    u = 0.3 * (np.arange(4702) % 97) / 97
    x = np.where(np.arange(4702) < 4464, u, 50 * (u - 0.15))
    at = lambda kind, names: [kind.names.index(name) for name in names.split()]  # noqa: E731
    intensity, score = scorer.scores(scorer.products(np.zeros(4702)), nothing)
    names = "AU01 AU02 AU04 AU12 AU25 AU45"
    expected = [0.43425, 0.43594, -0.60993, 0.08120, 0.54402, 0.65938]
    np.testing.assert_allclose(intensity[at(models.intensity, names)], expected, atol=6e-6)
    expected = [0.48809, -0.14547, -0.23322, 1.04360]
    np.testing.assert_allclose(score[at(models.presence, "AU04 AU10 AU25 AU28")], expected, atol=6e-6)
    intensity, _ = scorer.scores(scorer.products(x), nothing)
    expected = [-0.4454, 0.4839, -7.2692, 1.0793]
    np.testing.assert_allclose(intensity[at(models.intensity, "AU04 AU06 AU12 AU25")], expected, atol=6e-5)


@needs_shared
@pytest.mark.parametrize("clip", ["video01", "2015-10-15-15-14"])
def test_recorded_scores_from_recorded_descriptors(clip: str):
    """Tolerance 1e-12; the specification promises 1e-14 and the issue asks for 1e-6."""
    arrays, models = stage(clip, "light"), data.predictors()
    scorer = Scorer(models)
    kinds = [(arrays[f"{name}.names"].tolist()) for name in ("au_intensity", "au_presence")]
    intensity_order = [kinds[0].index(name) for name in models.intensity.names]
    presence_order = [kinds[1].index(name) for name in models.presence.names]
    rows = {name: data.row_of(arrays, name) for name in ("hog", "geometry", "hog_median", "geometry_median")}
    frames = sorted(set.intersection(*(set(row) for row in rows.values())))
    assert len(frames) >= 30
    for frame in frames:
        x = np.concatenate([rows["hog"][frame].astype(np.float64), rows["geometry"][frame]])
        median = np.concatenate([rows["hog_median"][frame], rows["geometry_median"][frame]])
        intensity, score = scorer.scores(scorer.products(x), scorer.products(median))
        np.testing.assert_allclose(intensity, arrays["au_intensity_raw"][frame - 1][intensity_order], atol=1e-12)
        np.testing.assert_allclose(score, arrays["au_presence_decision"][frame - 1][presence_order], atol=1e-12)
        np.testing.assert_array_equal(scorer.classes(score), arrays["au_presence_raw"][frame - 1][presence_order])
