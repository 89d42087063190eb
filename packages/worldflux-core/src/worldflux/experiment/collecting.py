"""Recording episodes in an environment: whole ones, as many as are asked for, whoever acts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.core.policy import Policy
from worldflux.core.spec import ModalityKind
from worldflux.data import DatasetWriter
from worldflux.data.bounds import env_bounds
from worldflux.data.native.page import PAGE, read_page
from worldflux.data.npy import memory
from worldflux.envs import RandomPolicy, Step, VectorEnv, make_env
from worldflux.envs.acting import acting
from worldflux.envs.closing import closing
from worldflux.envs.identity import innermost
from worldflux.envs.limits import begin_anew
from worldflux.envs.step import info_spec
from worldflux.envs.study.options import is_study
from worldflux.envs.study.policies import StudyPolicy
from worldflux.files import expanded

from .environment import Env, env_name
from .functions import function_policy
from .run import Run
from .single_steps import SingleSteps

SEAL_SECONDS = 30.0
TELL_SECONDS = 0.5  # between two tellings of how far it is while no episode ends
ROW_BYTES = 1 << 10  # of a row in memory beside its numbers
MAX_STEPS = 100_000  # of an episode, where no limit is asked for and the memory does not say less
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collected:
    """How far collecting is: what the dataset holds, what this call has added, and the rows of open episodes."""

    out: Path
    episodes: int
    rows: int
    sealed: int
    added: int
    returns: tuple[float, ...]
    under_way: int = 0

    @property
    def mean_return(self) -> float | None:
        """Of the added episodes; None without one."""
        return float(np.mean(self.returns)) if self.returns else None


def collect(
    out: str | Path,
    *,
    episodes: int,
    env: Env | None = None,
    policy: str | Path | Policy = "random",
    num_envs: int = 1,
    seed: int = 0,
    explore: bool = True,
    env_options: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    render_size: int | None = None,
    frame_stack: int | None = None,
    max_episode_steps: int | None = None,
    images: Literal["auto", "raw", "zstd"] = "auto",
    seal_seconds: float = SEAL_SECONDS,
    command: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Collected], None] = lambda now: None,
) -> Collected:
    """Record until the dataset in ``out`` holds so many ``episodes``; called again, it goes on, and none repeats.

    Args:
        out: the dataset's folder, made if absent.
        episodes: how many it shall hold in all. Only whole ones are kept, and every one that was begun is waited for,
            so that short ones are not preferred.
        env: as ``make_env`` takes it; may be left out where ``policy`` is a run, whose environment it is then.
        policy: "random", the directory of a run, ``module:function`` or ``file.py:function``, "study:scripted" and its
            like in an environment for study, or a policy.
            A function is given the observations, ``[N, ...]`` by name, and returns flat actions ``[N, A]``.
        num_envs: environments in lockstep.
        seed: of the environments and of what acts at random.
        explore: whether a run's policy acts as in training, or as well as it can.
        env_options: arguments of what ``env`` names.
        image_size: make the images that are observed so many pixels a side.
        render_size: observe the rendered picture, so many pixels a side, instead.
        frame_stack: observe the last so many pictures; each is stored once.
        max_episode_steps: an episode that is not over after so many is cut there, not as one that ended in truth, and
            another begins. Rows stay in memory until their episode is over, so without this the limit is 100,000, or
            what a quarter of the memory holds, and reaching it is warned of.
        images: how they are stored, see ``DatasetWriter``.
        seal_seconds: how much a process that is killed may lose.
        command: what was typed, for the provenance.
        stop: asked at every step; once it is true, what is whole is sealed.
        progress: told how far it is, after each episode.

    Raises:
        ConfigurationError: ``out`` holds other episodes, or something that is asked for does not exist or cannot be.
        DatasetError: an observation or a reward is no number, or the disk is full. EnvironmentFailure.
    """
    if isinstance(episodes, bool) or not isinstance(episodes, int) or episodes < 1:
        raise ConfigurationError(f"episodes is {episodes!r}, expected a whole number of at least 1")
    if max_episode_steps is not None and (type(max_episode_steps) is not int or max_episode_steps < 1):
        raise ConfigurationError(f"max_episode_steps is {max_episode_steps!r}, expected a whole number of at least 1")
    seen = {"image_size": image_size, "render_size": render_size, "frame_stack": frame_stack}
    with _opened(env, policy, dict(env_options or {}), seen, num_envs) as opened:
        world = opened.env
        _check_same_env(expanded(out), opened)
        writer = DatasetWriter(
            out,
            world.obs_spec,
            world.action_spec,
            action_bounds=env_bounds(world),
            info_spec=info_spec(world),
            frame_stack=opened.stacks,
            images=images,
            mode="append",
        )
        with writer:
            session = len(writer.sources)
            own = seed if session == 0 else _seed(seed, session)
            about = {
                **opened.about(policy, command), "num_envs": world.num_envs, "seed": seed, "session": session,
                "explore": explore,
                **({} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}),
            }  # fmt: skip
            recorder = _Recorder(writer, opened, about, episodes, max_episode_steps, seal_seconds, progress)
            actor = opened.policy(own)
            return recorder.run(actor, explore=explore, seed=own, stop=stop)


@dataclass
class _Opened:
    """An environment, and what makes who acts in it from a seed."""

    env: VectorEnv
    name: str
    stack: int
    policy: Callable[[int], Policy]
    options: Mapping[str, Any]
    seen: Mapping[str, Any]

    @property
    def stacks(self) -> dict[str, int]:
        """The images that are stacks of frames, each with their number."""
        images = [name for name, spec in self.env.obs_spec.items() if spec.kind is ModalityKind.IMAGE]
        return dict.fromkeys(images, self.stack) if self.stack > 1 else {}

    def about(self, policy: Any, command: str | None) -> dict[str, Any]:
        """Where the episodes come from."""
        said = str(policy) if isinstance(policy, (str, Path)) else type(policy).__name__
        given = {name: value for name, value in self.seen.items() if value is not None}
        return {
            "env": self.name,
            "env_options": {name: repr(value) for name, value in self.options.items()},
            "env_version": _version_of(self.env),
            **given,
            "policy": said,
            **({} if command is None else {"command": command}),
            "versions": {name: version(name) for name in ("worldflux-core", "numpy", "torch")},
        }


@dataclass
class _Recorder:
    """Takes rows as they come, and gives whole episodes to the writer."""

    writer: DatasetWriter
    opened: _Opened
    about: dict[str, Any]
    episodes: int
    max_steps: int | None
    seal_seconds: float
    progress: Callable[[Collected], None]
    returns: list[float] = field(default_factory=list)
    open_rows: list[list[dict[str, Any]] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.before = self.writer.episodes

    def run(self, policy: Policy, *, explore: bool, seed: int, stop: Callable[[], bool]) -> Collected:
        env, writer = self.opened.env, self.writer
        begun, sealed_at, told_at = self.before, time.monotonic(), time.monotonic()
        if self.before >= self.episodes:
            return self._now()
        mark, limit = self._mark(), self.max_steps or _steps_in_memory(env)
        self.open_rows = [None] * env.num_envs
        carry, step = policy.initial(env.num_envs), env.reset(seed=seed)
        while writer.episodes < self.episodes and not stop():
            actions, carry = _act(policy, step, carry, explore)
            cut = np.zeros(env.num_envs, bool)
            for i in range(env.num_envs):
                if step.is_first[i]:
                    self.open_rows[i] = [] if begun < self.episodes else None  # only what was begun is waited for
                    begun += self.open_rows[i] is not None
                rows = self.open_rows[i]
                if rows is None:
                    continue
                cut[i] = len(rows) == limit and not step.is_last[i]
                last = bool(step.is_last[i] or cut[i])
                rows.append(self._row(step, actions, i, last=last))
                if last:
                    self._keep(i, f"{mark}-{writer.episodes - self.before:06d}", terminal=bool(step.is_terminal[i]))
            if cut.any():
                self._begin_anew(cut, limit)
            now = time.monotonic()
            if now - sealed_at > self.seal_seconds:
                writer.seal()
                sealed_at = now
            if now - told_at > TELL_SECONDS:
                self.progress(self._now())
                told_at = now
            if writer.episodes < self.episodes:
                step = env.step(actions)
        writer.seal()
        return self._now()

    def _keep(self, i: int, name: str, *, terminal: bool) -> None:
        """Give the writer an episode, without a second copy of its rows beside it."""
        rows = self.open_rows[i]
        assert rows
        self.open_rows[i] = None
        paid = float(sum(row["reward"] for row in rows))
        columns = {name: np.stack([row.pop(name) for row in rows]) for name in list(rows[0])}
        self.writer.append(columns, id=name, terminal=terminal, provenance=self.about)
        self.returns.append(paid)
        self.progress(self._now())

    def _begin_anew(self, cut: np.ndarray, limit: int) -> None:
        begin_anew(self.opened.env, cut)
        if self.max_steps is None:
            logger.warning(
                "environment %d: its episode was not over after %s steps, which is what is kept in memory: it was cut "
                "there, not as one that ended in truth, and another begins; max_episode_steps (--max-episode-steps) "
                "says after how many", int(np.argmax(cut)), f"{limit:,}",
            )  # fmt: skip

    def _mark(self) -> str:
        """What the ids begin with: the same episodes have the same ids, wherever they are recorded."""
        own = {name: value for name, value in self.about.items() if name not in ("command", "versions")}
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]

    def _row(self, step: Step, actions: np.ndarray, i: int, *, last: bool) -> dict[str, Any]:
        row: dict[str, Any] = {"reward": step.reward[i], "action": actions[i].copy() * (not last)}
        for name, value in step.obs.items():
            channels = value.shape[1] // self.opened.stack if name in self.opened.stacks else 0
            row[f"obs/{name}"] = np.array(value[i, -channels:] if channels else value[i])  # the newest frame of a stack
        return row | {f"info/{name}": np.array(value[i]) for name, value in step.infos.items()}

    def _now(self) -> Collected:
        writer, open_rows = self.writer, sum(len(rows) for rows in self.open_rows if rows)
        added = writer.episodes - self.before
        return Collected(
            writer.path, writer.episodes, writer.rows, writer.sealed, added, tuple(self.returns), open_rows
        )


def _steps_in_memory(env: VectorEnv) -> int:
    """How many steps the open episodes may have that a quarter of the memory holds, but not without end."""
    specs = [*env.obs_spec.values(), *info_spec(env).values()]
    shown = sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in specs)
    row = shown + 4 * env.action_spec.dim + ROW_BYTES
    return max(1, min(MAX_STEPS, memory() // 4 // (row * env.num_envs)))


@contextlib.contextmanager
def _opened(
    env: Env | None, policy: Any, options: dict[str, Any], seen: Mapping[str, int | None], num_envs: int
) -> Iterator[_Opened]:
    from_run = isinstance(policy, Path) or (isinstance(policy, str) and policy != "random" and Path(policy).is_dir())
    if from_run:
        sizes: dict[str, Any] = dict(seen)
        run = Run.load(policy, env=env, env_options=options or None, **sizes)
        stack, skip = run.settings.frame_stack or 1, run.settings.frame_skip
        with run.opened(num_envs=num_envs, frame_skip=1) as made:  # every row is recorded, whichever it learned from
            own = lambda seed: run.policy(run.model, None, seed=seed)
            acts = own if skip == 1 else lambda seed: SingleSteps(own(seed), frame_skip=skip)
            shown = {name: getattr(run.settings, name) for name in seen}
            yield _Opened(made, run.acts_in, stack, acts, run.env_options, shown)
        return
    if env is None and isinstance(policy, str) and policy != "random" and ":" not in policy:
        raise ConfigurationError(
            f"policy is {policy!r}, which is no run's directory: name one that is, or an environment and random or "
            "module:function as the policy"
        )
    if env is None:
        raise ConfigurationError("env is missing: name the environment, or a run as the policy, whose own it is then")
    stack = seen["frame_stack"] or 1
    sizes = {"image_size": seen["image_size"], "render_size": seen["render_size"]}
    with closing(make_env(env, num_envs=num_envs, env_options=options, frame_stack=stack, **sizes)) as made:
        yield _Opened(made, env_name(env), stack, _acting(policy, made), options, seen)


def _acting(policy: Any, env: VectorEnv) -> Callable[[int], Policy]:
    if policy == "random":
        return lambda seed: RandomPolicy(env.action_spec, seed=seed)
    if is_study(policy):
        StudyPolicy(policy, env)  # who is unknown, or cannot act here, is refused before anything is written
        return lambda seed: StudyPolicy(policy, env, seed=seed)
    made: Policy = function_policy(policy, env.action_spec) if isinstance(policy, str) else policy
    return lambda seed: made


def _act(policy: Policy, step: Step, carry: Any, explore: bool) -> tuple[np.ndarray, Any]:
    with torch.no_grad(), acting(policy):
        obs = {name: torch.as_tensor(value) for name, value in step.obs.items()}
        actions, carry = policy(obs, carry, is_first=torch.as_tensor(step.is_first), explore=explore)
    return actions.cpu().numpy().astype(np.float32, copy=False), carry


def _seed(seed: int, session: int) -> int:
    """The seed of a later call, whose episodes are others."""
    return int(np.random.SeedSequence(seed, spawn_key=(session,)).generate_state(1)[0])


def _check_same_env(out: Path, opened: _Opened) -> None:
    """Raise ConfigurationError, naming the argument, if ``out`` holds episodes of another environment, or seen so."""
    ours = opened.about(None, None)
    recorded = [source for source in read_page(out).sources if "env" in source] if (out / PAGE).is_file() else []
    for name in ("env", "env_options", "image_size", "render_size"):
        for there in (source.get(name) or None for source in recorded):
            here = ours.get(name) or None
            if there != here:
                theirs, its = (f"{name} {value}" if value else f"no {name}" for value in (there, here))
                raise ConfigurationError(
                    f"{out} holds episodes of {theirs}, these are of {its}: choose another folder, and put them "
                    "together with 'worldflux data merge' where their rows are alike"
                )


def _version_of(env: VectorEnv) -> dict[str, str]:
    """The version of the distribution that is called as the environment's package is, and Gymnasium's."""
    inner = getattr(env, "_env", env)
    core = innermost(next(iter(getattr(inner, "_envs", [inner]))))
    root = type(core).__module__.partition(".")[0]
    found = {}
    for name in sorted({root, "gymnasium"}):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
