"""One update's losses: the ensemble's from real steps; actor's, critics' and temperature's from mostly imagined ones.

Letters: N real steps, E networks, K steps of a rollout, S rollouts, M = R + S K steps that actor and critics learn
from, R of them real, O observation, A action, D = 1 + O.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, ValidationError
from worldflux.core.state import State

from . import losses
from .dynamics import Dynamics

if TYPE_CHECKING:
    from .model import MBPO

_PRIME = 2_147_483_647


@dataclass
class Steps:
    """Steps of any episodes, each with the weight it counts by: ``obs``, ``next_obs [N, O]``, ``action [N, A]``."""

    obs: Tensor
    action: Tensor
    reward: Tensor  # [N]
    terminal: Tensor  # [N] float
    next_obs: Tensor
    weight: Tensor  # [N]


@dataclass
class Noise:
    """All randomness of one update."""

    bootstrap: Tensor  # [E, N]: how often each network sees each step
    order: Tensor  # [N]: the first R steps are learnt from as they are, rollouts begin at the next S
    member: Tensor  # [K, S]: which of the elites is asked
    outcome: Tensor  # [K, S, D]
    behaviour: Tensor  # [K, S, A]: the policy's, in the rollouts
    target: Tensor  # [M, A]: the policy's, where the steps arrive
    actor: Tensor  # [M, A]


Found = tuple[dict[str, Tensor], dict[str, Tensor]]  # losses, and what to log


def read_steps(batch: Batch, *, obs: Tensor, actions: Tensor) -> Steps:
    """Turn rows ``[B, T]`` (arrival: a row's reward is what got there) into steps; those that leave an episode weigh 0.

    Raises ValidationError for rows of one each.
    """
    if actions.shape[1] < 2:
        raise ValidationError(f"a training sequence needs at least 2 rows (one step), got {actions.shape[1]}")
    assert batch.rewards is not None and batch.is_terminal is not None  # the contract requires them
    weight = torch.ones_like(batch.rewards[:, 1:], dtype=torch.float32)
    if batch.is_first is not None:
        weight = weight * ~batch.is_first[:, 1:]
    if batch.mask is not None:
        weight = weight * batch.mask[:, 1:] * batch.mask[:, :-1]
    return Steps(
        obs=obs[:, :-1].flatten(0, 1),
        action=actions[:, :-1].flatten(0, 1),
        reward=batch.rewards[:, 1:].flatten().float(),
        terminal=batch.is_terminal[:, 1:].flatten().float(),
        next_obs=obs[:, 1:].flatten(0, 1),
        weight=weight.flatten(),
    )


def held_out(steps: Steps, share: float) -> Tensor:
    """1 for the steps that never train the ensemble, about ``share`` of all, ``[N]``.

    What a step is decides it, so it stays out whenever, and from whichever source, it comes back.
    """
    content = torch.cat([steps.obs, steps.action, steps.reward.unsqueeze(-1)], -1).detach().float().contiguous()
    bits = content.view(torch.int32).long() & 0xFFFFFFFF
    factors = torch.arange(1, bits.shape[-1] + 1, device=bits.device) * 40_503 % 1_048_573
    return (((bits * factors) % _PRIME).sum(-1) % _PRIME < share * _PRIME).float()


def counts(model: MBPO, steps: int, length: int) -> tuple[int, int]:
    """How many of N steps actor and critics see as they are (R), and how many rollouts fill up the rest (S)."""
    real = int(steps * model.config.real_ratio)
    return real, math.ceil((steps - real) / length)


def draw_noise(model: MBPO, steps: int, length: int, device: torch.device) -> Noise:
    """All randomness of one update on N steps, with rollouts of K, from the model's own generator."""
    config, generator = model.config, model.generator(device)
    real, starts = counts(model, steps, length)
    total = real + starts * length

    def actions(*shape: int) -> Tensor:
        return model.actor.noise(*shape, generator=generator, device=device)

    return Noise(
        bootstrap=torch.poisson(torch.ones(config.num_nets, steps, device=device), generator=generator),
        order=torch.randperm(steps, generator=generator, device=device),
        member=torch.randint(config.num_elites, (length, starts), generator=generator, device=device),
        outcome=torch.randn(length, starts, 1 + config.obs_size, generator=generator, device=device),
        behaviour=actions(length, starts),
        target=actions(total),
        actor=actions(total),
    )


# --- the world model --------------------------------------------------------------------------------------------------


def model_losses(model: MBPO, steps: Steps, bootstrap: Tensor) -> Found:
    """Losses of the ensemble and of what else predicts; in training, elites are chosen anew."""
    state = model.arrived(steps.obs)
    conditioned = model.action_conditioner.condition(state, steps.action)
    target = torch.cat([steps.reward.unsqueeze(-1), steps.next_obs - steps.obs], -1).detach()
    own = model.dynamics_model
    if isinstance(own, Dynamics):
        found, logged = _ensemble_losses(model, own, own.inputs(state, conditioned), target, steps, bootstrap)
    else:
        found, logged = {"model": _prediction_error(model, state, conditioned, target, steps.weight)}, {}
    if _learns(model.decoder):
        found["decoder"] = _decoder_error(model, steps)
    if _learns(model.termination):
        found["termination"] = _termination_loss(model, steps)
    return found, logged


def _ensemble_losses(
    model: MBPO, own: Dynamics, inputs: Tensor, target: Tensor, steps: Steps, bootstrap: Tensor
) -> Found:
    held = held_out(steps, model.config.holdout) * steps.weight
    train = steps.weight - held
    if model.training:
        own.standardise.observe(inputs.detach(), train)
    mean, log_variance = own.moments(inputs)
    nll = losses.gaussian_nll(mean, log_variance, target, bootstrap * train, train.sum().clamp(min=1.0))
    decay, apart = own.regularisation()
    error = (mean.detach() - target).square().mean(-1)
    if model.training:
        own.rank(error, held)
    logged = {
        "model_error": losses.averaged(error[own.elites].mean(0), held),
        "model_std": torch.exp(0.5 * log_variance.detach()).mean(),
    }
    return {"model": nll, "decay": decay, "bounds": model.config.bounds_coef * apart}, logged


def _learns(part: object) -> bool:
    return isinstance(part, nn.Module) and any(p.requires_grad for p in part.parameters())


def _prediction_error(
    model: MBPO, state: State, conditioned: dict[str, Tensor], target: Tensor, weight: Tensor
) -> Tensor:
    """For dynamics that are another's: squared errors of what they predict without noise."""
    ahead = model.predicted(state, conditioned, deterministic=True)
    outputs = torch.cat([ahead["reward"].unsqueeze(-1), ahead["obs"] - state["obs"]], -1)
    return losses.averaged((outputs - target).square().mean(-1), weight)


def _decoder_error(model: MBPO, steps: Steps) -> Tensor:
    """For a decoder that learns: squared errors of the rewards it reads in the states that were arrived in."""
    state = State({**model.arrived(steps.next_obs).tensors, "reward": steps.reward, "continue": 1 - steps.terminal})
    return losses.averaged((decoded(model, state)[0] - steps.reward).square(), steps.weight)


def _termination_loss(model: MBPO, steps: Steps) -> Tensor:
    part = model.termination
    given = (steps.obs.detach(), steps.action, steps.next_obs.detach())
    if model.training and hasattr(part, "observe"):
        part.observe(*given, steps.weight)
    if hasattr(part, "logits"):
        error = F.binary_cross_entropy_with_logits(part.logits(*given), steps.terminal, reduction="none")
    else:
        chance = model.ended(*given).clamp(1e-6, 1 - 1e-6)
        error = F.binary_cross_entropy(chance, steps.terminal, reduction="none")
    return losses.averaged(error, steps.weight)


# --- imagination ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def imagine(model: MBPO, obs: Tensor, weight: Tensor, noise: Noise) -> list[Steps]:
    """K steps of rollouts from ``obs [S, O]`` under the policy of now. After its episode's end a rollout weighs 0."""
    state, found = model.arrived(obs), []
    for behaviour, member, outcome in zip(noise.behaviour, noise.member, noise.outcome):
        seen = state["obs"]
        action = model.actor.act(seen, behaviour)
        conditioned = model.action_conditioner.condition(state, action)
        state = model.advance(state, action, {**conditioned, "member": member, "noise": outcome}, deterministic=False)
        reward, going_on = decoded(model, state)
        terminal = (going_on < 0.5).float()
        found.append(Steps(seen, action, reward, terminal, state["obs"], weight))
        weight = weight * (1 - terminal)
    return found


def decoded(model: MBPO, state: State) -> tuple[Tensor, Tensor]:
    """The reward and the chance to go on ``[N]`` that the decoder reads in states."""
    preds = model.decode(state).preds
    if missing := sorted({"reward", "continue"} - set(preds)):
        raise ConfigurationError(f"the decoder predicts {sorted(preds)}; training needs {missing}, too")
    return preds["reward"].reshape(-1), preds["continue"].reshape(-1)


def mixed(model: MBPO, steps: Steps, noise: Noise) -> Steps:
    """What actor and critics learn from: R real steps, then those of S rollouts that begin where others began."""
    real = len(noise.actor) - noise.member.numel()
    first, begun = noise.order[:real], noise.order[real : real + noise.member.shape[1]]
    parts = [Steps(*(value[first].detach() for value in vars(steps).values()))]
    if len(begun):
        parts += imagine(model, steps.obs[begun].detach(), steps.weight[begun], noise)
    return Steps(*(torch.cat(values) for values in zip(*(vars(part).values() for part in parts))))


# --- actor and critics ------------------------------------------------------------------------------------------------


def actor_critic_losses(model: MBPO, steps: Steps, noise: Noise) -> Found:
    """Soft actor-critic on M steps; each loss teaches one of critics, actor and temperature."""
    config, weight = model.config, steps.weight
    alpha = model.log_alpha.exp().detach()
    with torch.no_grad():
        action, density = model.actor.sample(steps.next_obs, noise.target)
        ahead = model.target_critics.values(steps.next_obs, action)
        target = losses.td_target(
            steps.reward, steps.terminal, ahead, density, alpha=alpha, discount=config.discount
        )  # fmt: skip
    value = model.critics.values(steps.obs, steps.action)
    action, density = model.actor.sample(steps.obs, noise.actor)
    judged = model.critics.values(steps.obs, action, detach=True)
    found = {
        "critic": losses.critic_loss(value, target, weight),
        "actor": losses.actor_loss(judged, density, weight, alpha=alpha),
        "temperature": losses.temperature_loss(model.log_alpha, density, weight, entropy=config.wanted_entropy),
    }
    logged = {
        "value": losses.averaged(value.detach().mean(0), weight),
        "entropy": -losses.averaged(density.detach(), weight),
        "alpha": alpha,
        "imagined_reward": losses.averaged(steps.reward, weight),
        "ended": losses.averaged(steps.terminal, weight),
    }
    return found, logged
