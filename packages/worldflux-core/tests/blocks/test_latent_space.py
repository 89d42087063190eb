import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from worldflux.blocks.latent_space import CategoricalLatentSpace, GaussianLatentSpace, SimNormLatentSpace
from worldflux.core.errors import ConfigurationError

SPACES = [GaussianLatentSpace(6), CategoricalLatentSpace(3, 4), SimNormLatentSpace(16, 4)]


@pytest.mark.parametrize("space", SPACES, ids=lambda s: type(s).__name__)
def test_a_distribution_is_at_no_distance_from_itself(space):
    params = torch.randn(5, space.param_dim)
    torch.testing.assert_close(space.kl_divergence(params, params), torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("space", SPACES, ids=lambda s: type(s).__name__)
def test_free_nats_are_a_floor(space):
    params = torch.randn(5, space.param_dim)
    assert (space.kl_divergence(params, params, free_nats=1.0) == 1.0).all()


@pytest.mark.parametrize("space", SPACES, ids=lambda s: type(s).__name__)
def test_deterministic_sampling_draws_nothing(space):
    params, before = torch.randn(5, space.param_dim), torch.get_rng_state()
    assert torch.equal(space.sample(params, deterministic=True), space.sample(params, deterministic=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("space", SPACES[:2], ids=lambda s: type(s).__name__)
def test_sampling_uses_the_given_generator_only(space):
    params, before = torch.randn(50, space.param_dim), torch.get_rng_state()
    draws = [space.sample(params, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_gaussian_kl_is_the_textbooks():
    space, p, q = GaussianLatentSpace(6), torch.randn(5, 12), torch.randn(5, 12)
    expected = kl_divergence(*(Independent(Normal(*space.moments(x)), 1) for x in (p, q)))
    torch.testing.assert_close(space.kl_divergence(p, q), expected)


def test_every_class_keeps_its_uniform_share():
    space = CategoricalLatentSpace(1, 4, unimix=0.01)
    assert space.probs(torch.tensor([[100.0, 0, 0, 0]])).min() >= 0.01 / 4


def test_categorical_samples_are_one_hot_with_straight_through_gradients():
    space, params = CategoricalLatentSpace(3, 4), torch.randn(5, 12, requires_grad=True)
    sample = space.sample(params)
    groups = sample.reshape(5, 3, 4)
    torch.testing.assert_close(groups.sum(-1), torch.ones(5, 3))
    weights = torch.randn(5, 12)
    (sample * weights).sum().backward()
    other = params.detach().clone().requires_grad_()
    (space.probs(other).flatten(-2) * weights).sum().backward()
    torch.testing.assert_close(params.grad, other.grad)


def test_simnorm_gives_simplices():
    sample = SimNormLatentSpace(16, 4).sample(torch.randn(5, 16))
    torch.testing.assert_close(sample.reshape(5, 4, 4).sum(-1), torch.ones(5, 4))


def test_simnorm_needs_whole_groups():
    with pytest.raises(ConfigurationError, match="divisible"):
        SimNormLatentSpace(10, 4)
