"""Whether what a model calls its representation tells rows apart, seen and imagined."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldflux.blocks import Collapse, collapse_measures, representation_of

from ..bootstrap import Curve, Number
from .unrolled import Unrolled

SOURCES = ("encoded", "model", "untrained_encoded")


def collapse_curves(out: Unrolled, model: Any, shown: np.ndarray) -> tuple[dict[str, Any], list[str]]:
    """Curves by tensor of the state, measure and source, and in words where what is seen has collapsed.

    A model says by ``representation`` which tensors it learns one in. Of sequences with a row whose observation is not
    its own (``shown [B, H + 1]``) nothing is taken. The curves have no intervals: ranks are of all sequences together.
    """
    whole, found, said = shown.all(1), dict[str, Any](), list[str]()
    if whole.sum() < 2:
        return found, said
    for name in representation_of(model):
        latents = {source: out.latents.get(name, {}).get(source) for source in SOURCES}
        usable = {s: rows[whole] for s, rows in latents.items() if rows is not None and np.isfinite(rows).all()}
        measured = {source: collapse_measures(rows) for source, rows in usable.items()}
        if "encoded" in measured:
            found[name] = _by_measure(measured)
            said += [f"The representation {name!r} has collapsed: {alarm}." for alarm in measured["encoded"].alarms()]
    return found, said


def _by_measure(measured: dict[str, Collapse]) -> dict[str, dict[str, Curve]]:
    found: dict[str, dict[str, Curve]] = {}
    for source, collapse in measured.items():
        first = 1 if source == "model" else 0
        for name, values in collapse.by_step.items():
            found.setdefault(name, {})[source] = _curve(values, first)
        together = {f"pooled_{name}": value for name, value in collapse.pooled.items()}
        if collapse.within_ratio is not None:
            together["within_ratio"] = collapse.within_ratio
        for name, value in together.items():
            found.setdefault(name, {})[source] = _curve(np.array([value]), 0)
    return {name: sources for name, sources in found.items() if "encoded" in sources}


def _curve(values: np.ndarray, first: int) -> Curve:
    points = tuple(Number(float(value)) for value in values)
    return Curve(tuple(range(first, first + len(points))), points, Number(float(values.mean())))
