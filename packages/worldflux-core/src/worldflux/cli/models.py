"""``worldflux models``: what there is to train, from the manifests, and what a family says of a preset itself."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import typer

from .light import Command, Group
from .output import MANY, PROBLEM, JsonOption, emit, fields, table

BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}

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
    no_page: Annotated[bool, typer.Option("--no-page", help="Every line, not the first 50.")] = False,
    json: JsonOption = False,
) -> None:
    """List model presets; by default the supported ones, and a page of them. JSON has every one.

    \b
    Example:
      worldflux models list --all --json
    """
    from worldflux import list_models

    surface = "all" if every else "public" if advanced else "supported"
    found = list_models(verbose=True, surface=surface)
    rows = [
        (name, info.get("params", ""), info.get("maturity", ""), info.get("description", ""))
        for name, info in islice(found.items(), None if no_page else MANY)
    ]
    text = table(("MODEL", "PARAMS", "MATURITY", "DESCRIPTION"), rows)
    if len(rows) < len(found):
        text += f"\n{len(rows)} of {len(found):,}: --no-page lists every one"
    if not rows:
        text = (
            "No model is installed that fits. Install a family, such as: pip install worldflux-dreamer; "
            "'worldflux plugins list' tells why an installed one is left out."
        )
    emit(found, text, as_json=json)


@app.command(cls=Command)
def info(
    model: Annotated[str, typer.Argument(help="A preset or an alias, such as dreamer:ci.")],
    options: Annotated[
        bool,
        typer.Option(
            "--options/--no-options",
            help="Also what it takes, how it is trained and what can be set, which its family is started for.",
        ),
    ] = True,
    json: JsonOption = False,
) -> None:
    """Show what is known of a model: what it observes and does, its training recipe, and every option with its rule.

    The training recipe is what training takes where nothing else is given. With --no-options only the manifest is
    read. Exits with 1 if the family does not start.

    \b
    Example:
      worldflux models info dreamerv3:size12m
    """
    from worldflux import get_model_info
    from worldflux.core.errors import PluginError

    found = get_model_info(model)
    text, problem = fields(found), None
    if options:
        try:
            told, more = _told(model)
            found, text = {**found, **told}, f"{text}\n\n{more}"
        except PluginError as error:
            problem = str(error)
            found, text = {**found, "problem": problem}, f"{text}\n\nproblem  {problem}"
    emit(found, text, as_json=json)
    if problem is not None:
        raise typer.Exit(PROBLEM)


def _told(model: str) -> tuple[dict[str, Any], str]:
    """What the family's code says of a preset, as data and as text."""
    from .about import DONE, about

    told = about(model)
    takes_rows = [(seen, *("yes" if kind in kinds else "no" for kind in DONE)) for seen, kinds in told["takes"].items()]
    options = [(name, takes(o), o.get("default", ""), o["value"]) for name, o in told["options"].items()]
    parts = [
        table(("OBSERVES", *(f"{kind.upper()} ACTIONS" for kind in DONE)), takes_rows),
        table(("TRAINED WITH", "UNLESS SET"), list(told["recipe"].items())),
        table(("OPTION", "TAKES", "DEFAULT", "HERE"), options),
    ]
    return told, "\n\n".join(parts)


def takes(rule: Mapping[str, Any]) -> str:
    """What an option takes, in words, from its JSON schema: ``integer >= 1``, ``'a' or 'b'``, ``list of number``."""
    if choices := rule.get("enum") or ([rule["const"]] if "const" in rule else []):
        return " or ".join(map(repr, choices))
    if kinds := rule.get("anyOf"):
        return " or ".join(map(takes, kinds))
    kind = {"null": "None", "object": "mapping", "array": "list"}.get(
        rule.get("type", ""), rule.get("type", "anything")
    )
    if of := rule.get("items"):
        kind += f" of {takes(of)}"
    return f"{kind} {', '.join(f'{sign} {rule[key]:g}' for key, sign in BOUNDS.items() if key in rule)}".rstrip()
