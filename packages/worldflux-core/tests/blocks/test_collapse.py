"""Measures of collapse on latents that are made to be healthy, or collapsed in one way each."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.blocks import CollapseLimits, collapse_measures

SEQUENCES, ROWS, LATENT = 256, 4, 16


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def everywhere(values: np.ndarray) -> np.ndarray:
    """Latents ``[B, T, D]`` of what is broadcast to them."""
    return np.broadcast_to(values, (SEQUENCES, ROWS, LATENT)).astype(np.float32)


def test_a_gaussian_is_healthy():
    found = collapse_measures(gaussian(SEQUENCES, ROWS, LATENT))
    numbers = found.numbers()
    for where in ("", "pooled/"):
        assert numbers[f"{where}std"] == pytest.approx(1, abs=0.05) and numbers[f"{where}std_min"] > 0.85
        assert numbers[f"{where}rankme"] > 0.95 * LATENT and numbers[f"{where}participation"] > 0.9 * LATENT
        assert abs(numbers[f"{where}cosine"]) < 0.02 and numbers[f"{where}dead"] == 0
        assert numbers[f"{where}mean_norm"] < 0.5
    assert found.within_ratio == pytest.approx(1, abs=0.05)
    assert found.alarms() == []


def test_a_constant_has_no_deviation_and_no_rank():
    found = collapse_measures(everywhere(gaussian(LATENT)))
    numbers = found.numbers()
    assert numbers["std"] < 1e-6 and numbers["dead"] == 1 and numbers["rankme"] == 0 and numbers["participation"] == 0
    assert numbers["cosine"] == pytest.approx(1) and "within_ratio" not in numbers
    assert [alarm.split(":")[0] for alarm in found.alarms()] == [
        "its numbers hardly vary over the batch",
        "it varies in few directions",
    ]


def test_zeros_have_no_angles():
    found = collapse_measures(np.zeros((8, 2, 3)))
    assert "cosine" not in found.numbers() and found.numbers()["mean_norm"] == 0


def test_the_rounding_of_a_constant_is_no_rank():
    noise = 1e-7 * gaussian(SEQUENCES, ROWS, LATENT)
    assert collapse_measures(everywhere(gaussian(LATENT)) + noise).numbers()["rankme"] == 0


def test_what_varies_along_one_line_has_rank_one():
    found = collapse_measures(gaussian(SEQUENCES, ROWS, 1) * gaussian(LATENT, seed=1))
    for name in ("rankme", "participation", "pooled/rankme"):
        assert found.numbers()[name] == pytest.approx(1, abs=1e-3)
    assert len(alarms := found.alarms()) == 1 and "effective rank is 1, below 3" in alarms[0]


def test_what_is_the_same_all_episode_long_alarms():
    once = gaussian(SEQUENCES, 1, LATENT)
    found = collapse_measures(once + 0.01 * gaussian(SEQUENCES, ROWS, LATENT, seed=1))
    assert found.within_ratio == pytest.approx(0.01, rel=0.1)
    assert len(alarms := found.alarms()) == 1 and "within an episode" in alarms[0]


def test_what_is_the_same_for_all_episodes_alarms_though_it_varies_when_pooled():
    found = collapse_measures(everywhere(gaussian(1, ROWS, LATENT)))
    assert found.numbers()["pooled/std"] > 0.5 and found.numbers()["std"] < 1e-6
    assert any("hardly vary" in alarm for alarm in found.alarms())


def test_ranks_are_of_few_rows_and_many_numbers_as_well():
    rows = gaussian(10, 2, 500)
    found = collapse_measures(rows).by_step["rankme"]
    values = np.linalg.svd(rows[:, 0] - rows[:, 0].mean(0), compute_uv=False)[:-1]
    share = values / values.sum()
    assert found[0] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)


def test_the_mean_cosine_is_that_of_all_pairs():
    rows = gaussian(6, 1, 3) + 1
    units = rows[:, 0] / np.linalg.norm(rows[:, 0], axis=1, keepdims=True)
    pairs = (units @ units.T)[np.triu_indices(6, 1)]
    assert collapse_measures(rows).by_step["cosine"][0] == pytest.approx(pairs.mean())


def test_a_latent_of_few_numbers_needs_no_rank_above_half_of_them():
    found = collapse_measures(gaussian(SEQUENCES, ROWS, 2))
    assert found.alarms() == []


def test_limits_are_what_is_asked_for():
    found = collapse_measures(gaussian(SEQUENCES, ROWS, LATENT))
    assert len(found.alarms(CollapseLimits(std=2, within_ratio=2))) == 2
    assert len(found.alarms(CollapseLimits(rankme=LATENT, participation=LATENT))) == 0


def test_a_world_of_two_numbers_needs_two_directions():
    flat = gaussian(SEQUENCES, ROWS, 2) @ np.linalg.qr(gaussian(LATENT, 2, seed=1))[0].T
    assert collapse_measures(flat).numbers()["rankme"] < 3
    assert collapse_measures(flat).alarms() == []
