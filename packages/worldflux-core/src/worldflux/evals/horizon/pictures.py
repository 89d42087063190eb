"""The pictures of an evaluation by horizon: one for every measure, with its baselines and intervals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldflux.files import expanded

from ..bootstrap import Curve
from ..extras import require_viz

if TYPE_CHECKING:
    from .evaluation import HorizonEvaluation

COLOURS = {
    "model": "#1f4e9c",
    "encoded": "#2a9d5c",
    "copy_last": "#d1495b",
    "mean_frame": "#888888",
    "mean": "#888888",
    "shuffled_actions": "#e0a030",
    "untrained": "#9b72b0",
    "untrained_encoded": "#c9b3d6",
}
LABELS = {"encoded": "seen, not imagined", "untrained_encoded": "untrained, seen"}
UNITS = {
    "mse": "mean squared error",
    "moved_mse": "mean squared error where something moved",
    "mae": "mean absolute error",
    "psnr": "PSNR (dB)",
    "moved_psnr": "PSNR where something moved (dB)",
    "ssim": "SSIM",
    "moved_ssim": "SSIM where something moved",
    "r2": "R²",
    "brier": "Brier score",
    "cosine": "cosine",
    "rank_correlation": "rank correlation",
    "ratio": "spread over error",
    "spread": "spread",
    "error": "error of the mean of draws",
}


def save_pictures(result: HorizonEvaluation, folder: str | Path) -> list[Path]:
    """Draw every measure that has a horizon into ``folder`` as PNG files, and return them.

    Raises ConfigurationError if matplotlib is missing.
    """
    module = require_viz("matplotlib.figure", "drawing measures by horizon")
    folder = expanded(folder)
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for path, sources in _measures(result.measures):
        curves = {source: curve for source, curve in sources.items() if len(curve.horizon) > 1}
        if curves:
            saved.append(_drawn(module, curves, path, folder))
    stated = result.told.get("continue", {}).get("reliability")
    return [*saved, _reliability(module, stated, folder)] if stated else saved


def _measures(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], dict[str, Curve]]]:
    """Each measure with its path and its curves by source."""
    if tree and all(isinstance(below, Curve) for below in tree.values()):
        return [(path, dict(tree))]
    return [found for name, below in tree.items() for found in _measures(below, (*path, name))]


def _drawn(module: Any, curves: Mapping[str, Curve], path: tuple[str, ...], folder: Path) -> Path:
    # Not pyplot: it keeps figures in a global and picks a window system.
    figure = module.Figure(figsize=(6, 4))
    axes = figure.add_axes((0.13, 0.13, 0.84, 0.78))  # a layout that is worked out takes as long as the drawing
    for source, curve in curves.items():
        values = [point.value for point in curve.points]
        own = source in ("model", "encoded")
        label = LABELS.get(source, source.replace("_", " "))
        colour = COLOURS.get(source, "#000000")
        axes.plot(curve.horizon, values, label=label, color=colour, linewidth=2 if own else 1.2)
        lows = [point.value if point.low is None else point.low for point in curve.points]
        highs = [point.value if point.high is None else point.high for point in curve.points]
        axes.fill_between(curve.horizon, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("steps imagined")
    axes.set_ylabel(UNITS.get(path[-1], path[-1]))
    if path[-1] in ("mse", "moved_mse", "mae", "error") and _spans(curves):
        axes.set_yscale("log")
    if path[-1] == "r2":
        axes.set_ylim(max(-1.0, axes.get_ylim()[0]), 1.05)
    axes.set_title(" ".join(path[:-1]))
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=8)
    return _saved(figure, folder, path)


def _spans(curves: Mapping[str, Curve]) -> bool:
    """Whether a baseline is so far off that the others would be one line."""
    means = [curve.mean.value for curve in curves.values()]
    return min(point.value for curve in curves.values() for point in curve.points) > 0 and max(means) > 30 * min(means)


def _reliability(module: Any, stated: Mapping[str, list[Any]], folder: Path) -> Path:
    figure = module.Figure(figsize=(4, 4))
    axes = figure.add_axes((0.16, 0.13, 0.8, 0.83))
    axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1)
    axes.plot(stated["stated"], stated["happened"], color=COLOURS["model"], marker="o", markersize=4)
    axes.set_xlabel("chance stated that the episode goes on")
    axes.set_ylabel("share that went on")
    axes.grid(alpha=0.3)
    return _saved(figure, folder, ("continue", "reliability"))


def _saved(figure: Any, folder: Path, path: tuple[str, ...]) -> Path:
    file = folder / (re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(path)) + ".png")
    figure.savefig(file, dpi=110)
    return file
