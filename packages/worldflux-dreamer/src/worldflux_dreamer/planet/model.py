"""PlaNet as a world model that plans. ``loss_given`` is what it learns, from top to bottom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from worldflux import (
    Batch,
    Capability,
    CapabilityError,
    LossOutput,
    PredictionSpec,
    Recipe,
    State,
    StateSpec,
    decoded,
    decoder_losses,
    vector,
)
from worldflux.blocks import Arrivals, arrivals, gaussian_kl, split_modalities
from worldflux.planners import PlannerPolicy

from ..recurrent import RecurrentModel, predict
from .codec import Decoder, Encoder, read_pixels
from .config import PlaNetConfig
from .losses import averaged, free
from .networks import draw, init_kernels
from .policy import planning_policy
from .rssm import Dynamics, Posterior, observe, overshoot


@dataclass
class Noise:
    """All randomness of one loss; None takes the mean instead.

    ``pixels`` are uniform, shaped as the images; ``posterior [B, T, S]`` is normal, as is ``ahead [K, B, T, S]`` of
    predictions further ahead.
    """

    pixels: dict[str, Tensor] = field(default_factory=dict)
    posterior: Tensor | None = None
    ahead: Tensor | None = None


class PlaNet(RecurrentModel):
    """Recurrent state-space model with Gaussian latents, learnt by reconstruction; it acts by planning.

    States hold ``deter [B, D]`` and ``stoch [B, S]``. ``decode(state).preds`` holds ``reward``, where the config has a
    head for it, and each observation in the data's units.

    Source: Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels".
    """

    config_class = PlaNetConfig
    config: PlaNetConfig
    capabilities = frozenset({Capability.LATENT_DYNAMICS, Capability.REPRESENTATION, Capability.OBS_DECODER})
    updates: Tensor

    def __init__(self, config: PlaNetConfig) -> None:
        super().__init__(config)
        self.images, _ = split_modalities(config.modalities)
        self.build(Encoder, Dynamics, Decoder, Posterior)
        if config.reward_head:
            self.batch_keys = (*self.batch_keys, "rewards")
            self.capabilities |= {Capability.REWARD_PRED, Capability.PLANNING, Capability.POLICY}
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.initialise()

    def initialise(self) -> None:
        """Set every weight from ``config.seed``."""
        init_kernels(self.parts(), torch.Generator().manual_seed(self.config.seed))

    # --- the contract ---------------------------------------------------------------------------------------------

    def state_spec(self) -> StateSpec:
        return StateSpec({"deter": vector(self.config.deter_dim), "stoch": vector(self.config.stoch_dim)})

    def prediction_spec(self) -> PredictionSpec:
        paid = {"reward": vector()} if self.config.reward_head else {}
        return PredictionSpec({**decoded(self.config.modalities), **paid})

    def correct(
        self,
        state: State,
        action: Tensor,
        conditioned: dict[str, Tensor],
        obs: dict[str, Tensor],
        *,
        deterministic: bool,
    ) -> State:
        tokens = self.tokens(self.pixels(obs, {} if deterministic else self._pixel_noise(obs)))
        deter = predict(self.dynamics_model, state, conditioned, None)["deter"]
        mean, std = self.posterior(deter, tokens)
        noise = None if deterministic else self.noise(state.batch_size, device=state.device)
        return State({"deter": deter, "stoch": draw(mean, std, noise)})

    def pixels(self, obs: dict[str, Tensor], noise: dict[str, Tensor]) -> dict[str, Tensor]:
        """Checked observations with images as numbers in [0, 1], by uniform noise of the images' shapes (or none)."""
        return {**obs, **{name: read_pixels(obs[name], self.config.bits, noise.get(name)) for name in self.images}}

    def noise(self, *shape: int, device: torch.device) -> Tensor:
        return torch.randn(*shape, self.config.stoch_dim, generator=self.generator(device), device=device)

    def _pixel_noise(self, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        stored = {name: obs[name] for name in self.images if not obs[name].is_floating_point()}
        return {
            name: torch.rand(value.shape, generator=self.generator(value.device), device=value.device)
            for name, value in stored.items()
        }

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return the sum of all scaled losses over a batch ``[B, T, ...]``, whose sequences start from zeros.

        Raises ValidationError or ShapeMismatchError for a batch that breaks the contract.
        """
        rows = arrivals(self.checked(batch), from_nothing=True, rewards=self.config.reward_head)
        return self.loss_given(rows, self._draw_noise(rows))

    def loss_given(self, rows: Arrivals, noise: Noise) -> LossOutput:
        """The loss of rows ``[B, T, ...]`` under given noise."""
        config, parts = self.config, (self.dynamics_model, self.action_conditioner)
        obs = self.pixels(rows.obs, noise.pixels)
        led = {"action": rows.action, "is_first": rows.is_first}
        start = self.initial_state(len(rows.reward), rows.reward.device)
        trace = observe(*parts, self.posterior, start=start, **led, tokens=self.tokens(obs), noise=noise.posterior)
        targets = {**obs, **({"reward": rows.reward} if config.reward_head else {})}
        found = decoder_losses(self.decoder, trace.state, targets, modalities=config.modalities)
        divergence = gaussian_kl(trace.post, trace.prior)
        found["kl"] = free(divergence, config.free_nats)
        components = {name: averaged(value, rows.mask) for name, value in found.items()}
        if config.overshooting > 1:
            components["overshooting"] = overshoot(
                *parts, trace, **led, weight=rows.mask, noise=noise.ahead,
                distance=config.overshooting, free_nats=config.free_nats, min_std=config.min_std,
            )  # fmt: skip
        scales = {"rew": config.reward_scale, "kl": config.kl_scale, "overshooting": config.overshooting_scale}
        scaled = [scales.get(name, config.observation_scale) * value for name, value in components.items()]
        metrics = {
            "kl_raw": averaged(divergence.detach(), rows.mask),
            "post_std": trace.post[1].detach().mean(),
            "prior_std": trace.prior[1].detach().mean(),
        }
        return LossOutput(torch.stack(scaled).sum(), {n: v.detach() for n, v in components.items()}, metrics)

    def _draw_noise(self, rows: Arrivals) -> Noise:
        shape, device = rows.reward.shape, rows.reward.device
        noise = Noise(posterior=self.noise(*shape, device=device), pixels=self._pixel_noise(rows.obs))  # in this order
        if self.config.overshooting > 1:
            noise.ahead = self.noise(self.config.overshooting, *shape, device=device)
        return noise

    def on_after_optimizer_step(self) -> None:
        """Count the update: before the first one actions are random."""
        self.updates += 1

    def training_defaults(self) -> Recipe:
        seed = self.config.seed_steps  # of the paper's seed episodes
        return Recipe.of(self.config, min_rows=seed or None, random_steps=0 if self.updates else seed)

    def configure_optimizer(self, config: Any) -> torch.optim.Optimizer:
        """Return Adam with PlaNet's ``eps``; ``config`` gives ``learning_rate`` and ``weight_decay``."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.Adam(
            parameters, lr=config.learning_rate, eps=self.config.eps, weight_decay=config.weight_decay
        )

    def policy(self, *, generator: torch.Generator | None = None) -> PlannerPolicy:  # type: ignore[override]
        """Return the planner as a policy; ``generator`` replaces the model's own for sampling plans.

        Raises CapabilityError for a model built with ``reward_head=False``.
        """
        if not self.config.reward_head:
            raise CapabilityError("this PlaNet was built with reward_head=False: it has no rewards to plan by")
        return planning_policy(self, generator=generator)
