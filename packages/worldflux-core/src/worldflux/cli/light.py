"""Commands and groups that start without pydantic."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose ``--help`` has False for "not asked", as every flag has.

    typer leaves it None, and to convert that it imports pydantic, which costs more than all the rest of a listing.
    """

    def get_help_option(self, ctx: Any) -> Any:
        return _false_by_default(super().get_help_option(ctx))


class Group(TyperGroup):
    """The same for a group of commands."""

    def get_help_option(self, ctx: Any) -> Any:
        return _false_by_default(super().get_help_option(ctx))


def _false_by_default(option: Any) -> Any:
    if option is not None:
        option.default = False
    return option
