"""The fast implementation of observing and imagining: the same numbers as ``objective``, fewer and larger kernels.

Everything that does not depend on the recurrence (tokens, actions, noise, the prior) is computed for all steps at
once; the recurrence itself is ``scan``. Imagination needs no gradients; it goes piece by piece through buffers that
stay in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from worldflux import State
from worldflux.blocks import KnownActions, class_softmax

from ..actor import ActionDistribution, Actor
from ..codec import Decoder
from ..distributions import TwoHot
from ..networks import Head, rms_inverse
from ..rssm import Dynamics, Imagined, Noise, Posterior, Trace
from .scan import Scan, Weights, cut_weights, mix, pick, silu_norm

CHUNK = 512  # rows imagined together: enough for large products, few enough for the processor's cache


def applicable(dynamics: Any, conditioner: Any, decoder: Any, posterior: Posterior) -> bool:
    """Whether parts are the family's own, and of the depth this file is written for."""
    native = type(dynamics) is Dynamics and type(conditioner) is KnownActions and type(decoder) is Decoder
    return native and len(dynamics.hidden) == len(posterior.mlp) == 1


def observe(
    dynamics: Dynamics,
    conditioner: KnownActions,
    posterior: Posterior,
    *,
    carry: State,
    action: Tensor,
    is_first: Tensor,
    tokens: Tensor,
    noise: Tensor | None,
) -> Trace:
    """Follow rows ``[B, T, ...]`` from the state ``carry``, correcting each predicted state by what was seen."""
    keep = (~is_first).float().unsqueeze(-1)
    action = conditioner.condition(carry, action.masked_fill(is_first.unsqueeze(-1), 0.0))["action"]
    action = action / action.detach().abs().clamp(min=1.0)
    latents = dynamics.latent_shape
    with torch.autocast(tokens.device.type, enabled=False):
        weights, action_kernel, token_kernel = cut_weights(dynamics, posterior)
        hidden = dynamics.from_action(action.float()) @ action_kernel + weights.hidden_bias  # (B, T, D)
        seen = tokens.float() @ token_kernel + posterior.mlp[0].bias  # (B, T, H)
        by_time = [value.transpose(0, 1).contiguous() for value in (hidden, seen, keep)]
        uniform = None if noise is None else noise.transpose(0, 1)
        start = carry["deter"], carry["stoch"].flatten(-2)
        found = Scan.apply(*by_time, uniform, *start, posterior.unimix, latents[1], *weights)
        deter, stoch, post = (value.transpose(0, 1) for value in found)
        prior = dynamics.prior(deter)
    return Trace(State({"deter": deter, "stoch": stoch.unflatten(-1, latents)}), post.unflatten(-1, latents), prior)


@torch.no_grad()
def imagine(
    dynamics: Dynamics,
    conditioner: KnownActions,
    posterior: Posterior,
    heads: Heads,
    *,
    start: State,
    steps: int,
    noise: Noise,
) -> list[Imagined]:
    """Let the actor act in imagination from states ``[N, ...]``, some of them at a time."""
    count, device = start["deter"].shape[0], start["deter"].device
    chunk = CHUNK if device.type == "cpu" else count
    with torch.autocast(device.type, enabled=False):
        weights, action_kernel, _ = cut_weights(dynamics, posterior)
        pieces = []
        for begin in range(0, count, chunk):
            rows = slice(begin, min(begin + chunk, count))
            step = _Step(dynamics, conditioner, weights, action_kernel, rows.stop - rows.start)
            pieces.append(_imagine(step, heads, start.map(lambda x, rows=rows: x[rows]), rows, steps, noise))  # type: ignore[misc]
    return pieces


def _imagine(step: _Step, heads: Heads, start: State, rows: slice, steps: int, noise: Noise) -> Imagined:
    """Imagination from the starts ``rows``."""
    count, size = start["deter"].shape
    z = start["stoch"].flatten(-2)
    feat = z.new_empty(steps + 1, count, size + z.shape[-1])
    feat[0, :, :size], feat[0, :, size:] = start["deter"], z
    action = feat.new_empty(steps, count, step.dynamics.action_dim)
    predictions = feat.new_empty(4, steps + 1, count)
    first = feat.new_empty(2, steps + 1, count, heads.scale.shape[-1])
    for h in range(steps + 1):
        hidden = heads.hidden(feat[h], first[:, h])
        predictions[:, h] = heads.predict(hidden)
        if h < steps:
            action[h] = heads.act(hidden).sample(None if noise.action is None else noise.action[h, rows])
            uniform = None if noise.prior is None else noise.prior[h, rows]
            step(feat[h], action[h], uniform, feat[h + 1])
    reward, cont, value, slow = predictions
    return Imagined(feat, action, reward, cont, value, slow, first=(first[0], first[1]))


class Heads:
    """Everything that is read off imagined features, the first layers of all of it in one product."""

    def __init__(self, actor: Actor, critic: Head, slow_critic: Head, decoder: Decoder) -> None:
        self.actor, self.critics = actor, (critic, slow_critic, decoder.reward, decoder.cont)
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

    def __init__(
        self, dynamics: Dynamics, conditioner: KnownActions, weights: Weights, action_kernel: Tensor, rows: int
    ) -> None:
        self.dynamics, self.conditioner, self.w, self.action_kernel = dynamics, conditioner, weights, action_kernel
        blocks, size, _ = weights.hidden_deter.shape
        self.size, self.blocks = blocks * size, (blocks, size)
        empty = action_kernel.new_empty
        self.inputs = empty(rows, 2, action_kernel.shape[0])
        self.hidden, self.normed = empty(rows, self.size), empty(rows, self.size)
        self.mixed, self.gates = empty(blocks, rows, size), empty(blocks, rows, 3 * size)
        self.opened, self.candidate = empty(blocks, rows, 2, size), empty(blocks, rows, size)
        self.classes = torch.arange(dynamics.latent_shape[1], device=action_kernel.device)

    def __call__(self, feat: Tensor, action: Tensor, uniform: Tensor | None, out: Tensor) -> None:
        """Features ``[N, D + Z]`` and actions ``[N, A]`` to the next features ``out``."""
        w, dyn = self.w, self.dynamics
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
