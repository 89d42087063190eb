"""The verbs: ours, each imported when it is run, then those that plugins bring."""

from __future__ import annotations

import importlib
from typing import Any

import typer.main

from worldflux.core.errors import WorldFluxError, did_you_mean

from .light import Command, Group
from .output import apart, as_it_likes

VERBS = {
    "train": "Train a model in an environment.",
    "eval": "Measure what a run's policy earns and its model predicts.",
    "plan": "Measure what planning with a run's model earns.",
    "imagine": "Animate what a run's model imagines.",
    "data": "Record, look into, convert and check datasets.",
    "models": "List the models there are and what is known of each.",
    "plugins": "List the installed plugins, their states and the reasons.",
    "doctor": "Check the installation.",
}


class Verbs(Group):
    """Knows every verb by name and summary, and builds the one that is asked for; no plugin can replace ours."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_summaries())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in VERBS:
            verb = importlib.import_module(f"{__package__}.{cmd_name}")
            return typer.main.get_command(verb.app)
        summary = _summaries().get(cmd_name)
        return None if summary is None else PluginCommand(cmd_name, summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in VERBS and args[0] not in _summaries():
            ctx.fail(f"No such command {args[0]!r}.{did_you_mean(args[0], _summaries())}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_summaries().items()))


class PluginCommand(Command):
    """Calls the plugin's target with the arguments that follow the name; what it returns is the exit code."""

    def __init__(self, name: str, summary: str) -> None:
        every = {"ignore_unknown_options": True, "allow_extra_args": True}
        super().__init__(name, help=summary, context_settings=every, add_help_option=False, rich_markup_mode=None)

    def invoke(self, ctx: Any) -> None:
        from worldflux.plugins import get_kernel

        with apart():  # what a plugin prints when it is imported is not its command's result
            target = get_kernel().target("commands", str(self.name))
        with as_it_likes():
            code = target(list(ctx.args))
        ctx.exit(int(code or 0))


def _summaries() -> dict[str, str]:
    """Return every verb with its summary; those of plugins come from the manifests of the usable ones."""
    from worldflux.plugins import get_kernel

    try:
        declared = get_kernel().catalog.items("commands")
    except WorldFluxError:  # with strict plugins; --help and doctor must work nevertheless
        declared = {}
    return VERBS | {name: item.summary for name, (_, item) in declared.items() if name not in VERBS}
