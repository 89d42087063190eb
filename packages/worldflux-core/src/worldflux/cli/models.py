"""``worldflux models``: what there is to train, from the manifests alone; only ``--options`` imports a family."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import typer

from .light import Command, Group
from .output import MANY, JsonOption, apart, emit, fields, table

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
    options: Annotated[bool, typer.Option("--options", help="Also what can be set; this imports the family.")] = False,
    json: JsonOption = False,
) -> None:
    """Show what is known of a model.

    \b
    Example:
      worldflux models info dreamerv3:size12m --options
    """
    from worldflux import get_model_info

    found = get_model_info(model)
    text = fields(found)
    if options:
        known = _options(model)
        rows = [(name, takes(o), o.get("default", ""), o["value"]) for name, o in known.items()]
        text += "\n\n" + table(("OPTION", "TAKES", "DEFAULT", "HERE"), rows)
        found = {**found, "options": known}
    emit(found, text, as_json=json)


def _options(model: str) -> dict[str, dict[str, Any]]:
    """The options of a model's config by name: rule and default as JSON schema, and the value that the preset has."""
    from worldflux import get_config, json_schema

    with apart():
        config = get_config(model)
        values = config.to_dict()
        return {name: {**rule, "value": values[name]} for name, rule in json_schema(type(config))["properties"].items()}


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
