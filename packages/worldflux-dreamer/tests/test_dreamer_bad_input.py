"""Input that DreamerV3 alone can judge is named, too."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux.core.batch import Batch
from worldflux.core.errors import ShapeMismatchError, ValidationError


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
