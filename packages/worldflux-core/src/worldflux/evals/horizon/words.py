"""An evaluation by horizon in words: where the model is no better than a baseline, and what the numbers rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worldflux.words.counts import counted

from ..bootstrap import Curve

FEW = 8  # episodes
BASES = {
    "copy_last": "repeating the last row it saw does",
    "mean_frame": "the mean frame does",
    "mean": "the mean does",
    "untrained": "the same model does before training",
}


def horizon_in_words(card: Mapping[str, Any], measures: Mapping[str, Any], remarks: Sequence[str] = ()) -> list[str]:
    """Return a sentence for each thing that the model does no better than a baseline, or that limits what is said.

    ``measures`` holds curves by section, name, measure and source.
    """
    said = [*_of_the_card(card), *remarks]
    for name, scores in measures.get("observations", {}).items():
        said += _errors(scores.get("moved_mse", scores.get("mse", {})), name)
        said += _actions(scores.get("mse", {}), name)
    for name, scores in measures.get("latents", {}).items():
        said += _errors(scores.get("mse", {}), f"the latent {name!r}", bases=("copy_last",))
    reward = measures.get("reward", {}).get("mse", {})
    said += [*_errors(reward, "the reward"), *_actions(reward, "the reward")]
    said += _errors(measures.get("continue", {}).get("brier", {}), "the end of an episode", bases=("mean",))
    said += _value(measures.get("value", {}).get("rank_correlation", {}).get("encoded"))
    for name, scores in measures.get("probes", {}).items():
        said += _probe(scores["r2"], name)
    for name, scores in measures.get("spread", {}).items():
        said += _spread(scores.get("ratio", {}).get("model"), name)
    return said


def _of_the_card(card: Mapping[str, Any]) -> list[str]:
    said = []
    if card.get("held_out") is False:
        said.append("The model learned from this data: its errors on data it has not seen may be larger.")
    episodes = card["episodes"]
    if episodes < FEW:
        rest = "" if episodes > 1 else ", so nothing can be said of how sure they are and no actions be shuffled"
        said.append(f"The numbers rest on {counted(episodes, 'episode')}{rest}.")
    return said


def _value(own: Curve | None) -> list[str]:
    if own is None or (own.mean.low is not None and own.mean.low > 0):
        return []
    return [f"Its values do not clearly rank states as their returns do (rank correlation {own.mean.value:.2f})."]


def _errors(sources: dict[str, Curve], name: str, *, bases: tuple[str, ...] = tuple(BASES)) -> list[str]:
    own = sources.get("model")
    if own is None or own.mean.value <= 0:
        return []
    said = []
    for base in bases:
        other = sources.get(base)
        if other is not None and own.mean.value >= other.mean.value:
            numbers = f"({own.mean.value:.4g} to {other.mean.value:.4g} over {counted(own.horizon[-1], 'step')})"
            said.append(f"The model predicts {name} no better than {BASES[base]} {numbers}.")
    return said


def _actions(sources: dict[str, Curve], name: str) -> list[str]:
    own, other = sources.get("model"), sources.get("shuffled_actions")
    if own is None or other is None or own.mean.value <= 0 or own.mean.value < other.mean.value:
        return []
    numbers = f"(mse {own.mean.value:.4g} to {other.mean.value:.4g})"
    return [f"It predicts {name} as well with the actions of another episode {numbers}."]


def _probe(sources: dict[str, Curve], name: str) -> list[str]:
    own, last = sources.get("model"), sources.get("copy_last")
    seen, fresh = sources.get("encoded"), sources.get("untrained_encoded")
    if own is None and seen is not None and fresh is not None and seen.mean.value <= fresh.mean.value:
        numbers = f"(R² {seen.mean.value:.2f} to {fresh.mean.value:.2f})"
        return [f"Its latents tell {name} no better than those of the same encoder untrained do {numbers}."]
    if own is None or last is None or own.points[-1].value > last.points[-1].value:
        return []
    numbers = f"(R² {own.points[-1].value:.2f} to {last.points[-1].value:.2f} after {counted(own.horizon[-1], 'step')})"
    return [f"Imagined latents tell {name} no better than the last one encoded does {numbers}."]


def _spread(ratio: Curve | None, name: str) -> list[str]:
    if ratio is None or 0.5 <= ratio.mean.value <= 2:
        return []
    kind = "less" if ratio.mean.value < 1 else "more"
    return [f"Its draws of {name} spread {kind} than they err (spread over error {ratio.mean.value:.2g})."]
