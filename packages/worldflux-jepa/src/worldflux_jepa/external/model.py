"""A frozen encoder as a world model that sees and imagines nothing: for probes, measures and pictures of latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux import (
    Batch,
    Capability,
    CapabilityError,
    LossOutput,
    Recipe,
    State,
    StateSpec,
    WorldModel,
    vector,
)

from .config import ExternalConfig
from .encoders import Features, FrozenEncoder
from .part import channels_of
from .weights import Weights


class External(WorldModel):
    """An encoder that others trained; states hold ``latent [B, D]``, or of patches ``latent [B, N, D]``.

    It has no dynamics: ``transition`` and ``rollout`` raise CapabilityError. With ``latent_dim`` it learns a linear
    layer, judged by how much of the features another one gets back out of it.
    """

    config_class = ExternalConfig
    config: ExternalConfig
    capabilities = frozenset({Capability.REPRESENTATION})
    batch_keys = ("obs",)

    def __init__(self, config: ExternalConfig, *, weights: Weights | None = None) -> None:
        weights = config.weights() if weights is None else weights
        super().__init__(config.described(weights))
        frozen = FrozenEncoder(weights, image_size=config.image_size)
        features = Features(frozen, channels_of(config), pool=config.pool)
        self.features, self.tokens = features.width, features.tokens
        self.observation_encoder = Pictures(features)
        sizes = self.features, config.latent_dim
        self.compress: nn.Linear | None = None
        self.expand: nn.Linear | None = None
        if config.latent_dim:
            with torch.random.fork_rng(devices=[]):  # torch's layers draw at once what initialise sets
                self.compress, self.expand = nn.Linear(*sizes), nn.Linear(*sizes[::-1])
        self.initialise()

    def initialise(self) -> None:
        """Set the weights of the two layers from the config's seed."""
        generator = torch.Generator().manual_seed(self.config.seed)
        for layer in (self.compress, self.expand):
            if layer is not None:
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
                nn.init.zeros_(layer.bias)

    def state_spec(self) -> StateSpec:
        width = self.config.latent_dim or self.features
        return StateSpec({"latent": vector(width) if self.tokens == 1 else vector(self.tokens, width)})

    def begin(self, obs: dict[str, Tensor], *, deterministic: bool) -> State:
        """The latent of what is seen."""
        seen = self.encoded(obs, "latent", self.features)
        return State({"latent": seen if self.compress is None else self.compress(seen)})

    def loss(self, batch: Batch) -> LossOutput:
        """Return the share of the features' variance that is lost, of rows ``[B, T, ...]``.

        Raises CapabilityError without ``latent_dim``, ValidationError for a batch that breaks the contract.
        """
        batch = self.checked(batch)
        if self.compress is None or self.expand is None:
            raise CapabilityError(
                "a frozen encoder learns nothing: set latent_dim to learn a linear layer to that many numbers, or put "
                "the encoder into a family that learns (the slot observation_encoder)"
            )
        seen = self.encoded(batch.obs, "latent", self.features)
        latent = self.compress(seen)
        spread = (seen - seen.mean((0, 1), keepdim=True)).square().mean().clamp_min(1e-8)
        lost = (self.expand(latent) - seen).square().mean() / spread
        return LossOutput(lost, {"features": lost.detach()}, latents={"latent": latent.detach()})

    def training_defaults(self) -> Recipe:
        return Recipe.of(self.config)

    def untrained(self) -> External:
        """The same class of encoder with weights that nobody trained, for measures beside it."""
        own: Weights = self.observation_encoder.features.encoder.weights
        return External(self.config, weights=own.drawn(own.seed + 1))


class Pictures(nn.Module):
    """Features as the slot ``observation_encoder`` gives them."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Images ``[..., C, H, W]`` to ``latent [..., F]``, or of patches ``[..., N, F]``."""
        return State({"latent": self.features(observations)})
