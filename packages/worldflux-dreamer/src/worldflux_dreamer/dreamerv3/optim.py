"""LaProp with adaptive gradient clipping per tensor: the optimizer of DreamerV3."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LaProp(torch.optim.Optimizer):
    """Clip each tensor's gradient by its own norm, divide by the RMS, then average: clip → RMS → momentum → rate.

    ``agc``: largest ratio of a tensor's gradient norm to its own norm (0: off). ``weight_decay`` is decoupled. Groups
    may set their own options; the warmup is the trainer's. Bias corrections are taken in float32, as optax does:
    float64 would change updates by up to 5e-5. Raises ValueError.

    Source: danijar/dreamerv3 ``opt.py``; Ziyin et al. 2020 (LaProp), Brock et al. 2021 (AGC).
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 4e-5,
        agc: float = 0.3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or agc < 0 or eps < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            given = f"{lr=} {agc=} {eps=} {weight_decay=} {betas=}"
            raise ValueError(f"LaProp needs lr, agc, eps, weight_decay >= 0 and 0 <= betas < 1, got {given}")
        super().__init__(params, {"lr": lr, "agc": agc, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(group, params)
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p].update(step=torch.zeros(()), nu=torch.zeros_like(p), mu=torch.zeros_like(p))
        states = [self.state[p] for p in params]
        nu, mu = [s["nu"] for s in states], [s["mu"] for s in states]
        torch._foreach_add_([s["step"] for s in states], 1.0)
        step = states[0]["step"]
        beta1, beta2 = group["betas"]

        update = [p.grad.clone() for p in params]  # type: ignore[union-attr]
        if group["agc"]:
            clip_by_agc_(update, params, group["agc"])
        torch._foreach_mul_(nu, beta2)
        torch._foreach_addcmul_(nu, update, update, 1 - beta2)
        divisor = torch._foreach_div(nu, bias_correction(beta2, step))
        torch._foreach_sqrt_(divisor)
        torch._foreach_add_(divisor, group["eps"])
        torch._foreach_div_(update, divisor)
        torch._foreach_mul_(mu, beta1)
        torch._foreach_add_(mu, update, alpha=1 - beta1)
        update = list(torch._foreach_div(mu, bias_correction(beta1, step)))
        if group["weight_decay"]:
            torch._foreach_add_(update, params, alpha=group["weight_decay"])
        torch._foreach_add_(params, update, alpha=-float(group["lr"]))


def clip_by_agc_(grads: list[Tensor], params: list[Tensor], ratio: float, floor: float = 1e-3) -> None:
    """Shrink each gradient whose norm exceeds ``ratio`` times its parameter's norm (at least ``floor``), in place."""
    upper = torch._foreach_norm(params)
    torch._foreach_clamp_min_(upper, floor)
    torch._foreach_mul_(upper, ratio)
    excess = torch._foreach_norm(grads)
    torch._foreach_div_(excess, upper)
    torch._foreach_clamp_min_(excess, 1.0)
    torch._foreach_div_(grads, excess)


def bias_correction(beta: float, step: Tensor) -> float:
    """``1 - beta^step`` in float32."""
    return float(1 - torch.tensor(beta, dtype=torch.float32) ** step.cpu())
