"""dm_control's tasks, and those that TD-MPC2 adds to them, by name: ``dmc:cartpole-balance``."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from worldflux.core.errors import ConfigurationError, did_you_mean

from .dm import DmEnv, physics_renderer

PREFIX = "dmc:"
INSTALL = 'pip install "worldflux-core[dmc]"'
OPTIONS = {"action_repeat": 2, "camera_id": None, "fast_render": False}
ADDED = (
    "walker-walk-backwards",
    "walker-run-backwards",
    "cheetah-run-backwards",
    "cheetah-run-front",
    "cheetah-run-back",
    "cheetah-jump",
    "hopper-hop-backwards",
    "reacher-three-easy",
    "reacher-three-hard",
    "cup-spin",
    "pendulum-spin",
)
"""Tasks that are not dm_control's; `dmc_tasks`, which needs it, is imported when one is asked for."""


def load_task(name: str, *, render_size: int | None, options: Mapping[str, Any]) -> DmEnv:
    """Return the task called ``dmc:DOMAIN-TASK``, in the protocol of the published results.

    Each action is repeated twice; an episode is 1000 control steps, so 500 decisions, and is cut, not ended. ``cup``
    is ``ball_in_cup``, ``pointmass`` is ``point_mass``. Options: ``action_repeat`` (2), ``camera_id`` (0; 2 for
    quadruped), ``fast_render`` (False: True leaves out shadows, reflections and the sky).

    Source: Hansen et al. 2024 (TD-MPC2), appendix on DMControl.

    Raises:
        ConfigurationError: dm_control is missing or does not fit its MuJoCo; an unknown task or option; a task whose
            actions have no bounds (``lqr``).
    """
    for option in options:
        if option not in OPTIONS:
            raise ConfigurationError(
                f"{name} has no option {option!r}, it has {sorted(OPTIONS)}.{did_you_mean(option, OPTIONS)}"
            )
    chosen = {**OPTIONS, **options}
    suite = _suite(pixels=render_size is not None)
    domain, task = _find(name, suite.ALL_TASKS)
    try:
        env = _build(suite, domain, task)
    except AttributeError as error:
        raise ConfigurationError(
            f"dm_control could not build {name} with this version of MuJoCo ({error}): {INSTALL}"
        ) from error
    camera = chosen["camera_id"]
    if camera is None:
        camera = 2 if domain == "quadruped" else 0
    render = None
    if render_size is not None:
        _check_camera(env, camera)
        render = physics_renderer(env, render_size, camera_id=camera, fast=bool(chosen["fast_render"]))
    try:
        return DmEnv(env, action_repeat=chosen["action_repeat"], render=render)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from error


def _check_camera(env: Any, camera: Any) -> None:
    model = env.physics.model
    names = [model.id2name(i, "camera") or str(i) for i in range(model.ncam)]
    numbered = isinstance(camera, int) and not isinstance(camera, bool) and -1 <= camera < model.ncam  # -1: free
    if not numbered and camera not in names:
        raise ConfigurationError(f"camera_id is {camera!r}, but the cameras are {names}, or -1 to {model.ncam - 1}")


def _build(suite: Any, domain: str, task: str) -> Any:
    # A task's own randomness is seeded at every reset; this seed is for what is drawn when it is built.
    told = logging.getLogger("absl")  # which hears what MuJoCo finds old-fashioned in the suite's own models
    level = told.level
    told.setLevel(logging.ERROR)
    try:
        if f"{domain}-{task}" in ADDED:
            from .dmc_tasks import TASKS

            return TASKS[f"{domain}-{task}"](0)
        return suite.load(domain, task, task_kwargs={"random": 0})
    finally:
        told.setLevel(level)


def _suite(*, pixels: bool) -> Any:
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if pixels and sys.platform == "linux" and not shown:
        os.environ.setdefault("MUJOCO_GL", "egl")  # read once, when dm_control is imported; its own guess is a window
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a window system first, and is loud where there is none
            return importlib.import_module("dm_control.suite")
    except ImportError as error:
        raise ConfigurationError(
            f"dm_control's tasks need dm_control and MuJoCo, which cannot be imported ({error}): {INSTALL}"
        ) from error


def _find(name: str, tasks: Any) -> tuple[str, str]:
    """Return the domain and the task of a name; ``-`` and ``_`` are one."""
    known = {PREFIX + _spelled(f"{domain}-{task}"): (domain, task) for domain, task in tasks}
    for added in ADDED:
        domain, task = added.split("-", 1)
        known[PREFIX + added] = (domain, task)
    wanted = PREFIX + _spelled(name[len(PREFIX) :])
    if wanted not in known:
        siblings = sorted(other for other in known if other.startswith(f"{wanted}-"))
        near = f" There are {', '.join(siblings)}." if siblings else did_you_mean(wanted, known)
        raise ConfigurationError(
            f"unknown task {name!r}, expected dmc:DOMAIN-TASK such as dmc:cartpole-balance or dmc:cup-catch.{near}"
        )
    return known[wanted]


def task_hint(name: str) -> str:
    """Return a sentence for a name that reads like a task's but is not written as one, else nothing."""
    bare = re.sub(r"^(dmc|dm_control)[-_/]", "", name.lower())
    written = re.fullmatch(r"[a-z_]+(-[a-z_]+)+", bare)
    return f" If it is a task of dm_control's suite, write {PREFIX + bare!r}." if written else ""


def _spelled(name: str) -> str:
    name = name.replace("_", "-").lower()
    for other, ours in (("ball-in-cup-", "cup-"), ("pointmass-", "point-mass-")):
        if name.startswith(other):
            return ours + name.removeprefix(other)
    return name
