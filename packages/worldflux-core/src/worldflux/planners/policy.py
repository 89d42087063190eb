"""Acting by planning: a policy for any model that can imagine."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from worldflux.blocks import check_acting, policy_call
from worldflux.core.errors import ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.core.payloads import ConditionPayload, Observations
from worldflux.core.policy import Carry
from worldflux.core.state import State

from .objectives import Objective, Score, as_objective
from .planner import Plan, Planner
from .problem import Problem, plan_dtype, require, require_model
from .space import ActionSpace

_STATE, _PLAN = "state.", "plan."


class PlannerPolicy:
    """Filters what is observed, plans, and does the first ``execute`` actions of a plan. Implements ``core.Policy``.

    The carry holds the model's state (``state.*``), the last ``action [N, A]``, the planner's warm start (``plan.*``)
    and the number of the ``step [N]``; ``is_first`` starts all four afresh in its rows. With ``execute`` k above 1 it
    also holds the actions still to be done, ``ahead [N, k - 1, A]``, and how many of them, ``left [N]``: a row plans
    anew when none are left or its episode begins, and no plan is made where no row does. Where it explores, the planner
    draws from ``generator``, by default the model's, which is saved with its checkpoints, and ``deterministic=False``
    lets the model draw latents, too. Where it does not explore nothing is drawn: plans are searched with numbers that
    follow from the step alone, so that actions depend on what was observed since ``is_first``. ``conditions`` have one
    row per environment. Raises ConfigurationError where model, planner and objective do not fit, or a plan has fewer
    actions than ``execute``.
    """

    latent_spec: Mapping[str, tuple[tuple[int, ...], str]] = {}

    def __init__(
        self,
        model: WorldModel,
        planner: Planner,
        objective: Objective | Score | None = None,
        *,
        generator: torch.Generator | None = None,
        conditions: ConditionPayload | None = None,
        deterministic: bool = True,
        execute: int = 1,
    ) -> None:
        if not isinstance(planner, Planner):
            given = planner.__name__ if isinstance(planner, type) else repr(planner)
            raise ConfigurationError(f"the planner must be made, such as CEMPlanner(horizon=12), got {given}")
        require_model(model)
        require(
            isinstance(execute, int) and not isinstance(execute, bool) and 1 <= execute <= planner.horizon,
            f"execute is {execute!r}, expected 1 to {planner.horizon}, the actions that a plan of this planner has "
            "(horizon)",
        )
        self.execute = execute
        self.model, self.planner, self.objective = model, planner, as_objective(objective)
        self.conditions, self.deterministic, self._generator = conditions, deterministic, generator
        self._space = ActionSpace(model.io_contract().action_spec)
        planner.check(self._problem(model.initial_state(1), deterministic=True))

    def initial(self, batch_size: int) -> Carry:
        """The carry of fresh episodes."""
        state = self.model.initial_state(batch_size)
        dtype, device = plan_dtype(self.model), state.device
        warm = self.planner.initial(self._space, batch_size, device=device, dtype=dtype)
        action = torch.zeros(batch_size, self._space.dim, device=device, dtype=dtype)
        step = torch.zeros(batch_size, dtype=torch.int64, device=device)
        carry = {"action": action, "step": step, **_prefixed(_STATE, state.tensors), **_prefixed(_PLAN, warm)}
        if self.execute > 1:
            carry |= {"ahead": action.unsqueeze(1).repeat(1, self.execute - 1, 1), "left": step.clone()}
        return carry

    @policy_call
    @torch.no_grad()
    def __call__(self, obs: Observations, carry: Carry, *, is_first: Tensor, explore: bool) -> tuple[Tensor, Carry]:
        """Actions ``[N, A]`` for observations ``[N, ...]`` and the next carry."""
        check_acting(carry, is_first, needs=("action", "step"))
        device = carry["action"].device
        first = is_first.bool()  # where it is asked for its values, it is better not on a GPU
        certain = self.deterministic or not explore
        state = self._filter(obs, carry, first, certain)
        first, step = first.to(device), carry["step"].masked_fill(first.to(device), 0)
        due = first if self.execute == 1 else first | (carry["left"] == 0)
        if self.execute > 1 and not due.any():
            done = _next(carry)
        else:
            problem, warm = self._problem(state, certain), _named(_PLAN, carry)
            if warm:
                fresh = self.planner.initial(self._space, len(first), device=problem.device, dtype=problem.dtype)
                warm = {name: _where(first, fresh[name], value) for name, value in warm.items()}
            if explore:
                plan = self.planner.solve(problem, warm, generator=self._generator, explore=True)
            else:
                plan = self.planner.search(problem, self.planner.draw_repeatably(problem, step), warm)
            done = {"action": plan.actions[0], **_prefixed(_PLAN, plan.carry)}
            if self.execute > 1:
                done = self._begun(done, plan, due, carry)
        return done["action"], {**done, "step": step + 1, **_prefixed(_STATE, state.tensors)}

    def _begun(self, done: Carry, plan: Plan, due: Tensor, carry: Carry) -> Carry:
        """What is done where plans are begun in the rows ``due [N]``, and those of the others are gone on with."""
        ahead = plan.actions[1 : self.execute].transpose(0, 1)
        left = torch.full_like(carry["left"], self.execute - 1)
        warm = self.planner.later(_named(_PLAN, done), self.execute - 1)
        begun = {**done, **_prefixed(_PLAN, warm), "ahead": ahead, "left": left}
        going = _next(carry)
        return {name: _where(due, value, going[name]) for name, value in begun.items()}

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """Return nothing: no latents are kept in a replay."""
        return {}

    def _problem(self, state: State, deterministic: bool) -> Problem:
        return Problem.of(self.model, state, self.objective, conditions=self.conditions, deterministic=deterministic)

    def _filter(self, obs: Observations, carry: Carry, first: Tensor, certain: bool) -> State:
        """The state after ``obs``: encoded afresh where an episode begins, updated elsewhere."""
        if first.all():
            return self.model.encode(obs, deterministic=certain)
        before = State(_named(_STATE, carry))
        state = self.model.update(before, carry["action"], obs, self.conditions, deterministic=certain)
        if not first.any():
            return state
        begun = self.model.encode(obs, deterministic=certain)
        mask = first.to(state.device)
        return State({name: _where(mask, begun[name], value) for name, value in state.tensors.items()}, state.meta)


def _next(carry: Carry) -> Carry:
    """What is done next of plans under way; no more than their tail is moved on."""
    ahead = carry["ahead"]
    kept = {"ahead": torch.cat([ahead[:, 1:], ahead[:, -1:]], 1), "left": carry["left"] - 1}
    return {"action": ahead[:, 0], **kept, **_prefixed(_PLAN, _named(_PLAN, carry))}


def _prefixed(prefix: str, named: Carry) -> Carry:
    return {prefix + name: value for name, value in named.items()}


def _named(prefix: str, carry: Carry) -> Carry:
    return {name.removeprefix(prefix): value for name, value in carry.items() if name.startswith(prefix)}


def _where(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """``yes`` in the rows of ``mask [N]``, ``no`` in the others."""
    return torch.where(mask.reshape(-1, *[1] * (no.ndim - 1)), yes, no)
