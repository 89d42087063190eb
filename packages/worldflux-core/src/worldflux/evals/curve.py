"""The learning curve of a run, from its metrics file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldflux.core.errors import ConfigurationError
from worldflux.files import expanded, parse_json, read_bytes

from .extras import require_viz

LARGEST = 1 << 30  # bytes of a metrics file
_LABELS = {
    "episode/return": "episodes while training",
    "eval/return": "evaluation",
    "loss": "data that is learned from",
    "eval/loss": "data that is held out",
}


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the objects of a metrics file, oldest first; a last line that was cut while writing is left out.

    Raises:
        ConfigurationError: the file is missing, or a line before the last is not a JSON object.
    """
    path = expanded(path)
    if not path.is_file():
        raise ConfigurationError(f"no metrics at {path}; a run writes them as metrics.jsonl in its directory")
    try:
        lines = read_bytes(path, limit=LARGEST).splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(parse_json(line))
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise ConfigurationError(f"{path}, line {number}: not JSON ({error})") from error
    return rows


def series(rows: list[dict[str, Any]], name: str, *, x: str = "env_steps") -> tuple[list[float], list[float]]:
    """Return the values of ``x`` and ``name`` in the rows that have both as numbers."""
    pairs = [(row[x], row[name]) for row in rows if _number(row.get(x)) and _number(row.get(name))]
    return [float(a) for a, _ in pairs], [float(b) for _, b in pairs]


def save_learning_curve(
    metrics: str | Path,
    path: str | Path,
    *,
    title: str = "",
    random_mean: float | None = None,
    recorded_mean: float | None = None,
    collected: str = "episode/return",
    evaluated: str = "eval/return",
    x: str = "env_steps",
) -> Path:
    """Draw returns over environment steps as a picture (suffix decides the format) and return its path.

    ``x="step"`` draws over updates; other metrics than returns are losses. ``random_mean`` is the line of the random
    policy, ``recorded_mean`` that of the recorded episodes.

    Raises:
        ConfigurationError: the metrics have neither ``collected`` nor ``evaluated``, or matplotlib is
        missing.
    """
    rows = read_metrics(metrics)
    curves = {label: series(rows, label, x=x) for label in (collected, evaluated)}
    if not any(xs for xs, _ in curves.values()):
        seen = sorted({key for row in rows for key in row})
        raise ConfigurationError(f"{metrics} has no {collected!r} or {evaluated!r} to draw; it has {seen}")
    require_viz("matplotlib", "drawing a learning curve")
    # Not pyplot: it keeps figures in a global and picks a window system.
    figure_module = require_viz("matplotlib.figure", "drawing a learning curve")
    figure = figure_module.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    xs, ys = curves[collected]
    if xs:
        axes.plot(xs, ys, color="#9bb8e8", linewidth=1, label=_LABELS.get(collected, collected))
    xs, ys = curves[evaluated]
    if xs:
        axes.plot(
            xs, ys, color="#1f4e9c", linewidth=2, marker="o", markersize=3, label=_LABELS.get(evaluated, evaluated)
        )
    if random_mean is not None:
        axes.axhline(random_mean, color="#888888", linestyle="--", linewidth=1, label="random policy")
    if recorded_mean is not None:
        axes.axhline(recorded_mean, color="#c08040", linestyle=":", linewidth=1, label="recorded episodes")
    axes.set_xlabel("environment steps" if x == "env_steps" else "updates")
    axes.set_ylabel("return" if evaluated.endswith("return") else "loss")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    path = expanded(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
