"""What a model imagines, beside what happened: open-loop error by horizon against honest baselines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from worldflux.core.errors import CapabilityError, ConfigurationError
from worldflux.words.counts import counted

from .neighbours import Neighbours
from .observations import CHANGED
from .unroll import as_floats, dream, judging, predictions, watch

if TYPE_CHECKING:
    from worldflux.core.model import WorldModel

    from .segments import Segments


@dataclass(frozen=True)
class Imagination:
    """What happened and what was imagined, for B sequences of ``context`` real rows and ``horizon`` imagined
    ones.

    Images are floats in [0, 1]. ``prediction`` holds reconstructions in its first ``context`` rows and
    open-loop predictions after them; ``reward`` of row t is the reward on arriving at t.
    ``errors[name][measure]`` has one value per horizon 1..H (NaN where nothing can be measured): for every
    modality ``mse``, and its baselines ``copy_last_mse`` (the last context row repeated) and
    ``shuffled_actions_mse`` (the same contexts with one another's actions: a model that reads its actions
    does worse); for images also ``changed_mse`` and ``copy_last_changed_mse``, on the pixels that moved since
    the last context frame; for the reward ``mae`` in place of ``mse``; for ``continue`` the Brier score. Of a model
    without a decoder of observations ``truth`` and ``prediction`` are empty; or, with ``nearest``, ``prediction`` holds
    the real rows nearest to its latents.
    """

    context: int
    horizon: int
    truth: dict[str, np.ndarray]  # [B, c+H, ...]
    prediction: dict[str, np.ndarray]  # [B, c+H, ...]
    reward: np.ndarray  # [B, c+H]
    predicted_reward: np.ndarray | None  # [B, c+H]
    errors: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    nearest: bool = False

    @property
    def images(self) -> tuple[str, ...]:
        """The modalities that are images."""
        return tuple(name for name, value in self.truth.items() if value.ndim == 5)

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Return each error's mean over the horizons and its value at the last one (``None`` where
        undefined)."""
        table: dict[str, dict[str, float | None]] = {}
        for name, measures in self.errors.items():
            row = table.setdefault(name, {})
            for measure, values in measures.items():
                finite = values[np.isfinite(values)]
                row[f"{measure}_mean"] = float(finite.mean()) if finite.size else None
                row[f"{measure}_at_{self.horizon}"] = float(values[-1]) if np.isfinite(values[-1]) else None
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return context, horizon, sequences, summary and errors by horizon as JSON-able values."""
        errors = {
            name: {m: [float(x) if np.isfinite(x) else None for x in v] for m, v in measures.items()}
            for name, measures in self.errors.items()
        }
        return {
            "context": self.context,
            "horizon": self.horizon,
            "sequences": int(self.reward.shape[0]),
            **({"shown_by": "nearest rows of other episodes"} if self.nearest else {}),
            "summary": self.summary(),
            "errors": errors,
        }


def imagine(
    model: WorldModel,
    segments: Segments,
    *,
    context: int = 5,
    deterministic: bool = True,
    library: Segments | None = None,
) -> Imagination:
    """Watch ``context`` rows of each segment, imagine the rest with the real actions, and compare.

    The model sees no observation after row ``context - 1``; H = T - context. ``deterministic`` takes the mode
    of every latent, else they are drawn (with the model's own generator). Where the model decodes neither an
    observation nor a reward, imagined latents are shown by the nearest rows of other episodes in a ``library``.

    Raises:
        ConfigurationError: ``context`` is below 1 or leaves no row to imagine.
        CapabilityError: the model decodes neither an observation of the segments nor a reward, and there is no row to
            show for it.
    """
    rows = segments.rows
    horizon = rows - context
    if context < 1 or horizon < 1:
        raise ConfigurationError(
            f"context is {context}, expected 1 to {rows - 1} for segments of {counted(rows, 'row')}"
        )
    with judging(model) as device:
        obs = {name: torch.as_tensor(value[:, :context], device=device) for name, value in segments.obs.items()}
        actions = torch.as_tensor(segments.actions, device=device)
        seen = watch(model, obs, actions[:, :context], deterministic=deterministic)
        future = actions[:, context - 1 : rows - 1]  # [B, H, A]
        ahead = dream(model, seen[-1], future, deterministic=deterministic)
        decoded, nearest = list(predictions(model, [*seen, *ahead])), None
        others = dream(model, seen[-1], future.roll(1, dims=0), deterministic=deterministic)  # each has its neighbour's
        shuffled = list(predictions(model, others))
        if library is not None and not {"reward", *segments.obs} & set(decoded[0]):
            episodes = np.arange(segments.sequences) if segments.episodes is None else segments.episodes
            nearest = Neighbours(model, library, episodes)
            if nearest.any:
                decoded, shuffled = list(nearest([*seen, *ahead])), list(nearest(others))

    names = [name for name in segments.obs if name in decoded[0]]
    if not names and "reward" not in decoded[0]:
        raise CapabilityError(
            f"the model decodes {sorted(decoded[0]) or 'nothing'}, neither a reward nor any of the observations "
            f"{sorted(segments.obs)}; there is nothing to compare"
        )
    truth = {name: as_floats(segments.obs[name]) for name in names}
    prediction = {name: _stack(decoded, name, truth[name].shape[2:]) for name in names}
    errors: dict[str, dict[str, np.ndarray]] = {}
    for name in names:
        other = _stack(shuffled, name, truth[name].shape[2:]) if segments.sequences > 1 else None
        errors[name] = _observation_errors(truth[name], prediction[name], context, other)
    reward = segments.rewards.astype(np.float64)
    paid = segments.has_rewards and "reward" in decoded[0]
    predicted_reward = _stack(decoded, "reward", ()) if paid else None
    if predicted_reward is not None:
        last = reward[:, context - 1 : context]
        errors["reward"] = {
            "mae": np.abs(predicted_reward - reward)[:, context:].mean(0),
            "copy_last_mae": np.abs(last - reward)[:, context:].mean(0),
        }
    if "continue" in decoded[0]:
        goes_on = 1.0 - segments.is_terminal.astype(np.float64)
        errors["continue"] = {"brier": np.square(_stack(decoded, "continue", ()) - goes_on)[:, context:].mean(0)}
    return Imagination(
        context=context,
        horizon=horizon,
        truth=truth,
        prediction=prediction,
        reward=reward,
        predicted_reward=predicted_reward,
        errors=errors,
        nearest=nearest is not None,
    )


def _stack(decoded: list[dict[str, np.ndarray]], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Stack decoded rows to [B, T, *shape]; a trailing unit dimension of a scalar is dropped."""
    rows = [row[name] for row in decoded]
    return np.stack([row.reshape(row.shape[0], *shape) for row in rows], 1).astype(np.float64)


def _observation_errors(
    truth: np.ndarray, prediction: np.ndarray, context: int, shuffled: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Mean squared errors per horizon of predictions [B, c+H, ...]; ``shuffled`` holds [B, H, ...]."""
    real, last = truth[:, context:], truth[:, context - 1 : context]
    model_error, copy_error = np.square(prediction[:, context:] - real), np.square(last - real)
    axes = (0, *range(2, truth.ndim))
    errors = {"mse": model_error.mean(axes), "copy_last_mse": copy_error.mean(axes)}
    if shuffled is not None:
        errors["shuffled_actions_mse"] = np.square(shuffled - real).mean(axes)
    if truth.ndim == 5:  # [B, H, C, h, w]: a still background makes every model look good
        changed = (np.abs(real - last) > CHANGED).any(2, keepdims=True)
        count = changed.sum((0, 2, 3, 4)) * truth.shape[2]
        for name, error in (("changed_mse", model_error), ("copy_last_changed_mse", copy_error)):
            total = (error * changed).sum((0, 2, 3, 4))
            errors[name] = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return errors
