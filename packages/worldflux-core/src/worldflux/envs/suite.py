"""dm_control's tasks by name: ``dmc:cartpole-balance``."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from worldflux.core.errors import ConfigurationError, did_you_mean

from .dm import DmEnv, physics_renderer

PREFIX = "dmc:"
INSTALL = 'pip install "worldflux-core[dmc]"'
OPTIONS = {"action_repeat": 2, "camera_id": None, "fast_render": False}


def load_task(name: str, *, image_size: int | None, options: Mapping[str, Any]) -> DmEnv:
    """Return the task called ``dmc:DOMAIN-TASK``, in the protocol of the published results.

    Each action is repeated twice; an episode is 1000 control steps, so 500 decisions, and is cut, not ended. ``cup``
    is ``ball_in_cup``. Options: ``action_repeat`` (2), ``camera_id`` (0; 2 for quadruped), ``fast_render`` (False:
    True leaves out shadows, reflections and the sky).

    Source: Hansen et al. 2024 (TD-MPC2), appendix on DMControl.

    Raises:
        ConfigurationError: dm_control is missing or does not fit its MuJoCo; an unknown task or option.
    """
    for option in options:
        if option not in OPTIONS:
            raise ConfigurationError(
                f"{name} has no option {option!r}, it has {sorted(OPTIONS)}.{did_you_mean(option, OPTIONS)}"
            )
    chosen = {**OPTIONS, **options}
    suite = _suite(pixels=image_size is not None)
    domain, task = _find(name, suite.ALL_TASKS)
    try:
        # A task's own randomness is seeded at every reset; this seed is for what is drawn when it is built.
        env = suite.load(domain, task, task_kwargs={"random": 0})
    except AttributeError as error:
        raise ConfigurationError(
            f"dm_control could not build {name} with this version of MuJoCo ({error}): {INSTALL}"
        ) from error
    camera = chosen["camera_id"]
    if camera is None:
        camera = 2 if domain == "quadruped" else 0
    fast = bool(chosen["fast_render"])
    render = None if image_size is None else physics_renderer(env, image_size, camera_id=camera, fast=fast)
    return DmEnv(env, action_repeat=chosen["action_repeat"], render=render)


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
    known = {}
    for domain, task in tasks:
        known[PREFIX + _plain(f"{'cup' if domain == 'ball_in_cup' else domain}-{task}")] = (domain, task)
    wanted = PREFIX + _plain(name.removeprefix(PREFIX)).replace("ball-in-cup-", "cup-", 1)
    if wanted not in known:
        near = did_you_mean(wanted, known)
        raise ConfigurationError(
            f"unknown task {name!r}, expected dmc:DOMAIN-TASK such as dmc:cartpole-balance or dmc:cup-catch.{near}"
        )
    return known[wanted]


def _plain(name: str) -> str:
    return name.replace("_", "-").lower()
