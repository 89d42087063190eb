"""Collecting as a source of batches: an environment is stepped as its replay is sampled."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import BufferError, ConfigurationError, ShapeMismatchError, TrainingError, ValidationError
from worldflux.core.policy import Carry, Policy
from worldflux.envs import Step, VectorEnv

from .episodes import EpisodeStatistics
from .providers import BatchRequest
from .replay import Replay, as_numpy

_LOG = logging.getLogger(__name__)


class EnvironmentSource:
    """Batches from a replay that a policy fills while it is sampled. Implements ``BatchProviderV2``.

    Every call of :meth:`sample` first steps the environments as often as the replay ratio asks, then samples.
    ``replay_ratio`` is the number of replayed rows (``batch_size * seq_len``, less ``context_rows`` per sequence) per
    environment step, counting every row of every environment (the ``train_ratio`` of DreamerV3). Falling behind is
    impossible and no burst follows a pause: the next batch is due when its steps were taken. Only ``catch_up`` makes
    up for the steps before the first batch, with as many batches at once as they are due (TD-MPC2's seed steps).

    Args:
        env: the environments; they are seeded by ``seed`` at the first step.
        policy: acts with exploration; its latents are stored with the rows if the replay has a place for them.
        replay: one stream for each environment.
        min_rows: sequence starts the replay must offer before the first batch; default: the rows of one batch, or
            all it can hold if that is less.
        context_rows: leading rows of a sequence that only warm up the model's state.

    Raises:
        ConfigurationError: the environments, the policy and the replay do not fit together.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: Policy,
        replay: Replay,
        *,
        replay_ratio: float,
        min_rows: int | None = None,
        context_rows: int = 0,
        catch_up: bool = False,
        seed: int = 0,
    ) -> None:
        _check_fit(env, policy, replay, replay_ratio)
        self.env, self.policy, self.replay = env, policy, replay
        self.replay_ratio, self._min_rows, self._context_rows = float(replay_ratio), min_rows, context_rows
        self._catch_up = catch_up
        self._env_seed: int | None = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self._step: Step | None = None  # the row that is seen but not yet stored; None: begin new episodes
        self._carry: Carry = {}
        self._credit = 0.0  # rows that may be replayed before the environments must be stepped again
        self._started = False
        self._env_steps = 0
        self._statistics = EpisodeStatistics(env.num_envs)

    @property
    def env_steps(self) -> int:
        """Rows collected so far, over all environments."""
        return self._env_steps

    def sample(self, request: BatchRequest) -> Batch:
        """Step the environments as far as the ratio asks, then sample the replay.

        Raises:
            TrainingError: an environment raised, or gave a row that cannot be stored; the message names the
                environment and the step. What was collected is kept, and the next call begins new episodes.
        """
        length = request.seq_len or self.replay.sequence_length
        if length is None:
            raise ConfigurationError("no sequence length: pass seq_len, or sequence_length to the Replay")
        rows = request.batch_size * max(1, length - self._context_rows)
        if not self._started:
            self._begin(rows, length)
        while self._credit < rows:
            self._advance()
            self._credit += self.env.num_envs * self.replay_ratio
        self._credit -= rows
        return self.replay.sample(request)

    def update(self, batch: Batch, latents: Mapping[str, Tensor]) -> int:
        """Write latents back into the replay; see :meth:`Replay.update`."""
        return self.replay.update(batch, latents)

    def metrics(self) -> dict[str, float]:
        """Return totals, and the means over the episodes that ended since the last call (which are then forgotten).

        ``env_steps``, ``episodes``, ``replay/rows``; after an episode's end also ``episode/return``,
        ``episode/length`` (actions taken), ``episode/return_min`` and ``episode/return_max``.
        """
        return {
            "env_steps": self._env_steps,
            "replay/rows": len(self.replay),
            **self._statistics.pop(),
        }

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    # -- collecting ------------------------------------------------------------------------------------------------

    def _begin(self, rows: int, length: int) -> None:
        streams = self.replay.num_streams
        possible = (self.replay.capacity // streams - length + 1) * streams
        wanted = min(rows, max(1, possible)) if self._min_rows is None else self._min_rows
        if wanted > possible:
            raise ConfigurationError(
                f"a first batch needs {wanted} sequence starts, but a replay of {self.replay.capacity} rows in "
                f"{streams} streams offers at most {max(0, possible)} for sequences of {length}: raise its capacity"
            )
        steps = rows / self.replay_ratio
        every = f"1 update per {steps:g}" if steps >= 1 else f"{1 / steps:g} updates per 1"
        _LOG.info("replay ratio %g = %s environment steps", self.replay_ratio, every)
        limit = 100 * self.replay.capacity
        while (starts := self.replay.num_valid_starts(length)) < wanted:
            if starts and len(self.replay) == self.replay.capacity:
                break  # with every row some start is lost: there will not be more
            if self._env_steps > limit:
                raise BufferError(
                    f"after {self._env_steps} environment steps no {wanted} sequences of {length} rows came together: "
                    "the episodes are too short for boundary='within'; ask for shorter sequences or use 'cross'"
                )
            self._advance()
        due = self._env_steps * self.replay_ratio if self._catch_up else 0.0
        self._credit, self._started = max(float(rows), due), True  # the first batch is due now

    def _advance(self) -> None:
        """Act on the row at hand, store both, and get the next row."""
        step = self._step if self._step is not None else self._reset()
        first = torch.from_numpy(step.is_first)
        obs = {name: torch.from_numpy(value) for name, value in step.obs.items()}
        with torch.no_grad():
            action, carry = self.policy(obs, self._carry, is_first=first, explore=True)
            latents = self.policy.latents(carry) if self.policy.latent_spec else {}
        flat = action.detach().cpu().numpy()
        self._step = None  # until the next row is there: a failure below begins new episodes
        try:
            self.replay.add(step, flat, {name: as_numpy(value) for name, value in latents.items()})
        except (BufferError, ShapeMismatchError) as error:
            raise self._failure(error) from error
        self._env_steps += self.env.num_envs
        self._statistics.add(step)
        try:
            self._step = self.env.step(flat)
        except Exception as error:
            raise self._failure(error) from error
        self._carry = carry

    def _reset(self) -> Step:
        try:
            self._step = self.env.reset(seed=self._env_seed)
        except Exception as error:
            raise self._failure(error) from error
        self._env_seed = None  # later resets go on in the sequence of episodes
        self._carry = self.policy.initial(self.env.num_envs)
        self._statistics.abandon()
        return self._step

    def _failure(self, error: Exception) -> TrainingError:
        self.replay.end_episodes()
        which = getattr(error, "env_index", None)
        where = f"environment {which}" if which is not None else f"one of {self.env.num_envs} environments"
        return TrainingError(
            f"{where} failed at environment step {self._env_steps}: {error}. The {len(self.replay)} rows collected so "
            "far are kept; sampling again begins new episodes"
        )

    # -- saving ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the replay, the counters and, where the environments can be played again, the open episodes."""
        arrays, meta = self.replay.state_dict()
        out = {f"replay/{name}": array for name, array in arrays.items()}
        more: dict[str, Any] = {
            "replay": meta,
            "env_steps": self._env_steps,
            "credit": self._credit,
            "started": self._started,
            "env_seed": self._env_seed,
            "env": None,
        }
        more["statistics"] = self._statistics.state()
        if hasattr(self.policy, "rng_state"):
            more["policy"] = self.policy.rng_state()
        if self._step is not None and hasattr(self.env, "state_dict"):
            env_arrays, more["env"] = self.env.state_dict()
            out |= {f"env/{name}": array for name, array in env_arrays.items()}
            out |= {f"obs/{name}": value for name, value in self._step.obs.items()}
            out |= {f"carry/{name}": as_numpy(value) for name, value in self._carry.items()}
        return out, more

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Environments of ours play their open episodes again, so the run goes on as if it had not been interrupted. If
        they cannot, or come out elsewhere (they are not a function of their seed and actions), the stored episodes
        end here (``is_last``) and new ones begin.

        Raises:
            CheckpointError: the replay in it is of another shape.
        """
        self.replay.load_state_dict(_below(arrays, "replay/"), meta["replay"])
        self._env_steps, self._credit = int(meta["env_steps"]), float(meta["credit"])
        self._started, self._env_seed = bool(meta["started"]), meta["env_seed"]
        self._statistics.load(meta["statistics"])
        if "policy" in meta and hasattr(self.policy, "set_rng_state"):
            self.policy.set_rng_state(meta["policy"])
        self._step = self._play_again(arrays, meta)
        if self._step is None:
            self.replay.end_episodes()

    def _play_again(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Step | None:
        if meta["env"] is None or not hasattr(self.env, "load_state_dict"):
            return None
        try:
            step = self.env.load_state_dict(_below(arrays, "env/"), meta["env"])
        except (TrainingError, ConfigurationError, ValidationError, ShapeMismatchError) as error:
            _LOG.warning("the open episodes could not be played again, new ones begin: %s", error)
            return None
        seen = _below(arrays, "obs/")
        if step is None or any(not np.array_equal(step.obs[name], seen[name]) for name in step.obs):
            _LOG.warning("the open episodes did not come out where they were left, new ones begin")
            return None
        carry = self.policy.initial(self.env.num_envs)  # for the dtypes, and the device the policy is on now
        saved = _below(arrays, "carry/")
        if set(saved) != set(carry):
            _LOG.warning(
                "the policy remembers %s, but %s was saved (by another version?): new episodes begin",
                sorted(carry),
                sorted(saved),
            )
            return None
        self._carry = {name: torch.from_numpy(np.array(saved[name])).to(value) for name, value in carry.items()}
        return step


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _check_fit(env: VectorEnv, policy: Policy, replay: Replay, replay_ratio: float) -> None:
    if not replay_ratio > 0:
        raise ConfigurationError(
            f"replay_ratio must be positive, got {replay_ratio}: replayed rows per environment step"
        )
    if replay.num_streams != env.num_envs:
        raise ConfigurationError(
            f"the replay has {replay.num_streams} streams for {env.num_envs} environments: "
            f"pass num_streams={env.num_envs}"
        )
    shapes = [{k: (s.shape, s.dtype) for k, s in spec.items()} for spec in (env.obs_spec, replay.obs_spec)]
    if shapes[0] != shapes[1]:
        raise ConfigurationError(f"the environments observe {shapes[0]}, the replay stores {shapes[1]}")
    if env.action_spec.dim != replay.action_spec.dim:
        raise ConfigurationError(
            f"the environments take {env.action_spec.dim} action numbers, the replay stores {replay.action_spec.dim}"
        )
    if set(policy.latent_spec) != set(replay.latent_names):
        raise ConfigurationError(
            f"the policy has latents {sorted(policy.latent_spec)}, the replay stores {sorted(replay.latent_names)}: "
            "pass latent_spec=policy.latent_spec"
        )
