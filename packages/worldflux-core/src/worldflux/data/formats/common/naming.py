"""Which column of a user's own file is what: as options say, or as columns are commonly called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from worldflux.core.errors import ConfigurationError

from .columns import picked, there

ACTION = ("action", "actions", "act", "acts")
REWARD = ("reward", "rewards", "rew", "rews", "next.reward")
TERMINAL = ("is_terminal", "terminated", "terminations", "termination", "terminal", "terminals", "next.terminated")
FIRST, LAST = ("is_first",), ("is_last",)
#: Say that an episode stops, not why.
STOPS = (
    "truncated",
    "truncations",
    "truncation",
    "timeout",
    "timeouts",
    "done",
    "dones",
    "next.done",
    "next.truncated",
)
#: Counts and notes that no model should see.
NOTES = ("discount", "discounts", "logprob", "log_prob", "stepid", "index", "id", "timestamp", "timestamps")
STEP = ("step_index", "step_idx", "step", "steps", "frame_index", "timestep", "timesteps", "t", "step_id")
EPISODE = (
    "episode_index", "episode_idx", "episode_id", "episode", "episodes", "ep_idx", "ep_index", "ep",
    "trajectory_id", "traj_id", "trajectory", "traj",
)  # fmt: skip
INFO = ("task", "tasks", "task_index", "success", "successes", "is_success")
_INFO_PARTS = ("info/", "infos/", "info.", "infos.")
#: Parts of what was done, or of what comes next: no observations.
_OTHER_PARTS = ("action/", "actions/", "action.", "actions.", "next")

#: The options that name columns.
OPTIONS = ("obs", "action", "reward", "terminal", "stops", "info")


@dataclass(frozen=True)
class Chosen:
    """Columns by their parts; None or empty where there is none."""

    observations: tuple[str, ...]
    action: str | None
    reward: str | None
    terminal: str | None
    first: str | None
    last: str | None
    stops: tuple[str, ...]
    info: tuple[str, ...]
    remarks: tuple[str, ...] = field(default=())

    @property
    def used(self) -> list[str]:
        """Every column that is read, each once."""
        single = [self.action, self.reward, self.terminal, self.first, self.last]
        return list(dict.fromkeys([*self.observations, *(one for one in single if one), *self.stops, *self.info]))


def choose(place: str, names: Sequence[str], options: dict[str, Any], *, keys: Sequence[str] = ()) -> Chosen:
    """Return which of the columns is what; ``keys`` are taken already. ``options`` loses those that name columns.

    Raises ConfigurationError, naming what there is, for a column that is not there, or where no observation is left.
    """
    said = {name: options.pop(name, ...) for name in OPTIONS}

    def one(part: str, common: Sequence[str]) -> str | None:
        if said[part] is ...:
            return next((name for name in common if name in names), None)
        return None if said[part] is None else there(place, part, said[part], names)

    def several(part: str) -> tuple[str, ...] | None:
        given = said[part]
        if given is ... or given is None:
            return None
        return picked(place, part, given, names)

    action, reward, terminal = one("action", ACTION), one("reward", REWARD), one("terminal", TERMINAL)
    first, last = (next((name for name in one if name in names), None) for one in (FIRST, LAST))
    stops, info = several("stops"), several("info")
    if stops is None:
        stops = tuple(name for name in STOPS if name in names and name != terminal)
    known = {action, *ACTION, *REWARD, reward, *TERMINAL, *FIRST, *LAST, *STOPS, *NOTES, *STEP, *EPISODE, *keys}
    if info is None:
        info = tuple(name for name in names if name not in known and (name in INFO or name.startswith(_INFO_PARTS)))
    observations = several("obs")
    if observations is None:
        observations = tuple(
            name for name in names if name not in {*known, *info} and not name.startswith(_OTHER_PARTS)
        )
    if not observations:
        raise ConfigurationError(
            f"{place} has no column left to observe among {', '.join(names)}: name them, as in obs=['state', 'image']"
        )
    chosen = Chosen(observations, action, reward, terminal, first, last, stops, info)
    return replace(chosen, remarks=_remarks(chosen, said))


def info_name(stored: str) -> str:
    """Return what a column that is kept beside the rows is called."""
    start = next((one for one in _INFO_PARTS if stored.startswith(one)), "")
    return stored[len(start) :] or stored


def _remarks(chosen: Chosen, said: dict[str, Any]) -> tuple[str, ...]:
    out = []
    if said["obs"] is ...:
        out.append(f"read as observations, since obs= does not say: {', '.join(chosen.observations)}")
    if chosen.action is None and said["action"] is ...:
        out.append(f"no actions: none of the columns is called {', '.join(ACTION)}; action= names it")
    if chosen.reward is None and said["reward"] is ...:
        out.append(f"no rewards: none of the columns is called {REWARD[0]} or {REWARD[1]}; reward= names it")
    ends = [name for name in chosen.stops if "done" in name]
    if chosen.terminal is None and ends and said["terminal"] is ...:
        out.append(
            f"{ends[0]!r} does not tell an end in truth from a time limit: episodes are read as cut short; "
            f"terminal={ends[0]!r} reads it as the end"
        )
    return tuple(out)
