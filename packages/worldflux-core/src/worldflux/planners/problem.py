"""One planning problem: a model, where it stands, what may be done and what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.model import WorldModel
from worldflux.core.payloads import ConditionPayload
from worldflux.core.state import State, map_tensors

from .objectives import GoalObjective, Objective, Score, as_objective
from .space import ActionSpace
from .state_goal import StateGoal


@dataclass(frozen=True)
class Problem:
    """Where ``E`` environments stand (``state [E, ...]``), and how plans for them are imagined and scored.

    ``deterministic`` imagines each transition's most likely outcome; otherwise the model draws outcomes from its own
    generator. Raises ConfigurationError where model and objective do not fit.
    """

    model: WorldModel
    state: State
    objective: Objective
    conditions: ConditionPayload | None = None
    deterministic: bool = True

    @classmethod
    def of(
        cls,
        model: WorldModel,
        state: State,
        objective: Objective | Score | None = None,
        *,
        conditions: ConditionPayload | None = None,
        deterministic: bool = True,
    ) -> Problem:
        """Build a problem from whatever names an objective, and check it."""
        require_model(model)
        if not isinstance(state, State):
            raise ConfigurationError(f"plans start from a State, got a {type(state).__name__}: use model.encode(obs)")
        problem = cls(model, state, as_objective(objective), conditions, deterministic)
        problem.objective.check(model)
        return problem

    @property
    def num_envs(self) -> int:
        """The number E of environments."""
        return self.state.batch_size

    @property
    def device(self) -> torch.device:
        """Where the state lies."""
        return self.state.device

    @property
    def dtype(self) -> torch.dtype:
        """What plans are computed in: float32, or float64 for a float64 model."""
        return plan_dtype(self.model)

    @cached_property
    def space(self) -> ActionSpace:
        """The model's actions, masked where its task does not use all of them."""
        space = ActionSpace(self.model.io_contract().action_spec)
        mask = getattr(self.model, "action_mask", None)  # OffersActionMask; asking a protocol is slow
        return space.masked(mask(self.state)) if callable(mask) else space

    def detached(self) -> Problem:
        """The same problem, its tensors cut from the autograd graph and free of inference mode."""

        def cut(value: Tensor) -> Tensor:
            return value.detach().clone()

        return replace(self, state=self.state.map(cut), conditions=map_tensors(self.conditions, cut))

    def repeated(self, count: int) -> tuple[State, ConditionPayload | None]:
        """The state and the conditions with each environment's row ``count`` times."""
        envs, conditions = self.num_envs, self.conditions

        def repeat(value: Tensor) -> Tensor:
            return value.repeat_interleave(count, 0) if value.ndim and value.shape[0] == envs else value

        if conditions is not None:
            texts = conditions.text_condition
            conditions = map_tensors(conditions, repeat)
            if isinstance(texts, list) and len(texts) == envs:
                conditions = replace(conditions, text_condition=[text for text in texts for _ in range(count)])
        return self.state.map(repeat), conditions

    def scorer(
        self, count: int, *, compiled: bool = False, mixed_precision: bool = False
    ) -> Callable[[Tensor, dict[str, Tensor]], Tensor]:
        """Return what scores candidates ``[E, N, H, A]`` (``N = count``) as ``[E, N]``; NaN counts as the worst."""
        if isinstance(self.objective, (GoalObjective, StateGoal)):
            self.objective.check_rows(self.num_envs)
        imagine = _compiled() if compiled else _imagined_scores
        state, conditions = self.repeated(count)
        worst = torch.finfo(self.dtype).min

        def score(candidates: Tensor, noise: dict[str, Tensor]) -> Tensor:
            actions = candidates.permute(2, 0, 1, 3).flatten(1, 2)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed_precision):
                scores = imagine(self.model, self.objective, state, conditions, self.deterministic, actions, noise)
            if not isinstance(scores, Tensor) or scores.shape not in ((state.batch_size,), (state.batch_size, 1)):
                got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
                raise ShapeMismatchError("scores of the objective", expected=(state.batch_size,), got=got)
            return scores.to(self.dtype).reshape(self.num_envs, count).nan_to_num(nan=worst)

        return score


def _imagined_scores(
    model: WorldModel,
    objective: Objective,
    state: State,
    conditions: ConditionPayload | None,
    deterministic: bool,
    actions: Tensor,
    noise: dict[str, Tensor],
) -> Tensor:
    """Imagine what ``actions [H, B, A]`` lead to and score it ``[B]``: where a planner's time goes."""
    return objective.score(model, model.rollout(state, actions, conditions, deterministic), noise)


@cache
def _compiled() -> Callable[..., Tensor]:
    """The same, compiled for each model and each shape it is called with."""
    return torch.compile(_imagined_scores, dynamic=False)


def require_model(model: object) -> None:
    """Raise ConfigurationError unless this is a world model."""
    require(isinstance(model, WorldModel), f"plans are made in a WorldModel, got a {type(model).__name__}")


def plan_dtype(model: WorldModel) -> torch.dtype:
    """float32, or float64 for a float64 model: no half precision for means and scores."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.promote_types(like.dtype, torch.float32)


def require(holds: bool, message: str) -> None:
    """Raise ConfigurationError with ``message`` unless ``holds``."""
    if not holds:
        raise ConfigurationError(message)
