"""Intervals and tests against scipy and pingouin."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from validation.errors import Undefined
from validation.inference import bootstrap, tost
from validation.stats import signed_rank_p, slow_down

VALUES = np.random.default_rng(5).normal(0.02, 0.03, 24)


def test_bootstrap_against_scipy():
    ours = bootstrap(VALUES)
    theirs = stats.bootstrap((VALUES,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=1e-3), pytest.approx(theirs.high, abs=1e-3))
    assert ours.value == pytest.approx(VALUES.mean())


def test_bootstrap_is_the_same_every_time_and_follows_shifts():
    first, second = bootstrap(VALUES), bootstrap(VALUES)
    assert first == second
    moved = bootstrap(VALUES + 1)
    assert (moved.low, moved.high) == (pytest.approx(first.low + 1), pytest.approx(first.high + 1))
    assert bootstrap(VALUES, np.median).value == pytest.approx(np.median(VALUES))


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [(i := bootstrap(rng.normal(1, 1, 20), resamples=400, seed=k)).low <= 1 <= i.high for k in range(300)]
    assert 0.88 <= np.mean(hits) <= 0.98  # percentile intervals of 20 values fall a little short of 95 %


def test_tost_against_scipy_and_its_own_interval():
    for margin in (0.02, 0.03, 0.05):
        ours = tost(VALUES, margin)
        above = stats.ttest_1samp(VALUES, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(VALUES, margin, alternative="less").pvalue
        assert ours.p == pytest.approx(max(above, below))
        assert ours.equivalent == (-margin < ours.low and ours.high < margin)


def test_tost_against_pingouin():
    pingouin = pytest.importorskip("pingouin")
    theirs = pingouin.tost(VALUES, np.zeros_like(VALUES), bound=0.05, paired=True)
    assert tost(VALUES, 0.05).p == pytest.approx(
        float(theirs.iloc[0]["pval"] if "pval" in theirs else theirs.iloc[0]["p_val"])
    )


def test_too_few_clips_are_undefined():
    for call in (
        lambda: bootstrap([1.0, 2.0]),
        lambda: tost([1.0, 2.0], 1.0),
        lambda: slow_down([1] * 4, [1] * 4, 0.1),
    ):
        with pytest.raises(Undefined, match=r"too few|at least 5"):
            call()


def test_equal_clips_need_no_test():
    assert tost([0.01] * 5, 0.05).equivalent
    assert not tost([0.06] * 5, 0.05).equivalent


class TestSlowDown:
    base = 10 + np.random.default_rng(1).normal(0, 0.1, 7)

    def test_p_against_scipy(self):
        tree = self.base[::-1] * 1.02
        theirs = stats.mannwhitneyu(tree, self.base, alternative="greater", method="exact").pvalue
        found = slow_down(self.base, tree, 0.05)
        assert found.mann_whitney == pytest.approx(theirs)
        # The paired p is U's of the rounds divided by their level, over all swaps within rounds.
        half = np.log(tree / self.base) / 2
        swaps = np.array(list(product((1, -1), repeat=7))) * half
        counts = [(t[:, None] + t[None, :] > 0).sum() for t in swaps]  # tree i beats base j = -tree j
        assert found.p == pytest.approx(np.mean(np.array(counts) >= counts[0]))

    def test_the_exact_signed_rank_p_is_scipys(self):
        ratios = np.random.default_rng(4).lognormal(0.02, 0.05, (20, 8))
        theirs = [stats.wilcoxon(np.log(row), alternative="greater", method="exact").pvalue for row in ratios]
        np.testing.assert_allclose(signed_rank_p(ratios), theirs)
        assert signed_rank_p(np.ones(7)) == 1.0

    def test_a_machine_that_drifts_does_not_hide_a_slowdown(self):
        level = np.array([1.0, 2.0, 0.7, 3.0, 1.2, 0.9, 2.5])
        found = slow_down(self.base * level, self.base[::-1] * level * 1.15, 0.10)
        assert found.slower and found.mann_whitney > 0.1

    def test_equal_trees_pass(self):
        assert not slow_down(self.base, self.base[::-1], 0.05).slower

    def test_fifteen_per_cent_is_caught(self):
        found = slow_down(self.base, self.base[::-1] * 1.15, 0.10)
        assert found.slower and found.low > 1 and found.p < 0.01
        assert found.ratio == pytest.approx(1.15, rel=0.01)

    def test_slower_within_the_budget_passes(self):
        found = slow_down(self.base, self.base * 1.04, 0.05)
        assert not found.slower and found.ratio > 1

    def test_beyond_the_budget_but_within_the_spread_passes(self):
        noisy = np.array([10.0, 20, 11, 19, 12, 18, 13])
        assert not slow_down(noisy, noisy[::-1] * 1.12, 0.10).slower

    def test_false_alarms_on_a_noisy_machine_are_rare(self):
        rng = np.random.default_rng(2)
        rounds = 10 * rng.lognormal(0, 0.15, (200, 2, 7))
        assert np.mean([slow_down(a, b, 0.05).slower for a, b in rounds]) <= 0.02
