"""Who acts in a run: the model's own policy, a planner that searches the model, or chance."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.model import WorldModel
from worldflux.core.policy import Policy
from worldflux.core.spec import Capability
from worldflux.envs import RandomPolicy
from worldflux.planners import PLANNERS, PlannerPolicy, make_planner

logger = logging.getLogger(__name__)

POLICIES = ("own", "random", *(name for name in PLANNERS if name != "random"))


def acts_alone(model: WorldModel) -> bool:
    """Tell whether a model has a policy of its own; one may have the method only to say what it needs to plan."""
    return type(model).policy is not WorldModel.policy and model.supports(Capability.POLICY)


def choose_policy(model: WorldModel, asked: str | None) -> str:
    """Return who acts: who is asked for, else the model's own policy, or chance where it has none.

    Raises:
        ConfigurationError: there is no such policy.
    """
    if asked is None:
        if acts_alone(model):
            return "own"
        rewarded = model.supports(Capability.REWARD_PRED)
        logger.warning(
            "%s has no policy of its own, so actions are drawn at random; %s plans with it",
            type(model).__name__,
            "policy='cem' (--policy cem)" if rewarded else "worldflux plan RUN --goal ...",
        )
        return "random"
    if asked not in POLICIES:
        raise ConfigurationError(
            f"unknown policy {asked!r}, expected one of {list(POLICIES)}.{did_you_mean(asked, POLICIES)}"
        )
    return asked


def make_policy(
    model: WorldModel, name: str, *, options: Mapping[str, Any] = MappingProxyType({}), seed: int | None = None
) -> Policy:
    """Return the policy called ``name``; with a seed its randomness is its own, so that the same seed acts the same.

    ``options`` are a planner's.

    Raises:
        CapabilityError: the model has no policy of its own. ConfigurationError: it cannot be planned with, or there is
            no such option.
    """
    if options and name not in POLICIES[2:]:
        raise ConfigurationError(
            f"policy_options are a planner's, but the policy is {name!r}; the planners are {list(POLICIES[2:])}"
        )
    device = next(model.parameters()).device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    if name == "own":
        return model.policy() if generator is None else model.policy(generator=generator)
    if name == "random":
        return RandomPolicy(model.io_contract().action_spec, seed=seed or 0)
    return PlannerPolicy(model, make_planner(name, **options), generator=generator)
