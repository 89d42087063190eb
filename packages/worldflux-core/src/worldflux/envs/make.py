"""One door for environments: an id, a factory, an environment, or a vector of them."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean

from .dm import DmEnv, is_dm_env, physics_renderer
from .foreign import ForeignVectorEnv
from .pixels import PixelEnv
from .stack import FrameStack, check_frames
from .step import VectorEnv
from .suite import PREFIX, load_task, task_hint
from .vector import SyncVectorEnv


def make_env(
    env: str | Callable[[], Any] | Any,
    *,
    num_envs: int = 1,
    seed: int = 0,
    image_size: int | None = None,
    frame_stack: int = 1,
    env_options: Mapping[str, Any] | None = None,
) -> VectorEnv:
    """Return ``num_envs`` environments in lockstep.

    Args:
        env: a Gymnasium id (``"CartPole-v1"``, also ``"gym:CartPole-v1"``, ``"module:Id-v0"``), a task of dm_control's
            suite (``"dmc:cartpole-balance"``), a callable that makes a ``gym.Env`` or a ``dm_env.Environment``, one of
            these, or a vector environment (ours or Gymnasium's), which is taken as it is.
        seed: of the sequence of episodes, when ``reset`` is given none.
        image_size: observe the rendered image, ``[3, image_size, image_size]`` uint8, in place of the observation.
        frame_stack: show the last frames of the episode instead of one, on the channel axis, the oldest first:
            ``[3 * frame_stack, image_size, image_size]``; see :class:`FrameStack`.
        env_options: keyword arguments for the environment's constructor (ids only); for ``dmc:`` tasks
            ``action_repeat``, ``camera_id`` and ``fast_render``.

    Raises:
        ConfigurationError: an unknown id (the message names the nearest), an option that does not apply, or Gymnasium
            or something the environment needs is not installed.
    """
    check_frames(frame_stack)
    vector = _unstacked(env, num_envs, seed, image_size, env_options)
    if frame_stack == 1:
        return vector
    try:
        return FrameStack(vector, frames=frame_stack)
    except ConfigurationError:
        if vector is not env:
            vector.close()
        raise


def _unstacked(env: Any, num_envs: int, seed: int, image_size: int | None, env_options: Any) -> VectorEnv:
    for name, value, least in (("num_envs", num_envs, 1), ("image_size", image_size, 1), ("seed", seed, 0)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least
        if not whole and not (name == "image_size" and value is None):
            raise ConfigurationError(f"{name} must be a whole number of at least {least}, got {value!r}")
    gym = None if isinstance(env, VectorEnv) else _gymnasium()
    if gym is None or isinstance(env, gym.vector.VectorEnv):
        return _vector(gym, env, num_envs, seed, image_size, env_options)
    if not isinstance(env, str) and env_options:
        raise ConfigurationError("env_options apply to an environment's id; a factory sets its own")
    if isinstance(env, (gym.Env, DmEnv)) or (is_dm_env(env) and not isinstance(env, type)):
        if num_envs != 1:
            raise ConfigurationError(
                f"one environment object cannot be {num_envs} environments: pass a factory, make_env(lambda: MyEnv())"
            )
        make: Callable[[], Any] = lambda: env
    elif isinstance(env, str):
        make = lambda: _make(gym, env, image_size, dict(env_options or {}))
    elif callable(env):
        make = env
    else:
        raise ConfigurationError(
            "env must be a Gymnasium id, a dmc: task, a factory, a gym.Env, a dm_env.Environment or a vector "
            f"environment, got {type(env).__name__}"
        )
    return SyncVectorEnv([_checked(gym, make, image_size)] * num_envs, seed=seed)


def _vector(
    gym: ModuleType | None, env: Any, num_envs: int, seed: int, image_size: int | None, options: Any
) -> VectorEnv:
    if image_size is not None or options:
        raise ConfigurationError(
            "image_size and env_options do not apply to a vector environment that is already built"
        )
    if num_envs not in (1, env.num_envs):
        raise ConfigurationError(f"num_envs is {num_envs}, but the vector environment has {env.num_envs}")
    return env if gym is None else ForeignVectorEnv(env, seed=seed)


def _checked(gym: ModuleType, make: Callable[[], Any], image_size: int | None) -> Callable[[], Any]:
    def build() -> Any:
        env = make()
        if not isinstance(env, (gym.Env, DmEnv)) and is_dm_env(env):
            env = DmEnv(env, render=physics_renderer(env, image_size) if image_size else None)
        if not isinstance(env, (gym.Env, DmEnv)):
            raise ConfigurationError(
                f"the factory made a {type(env).__name__}, expected a gymnasium.Env or a dm_env.Environment"
                + (" (the old gym package's environments need shimmy)" if hasattr(env, "step") else "")
            )
        for space in ("observation_space", "action_space"):
            if getattr(env, space, None) is None:
                raise ConfigurationError(f"{type(env).__name__} has no {space}: set it in its __init__ or its class")
        return env if image_size is None else PixelEnv(env, size=image_size)

    return build


def _make(gym: ModuleType, name: str, image_size: int | None, options: dict[str, Any]) -> Any:
    if name.lower().startswith(PREFIX):
        return load_task(name, image_size=image_size, options=options)
    name = name.removeprefix("gym:")
    if name.startswith("ALE/"):
        _atari(name)
    if image_size is not None:
        options.setdefault("render_mode", "rgb_array")
    try:
        return gym.make(name, **copy.deepcopy(options))
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise ConfigurationError(
            f"environment {name!r} needs something that is not installed: {error}{_pip_line(gym, name, str(error))}"
        ) from error
    except gym.error.UnregisteredEnv as error:
        near = did_you_mean(name, gym.registry) or task_hint(name) or f" {error}"
        raise ConfigurationError(f"unknown environment {name!r}.{near}") from error
    except Exception as error:  # whatever its constructor raises
        what = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"environment {name!r} could not be made: {what}") from error


def _pip_line(gym: ModuleType, name: str, said: str) -> str:
    """What brings all that an environment of Gymnasium's own needs, its renderer included, if that is not said yet."""
    if "pip install" in said:
        return ""
    entry = str(getattr(gym.registry.get(name), "entry_point", ""))
    kind = entry.removeprefix("gymnasium.envs.").partition(".")[0] if entry.startswith("gymnasium.envs.") else ""
    extras = {"mujoco": "gymnasium[mujoco]", "box2d": "gymnasium[box2d]"}
    extras |= dict.fromkeys(("classic_control", "toy_text"), "worldflux-core[env]")
    return f': pip install "{extras[kind]}"' if kind in extras else ""


def _atari(name: str) -> None:
    """Import ale_py, which registers its games."""
    try:
        importlib.import_module("ale_py")
    except ImportError as error:
        raise ConfigurationError(
            f"environment {name!r} needs ale_py, which cannot be imported ({error}): "
            'pip install "worldflux-core[atari]"'
        ) from error


def _gymnasium() -> ModuleType:
    try:
        import gymnasium
        import gymnasium.vector
    except ImportError as error:
        raise ConfigurationError(
            'environments need Gymnasium, which is not installed: pip install "worldflux-core[env]"'
        ) from error
    return gymnasium
