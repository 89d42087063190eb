"""``worldflux models``: what there is to train, from the manifests alone."""

from __future__ import annotations

from typing import Annotated

import typer

from .light import Command, Group
from .output import JsonOption, emit, fields, table

app = typer.Typer(
    cls=Group,
    help="List the models there are and what is known of each.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command("list", cls=Command)
def list_(
    advanced: Annotated[bool, typer.Option("--advanced", help="Also the presets for those who know.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every preset, also experimental ones.")] = False,
    json: JsonOption = False,
) -> None:
    """List model presets; by default the supported ones.

    \b
    Example:
      worldflux models list --all --json
    """
    from worldflux import list_models

    surface = "all" if every else "public" if advanced else "supported"
    found = list_models(verbose=True, surface=surface)
    rows = [
        (name, info.get("params", ""), info.get("maturity", ""), info.get("description", ""))
        for name, info in found.items()
    ]
    text = table(("MODEL", "PARAMS", "MATURITY", "DESCRIPTION"), rows)
    if not rows:
        text = (
            "No model is installed that fits. Install a family, such as: pip install worldflux-dreamer; "
            "'worldflux plugins list' tells why an installed one is left out."
        )
    emit(found, text, as_json=json)


@app.command(cls=Command)
def info(
    model: Annotated[str, typer.Argument(help="A preset or an alias, such as dreamer:ci.")],
    json: JsonOption = False,
) -> None:
    """Show what is known of a model.

    \b
    Example:
      worldflux models info dreamerv3:size12m
    """
    from worldflux import get_model_info

    found = get_model_info(model)
    emit(found, fields(found), as_json=json)
