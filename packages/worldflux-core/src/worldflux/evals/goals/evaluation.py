"""How often planning with a model reaches the goals of an environment, beside chance on the same episodes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.core.state import State
from worldflux.data.matching import check_actions
from worldflux.envs import GoalEnv, Goals, PersistentPolicy, RandomPolicy, Step, make_env
from worldflux.envs.identity import already_made
from worldflux.planners import GoalObjective, Planner, PlannerPolicy, StateGoal
from worldflux.planners.over import Over
from worldflux.words.counts import counted

from ..unroll import judging
from .card import card_of
from .landscape import Distances, oracle_rank
from .rate import rate
from .trials import Trials, Tried
from .words import goals_in_words

FORMAT, VERSION = "worldflux-goal-evaluation", 1
REPLANS = 5  # of which the median is taken
Aim = Callable[[WorldModel, Goals], GoalObjective | StateGoal]


@dataclass(frozen=True)
class GoalEvaluation:
    """How often goals were reached, as ``docs/measures.md`` explains it: ``card`` says in what and how.

    ``solved [N]`` and ``steps [N]`` (environment steps, until solved or ended) are of the episodes that count: those
    that began at their goal are left out. ``document`` holds the rest of ``to_dict``.
    """

    card: Mapping[str, Any]
    solved: np.ndarray
    steps: np.ndarray
    document: Mapping[str, Any]

    @property
    def success(self) -> float:
        """The share of episodes that reached their goal; NaN without any."""
        return float(rate(self.solved)["value"])

    @property
    def floor(self) -> float:
        """The share that chance solves: the better of uniform and of persistent random actions."""
        return float(self.document["floor"]["value"])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; what could not be measured is absent."""
        document = {"format": FORMAT, "version": VERSION, "card": self.card, "success": rate(self.solved)}
        document |= {"solved": self.solved.tolist(), "steps": self.steps.tolist(), **self.document}
        return {**document, "in_words": goals_in_words(document)}


def evaluate_goals(
    model: WorldModel,
    env: GoalEnv | Any,
    *,
    planner: Planner,
    energy: Literal["l1", "l2"] | Callable[[Tensor, Tensor], Tensor] = "l1",
    over: Over = "last",
    key: str | None = None,
    aim: Aim | None = None,
    episodes: int | None = None,
    budget: int | None = None,
    execute: int = 1,
    frame_skip: int = 1,
    seed: int = 0,
    starts: np.ndarray | None = None,
    goals: np.ndarray | None = None,
    goal_source: str | None = None,
) -> GoalEvaluation:
    """Plan towards the goals of episodes, each in an environment of its own, and count which are reached.

    Args:
        env: a :class:`~worldflux.envs.GoalEnv`, or whatever ``make_env`` makes one of, ``episodes`` (50) times.
        energy, over, key: as in ``GoalObjective``; ``key`` is the tensor called "latent" by default, if there is one.
        aim: makes another objective of a model and the goals.
        budget: environment steps in which a goal must be reached; by default those of an episode.
        execute: how many actions of a plan are done before the next plan.
        frame_skip: environment steps that one action of the model is.
        starts, goals: states ``[episodes, S]``; what is not given is drawn, the same for every policy.
        goal_source: where ``goals`` come from, for the card.

    Raises:
        ConfigurationError: the environment has no goals, or shows or takes something else than the model; or an
            argument does not fit.
    """
    made = not already_made(env)
    made_env = make_env(env, num_envs=episodes or 50, seed=seed) if made else env
    try:
        trials = _trials(model, made_env, episodes, budget, frame_skip, seed, starts, goals)
        harness = {"energy": energy if isinstance(energy, str) else getattr(energy, "__name__", "function")}
        harness |= {"over": over}
        if aim is None:
            aim = _aim(key, energy, over)
        with judging(model):
            judged = _Judging(model, trials, planner, aim, execute, frame_skip)
            card = card_of(
                trials.env,
                planner=planner,
                starts="drawn by the environment" if starts is None else "given",
                goals=goal_source or (None if goals is None else "given"),
                budget=trials.budget,
                execute=execute,
                frame_skip=frame_skip,
                objective=judged.described(harness),
                floor_hold=judged.walk.hold,
                episodes=trials.env.num_envs,
                seed=seed,
            )
            return judged.all(card)
    finally:
        if made:
            made_env.close()


class _Judging:
    """One evaluation under way."""

    def __init__(
        self, model: WorldModel, trials: Trials, planner: Planner, aim: Aim, execute: int, frame_skip: int
    ) -> None:
        self.model, self.trials, self.aim, self.frame_skip = model, trials, aim, frame_skip
        self.names = tuple(model.io_contract().effective_input_spec.modalities) or tuple(trials.env.obs_spec)
        self.device = next(model.parameters()).device
        drawn_before = trials.env.solved_at_start
        trials.begin()
        self.redrawn = trials.env.solved_at_start - drawn_before
        self.counted, self.goals = ~trials.env.success(), trials.env.goals()
        self.objective = aim(model, self.goals)
        self.policy = PlannerPolicy(model, planner, self.objective, execute=execute)
        self.walk = PersistentPolicy(trials.env.action_spec, seed=trials.seed)
        self.uniform = RandomPolicy(trials.env.action_spec, seed=trials.seed)

    def described(self, harness: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(self.objective, GoalObjective):
            return {"kind": "latent", "key": self.objective.key, **harness}
        return {"kind": "state", "over": self.objective.over}

    def all(self, card: Mapping[str, Any]) -> GoalEvaluation:
        distances = Distances(self.trials, self.encode, self.objective.energy_of)
        planned = self._run(self.policy, frame_skip=self.frame_skip)
        chance = {name: self._run(policy, watch=distances) for name, policy in self._chance().items()}
        document: dict[str, Any] = {"model": _about(self.model), "floor": self._floor(chance)}
        document["solved_at_start"] = self._at_start()
        if planned.solved[self.counted].any():
            document["median_steps"] = float(np.median(planned.steps[self.counted & planned.solved]))
        if found := distances.correlation(seed=self.trials.seed):
            document["energy_distance"] = found
        horizon = self.policy.planner.horizon
        if found := oracle_rank(
            self.model, self.trials, self.encode, self.objective, horizon=horizon, frame_skip=self.frame_skip
        ):
            document["oracle_rank"] = found
        document |= {"replan_ms": self._replanning(), "seconds": round(planned.seconds, 3)}
        return GoalEvaluation(card, planned.solved[self.counted], planned.steps[self.counted], document)

    def encode(self, step: Step) -> State:
        obs = {name: torch.as_tensor(step.obs[name], device=self.device) for name in self.names}
        return self.model.encode(obs, deterministic=True)

    def _chance(self) -> dict[str, Any]:
        return {"uniform": self.uniform, "persistent": self.walk}

    def _run(self, policy: Any, **how: Any) -> Tried:
        return self.trials.run(policy, names=self.names, **how)

    def _floor(self, chance: Mapping[str, Tried]) -> dict[str, Any]:
        rates = {name: rate(tried.solved[self.counted]) for name, tried in chance.items()}
        best = max(rates, key=lambda name: rates[name]["solved"])
        return {"policy": best, **rates[best], **rates}

    def _at_start(self) -> dict[str, Any]:
        """Episodes that began at their goal: those left out here, and those the environment drew and left out."""
        left_out, count = int((~self.counted).sum()), len(self.counted)
        share = (left_out + self.redrawn) / (count + self.redrawn)
        return {"share": share, "left_out": left_out, "drawn_again": self.redrawn}

    def _replanning(self) -> float:
        """The median of how long a plan for one environment takes, in milliseconds."""
        first = self.trials.begin()
        one = Goals({name: value[:1] for name, value in self.goals.obs.items()}, self.goals.state[:1])
        policy = PlannerPolicy(self.model, self.policy.planner, self.aim(self.model, one))
        obs = {name: torch.as_tensor(first.obs[name][:1]) for name in self.names}
        taken = []
        for _ in range(REPLANS + 1):  # the first is slower for reasons of its own
            began = time.perf_counter()
            policy(obs, policy.initial(1), is_first=torch.ones(1, dtype=torch.bool), explore=False)[0].cpu()
            taken.append(1000 * (time.perf_counter() - began))
        return round(statistics.median(taken[1:]), 3)


def _aim(key: str | None, energy: Any, over: Any) -> Aim:
    def aimed(model: WorldModel, goals: Goals) -> GoalObjective:
        names = tuple(model.io_contract().effective_input_spec.modalities) or tuple(goals.obs)
        device = next(model.parameters()).device
        goal = model.encode({n: torch.as_tensor(goals.obs[n], device=device) for n in names}, deterministic=True)
        return GoalObjective(goal, key=goal_key(goal, key), energy=energy, over=over)

    return aimed


def goal_key(goal: State, key: str | None) -> str | None:
    """Return which tensor of a goal to compare: what is asked for, else "latent" where there is one."""
    return "latent" if key is None and "latent" in goal else key


def _trials(
    model: WorldModel,
    env: Any,
    episodes: int | None,
    budget: int | None,
    frame_skip: int,
    seed: int,
    starts: np.ndarray | None,
    goals: np.ndarray | None,
) -> Trials:
    if not isinstance(env, GoalEnv):
        raise ConfigurationError(
            f"{type(env).__name__} has no goals: success is measured in a worldflux.envs.GoalEnv, such as "
            "study:two-room, whose reset takes starts and goals and which tells goals(), success() and distance()"
        )
    for name, value in (("episodes", episodes), ("budget", budget), ("frame_skip", frame_skip)):
        given = value is not None or name == "frame_skip"
        if given and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigurationError(f"{name} is {value!r}, expected a whole number of at least 1")
    if episodes not in (None, env.num_envs):
        raise ConfigurationError(
            f"{counted(episodes, 'episode is', 'episodes are')} asked for in {counted(env.num_envs, 'environment')}: "
            f"each has one, so make as many, make_env(NAME, num_envs={episodes})"
        )
    _check_fit(model, env, frame_skip)
    return Trials(env, seed, _budget(env, budget, frame_skip), starts, goals)


def _budget(env: GoalEnv, budget: int | None, frame_skip: int) -> int:
    """The steps in which a goal must be reached: by default as many whole actions as an episode has."""
    limit: int | None = getattr(env, "max_episode_steps", None)
    if budget is not None:
        return budget if limit is None else min(budget, limit)
    if limit is None:
        raise ConfigurationError("the environment does not say how long its episodes are: give a budget of steps")
    return max(limit - limit % frame_skip, min(limit, frame_skip))


def _check_fit(model: WorldModel, env: GoalEnv, frame_skip: int) -> None:
    contract = model.io_contract()
    for name, spec in contract.effective_input_spec.modalities.items():
        shown = env.obs_spec.get(name)
        if shown is None or shown.shape != spec.shape:
            what = {one: list(own.shape) for one, own in env.obs_spec.items()}
            raise ConfigurationError(
                f"the model observes {name!r} {list(spec.shape)}, the environment shows {what}: show it what it "
                "learned from (its options, its picture's size), or build the model for it"
            )
    check_actions(env.action_spec, contract.effective_action_specs, frame_skip=frame_skip, name="the environment")


def _about(model: WorldModel) -> dict[str, Any]:
    return {
        "family": model.config.model_type,
        "class": type(model).__name__,
        "parameters": sum(value.numel() for value in model.parameters()),
    }
