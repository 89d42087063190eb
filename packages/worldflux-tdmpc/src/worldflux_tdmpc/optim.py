"""The official order of an update: the world model steps first, then the policy, judged by the critics of then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class TwoPhaseAdam(torch.optim.Adam):
    """Adam for the world model and, in the same ``step``, for the policy, whose gradient is taken in between.

    ``begin`` is called by ``zero_grad``: losses that follow may leave the policy's part out. ``policy_gradients`` is
    called by ``step`` when the world model has stepped; it sets (and clips) the gradients of the parameters in
    ``policy`` and returns True, or returns False if no loss left them out.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        policy: Iterable[Tensor],
        begin: Callable[[], None],
        policy_gradients: Callable[[], bool],
        lr: float,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, lr=lr, weight_decay=weight_decay)
        self._policy = {id(parameter) for parameter in policy}
        self._begin, self._policy_gradients = begin, policy_gradients

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, and open a new update."""
        super().zero_grad(set_to_none)
        self._begin()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Step the world model; then take the policy's gradient, and step the policy."""
        loss = super().step(closure)
        if self._policy_gradients():
            groups = self.param_groups
            try:  # only the policy's, for the others still hold their gradients
                self.param_groups = [group for group in groups if {id(p) for p in group["params"]} <= self._policy]
                super().step()
            finally:
                self.param_groups = groups
        return loss
