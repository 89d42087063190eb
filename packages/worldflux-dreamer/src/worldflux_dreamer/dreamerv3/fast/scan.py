"""The recurrence of DreamerV3 as one autograd function, and its weights as it wants them.

The backward loop computes input gradients only; after it, each weight takes its gradient from one product over all
T * B rows.

Letters: D deter, H hidden, g blocks, k = D / g, S latents of C classes, Z = S * C.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from worldflux.blocks import class_softmax

from ..distributions import draw
from ..networks import NormedBlockLinear, rms_inverse, rms_silu_backward
from ..rssm import Dynamics, Posterior


class Weights(NamedTuple):
    """The recurrence's weights, cut where its inputs come from different places."""

    from_deter: Tensor  # [D, H], its bias and norm scale
    from_deter_bias: Tensor
    from_stoch: Tensor  # [Z, H], its bias
    from_stoch_bias: Tensor
    in_scale: Tensor  # [2, H]
    hidden_deter: Tensor  # [g, k, k]
    hidden_shared: Tensor  # [2H, D]
    hidden_bias: Tensor  # [D], its norm scale
    hidden_scale: Tensor
    gru: Tensor  # [g, k, 3k]
    gru_bias: Tensor  # [g, 1, 3k], one already taken off the update gate
    post: Tensor  # [D, H], its norm scale
    post_scale: Tensor
    logits: Tensor  # [H, Z], its bias
    logits_bias: Tensor


def cut_weights(dyn: Dynamics, post: Posterior) -> tuple[Weights, Tensor, Tensor]:
    """The weights, and what the action ``[H, D]`` and the tokens ``[E, H]`` are multiplied with."""
    mixer, layer = dyn.hidden[0], post.mlp[0]
    assert isinstance(mixer, NormedBlockLinear)
    kernel, (deter, hidden) = mixer.kernel, dyn.from_deter.kernel.shape
    blocks, size = dyn.blocks, deter // dyn.blocks
    shared = kernel[:, size:].permute(1, 0, 2).reshape(-1, deter)  # (3H, D)
    offset = torch.zeros(3, size, device=kernel.device)
    offset[2] = 1.0
    weights = Weights(
        dyn.from_deter.kernel, dyn.from_deter.bias, dyn.from_stoch.kernel, dyn.from_stoch.bias,
        torch.stack([dyn.from_deter.scale, dyn.from_stoch.scale]),
        kernel[:, :size], shared[: 2 * hidden], mixer.bias, mixer.scale,
        dyn.gru.kernel, dyn.gru.bias.view(blocks, 1, 3 * size) - offset.view(1, 1, -1),
        layer.kernel[:deter], layer.scale, post.logits.kernel, post.logits.bias,
    )  # fmt: skip
    return weights, shared[2 * hidden :], layer.kernel[deter:]


def silu_norm(u: Tensor, inverse: Tensor, scale: Tensor, out: Tensor | None = None) -> Tensor:
    """``silu(u * inverse * scale)``, into ``out`` if given."""
    return F.silu(torch.mul(u, inverse, out=out).mul_(scale), inplace=True)


def pick(probs: Tensor, uniform: Tensor | None, classes: Tensor, out: Tensor) -> None:
    """Write one-hot draws from ``probs [N, S, C]`` into ``out [N, S, C]``; the mode where ``uniform`` is None."""
    index = probs.argmax(-1) if uniform is None else draw(probs, uniform)
    torch.eq(index.unsqueeze(-1), classes, out=out)


def mix(
    gates: Tensor, h: Tensor, out: Tensor, opened: Tensor | None = None, candidate: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mix ``h [g, N, k]`` with its candidate into ``out``, by raw ``gates [g, N, 3, k]`` (reset, candidate, update).

    Returns the opened reset and update gates ``[g, N, 2, k]`` and the candidate, in the buffers given.
    """
    opened = torch.sigmoid(gates[:, :, ::2], out=opened)
    # tanh(x) = 2 sigmoid(2x) - 1 is several times faster here than tanh itself
    candidate = torch.mul(opened[:, :, 0], gates[:, :, 1], out=candidate).mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)
    torch.lerp(h, candidate, opened[:, :, 1], out=out)
    return opened, candidate


class Scan(torch.autograd.Function):
    """The posterior recurrence over time-major inputs ``[T, B, ...]``."""

    @staticmethod
    def forward(ctx, hidden, seen, keep, uniform, deter, stoch, unimix, classes, *weights):  # type: ignore[no-untyped-def]
        w = Weights(*weights)
        steps, batch, size = hidden.shape
        blocks, width, latent = w.gru.shape[0], w.post.shape[1], w.logits.shape[1]

        def series(*shape: int) -> tuple[Tensor, tuple[Tensor, ...]]:
            """A tensor ``[T, B, ...]`` and its steps."""
            whole = hidden.new_empty(steps, batch, *shape)
            return whole, whole.unbind()

        (h_in, h_at), (z_in, z_at), (u_in, u_in_at) = series(size), series(latent), series(2, width)
        (u_hid, u_hid_at), (u_post, u_post_at) = series(size), series(width)
        (x_in, x_in_at), (x_hid, x_hid_at), (x_post, x_post_at) = series(2, width), series(size), series(width)
        (deters, deter_at), (stochs, stoch_at), (logits, logits_at) = series(size), series(latent), series(latent)
        noise = [None] * steps if uniform is None else uniform.unbind()
        numbers = torch.arange(classes, device=hidden.device)
        r_in, r_hid, r_post = [], [], []
        gates, opened, candidates, soft = [], [], [], []
        grouped = (blocks, size // blocks)
        for t, (base, sight, kept) in enumerate(zip(hidden.unbind(), seen.unbind(), keep.unbind())):
            h, z = torch.mul(deter, kept, out=h_at[t]), torch.mul(stoch, kept, out=z_at[t])
            u = u_in_at[t]
            torch.addmm(w.from_deter_bias, h, w.from_deter, out=u[:, 0])
            torch.addmm(w.from_stoch_bias, z, w.from_stoch, out=u[:, 1])
            r_in.append(rms_inverse(u))
            x = silu_norm(u, r_in[t], w.in_scale, out=x_in_at[t]).flatten(-2)
            u = torch.addmm(base, x, w.hidden_shared, out=u_hid_at[t])
            by_block = h.unflatten(-1, grouped).transpose(0, 1)  # (g, B, k)
            u.unflatten(-1, grouped).transpose(0, 1).add_(torch.bmm(by_block, w.hidden_deter))
            r_hid.append(rms_inverse(u))
            x = silu_norm(u, r_hid[t], w.hidden_scale, out=x_hid_at[t])
            raw = torch.baddbmm(w.gru_bias, x.unflatten(-1, grouped).transpose(0, 1), w.gru)
            gates.append(raw.unflatten(-1, (3, -1)))
            deter = deter_at[t]
            sigmoids, candidate = mix(gates[t], by_block, deter.unflatten(-1, grouped).transpose(0, 1))
            opened.append(sigmoids)
            candidates.append(candidate)
            u = torch.addmm(sight, deter, w.post, out=u_post_at[t])
            r_post.append(rms_inverse(u))
            x = silu_norm(u, r_post[t], w.post_scale, out=x_post_at[t])
            logit = torch.addmm(w.logits_bias, x, w.logits, out=logits_at[t])
            soft.append(class_softmax(logit.unflatten(-1, (-1, classes))))
            probs = soft[t].mul(1 - unimix).add_(unimix / classes)
            stoch = stoch_at[t]
            pick(probs, noise[t], numbers, stoch.unflatten(-1, (-1, classes)))
        ctx.unimix = unimix
        ctx.lists = r_in, r_hid, r_post, gates, opened, candidates, soft
        ctx.save_for_backward(keep, h_in, z_in, u_in, x_in, u_hid, x_hid, u_post, x_post, deters, *weights)
        return deters, stochs, logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_deter, d_stoch, d_logits):  # type: ignore[no-untyped-def]
        keep, h_in, z_in, u_in, x_in, u_hid, x_hid, u_post, x_post, deters, *weights = ctx.saved_tensors
        r_in, r_hid, r_post, gates, opened, candidates, soft = ctx.lists
        w = Weights(*weights)
        steps, batch, size = h_in.shape
        blocks, width = w.gru.shape[0], w.post.shape[1]
        grouped = (blocks, size // blocks)
        g_gates, g_logits = h_in.new_empty(steps, blocks, batch, 3, size // blocks), torch.empty_like(d_logits)
        # gradients of the three norms' inputs and scales, from T to 1
        found: list[list[Tensor]] = [[] for _ in range(6)]
        gru_t, hid_t = w.gru.transpose(1, 2), w.hidden_deter.transpose(1, 2)
        shared_t, post_t, logits_t = w.hidden_shared.t(), w.post.t(), w.logits.t()
        from_deter_t, from_stoch_t = w.from_deter.t(), w.from_stoch.t()
        gh, gz = torch.zeros_like(h_in[0]), torch.zeros_like(z_in[0])
        by_step = zip(
            *(x.unbind() for x in (d_deter, d_stoch, d_logits, keep, h_in, u_in, u_hid, u_post, g_gates, g_logits))
        )
        for t, (dh, dz, dl, kept, h, ui, uh, up, out, gl) in reversed(list(enumerate(by_step))):
            # the latents: straight through the mixed probabilities
            p = soft[t]
            gp = (dz + gz).unflatten(-1, p.shape[1:])
            gp.sub_((gp * p).sum(-1, keepdim=True)).mul_(p)
            torch.add(dl, gp.flatten(-2), alpha=1 - ctx.unimix, out=gl)
            g_post, s_post = rms_silu_backward(gl @ logits_t, up, r_post[t], w.post_scale)
            gh = torch.addmm(gh.add_(dh), g_post, post_t)
            # the gates
            c, raw = candidates[t], gates[t]
            reset, update = opened[t].unbind(2)
            g = gh.unflatten(-1, grouped).transpose(0, 1)
            gq = g * update
            gc = torch.addcmul(gq, gq, c.square(), value=-1)  # d tanh
            torch.mul(gc, reset, out=out[:, :, 1])
            gc.mul_(raw[:, :, 1])
            torch.mul(gc, torch.addcmul(reset, reset, reset, value=-1), out=out[:, :, 0])
            h = h.unflatten(-1, grouped).transpose(0, 1)
            torch.mul((c - h).mul_(gq), 1 - update, out=out[:, :, 2])
            # into the recurrence's layers
            gx = torch.bmm(out.flatten(-2), gru_t).transpose(0, 1).flatten(-2)
            g_hid, s_hid = rms_silu_backward(gx, uh, r_hid[t], w.hidden_scale)
            g_h = (g - gq).add_(torch.bmm(g_hid.unflatten(-1, grouped).transpose(0, 1), hid_t))
            gx = (g_hid @ shared_t).unflatten(-1, (2, width))
            g_in, s_in = _rms_silu_backward_pair(gx, ui, r_in[t], w.in_scale)
            gh = torch.addmm(g_h.transpose(0, 1).flatten(-2), g_in[:, 0], from_deter_t).mul_(kept)
            gz = torch.mm(g_in[:, 1], from_stoch_t).mul_(kept)
            for series, value in zip(found, (g_post, s_post, g_hid, s_hid, g_in, s_in)):
                series.append(value)
        g_post, s_post, g_hid, s_hid, g_in, s_in = (torch.stack(series[::-1]) for series in found)

        def product(x: Tensor, g: Tensor) -> Tensor:
            return x.flatten(0, 1).t() @ g.flatten(0, 1)

        def block_product(x: Tensor, g: Tensor) -> Tensor:
            """``[T * B, D]`` and ``[g, T * B, j]`` to ``[g, k, j]``."""
            return torch.bmm(x.flatten(0, 1).unflatten(-1, grouped).permute(1, 2, 0), g)

        def by_block(g: Tensor) -> Tensor:
            return g.flatten(0, 1).unflatten(-1, grouped).transpose(0, 1)

        gg = g_gates.flatten(-2).transpose(0, 1).flatten(1, 2)  # (g, T * B, 3k)
        grads = Weights(
            from_deter=product(h_in, g_in[:, :, 0]),
            from_deter_bias=g_in[:, :, 0].sum((0, 1)),
            from_stoch=product(z_in, g_in[:, :, 1]),
            from_stoch_bias=g_in[:, :, 1].sum((0, 1)),
            in_scale=s_in.sum((0, 1)),
            hidden_deter=block_product(h_in, by_block(g_hid)),
            hidden_shared=product(x_in.flatten(-2), g_hid),
            hidden_bias=torch.zeros_like(w.hidden_scale),  # it came in with ``hidden``
            hidden_scale=s_hid.sum((0, 1)),
            gru=block_product(x_hid, gg),
            gru_bias=gg.sum(1, keepdim=True),
            post=product(deters, g_post),
            post_scale=s_post.sum((0, 1)),
            logits=product(x_post, g_logits),
            logits_bias=g_logits.sum((0, 1)),
        )
        return g_hid, g_post, None, None, None, None, None, None, *grads


def _rms_silu_backward_pair(grad: Tensor, u: Tensor, inverse: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """``rms_silu_backward`` for two layers side by side: ``[B, 2, H]`` with ``scale [2, H]``."""
    unit = u * inverse
    grad = torch.ops.aten.silu_backward(grad, unit * scale)
    dscale = grad * unit
    along = (dscale * scale).sum(-1, keepdim=True).div_(-u.shape[-1])
    return grad.mul_(scale).addcmul_(unit, along).mul_(inverse), dscale
