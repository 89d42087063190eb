"""MBPO as a world model with a policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from worldflux.core.batch import Batch
from worldflux.core.components import SLOTS
from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.model import Action, Observations, WorldModel
from worldflux.core.output import LossOutput
from worldflux.core.payloads import ConditionPayload
from worldflux.core.spec import Capability, ModelIOContract
from worldflux.core.state import State

from ..dynamics import ActionConditioner
from . import objective
from .actor_critic import Actor, Critics
from .codec import Decoder, Encoder
from .config import MBPOConfig
from .contract import contract_of
from .dynamics import Dynamics
from .networks import initialise_dense, initialise_ensemble
from .objective import Noise, Steps
from .policy import ActorPolicy
from .termination import LearnedTermination

SEQUENCE = 2  # rows that make one step


class MBPO(WorldModel):
    """An ensemble of probabilistic networks predicts observations; actor and critics learn from short rollouts in it.

    States hold ``obs [B, O]`` (all modalities, flat), ``reward [B]``, that of arriving in them, and ``continue [B]``,
    the chance that the episode did not end there. ``decode(state).preds`` holds each modality, ``reward`` and
    ``continue``. The slot ``termination`` says where episodes end: ``(obs, action, next_obs) -> [B]``.

    Source: Janner et al. 2019, "When to Trust Your Model: Model-Based Policy Optimization"; jannerm/mbpo.
    """

    config_class = MBPOConfig
    config: MBPOConfig
    capabilities = frozenset(
        {
            Capability.LATENT_DYNAMICS, Capability.OBS_DECODER, Capability.REWARD_PRED, Capability.CONTINUE_PRED,
            Capability.VALUE, Capability.POLICY,
        }
    )  # fmt: skip
    slots: ClassVar[Mapping[str, str]] = {**SLOTS, "termination": "__call__"}
    # slots, each replaceable by anything with the slot's method
    observation_encoder: Any
    action_conditioner: Any
    dynamics_model: Any
    decoder: Any
    termination: Any
    updates: Tensor
    rows: Tensor

    def __init__(self, config: MBPOConfig) -> None:
        super().__init__(config)
        self.observation_encoder = Encoder(config)
        self.action_conditioner = ActionConditioner()
        self.dynamics_model = Dynamics(config)
        self.decoder = Decoder(config)
        self.termination = LearnedTermination(config)
        self.actor, self.critics = Actor(config), Critics(config)
        self.target_critics = Critics(config, frozen=True)
        self.log_alpha = nn.Parameter(torch.full((), math.log(config.initial_alpha)))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))  # learnt from so far
        generator = torch.Generator().manual_seed(config.seed)
        initialise_ensemble(self.dynamics_model.nets, generator)
        for part in (self.termination, self.actor, self.critics):
            initialise_dense(part, generator)
        self.target_critics.load_state_dict(self.critics.state_dict())

    # --- the contract ---------------------------------------------------------------------------------------------

    def io_contract(self) -> ModelIOContract:
        return self._contract

    @cached_property
    def _contract(self) -> ModelIOContract:
        """Asked for several times a step, and the same for life."""
        return contract_of(self.config)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros, in an episode that goes on."""
        return self.arrived(super().initial_state(batch_size, device)["obs"])

    def encode(self, obs: Observations, deterministic: bool = False) -> State:
        """Return the state of a fresh episode that starts with ``obs`` (each modality ``[B, ...]``)."""
        return self.arrived(self.flat(self.observations(obs)))

    def transition(
        self,
        state: State,
        action: Action,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the imagined next state after ``action [B, A]``.

        ``deterministic`` takes the mean of the elites; otherwise each row asks one of them and draws.
        """
        conditioned = self.condition(state, action, conditions)
        if not deterministic:
            conditioned = {**conditioned, **self._draws(state)}
        return self.advance(state, self.actions(action), conditioned, deterministic=deterministic)

    def update(
        self,
        state: State,
        action: Action,
        obs: Observations,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the state in which ``obs`` is seen; the reward it carries is that predicted for ``action [B, A]``."""
        seen = self.flat(self.observations(obs))
        if seen.shape[0] != state.batch_size:
            raise ShapeMismatchError("observations of the update", expected=state.batch_size, got=seen.shape[0])
        ahead = self.transition(state, action, conditions, deterministic)
        going_on = 1 - self.ended(state["obs"], self.actions(action), seen)
        return State({"obs": seen, "reward": ahead["reward"], "continue": going_on}, ahead.meta)

    def _draws(self, state: State) -> dict[str, Tensor]:
        """Which elite each row asks, and the noise of its outcome."""
        size, device, config = state.batch_size, state.device, self.config
        generator = self.generator(device)
        return {
            "member": torch.randint(config.num_elites, (size,), generator=generator, device=device),
            "noise": torch.randn(size, 1 + config.obs_size, generator=generator, device=device),
        }

    # --- the parts, with shapes already checked -------------------------------------------------------------------

    def flat(self, observations: dict[str, Tensor]) -> Tensor:
        """What the encoder makes of modalities ``[..., *shape]``. Raises ConfigurationError for another width."""
        encoded, size = self.observation_encoder.encode(observations).get("obs"), self.config.obs_size
        if encoded is None or encoded.shape[-1] != size:
            got = "no 'obs'" if encoded is None else f"one of width {encoded.shape[-1]}"
            raise ConfigurationError(f"the observation encoder must return State({{'obs': [..., {size}]}}), got {got}")
        return encoded

    def arrived(self, obs: Tensor) -> State:
        """The state of observations ``[B, O]`` that nothing led to."""
        return State({"obs": obs, "reward": obs.new_zeros(len(obs)), "continue": obs.new_ones(len(obs))})

    def predicted(self, state: State, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        """What the dynamics say. Raises ConfigurationError for dynamics that predict something else."""
        ahead: State = self.dynamics_model.transition(state, conditioned, deterministic=deterministic)
        for name, shape in (("obs", state["obs"].shape), ("reward", state["obs"].shape[:1])):
            if name not in ahead or ahead[name].shape != shape:
                raise ConfigurationError(
                    f"the dynamics model must predict {name!r} {list(shape)}, a tensor of the state"
                )
        return ahead

    def advance(
        self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool
    ) -> State:  # fmt: skip
        """The next state after ``action [B, A]``, which the dynamics read as ``conditioned``."""
        ahead = self.predicted(state, conditioned, deterministic=deterministic)
        going_on = 1 - self.ended(state["obs"], action, ahead["obs"])
        return State({"obs": ahead["obs"], "reward": ahead["reward"], "continue": going_on}, ahead.meta)

    def ended(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        """The chance ``[B]`` that an episode ended. Raises ConfigurationError if it is not ``[B]`` that comes back."""
        found = self.termination(obs, action, next_obs)
        if not isinstance(found, Tensor) or found.shape != obs.shape[:1]:
            got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ConfigurationError(f"the termination must return a tensor {list(obs.shape[:1])}, got {got}")
        return found.to(obs.dtype)

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return the sum of all losses over the steps of a batch ``[B, T, ...]``.

        Actor and critics learn from rollouts made in this very call. Raises ValidationError or ShapeMismatchError for a
        batch that breaks the contract.
        """
        self.validate_batch_contract(batch)
        obs = self.flat(self.observations(batch.obs))
        steps = objective.read_steps(batch, obs=obs, actions=self.actions(batch.actions))
        noise = objective.draw_noise(self, len(steps.reward), self.rollout_length(), obs.device)
        if self.training:
            self.rows += batch.actions.shape[0] * batch.actions.shape[1] if batch.actions is not None else 0
        return self.compute_loss(steps, noise)

    def compute_loss(self, steps: Steps, noise: Noise) -> LossOutput:
        """The loss of steps under given noise."""
        found, logged = objective.model_losses(self, steps, noise.bootstrap)
        imagined = objective.mixed(self, steps, noise)
        more, others = objective.actor_critic_losses(self, imagined, noise)
        found |= more
        components = {name: value.detach() for name, value in found.items()}
        metrics: dict[str, Tensor | float] = {**logged, **others, "rollout_length": float(len(noise.member))}
        return LossOutput(torch.stack(list(found.values())).sum(), components, metrics)

    def rollout_length(self) -> int:
        """Steps of a rollout now: the schedule's, at the environment steps that updates so far make."""
        config = self.config
        if config.rollout_schedule[2] == config.rollout_schedule[3]:
            return config.rollout_schedule[2]  # nothing to wait for the device for
        rows_per_step = SEQUENCE * config.batch_size * config.updates_per_step
        return config.rollout_length(config.seed_steps + int(self.rows) / rows_per_step)

    @torch.no_grad()
    def on_after_optimizer_step(self) -> None:
        """Move the target critics towards the critics."""
        own: list[Tensor] = list(self.critics.parameters())
        torch._foreach_lerp_(list(self.target_critics.buffers()), own, self.config.tau)
        self.updates += 1

    def training_defaults(self) -> dict[str, Any]:
        config = self.config
        return {
            "batch_size": config.batch_size,
            "sequence_length": SEQUENCE,
            "learning_rate": config.learning_rate,
            "grad_clip": config.grad_clip,
            "replay_ratio": SEQUENCE * config.batch_size * config.updates_per_step,
            "num_envs": config.num_envs,
            "min_rows": config.seed_steps or None,
            "boundary": "within",
            "env_steps": config.env_steps,
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return actor, critics and temperature, and the ensemble with all other predictors, each at its rate."""
        config = self.config
        agent = [p for part in (self.actor, self.critics) for p in part.parameters() if p.requires_grad]
        agent += [self.log_alpha] if self.log_alpha.requires_grad else []
        apart = {id(p) for p in agent}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in apart]
        groups: list[dict[str, Any]] = [  # fused: many small tensors, one call instead of hundreds
            {"params": agent, "lr": config.learning_rate, "fused": True},
            {"params": others, "lr": config.model_learning_rate, "fused": True},
        ]
        return [group for group in groups if group["params"]]

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy(self, *, generator: torch.Generator | None = None) -> ActorPolicy:  # type: ignore[override]
        """Return the actor as a policy; ``generator`` replaces the model's own."""
        return ActorPolicy(self, generator=generator)

    # What a planner finds here (worldflux.planners.offers):

    def value_noise(self, batch_size: int, *, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Draw the policy's noise ``action [B, A]``."""
        return {"action": self.actor.noise(batch_size, generator=generator, device=device)}

    def terminal_value(self, state: State, noise: dict[str, Tensor]) -> Tensor:
        """The value ``[B]``: the lower critic's, for an action the policy samples."""
        obs = state["obs"]
        return self.critics.values(obs, self.actor.act(obs, noise["action"])).amin(0)

    def proposal_noise(
        self, horizon: int, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """Draw the policy's noise ``action [H, B, A]``."""
        return {"action": self.actor.noise(horizon, batch_size, generator=generator, device=device)}

    def propose(self, state: State, horizon: int, noise: dict[str, Tensor]) -> Tensor:
        """Plans ``[H, B, A]`` of the policy in imagination."""
        actions = []
        for step in range(horizon):
            actions.append(self.actor.act(state["obs"], noise["action"][step]))
            if step + 1 < horizon:
                state = self.transition(state, actions[-1], deterministic=True)
        return torch.stack(actions)
