"""The options of planning towards goals, as several verbs have them."""

from __future__ import annotations

from typing import Annotated

import typer

EnergyOption = Annotated[str, typer.Option(help="l1 or l2: how far imagined latents are from the goal.")]
OverOption = Annotated[
    str,
    typer.Option(
        metavar="last|sum|NUMBER",
        help="The energy of a plan's last state, of all, or of all where each counts NUMBER times as much as the next.",
    ),
]
KeyOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The tensor of states that is compared; by default 'latent'.")
]
BudgetOption = Annotated[
    int | None, typer.Option(min=1, help="Environment steps in which to reach a goal; by default those of an episode.")
]
ExecuteOption = Annotated[int, typer.Option(min=1, help="Actions of a plan towards a goal that are done.")]


def over_of(text: str) -> str | float:
    """Return what ``--over`` says; what is neither a word nor a number is refused by who reads it."""
    try:
        return float(text)
    except ValueError:
        return text
