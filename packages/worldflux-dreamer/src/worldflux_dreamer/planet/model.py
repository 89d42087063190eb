"""PlaNet as a world model with a policy."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.model import Action, Observations, WorldModel
from worldflux.core.output import LossOutput
from worldflux.core.payloads import ConditionPayload
from worldflux.core.spec import (
    Capability,
    ModalityKind,
    ModalitySpec,
    ModelIOContract,
    ObservationSpec,
    PredictionSpec,
    SequenceLayout,
    StateSpec,
)
from worldflux.core.state import State

from ..rssm import ActionConditioner
from . import objective
from .config import PlaNetConfig
from .decoder import Decoder
from .encoder import Encoder, read_pixels
from .losses import averaged, free, gaussian_kl
from .networks import draw, initialise
from .objective import Noise, Rows
from .policy import PlaNetPolicy
from .rollout import OpenLoop
from .rssm import Dynamics, Posterior


class PlaNet(WorldModel):
    """Recurrent state-space model with Gaussian latents, learnt by reconstruction; it acts by planning.

    States hold ``deter [B, D]`` and ``stoch [B, S]``. ``decode(state).preds`` holds ``reward`` and each observation in
    the data's units.

    Source: Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels".
    """

    config_class = PlaNetConfig
    config: PlaNetConfig
    capabilities = frozenset(
        {
            Capability.LATENT_DYNAMICS, Capability.REPRESENTATION, Capability.OBS_DECODER, Capability.REWARD_PRED,
            Capability.PLANNING, Capability.POLICY,
        }
    )  # fmt: skip
    # slots, each replaceable by anything with the slot's method
    observation_encoder: Any
    action_conditioner: Any
    dynamics_model: Any
    decoder: Any
    rollout_executor: Any
    updates: Tensor

    def __init__(self, config: PlaNetConfig) -> None:
        super().__init__(config)
        self.observation_encoder = Encoder(config)
        self.action_conditioner = ActionConditioner(config)
        self.dynamics_model = Dynamics(config)
        self.decoder = Decoder(config)
        self.rollout_executor = OpenLoop()
        self.posterior = Posterior(config, self.observation_encoder.token_dim)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        initialise(self, torch.Generator().manual_seed(config.seed))

    # --- the contract ---------------------------------------------------------------------------------------------

    def io_contract(self) -> ModelIOContract:
        return self._contract

    @cached_property
    def _contract(self) -> ModelIOContract:
        """Asked for several times a step, and the same for life."""
        config, vector = self.config, ModalityKind.VECTOR
        latent = {
            "deter": ModalitySpec(vector, (config.deter_dim,)),
            "stoch": ModalitySpec(vector, (config.stoch_dim,)),
        }
        decoded = {n: ModalitySpec(spec.kind, spec.shape) for n, spec in config.modalities.items()}
        fields = ("obs", "actions", "rewards")
        return ModelIOContract(
            observation_spec=ObservationSpec(config.modalities),
            action_spec=config.actions,
            state_spec=StateSpec(latent),
            prediction_spec=PredictionSpec({**decoded, "reward": ModalitySpec(vector, ())}),
            sequence_layout=SequenceLayout(dict.fromkeys(fields, "BT...")),
            required_batch_keys=fields,
            required_state_keys=tuple(latent),
        )

    def encode(self, obs: Observations, deterministic: bool = False) -> State:
        """Return the state of a fresh episode that starts with ``obs`` (each modality ``[B, ...]``)."""
        tokens = self._see(obs, deterministic)
        start = self.initial_state(tokens.shape[0], tokens.device)
        nothing = tokens.new_zeros(tokens.shape[0], self.config.actions.dim)
        return self._correct(start, nothing, tokens, None, deterministic)

    def update(
        self,
        state: State,
        action: Action,
        obs: Observations,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the state after ``action [B, A]`` led to ``obs`` (the posterior)."""
        tokens = self._see(obs, deterministic)
        if tokens.shape[0] != state.batch_size:
            raise ShapeMismatchError("observations of the update", expected=state.batch_size, got=tokens.shape[0])
        return self._correct(state, action, tokens, conditions, deterministic)

    def transition(
        self,
        state: State,
        action: Action,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the imagined next state (the prior) after ``action [B, A]``."""
        return self._advance(state, action, conditions, None if deterministic else self._normal(state["stoch"]))

    def _see(self, obs: Observations, deterministic: bool) -> Tensor:
        seen = self.observations(obs)
        return self.tokens(self.pixels(seen, {} if deterministic else self._pixel_noise(seen)))

    def _advance(
        self, state: State, action: Action, conditions: ConditionPayload | None, noise: Tensor | None
    ) -> State:
        conditioned = self.condition(state, action, conditions)
        if noise is not None:
            conditioned = {**conditioned, "noise": noise}
        ahead = self.dynamics_model.transition(state, conditioned, deterministic=noise is None)
        return State({name: ahead[name] for name in ("deter", "stoch")}, ahead.meta)

    def _correct(
        self, state: State, action: Action, tokens: Tensor, conditions: ConditionPayload | None, deterministic: bool
    ) -> State:
        deter = self._advance(state, action, conditions, None)["deter"]
        mean, std = self.posterior(deter, tokens)
        return State({"deter": deter, "stoch": draw(mean, std, None if deterministic else self._normal(mean))})

    def pixels(self, observations: dict[str, Tensor], noise: dict[str, Tensor]) -> dict[str, Tensor]:
        """Checked observations with images as numbers in [0, 1], by uniform noise of the images' shapes (or none)."""
        bits = self.config.bits
        return {
            name: read_pixels(value, bits, noise.get(name)) if name in self.config.image_names else value
            for name, value in observations.items()
        }

    def tokens(self, observations: dict[str, Tensor]) -> Tensor:
        """Embedding ``[..., E]``. Raises ConfigurationError for an encoder of another width."""
        encoded, width = self.observation_encoder.encode(observations), self.posterior.token_dim
        tokens = encoded.get("tokens")
        if tokens is None or tokens.shape[-1] != width:
            got = sorted(encoded.tensors) if tokens is None else f"tokens of width {tokens.shape[-1]}"
            raise ConfigurationError(
                f"the observation encoder must return State({{'tokens': [..., {width}]}}), got {got}"
            )
        return tokens

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator(like.device), device=like.device, dtype=like.dtype)

    def _pixel_noise(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        images = {name: observations[name] for name in self.config.image_names}
        return {
            name: torch.rand(value.shape, generator=self.generator(value.device), device=value.device)
            for name, value in images.items()
            if not value.is_floating_point()
        }

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return the sum of all scaled losses over a batch ``[B, T, ...]``, whose sequences start from zeros.

        Raises ValidationError or ShapeMismatchError for a batch that breaks the contract.
        """
        self.validate_batch_contract(batch)
        rows = objective.read_rows(batch, obs=self.observations(batch.obs), actions=self.actions(batch.actions))
        return self.compute_loss(rows, self._draw_noise(rows))

    def compute_loss(self, rows: Rows, noise: Noise) -> LossOutput:
        """The loss of rows under given noise."""
        config = self.config
        rows.obs = self.pixels(rows.obs, noise.pixels)
        trace = objective.observe(self, rows, self.tokens(rows.obs), noise.posterior)
        found = objective.reconstruction_losses(self, rows, trace.state)
        divergence = gaussian_kl(trace.post, trace.prior)
        found["kl"] = free(divergence, config.free_nats)
        components = {name: averaged(value, rows.weight) for name, value in found.items()}
        if config.overshooting > 1:
            components["overshooting"] = objective.overshoot(self, rows, trace, noise.ahead)
        scales = {"rew": config.reward_scale, "kl": config.kl_scale, "overshooting": config.overshooting_scale}
        scaled = [scales.get(name, config.observation_scale) * value for name, value in components.items()]
        metrics = {
            "kl_raw": averaged(divergence.detach(), rows.weight),
            "post_std": trace.post[1].detach().mean(),
            "prior_std": trace.prior[1].detach().mean(),
        }
        return LossOutput(torch.stack(scaled).sum(), {n: v.detach() for n, v in components.items()}, metrics)

    def _draw_noise(self, rows: Rows) -> Noise:
        shape = (*rows.reward.shape, self.config.stoch_dim)
        noise = Noise(self._normal(rows.action.new_empty(shape)), pixels=self._pixel_noise(rows.obs))
        if self.config.overshooting > 1:
            noise.ahead = self._normal(rows.action.new_empty(self.config.overshooting, *shape))
        return noise

    def on_after_optimizer_step(self) -> None:
        """Count the update: from the first on, exploring plans."""
        self.updates += 1

    def training_defaults(self) -> dict[str, Any]:
        config = self.config
        return {
            "batch_size": config.batch_size,
            "sequence_length": config.sequence_length,
            "learning_rate": config.learning_rate,
            "grad_clip": config.grad_clip,
            "replay_ratio": config.replay_ratio,
            "num_envs": config.num_envs,
            "min_rows": config.seed_steps or None,
            "env_steps": config.env_steps,
        }

    def configure_optimizer(self, config: Any) -> torch.optim.Optimizer:
        """Return Adam with PlaNet's ``eps``; ``config`` gives ``learning_rate`` and ``weight_decay``."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.Adam(
            parameters, lr=config.learning_rate, eps=self.config.eps, weight_decay=config.weight_decay
        )

    def policy(self, *, generator: torch.Generator | None = None) -> PlaNetPolicy:  # type: ignore[override]
        """Return the planner as a policy; ``generator`` replaces the model's own for sampling plans."""
        return PlaNetPolicy(self, generator=generator)
