"""The official order of an update: the world model steps first, then the policy, judged by the critics of then."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from worldflux.core.errors import TrainingError

from .objective import PolicyInputs

if TYPE_CHECKING:
    from .model import TDMPC2


class PolicyPhase:
    """The second half of an update, which its optimizer opens with ``zero_grad`` and closes with ``step``.

    While it is open the losses of a model in training leave the policy's part out. ``postponed`` holds what the policy
    has yet to learn from, without gradients, and the components and metrics its losses belong to.
    """

    def __init__(self) -> None:
        self.open = False
        self.postponed: list[tuple[PolicyInputs, dict[str, Tensor], dict[str, Any]]] = []

    def begin(self) -> None:
        """Open the phase of a new update, and forget an earlier one that was never stepped."""
        self.open, self.postponed = True, []

    def close(self) -> None:
        """End the phase: losses hold the policy's part again."""
        self.open, self.postponed = False, []

    def gradients(self, model: TDMPC2, clip: float) -> bool:
        """Close the phase: set the policy's gradients, clipped to a norm (0: not). False if nothing was postponed.

        Raises TrainingError for gradients that are not finite.
        """
        parameters = [parameter for parameter in model.prior.parameters() if parameter.requires_grad]
        postponed = self.postponed if parameters else []
        self.close()
        for parameter in parameters if postponed else ():
            parameter.grad = None
        for inputs, components, metrics in postponed:
            if model.task_embedding is not None and inputs.task is not None:
                model.task_embedding.renormalise(inputs.task)
            value, logged = model.policy_loss(inputs)
            (value / len(postponed)).backward(inputs=parameters)
            components["policy"] = value.detach()
            metrics |= logged
        if not postponed:
            return False
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip or math.inf)
        if not bool(torch.isfinite(norm)):
            raise TrainingError(
                f"the policy's loss is {float(value.detach())} and the norm of its gradient {float(norm)}, with values "
                f"divided by {float(model.value_scale.value)}: the policy was not stepped, but the world model was; go "
                "on from the last checkpoint, with a lower learning_rate or with rewards scaled down"
            )
        for _, _, metrics in postponed:
            metrics["policy_grad_norm"] = norm
        return True


class TwoPhaseAdam(torch.optim.Adam):
    """Adam for the world model and, in the same ``step``, for the policy, whose gradient is taken in between.

    ``zero_grad`` opens an update: the losses of ``model`` that follow leave the policy's part out. ``policy_clip``
    bounds the norm of its gradient, 0 does not.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        model: TDMPC2,
        policy_clip: float,
        lr: float,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, lr=lr, weight_decay=weight_decay)
        self._model, self._policy_clip = model, policy_clip

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, and open a new update."""
        super().zero_grad(set_to_none)
        self._model.policy_phase.begin()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Step the world model; then take the policy's gradient, and step the policy.

        Raises TrainingError where the policy's gradient is not finite.
        """
        loss = super().step(closure)
        if self._model.policy_phase.gradients(self._model, self._policy_clip):
            policy = {id(parameter) for parameter in self._model.prior.parameters()}
            groups = self.param_groups
            try:  # only the policy's, for the others still hold their gradients
                self.param_groups = [group for group in groups if {id(p) for p in group["params"]} <= policy]
                super().step()
            finally:
                self.param_groups = groups
        return loss
