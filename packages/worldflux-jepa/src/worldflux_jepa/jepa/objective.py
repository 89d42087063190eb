"""What the family learns by: predictions near the latents of what came, and latents that do not collapse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from worldflux import ValidationError
from worldflux.blocks import dense

from ..layers.ranks import from_first, processes
from .losses import (
    covariance,
    covariance_over_time,
    distance,
    mean_where,
    sigreg,
    std_hinge,
    std_hinge_over_time,
    straightening,
    time_similarity,
)

if TYPE_CHECKING:
    from .config import JEPAConfig

Losses = tuple[dict[str, Tensor], dict[str, Tensor]]


class InverseDynamics(nn.Module):
    """Reads the action from the latents before and after it: three linear layers with ReLU between them."""

    def __init__(self, latent_dim: int, action_dim: int, *, units: int) -> None:
        super().__init__()
        self.net = dense((2 * latent_dim, units, units, action_dim), nn.ReLU)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents ``[B, T, D]`` to actions ``[B, T - 1, A]``, that of row t from rows t and t + 1."""
        return self.net(torch.cat([latents[:, :-1], latents[:, 1:]], -1))


class LatentObjective(nn.Module):
    """Distance to the targets, a regulariser, and what may be added to them, as the config says.

    Letters: B batch, T rows, N tokens of a row's latent, D latent, A action. The regularisers look at the latents the
    predictor is given, each row and token by itself over the batch. Inverse dynamics reads the mean over tokens.
    """

    def __init__(self, config: JEPAConfig) -> None:
        super().__init__()
        self.config = config
        wanted = config.inverse_dynamics > 0
        units = 2 * config.latent_dim
        self.inverse = InverseDynamics(config.latent_dim, config.action_dim, units=units) if wanted else None

    def noise(
        self, latents_shape: Sequence[int], *, generator: torch.Generator | None, device: torch.device | str
    ) -> dict[str, Tensor]:
        """What an update draws for latents ``[B, T, N, D]``: of SIGReg ``directions [1, D, M]``, those of all rows."""
        if self.config.regulariser != "sigreg":
            return {}
        shape = (1, latents_shape[-1], self.config.directions)
        return {"directions": from_first(torch.randn(shape, generator=generator, device=device))}

    def losses(
        self,
        latents: Tensor,
        targets: Tensor,
        predictions: Sequence[Tensor],
        actions: Tensor,
        valid: Sequence[Tensor],
        noise: dict[str, Tensor],
    ) -> Losses:
        """Weighed losses by name, whose sum is the loss, and metrics.

        Args:
            latents: encodings ``[B, T, N, D]``, which the predictor consumed.
            targets: ``[B, T, N, D]``, detached where they are not to learn.
            predictions: for k = 1 to K what is predicted k steps ahead of rows k to T - 1, ``[B, T - k, N, D]``.
            actions: ``[B, T, A]``, each done at its row.
            valid: for each k ``[B, T - k]``, 1 where row t + k follows row t in one episode.
            noise: what ``noise`` drew.

        Raises:
            ValidationError: a batch of one row has no statistics for the regulariser.
        """
        terms, metrics = self._predicted(latents, targets, predictions, valid)
        terms |= self._regularised(latents, noise) | self._regularised_over_time(latents)
        config, following = self.config, valid[0]
        if config.time_similarity > 0:
            terms["time_similarity"] = config.time_similarity * mean_where(time_similarity(latents), following)
        if self.inverse is not None:
            error = (self.inverse(latents.mean(2)) - actions[:, :-1]).square()
            terms["inverse_dynamics"] = config.inverse_dynamics * mean_where(error, following)
        if config.straightening > 0:
            both = following[:, :-1] * following[:, 1:]
            terms["straightening"] = config.straightening * mean_where(straightening(latents), both)
        return terms, metrics

    def _predicted(
        self, latents: Tensor, targets: Tensor, predictions: Sequence[Tensor], valid: Sequence[Tensor]
    ) -> Losses:
        """The mean over k of the distances, and by k how much smaller they are than those of the latent as it was."""
        kind, errors, metrics = self.config.distance, list[Tensor](), dict[str, Tensor]()
        for ahead, (predicted, where) in enumerate(zip(predictions, valid, strict=True), start=1):
            errors.append(mean_where(distance(predicted, targets[:, ahead:], kind=kind), where))
            with torch.no_grad():
                stays = mean_where(distance(latents[:, :-ahead], targets[:, ahead:], kind=kind), where)
                metrics[f"prediction_{ahead}"] = errors[-1].detach()
                metrics[f"skill_{ahead}"] = 1 - errors[-1].detach() / stays.clamp(min=1e-12)
        return {"prediction": torch.stack(errors).mean()}, metrics

    def _regularised(self, latents: Tensor, noise: dict[str, Tensor]) -> dict[str, Tensor]:
        config = self.config
        if config.regulariser == "none":
            return {}
        self._require_batch(latents, f"regulariser={config.regulariser!r}")
        by_row = latents.permute(1, 2, 0, 3)  # [T, N, B, D]
        if config.regulariser == "sigreg":
            directions = noise["directions"].unsqueeze(1)
            return {"sigreg": config.sigreg_weight * sigreg(by_row, directions, knots=config.knots)}
        return {"std": config.std_weight * std_hinge(by_row), "cov": config.cov_weight * covariance(by_row)}

    def _regularised_over_time(self, latents: Tensor) -> dict[str, Tensor]:
        """Against latents that tell the episode, and not where in it they are."""
        config, terms = self.config, dict[str, Tensor]()
        if config.std_over_time == 0 and config.cov_over_time == 0:
            return terms
        self._require_batch(latents, "a regulariser over time")
        sequences = latents.permute(2, 0, 1, 3)  # [N, B, T, D]
        if config.std_over_time > 0:
            hinge = std_hinge_over_time(sequences, margin=config.margin_over_time)
            terms["std_over_time"] = config.std_over_time * hinge
        if config.cov_over_time > 0:
            terms["cov_over_time"] = config.cov_over_time * covariance_over_time(sequences)
        return terms

    @staticmethod
    def _require_batch(latents: Tensor, what: str) -> None:
        if (batch := latents.shape[0] * processes()) < 2:
            raise ValidationError(
                f"{what} needs the statistics of a batch, got {batch} sequence; train with batch_size=64 or more, at "
                "least 2"
            )
