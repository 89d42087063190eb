"""Input that DreamerV3 alone can judge is named, too."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux import Batch, ShapeMismatchError, ValidationError


@pytest.fixture
def model():
    return worldflux.create_world_model("dreamer:ci", obs_shape=(5,), action_dim=2)


def test_an_update_refuses_observations_of_another_batch(model):
    state = model.encode(torch.zeros(3, 5))
    with pytest.raises(ShapeMismatchError, match="expected 3, got 2"):
        model.update(state, torch.zeros(3, 2), torch.zeros(2, 5))


def test_a_context_with_one_latent_only_is_refused(model):
    rows = {"obs": torch.zeros(2, 6, 5), "actions": torch.zeros(2, 6, 2), "rewards": torch.zeros(2, 6)}
    batch = Batch(**rows, is_terminal=torch.zeros(2, 6), context={"deter": torch.zeros(2, 6, 128)})
    with pytest.raises(ValidationError, match=r"lacks \['stoch'\]"):
        model.loss(batch)


def rows(obs: torch.Tensor, **more: torch.Tensor) -> Batch:
    flags = torch.zeros(obs.shape[:2], dtype=torch.bool)
    given = {"actions": torch.zeros(*obs.shape[:2], 2), "is_first": flags, "is_terminal": flags, **more}
    return Batch(obs={"obs": obs}, rewards=torch.zeros(obs.shape[:2]), **given)


def test_minus_infinity_is_what_was_not_seen_and_costs_nothing(model):
    obs = torch.randn(2, 6, 5)
    obs[0, 3, 1] = -torch.inf  # one number missing: the vector is
    zeros = obs.clone()
    zeros[0, 3] = 0.0
    losses = []
    for seen in (obs, zeros):
        model.seed(0)
        losses.append(model.loss(rows(seen)))
    assert torch.equal(losses[0].latents["deter"], losses[1].latents["deter"])
    assert float(losses[0].components["obs"]) < float(losses[1].components["obs"])
    losses[0].loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    policy = model.policy()
    action, _ = policy(obs[:, 3], policy.initial(2), is_first=torch.ones(2), explore=False)
    assert torch.isfinite(action).all()


@pytest.mark.parametrize("reference", [False, True])
def test_what_was_done_before_an_episode_is_forgotten_even_if_it_is_not_known(model, reference):
    model.config.reference = reference
    first, actions = torch.zeros(2, 6, dtype=torch.bool), torch.zeros(2, 6, 2)
    first[:, 3], actions[:, 2] = True, -torch.inf
    assert torch.isfinite(model.loss(rows(torch.randn(2, 6, 5), is_first=first, actions=actions)).loss)


def test_a_number_that_is_none_is_named_with_its_row(model):
    obs = torch.zeros(2, 6, 5)
    obs[1, 4, 2] = torch.nan
    with pytest.raises(ValidationError, match=r"'obs' is not finite at \[1, 4, 2\]"):
        model.loss(rows(obs))
    policy = model.policy()
    with pytest.raises(ValidationError, match=r"'obs' is not finite at \[1, 2\]"):
        policy(obs[:, 4], policy.initial(2), is_first=torch.ones(2), explore=False)
    planet = worldflux.create_world_model("planet:ci", obs_shape=(5,), action_dim=2)
    with pytest.raises(ValidationError, match="not finite"):  # nothing can be missing there
        planet.loss(rows(obs.nan_to_num().masked_fill(obs.isnan(), -torch.inf)))


def test_a_context_without_latents_starts_from_zeros(model):
    losses = []
    for context in (None, {}):
        model.seed(0)
        batch = rows(torch.ones(2, 6, 5))
        batch.context = context
        losses.append(model.loss(batch).loss)
    assert torch.equal(*losses)
