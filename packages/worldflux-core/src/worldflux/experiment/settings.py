"""What a run is asked for, and what that means for a given model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from worldflux.core.errors import CheckpointError, ConfigurationError, did_you_mean
from worldflux.core.model import WorldModel
from worldflux.training import CollectConfig, TrainingConfig

DEFAULT_STEPS = 100_000
MAX_REPLAY_ROWS = 1_000_000
FREE_TO_CHANGE = frozenset(
    {"steps", "replay_capacity", "eval_every", "eval_episodes", "eval_explore", "save_every", "device"}
)
_LOWEST = {"seed": 0, "eval_every": 0, "save_every": 0}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run was asked for; ``None`` leaves a choice to the model's ``training_defaults()``, then to ``fit``.

    ``steps``, ``eval_every`` and ``save_every`` count environment steps, over all environments (0: only at the
    end); ``replay_ratio`` is in replayed rows for each of them. ``image_size`` observes the rendered picture,
    ``frame_stack`` the last so many pictures at once.
    ``eval_explore`` evaluates the policy as it explores, or (False) its best actions; families differ in the custom.
    ``model_options`` go to ``create_world_model``, ``env_options`` to the environment's constructor.

    Raises:
        ConfigurationError: a number is out of range, or of another type.
    """

    model: str
    env: str
    steps: int | None = None
    seed: int = 0
    env_options: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    frame_stack: int = 1
    num_envs: int | None = None
    replay_ratio: float | None = None
    replay_capacity: int | None = None
    batch_size: int | None = None
    sequence_length: int | None = None
    eval_every: int | None = None
    eval_episodes: int = 20
    eval_explore: bool | None = None
    save_every: int | None = None
    device: str = "auto"
    model_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            kind = str(item.type)
            wanted = str if kind == "str" else Mapping if kind.startswith("Mapping") else object
            if not isinstance(value, wanted) or (value is None and not kind.endswith("None")):
                raise ConfigurationError(f"{item.name} is {value!r}, expected {kind.partition('[')[0]}")
            if kind.startswith("int") and value is not None:
                low = _LOWEST.get(item.name, 1)
                if isinstance(value, bool) or not isinstance(value, int) or value < low:
                    raise ConfigurationError(f"{item.name} is {value!r}, expected a whole number of at least {low}")
        if self.eval_explore not in (None, True, False):
            raise ConfigurationError(f"eval_explore is {self.eval_explore!r}, expected True or False")
        ratio = self.replay_ratio
        if ratio is not None and not (isinstance(ratio, (int, float)) and ratio > 0 and math.isfinite(ratio)):
            raise ConfigurationError(f"replay_ratio is {ratio!r}, expected a positive number")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Build from a mapping. Raises ConfigurationError for an unknown name, with the nearest right one."""
        known = [item.name for item in fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigurationError(f"unknown option {name!r}.{did_you_mean(name, known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return everything by name, ready for JSON."""
        return asdict(self)

    def resuming(self, stored: Settings) -> Settings:
        """Return these settings, with the ``stored`` ones where nothing is asked for.

        Raises ConfigurationError if they differ in what makes a run another run.
        """
        for name, before in stored.to_dict().items():
            now = json.loads(json.dumps(getattr(self, name), default=str))  # as it is stored: tuples are lists
            if now is not None and now != before and name not in FREE_TO_CHANGE:
                raise ConfigurationError(
                    f"the run was started with {name} {before!r}, it cannot go on with {now!r}; "
                    f"only {', '.join(sorted(FREE_TO_CHANGE))} may change"
                )
        open_ = {item.name for item in fields(self) if getattr(self, item.name) is None}
        return replace(self, **{name: getattr(stored, name) for name in open_})


@dataclass(frozen=True)
class Plan:
    """Settings in which every choice is made, and the number of updates they amount to.

    ``warmup`` is the number of environment steps before the first update, ``steps_per_update`` those for each after.
    """

    settings: Settings
    updates: int
    warmup: int
    steps_per_update: float

    def interval(self, env_steps: int | None) -> int:
        """Return environment steps as a number of updates (0 stays 0)."""
        return max(1, round(env_steps / self.steps_per_update)) if env_steps else 0


def make_plan(settings: Settings, model: WorldModel) -> Plan:
    """Fill in what the settings leave open: from the model's ``training_defaults()``, then from what suits most."""
    common = {**TrainingConfig().to_dict(), **CollectConfig().to_dict()}
    fallback = {**common, "env_steps": DEFAULT_STEPS, **model.recipe().chosen()}

    def choose(name: str, default: Any) -> Any:
        value = getattr(settings, name)
        return default if value is None else value

    steps = choose("steps", fallback["env_steps"])
    num_envs = choose("num_envs", fallback["num_envs"])
    ratio = float(choose("replay_ratio", fallback["replay_ratio"]))
    batch_size = choose("batch_size", fallback["batch_size"])
    length = choose("sequence_length", fallback["sequence_length"])
    rows = batch_size * length
    # The source collects until a batch of different sequences can be drawn, or as many as the family wants first.
    first = fallback.get("min_rows") or rows
    warmup = num_envs * -(-(first + (length + model.context_rows) * num_envs) // num_envs)
    capacity = choose("replay_capacity", max(min(steps, MAX_REPLAY_ROWS), warmup))
    settings = replace(
        settings,
        steps=steps,
        num_envs=num_envs,
        replay_ratio=ratio,
        replay_capacity=capacity,
        batch_size=batch_size,
        sequence_length=length,
        eval_every=choose("eval_every", max(1, steps // 10)),
        eval_explore=choose("eval_explore", fallback.get("eval_explore", False)),
        save_every=choose("save_every", max(1, steps // 4)),
    )
    if fallback["catch_up"] and steps >= warmup:  # the first updates make up for the steps before them
        updates = max(1, math.floor(steps * ratio / rows))
    else:
        updates = 1 + max(0, math.floor((steps - warmup) * ratio / rows))
    return Plan(settings=settings, updates=updates, warmup=warmup, steps_per_update=rows / ratio)


def read_settings(directory: str | Path) -> Settings:
    """Return what the run in a directory was asked for. Raises CheckpointError if there is no run."""
    config = read_json(Path(directory) / "config.json")
    config.pop("training", None)
    try:
        return Settings.from_dict(config)
    except (ConfigurationError, TypeError) as error:
        raise CheckpointError(f"{directory} was not made by 'worldflux train' or worldflux.fit: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a run. Raises CheckpointError if it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} holds no run: {path.name} is missing{_near(path.parent)}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return value


def _near(directory: Path) -> str:
    """Name the runs in a directory that is none itself, or the run beside it whose name is nearest."""
    inside = sorted(path.parent.name for path in directory.glob("*/config.json"))
    if inside:
        return f"; the runs in it are {', '.join(inside[:10])}"
    return did_you_mean(directory.name, [path.parent.name for path in directory.parent.glob("*/config.json")])
