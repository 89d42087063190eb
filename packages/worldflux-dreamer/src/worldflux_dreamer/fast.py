"""The fast implementation of observing and imagining: the same numbers as ``objective``, fewer and larger kernels.

Everything that does not depend on the recurrence (tokens, actions, noise, the prior) is computed for all steps at
once; the recurrence itself is ``scan``. Imagination needs no gradients; it goes piece by piece through buffers that
stay in the processor's cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldflux.core.state import State

from .actor import ActionDistribution
from .decoder import Decoder
from .distributions import TwoHot, class_softmax
from .networks import rms_inverse
from .objective import Imagined, Noise, Trace
from .rollout import OpenLoop
from .rssm import ActionConditioner, Dynamics
from .scan import Scan, Weights, cut_weights, mix, pick, silu_norm
from .sequences import Sequence

if TYPE_CHECKING:
    from .model import DreamerV3

CHUNK = 512  # rows imagined together: enough for large products, few enough for the processor's cache


def applicable(model: DreamerV3) -> bool:
    """Whether the model's recurrent parts are its own and have the depth this file is written for."""
    config = model.config
    native = (
        type(model.dynamics_model) is Dynamics
        and type(model.action_conditioner) is ActionConditioner
        and type(model.decoder) is Decoder
        and type(model.rollout_executor) is OpenLoop
    )
    return native and not config.reference and config.dynamics_layers == config.posterior_layers == 1


def observe(model: DreamerV3, seq: Sequence, tokens: Tensor, noise: Tensor | None) -> Trace:
    """Follow the sequence, correcting each predicted state by what was seen."""
    config, dyn = model.config, model.dynamics_model
    keep = (~seq.is_first).float().unsqueeze(-1)
    action = model.action_conditioner.condition(seq.carry, seq.action * keep)["action"]
    action = action / action.detach().abs().clamp(min=1.0)
    with torch.autocast(tokens.device.type, enabled=False):
        weights, action_kernel, token_kernel = cut_weights(model)
        hidden = dyn.from_action(action.float()) @ action_kernel + weights.hidden_bias  # (B, T, D)
        seen = tokens.float() @ token_kernel + model.posterior.mlp[0].bias  # (B, T, H)
        by_time = [value.transpose(0, 1).contiguous() for value in (hidden, seen, keep)]
        uniform = None if noise is None else noise.transpose(0, 1)
        deter, stoch, post = Scan.apply(
            *by_time,
            uniform,
            seq.carry["deter"],
            seq.carry["stoch"].flatten(-2),
            config.unimix,
            config.classes,
            *weights,
        )
        deter = deter.transpose(0, 1)
        prior = dyn.prior(deter)
    latents = (config.stoch, config.classes)
    return Trace(
        deter, stoch.transpose(0, 1).unflatten(-1, latents), post.transpose(0, 1).unflatten(-1, latents), prior
    )


@torch.no_grad()
def imagine(model: DreamerV3, start: State, noise: Noise) -> list[Imagined]:
    """Let the actor act in imagination from states ``[N, ...]``."""
    count, device = start["deter"].shape[0], start["deter"].device
    with torch.autocast(device.type, enabled=False):
        weights, action_kernel, _ = cut_weights(model)
        heads = _Heads(model)
        chunk = CHUNK if device.type == "cpu" else count
        begins = range(0, count, chunk)
        return [
            _imagine(model, heads, weights, action_kernel, start, noise, slice(b, min(b + chunk, count)))
            for b in begins
        ]


def _imagine(
    model: DreamerV3, heads: _Heads, weights: Weights, action_kernel: Tensor, start: State, noise: Noise, rows: slice
) -> Imagined:
    """Imagination from some of the starts."""
    config, steps, count = model.config, model.config.imagination, rows.stop - rows.start
    size = config.deter_dim
    feat = start["deter"].new_empty(steps + 1, count, size + config.stoch_dim)
    feat[0, :, :size] = start["deter"][rows]
    feat[0, :, size:] = start["stoch"][rows].flatten(-2)
    action = feat.new_empty(steps, count, config.actions.dim)
    predictions = feat.new_empty(4, steps + 1, count)
    first = feat.new_empty(2, steps + 1, count, config.units)
    step = _Step(model, weights, action_kernel, count)
    for h in range(steps + 1):
        hidden = heads.hidden(feat[h], first[:, h])
        predictions[:, h] = heads.predict(hidden)
        if h < steps:
            action[h] = heads.act(hidden).sample(None if noise.action is None else noise.action[h, rows])
            uniform = None if noise.prior is None else noise.prior[h, rows]
            step(feat[h], action[h], uniform, feat[h + 1])
    reward, cont, value, slow = predictions
    return Imagined(feat, action, reward, cont, value, slow, first=(first[0], first[1]))


class _Heads:
    """Everything that is read off imagined features, the first layers of all of it in one product."""

    def __init__(self, model: DreamerV3) -> None:
        self.actor, decoder = model.actor, model.decoder
        self.critics = (model.critic, model.slow_critic, decoder.reward, decoder.cont)
        self.mlps = [self.actor.mlp, *(head.mlp for head in self.critics)]
        layers = [mlp[0] for mlp in self.mlps]
        self.kernel, self.bias = torch.cat([x.kernel for x in layers], 1), torch.cat([x.bias for x in layers])
        self.scale = torch.stack([x.scale for x in layers])

    def hidden(self, feat: Tensor, first: Tensor) -> list[Tensor]:
        """What each head's MLP makes of ``feat [N, F]``; those of actor and critic also to ``first``."""
        u = torch.addmm(self.bias, feat, self.kernel).unflatten(-1, self.scale.shape)
        first.copy_(u[:, :2].transpose(0, 1))
        hidden = list(silu_norm(u, rms_inverse(u), self.scale).unbind(1))
        for i, mlp in enumerate(self.mlps):
            for layer in (mlp[j] for j in range(1, len(mlp))):
                u = torch.addmm(layer.bias, hidden[i], layer.kernel)
                hidden[i] = silu_norm(u, rms_inverse(u), layer.scale)
        return hidden

    def act(self, hidden: list[Tensor]) -> ActionDistribution:
        """The actor's distribution."""
        return self.actor.distribution(hidden[0])

    def predict(self, hidden: list[Tensor]) -> Tensor:
        """Reward, continue, value and slow value ``[4, N]``."""
        outputs = [torch.addmm(head.out.bias, x, head.out.kernel) for head, x in zip(self.critics, hidden[1:])]
        value, slow, reward = (TwoHot(logits).pred() for logits in outputs[:3])
        return torch.stack([reward, torch.sigmoid(outputs[3][:, 0]), value, slow])


class _Step:
    """One step of dynamics and prior for ``rows`` states, in buffers that are used again at every step."""

    def __init__(self, model: DreamerV3, weights: Weights, action_kernel: Tensor, rows: int) -> None:
        self.dyn, self.conditioner, self.w, self.action_kernel = (
            model.dynamics_model, model.action_conditioner, weights, action_kernel,
        )  # fmt: skip
        blocks, size, _ = weights.hidden_deter.shape
        self.size, self.blocks = blocks * size, (blocks, size)
        empty = action_kernel.new_empty
        self.inputs = empty(rows, 2, action_kernel.shape[0])
        self.hidden, self.normed = empty(rows, self.size), empty(rows, self.size)
        self.mixed, self.gates = empty(blocks, rows, size), empty(blocks, rows, 3 * size)
        self.opened, self.candidate = empty(blocks, rows, 2, size), empty(blocks, rows, size)
        self.classes = torch.arange(model.config.classes, device=action_kernel.device)

    def __call__(self, feat: Tensor, action: Tensor, uniform: Tensor | None, out: Tensor) -> None:
        """Features ``[N, D + Z]`` and actions ``[N, A]`` to the next features ``out``."""
        w, dyn = self.w, self.dyn
        h, z, ahead = feat[:, : self.size], feat[:, self.size :], out[:, : self.size]
        action = self.conditioner.condition(State(), action)["action"]
        done = dyn.from_action(action / action.abs().clamp_(min=1.0))
        torch.addmm(w.from_deter_bias, h, w.from_deter, out=self.inputs[:, 0])
        torch.addmm(w.from_stoch_bias, z, w.from_stoch, out=self.inputs[:, 1])
        shared = silu_norm(self.inputs, rms_inverse(self.inputs), w.in_scale).flatten(-2)
        u = torch.addmm(w.hidden_bias, done, self.action_kernel, out=self.hidden).addmm_(shared, w.hidden_shared)
        by_block = h.unflatten(-1, self.blocks).transpose(0, 1)
        u.unflatten(-1, self.blocks).transpose(0, 1).add_(torch.bmm(by_block, w.hidden_deter, out=self.mixed))
        x = silu_norm(u, rms_inverse(u), w.hidden_scale, out=self.normed)
        torch.baddbmm(w.gru_bias, x.unflatten(-1, self.blocks).transpose(0, 1), w.gru, out=self.gates)
        gates = self.gates.unflatten(-1, (3, -1))
        mix(gates, by_block, ahead.unflatten(-1, self.blocks).transpose(0, 1), self.opened, self.candidate)
        probs = class_softmax(dyn.prior(ahead)).mul_(1 - dyn.unimix).add_(dyn.unimix / len(self.classes))
        pick(probs, uniform, self.classes, out[:, self.size :].unflatten(-1, (-1, len(self.classes))))
