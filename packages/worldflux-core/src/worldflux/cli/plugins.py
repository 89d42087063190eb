"""``worldflux plugins``: which packages bring models and components, and how each stands."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from .light import Command, Group
from .output import JsonOption, emit, fields, table
from .plugin_check import check, doctor
from .plugin_new import new

if TYPE_CHECKING:
    from worldflux.plugins.discovery import Plugin

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
    name: Annotated[str, typer.Argument(help="A plugin's distribution, or an id it brings, such as dreamer:ci.")],
    json: JsonOption = False,
) -> None:
    """Show what a plugin provides and how it stands.

    \b
    Example:
      worldflux plugins show worldflux-dreamer
    """
    plugin = _named(name)
    data = plugin.to_dict()
    emit(data, fields({**{k: v for k, v in data.items() if k != "provides"}, **data["provides"]}), as_json=json)


def _named(name: str) -> Plugin:
    """The plugin of a name: its own, or that of a family, preset, alias, component, backend, importer or command."""
    from worldflux.core.errors import ConfigurationError, ModelNotFoundError, PluginError, did_you_mean
    from worldflux.plugins import get_kernel

    kernel = get_kernel()
    names = {p.name.lower().replace("_", "-"): p for p in kernel.plugins}
    if (plugin := names.get(name.lower().replace("_", "-"))) is not None:
        return plugin
    for plugin in kernel.plugins:  # those that cannot be used, too
        if any(id == name.lower() for _, id in plugin.ids):
            return plugin
    with contextlib.suppress(ModelNotFoundError, PluginError):
        if (plugin := kernel.resolve(name).plugin) is not None:
            return plugin
    ids = {id for plugin in kernel.plugins for _, id in plugin.ids}
    raise ConfigurationError(
        f"no plugin is called {name!r} or brings something of that name; there are {sorted(names)}."
        + did_you_mean(name, [*names, *ids, *(found.model_id for found in kernel.catalog.presets)])
    )
