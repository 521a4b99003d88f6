"""Face analysis of whole clips: recorded landmarks in, every recorded value out; and the rules about failed frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyfaceau.au import FaceAnalyser, analyser
from pyfaceau.au.postprocess import OnlineCorrection
from pyfaceau.errors import PyfaceauError
from pyfaceau.tests import au_data as data
from pyfaceau.tests.shared import SHARED, needs_shared, stage
from pyfaceau.weights.store import find_models, load_au_predictors

BLACK = np.zeros((240, 320, 3), np.uint8)
NOWHERE = np.zeros(136, np.float32)


def run(subject: FaceAnalyser, detected: list[bool]) -> list[analyser.Analysis]:
    return [subject.analyse(*data.made_up_face(i), ok) for i, ok in enumerate(detected)]


def test_a_failed_frame_is_all_zeros():
    subject = FaceAnalyser(data.made_up_predictors())
    for result in run(subject, [False, True, False])[::2]:
        for name in ("hog", "geometry", "face", "g", "p", "intensity", "presence"):
            assert not getattr(result, name).any(), name
    assert subject.calibration.frames == 3


def test_medians_move_on_odd_frames_only_and_include_the_current_frame():
    subject = FaceAnalyser(data.made_up_predictors())
    first, second, third = run(subject, [True] * 3)
    medians = subject.calibration
    assert medians.hog.count == medians.geometry.count == 2  # frames 1 and 3
    subject.reset()
    run(subject, [True])
    np.testing.assert_array_equal(subject.calibration.hog.median, first.hog)
    run(subject, [True])
    np.testing.assert_array_equal(subject.calibration.hog.median, first.hog)
    assert not np.array_equal(second.hog, third.hog)


def test_a_first_success_on_an_even_frame_meets_the_lowest_geometry_median():
    subject = FaceAnalyser(data.made_up_predictors())
    result = run(subject, [False, True])[1]
    np.testing.assert_allclose(subject.calibration.geometry.median, -59.994, atol=1e-12)
    models = subject.predictors.intensity
    x = np.concatenate([result.hog.astype(float), result.geometry])
    median = np.concatenate([np.zeros(4464), np.full(209, -59.994)])
    np.testing.assert_allclose(
        result.intensity[0], (x - models.means[0] - median) @ models.weights[0] + models.bias[0], atol=1e-9
    )


def test_finish_repeats_predictions_with_the_final_medians_and_can_be_called_again():
    models = data.made_up_predictors()
    subject = FaceAnalyser(models)
    detected = [True, True, False, True, True, True, True, True, False, True]
    results = run(subject, detected)
    median = subject.calibration.median()
    raw = np.zeros((10, 3))
    for i, result in enumerate(results):
        if detected[i]:
            x = np.concatenate([result.hog.astype(float), result.geometry])
            shift = models.intensity.means + np.outer(models.intensity.dynamic, median)
            raw[i] = ((x - shift) * models.intensity.weights).sum(axis=1) + models.intensity.bias
    good = np.sort(raw[detected], axis=0)
    offset = np.array([good[4, 0], 0, good[2, 2]])  # trunc(8 * 0.5), static, trunc(8 * 0.3)
    clamped = np.clip(raw - offset, 0, 5) * np.array(detected)[:, None]
    expected = clamped.copy()
    expected[1:-1] = (clamped[:-2] + clamped[1:-1] + clamped[2:]) / 3
    for _ in range(2):
        intensity, presence = subject.finish()
        np.testing.assert_allclose(intensity, expected, atol=1e-11)
        assert presence.shape == (10, 2) and set(np.unique(presence)) <= {0.0, 1.0}


def test_only_the_first_successes_are_predicted_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(analyser, "REPREDICTED", 3)
    subject = FaceAnalyser(data.made_up_predictors())
    monkeypatch.setattr(analyser.postprocess, "smooth_presence", lambda values: values)
    results = run(subject, [True, False, True, True, True, True])
    assert len(subject.calibration.products) == 3
    _, presence = subject.finish()
    np.testing.assert_array_equal(presence[4:], [result.presence for result in results[4:]])


def test_static_predictors_know_no_medians_and_no_offsets():
    subject = FaceAnalyser(data.made_up_predictors(static=True))
    results = run(subject, [True] * 4)
    raw = np.array([result.intensity for result in results])
    clamped = np.clip(raw, 0, 5)
    intensity, _ = subject.finish()
    np.testing.assert_allclose(intensity[1], clamped[:3].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(intensity[0], clamped[0], atol=1e-12)


def test_online_reports_are_corrected_but_not_the_history():
    plain, online = FaceAnalyser(data.made_up_predictors()), FaceAnalyser(data.made_up_predictors(), online=True)
    detected = [True, False] + [True] * 12
    raw = [result.intensity for result in run(plain, detected)]
    reported = [result.intensity for result in run(online, detected)]
    correction = OnlineCorrection(3)
    for i, ok in enumerate(detected):
        np.testing.assert_array_equal(reported[i], correction.correct(raw[i], ok))
    for a, b in zip(plain.finish(), online.finish(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_single_images_have_no_history():
    subject = FaceAnalyser(data.made_up_predictors(static=True))
    once = subject.analyse_image(*data.made_up_face(1))
    subject.analyse_image(*data.made_up_face(2))
    again = subject.analyse_image(*data.made_up_face(1))
    np.testing.assert_array_equal(once.intensity, again.intensity)
    assert once.intensity.min() >= 0 and once.intensity.max() <= 5
    assert subject.calibration.frames == 0
    raw = FaceAnalyser(data.made_up_predictors(static=True)).analyse(*data.made_up_face(1), True)
    np.testing.assert_array_equal(once.intensity, np.clip(raw.intensity, 0, 5))
    np.testing.assert_array_equal(once.presence, raw.presence)


def test_single_images_need_static_predictors():
    with pytest.raises(PyfaceauError, match="static"):
        FaceAnalyser(data.made_up_predictors()).analyse_image(*data.made_up_face())


def test_reset_is_a_fresh_start():
    used, fresh = FaceAnalyser(data.made_up_predictors()), FaceAnalyser(data.made_up_predictors())
    run(used, [False, True, True])
    used.reset()
    for a, b in zip(run(used, [True, True]), run(fresh, [True, True]), strict=True):
        np.testing.assert_array_equal(a.intensity, b.intensity)
    for a, b in zip(used.finish(), fresh.finish(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_finish_without_frames_and_without_faces():
    subject = FaceAnalyser(data.made_up_predictors())
    intensity, presence = subject.finish()
    assert intensity.shape == (0, 3) and presence.shape == (0, 2)
    subject.analyse(BLACK, NOWHERE, False)
    intensity, presence = subject.finish()
    assert intensity.shape == (1, 3) and not intensity.any() and not presence.any()


def test_landmarks_that_are_nowhere_do_not_raise():
    subject = FaceAnalyser(data.made_up_predictors())
    far = data.made_up_face()[1] + np.float32(1e6)
    assert not subject.analyse(BLACK, far, True).hog.any()


def order(recorded: np.ndarray, names: tuple[str, ...]) -> list[int]:
    return [recorded.tolist().index(name) for name in names]


@needs_shared
@pytest.mark.parametrize("clip", list(data.CLIPS))
def test_recorded_clip(clip: str):
    """From decoded pictures and recorded landmarks: descriptors and medians equal, scores 1e-12, classes equal."""
    arrays = stage(clip, "light")
    subject = FaceAnalyser(data.predictors())
    intensities = order(arrays["au_intensity.names"], subject.intensity_names)
    presences = order(arrays["au_presence.names"], subject.presence_names)
    rows = {name: data.row_of(arrays, name) for name in ("hog", "geometry", "hog_median", "geometry_median")}
    for i, frame in enumerate(data.frames(clip)):
        detected = bool(arrays["fa_success"][i])
        found = subject.analyse(frame, data.landmarks(clip, i + 1), detected)
        state = subject.calibration
        np.testing.assert_array_equal(found.g, arrays["fa_params_global"][i])
        np.testing.assert_array_equal(found.p, arrays["fa_params_local"][i])
        assert [state.hog.count, state.geometry.count] == arrays["median_count"][i].tolist()
        values = {
            "hog": found.hog,
            "geometry": found.geometry,
            "hog_median": state.hog.median,
            "geometry_median": state.geometry.median,
        }
        for name, value in values.items():
            if i + 1 in rows[name]:
                np.testing.assert_array_equal(value, rows[name][i + 1], err_msg=f"{name}, frame {i + 1}")
        if detected:
            np.testing.assert_allclose(found.intensity, arrays["au_intensity_raw"][i, intensities], atol=1e-12)
            np.testing.assert_array_equal(found.presence, arrays["au_presence_raw"][i, presences])
    assert i + 1 == len(arrays["frames"])
    assert subject.intensity_names == tuple(arrays["end.au_intensity.names"])
    np.testing.assert_array_equal(subject.calibration.hog.median, arrays["end.hog_median"])
    np.testing.assert_array_equal(subject.calibration.geometry.median, arrays["end.geometry_median"])
    intensity, presence = subject.finish()
    np.testing.assert_allclose(intensity, arrays["end.au_intensity_final"].T, atol=1e-12)
    np.testing.assert_array_equal(presence, arrays["end.au_presence_final"].T)


@needs_shared
def test_a_pack_with_other_sizes():
    """The demo pack has 12 modes and 8 AUs. Its reference CSV holds landmarks rounded to 0.1 px."""
    demo = SHARED / "demo"
    models = load_au_predictors(find_models(demo / "pack"), static=False)
    assert models.intensity.weights.shape == (8, 4464 + 204 + 12)
    table = pd.read_csv(demo / "golden" / "astronaut.csv", skipinitialspace=True)
    subject = FaceAnalyser(models)
    coordinates = table[[f"{axis}_{i}" for axis in "xy" for i in range(68)]].to_numpy(np.float32)
    for frame, points, ok in zip(
        data.read(demo / "clips" / "astronaut.mp4"), coordinates, table["success"], strict=True
    ):
        subject.analyse(frame, points, bool(ok))
    intensity, presence = subject.finish()
    difference = np.abs(intensity - table[[f"{name}_r" for name in subject.intensity_names]].to_numpy())
    agreement = presence == table[[f"{name}_c" for name in subject.presence_names]].to_numpy()
    assert difference.mean() < 0.02 and agreement.mean() > 0.99


@needs_shared
@pytest.mark.parametrize("clip", ["video01", "2015-10-15-15-14"])
@pytest.mark.parametrize("frame", [1, 31])
def test_recorded_single_images(clip: str, frame: int):
    recorded, picture = stage(clip, f"image_{frame}"), stage(clip, f"frame_{frame}")["bgr"]
    subject = FaceAnalyser(data.predictors(static=True))
    found = subject.analyse_image(picture, data.vector(recorded["face00.out.landmarks_2d"]))
    np.testing.assert_array_equal(found.hog, recorded["face00.fa.hog"])
    np.testing.assert_array_equal(found.geometry, recorded["face00.fa.geometry"])
    intensity = recorded["face00.out.au_intensity"][order(recorded["au_intensity.names"], subject.intensity_names)]
    presence = recorded["face00.out.au_presence"][order(recorded["au_presence.names"], subject.presence_names)]
    np.testing.assert_allclose(found.intensity, intensity, atol=1e-12)
    np.testing.assert_array_equal(found.presence, presence)
