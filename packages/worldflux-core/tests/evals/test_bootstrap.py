from __future__ import annotations

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.evals import iqm, iqm_interval
from worldflux.evals.bootstrap import Resampler
from worldflux.evals.horizon.calibration import brier, calibration_error, spread_and_error
from worldflux.evals.horizon.probes import read_out
from worldflux.evals.statistics import fit_of, mean_of, ranks_of

EVERY = np.arange(40)


def value(sums, episodes=None):
    rows = sums.values.shape[1]
    return Resampler(np.arange(rows) if episodes is None else episodes, seed=0).curve(sums)


def test_an_iqm_leaves_out_a_quarter_on_each_side():
    assert iqm(np.array([0, 1, 2, 3, 4, 5, 6, 100])) == 3.5
    assert iqm(np.array([1.0, 5.0, 6.0])) == 4  # of three runs no whole one is a quarter


def test_an_iqm_interval_draws_runs_again_within_each_data_set():
    far = [np.array([0.0, 0.1, 0.2, 0.1]), np.array([10.0, 10.1, 10.2, 10.1])]
    interval = iqm_interval(far)
    assert 4.9 < interval.low <= interval.value <= interval.high < 5.3  # each set keeps its share of every resample
    assert iqm_interval([np.array([1.0])]).low is None
    with pytest.raises(ConfigurationError, match="at least one value"):
        iqm_interval([])


def test_sequences_of_one_episode_are_drawn_together():
    values = np.repeat(np.random.default_rng(0).normal(size=(10, 1)), 20, 0)
    alone, together = value(mean_of(values)), value(mean_of(values), np.repeat(np.arange(10), 20))
    assert together.mean.high - together.mean.low > 3 * (alone.mean.high - alone.mean.low)


def test_one_episode_has_no_interval():
    assert value(mean_of(np.ones((4, 2))), np.zeros(4)).mean.low is None


def test_what_many_resamples_leave_undefined_has_no_interval():
    for episodes, known in ((2, False), (8, True)):  # a rank correlation needs two different ones
        values = np.random.default_rng(0).normal(size=(2, episodes, 1))
        curve = value(ranks_of(*values))
        assert (curve.mean.low is not None) == (curve.points[0].low is not None) == known


def test_a_difference_is_over_the_same_resamples():
    noise = np.random.default_rng(0).normal(size=(40, 3)) * 100
    difference = Resampler(EVERY, seed=0).difference(mean_of(noise + 1), mean_of(noise))
    assert difference.low == pytest.approx(1) and difference.high == pytest.approx(1)


def test_intervals_follow_from_the_seed():
    sums = mean_of(np.random.default_rng(0).normal(size=(40, 3)))
    one, again, other = (Resampler(EVERY, seed=seed).curve(sums) for seed in (3, 3, 4))
    assert one == again and one != other


def test_r2_is_one_when_right_zero_for_the_mean_and_undefined_where_nothing_varies():
    truth = np.random.default_rng(0).normal(size=(40, 2))
    assert value(fit_of(truth, truth)).mean.value == pytest.approx(1)
    mean = np.broadcast_to(truth.mean(0), truth.shape)
    assert value(fit_of(mean, truth)).mean.value == pytest.approx(0, abs=1e-9)
    assert value(fit_of(truth, np.ones_like(truth))) is None


def test_what_is_undefined_at_a_horizon_is_no_point_of_its_curve():
    known = np.ones((40, 3), bool)
    known[:, 1] = False
    assert value(mean_of(np.ones((40, 3)), known)).horizon == (1, 3)


def test_a_rank_correlation_sees_order_alone_and_shares_ranks_of_equals():
    x = np.random.default_rng(0).normal(size=(40, 1))
    assert value(ranks_of(x, np.exp(3 * x))).mean.value == pytest.approx(1)
    assert value(ranks_of(x, -x)).mean.value == pytest.approx(-1)
    assert value(ranks_of(x, np.ones_like(x))) is None
    ties, other = np.array([[1.0], [1], [2], [3]]), np.array([[1.0], [2], [3], [4]])
    assert value(ranks_of(ties, other)).mean.value == pytest.approx(np.corrcoef([1.5, 1.5, 3, 4], [1, 2, 3, 4])[0, 1])


def test_chances_that_come_true_as_often_as_stated_are_calibrated():
    chance = np.full((1000, 1), 0.8)
    happened = (np.arange(1000) % 5 > 0).astype(float)[:, None]
    assert value(calibration_error(chance, happened)).mean.value == pytest.approx(0, abs=1e-9)
    assert value(calibration_error(np.full((1000, 1), 0.3), happened)).mean.value == pytest.approx(0.5)
    assert value(brier(chance, happened)).mean.value == pytest.approx(0.16)


def test_draws_from_what_happens_spread_as_much_as_they_err():
    rng = np.random.default_rng(0)
    truth, draws = rng.normal(size=4000), rng.normal(size=(5, 4000))
    variance, error = draws.var(0, ddof=1)[:, None], np.square(draws.mean(0) - truth)[:, None]
    found = spread_and_error(variance, error, 5, np.ones((4000, 1), bool))
    assert value(found["ratio"]).mean.value == pytest.approx(1, abs=0.05)
    assert value(found["spread"]).mean.value == pytest.approx(1, abs=0.05)


def test_a_probe_is_read_on_other_episodes_than_it_was_fitted_on():
    rng = np.random.default_rng(0)
    latents, targets, known = rng.normal(size=(24, 4, 60)), rng.normal(size=(24, 4, 1)), np.ones((24, 4), bool)
    read = read_out(latents, targets, known, np.repeat(np.arange(8), 3), {"encoded": latents})["encoded"]
    assert value(fit_of(read, targets)).mean.value < 0  # noise tells nothing, and is fitted well
