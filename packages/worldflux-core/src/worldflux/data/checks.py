"""Whether environments, a policy and a replay go together, and what may be asked of collecting, or saved of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.policy import Policy
from worldflux.core.spec import ModalitySpec
from worldflux.words.counts import counted

from .replay import Replay
from .storage import check_array, generator_state, whole

if TYPE_CHECKING:
    from worldflux.envs import VectorEnv


def check_options(replay_ratio: Any, **counts: Any) -> None:
    """Raise ConfigurationError for a ratio or a count that is none."""
    number = isinstance(replay_ratio, (int, float, np.number)) and not isinstance(replay_ratio, bool)
    if not number or not 0 < replay_ratio < np.inf:
        raise ConfigurationError(
            f"replay_ratio must be positive and finite, got {replay_ratio!r}: replayed rows per environment step"
        )
    for name, value in counts.items():
        optional = name in ("min_rows", "step_limit")
        least, given = int(optional), isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not (given and value >= least) and not (optional and value is None):
            raise ConfigurationError(f"{name} is {value!r}, expected a whole number of at least {least}")


def check_fit(env: VectorEnv, policy: Policy, replay: Replay) -> None:
    """Raise ConfigurationError where environments, policy and replay are not of one kind."""
    if replay.num_streams != env.num_envs:
        raise ConfigurationError(
            f"the replay has {counted(replay.num_streams, 'stream')} for {counted(env.num_envs, 'environment')}: "
            f"pass num_streams={env.num_envs}"
        )
    shapes = [{k: (s.shape, s.dtype) for k, s in spec.items()} for spec in (env.obs_spec, replay.obs_spec)]
    if shapes[0] != shapes[1]:
        raise ConfigurationError(f"the environments observe {shapes[0]}, the replay stores {shapes[1]}")
    if env.action_spec.dim != replay.action_spec.dim:
        raise ConfigurationError(
            f"the environments take {counted(env.action_spec.dim, 'action number')}, the replay stores "
            f"{replay.action_spec.dim}"
        )
    if set(policy.latent_spec) != set(replay.latent_names):
        raise ConfigurationError(
            f"the policy has latents {sorted(policy.latent_spec)}, the replay stores {sorted(replay.latent_names)}: "
            "pass latent_spec=policy.latent_spec"
        )


def check_source(
    arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], obs_spec: Mapping[str, ModalitySpec], num_envs: int
) -> None:
    """Raise CheckpointError unless the counters of a saved source, and the row it was left at, are whole."""
    what = "source"
    whole(meta, "env_steps", what=what)
    whole({"rows": 0, **meta}, "rows", what=what)
    if meta.get("env_seed", "missing") is not None:
        whole(meta, "env_seed", what=what)
    kinds = {"credit": (int, float), "started": (bool,), "replay": (dict,), "statistics": (dict,)}
    for name, kind in {**kinds, "env": (dict, type(None))}.items():
        value = meta.get(name, ...)
        if type(value) not in kind or (name == "credit" and not math.isfinite(value)):
            raise CheckpointError(f"saved source: {name!r} is {value!r}, expected a {kind[0].__name__}")
    if "random" in meta:
        generator_state(meta["random"], what)
    if meta["env"] is not None:
        for name, spec in obs_spec.items():
            check_array(arrays, f"obs/{name}", (num_envs, *spec.shape), np.dtype(spec.dtype), what=what)
