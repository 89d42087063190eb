"""From what a model and its baselines made of some sequences to sums for every measure that they can give."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..segments import Segments
from ..statistics import Sums, fit_of, mean_of, ranks_of
from .baselines import Means
from .calibration import brier, calibration_error, reliability, spread_and_error
from .latents import agreement, compared_errors
from .probes import read_out
from .unrolled import Numbers, Unrolled

WIDEST = 64  # numbers of a named state that is probed for
BASES = ("encoded", "untrained_encoded")  # latents of rows that were seen, not imagined


def observation_measures(out: Unrolled) -> dict[str, Any]:
    """What :class:`ObservationScores` has, and ``reconstruction_mse`` of the last row seen."""
    found: dict[str, Any] = {}
    for name, scores in out.observations.items():
        seen = {source: mean_of(error, first=0) for source, error in out.reconstructed[name].items()}
        found[name] = {**scores, "reconstruction_mse": seen}
    return found


def reward_measures(out: Unrolled, segments: Segments, context: int, means: Means) -> dict[str, dict[str, Sums]]:
    """``mae``, ``mse`` and ``r2`` of rewards."""
    said = out.numbers.get("reward")
    if said is None or not segments.has_rewards:
        return {}
    rewards = segments.rewards.astype(np.float64)
    truth, last = rewards[:, context:], rewards[:, context - 1 : context]
    said = {**said, "copy_last": np.broadcast_to(last, truth.shape)}
    if means.reward is not None:
        said["mean"] = np.full(truth.shape, means.reward)
    return {
        "mae": {source: mean_of(np.abs(values - truth)) for source, values in said.items()},
        "mse": {source: mean_of(np.square(values - truth)) for source, values in said.items()},
        "r2": {source: fit_of(values, truth) for source, values in said.items()},
    }


def return_measures(out: Unrolled, segments: Segments, context: int) -> dict[str, dict[str, Sums]]:
    """``rank_correlation`` of the rewards imagined up to a horizon, added up, with those paid."""
    said = out.numbers.get("reward")
    if said is None or not segments.has_rewards:
        return {}
    paid = segments.rewards[:, context:].astype(np.float64).cumsum(1)
    return {"rank_correlation": {source: ranks_of(values.cumsum(1), paid) for source, values in said.items()}}


def continue_measures(
    out: Unrolled, segments: Segments, context: int, means: Means, carried: float
) -> tuple[dict[str, dict[str, Sums]], dict[str, Any]]:
    """``brier`` and ``calibration_error`` of the chance that an episode goes on; and what else is told of it.

    ``carried`` is the discount that the model's chances carry, which what happens does not.
    """
    said = out.numbers.get("continue", {})
    if "model" not in said:
        return {}, {}
    truth = 1.0 - segments.is_terminal[:, context:].astype(np.float64)
    said = {source: np.clip(values / carried, 0, 1) for source, values in said.items()}
    told = {"ends": int((1 - truth).sum()), "reliability": reliability(said["model"], truth)}
    said["mean"] = np.full(truth.shape, means.goes_on)
    return {
        "brier": {source: brier(values, truth) for source, values in said.items()},
        "calibration_error": {source: calibration_error(values, truth) for source, values in said.items()},
    }, told


def value_measures(out: Unrolled, returns: np.ndarray, known: np.ndarray) -> dict[str, dict[str, Sums]]:
    """``rank_correlation`` of values with returns ``[B, H + 1]``, where these are ``known``; of states encoded from the
    last context row on, and of those imagined from there."""
    said, found = out.numbers.get("value", {}), dict[str, Sums]()
    for source, values in said.items():
        first = 0 if source in BASES else 1
        here = slice(first, None)
        found[source] = ranks_of(values, returns[:, here], known[:, here], first=first)
    return {"rank_correlation": found} if found and known.any() else {}


def latent_measures(out: Unrolled, shown: np.ndarray) -> dict[str, dict[str, dict[str, Sums]]]:
    """``cosine`` and ``mse`` of imagined latents against those encoded from the same rows ``shown [B, H]``; and how the
    model's ``mse`` compares with that of the last row (``skill``) and of other actions (``action_sensitivity``)."""
    found: dict[str, dict[str, dict[str, Sums]]] = {}
    for name, latents in out.latents.items():
        encoded = latents["encoded"][:, 1:]
        compared = {source: (values, encoded) for source, values in latents.items() if source not in BASES}
        compared["copy_last"] = _copied(latents["encoded"])
        if "untrained" in compared and "untrained_encoded" in latents:
            compared["untrained"] = (latents["untrained"], latents["untrained_encoded"][:, 1:])
        for source, pair in compared.items():
            for measure, sums in agreement(*pair, shown).items():
                found.setdefault(name, {}).setdefault(measure, {})[source] = sums
        for measure, sums in compared_errors(found.get(name, {}).get("mse", {})).items():
            found[name][measure] = {"model": sums}
    return found


def probe_measures(
    out: Unrolled, segments: Segments, shown: np.ndarray, context: int
) -> dict[str, dict[str, dict[str, Sums]]]:
    """``r2`` of named states read out of latents: of rows that were seen, and of the same rows imagined."""
    targets = _named_states(segments, context)
    episodes = _episodes(segments)
    if not targets or not out.latents or len(np.unique(episodes)) < 2:
        return {}
    wide = np.concatenate(list(targets.values()), -1)
    features = {source: _features(out.latents, source) for source in ("model", *BASES, "untrained")}
    own, base = features["encoded"], features["untrained_encoded"]
    judged = {"encoded": own[:, 1:], "copy_last": _copied(own)[0]} | _those(features, "model")
    read = read_out(own[:, 1:], wide, shown, episodes, judged)
    if base.size:
        judged = {"untrained_encoded": base[:, 1:]} | _those(features, "untrained")
        read |= read_out(base[:, 1:], wide, shown, episodes, judged)
    found, start = {}, 0
    for name, target in targets.items():
        here = slice(start, start := start + target.shape[-1])
        found[name] = {"r2": {source: fit_of(values[..., here], target, shown) for source, values in read.items()}}
    return found


def spread_measures(out: Unrolled, shown: np.ndarray, draws: int) -> dict[str, dict[str, dict[str, Sums]]]:
    """Spread beside error, of what differs between draws at all."""
    found: dict[str, dict[str, dict[str, Sums]]] = {}
    for name, numbers in out.spread.items():
        variance, error = numbers["variance"], numbers["error"]
        if variance.max() > 0:
            known = np.ones(shown.shape, bool) if name == "reward" else shown
            sums = spread_and_error(variance, error, draws, known)
            found[name] = {measure: {"model": value} for measure, value in sums.items()}
    return found


def _named_states(segments: Segments, context: int) -> dict[str, np.ndarray]:
    """The vectors among a dataset's other columns and its observations, ``[B, H, S]``."""
    found: dict[str, np.ndarray] = {}
    for prefix, columns in (("", segments.obs), ("info/", segments.info)):
        for name, values in columns.items():
            real = values.dtype.kind == "f" and values.ndim <= 3 and values[0, 0].size <= WIDEST
            if real and np.isfinite(values).all():
                name = name if name not in found else f"{prefix}{name}"
                found[name] = values[:, context:].reshape(*values[:, context:].shape[:2], -1).astype(np.float64)
    return found


def _those(features: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """The features of a source that has any; a model without dynamics has imagined none."""
    return {source: features[source]} if features[source].size else {}


def _features(latents: Numbers, source: str) -> np.ndarray:
    """All latents of a source in one line ``[B, H, D]``; empty where it has none."""
    parts = [sources[source] for sources in latents.values() if source in sources]
    return np.concatenate(parts, -1) if parts else np.zeros(0)


def _copied(encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of ``[B, H + 1, D]`` for each of the others, and the others."""
    return np.broadcast_to(encoded[:, :1], encoded[:, 1:].shape), encoded[:, 1:]


def _episodes(segments: Segments) -> np.ndarray:
    return np.arange(segments.sequences) if segments.episodes is None else segments.episodes
