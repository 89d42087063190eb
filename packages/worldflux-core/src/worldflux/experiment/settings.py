"""What a run is asked for, and what that means for a given model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch

from worldflux import files
from worldflux.core.errors import CheckpointError, ConfigurationError, did_you_mean
from worldflux.core.fields import Amount, Count, Field, Positive
from worldflux.core.model import WorldModel
from worldflux.core.persistence import META
from worldflux.training import CollectConfig, TrainingConfig
from worldflux.training.options import Options
from worldflux.words.counts import counted

from .actors import choose_policy
from .environment import same_env

DEFAULT_STEPS = 100_000
TOLD = ("asked", "resolved")  # of config.json: for those who read it, and no settings themselves
MAX_REPLAY_ROWS = 1_000_000
FREE_TO_CHANGE = frozenset(
    {
        *("steps", "updates", "data", "save_every", "device", "threads"),
        *("replay_capacity", "replay_bytes", "replay_storage"),
        *("eval_every", "eval_episodes", "eval_explore", "eval_max_steps", "eval_share", "eval_env"),
    }
)


class NoRunError(CheckpointError, ConfigurationError):
    """There is no run where one was said to be: the caller's mistake, and no damage."""


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """What a run was asked for: options of its own, and those of training and of collecting, all by their flat names.

    ``env`` is collected in; ``eval_env`` is only evaluated in. ``data`` names recorded sets, drawn from by
    ``data_weights`` (default: by their rows) and read with ``data_options``; ``held_out`` of each set's episodes are
    only evaluated on; ``obs`` names what is learned from of what a set shows (default: all of it); ``frame_skip`` k
    keeps every k-th row, whose action then is the k up to the next. With ``env``, too, the sets fill the replay before
    collecting begins. ``start_from`` is the run or saved model whose weights are the first ones. ``steps``,
    ``eval_every`` and ``save_every`` count environment steps, over all environments (0: only at the end); without
    ``env`` they count updates, and ``updates`` says how many. None leaves a choice to the model's
    recipe, then to ``fit``. ``policy`` acts in training and evaluations: "own"
    (where the model has one), "random", or a planner by its name, which ``policy_options`` go to. ``eval_explore``
    evaluates the policy as it explores, or (False) its best actions; families differ in the custom. ``eval_max_steps``
    is where an evaluation cuts an episode (default: what the environment says, else 10,000); ``eval_share`` is the part
    of the run's wall time that periodic evaluations may take. ``model_options`` go to ``create_world_model``, as do
    ``component_overrides`` (ids of registered components by slot); ``env_options`` go to the environment's
    constructor. ``from_dict`` takes ``batch_size`` and the like beside these, and they can be read here, too. Raises
    ConfigurationError.
    """

    model: str
    env: str | None = None
    eval_env: str | None = None
    data: list[str] = field(default_factory=list)
    data_weights: list[Positive] = field(default_factory=list)
    data_options: dict[str, Any] = field(default_factory=dict)
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    frame_skip: Count = 1
    obs: list[str] = field(default_factory=list)
    updates: Count | None = None
    start_from: str | None = None
    policy: str | None = None
    policy_options: dict[str, Any] = field(default_factory=dict)
    steps: Count | None = None
    env_options: dict[str, Any] = field(default_factory=dict)
    eval_every: Amount | None = None
    eval_episodes: Count = 20
    eval_explore: bool | None = None
    eval_max_steps: Count | None = None
    eval_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    save_every: Amount | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    component_overrides: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(seed=0))
    collect: CollectConfig = field(default_factory=CollectConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_experience()
        for name in ("model_options", "env_options", "policy_options", "data_options"):
            try:
                json.dumps(getattr(self, name))
            except (TypeError, ValueError) as error:
                raise self.error(
                    f"{name} is {getattr(self, name)!r}, expected what JSON can hold, as a run keeps it ({error})"
                ) from None
        for slot, component in self.component_overrides.items():
            if not isinstance(component, str):
                raise self.error(
                    f"component_overrides[{slot!r}] is {component!r}, expected the id of a registered component: a run "
                    "keeps it, to go on and to be opened again; WorldModelRegistry.register_component(id, factory, "
                    "ComponentSpec(id, slot)) gives it one, and a Trainer takes any model"
                )

    def _check_experience(self) -> None:
        if self.env is None and not self.data:
            raise self.error("a run learns from an environment, from data, or from both: give env=, data=, or the two")
        if self.env is not None and self.eval_env is not None:
            raise self.error(f"eval_env is for a run that collects in no environment: it is evaluated in {self.env!r}")
        if self.env is not None and self.updates is not None:
            raise self.error("updates is for training from data alone; in an environment say steps and replay_ratio")
        if self.env is None and self.steps is not None:
            raise self.error("steps counts environment steps, and no environment is collected in: say updates")
        if self.data_weights and len(self.data_weights) != len(self.data):
            sets = counted(len(self.data), "set")
            raise self.error(f"{len(self.data_weights)} data_weights for {sets} of data: give each one")
        if self.env is not None and self.frame_skip > 1:
            raise self.error("frame_skip is for training from data alone: an environment takes one action a row")
        told = {"data_options": self.data_options, "obs": self.obs}
        if not self.data and (name := next((name for name, value in told.items() if value), None)):
            raise self.error(f"{name} is about data, but no data is named")

    @property
    def acts_in(self) -> str | None:
        """The environment that the policy acts in, if only to be evaluated."""
        return self.env if self.env is not None else self.eval_env

    @property
    def about(self) -> str:
        """The model and what it learns from, in words."""
        data = " and ".join(Path(source).name or source for source in self.data)
        parts = [f"from {data}"] if data else []
        return " ".join([self.model, *parts, *([f"in {self.acts_in}"] if self.acts_in else [])])

    def __getattr__(self, name: str) -> Any:  # of what is not found here
        for part in PARTS:
            if name in PARTS[part].names() and part in vars(self):
                return getattr(vars(self)[part], name)
        raise AttributeError(f"settings have no {name!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Build from a flat mapping. Raises ConfigurationError for an unknown name, with the nearest right one."""
        own = [name for name in cls.names() if name not in PARTS]
        known = [*own, *(name for kind in PARTS.values() for name in kind.names() if name not in FOLLOWS)]
        for name in values:
            if name not in known:
                hint = f" {FOLLOWS[name]}" if name in FOLLOWS else did_you_mean(name, known)
                raise ConfigurationError(f"unknown option {name!r}.{hint}")
        parts = {part: {n: v for n, v in values.items() if n in kind.names()} for part, kind in PARTS.items()}
        parts["training"].setdefault("seed", 0)
        built = {part: kind(**parts[part]) for part, kind in PARTS.items()}
        return cls(**{name: value for name, value in values.items() if name in own}, **built)

    def to_dict(self) -> dict[str, Any]:
        """Return everything by its flat name, ready for JSON."""
        found = {name: getattr(self, name) for name in self.names() if name not in PARTS}
        for part, kind in PARTS.items():
            found |= {name: getattr(getattr(self, part), name) for name in kind.names() if name not in FOLLOWS}
        return found

    def asked(self) -> dict[str, Any]:
        """Return by its flat name what was asked for; the model's recipe has its say in the rest."""
        parts = (self.training, self.collect)
        left = {name for part in parts for name in part.names() if name not in part.given}
        return {name: value for name, value in self.to_dict().items() if name not in left}

    def resuming(self, stored: Settings) -> Settings:
        """Return these settings, with the ``stored`` ones where nothing is asked for.

        Raises ConfigurationError if they differ in what makes a run another run.
        """
        asked = self.to_dict()
        envs = {name: getattr(stored, name) for name in ("env", "eval_env") if same_env_of(stored, self, name)}
        asked |= envs
        for name, before in stored.to_dict().items():
            now = json.loads(json.dumps(asked[name], default=str))  # as it is stored: tuples are lists
            if now is not None and now != before and name not in FREE_TO_CHANGE:
                raise ConfigurationError(
                    f"the run was started with {name} {before!r}, it cannot go on with {now!r}; "
                    f"only {', '.join(sorted(FREE_TO_CHANGE))} may change"
                )
        left = {name: getattr(stored, name) for name in self.names() if getattr(self, name) is None}
        return replace(self, **{**left, **envs})


def same_env_of(stored: Settings, now: Settings, name: str) -> bool:
    """Tell whether both name the same environment as ``name``, if only one made by a callable that may be renamed."""
    before, asked = getattr(stored, name), getattr(now, name)
    return before is not None and asked is not None and same_env(before, asked)


PARTS: dict[str, Any] = {"training": TrainingConfig, "collect": CollectConfig}
_OF_FIT = "It follows from steps, eval_every and save_every, which count environment steps."
FOLLOWS = {  # options of training that fit chooses itself
    **dict.fromkeys(("total_steps", "log_interval", "eval_interval", "save_interval"), _OF_FIT),
    "keep_checkpoints": "A run keeps its last two, each with its replay.",
    "output_dir": "It is called run.",
}


@dataclass(frozen=True)
class Plan:
    """Settings in which every choice is made, and the number of updates they amount to.

    ``warmup`` is the number of environment steps before the first update.
    """

    settings: Settings
    updates: int
    warmup: int


def make_plan(settings: Settings, model: WorldModel, *, recorded: int = 0) -> Plan:
    """Fill in what the settings leave open: from the model's recipe, then from what suits most.

    ``recorded`` rows are there before the first environment step.
    """
    recipe = model.recipe()
    training, collect = settings.training.with_defaults(recipe), settings.collect.with_defaults(recipe)
    if settings.env is None:
        return _plan_of_data(replace(settings, training=training, collect=collect), model)
    steps = settings.steps or recipe.env_steps or DEFAULT_STEPS
    rows, streams = training.batch_size * training.sequence_length, collect.num_envs
    # The source collects until a batch of different sequences can be drawn, or as many as the family wants first.
    first = max(collect.min_rows or rows, collect.random_steps)
    warmup = streams * -(-(first + (training.sequence_length + model.context_rows) * streams) // streams)
    if "replay_capacity" not in collect.given and recipe.replay_capacity is None:
        collect = replace(collect, replay_capacity=max(min(steps, MAX_REPLAY_ROWS) + recorded, warmup))
    if "replay_capacity" not in collect.given and collect.replay_bytes is not None:  # which say how many rows
        collect = replace(collect, replay_capacity=max(steps + recorded, warmup))
    if recorded and "random_steps" not in collect.given:  # the data stands for them
        collect = replace(collect, random_steps=0)
    warmup = max(0, warmup - recorded)
    chosen = replace(settings, steps=steps, training=training, collect=collect)
    settings = _with_intervals(chosen, steps, model, policy=choose_policy(model, settings.policy))
    if collect.catch_up and steps >= warmup:  # the first updates make up for the steps before them
        updates = max(1, math.floor(steps * collect.replay_ratio / rows))
    else:
        updates = 1 + max(0, math.floor((steps - warmup) * collect.replay_ratio / rows))
    return Plan(settings=settings, updates=updates, warmup=warmup)


def _plan_of_data(settings: Settings, model: WorldModel) -> Plan:
    """The plan of a run that collects nothing: by default as many updates as the family makes in an environment."""
    recipe, rows = model.recipe(), settings.training.batch_size * settings.training.sequence_length
    usual = math.floor((recipe.env_steps or DEFAULT_STEPS) * settings.collect.replay_ratio / rows)
    updates = settings.updates or max(1, usual)
    policy = choose_policy(model, settings.policy) if settings.eval_env is not None else settings.policy
    chosen = replace(settings, updates=updates)
    return Plan(_with_intervals(chosen, updates, model, policy=policy), updates=updates, warmup=0)


def _with_intervals(settings: Settings, length: int, model: WorldModel, *, policy: str | None) -> Settings:
    """Settings whose open intervals are parts of a run's length, in its own steps."""

    def choose(name: str, default: Any) -> Any:
        value = getattr(settings, name)
        return default if value is None else value

    return replace(
        settings,
        policy=policy,
        eval_every=choose("eval_every", max(1, length // 10)),
        eval_explore=choose("eval_explore", bool(model.recipe().eval_explore)),
        save_every=choose("save_every", max(1, length // 4)),
    )


def resolved(plan: Plan, model: WorldModel, device: torch.device) -> dict[str, Any]:
    """Return what a run's settings amount to, ready for JSON: where, how often, and every option of the model."""
    training, collect = plan.settings.training, plan.settings.collect
    return {
        "device": str(device),
        "updates": plan.updates,
        "steps_before_the_first_update": plan.warmup,
        "min_rows": collect.min_rows or training.batch_size * training.sequence_length,
        "recipe": model.recipe().chosen(),
        "components": dict(model.component_ids),
        "model_options": model.config.to_dict(),
    }


def read_asked(directory: Path) -> set[str]:
    """Return the names of what the run in a directory was told, and did not choose itself."""
    asked = read_json(directory / "config.json").get("asked")
    return {name for name in asked if isinstance(name, str)} if isinstance(asked, list) else set()


def saved_model(directory: Path) -> Path | None:
    """Return the folder of the saved model that a directory is, or that a ``Trainer`` left in it; None for a run."""
    if (directory / META).is_file():
        return directory
    config = directory / "config.json"
    of_trainer = config.is_file() and "model" not in files.read_json(config)
    return directory / "model" if of_trainer and (directory / "model" / META).is_file() else None


def model_settings(directory: Path, model: Path, *, seen: Mapping[str, int | None], **about: Any) -> Settings:
    """Return settings to measure a saved model by in an environment (``env``), or on recorded ``data``.

    The environment is seen as told, else as in the model's training, if known.

    Raises ConfigurationError or CheckpointError if what a ``Trainer`` stored beside it is damaged.
    """
    stored = files.read_json(directory / "config.json").get("collect") if model != directory else None
    known = {name: stored[name] for name in seen if name in stored} if isinstance(stored, dict) else {}
    if known and "render_size" not in known:  # of earlier versions; see read_settings
        known["render_size"] = known.pop("image_size", None)
    told = {name: size for name, size in seen.items() if size is not None}
    return Settings.from_dict({"model": str(model), **about, **known, **told})


def read_settings(directory: str | Path) -> Settings:
    """Return what the run in a directory was asked for. Raises CheckpointError if there is no run."""
    config = read_json(files.expanded(directory) / "config.json")
    for told in (*TOLD, "training"):
        config.pop(told, None)
    if "model" not in config:
        raise CheckpointError(
            f"{directory} was not made by 'worldflux train' or worldflux.fit: a saved model, or the model that a "
            "Trainer left when it finished, is opened with its environment, Run.load(DIRECTORY, env=NAME) or --env "
            "NAME, or with data to be measured on, data=DIR or --data DIR"
        )
    if "render_size" not in config:  # earlier versions rendered for image_size, whatever the environment shows
        config["render_size"] = config.pop("image_size", None)
    try:
        return Settings.from_dict(config)
    except (ConfigurationError, TypeError) as error:
        raise CheckpointError(f"{directory} was not made by 'worldflux train' or worldflux.fit: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a run. Raises CheckpointError if it is missing or damaged."""
    if not path.is_file():
        raise NoRunError(f"{path.parent} holds no run: {path.name} is missing{_near(path.parent)}")
    return files.read_json(path)


def _near(directory: Path) -> str:
    """Name the runs in a directory that is none itself, or the run beside it whose name is nearest."""
    inside = sorted(path.parent.name for path in directory.glob("*/config.json"))
    if inside:
        return f"; the runs in it are {', '.join(inside[:10])}"
    return did_you_mean(directory.name, [path.parent.name for path in directory.parent.glob("*/config.json")])
