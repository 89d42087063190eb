"""The verbs. Nothing here or in a verb's module imports torch before the verb runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .commands import Verbs

# Without rich markup, help costs 40 ms less and reads the same in a log.
app = typer.Typer(
    name="worldflux",
    cls=Verbs,
    help="Train, evaluate and look into world models.\n\n"
    "\b\nExample:\n  worldflux train dreamer:ci --env CartPole-v1 --run runs/cartpole",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},  # of every verb, too
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        import worldflux

        sys.stdout.write(f"worldflux {worldflux.__version__}\n")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    pass
