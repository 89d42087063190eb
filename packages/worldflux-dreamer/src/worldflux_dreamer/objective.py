"""What DreamerV3 minimises: one scalar for world model, actor and critic, and what to log.

Letters: B sequences, T rows, N = B * T imagined starts, H imagined steps, L = H + 1 states.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError
from worldflux.core.state import State

from . import losses
from .decoder import Decoder, features, observation_loss
from .distributions import TwoHot, sample_latent, symlog
from .piecewise import known_first_layer, piecewise
from .rollout import arrival
from .sequences import Sequence

if TYPE_CHECKING:
    from .model import DreamerV3


@dataclass
class Noise:
    """All randomness of one loss; None takes the mode instead.

    ``posterior [B, T, S]`` and ``prior [H, N, S]`` are uniform, ``action [H, N, K]`` is what ``Actor.noise`` gives.
    """

    posterior: Tensor | None = None
    action: Tensor | None = None
    prior: Tensor | None = None


@dataclass
class Trace:
    """Observed states ``[B, T, ...]`` with the raw logits of posterior and prior ``[B, T, S, C]``."""

    deter: Tensor
    stoch: Tensor
    post: Tensor
    prior: Tensor

    @property
    def state(self) -> State:
        return State({"deter": self.deter, "stoch": self.stoch})

    def last(self, rows: int) -> Trace:
        """The last ``rows`` rows."""
        return Trace(*(value[:, -rows:] for value in (self.deter, self.stoch, self.post, self.prior)))


@dataclass
class Imagined:
    """Time-major features ``[L, n, F]``, actions ``[H, n, A]`` and predictions ``[L, n]`` from n starts; no gradients.

    ``first`` holds what the first layers of actor and critic ``[L, n, U]`` make of the features, if that is known.
    """

    feat: Tensor
    action: Tensor
    reward: Tensor
    cont: Tensor
    value: Tensor
    slow: Tensor
    first: tuple[Tensor, Tensor] | None = None


def observe(model: DreamerV3, seq: Sequence, tokens: Tensor, noise: Tensor | None) -> Trace:
    """Follow the sequence, correcting each predicted state by what was seen. The plain implementation."""
    state, trace = seq.carry, []
    for t in range(tokens.shape[1]):
        keep = (~seq.is_first[:, t]).float()
        state = State({n: value * keep.reshape(-1, *[1] * (value.ndim - 1)) for n, value in state.tensors.items()})
        conditioned = model.action_conditioner.condition(state, seq.action[:, t] * keep[:, None])
        ahead = model.dynamics_model.transition(state, conditioned, deterministic=True)
        post = model.posterior(ahead["deter"], tokens[:, t])
        stoch = sample_latent(post, model.config.unimix, None if noise is None else noise[:, t])
        trace.append((ahead["deter"], stoch, post, prior_logits(ahead, model.config.unimix)))
        state = State({"deter": ahead["deter"], "stoch": stoch})
    return Trace(*(torch.stack(series, 1) for series in zip(*trace)))


def prior_logits(state: State, unimix: float) -> Tensor:
    """The prior's logits ``[..., S, C]``; of dynamics that give none, those of a certain prediction."""
    logit = state.get("logit")
    return (
        torch.log(state["stoch"] * (1 - unimix) + max(unimix, 1e-6) / state["stoch"].shape[-1])
        if logit is None
        else logit
    )


@torch.no_grad()
def imagine(model: DreamerV3, start: State, noise: Noise) -> list[Imagined]:
    """Let the actor act in imagination from states ``[N, ...]``. The plain implementation: all starts in one piece."""
    states, actions = [start], []
    for h in range(model.config.imagination):
        state = states[-1]
        action = model.actor(features(state["deter"], state["stoch"])).sample(
            None if noise.action is None else noise.action[h]
        )
        states.append(model.imagine_step(state, action, None if noise.prior is None else noise.prior[h]))
        actions.append(action)
    stacked = State({name: torch.stack([s[name] for s in states]) for name in start.tensors})
    feat = features(stacked["deter"], stacked["stoch"])
    value, slow = (TwoHot(critic(feat)).pred() for critic in (model.critic, model.slow_critic))
    return [Imagined(feat, torch.stack(actions), *arrival(model, stacked), value, slow)]


def world_model_losses(model: DreamerV3, seq: Sequence, trace: Trace) -> dict[str, Tensor]:
    """Losses ``[B, T]``: dyn, rep, rew, con and one for each observation."""
    config = model.config
    found: dict[str, Tensor] = {}
    found["dyn"], found["rep"] = losses.kl_losses(
        trace.post, trace.prior, unimix=config.unimix, free_nats=config.free_nats
    )
    going_on = (~seq.is_terminal).float()
    if config.discounted_continue:
        going_on = going_on * config.discount
    targets = {**seq.obs, "reward": seq.reward, "continue": going_on}
    if type(model.decoder) is Decoder:
        return found | model.decoder.losses(trace.state, targets)
    return found | _foreign_decoder_losses(model, trace.state, targets)


def _foreign_decoder_losses(model: DreamerV3, state: State, targets: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same losses for a decoder that only predicts: squared symlog errors, and cross entropy of ``continue``."""
    lead = state["deter"].shape[:2]
    flat = State({name: value.flatten(0, 1) for name, value in state.tensors.items()})
    preds = {name: value.unflatten(0, lead) for name, value in model.decode(flat).preds.items()}
    missing = sorted(set(targets) - set(preds))
    if missing:
        raise ConfigurationError(f"the decoder predicts {sorted(preds)}; training needs {missing}, too")
    found = {}
    for name, spec in model.config.modalities.items():
        image = name in model.config.image_names
        mean = preds[name] if image else symlog(preds[name])
        found[name] = observation_loss(mean, targets[name], image=image, rank=len(spec.shape))
    found["rew"] = (symlog(preds["reward"].reshape(lead)) - symlog(targets["reward"])).square()
    found["con"] = torch.nn.functional.binary_cross_entropy(
        preds["continue"].reshape(lead).clamp(1e-6, 1 - 1e-6), targets["continue"], reduction="none"
    )
    return found


def actor_critic_losses(
    model: DreamerV3, seq: Sequence, trace: Trace, pieces: list[Imagined]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Scalar losses policy, value and repval, and metrics; imagination started from every row of ``seq``."""
    config, shape = model.config, seq.reward.shape
    with torch.no_grad():
        reward, cont, own, slow = (
            torch.cat([getattr(piece, name) for piece in pieces], 1) for name in ("reward", "cont", "value", "slow")
        )
        target = slow if config.slow_target else own
        returns, weight = losses.imagined_returns(
            rew=reward.T, con=cont.T, value=target.T,
            contdisc=config.discounted_continue, horizon=config.horizon, lam=config.return_lambda,
        )  # [N, H], [N, L] # fmt: skip
        if model.training:
            model.return_normalizer.update(returns)
        scale = model.return_normalizer.scale
        mean_weight, returns, weight = weight.mean(), returns.T, weight.T[:-1]  # [H, N] from here on
        advantage = (returns - target[:-1]) / scale
        share = weight / weight.numel()  # of each imagined state in the mean
        if seq.weight is not None:
            share = share * seq.weight.flatten()
    policy, value, entropies = imagined_losses(model, pieces, returns=returns, advantage=advantage, share=share)
    found = {"policy": policy, "value": value}
    if shape[1] > 1:
        repval = replay_value_loss(model, seq, trace, boot=returns[0].reshape(shape))
        found["repval"] = (repval if seq.weight is None else repval * seq.weight[:, :-1]).mean()
    normed = (returns - model.return_normalizer.offset) / scale
    metrics = {
        "adv": advantage.mean(), "adv_std": advantage.std(unbiased=False), "adv_mag": advantage.abs().mean(),
        "rew": reward.mean(), "con": cont.mean(), "ret": normed.mean(), "val": own.mean(), "slowval": slow.mean(),
        "tar": returns.mean(), "weight": mean_weight,
        "ret_min": normed.min(), "ret_max": normed.max(), "ret_rate": (normed.abs() >= 1).float().mean(), **entropies,
    }  # fmt: skip
    return found, metrics


def imagined_losses(
    model: DreamerV3, pieces: list[Imagined], *, returns: Tensor, advantage: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Policy and value loss, sums over ``[H, N]`` by ``share``, and the mean entropy of each part of the action.

    Nothing here depends on the rest of the model, so the sums are taken, and differentiated, piece by piece: no
    temporary outgrows the processor's cache or strains the device's memory.
    """
    config, logged = model.config, dict[str, Tensor]()

    def policy(piece: Imagined, at: slice) -> Tensor:
        known = None if piece.first is None else piece.first[0][:-1].flatten(0, 1)
        dist = model.actor.distribution(known_first_layer(model.actor.mlp, piece.feat[:-1].flatten(0, 1), known))
        entropies = dist.entropies()
        for name, value in entropies.items():
            logged[f"ent/{name}"] = logged.get(f"ent/{name}", 0.0) + value.detach().sum() / returns.numel()
        return losses.policy_loss(
            log_prob=dist.log_prob(piece.action.flatten(0, 1)), entropy=torch.stack(list(entropies.values())).sum(0),
            advantage=advantage[:, at].flatten(), weight=share[:, at].flatten(), entropy_scale=config.entropy_scale,
        ).sum()  # fmt: skip

    def value(piece: Imagined, at: slice) -> Tensor:
        known = None if piece.first is None else piece.first[1][:-1].flatten(0, 1)
        logits = model.critic.out(known_first_layer(model.critic.mlp, piece.feat[:-1].flatten(0, 1), known))
        return losses.value_loss(
            TwoHot(logits), piece.slow[:-1].flatten(), returns=returns[:, at].flatten(),
            weight=share[:, at].flatten(), slow_scale=config.slow_scale,
        ).sum()  # fmt: skip

    begins = [0, *accumulate(piece.feat.shape[1] for piece in pieces)]
    parts = [(piece, slice(begin, end)) for piece, begin, end in zip(pieces, begins, begins[1:])]
    actor_loss = piecewise(policy, parts, model.actor.parameters())
    return actor_loss, piecewise(value, parts, model.critic.parameters()), logged


def replay_value_loss(model: DreamerV3, seq: Sequence, trace: Trace, boot: Tensor) -> Tensor:
    """Critic loss ``[B, T-1]`` on replayed states; its gradient reaches the world model."""
    config = model.config
    feat = features(trace.deter, trace.stoch)
    value = TwoHot(model.critic(feat))
    with torch.no_grad():
        slow = TwoHot(model.slow_critic(feat)).pred()
        returns = losses.replay_returns(
            last=seq.is_last, term=seq.is_terminal, rew=seq.reward, boot=boot,
            horizon=config.horizon, lam=config.return_lambda,
        )  # fmt: skip
        weight = (~seq.is_last[:, :-1]).float()
    return losses.value_loss(value[:, :-1], slow[:, :-1], returns=returns, weight=weight, slow_scale=config.slow_scale)
