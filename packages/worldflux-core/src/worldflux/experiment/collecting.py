"""Recording episodes in an environment: whole ones, as many as are asked for, whoever acts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
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
from worldflux.envs import RandomPolicy, Step, VectorEnv, make_env
from worldflux.envs.acting import acting
from worldflux.envs.closing import closing
from worldflux.envs.identity import innermost

from .environment import Env, env_name
from .functions import function_policy
from .run import Run

SEAL_SECONDS = 30.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collected:
    """How far collecting is: what the dataset holds, and what this call has added to it."""

    out: Path
    episodes: int
    rows: int
    sealed: int
    added: int
    returns: tuple[float, ...]

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
        policy: "random", the directory of a run, ``module:function`` or ``file.py:function``, or a policy.
            A function is given the observations, ``[N, ...]`` by name, and returns flat actions ``[N, A]``.
        num_envs: environments in lockstep.
        seed: of the environments and of what acts at random.
        explore: whether a run's policy acts as in training, or as well as it can.
        env_options: arguments of what ``env`` names.
        image_size: make the images that are observed so many pixels a side.
        render_size: observe the rendered picture, so many pixels a side, instead.
        frame_stack: observe the last so many pictures; each is stored once.
        images: how they are stored, see ``DatasetWriter``.
        seal_seconds: how much a process that is killed may lose.
        command: what was typed, for the provenance.
        stop: asked at every step; once it is true, what is whole is sealed.
        progress: told how far it is, after each episode.

    Raises:
        ConfigurationError: ``out`` holds other episodes, or something that is asked for does not exist.
        DatasetError: an observation or a reward is no number, or the disk is full. EnvironmentFailure.
    """
    if isinstance(episodes, bool) or not isinstance(episodes, int) or episodes < 1:
        raise ConfigurationError(f"episodes is {episodes!r}, expected a whole number of at least 1")
    seen = {"image_size": image_size, "render_size": render_size, "frame_stack": frame_stack}
    with _opened(env, policy, dict(env_options or {}), seen, num_envs) as opened:
        world = opened.env
        writer = DatasetWriter(
            out, world.obs_spec, world.action_spec, frame_stack=opened.stacks, images=images, mode="append"
        )
        with writer:
            _check_same_env(writer, opened)
            session = len(writer.sources)
            own = seed if session == 0 else _seed(seed, session)
            about = {
                **opened.about(policy, command), "num_envs": world.num_envs, "seed": seed, "session": session,
                "explore": explore,
            }  # fmt: skip
            recorder = _Recorder(writer, opened, about, episodes, seal_seconds, progress)
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
    seal_seconds: float
    progress: Callable[[Collected], None]
    returns: list[float] = field(default_factory=list)

    def run(self, policy: Policy, *, explore: bool, seed: int, stop: Callable[[], bool]) -> Collected:
        env, writer = self.opened.env, self.writer
        before, begun, sealed_at = writer.episodes, writer.episodes, time.monotonic()
        if before >= self.episodes:
            return self._now(before)
        mark = self._mark()
        open_rows: list[list[dict[str, Any]] | None] = [None] * env.num_envs
        carry, step = policy.initial(env.num_envs), env.reset(seed=seed)
        while writer.episodes < self.episodes and not stop():
            actions, carry = _act(policy, step, carry, explore)
            for i in range(env.num_envs):
                if step.is_first[i]:
                    open_rows[i] = [] if begun < self.episodes else None  # only what was begun is waited for
                    begun += open_rows[i] is not None
                rows = open_rows[i]
                if rows is None:
                    continue
                rows.append(self._row(step, actions, i))
                if step.is_last[i]:
                    name = f"{mark}-{writer.episodes - before:06d}"
                    writer.append(_columns(rows), id=name, terminal=bool(step.is_terminal[i]), provenance=self.about)
                    self.returns.append(float(sum(row["reward"] for row in rows)))
                    self.progress(self._now(before))
                    open_rows[i] = None
            if time.monotonic() - sealed_at > self.seal_seconds:
                writer.seal()
                sealed_at = time.monotonic()
            if writer.episodes < self.episodes:
                step = env.step(actions)
        writer.seal()
        return self._now(before)

    def _mark(self) -> str:
        """What the ids begin with: the same episodes have the same ids, wherever they are recorded."""
        own = {name: value for name, value in self.about.items() if name not in ("command", "versions")}
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]

    def _row(self, step: Step, actions: np.ndarray, i: int) -> dict[str, Any]:
        row: dict[str, Any] = {"reward": step.reward[i], "action": actions[i].copy() * (not step.is_last[i])}
        for name, value in step.obs.items():
            channels = value.shape[1] // self.opened.stack if name in self.opened.stacks else 0
            row[f"obs/{name}"] = np.array(value[i, -channels:] if channels else value[i])  # the newest frame of a stack
        return row

    def _now(self, before: int) -> Collected:
        writer = self.writer
        return Collected(
            writer.path, writer.episodes, writer.rows, writer.sealed, writer.episodes - before, tuple(self.returns)
        )


@contextlib.contextmanager
def _opened(
    env: Env | None, policy: Any, options: dict[str, Any], seen: Mapping[str, int | None], num_envs: int
) -> Iterator[_Opened]:
    from_run = isinstance(policy, Path) or (isinstance(policy, str) and policy != "random" and Path(policy).is_dir())
    if from_run:
        own: dict[str, Any] = dict(seen)
        run = Run.load(policy, env=env, env_options=options or None, **own)
        stack = run.settings.frame_stack or 1
        with run.opened(num_envs=num_envs) as made:
            acts = lambda seed: run.policy(run.model, None, seed=seed)
            shown = {name: getattr(run.settings, name) for name in seen}
            yield _Opened(made, run.acts_in, stack, acts, run.settings.env_options, shown)
        return
    if env is None and isinstance(policy, str) and policy != "random" and ":" not in policy:
        raise ConfigurationError(
            f"policy is {policy!r}, which is no run's directory: name one that is, or an environment and random or "
            "module:function as the policy"
        )
    if env is None:
        raise ConfigurationError("env is missing: name the environment, or a run as the policy, whose own it is then")
    stack = seen["frame_stack"] or 1
    sizes: dict[str, Any] = {"image_size": seen["image_size"], "render_size": seen["render_size"]}
    with closing(make_env(env, num_envs=num_envs, env_options=options, frame_stack=stack, **sizes)) as made:
        yield _Opened(made, env_name(env), stack, _acting(policy, made), options, seen)


def _acting(policy: Any, env: VectorEnv) -> Callable[[int], Policy]:
    if policy == "random":
        return lambda seed: RandomPolicy(env.action_spec, seed=seed)
    made: Policy = function_policy(policy, env.action_spec) if isinstance(policy, str) else policy
    return lambda seed: made


def _act(policy: Policy, step: Step, carry: Any, explore: bool) -> tuple[np.ndarray, Any]:
    with torch.no_grad(), acting(policy):
        obs = {name: torch.as_tensor(value) for name, value in step.obs.items()}
        actions, carry = policy(obs, carry, is_first=torch.as_tensor(step.is_first), explore=explore)
    return actions.cpu().numpy().astype(np.float32, copy=False), carry


def _columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _seed(seed: int, session: int) -> int:
    """The seed of a later call, whose episodes are others."""
    return int(np.random.SeedSequence(seed, spawn_key=(session,)).generate_state(1)[0])


def _check_same_env(writer: DatasetWriter, opened: _Opened) -> None:
    others = [source["env"] for source in writer.sources if source.get("env", opened.name) != opened.name]
    if others:
        raise ConfigurationError(
            f"{writer.path} holds episodes of {others[0]}, these are of {opened.name}: choose another folder, and put "
            "them together with 'worldflux data merge'"
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
