"""Options of a run, which know what was asked for and what was only left at its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import ConfigurationError
from ..core.fields import Fields, option_names, refuse_unknown
from ..files import expanded, read_json, write_json
from ..recipe import Recipe

Self = TypeVar("Self", bound="Options")


class Given(frozenset[str]):
    """The names that were set, as options keep them; a caller gives any other collection."""


@dataclass(frozen=True, kw_only=True)
class Options(Fields):
    """Base of the option classes. ``given`` holds the names a caller set; a model's recipe fills the others.

    It survives ``save`` and ``load``, ``to_dict`` and ``from_dict``, and ``dataclasses.replace``.
    """

    given: frozenset[str] = field(default=frozenset(), repr=False, compare=False, metadata={"internal": True})

    def __new__(cls: type[Self], **given: Any) -> Self:
        self: Self = super().__new__(cls)
        known = given.get("given", ())
        names = list(given)
        if isinstance(known, Given):  # dataclasses.replace: what it is given, then all there is, of which this is first
            names = [*known, *names[: names.index("given")]]
        elif "given" in given:
            names = list(known) if isinstance(known, (list, tuple, set, frozenset)) else [known]
            refuse_unknown(cls, names)
        if names:
            object.__setattr__(self, "_set", names)
        return self

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "given", Given(vars(self).pop("_set", ())))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all options."""
        return option_names(cls)

    @classmethod
    def _plain(cls, hint: Any, value: Any) -> Any:
        value = super()._plain(hint, value)
        if isinstance(value, float) and value.is_integer() and "int" in str(hint) and "float" not in str(hint):
            return int(value)  # 1e6 is how a million is written
        return value

    def with_updates(self: Self, **updates: Any) -> Self:
        """Return a copy with some options set. Raises ConfigurationError for unknown names and bad values."""
        return replace(self, **updates)

    def with_defaults(self: Self, recipe: Recipe) -> Self:
        """Return a copy in which what nobody set is as the recipe says, where it says anything; ``given`` stays."""
        mine = {name: getattr(self, name) for name in self.names() if name in self.given}
        filled = {name: value for name, value in recipe.chosen().items() if name in self.names()}
        return type(self)(**{**filled, **mine}, given=frozenset(self.given))

    def to_dict(self) -> dict[str, Any]:
        """Return every option by name, and which of them were set, ready for JSON."""
        return {**{name: getattr(self, name) for name in self.names()}, "given": sorted(self.given)}

    @classmethod
    def from_dict(cls: type[Self], values: Mapping[str, Any]) -> Self:
        """Build from a mapping. Raises ConfigurationError for unknown names and bad values."""
        return cls(**values)

    def save(self, path: str | Path) -> None:
        """Write the options to a JSON file. Raises CheckpointError if it cannot be written."""
        write_json(expanded(path), self.to_dict())

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """Read options from a JSON file. Raises ConfigurationError if it is missing or not a JSON object."""
        return cls.from_dict(read_json(expanded(path), error=ConfigurationError, follow=True))
