"""A run's model planning towards goals: those of its environment, or one that is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.core.spec import Capability, ModalityKind
from worldflux.core.state import State
from worldflux.data import open_dataset
from worldflux.data.npy import map_npy
from worldflux.data.pictures import read_picture
from worldflux.envs import GoalEnv
from worldflux.evals import GoalEvaluation, GoalSought, evaluate_goals, fit_probe, seek_goal
from worldflux.evals.drawing import observed
from worldflux.evals.goals.evaluation import goal_key
from worldflux.files import expanded, write_json
from worldflux.planners import GoalObjective, Planner, StateGoal, make_planner
from worldflux.words.counts import counted

from .actors import acts_alone
from .run import Run

GOALS, SOUGHT = "evaluation-goals.json", "planned-goal.json"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Enough for plans towards a goal of small models, at a thirtieth of what PlaNet's search costs.
LIGHT = {"cem": {"horizon": 10, "num_samples": 200, "num_elites": 20, "iterations": 6}}
FORMS = "env, a picture, an array FILE.npy, state:NAME=0.3,0.7, or a row DATA#EPISODE,ROW"


def goal_planner(name: str = "cem", **options: Any) -> Planner:
    """Return a planner by its name with defaults for planning towards goals. Raises as ``make_planner``."""
    return make_planner(name, **{**LIGHT.get(name, {}), **options})


def has_goals(run: Run) -> bool:
    """Tell whether the run's environment has goals of its own."""
    if not run.acts_in:
        return False
    with run.opened(frame_skip=1) as env:
        return isinstance(env, GoalEnv)


def not_compared(model: WorldModel, key: str | None) -> str | None:
    """Why it is not known which latent is compared with a goal's; None where it is."""
    names = sorted(model.state_spec().tensors)
    if key is not None or "latent" in names or len(names) == 1:
        return None
    return f"its states have {names}: say which of them is compared with a goal's, --key NAME"


def plans_alone(model: WorldModel) -> bool:
    """Tell whether a model knows neither a policy nor rewards: without a goal there is nothing it could do."""
    return not acts_alone(model) and not model.supports(Capability.REWARD_PRED)


def reach_goals(
    run: Run,
    *,
    planner: Planner | None = None,
    episodes: int = 50,
    budget: int | None = None,
    execute: int = 2,
    seed: int | None = None,
    energy: Any = "l1",
    over: Any = "last",
    key: str | None = None,
) -> GoalEvaluation:
    """Return how often planning with the run's model reaches the goals of its environment; see ``evaluate_goals``."""
    planner, seed = planner or goal_planner(), run.eval_seed(seed)
    with run.opened(num_envs=episodes, seed=seed, frame_skip=1) as env:
        return evaluate_goals(
            run.model,
            env,
            planner=planner,
            energy=energy,
            over=over,
            key=key,
            budget=budget,
            execute=min(execute, planner.horizon),
            frame_skip=run.settings.frame_skip,
            seed=seed,
        )


def seek(
    run: Run,
    goal: str,
    *,
    planner: Planner | None = None,
    episodes: int = 20,
    budget: int | None = None,
    execute: int = 2,
    seed: int | None = None,
    energy: Any = "l1",
    over: Any = "last",
    key: str | None = None,
) -> GoalSought:
    """Plan towards a goal that :func:`read_goal` understands, in the run's environment."""
    planner, seed = planner or goal_planner(), run.eval_seed(seed)
    objective = read_goal(run, goal, energy=energy, over=over, key=key)
    with run.opened(num_envs=episodes, seed=seed, frame_skip=1) as env:
        return seek_goal(
            run.model,
            env,
            objective,
            planner=planner,
            budget=budget,
            execute=min(execute, planner.horizon),
            frame_skip=run.settings.frame_skip,
            seed=seed,
            goal=goal,
        )


def keep_goals(document: Mapping[str, Any], folder: str | Path, *, name: str = GOALS) -> Path:
    """Write what was measured of goals into a folder, and return where."""
    place = expanded(folder) / name
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, dict(document))
    return place


def read_goal(
    run: Run, goal: str, *, energy: Any = "l1", over: Any = "last", key: str | None = None
) -> GoalObjective | StateGoal:
    """Return the objective that a goal in words stands for.

    ``FILE.png`` (or another picture) and ``FILE.npy`` are observations, the array possibly a latent;
    ``DATA#EPISODE,ROW`` is a recorded row, both counted from 0; ``state:NAME=0.3,0.7`` is a named state, which a linear
    probe reads that is fitted on the run's data.

    Raises:
        ConfigurationError: it is none of these, or of another size or modality than the model observes.
    """
    model = run.model
    if goal.startswith("state:"):
        return _named_state(run, goal.removeprefix("state:"), over=over, key=key)
    state = _state_of(run, model, goal)
    return GoalObjective(state, key=goal_key(state, key), energy=energy, over=over)


def _state_of(run: Run, model: WorldModel, goal: str) -> State:
    path = expanded(goal)
    if not path.is_file() and "#" in goal:
        return _encoded(model, _recorded_row(run, model, goal))
    if path.suffix.lower() not in (*PICTURES, ".npy"):
        raise ConfigurationError(f"the goal is {goal!r}, expected {FORMS}")
    if not path.is_file():
        raise ConfigurationError(f"the goal {goal!r} is not there: expected {FORMS}")
    shapes = _shapes(model)
    if path.suffix.lower() != ".npy":
        names = [name for name, spec in _modalities(model).items() if spec.kind is ModalityKind.IMAGE]
        picture = read_picture(path, channels=shapes[names[0]][0] if len(names) == 1 else 3)
        return _encoded(model, {_only(model, names, goal): picture})
    array = map_npy(path, path.name)
    latents = {name: spec.shape for name, spec in model.state_spec().tensors.items()}
    if tuple(array.shape) in latents.values() and tuple(array.shape) not in shapes.values():
        name = next(name for name, shape in latents.items() if shape == tuple(array.shape))
        device = next(model.parameters()).device
        return State({name: torch.as_tensor(np.array(array, np.float32), device=device).unsqueeze(0)})
    return _encoded(model, {_only(model, list(shapes), goal): array})


def _only(model: WorldModel, names: list[str], goal: str) -> str:
    """The one observation that a file stands for. Raises ConfigurationError where the model observes more."""
    if len(names) != 1 or len(_modalities(model)) != 1:
        raise ConfigurationError(
            f"{goal!r} is one array, but the model observes {_in_words(model)}: name a recorded row with all of it, "
            "DATA#EPISODE,ROW, or encode the goal in Python and give GoalObjective"
        )
    return names[0]


def _encoded(model: WorldModel, obs: Mapping[str, np.ndarray]) -> State:
    for name, value in obs.items():
        spec = _modalities(model)[name]
        if tuple(value.shape) != spec.shape or (spec.dtype == "uint8") != (value.dtype == np.uint8):
            raise ConfigurationError(
                f"the goal's {name!r} is {value.dtype} {list(value.shape)}, the model observes {_in_words(model)}: "
                "give it as the model sees it (resize the picture, or take a recorded row, DATA#EPISODE,ROW)"
            )
    device = next(model.parameters()).device
    with torch.no_grad():
        tensors = {name: torch.as_tensor(np.array(value), device=device).unsqueeze(0) for name, value in obs.items()}
        return model.encode(tensors, deterministic=True)


def _recorded_row(run: Run, model: WorldModel, goal: str) -> dict[str, np.ndarray]:
    source, _, place = goal.rpartition("#")
    numbers = place.split(",")
    if len(numbers) != 2 or not all(number.strip().isdecimal() for number in numbers):
        raise ConfigurationError(f"the goal is {goal!r}, expected DATA#EPISODE,ROW with two whole numbers from 0")
    data = observed(model, open_dataset(source), frame_skip=run.settings.frame_skip)
    episode, row = map(int, numbers)
    lengths = data.episodes.lengths
    if episode >= len(lengths) or row >= int(lengths[episode]):
        there = f"{counted(len(lengths), 'episode')}, from 0"
        if episode < len(lengths):
            there = f"{counted(int(lengths[episode]), 'row')} in episode {episode}, from 0"
        raise ConfigurationError(f"the goal is {goal!r}, but {source} has {there}")
    return {name: data.column(f"obs/{name}", episode)[row] for name in data.obs_spec}


def _named_state(run: Run, text: str, *, over: Any, key: str | None) -> StateGoal:
    name, _, values = text.partition("=")
    try:
        wanted = torch.tensor([float(value) for value in values.split(",")])
    except ValueError:
        raise ConfigurationError(f"the goal is 'state:{text}', expected state:NAME=NUMBER,NUMBER") from None
    data = run.experience.sets[0].training or run.experience.sets[0].whole
    probe = fit_probe(run.model, data, name, key=key, frame_skip=run.settings.frame_skip)
    if len(wanted) != len(probe.bias):
        raise ConfigurationError(f"{name!r} has {len(probe.bias)} numbers, the goal 'state:{text}' {len(wanted)}")
    return StateGoal(wanted, probe, over=over)


def _modalities(model: WorldModel) -> Mapping[str, Any]:
    return model.io_contract().effective_input_spec.modalities


def _shapes(model: WorldModel) -> dict[str, tuple[int, ...]]:
    return {name: spec.shape for name, spec in _modalities(model).items()}


def _in_words(model: WorldModel) -> str:
    return ", ".join(f"{name!r} {spec.dtype} {list(spec.shape)}" for name, spec in _modalities(model).items())
