"""Dataclasses of options that know which of their values were given, and refuse what they do not know."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ..core.errors import ConfigurationError, did_you_mean

Self = TypeVar("Self", bound="Options")


def option(default: Any, *, low: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """Declare an option with its default, its smallest value, or the names it may take."""
    return field(default=default, metadata={"low": low, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of the option classes. ``given`` holds the names a caller set; a model's defaults fill the others."""

    gone: ClassVar[Mapping[str, str]] = {}
    """Options of earlier versions that no longer exist, and what to do instead."""

    # __new__ sees the caller's keywords before the generated __init__ does: it can refuse an unknown name with the
    # nearest right one, and remember which values were chosen rather than defaulted.
    def __new__(cls: type[Self], **given: Any) -> Self:
        known = cls.names()
        for name in given:
            if name not in known:
                hint = f" {cls.gone[name]}" if name in cls.gone else did_you_mean(name, known)
                raise ConfigurationError(f"unknown option {name!r}.{hint}", config_name=cls.__name__)
        self = super().__new__(cls)
        object.__setattr__(self, "_given", frozenset(given))
        return self

    def __post_init__(self) -> None:
        for item in fields(self):
            value = _checked(type(self).__name__, item.name, str(item.type), getattr(self, item.name), item.metadata)
            object.__setattr__(self, item.name, value)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all options."""
        return tuple(item.name for item in fields(cls))

    @property
    def given(self) -> frozenset[str]:
        """The names of the options that were set rather than defaulted."""
        return self._given  # type: ignore[attr-defined, no-any-return]

    def with_updates(self: Self, **updates: Any) -> Self:
        """Return a copy with some options set. Raises ConfigurationError for unknown names and bad values."""
        return type(self)(**{**{name: getattr(self, name) for name in self.given}, **updates})

    def with_defaults(self: Self, defaults: Mapping[str, Any]) -> Self:
        """Return a copy in which options nobody set take the values of ``defaults``; other keys are not ours."""
        ours = {name: value for name, value in defaults.items() if name in self.names()}
        return self.with_updates(**{name: value for name, value in ours.items() if name not in self.given})

    def to_dict(self) -> dict[str, Any]:
        """Return every option by name, ready for JSON."""
        return {name: getattr(self, name) for name in self.names()}

    @classmethod
    def from_dict(cls: type[Self], values: Mapping[str, Any]) -> Self:
        """Build from a mapping. Raises ConfigurationError for unknown names and bad values."""
        return cls(**values)

    def save(self, path: str | Path) -> None:
        """Write the options to a JSON file."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """Read options from a JSON file. Raises ConfigurationError if it is missing or not a JSON object."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cannot read options from {path}: {error}", config_name=cls.__name__) from error
        if not isinstance(values, dict):
            raise ConfigurationError(f"{path} holds no JSON object of options", config_name=cls.__name__)
        return cls.from_dict(values)


def _checked(owner: str, name: str, kind: str, value: Any, rules: Mapping[str, Any]) -> Any:
    """Return the value in its declared kind, or raise naming the option, what it got and what it takes."""
    if value is None and kind.endswith("| None"):
        return None
    kind = kind.removesuffix(" | None")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "int" and number and float(value).is_integer():
        value = int(value)
    elif kind == "float" and number and math.isfinite(value):
        value = float(value)
    elif kind == "str" and isinstance(value, Path):
        value = str(value)
    elif not (kind == "bool" and isinstance(value, bool)) and not (kind == "str" and isinstance(value, str)):
        expected = {"int": "a whole number", "float": "a finite number", "bool": "True or False"}.get(kind, "a string")
        raise ConfigurationError(f"{name} is {value!r}, expected {expected}", config_name=owner)
    low, choices = rules.get("low"), rules.get("choices")
    if low is not None and value < low:
        raise ConfigurationError(f"{name} is {value!r}, expected at least {low}", config_name=owner)
    if choices and value not in choices:
        hint = did_you_mean(value, choices)
        raise ConfigurationError(f"{name} is {value!r}, expected one of {', '.join(choices)}.{hint}", config_name=owner)
    return value
