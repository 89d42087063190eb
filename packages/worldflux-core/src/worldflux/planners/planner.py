"""What all planners share: options checked when they are made, and one way to call them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from worldflux.core.errors import ShapeMismatchError
from worldflux.core.fields import Count, Fields, Share
from worldflux.core.model import WorldModel
from worldflux.core.payloads import (
    PLANNER_HORIZON_KEY,
    PLANNER_SEQUENCE_KEY,
    ActionPayload,
    ConditionPayload,
    normalize_planned_action,
)
from worldflux.core.policy import Carry
from worldflux.core.state import State

from .noise import Noise, joined
from .objectives import Objective, Score
from .problem import Problem, require
from .space import ActionSpace

PLANNER_SCORE_KEY = "wf.planner.score"
PLANNER_CARRY_KEY = "wf.planner.carry"


@dataclass
class Plan:
    """What a search found: ``actions [H, E, A]``, the ``score [E]`` of its best candidate, and the next warm start."""

    actions: Tensor
    score: Tensor
    carry: Carry = field(default_factory=dict)

    def payload(self, space: ActionSpace) -> ActionPayload:
        """The plan as the contract carries it, horizon, score and warm start in its extras."""
        extras = {
            PLANNER_HORIZON_KEY: self.actions.shape[0],
            PLANNER_SCORE_KEY: self.score,
            PLANNER_CARRY_KEY: self.carry,
        }
        payload = ActionPayload("continuous" if space.spec.parts else space.spec.kind, self.actions, extras=extras)
        normalize_planned_action(payload)
        return payload


@dataclass(frozen=True, kw_only=True)
class Planner(Fields, ABC):
    """Searches for the actions whose imagined outcome an objective likes best, for several environments at once.

    A planner is its options and nothing else. ``exploration`` is what ``explore`` adds to the first action: the
    standard deviation of normal noise on continuous parts, the chance of a random class on discrete ones (0.3: Hafner
    et al. 2019 (PlaNet) §3). Rows never mix: given its noise, an environment's plan does not depend on its neighbours.

    ``compiled`` imagines and scores candidates with ``torch.compile``: the first plan of each number of environments
    takes a minute longer. ``mixed_precision`` does it in bfloat16 where autocast deems it safe.
    """

    horizon: Count = 12
    exploration: Share = 0.3
    compiled: bool = False
    mixed_precision: bool = False

    def check(self, problem: Problem) -> None:
        """Raise ConfigurationError if this planner cannot plan such actions."""

    def initial(self, space: ActionSpace, num_envs: int, *, device: torch.device, dtype: torch.dtype) -> Carry:
        """Return the warm start of a fresh episode: tensors ``[E, ...]``, nothing for planners that start afresh."""
        return {}

    def later(self, carry: Carry, steps: int) -> Carry:
        """Return a warm start from which ``steps`` more actions were done: its plans ``[E, ..., H, A]`` begin later."""
        later = dict(carry)
        for name, value in carry.items():
            if value.ndim >= 3 and value.shape[-2] == self.horizon:
                later[name] = torch.cat([value[..., steps:, :], *[value[..., -1:, :]] * steps], -2)
        return later

    @abstractmethod
    def draw(self, problem: Problem, generator: torch.Generator) -> Noise:
        """Draw everything one search needs, on the generator's device."""

    def draw_repeatably(self, problem: Problem, steps: Tensor) -> Noise:
        """Noise that is a function of ``steps [E]``, the number of each environment's step: no chance, but no bias.

        The same numbers at every step would favour the same actions at every step.
        """

        def draw(count: int, seed: int) -> Noise:
            some = replace(problem, state=problem.state.map(lambda value: value[:1].expand(count, *value.shape[1:])))
            return self.draw(some, torch.Generator(problem.device).manual_seed(seed))

        numbers = steps.tolist()
        each = {number: draw(1, number) for number in set(numbers)}
        return joined([each[number] for number in numbers], shared=draw(1, 0), two=draw(2, 0))

    @abstractmethod
    def search(self, problem: Problem, noise: Noise, carry: Carry, *, explore: bool = False) -> Plan:
        """Plan for every environment of a problem; draws nothing."""

    def plan(
        self,
        model: WorldModel,
        state: State,
        objective: Objective | Score | None = None,
        *,
        conditions: ConditionPayload | None = None,
        carry: Carry | None = None,
        generator: torch.Generator | None = None,
        explore: bool = False,
        deterministic: bool = True,
    ) -> ActionPayload:
        """Return a plan ``[H, E, A]`` for the states ``[E, ...]``, ready for ``model.rollout``.

        ``objective`` defaults to the model's predicted rewards; ``generator`` to the model's own. ``carry`` is the
        ``extras["wf.planner.carry"]`` of the plan one step ago. ``deterministic`` imagines most likely outcomes.
        Extras: ``wf.planner.horizon`` (int), ``wf.planner.score [E]``, ``wf.planner.carry``. Raises
        ConfigurationError where model, planner and objective do not fit, ShapeMismatchError for another carry.
        """
        problem = Problem.of(model, state, objective, conditions=conditions, deterministic=deterministic)
        return self.solve(problem, carry, generator=generator, explore=explore).payload(problem.space)

    def solve(
        self,
        problem: Problem,
        carry: Carry | None = None,
        *,
        generator: torch.Generator | None = None,
        explore: bool = False,
    ) -> Plan:
        """Check, draw and search. Raises ConfigurationError or ShapeMismatchError."""
        self.check(problem)
        fresh = self.initial(problem.space, problem.num_envs, device=problem.device, dtype=problem.dtype)
        carry = fresh if carry is None else carry
        require(isinstance(carry, Mapping), f"carry is a {type(carry).__name__}, expected tensors by name")
        for name, value in fresh.items():
            got = tuple(carry[name].shape) if name in carry else None
            if got != tuple(value.shape):
                raise ShapeMismatchError(f"warm start {name!r}", expected=tuple(value.shape), got=got)
        noise = self.draw(problem, generator or problem.model.generator(problem.device)).to(problem.device)
        return self.search(problem, noise, carry, explore=explore)

    # --- what the planners' searches and draws have in common -------------------------------------------------------

    def _draw(self, problem: Problem, generator: torch.Generator, counts: list[int], scored: list[int]) -> Noise:
        """Noise for iterations of ``counts`` samples, of which ``scored`` candidates are scored."""
        envs, space, dtype = problem.num_envs, problem.space, problem.dtype
        return Noise(
            [space.noise(envs, count, self.horizon, generator=generator, dtype=dtype) for count in counts],
            space.noise(envs, generator=generator, dtype=dtype),
            self._draw_objective(problem, generator, scored),
        )

    def _draw_objective(
        self, problem: Problem, generator: torch.Generator, scored: list[int]
    ) -> list[dict[str, Tensor]]:
        draw, envs = problem.objective.noise, problem.num_envs
        return [draw(problem.model, envs * count, generator=generator, device=generator.device) for count in scored]

    def _scorer(self, problem: Problem, count: int) -> Callable[[Tensor, dict[str, Tensor]], Tensor]:
        return problem.scorer(count, compiled=self.compiled, mixed_precision=self.mixed_precision)

    def _explore(self, space: ActionSpace, actions: Tensor, noise: Noise) -> Tensor:
        """``actions [E, H, A]`` with exploration noise on the first."""
        first = space.soften(actions[:, 0], self.exploration)
        first = space.sample(first, torch.full_like(first, self.exploration), noise.explore)
        return torch.cat([first.unsqueeze(1), actions[:, 1:]], 1)


def first_action(payload: ActionPayload, *, api_version: str = "v3") -> ActionPayload:
    """Return the first step of a plan as a payload of horizon 1. Raises ValidationError for what is no plan."""
    plan = normalize_planned_action(payload, api_version=api_version)
    extras = {name: value for name, value in payload.extras.items() if name != PLANNER_SEQUENCE_KEY}
    first = replace(payload, extras={**extras, PLANNER_HORIZON_KEY: 1})
    if plan.tensor is not None:
        setattr(first, next(n for n in ("tensor", "tokens", "latent") if getattr(first, n) is not None), plan.tensor[0])
    return first


def time_major(actions: Tensor) -> Tensor:
    """``[H, E, A]`` of plans ``[E, H, A]``."""
    return actions.transpose(0, 1).contiguous()
