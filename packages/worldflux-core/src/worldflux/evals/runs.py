"""Several runs of one kind put together: interquartile means of what each measured, with intervals over runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError

from .bootstrap import iqm_interval

SHARED = ("context", "horizon")  # what the cards of runs must agree in
SECTIONS = ("observations", "reward", "continue", "returns", "value", "latents", "probes", "spread", "collapse")


def across_runs(evaluations: Sequence[Mapping[str, Any]], *, seed: int = 0) -> dict[str, Any]:
    """Return the sections of evaluations (``HorizonEvaluation.to_dict()``) with IQMs over the runs in place of values.

    Runs are drawn again within each data set, by its place. A point that a run lacks is left out.

    Raises ConfigurationError for no run, or runs that were measured with another context or horizon.
    """
    if not evaluations:
        raise ConfigurationError("no evaluations to put together: give at least one")
    cards = [one["card"] for one in evaluations]
    for name in SHARED:
        found = sorted({card[name] for card in cards})
        if len(found) > 1:
            raise ConfigurationError(f"the runs were measured with {name} {found}: their numbers do not compare")
    strata = [str(card["data"].get("place", card["data"]["fingerprint"])) for card in cards]
    together = _together([{name: one.get(name, {}) for name in SECTIONS} for one in evaluations], strata, seed)
    return {"runs": len(cards), "data_sets": len(set(strata)), **together}


def earned_across_runs(documents: Sequence[Mapping[str, Any]], *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Return the IQM over runs of the mean return of each policy that all of them measured, by its name.

    ``documents`` are what ``worldflux eval --json`` prints of a run; runs are drawn again within each environment.
    """
    strata = [str(document.get("env")) for document in documents]
    found: dict[str, dict[str, float]] = {}
    for name in ("planned", "trained", "random"):
        values = [document[name]["mean"] for document in documents if name in document]
        if len(values) == len(documents) and all(isinstance(value, float) for value in values):
            found[name] = _iqm(values, strata, seed)
    return found


def _together(trees: Sequence[Mapping[str, Any]], strata: Sequence[str], seed: int) -> dict[str, Any]:
    """What all trees have, value by value."""
    found: dict[str, Any] = {}
    for name in trees[0]:
        below = [tree.get(name) for tree in trees]
        if not all(isinstance(one, Mapping) for one in below):
            continue
        if all("horizon" in one and "mean" in one for one in below if one is not None):
            found[name] = _curve([one for one in below if one is not None], strata, seed)
        elif kept := _together([one for one in below if one is not None], strata, seed):
            found[name] = kept
    return found


def _curve(curves: Sequence[Mapping[str, Any]], strata: Sequence[str], seed: int) -> dict[str, Any]:
    here = sorted(set.intersection(*(set(curve["horizon"]) for curve in curves)))
    points = [dict(zip(curve["horizon"], curve["value"])) for curve in curves]
    numbers = [_iqm([point[h] for point in points], strata, seed) for h in here]
    found: dict[str, Any] = {"horizon": here, "value": [number["value"] for number in numbers]}
    if all("low" in number for number in numbers):
        found |= {end: [number[end] for number in numbers] for end in ("low", "high")}
    return {**found, "mean": _iqm([curve["mean"]["value"] for curve in curves], strata, seed)}


def _iqm(values: Sequence[float], strata: Sequence[str], seed: int) -> dict[str, float]:
    parts = [np.array([v for v, own in zip(values, strata) if own == stratum]) for stratum in sorted(set(strata))]
    return iqm_interval(parts, seed=seed, resamples=1000).to_dict()
