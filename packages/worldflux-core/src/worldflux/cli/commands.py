"""Subcommands that plugins bring: listed from their manifests, imported when they are run."""

from __future__ import annotations

from typing import Any

from .light import Command, Group


class Verbs(Group):
    """The verbs of worldflux, then those of plugins; no plugin can replace one of ours."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(name for name in _declared() if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        summary = None if own is not None else _declared().get(cmd_name)
        return own if summary is None else PluginCommand(cmd_name, summary)


class PluginCommand(Command):
    """Calls the plugin's target with the arguments that follow the name; what it returns is the exit code."""

    def __init__(self, name: str, summary: str) -> None:
        every = {"ignore_unknown_options": True, "allow_extra_args": True}
        super().__init__(name, help=summary, context_settings=every, add_help_option=False, rich_markup_mode=None)

    def invoke(self, ctx: Any) -> None:
        from worldflux.plugins import get_kernel

        target = get_kernel().target("commands", str(self.name))
        ctx.exit(int(target(list(ctx.args)) or 0))


def _declared() -> dict[str, str]:
    """Return the commands in the manifests of the plugins that can be used, with their summaries."""
    from worldflux.core.errors import WorldFluxError
    from worldflux.plugins import get_kernel

    try:
        return {name: item.summary for name, (_, item) in get_kernel().catalog.items("commands").items()}
    except WorldFluxError:  # with strict plugins; --help and doctor must work nevertheless
        return {}
