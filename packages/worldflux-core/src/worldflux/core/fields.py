"""Options with their rules beside them: plain dataclasses, checked strictly, refused in our own words.

``units: Annotated[int, Field(ge=1)] = 256`` and ``prior: Literal["gaussian", "categorical"]`` are pydantic's words, and
pydantic's validator judges the values. What relates two fields stays a few lines in the class's ``__post_init__``.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import reprlib
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from .errors import ConfigurationError, did_you_mean

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
FieldsT = TypeVar("FieldsT", bound="Fields")

__all__ = ["Amount", "Count", "Field", "Fields", "NonNegative", "Positive", "Share", "json_schema"]

_BOUNDS = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}
_VOCABULARY = {"Annotated": Annotated, "Any": Any, "Field": Field, "Literal": Literal}
_WORDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a string"}
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 80


class Fields:
    """Base of every dataclass of options: an unknown name and a value against its rule are ConfigurationErrors.

    Values come out as declared: whole numbers as floats where those are wanted, lists as tuples, numpy's scalars as
    numbers, paths as strings. A field whose annotation cannot be resolved is not checked. ``earlier_names`` leads from
    names that fields had in earlier versions to those of today, ``gone`` to what to do instead.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {}
    gone: ClassVar[Mapping[str, str]] = {}
    _unknown: ClassVar[str] = "unknown option"
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]  # every subclass is a dataclass
    _locals: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        here = sys._getframe(1).f_locals  # what a class made in a function calls its types is known there only
        words = set(re.findall(r"\w+", " ".join(map(str, inspect.get_annotations(cls).values()))))
        cls._locals = {**cls._locals, **{name: here[name] for name in words & here.keys()}}
        for old, new in cls.earlier_names.items():
            if not hasattr(cls, old):
                setattr(cls, old, _earlier(new))

    # sees the caller's keywords before the generated __init__, which would refuse them in other words
    def __new__(cls, *args: Any, **given: Any) -> Any:
        cls.refuse_unknown(given)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        hints, cls = _hints(type(self)), type(self)
        values = {name: self._plain(hint, getattr(self, name)) for name, hint in hints.items()}
        try:
            checked = _validator(cls)(values)
        except ValidationError as error:
            name = str(error.errors(include_url=False)[0]["loc"][0])
            raise self.error(_refusal(name, values[name], hints[name])) from None
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all options."""
        return tuple(item.name for item in fields(cls) if item.init)

    @classmethod
    def refuse_unknown(cls, given: Mapping[str, Any]) -> None:
        """Raise ConfigurationError for a name that is no option, with the nearest that is one."""
        known = cls.names()
        for name in given:
            if name not in known:
                hint = f" {cls.gone[name]}" if name in cls.gone else did_you_mean(name, known)
                raise cls.error(f"{cls._unknown} {name!r}.{hint}")

    @classmethod
    def error(cls, message: str) -> ConfigurationError:
        """The error for a relation between options that does not hold."""
        return ConfigurationError(message, config_name=cls.__name__)

    @classmethod
    def _plain(cls, hint: Any, value: Any) -> Any:
        """A value in the form its kind has here; whatever is wrong with it is left to the validator."""
        if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
            value = value.item()
        kinds = [_bare(kind) for kind in _alternatives(hint)]
        if isinstance(value, os.PathLike) and str in kinds:
            return os.fspath(value)
        for kind in kinds:
            if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
                return tuple(cls._plain((get_args(kind) or (Any,))[0], item) for item in value)
            if get_origin(kind) is dict and isinstance(value, Mapping):
                return dict(value)
        return value


def json_schema(cls: type[Fields]) -> dict[str, Any]:
    """The options of a class as a JSON schema: the rule and the default of each."""
    found: dict[str, Any] = {}
    for name, hint in _hints(cls).items():
        try:
            found[name] = TypeAdapter(hint).json_schema()
        except Exception:  # a type of Python's own, which JSON has no word for
            found[name] = {}
        if (default := cls.__dataclass_fields__[name].default) is not MISSING:
            found[name]["default"] = default
    return {"title": cls.__name__, "type": "object", "properties": found, "additionalProperties": False}


@functools.cache
def _validator(cls: type[Fields]) -> Callable[[Any], dict[str, Any]]:
    shape: Any = TypedDict(cls.__name__, _hints(cls))  # type: ignore[operator]
    shape.__pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    validate: Callable[[Any], dict[str, Any]] = TypeAdapter(shape).validator.validate_python
    return validate


@functools.cache
def _hints(cls: type[Fields]) -> dict[str, Any]:
    """The declared kind of each field, strings evaluated where they were written."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        names = {**_VOCABULARY, **getattr(sys.modules.get(base.__module__), "__dict__", {})}
        for name, hint in inspect.get_annotations(base).items():
            try:
                found[name] = eval(hint, names, dict(cls._locals)) if isinstance(hint, str) else hint
            except (NameError, AttributeError):  # imported for type checkers only
                found[name] = Any
    return {name: found[name] for name in cls.names()}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The kinds of a union, or the one there is."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _refusal(name: str, value: Any, hint: Any) -> str:
    choices = [choice for kind in _alternatives(hint) for choice in get_args(kind) if get_origin(kind) is Literal]
    near = did_you_mean(value, map(str, choices)) if choices else ""
    return f"{name} is {_SHOWN.repr(value)}, expected {_describe(hint)}" + (f".{near}" if near else "")


def _describe(hint: Any) -> str:
    """What a kind takes, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(kind) for kind in arguments)
    if origin is Annotated:
        rules = [rule for entry in arguments[1:] for rule in getattr(entry, "metadata", [entry])]
        bounds = [
            f"{word} {getattr(rule, key):g}" for key, word in _BOUNDS.items() for rule in rules if hasattr(rule, key)
        ]
        return f"{_describe(arguments[0])} {' and '.join(bounds)}".rstrip()
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        return f"a list, each entry {_describe(arguments[0])}"
    if origin in (dict, Mapping):
        return "a mapping of names"
    return "None" if hint in (None, type(None)) else _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _earlier(name: str) -> property:
    return property(
        lambda self: getattr(self, name),
        lambda self, value: setattr(self, name, value),
        doc=f"The earlier name of ``{name}``.",
    )
