"""What DreamerV3 minimises: one scalar for world model, actor and critic, and what to log.

Letters: B sequences, T rows, N = B * T imagined starts, H imagined steps, L = H + 1 states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from worldflux.core.errors import ConfigurationError
from worldflux.core.state import State

from . import losses
from .decoder import Decoder, features, observation_loss
from .distributions import TwoHot, sample_latent, symlog
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


@dataclass
class Imagined:
    """Time-major features ``[L, N, F]`` and actions ``[H, N, A]``, without gradients."""

    feat: Tensor
    action: Tensor
    reward: Tensor  # [L, N]
    cont: Tensor  # [L, N]


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
    return torch.log(state["stoch"] * (1 - unimix) + max(unimix, 1e-6) / state["stoch"].shape[-1]) if logit is None else logit


@torch.no_grad()
def imagine(model: DreamerV3, start: State, noise: Noise) -> Imagined:
    """Let the actor act in imagination from states ``[N, ...]``. The plain implementation."""
    states, actions = [start], []
    for h in range(model.config.imagination):
        state = states[-1]
        action = model.actor(features(state["deter"], state["stoch"])).sample(None if noise.action is None else noise.action[h])
        states.append(model.imagine_step(state, action, None if noise.prior is None else noise.prior[h]))
        actions.append(action)
    stacked = State({name: torch.stack([s[name] for s in states]) for name in start.tensors})
    reward, cont = arrival(model, stacked)
    return Imagined(features(stacked["deter"], stacked["stoch"]), torch.stack(actions), reward, cont)


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
    if isinstance(model.decoder, Decoder):
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
    model: DreamerV3, seq: Sequence, trace: Trace, imagined: Imagined
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses policy ``[B, T]``, value ``[B, T]`` and repval ``[B, T-1]``, and metrics."""
    config, shape = model.config, seq.reward.shape
    value = TwoHot(model.critic(imagined.feat))
    with torch.no_grad():
        slow, own = TwoHot(model.slow_critic(imagined.feat)).pred(), value.pred()
        target = slow if config.slow_target else own
        returns, weight = losses.imagined_returns(
            rew=imagined.reward.T, con=imagined.cont.T, value=target.T,
            contdisc=config.discounted_continue, horizon=config.horizon, lam=config.return_lambda,
        )  # [N, H], [N, L] # fmt: skip
        if model.training:
            model.return_normalizer.update(returns)
        scale = model.return_normalizer.scale
        mean_weight, returns, weight = weight.mean(), returns.T, weight.T[:-1]  # [H, N] from here on
        advantage = (returns - target[:-1]) / scale
    dist = model.actor(imagined.feat[:-1])
    entropies = dist.entropies()
    policy = losses.policy_loss(
        log_prob=dist.log_prob(imagined.action), entropy=torch.stack(list(entropies.values())).sum(0),
        advantage=advantage, weight=weight, entropy_scale=config.entropy_scale,
    )  # fmt: skip
    critic = losses.value_loss(
        value[:-1], slow[:-1], returns=returns, weight=weight, slow_scale=config.slow_scale
    )
    found = {"policy": policy.mean(0).reshape(shape), "value": critic.mean(0).reshape(shape)}
    if shape[1] > 1:
        found["repval"] = replay_value_loss(model, seq, trace, boot=returns[0].reshape(shape))
    normed = (returns - model.return_normalizer.offset) / scale
    metrics = {
        "adv": advantage.mean(), "adv_std": advantage.std(unbiased=False), "adv_mag": advantage.abs().mean(),
        "rew": imagined.reward.mean(), "con": imagined.cont.mean(), "ret": normed.mean(), "val": own.mean(),
        "tar": returns.mean(), "weight": mean_weight, "slowval": slow.mean(),
        "ret_min": normed.min(), "ret_max": normed.max(), "ret_rate": (normed.abs() >= 1).float().mean(),
        **{f"ent/{name}": entropy.detach().mean() for name, entropy in entropies.items()},
    }  # fmt: skip
    return found, metrics


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
    return losses.value_loss(
        value[:, :-1], slow[:, :-1], returns=returns, weight=weight, slow_scale=config.slow_scale
    )
