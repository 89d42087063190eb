"""``worldflux plugins``: which packages bring models and components, and how each stands."""

from __future__ import annotations

from typing import Annotated

import typer

from .light import Command, Group
from .output import JsonOption, emit, fields, table
from .plugin_check import check, doctor
from .plugin_new import new

app = typer.Typer(
    cls=Group,
    help="List the installed plugins, their states and the reasons.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("check", cls=Command)(check)
app.command("doctor", cls=Command)(doctor)
app.command("new", cls=Command)(new)


@app.command("list", cls=Command)
def list_(json: JsonOption = False) -> None:
    """List plugins: indexed (found, not started), rejected or blocked, with the reason.

    \b
    Example:
      worldflux plugins list --json
    """
    from worldflux.plugins import get_kernel

    found = get_kernel().plugins
    rows = [(p.name, p.version, p.state, "; ".join([p.reason, *p.notes]).strip("; ")) for p in found]
    text = table(("PLUGIN", "VERSION", "STATE", "REASON"), rows)
    if not found:
        text = "No plugin is installed. For DreamerV3: pip install worldflux-dreamer"
    emit([p.to_dict() for p in found], text, as_json=json)


@app.command(cls=Command)
def show(
    name: Annotated[str, typer.Argument(help="The plugin's distribution, such as worldflux-dreamer.")],
    json: JsonOption = False,
) -> None:
    """Show what a plugin provides and how it stands.

    \b
    Example:
      worldflux plugins show worldflux-dreamer
    """
    from worldflux.core.errors import ConfigurationError, did_you_mean
    from worldflux.plugins import get_kernel

    found = get_kernel().plugins
    names = {p.name.lower().replace("_", "-"): p for p in found}
    plugin = names.get(name.lower().replace("_", "-"))
    if plugin is None:
        near = did_you_mean(name, names)
        raise ConfigurationError(f"no plugin {name!r} is installed; there are {sorted(names)}.{near}")
    data = plugin.to_dict()
    emit(data, fields({**{k: v for k, v in data.items() if k != "provides"}, **data["provides"]}), as_json=json)
