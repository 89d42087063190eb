"""Collecting as a source of batches: an environment is stepped as its replay is sampled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import (
    BufferError,
    CheckpointError,
    ConfigurationError,
    ShapeMismatchError,
    TrainingError,
    ValidationError,
)
from worldflux.core.policy import Carry, Policy
from worldflux.envs import RandomPolicy, Step, VectorEnv
from worldflux.envs.acting import acting
from worldflux.words.counts import counted

from .checks import check_fit, check_options, check_source
from .episodes import EpisodeStatistics
from .providers import BatchRequest, check_request
from .replay import Replay, as_numpy
from .replay.blocks import BlockFolder

_LOG = logging.getLogger(__name__)


class EnvironmentSource:
    """Batches from a replay that a policy fills while it is sampled. Implements ``BatchProviderV2``.

    Every call of :meth:`sample` first steps the environments as often as the replay ratio asks, then samples.
    ``replay_ratio`` is the number of replayed rows (``batch_size * seq_len``, less ``context_rows`` per sequence) per
    environment step, counting every row of every environment (the ``train_ratio`` of DreamerV3). Falling behind is
    impossible and no burst follows a pause: the next batch is due when its steps were taken. Only ``catch_up`` makes
    up for the steps before the first batch, with as many batches at once as they are due (TD-MPC2's seed steps).

    ``between_steps`` is called, where it is set, between any two environment steps, and before the first batch: where
    ``state_dict`` holds everything that the next call of ``sample`` needs to go on exactly. What it raises ends
    ``sample`` there.

    Args:
        env: the environments; they are seeded by ``seed`` at the first step.
        policy: acts with exploration; its latents are stored with the rows if the replay has a place for them.
        replay: one stream for each environment.
        min_rows: sequence starts the replay must offer before the first batch; default: the rows of one batch, or
            all it can hold if that is less.
        context_rows: leading rows of a sequence that only warm up the model's state.
        random_steps: so many of the first rows, over all environments (rounded up to whole steps of all), are acted
            uniformly at random and not by the policy, which then begins as with new episodes; where it is not 0, so is
            every row before the first batch. Their latents are zeros. Without ``min_rows`` the first batch comes after
            them. A policy that has ``restrict(obs, action)`` says what of a random action ``[N, A]`` an environment
            uses.
        patience: without a single sequence after so many rows (at least ten times as many as one of each stream takes)
            the episodes are too short.
        step_limit: once so many rows were collected, over all environments, every batch is drawn from what there is.

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
        random_steps: int = 0,
        patience: int = 10_000,
        step_limit: int | None = None,
        seed: int = 0,
    ) -> None:
        counts = {"context_rows": context_rows, "random_steps": random_steps, "patience": patience, "seed": seed}
        check_options(replay_ratio, min_rows=min_rows, step_limit=step_limit, **counts)
        check_fit(env, policy, replay)
        self.env, self.policy, self.replay = env, policy, replay
        self.replay_ratio, self._min_rows, self._context_rows = float(replay_ratio), min_rows, context_rows
        self._catch_up, self._random_steps = catch_up, random_steps
        self._patience, self._step_limit = patience, step_limit
        seeds = [int(number) for number in np.random.SeedSequence(seed).generate_state(2)]
        self._env_seed: int | None = seeds[0]
        self._random = RandomPolicy(env.action_spec, seed=seeds[1])
        self._step: Step | None = None  # the row that is seen but not yet stored; None: begin new episodes
        self._carry: Carry = {}
        self._credit = 0.0  # rows that may be replayed before the environments must be stepped again
        self._started, self._was_random = False, False
        self._env_steps, self._rows = 0, 0
        self.between_steps: Callable[[], None] | None = None
        self._statistics = EpisodeStatistics(env.num_envs)

    @property
    def env_steps(self) -> int:
        """Rows collected so far, over all environments."""
        return self._env_steps

    @property
    def started(self) -> bool:
        """Whether there are the rows that the first batch waits for."""
        return self._started

    @property
    def replayed_steps(self) -> int:
        """Of ``env_steps``, those whose batches were given: fewer only while ``catch_up`` makes up for the others."""
        behind = self._started and self._credit >= self._rows > 0
        return self._env_steps - int(self._credit / self.replay_ratio if behind else 0)

    @property
    def latent_names(self) -> list[str]:
        """The latents the replay stores beside the rows: ``update`` takes these."""
        return self.replay.latent_names

    def sample(self, request: BatchRequest) -> Batch:
        """Step the environments as far as the ratio asks, then sample the replay.

        The policy's model is in eval mode meanwhile, whatever mode it is in otherwise.

        Raises:
            ConfigurationError: this is no request, or the replay can never hold what it asks for.
            BufferError: no episode is as long as a sequence, and the replay is full, ``step_limit`` is reached, or
                ``patience`` is at its end.
            TrainingError: an environment raised, or gave a row that cannot be stored; the message names the
                environment and the step. What was collected is kept, and the next call begins new episodes.
        """
        length = check_request(request).seq_len or self.replay.sequence_length
        if length is None:
            raise ConfigurationError("no sequence length: pass seq_len, or sequence_length to the Replay")
        rows = self._rows = request.batch_size * max(1, length - self._context_rows)
        if not self._started or self._credit < rows:
            with acting(self.policy):
                self._collect(rows, length)
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

    def _collect(self, rows: int, length: int) -> None:
        if not self._started:
            self._begin(rows, length)
            self._between()
        while self._credit < rows:
            if not self._at_limit:
                self._advance()
            self._credit += self.env.num_envs * self.replay_ratio

    @property
    def _at_limit(self) -> bool:
        return self._step_limit is not None and self._env_steps >= self._step_limit

    def _begin(self, rows: int, length: int) -> None:
        streams = self.replay.num_streams
        possible = (self.replay.capacity // streams - length + 1) * streams
        wanted = min(rows, max(1, possible)) if self._min_rows is None else self._min_rows
        if wanted > possible:
            raise ConfigurationError(
                f"a first batch needs {counted(wanted, 'sequence start')}, but a replay of "
                f"{counted(self.replay.capacity, 'row')} in "
                f"{counted(streams, 'stream')} offers at most {max(0, possible)} for sequences of {length}: raise its "
                "capacity"
            )
        steps = rows / self.replay_ratio
        every = f"1 update per {steps:g}" if steps >= 1 else f"{1 / steps:g} updates per 1"
        _LOG.info("replay ratio %g = %s environment steps", self.replay_ratio, every)
        self._fill(length, wanted)
        due = self._env_steps * self.replay_ratio if self._catch_up else 0.0
        self._credit, self._started = max(float(rows), due), True  # the first batch is due now

    def _fill(self, length: int, wanted: int) -> None:
        """Step until ``wanted`` sequences can be drawn, or as many as there will be; raise if there will be none."""
        first = self._random_steps if self._min_rows is None else 0
        patience = max(self._patience, 10 * length * self.replay.num_streams)
        while True:
            starts, full = self.replay.num_valid_starts(length), len(self.replay) == self.replay.capacity
            # A full replay loses some start with every row: there will not be more.
            over = full or self._at_limit
            if not starts and (over or self._env_steps >= patience):
                raise BufferError(self._too_short(length))
            if self._env_steps >= first and (starts >= wanted or over):
                return
            self._advance()

    def _too_short(self, length: int) -> str:
        return (
            f"after {counted(self._env_steps, 'environment step')} there is no sequence of {counted(length, 'row')} "
            "to train from: the "
            f"longest episode has {counted(self.replay.longest_episode(), 'row')} (one more than its actions). Let "
            "episodes last "
            "longer, or ask for shorter sequences (sequence_length, and the model's horizon if it has one); "
            "boundary='cross' takes sequences over the end of an episode, where the model allows it"
        )

    def _between(self) -> None:
        if self.between_steps is not None:
            self.between_steps()

    def _advance(self) -> None:
        """Act on the row at hand, store both, and get the next row."""
        self._between()
        step = self._step if self._step is not None else self._reset()
        obs = {name: torch.from_numpy(value) for name, value in step.obs.items()}
        with torch.no_grad():
            random = self._env_steps < self._random_steps or (self._random_steps > 0 and not self._started)
            choose = self._at_random if random else self._by_policy
            action, latents, carry = choose(obs, torch.from_numpy(step.is_first))
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

    def _by_policy(self, obs: dict[str, Tensor], is_first: Tensor) -> tuple[Tensor, dict[str, Tensor], Carry]:
        carry, num = self._carry, self.env.num_envs
        if self._was_random:  # its first action
            carry, is_first, self._was_random = self.policy.initial(num), torch.ones_like(is_first), False
        action, carry = self.policy(obs, carry, is_first=is_first, explore=True)
        return action, self.policy.latents(carry) if self.policy.latent_spec else {}, carry

    def _at_random(self, obs: dict[str, Tensor], is_first: Tensor) -> tuple[Tensor, dict[str, Tensor], Carry]:
        self._was_random = True
        action, _ = self._random(obs, {}, is_first=is_first, explore=True)
        restrict = getattr(self.policy, "restrict", None)
        spec = self.policy.latent_spec.items()
        latents = {name: torch.zeros(len(action), *shape, dtype=getattr(torch, dtype)) for name, (shape, dtype) in spec}
        return action if restrict is None else restrict(obs, action), latents, self._carry

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
        where = f"environment {which}" if which is not None else f"one of {counted(self.env.num_envs, 'environment')}"
        way_on = "sampling again begins new episodes"
        if getattr(error, "lost", False):
            way_on = "go on from a checkpoint (resume_from), or with this replay in a new EnvironmentSource"
        return TrainingError(
            f"{where} failed at environment step {self._env_steps}: {error}. "
            f"{counted(len(self.replay), 'row collected so far is', 'rows collected so far are')} kept; {way_on}"
        )

    # -- saving ----------------------------------------------------------------------------------------------------

    def state_dict(self, blocks: BlockFolder | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the replay, the counters and, where the environments can be played again, the open episodes.

        ``blocks`` is for the replay; see :meth:`Replay.state_dict`.
        """
        arrays, meta = self.replay.state_dict(blocks)
        out = {f"replay/{name}": array for name, array in arrays.items()}
        more: dict[str, Any] = {
            "replay": meta,
            "env_steps": self._env_steps,
            "credit": self._credit,
            "rows": self._rows,
            "started": self._started,
            "was_random": self._was_random,
            "env_seed": self._env_seed,
            "env": None,
        }
        more["statistics"], more["random"] = self._statistics.state(), self._random.rng_state()
        if hasattr(self.policy, "rng_state"):
            more["policy"] = self.policy.rng_state()
        if self._step is not None and hasattr(self.env, "state_dict"):
            env_arrays, more["env"] = self.env.state_dict()
            out |= {f"env/{name}": array for name, array in env_arrays.items()}
            out |= {f"obs/{name}": value for name, value in self._step.obs.items()}
            out |= {f"carry/{name}": as_numpy(value) for name, value in self._carry.items()}
        return out, more

    def load_state_dict(
        self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], blocks: BlockFolder | None = None
    ) -> None:
        """Restore what ``state_dict`` returned.

        Environments of ours play their open episodes again, so the run goes on as if it had not been interrupted. If
        they cannot, or come out elsewhere (they are not a function of their seed and actions), the stored episodes
        end here (``is_last``) and new ones begin.

        Raises:
            CheckpointError: the replay in it is of another shape, or something is missing or damaged. Nothing of the
                replay, the counters and the generators changes then.
        """
        check_source(arrays, meta, self.env.obs_spec, self.env.num_envs)
        statistics, replay = EpisodeStatistics.of(meta["statistics"], self.env.num_envs), _below(arrays, "replay/")
        self.replay.check_state(replay, meta["replay"], blocks)
        step = self._load_actors(arrays, meta)
        self.replay.load_state_dict(replay, meta["replay"], blocks)
        self._statistics, self._step = statistics, step
        self._env_steps, self._credit = meta["env_steps"], float(meta["credit"])
        self._started, self._env_seed = meta["started"], meta["env_seed"]
        self._rows = meta.get("rows", 0)  # not in what earlier versions saved
        self._was_random = bool(meta.get("was_random", False))  # earlier versions had no random rows
        if "random" in meta:  # not in what earlier versions saved
            self._random.set_rng_state(meta["random"])
        if step is None:
            self.replay.end_episodes()

    def _load_actors(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Step | None:
        """Restore the policy's generator and the environments, or neither: only they know what they saved."""
        policy: Any = self.policy if "policy" in meta and hasattr(self.policy, "set_rng_state") else None
        before = policy.rng_state() if policy is not None else None
        try:
            if policy is not None:
                policy.set_rng_state(meta["policy"])
            return self._play_again(arrays, meta)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            if policy is not None:
                policy.set_rng_state(before)
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"saved source: its policy or environments cannot go on: {error!r}") from error

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
        if {name: value.shape for name, value in saved.items()} != {k: tuple(v.shape) for k, v in carry.items()}:
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
