"""An evaluation by horizon as ``eval`` prints it and keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldflux.core.errors import ConfigurationError
from worldflux.words.counts import counted

from .output import table

if TYPE_CHECKING:
    from worldflux.evals import HorizonEvaluation

SHOWN = (1, 5, 15, 50)  # steps that have a column
OF_COLLAPSE = ("std", "rankme", "within_ratio")  # what it has of that section
MOST = "untrained_encoded"  # a source that the table leaves to the JSON, but where nothing was imagined


def kept(result: HorizonEvaluation, folder: Path | None) -> dict[str, Any]:
    """Write numbers and pictures into a folder, where there is one; return the evaluation and where it lies."""
    from worldflux.experiment import save_judgement

    data: dict[str, Any] = {"horizon": result.to_dict()}
    if folder is None:
        return data
    try:
        data["numbers"], data["pictures"] = save_judgement(result, folder)
    except ConfigurationError as error:  # matplotlib is an extra, and numbers need none
        data["no_pictures"] = str(error)
    return data


def horizon_told(document: Mapping[str, Any]) -> str:
    """Return the text of what :func:`kept` returned."""
    told = document["horizon"]
    card = told["card"]
    lines = [
        f"{counted(card['sequences'], 'sequence')} of {counted(card['episodes'], 'episode')}, "
        f"{counted(card['horizon'], 'step')} imagined after "
        f"{card['context']} seen, seed {card['seed']}: {card.get('split', 'recorded data')}",
        horizon_table(told, card["horizon"]),
        "",
        f"shown: {told['evidence'].get('highest', 'nothing')}",
        *told["in_words"],
    ]
    for name in ("numbers", "no_pictures"):
        lines += [f"{name.replace('_', ' ')}  {document[name]}"] if name in document else []
    if document.get("pictures"):
        lines.append(f"pictures  {document['pictures'][0].parent}")
    return "\n".join(lines)


def horizon_table(sections: Mapping[str, Any], horizon: int) -> str:
    """Return a table of every curve: a line for each measure and source, a column for some of the steps."""
    steps = [h for h in SHOWN if h < horizon] + [horizon]
    curves = _curves(sections)
    imagined = {path[:-1] for path, _ in curves if path[-1] == "model"}
    rows = [
        (" ".join(path[:-2]), path[-2], path[-1].replace("_", " "), *_cells(curve, steps), interval(curve["mean"]))
        for path, curve in curves
        if (path[-1] != MOST or path[:-1] not in imagined) and (path[0] != "collapse" or path[-2] in OF_COLLAPSE)
    ]
    return table(("PREDICTED", "MEASURE", "BY", *(f"STEP {h}" for h in steps), "MEAN (95 %)"), rows)


def _curves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Mapping[str, Any]]]:
    found: list[tuple[tuple[str, ...], Mapping[str, Any]]] = []
    for name, below in tree.items():
        if isinstance(below, dict):
            curve = "horizon" in below and "mean" in below
            found += [((*path, name), below)] if curve else _curves(below, (*path, name))
    return found


def _cells(curve: Mapping[str, Any], steps: list[int]) -> list[str]:
    points = dict(zip(curve["horizon"], curve["value"]))
    return [f"{points[h]:.4g}" if h in points else "" for h in steps]


def interval(number: Mapping[str, float]) -> str:
    """Return a number with its interval in text."""
    ends = f" ({number['low']:.4g} to {number['high']:.4g})" if "low" in number else ""
    return f"{number['value']:.4g}{ends}"
