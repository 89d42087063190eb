"""One update's losses: the world model's from a window of experience, and the policy's from the latents it passed.

Letters: H steps (of T = H + 1 rows), B sequences, A action, D latent, E task embedding, Q critics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, ValidationError
from worldflux.core.state import State

from . import losses, twohot
from .config import TASK
from .dynamics import Decoder
from .encoder import draw_shift
from .prior import CategoricalPrior, GaussianPrior

if TYPE_CHECKING:
    from .model import TDMPC2

Prior = GaussianPrior | CategoricalPrior


@dataclass
class Window:
    """Time-major rows: ``obs [T, B, ...]``, and for each step the action done, what it paid and whether it ended."""

    obs: dict[str, Tensor]
    action: Tensor  # [H, B, A]
    reward: Tensor  # [H, B]
    terminal: Tensor  # [H, B] float
    valid: Tensor | None  # [H, B] float; None where every step counts
    task: Tensor | None = None  # [B]


@dataclass
class Noise:
    """All randomness of one update: the policy's draws, the two critics asked, the shifts of images, dropout."""

    target_action: Tensor  # [H, B, A], at the rows arrived in
    target_heads: Tensor  # [2]
    policy_action: Tensor  # [T, B, A]
    policy_heads: Tensor  # [2]
    shift: Tensor | None = None  # [T, B, 2]
    value_keep: Tensor | None = None  # [Q, H, B, units]
    policy_keep: Tensor | None = None  # [2, T, B, units]


@dataclass
class PolicyInputs:
    """What the policy's loss needs: latents ``[T, B, D]`` without gradients, and their draws."""

    latents: Tensor
    task: Tensor | None
    valid: Tensor | None  # [T, B]
    noise: Noise


@dataclass
class Found:
    """The world model's scaled sum, its parts, what to log, and what the policy will learn from."""

    total: Tensor
    components: dict[str, Tensor]
    policy: PolicyInputs
    metrics: dict[str, Tensor]


def read_window(batch: Batch, *, obs: dict[str, Tensor], actions: Tensor) -> Window:
    """Turn rows (arrival: a row's reward is what got there) into steps; those that leave an episode do not count.

    Raises ValidationError for a batch of one row or without rewards.
    """
    size, rows = actions.shape[:2]
    if rows < 2:
        raise ValidationError(f"a training sequence needs at least 2 rows (one step), got {rows}")
    if batch.rewards is None:
        raise ValidationError("the batch has no rewards")
    terminal = batch.rewards.new_zeros(size, rows) if batch.is_terminal is None else batch.is_terminal
    task = obs[TASK][:, 0].long() if TASK in obs else None
    return Window(
        obs={name: value.transpose(0, 1) for name, value in obs.items() if name != TASK},
        action=actions[:, :-1].transpose(0, 1),
        reward=batch.rewards[:, 1:].T.float(),
        terminal=terminal[:, 1:].T.float(),
        valid=_valid(batch),
        task=task,
    )


def _valid(batch: Batch) -> Tensor | None:
    """1 for each step up to the first row of another episode, as far as both rows are unmasked, ``[H, B]``."""
    valid = None
    if batch.is_first is not None:
        valid = 1.0 - batch.is_first[:, 1:].float().cummax(1).values
    if batch.mask is not None:
        mask = batch.mask[:, 1:].float() * batch.mask[:, :-1].float()
        valid = mask if valid is None else valid * mask
    return None if valid is None else valid.T


def draw_noise(model: TDMPC2, window: Window) -> Noise:
    """All randomness of one update from the model's own generator."""
    steps, size = window.reward.shape
    device = window.reward.device
    generator, prior, rate = model.generator(device), model.prior, model.config.dropout if model.training else 0.0

    def keep(*shape: int) -> Tensor | None:
        if not rate:
            return None
        drawn = torch.rand(*shape, size, model.critics.units, generator=generator, device=device)
        return drawn.ge_(rate).div_(1 - rate)

    shift = None
    if model.config.image_names:
        shift = draw_shift(steps + 1, size, generator=generator, device=device)
    return Noise(
        target_action=prior.noise(steps, size, generator=generator, device=device),
        target_heads=model.draw_heads(generator, device),
        policy_action=prior.noise(steps + 1, size, generator=generator, device=device),
        policy_heads=model.draw_heads(generator, device),
        shift=shift,
        value_keep=keep(model.config.num_q, steps),
        policy_keep=keep(2, steps + 1),
    )


def world_model_losses(model: TDMPC2, window: Window, noise: Noise) -> Found:
    """Follow the window from its first row, and compare with what was seen and paid."""
    config, steps = model.config, window.reward.shape[0]
    seen, target = targets(model, window, noise)
    embedding = model.embed(window.task)
    first = {name: value[0] for name, value in window.obs.items()}
    states = [model.start(first, window.task, None if noise.shift is None else noise.shift[0])]
    for action in window.action:
        conditioned = model.conditioned(states[-1], model.action_conditioner.condition(states[-1], action))
        states.append(model.advance(states[-1], conditioned))
    latents = torch.stack([state["latent"] for state in states])
    x = joined(latents[:-1], embedding, window.action)
    logits = model.critics(x, keep=noise.value_keep)
    weight = losses.step_weight(steps, rho=config.rho, valid=window.valid, device=x.device)
    found = {
        "consistency": losses.consistency_loss(latents[1:], seen, weight),
        "value": losses.value_loss(logits, target, weight, limit=config.vmax),
        **_arrival_losses(model, states[1:], window, weight),
    }
    scales = {
        "consistency": config.consistency_coef, "reward": config.reward_coef, "value": config.value_coef,
        "termination": config.termination_coef,
    }  # fmt: skip
    valid = window.valid
    if valid is not None:  # the first latent is always one of the episode's
        valid = torch.cat([torch.ones_like(valid[:1]), valid])
    return Found(
        torch.stack([scales[name] * value for name, value in found.items()]).sum(),
        found,
        PolicyInputs(latents.detach(), window.task, valid, noise),
        {"target": target.mean(), "target_max": target.max()},
    )


@torch.no_grad()
def targets(model: TDMPC2, window: Window, noise: Noise) -> tuple[Tensor, Tensor]:
    """The latents ``[H, B, D]`` of the rows arrived in, and the TD targets ``[H, B]`` of the steps that led there."""
    later = {name: value[1:] for name, value in window.obs.items()}
    seen = model.latent(later, window.task, None if noise.shift is None else noise.shift[1:])
    embedding = model.embed(window.task)
    action = model.prior.act(joined(seen, embedding), noise.target_action, model.mask_of(window.task))
    logits = model.two_heads(model.target_critics, joined(seen, embedding, action), noise.target_heads)
    value = twohot.decode(logits, limit=model.config.vmax).amin(0)
    return seen, losses.td_target(window.reward, window.terminal, value, model.discount_of(window.task))


def _arrival_losses(model: TDMPC2, states: list[State], window: Window, weight: Tensor) -> dict[str, Tensor]:
    """Losses of what the states arrived in predict: the reward and, of episodic models, the end."""
    decoder, limit = model.decoder, model.config.vmax
    if type(decoder) is not Decoder:
        return _foreign_decoder_losses(model, states, window, weight)
    logits = torch.stack([state["reward_logits"] for state in states])
    found = {"reward": losses.reward_loss(logits, window.reward, weight, limit=limit)}
    if decoder.termination is not None:
        ends = decoder.termination(torch.stack([state["latent"] for state in states])).squeeze(-1).float()
        found["termination"] = losses.termination_loss(ends, window.terminal, _even(window))
    return found


def _even(window: Window) -> Tensor:
    """The weight of losses in which no step counts more than another."""
    return torch.ones_like(window.reward) if window.valid is None else window.valid


def _foreign_decoder_losses(model: TDMPC2, states: list[State], window: Window, weight: Tensor) -> dict[str, Tensor]:
    """The same for a decoder that only predicts: squared symlog errors of rewards, cross entropy of ``continue``."""
    decoded = [model.decode(state).preds for state in states]
    wanted = {"reward", "continue"} if model.config.episodic else {"reward"}
    if missing := sorted(wanted - set(decoded[0])):
        raise ConfigurationError(f"the decoder predicts {sorted(decoded[0])}; training needs {missing}, too")
    paid = torch.stack([preds["reward"].reshape(-1) for preds in decoded])
    found = {"reward": ((twohot.symlog(paid) - twohot.symlog(window.reward)).square() * weight).mean()}
    if model.config.episodic:
        going_on = torch.stack([preds["continue"].reshape(-1) for preds in decoded]).clamp(1e-6, 1 - 1e-6)
        error = F.binary_cross_entropy(going_on, 1 - window.terminal, reduction="none")
        found["termination"] = (error * _even(window)).mean()
    return found


def policy_losses(
    model: TDMPC2, inputs: PolicyInputs, *, embedding: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The policy's loss and what to log. Only the policy learns from it, unless ``embedding [B, E]`` has a gradient."""
    config, noise, latents = model.config, inputs.noise, inputs.latents
    if embedding is None and (own := model.embed(inputs.task)) is not None:
        embedding = own.detach()
    x = joined(latents, embedding)
    action, entropy = model.prior.sample(x, noise.policy_action, model.mask_of(inputs.task))
    x = joined(latents, embedding, action)
    logits = model.two_heads(model.critics, x, noise.policy_heads, detach=True, keep=noise.policy_keep)
    value = twohot.decode(logits, limit=config.vmax).mean(0)
    if model.training:
        model.value_scale.update(value[0])
    scale = model.value_scale.value
    weight = losses.step_weight(len(latents), rho=config.rho, valid=inputs.valid, device=x.device)
    loss = losses.policy_loss(value / scale, entropy, weight, entropy_coef=config.entropy_coef)
    return loss, {"entropy": entropy.detach().mean(), "scale": scale.clone()}


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, compiled for each model and each shape it is called with."""
    return torch.compile(function, dynamic=False)


def joined(latent: Tensor, embedding: Tensor | None, *more: Tensor) -> Tensor:
    """Latents ``[..., B, D]``, their tasks' embeddings ``[B, E]`` and what else there is, along the last axis."""
    if embedding is None:
        return torch.cat([latent, *more], -1) if more else latent
    return torch.cat([latent, embedding.expand(*latent.shape[:-1], -1), *more], -1)
