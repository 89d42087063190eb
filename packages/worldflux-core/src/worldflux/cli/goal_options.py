"""The options of planning towards goals, as several verbs have them."""

from __future__ import annotations

from typing import Annotated

import typer

EnergyOption = Annotated[str, typer.Option(help="l1 or l2: how far imagined latents are from the goal.")]
OverOption = Annotated[str, typer.Option(help="last or sum: the energy of a plan's last state, or of all of them.")]
KeyOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The tensor of states that is compared; by default 'latent'.")
]
BudgetOption = Annotated[
    int | None, typer.Option(min=1, help="Environment steps in which to reach a goal; by default those of an episode.")
]
ExecuteOption = Annotated[int, typer.Option(min=1, help="Actions of a plan towards a goal that are done.")]
