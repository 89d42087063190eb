"""Environments of the dm_env interface, as Gymnasium ones; this file needs no dm_env."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError

from .spaces import UNBOUNDED

logger = logging.getLogger(__name__)


def is_dm_env(env: Any) -> bool:
    """Tell whether an object has the methods of a ``dm_env.Environment``."""
    return all(callable(getattr(env, name, None)) for name in ("reset", "step", "observation_spec", "action_spec"))


class DmEnv:
    """A ``dm_env.Environment`` with Gymnasium's methods and spaces.

    Observations: vectors and scalars become one float32 vector, in the order of the observation spec (as the programs
    published for dm_control do, so that their weights fit). Where there are images (uint8 or uint16 with two or three
    axes), every entry keeps its name instead. Entries without numbers in them (an empty shape) are left out.

    Actions: bounded arrays are a ``Box``, whole numbers ``Discrete`` or ``MultiDiscrete``; nested specs stay nested.

    Ends: a last step with discount 0 is a termination, any other last step a truncation.

    Seeds: ``reset(seed=)`` reaches the environment through ``env.seed(int)``, ``env.task.random`` (dm_control's suite)
    or ``env.random_state`` (its composer); where there is none of them, a warning says so once.

    Args:
        env: the environment.
        action_repeat: control steps for each action; their rewards are summed, and the last of an episode ends it.
        render: gives the picture ``[H, W, 3]`` uint8 that ``render_size`` observes.

    Raises:
        ConfigurationError: action_repeat is below 1, or a spec has no space (a continuous action without bounds, text).
    """

    def __init__(self, env: Any, *, action_repeat: int = 1, render: Callable[[], np.ndarray] | None = None) -> None:
        if isinstance(action_repeat, bool) or not isinstance(action_repeat, int) or action_repeat < 1:
            raise ConfigurationError(f"action_repeat must be a whole number of at least 1, got {action_repeat!r}")
        self._env, self._repeat, self._render = env, action_repeat, render
        self._names = {name: spec for name, spec in _named(env.observation_spec()) if _holds_numbers(name, spec)}
        self._images = any(map(_is_image, self._names.values()))
        self._actions = env.action_spec()
        self._warned = False
        self.observation_space = self._observations()
        self.action_space = _action_space(self._actions)
        self.render_mode = None if render is None else "rgb_array"

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; see ``gymnasium.Env.reset``."""
        if seed is not None and not _seed(self._env, seed) and not self._warned:
            self._warned = True
            logger.warning(
                "%s has neither seed(int) nor task.random nor random_state: its episodes do not follow the seed",
                type(self._env).__name__,
            )
        return self._observe(self._env.reset().observation), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action for ``action_repeat`` control steps; see ``gymnasium.Env.step``."""
        given, reward = _action(self._actions, action), 0.0
        for _ in range(self._repeat):
            now = self._env.step(given)
            reward += np.asarray(now.reward).item()
            if now.last():
                break
        ended = bool(now.last() and now.discount is not None and float(now.discount) == 0)
        return self._observe(now.observation), reward, ended, bool(now.last() and not ended), {}

    def render(self) -> np.ndarray:
        """Return the picture ``[H, W, 3]`` uint8. Raises ConfigurationError if no ``render`` was given."""
        if self._render is None:
            raise ConfigurationError("this environment was made without a picture: DmEnv(env, render=...)")
        return self._render()

    def close(self) -> None:
        """Close the environment."""
        close = getattr(self._env, "close", None)
        if close is not None:
            close()

    def _observations(self) -> Any:
        from gymnasium.spaces import Box, Dict

        if not self._images:
            size = sum(int(np.prod(spec.shape)) for spec in self._names.values())
            return Box(-np.inf, np.inf, (size,), np.float32)
        return Dict(
            {
                name: Box(0, _brightest(spec), spec.shape, np.dtype(spec.dtype).type)
                if _is_image(spec)
                else Box(-np.inf, np.inf, (int(np.prod(spec.shape)),), np.float32)
                for name, spec in self._names.items()
            }
        )

    def _observe(self, nested: Any) -> Any:
        found = dict(_named(nested))
        if not self._images:
            return np.concatenate([np.ravel(found[name]) for name in self._names]).astype(np.float32)
        return {
            name: np.asarray(found[name]) if _is_image(spec) else np.ravel(found[name]).astype(np.float32)
            for name, spec in self._names.items()
        }


def physics_renderer(env: Any, size: int, *, camera_id: int = 0, fast: bool = False) -> Callable[[], np.ndarray] | None:
    """Return what renders an environment's MuJoCo physics as ``[size, size, 3]``; None if it has none.

    ``fast`` leaves out shadows, reflections and the sky: several times faster without a GPU, and another picture.
    """
    if not callable(getattr(getattr(env, "physics", None), "render", None)):
        return None
    plain = {"shadow": False, "reflection": False, "skybox": False} if fast else {}
    options: dict[str, Any] = {"render_flag_overrides": plain} if plain else {}

    def render() -> np.ndarray:
        try:
            return np.asarray(env.physics.render(size, size, camera_id=camera_id, **options))
        except Exception as error:
            raise ConfigurationError(
                f"MuJoCo cannot render here ({type(error).__name__}: {error}): without a display, set MUJOCO_GL=egl "
                "(or osmesa) before Python starts"
            ) from error

    return render


def _seed(env: Any, seed: int) -> bool:
    """Seed an environment wherever it keeps its randomness; False if that is nowhere."""
    if callable(getattr(env, "seed", None)):
        env.seed(seed)
        return True
    for owner, name in ((getattr(env, "task", None), "random"), (env, "random_state")):
        state = getattr(owner, name, None)
        if isinstance(state, np.random.RandomState):
            state.seed(seed)
            return True
        if isinstance(state, np.random.Generator):
            state.bit_generator.state = type(state.bit_generator)(seed).state
            return True
    return False


def _named(nested: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(nested, Mapping):
        for key, child in nested.items():
            yield from _named(child, (*path, str(key)))
    elif isinstance(nested, (list, tuple)):
        for i, child in enumerate(nested):
            yield from _named(child, (*path, str(i)))
    else:
        yield "/".join(path) or "obs", nested


def _holds_numbers(name: str, spec: Any) -> bool:
    dtype = np.dtype(spec.dtype)
    if dtype.kind not in "biuf":
        raise ConfigurationError(
            f"the observation {name!r} is {type(spec).__name__} of dtype {dtype}, which has no place in a row of "
            "numbers: leave it out of the environment's observation_spec(), or give it as numbers"
        )
    return int(np.prod(spec.shape)) > 0


def _is_image(spec: Any) -> bool:
    return spec.dtype in (np.uint8, np.uint16) and len(spec.shape) in (2, 3)


def _brightest(spec: Any) -> int:
    """The highest value of a pixel: what the spec says, else what its type holds."""
    most = int(np.iinfo(spec.dtype).max)
    return most if spec.dtype == np.uint8 else int(np.max(getattr(spec, "maximum", most)))


def _is_discrete(spec: Any) -> bool:
    return any(cls.__name__ == "DiscreteArray" for cls in type(spec).__mro__)


def _action_space(spec: Any) -> Any:
    from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

    if isinstance(spec, Mapping):
        return Dict({key: _action_space(child) for key, child in spec.items()})
    if isinstance(spec, (list, tuple)):
        return Tuple([_action_space(child) for child in spec])
    if _is_discrete(spec):
        return Discrete(int(spec.num_values))
    dtype, shape = np.dtype(spec.dtype), tuple(spec.shape)
    low, high = (
        np.broadcast_to(np.asarray(getattr(spec, name, end), np.float64), shape)
        for name, end in (("minimum", -np.inf), ("maximum", np.inf))
    )
    if dtype.kind == "f":
        if (low <= -UNBOUNDED).any() or (high >= UNBOUNDED).any():
            raise ConfigurationError(
                f"the action spec {spec} has no finite bounds, but actions are numbers in [-1, 1], scaled to them: "
                "give the environment an action_spec() that has them, as dm_env.specs.BoundedArray(shape, float, -1, 1)"
            )
        return Box(low.astype(dtype), high.astype(dtype), shape, dtype.type)
    if dtype.kind in "iu" and np.isfinite(low).all() and np.isfinite(high).all():
        if not shape:
            return Discrete(int(high - low) + 1, start=int(low))
        return MultiDiscrete((high - low + 1).astype(np.int64), start=low.astype(np.int64))
    raise ConfigurationError(
        f"the action spec {spec} has no place in an action vector: expected floats, or whole numbers with a minimum "
        "and a maximum"
    )


def _action(spec: Any, action: Any) -> Any:
    """Return an action of the space in the types of its spec."""
    if isinstance(spec, Mapping):
        return {key: _action(child, action[key]) for key, child in spec.items()}
    if isinstance(spec, (list, tuple)):
        values = [_action(child, one) for child, one in zip(spec, action, strict=True)]
        return values if isinstance(spec, list) else tuple(values)
    return np.asarray(action, spec.dtype)[()]
