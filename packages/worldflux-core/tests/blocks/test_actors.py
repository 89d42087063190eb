from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from worldflux.blocks import CategoricalActor, SquashedNormal, log_slope

X = torch.tensor([[0.3, -0.4, 0.2, -1.0], [1.0, 0.1, -0.5, 0.4]])  # what the net gives: two means, two raw spreads


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def squashed(**options) -> SquashedNormal:
    return SquashedNormal(nn.Identity(), 2, **{"low": -5.0, "high": 2.0, **options})


def test_the_entropy_of_a_sample_is_minus_the_log_density_of_the_squashed_action():
    actor = squashed()
    noise = actor.noise(2, generator=generator(), device=torch.device("cpu"))
    action, entropy = actor.sample(X, noise)
    known = TransformedDistribution(Normal(X[:, :2], X[:, 2:].exp()), TanhTransform())
    torch.testing.assert_close(entropy, -Independent(known, 1).log_prob(action), rtol=1e-4, atol=1e-4)


def test_the_density_before_squashing_is_the_normal_one():
    noise = torch.tensor([[0.5, -2.0], [1.0, 0.0]])
    raw, density = squashed().draw(X, noise)
    torch.testing.assert_close(density, Normal(X[:, :2], X[:, 2:].exp()).log_prob(raw))


def test_acting_and_sampling_give_the_same_action():
    actor, noise = squashed(smooth=True), torch.tensor([[0.5, -2.0], [1.0, 0.0]])
    assert torch.equal(actor.act(X, noise), actor.sample(X, noise)[0])


def test_without_noise_the_squashed_mean_is_done():
    assert torch.equal(squashed().act(X, None), torch.tanh(X[:, :2]))
    assert torch.equal(squashed().sample(X, None)[0], torch.tanh(X[:, :2]))


@pytest.mark.parametrize(("smooth", "middle"), [(False, 0.0), (True, -1.5)])
def test_log_deviations_stay_in_their_range(smooth, middle):
    actor = squashed(smooth=smooth)
    log_std = actor.moments(torch.tensor([[0.0, -99.0], [0.0, 0.0], [0.0, 99.0]]))[1]
    assert log_std.squeeze(-1).tolist() == [-5.0, middle, 2.0]


def test_what_is_masked_is_not_done_and_says_nothing_of_the_entropy():
    mask, noise = torch.tensor([1.0, 0.0]), torch.ones(2, 2)
    action, entropy = squashed().sample(X, noise, mask)
    assert torch.equal(action[:, 1], torch.zeros(2))
    alone = SquashedNormal(nn.Identity(), 1, low=-5.0, high=2.0).sample(X[:, ::2], noise[:, :1])
    torch.testing.assert_close((action[:, :1], entropy), alone)


def test_the_slope_is_exact_where_tanh_is_one_already():
    torch.testing.assert_close(log_slope(torch.tensor([0.0, 1.0])), torch.tensor([0.0, -0.8675617]))
    torch.testing.assert_close(log_slope(torch.tensor([50.0, -50.0])), torch.tensor([-98.6137056] * 2))  # 2 (ln 2 - 50)


def test_gumbel_noise_draws_classes_by_their_probabilities():
    actor, probs = CategoricalActor(nn.Identity(), 3), torch.tensor([0.2, 0.5, 0.3])
    noise = actor.noise(20_000, generator=generator(), device=torch.device("cpu"))
    drawn = actor.act(probs.log().expand(20_000, 3), noise)
    torch.testing.assert_close(drawn.mean(0), probs, atol=0.01, rtol=0.0)


def test_without_noise_the_likeliest_class_is_taken_and_gradients_pass():
    logits = torch.tensor([[0.0, 2.0, 1.0]], requires_grad=True)
    action = CategoricalActor(nn.Identity(), 3).act(logits, None)
    torch.testing.assert_close(action, torch.tensor([[0.0, 1.0, 0.0]]))
    action[0, 1].backward()
    assert float(logits.grad[0, 1]) > 0


def test_the_entropy_of_classes_is_exact_and_a_masked_class_is_never_taken():
    actor = CategoricalActor(nn.Identity(), 3)
    action, entropy = actor.sample(torch.zeros(1, 3), torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([0.0, 1.0, 1.0]))
    torch.testing.assert_close(entropy, torch.tensor([2.0]).log())
    assert float(action[0, 0]) == 0.0
