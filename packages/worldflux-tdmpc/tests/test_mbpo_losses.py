"""The formulas of MBPO against straightforward computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

import worldflux
from worldflux.blocks import Standardiser
from worldflux_tdmpc.mbpo import losses


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softplus(x):
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def test_log_variances_are_bounded_softly_above_then_below():
    low, high = torch.tensor([-10.0, -1.0]), torch.tensor([0.5, 0.0])
    raw = torch.linspace(-30, 30, 61)[:, None].expand(-1, 2)
    got = losses.soft_bounded(raw, low, high).numpy()
    upper = high.numpy() - softplus(high.numpy() - raw.numpy())
    assert np.allclose(got, low.numpy() + softplus(upper - low.numpy()), atol=1e-5)
    assert (got[:, 0] > -10.0 - 1e-5).all()
    assert (got[:, 0] < 0.5 + 1e-3).all()  # the lower bound lifts by softplus(-10.5) at most
    assert got[30, 0] == pytest.approx(0.5 - softplus(np.float64(0.5)), abs=1e-3)


def test_the_ensembles_loss_is_the_papers_summed_over_networks():
    mean, log_variance, target = drawn(3, 5, 4), drawn(3, 5, 4, seed=1), drawn(5, 4, seed=2)
    got = losses.gaussian_nll(mean, log_variance, target, torch.ones(3, 5), torch.tensor(5.0))
    expected = 0.0
    for net in range(3):
        error = (mean[net] - target).numpy() ** 2 * np.exp(-log_variance[net].numpy())
        expected += error.mean() + log_variance[net].numpy().mean()
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_a_step_counts_as_often_as_the_bootstrap_drew_it():
    mean, log_variance, target = drawn(2, 3, 4), drawn(2, 3, 4, seed=1), drawn(3, 4, seed=2)
    weight = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
    got = losses.gaussian_nll(mean, log_variance, target, weight, torch.tensor(3.0))
    drawn_by = [[0, 0, 2], [1, 1, 1]]  # three draws with replacement, for each network
    expected = sum(
        losses.gaussian_nll(
            mean[net : net + 1, rows], log_variance[net : net + 1, rows], target[rows], torch.ones(1, 3),
            torch.tensor(3.0),
        )
        for net, rows in enumerate(drawn_by)
    )  # fmt: skip
    assert float(got) == pytest.approx(float(expected), rel=1e-5)


def test_each_layer_decays_by_its_own_rate():
    weights = [drawn(2, 3, 4), drawn(2, 4, 4, seed=1)]
    expected = 0.5 * 1e-2 * float((weights[0] ** 2).sum()) + 0.5 * 3e-2 * float((weights[1] ** 2).sum())
    assert float(losses.weight_decay(weights, (1e-2, 3e-2))) == pytest.approx(expected, rel=1e-5)


def test_the_bounds_are_pulled_together():
    model = worldflux.create_world_model("mbpo:ci", obs_shape=(2,), action_dim=1)
    own = model.dynamics_model
    with torch.no_grad():
        own.max_log_variance.copy_(torch.tensor([1.0, 2.0, 3.0]))
        own.min_log_variance.copy_(torch.tensor([-4.0, -5.0, -6.0]))
    state, rows = model.encode(torch.zeros(2, 2)), torch.ones(2)
    found, _ = own.losses(
        state, {}, torch.zeros(2, 3), bootstrap=torch.ones(4, 2), held_out=torch.zeros(2), weight=rows
    )
    assert float(found["bounds"].detach()) == pytest.approx(0.01 * (6.0 + 15.0))


def test_targets_ask_the_lower_critic_and_stop_only_at_ends():
    value, entropy = torch.tensor([[1.0, 5.0], [3.0, 2.0]]), torch.tensor([-0.5, 1.0])
    got = losses.td_target(
        torch.tensor([10.0, 20.0]), torch.tensor([0.0, 1.0]), value, entropy, alpha=torch.tensor(0.2), discount=0.9
    )
    assert got.tolist() == pytest.approx([10.0 + 0.9 * (1.0 - 0.2 * 0.5), 20.0])


def test_critics_are_held_to_one_target_and_steps_count_by_their_weight():
    value, target = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.0, 1.0])
    weight = torch.tensor([1.0, 3.0])
    expected = (1 * 0.5 * (1 + 9) + 3 * 0.5 * (1 + 9)) / 4
    assert float(losses.critic_loss(value, target, weight)) == pytest.approx(expected)


def test_the_actor_weighs_entropy_against_the_lower_critic():
    value, entropy = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([-0.5, 0.5])
    got = losses.actor_loss(value, entropy, torch.ones(2), alpha=torch.tensor(2.0))
    assert float(got) == pytest.approx(((2 * 0.5 - 1.0) + (2 * -0.5 - 0.0)) / 2)


@pytest.mark.parametrize(("entropy", "rises"), [(-3.0, True), (3.0, False)])
def test_the_temperature_rises_where_the_policy_has_too_little_entropy(entropy, rises):
    log_alpha = torch.zeros((), requires_grad=True)
    losses.temperature_loss(log_alpha, torch.full((4,), entropy), torch.ones(4), wanted=-1.0).backward()
    assert float(log_alpha.grad) == pytest.approx(entropy + 1.0)
    assert bool(log_alpha.grad < 0) == rises  # descent raises it


def test_the_policys_density_is_that_of_a_squashed_normal():
    actor = worldflux.create_world_model("mbpo:ci", obs_shape=(5,), action_dim=3).actor
    obs, noise = drawn(7, 5), drawn(7, 3, seed=1)
    action, entropy = actor.sample(obs, noise)
    raw = actor.net(obs)
    mean, std = raw[:, :3], raw[:, 3:].clamp(-20, 2).exp()
    reference = TransformedDistribution(Normal(mean, std), TanhTransform(cache_size=1))
    pre = mean + std * noise
    assert torch.allclose(action, torch.tanh(pre))
    assert torch.allclose(action, actor.act(obs, noise))
    assert torch.allclose(-entropy, reference.log_prob(reference.transforms[0](pre)).sum(-1), atol=1e-4)
    assert torch.allclose(actor.act(obs, None), torch.tanh(mean))


def test_the_density_is_exact_far_out():
    actor = worldflux.create_world_model("mbpo:ci", obs_shape=(1,), action_dim=1).actor
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.zero_()
        actor.net[-1].bias.copy_(torch.tensor([30.0, 0.0]))  # mean 30, deviation 1
    density = -actor.sample(torch.zeros(1, 1), torch.zeros(1, 1))[1].detach()
    # log N(0) - log(1 - tanh(30)^2), and 1 - tanh(x)^2 is 4 exp(-2x) there
    assert float(density) == pytest.approx(-0.5 * math.log(2 * math.pi) - math.log(4) + 60, rel=1e-5)


# --- standardisation ------------------------------------------------------------------------------------------------


def test_inputs_are_standardised_by_all_that_was_seen():
    standardise = Standardiser(3)
    batches = [5 + 2 * drawn(40, 3, seed=seed) * torch.tensor([1.0, 10.0, 0.0]) for seed in range(5)]
    for batch in batches:
        standardise.observe(batch, torch.ones(40))
    seen = torch.cat(batches)
    assert torch.allclose(standardise.mean, seen.mean(0), atol=1e-4)
    assert torch.allclose(standardise.variance, seen.var(0, unbiased=False), rtol=1e-4, atol=1e-5)
    got = standardise(seen)
    assert torch.allclose(got[:, :2].std(0, unbiased=False), torch.ones(2), atol=1e-4)
    assert torch.equal(got[:, 2], torch.zeros(200))  # what never varies is only shifted


def test_old_batches_are_forgotten_in_time():
    standardise = Standardiser(1)
    for level in (0.0, 8.0):
        for _ in range(10 * Standardiser.MEMORY):
            standardise.observe(torch.full((4, 1), level), torch.ones(4))
    assert float(standardise.mean) == pytest.approx(8.0, abs=1e-2)
    assert float(standardise.variance) == pytest.approx(0.0, abs=1e-2)


def test_rows_without_weight_are_not_seen():
    weighed, alone = Standardiser(2), Standardiser(2)
    rows = drawn(6, 2)
    weighed.observe(rows, torch.tensor([1.0, 1, 1, 0, 0, 0]))
    alone.observe(rows[:3], torch.ones(3))
    weighed.observe(rows, torch.zeros(6))  # nothing at all
    assert torch.allclose(weighed.mean, alone.mean, atol=1e-6)
    assert torch.allclose(weighed.variance, alone.variance, atol=1e-6)
    assert int(weighed.batches) == 1
