"""Every metric against an independent implementation, a case worked by hand, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation

from validation.errors import Undefined
from validation.metrics import gaze, intensity, landmarks, pose, presence, speed, tracking

RNG = np.random.default_rng(3)


@pytest.fixture
def shapes() -> tuple[np.ndarray, np.ndarray]:
    """Two sets of landmarks, a few px apart."""
    reference = RNG.uniform(0, 300, (40, 68, 2))
    return reference, reference + RNG.normal(0, 2, reference.shape)


@pytest.fixture
def intensities() -> tuple[np.ndarray, np.ndarray]:
    """Two AU traces."""
    reference = np.clip(RNG.normal(1.5, 1.0, 200), 0, 5)
    return reference, np.clip(reference * 0.9 + 0.2 + RNG.normal(0, 0.2, 200), 0, 5)


@pytest.fixture
def presences() -> tuple[np.ndarray, np.ndarray]:
    """Two series of presence."""
    reference = RNG.random(300) < 0.3
    return reference, reference ^ (RNG.random(300) < 0.1)


class TestLandmarks:
    def test_by_hand(self):
        reference = np.zeros((2, 68, 2))
        reference[:, 45, 0] = 50.0
        estimated = reference.copy()
        estimated[0] += (3.0, 4.0)  # 5 px everywhere
        estimated[1, 0] += (0.0, 6.8)  # 6.8 px at one of 68 points
        assert landmarks.mean_error(reference, estimated) == pytest.approx((5.0 + 0.1) / 2)
        assert landmarks.max_error(reference, estimated) == pytest.approx(5.0)
        assert landmarks.max_point_error(reference, estimated) == pytest.approx(6.8)
        assert landmarks.nme(reference, estimated) == pytest.approx((0.1 + 0.002) / 2)
        assert landmarks.region_error(reference, estimated, "jaw") == pytest.approx((5.0 + 6.8 / 17) / 2)
        assert landmarks.region_error(reference, estimated, "mouth") == pytest.approx(2.5)
        assert landmarks.error_percentile(reference, estimated, 50) == pytest.approx(2.55)

    def test_regions_cover_every_point_once(self):
        assert sorted(i for region in landmarks.REGIONS.values() for i in region) == list(range(68))

    def test_constant_offset_and_translation_of_both(self, shapes):
        reference, estimated = shapes
        assert landmarks.mean_error(reference, reference + np.array([0.3, 0.4])) == pytest.approx(0.5)
        moved = landmarks.mean_error(reference + 17.0, estimated + 17.0)
        assert moved == pytest.approx(landmarks.mean_error(reference, estimated))

    def test_nme_does_not_depend_on_scale(self, shapes):
        reference, estimated = shapes
        assert landmarks.nme(reference * 2.5, estimated * 2.5) == pytest.approx(landmarks.nme(reference, estimated))

    def test_auc_is_the_integral_of_the_ced(self):
        errors = RNG.exponential(0.02, 500)
        grid = np.linspace(0, 0.08, 80_001)
        integral = np.trapezoid(landmarks.ced(errors, grid), grid) / 0.08
        assert landmarks.auc(errors, 0.08) == pytest.approx(integral, abs=1e-4)

    def test_ced_and_failure_rate_by_hand(self):
        errors = np.array([0.01, 0.02, 0.03, 0.1])
        np.testing.assert_array_equal(landmarks.ced(errors, np.array([0.0, 0.02, 0.08])), [0, 0.5, 0.75])
        assert landmarks.failure_rate(errors, 0.08) == 0.25
        assert landmarks.auc(np.zeros(5), 0.02) == 1.0

    def test_drift_against_scipy(self):
        frames = np.arange(1.0, 101.0)
        errors = 0.1 + 0.003 * frames + RNG.normal(0, 0.01, 100)
        assert landmarks.drift(errors, frames) == pytest.approx(100 * stats.linregress(frames, errors).slope)

    def test_undefined(self):
        none = np.empty((0, 68, 2))
        with pytest.raises(Undefined):
            landmarks.mean_error(none, none)
        with pytest.raises(Undefined, match="coincide"):
            landmarks.nme(np.zeros((1, 68, 2)), np.ones((1, 68, 2)))
        with pytest.raises(Undefined, match="too few"):
            landmarks.drift(np.ones(2), np.arange(2.0))
        with pytest.raises(ValueError, match="shapes"):
            landmarks.mean_error(np.zeros((1, 67, 2)), np.zeros((1, 67, 2)))


class TestPose:
    def test_rotation_matrices_against_scipy(self):
        euler = RNG.uniform(-1, 1, (50, 3))
        np.testing.assert_allclose(pose.rotation_matrices(euler), Rotation.from_euler("XYZ", euler).as_matrix())

    def test_geodesic_against_scipy(self):
        a, b = RNG.uniform(-1, 1, (2, 50, 3))
        angle = (Rotation.from_euler("XYZ", a).inv() * Rotation.from_euler("XYZ", b)).magnitude()
        np.testing.assert_allclose(pose.geodesic_degrees(a, b), np.degrees(angle), atol=1e-6)

    def test_small_angles_keep_their_precision(self):
        a = np.array([[0.3, -0.2, 0.1]])
        assert pose.mean_geodesic(a, a) == 0.0
        # A turn about the last axis changes only the third Euler angle.
        assert pose.mean_geodesic(a, a + np.array([0, 0, 1e-6])) == pytest.approx(np.degrees(1e-6), rel=1e-6)

    def test_axes_wrap_around(self):
        a, b = np.radians([[179.0, 0, 0]]), np.radians([[-179.0, 3, 0]])
        np.testing.assert_allclose(pose.axis_degrees(a, b), [[2, 3, 0]], atol=1e-9)
        assert pose.mean_axis(a, b) == pytest.approx(5 / 3)
        assert pose.mean_axis(a, b, 1) == pytest.approx(3)

    def test_translation(self):
        assert pose.mean_translation(np.zeros((2, 3)), np.array([[3.0, 4, 0], [0, 0, 1]])) == 3.0

    def test_undefined(self):
        with pytest.raises(Undefined):
            pose.mean_axis(np.empty((0, 3)), np.empty((0, 3)))


class TestGaze:
    def test_vector_angle_by_hand_and_against_arccos(self):
        assert gaze.mean_vector_angle(np.array([[1.0, 0, 0]]), np.array([[0.0, 2, 0]])) == pytest.approx(90)
        u, v = RNG.normal(size=(2, 60, 3))
        cosine = (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
        np.testing.assert_allclose(gaze.vector_angles(u, v), np.degrees(np.arccos(cosine)), rtol=1e-9)

    def test_angle_error_by_hand(self):
        a = np.radians([[1.0, 2.0]])
        assert gaze.mean_angle_error(a, np.radians([[2.0, 2.0]])) == pytest.approx(0.5)

    def test_a_zero_vector_is_undefined(self):
        with pytest.raises(Undefined, match="length 0"):
            gaze.mean_vector_angle(np.zeros((1, 3)), np.ones((1, 3)))


class TestIntensity:
    def test_icc_against_pingouin(self, intensities):
        pingouin = pytest.importorskip("pingouin")
        import pandas as pd

        a, b = intensities
        n = len(a)
        long = pd.DataFrame({"t": np.tile(np.arange(n), 2), "r": np.repeat([0, 1], n), "v": np.concatenate([a, b])})
        table = pingouin.intraclass_corr(long, targets="t", raters="r", ratings="v").set_index("Type")["ICC"]
        by_type = {name.replace("ICC(A,1)", "ICC2").replace("ICC(C,1)", "ICC3"): value for name, value in table.items()}
        assert intensity.icc_a1(a, b) == pytest.approx(by_type["ICC2"], abs=1e-9)
        assert intensity.icc_31(a, b) == pytest.approx(by_type["ICC3"], abs=1e-9)

    def test_icc_of_shrout_and_fleiss(self):
        # Raters 1 and 2 of the six targets of Shrout & Fleiss (1979), table 2; mean squares by hand:
        # MSR = 5.0, MSC = 60.75 (9,6,8,7,10,6 against 2,1,4,1,5,2), MSE = 0.35.
        a, b = np.array([9.0, 6, 8, 7, 10, 6]), np.array([2.0, 1, 4, 1, 5, 2])
        table = np.stack([a, b], axis=1)
        rows = 2 * ((table.mean(1) - table.mean()) ** 2).sum() / 5
        columns = 6 * ((table.mean(0) - table.mean()) ** 2).sum()
        error = (((table - table.mean()) ** 2).sum() - 5 * rows - columns) / 5
        assert intensity.icc_31(a, b) == pytest.approx((rows - error) / (rows + error))
        assert intensity.icc_a1(a, b) == pytest.approx((rows - error) / (rows + error + 2 / 6 * (columns - error)))

    def test_pcc_against_scipy(self, intensities):
        assert intensity.pcc(*intensities) == pytest.approx(stats.pearsonr(*intensities).statistic)

    def test_ccc_from_its_other_form(self, intensities):
        # Lin (1989): precision (Pearson) times accuracy C_b = 2 / (v + 1/v + u^2).
        a, b = intensities
        v, u = a.std() / b.std(), (a.mean() - b.mean()) / np.sqrt(a.std() * b.std())
        assert intensity.ccc(a, b) == pytest.approx(stats.pearsonr(a, b).statistic * 2 / (v + 1 / v + u**2))

    def test_ccc_sees_an_offset_that_pearson_does_not(self, intensities):
        a, _ = intensities
        assert intensity.pcc(a, a + 1) == pytest.approx(1)
        assert intensity.ccc(a, a + 1) < 0.8
        assert intensity.icc_31(a, a + 1) == pytest.approx(1)
        assert intensity.icc_a1(a, a + 1) < 0.8

    def test_symmetry(self, intensities):
        a, b = intensities
        for metric in (intensity.ccc, intensity.pcc, intensity.icc_a1, intensity.icc_31, intensity.mae, intensity.rmse):
            assert metric(a, b) == pytest.approx(metric(b, a))
        assert intensity.bias(a, b) == pytest.approx(-intensity.bias(b, a))

    def test_errors_against_scikit_learn(self, intensities):
        metrics = pytest.importorskip("sklearn.metrics")
        a, b = intensities
        assert intensity.mae(a, b) == pytest.approx(metrics.mean_absolute_error(a, b))
        assert intensity.rmse(a, b) == pytest.approx(metrics.mean_squared_error(a, b) ** 0.5)

    def test_limits_by_hand(self):
        a, b = np.zeros(4), np.array([1.0, -1, 1, -1]) + 0.5
        low, high = intensity.limits_of_agreement(a, b)
        half = 1.96 * np.sqrt(4 / 3)
        assert (low, high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
        assert intensity.bias(a, b) == 0.5

    def test_share_within_counts_the_tolerance_itself(self):
        a = np.array([0.10, 0.20, 0.30])
        assert intensity.share_within(a, np.array([0.15, 0.30, 0.30]), 0.05) == pytest.approx(2 / 3)

    def test_undefined_is_never_zero(self):
        constant = np.ones(5)
        for metric in (intensity.ccc, intensity.pcc, intensity.icc_a1, intensity.icc_31):
            with pytest.raises(Undefined):
                metric(constant, constant)
        with pytest.raises(Undefined, match="constant"):
            intensity.pcc(np.full(7, 0.1), np.arange(7.0))
        with pytest.raises(Undefined):
            intensity.mae(np.empty(0), np.empty(0))

    def test_varies_at_the_threshold(self):
        assert intensity.varies(np.array([0.0, 0.1]))  # sd exactly 0.05
        assert not intensity.varies(np.array([0.0, 0.099]))


class TestPresence:
    def test_against_scikit_learn(self, presences):
        metrics = pytest.importorskip("sklearn.metrics")
        a, b = presences
        assert presence.agreement(a, b) == pytest.approx(metrics.accuracy_score(a, b))
        assert presence.kappa(a, b) == pytest.approx(metrics.cohen_kappa_score(a, b))
        assert presence.f1(a, b) == pytest.approx(metrics.f1_score(a, b))
        assert presence.mcc(a, b) == pytest.approx(metrics.matthews_corrcoef(a, b))

    def test_by_hand(self):
        a, b = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
        assert presence.confusion(a, b) == (2, 1, 1, 1)
        assert presence.flips(a, b) == 2
        assert presence.agreement(a, b) == 0.6
        assert presence.prevalence(a) == 0.6
        assert presence.kappa(a, b) == pytest.approx((0.6 - (9 + 4) / 25) / (1 - 13 / 25))
        assert presence.mcc(a, b) == pytest.approx((2 - 1) / 6)
        assert presence.f1(a, b) == pytest.approx(4 / 6)

    def test_undefined(self):
        never = np.zeros(5, bool)
        assert presence.agreement(never, never) == 1
        for metric in (presence.kappa, presence.f1, presence.mcc):
            with pytest.raises(Undefined):
                metric(never, never)
        with pytest.raises(Undefined):
            presence.agreement(never[:0], never[:0])

    def test_kappa_of_a_never_and_a_sometimes(self):
        assert presence.kappa(np.zeros(4, bool), np.array([1, 0, 0, 0], bool)) == 0


class TestTracking:
    def test_runs_and_agreement_by_hand(self):
        a, b = np.array([1, 0, 0, 1, 1, 0], bool), np.array([1, 0, 1, 1, 1, 0], bool)
        frames = np.arange(1, 7)
        assert tracking.lost_runs(a, frames) == [(2, 3), (6, 6)]
        assert tracking.lost_runs(b, frames) == [(2, 2), (6, 6)]
        assert tracking.equal_runs(tracking.lost_runs(a, frames), tracking.lost_runs(b, frames)) == 1
        assert tracking.differing_frames(a, b, frames) == [3]
        assert tracking.success_agreement(a, b) == pytest.approx(5 / 6)
        assert tracking.lost_runs(np.ones(3, bool), frames[:3]) == []

    def test_undefined(self):
        with pytest.raises(Undefined):
            tracking.success_agreement(np.empty(0, bool), np.empty(0, bool))


class TestSpeed:
    def test_steady_state_leaves_out_the_first_frame(self):
        times = np.array([500.0, 10, 20, 30])
        assert speed.mean_ms(times) == 20
        assert speed.percentile_ms(times, 50) == 20
        with pytest.raises(Undefined):
            speed.mean_ms(times[:1])

    def test_rates_and_shares(self):
        assert speed.frames_per_second(50, 2.0) == 25
        assert speed.per_calibration(8.0, 160.0) == 0.05
        assert speed.unaccounted_share(10.0, {"a": 6.0, "b": 3.0}) == pytest.approx(0.1)
        for call in (lambda: speed.frames_per_second(0, 1), lambda: speed.per_calibration(1, 0)):
            with pytest.raises(Undefined):
                call()
