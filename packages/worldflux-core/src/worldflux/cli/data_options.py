"""The options that name recorded data, as several verbs have them."""

from __future__ import annotations

from typing import Annotated

import typer

from worldflux.core.errors import ConfigurationError

DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="DIR", help="Recorded data: a path or FORMAT:PATH; may be repeated."),
]
DataWeightsOption = Annotated[
    str | None,
    typer.Option(metavar="W,W", help="How often each set is drawn from, as in 0.7,0.3; default: by its rows."),
]
DataSetOption = Annotated[
    list[str] | None,
    typer.Option("--data-set", metavar="KEY=VALUE", help="An option of the data's format; may be repeated."),
]
HeldOutOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of the episodes that is only evaluated on; default 0.1.")
]
ObsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--obs", metavar="NAME", help="An observation of the data to learn from; default: all; may be repeated."
    ),
]
FrameSkipOption = Annotated[
    int | None,
    typer.Option(min=1, help="Keep every k-th row of the data; an action is then the k up to the next; default 1."),
]
TrainedSkipOption = Annotated[
    int | None,
    typer.Option(
        "--frame-skip", min=1, help="Of the recorded rows, as the model was trained; default: the run's own, else 1."
    ),
]
BoundaryOption = Annotated[
    str | None,
    typer.Option(help="cross: a sequence may run into the next episode, as by default; within: it may not."),
]


def numbers(text: str, *, option: str) -> list[float]:
    """Return numbers with commas between them. Raises ConfigurationError if one is none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigurationError(f"{option} is {text!r}, expected numbers with commas between them: 0.7,0.3") from None
