"""One door for environments: an id, a factory, an environment, or a vector of them."""

from __future__ import annotations

import copy
import importlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.words.counts import counted

from .code import called, from_file, from_module, names_file
from .dm import DmEnv, is_dm_env, physics_renderer
from .foreign import ForeignVectorEnv
from .goal_vector import GoalVectorEnv, has_goals
from .identity import already_made
from .pixels import PixelEnv
from .skipping import FrameSkip
from .spaces import ObservationAdapter, shows_images, spec_summary
from .stack import FrameStack, check_frames
from .step import VectorEnv
from .study.env import StudyEnv
from .study.options import is_study, study_hint
from .suite import PREFIX, load_task, task_hint
from .vector import SyncVectorEnv, episode_seed

logger = logging.getLogger(__name__)


def make_env(
    env: str | Callable[[], Any] | Any,
    *,
    num_envs: int = 1,
    seed: int = 0,
    image_size: int | None = None,
    render_size: int | None = None,
    frame_stack: int = 1,
    frame_skip: int = 1,
    env_options: Mapping[str, Any] | None = None,
) -> VectorEnv:
    """Return ``num_envs`` environments in lockstep.

    Args:
        env: a Gymnasium id (``"CartPole-v1"``, also ``"gym:CartPole-v1"``, ``"module:Id-v0"``), a class or function in
            a file or a module (``"file.py:MyEnv"``, ``"module:MyEnv"``), a task of dm_control's suite
            (``"dmc:cartpole-balance"``), an environment for study (``"study:two-room"``, which needs no Gymnasium), a
            callable that makes a new ``gym.Env`` or ``dm_env.Environment`` at every call, one of these, or a vector
            environment (ours or Gymnasium's), which is taken as it is.
        seed: of the sequence of episodes, when ``reset`` is given none.
        image_size: make every image that is observed ``[C, image_size, image_size]``; other observations stay.
        render_size: observe the rendered picture, ``[3, render_size, render_size]`` uint8, in place of the observation.
        frame_stack: show the last frames of the episode instead of one, on the channel axis, the oldest first:
            ``[3 * frame_stack, size, size]``; see :class:`FrameStack`.
        frame_skip: take so many actions in one, ``[frame_skip * A]``, and show the row they lead to; see
            :class:`~worldflux.envs.skipping.FrameSkip`.
        env_options: keyword arguments for what an ``env`` given by its name is made with; for ``dmc:`` tasks
            ``action_repeat``, ``camera_id`` and ``fast_render``; for ``study:`` ones see
            :class:`~worldflux.envs.study.StudyOptions`.

    What comes of an id or a factory is closed by ``close`` alone; so is an environment that was given, and nothing else
    here closes that.

    Raises:
        ConfigurationError: an unknown id (the message names the nearest), an option that does not apply, or Gymnasium
            or something the environment needs is not installed.
    """
    check_frames(frame_stack)
    if frame_skip != 1:
        how = {"image_size": image_size, "render_size": render_size, "frame_stack": frame_stack}
        return _skipped(env, num_envs, seed, frame_skip, {**how, "env_options": env_options})
    vector = _unstacked(env, num_envs, seed, (image_size, render_size), env_options)
    if frame_stack == 1:
        return vector
    try:
        return FrameStack(vector, frames=frame_stack)
    except ConfigurationError:
        if not already_made(env):
            vector.close()
        raise


def _skipped(env: Any, num_envs: int, seed: int, frame_skip: int, how: Mapping[str, Any]) -> VectorEnv:
    """Environments whose every action is several: each by itself, where they may not all end together."""
    if is_study(env) or already_made(env):
        return FrameSkip([make_env(env, num_envs=num_envs, seed=seed, **how)], frame_skip=frame_skip)
    seeds = [seed, *(episode_seed(seed, i, 0) for i in range(1, num_envs))]
    return FrameSkip([make_env(env, seed=one, **how) for one in seeds], frame_skip=frame_skip)


def _unstacked(env: Any, num_envs: int, seed: int, sizes: tuple[int | None, int | None], env_options: Any) -> VectorEnv:
    image_size, render_size = sizes
    given = (
        ("num_envs", num_envs, 1),
        ("seed", seed, 0),
        ("image_size", image_size, 1),
        ("render_size", render_size, 1),
    )
    for name, value, least in given:
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least
        if not whole and not (name.endswith("_size") and value is None):
            raise ConfigurationError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if image_size is not None and render_size is not None:
        raise ConfigurationError("image_size is for images that are observed, render_size for rendered ones: give one")
    if is_study(env):
        return StudyEnv(env, num_envs=num_envs, seed=seed, options=_sized(sizes, env_options))
    gym = None if isinstance(env, VectorEnv) else _gymnasium()
    if gym is None or isinstance(env, gym.vector.VectorEnv):
        return _vector(gym, env, num_envs, seed, sizes, env_options)
    _check_mapping(env_options)
    if not isinstance(env, str) and env_options:
        raise ConfigurationError("env_options apply to an environment's id; a factory sets its own")
    if isinstance(env, (gym.Env, DmEnv)) or (is_dm_env(env) and not isinstance(env, type)):
        if num_envs != 1:
            raise ConfigurationError(
                f"one environment object cannot be {counted(num_envs, 'environment')}: pass a factory, "
                "make_env(lambda: MyEnv())"
            )
        make: Callable[[], Any] = lambda: env
    elif isinstance(env, str):
        make = lambda: _make(gym, env, render_size, dict(env_options or {}))
    elif callable(env):
        make = env
    else:
        raise ConfigurationError(
            "env must be a Gymnasium id, file.py:Class, a dmc: task, a study: environment, a factory, a gym.Env, a "
            f"dm_env.Environment or a vector environment, got {type(env).__name__}"
        )
    build = _checked(gym, make, sizes)
    made = [build() for _ in range(num_envs)]
    kind = GoalVectorEnv if has_goals(made[0]) else SyncVectorEnv
    return kind([partial(_itself, one) for one in made], seed=seed, image_size=image_size)


def _itself(env: Any) -> Any:
    return env


def _check_mapping(env_options: Any) -> None:
    if not isinstance(env_options, Mapping | None):
        raise ConfigurationError(f"env_options is {env_options!r}, expected the constructor's arguments by name")


def _sized(sizes: tuple[int | None, int | None], env_options: Any) -> dict[str, Any]:
    """The options of an environment for study, which draws its picture in any size. Raises ConfigurationError."""
    _check_mapping(env_options)
    options, (image_size, render_size) = dict(env_options or {}), sizes
    size = render_size if image_size is None else image_size
    if size is not None and options.setdefault("size", size) != size:
        raise ConfigurationError(f"the picture's size is given twice, {size} and {options['size']}: leave one out")
    if render_size is not None and options.setdefault("obs", "image") != "image":
        raise ConfigurationError(f"render_size asks for the picture alone, obs for {options['obs']!r}: leave one out")
    return options


def _vector(
    gym: ModuleType | None, env: Any, num_envs: int, seed: int, sizes: tuple[int | None, int | None], options: Any
) -> VectorEnv:
    image_size, render_size = sizes
    resized = image_size is not None and gym is not None and shows_images(env.single_observation_space)
    if render_size is not None or options or (image_size is not None and not resized):
        raise ConfigurationError(
            "render_size and env_options do not apply to a vector environment that is already built, image_size only "
            "to the images of Gymnasium's"
        )
    if num_envs not in (1, env.num_envs):
        raise ConfigurationError(f"num_envs is {num_envs}, but the vector environment has {env.num_envs}")
    return env if gym is None else ForeignVectorEnv(env, seed=seed, image_size=image_size)


def _checked(gym: ModuleType, make: Callable[[], Any], sizes: tuple[int | None, int | None]) -> Callable[[], Any]:
    image_size, render_size = sizes
    told: list[str] = []  # what was said once already

    def build() -> Any:
        env = make()
        if not isinstance(env, (gym.Env, DmEnv)) and is_dm_env(env):
            env = DmEnv(env, render=physics_renderer(env, render_size) if render_size else None)
        if not isinstance(env, (gym.Env, DmEnv)):
            raise ConfigurationError(
                f"the factory made a {type(env).__name__}, expected a gymnasium.Env or a dm_env.Environment"
                + (" (the old gym package's environments need shimmy)" if hasattr(env, "step") else "")
            )
        for space in ("observation_space", "action_space"):
            if getattr(env, space, None) is None:
                raise ConfigurationError(f"{type(env).__name__} has no {space}: set it in its __init__ or its class")
        size = render_size
        if image_size is not None and not shows_images(env.observation_space):
            size = _rendered_as_before(env, image_size, told)
        return env if size is None else PixelEnv(env, size=size)

    return build


def _make(gym: ModuleType, name: str, render_size: int | None, options: dict[str, Any]) -> Any:
    if name.lower().startswith(PREFIX):
        return load_task(name, render_size=render_size, options=options)
    name, options = name.removeprefix("gym:"), copy.deepcopy(options)
    if names_file(name):
        return called(from_file(name), name, options, rendered=render_size is not None)
    if ":" in name and (found := from_module(name, gym.registry)) is not None:
        return called(found, name, options, rendered=render_size is not None)
    if name.startswith("ALE/"):
        _atari(name)
    if render_size is not None:
        options.setdefault("render_mode", "rgb_array")
    try:
        return gym.make(name, **options)
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise ConfigurationError(
            f"environment {name!r} needs something that is not installed: {error}{_pip_line(gym, name, str(error))}"
        ) from error
    except gym.error.UnregisteredEnv as error:
        own = f" {str(error).rstrip('.')}. One of your own is named module:Name-v0 or file.py:Class"
        near = study_hint(name) or did_you_mean(name, gym.registry) or task_hint(name) or own
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


def _rendered_as_before(env: Any, image_size: int, told: list[str]) -> int:
    """Return the size to render at, where earlier versions rendered for ``image_size``. Raises ConfigurationError."""
    shown = spec_summary(ObservationAdapter(env.observation_space).spec)
    if getattr(env, "render_mode", None) != "rgb_array":  # nobody has made it to be rendered
        raise ConfigurationError(
            f"image_size={image_size} is for images, but the environment shows {shown}: observe its rendered picture "
            f"with render_size={image_size} (--render-size {image_size})"
        )
    if not told:
        told.append(
            f"image_size={image_size} is for images, but the environment shows {shown}: its rendered picture is "
            f"observed instead, which is asked for with render_size={image_size}"
        )
        logger.warning(told[0])
    return image_size


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
