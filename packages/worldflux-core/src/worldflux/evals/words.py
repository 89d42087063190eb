"""Numbers against their baselines, in words: a return or an error says nothing alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from worldflux.words.counts import counted

if TYPE_CHECKING:
    from .imagination import Imagination
    from .policy import EvalResult

CHANCE = 2.0  # standard errors within which two mean returns are not told apart


def returns_in_words(results: Mapping[str, EvalResult]) -> list[str]:
    """Return a sentence for each policy that earns no more, or not clearly more, than the one called ``random``."""
    random, said = results["random"], []
    for name, result in results.items():
        if name == "random" or not (result.episodes and random.episodes):
            continue
        numbers, fewest = f"({result.mean:.4g} to {random.mean:.4g})", min(result.episodes, random.episodes)
        if result.mean < random.mean:
            said.append(f"The {name} policy earns less than acting at random {numbers}.")
        elif fewest < 2:
            said.append(f"Whether the {name} policy earns more than acting at random {numbers} one episode cannot say.")
        elif not earns_more(result, random):
            said.append(
                f"The {name} policy earns no clearly more than acting at random {numbers}: the difference is within "
                f"{CHANCE:g} standard errors of {counted(fewest, 'episode')}."
            )
    return said


def earns_more(one: EvalResult, other: EvalResult) -> bool:
    """Whether one mean return is above another by more than chance makes; a single episode of either cannot say."""
    if min(one.episodes, other.episodes) < 2:
        return False
    errors = (np.std(result.returns, ddof=1) / math.sqrt(result.episodes) for result in (one, other))
    return one.mean - other.mean > CHANCE * math.hypot(*errors)


def imagination_in_words(result: Imagination) -> list[str]:
    """Return a sentence for each thing that the model predicts no better than a baseline does."""
    said, summary = [], result.summary()

    def mean(name: str, measure: str) -> float:
        value = summary[name].get(f"{measure}_mean")
        return math.nan if value is None else value  # NaN loses to nothing

    for name in result.errors:
        measure, last = ("mae", "copy_last_mae") if name == "reward" else ("mse", "copy_last_mse")
        if not math.isnan(mean(name, "changed_mse")):  # a still background makes every model look good
            measure, last = "changed_mse", "copy_last_changed_mse"
        own, copied = mean(name, measure), mean(name, last)
        if own > 0 and own >= copied:
            said.append(
                f"The model predicts {name} no better than repeating the last row it saw does ({measure} {own:.4g} to "
                f"{copied:.4g} over {counted(result.horizon, 'step')})."
            )
        own, shuffled = mean(name, "mse"), mean(name, "shuffled_actions_mse")
        if own > 0 and own >= shuffled:
            said.append(
                f"It predicts {name} as well with the actions of another sequence (mse {own:.4g} to {shuffled:.4g}): "
                "it makes nothing of its actions."
            )
    return said
