"""Options with their rules beside them: plain dataclasses, checked strictly, refused in our own words.

``units: Annotated[int, Field(ge=1)] = 256`` and ``prior: Literal["gaussian", "categorical"]`` are pydantic's words, and
pydantic's validator judges the values. What relates two fields stays a few lines in the class's ``__post_init__``.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import types
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import SchemaError
from typing_extensions import TypedDict

from .errors import ConfigurationError, did_you_mean
from .registry import WorldModelRegistry

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
_once: Callable[[FunctionT], FunctionT] = functools.cache  # type: ignore[assignment]

__all__ = ["Amount", "Count", "Field", "Fields", "NonNegative", "Positive", "Share", "judge", "option_names"]

_VOCABULARY = {"Annotated": Annotated, "Any": Any, "Field": Field, "Literal": Literal}


def _error(cls: type[Fields], message: str) -> ConfigurationError:
    """The error for a relation between options that does not hold."""
    return ConfigurationError(message, config_name=cls.__name__)


class _Called(ABCMeta):
    """Has a class of options called by its names of today, whichever were given, and refuses others in our words."""

    def __call__(cls: Any, *args: Any, **given: Any) -> Any:
        given = renamed(cls, given)
        try:
            cls.__signature__.bind(*args, **given)
        except TypeError as error:
            raise _error(cls, f"{error}: the options are {', '.join(_accepted(cls))}") from None
        return super().__call__(*args, **given)

    @property
    def __signature__(cls: Any) -> inspect.Signature:  # help() and completion show the constructor's
        return inspect.signature(types.MethodType(cls.__init__, cls))


class Fields(metaclass=_Called):
    """Base of every dataclass of options: an unknown name and a value against its rule are ConfigurationErrors.

    Values come out as declared: whole numbers as floats where those are wanted, lists as tuples, numpy's scalars as
    numbers, paths as strings. A field whose annotation cannot be resolved is not checked. ``earlier_names`` leads from
    names that fields had in earlier versions to those of today, ``gone`` to what to do instead.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {}
    gone: ClassVar[Mapping[str, str]] = {}
    _unknown: ClassVar[str] = "unknown option"
    __dataclass_fields__: ClassVar[dict[str, Any]]  # every subclass is a dataclass
    _locals: ClassVar[Mapping[str, Any]] = {}
    error = classmethod(_error)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        frame: types.FrameType | None = sys._getframe(1)
        while frame and frame.f_code.co_name in ("__new__", "__init_subclass__"):  # of a metaclass, of a base between
            frame = frame.f_back
        here = frame.f_locals if frame else {}  # what a class made in a function calls its types is known there only
        words = set(re.findall(r"\w+", " ".join(map(str, inspect.get_annotations(cls).values()))))
        cls._locals = {name: here[name] for name in words & here.keys()}
        for old, new in cls.earlier_names.items():
            if not hasattr(cls, old):
                setattr(cls, old, _earlier(new))

    def __post_init__(self) -> None:
        hints, cls = _hints(type(self)), type(self)
        values = {name: self._plain(hint, getattr(self, name)) for name, hint in hints.items()}
        try:
            checked = judge(cls).validator.validate_python(values)
        except ValidationError as error:
            name = str(error.errors(include_url=False)[0]["loc"][0])
            raise _error(cls, _words().refusal(name, values[name], hints[name])) from None
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _plain(cls, hint: Any, value: Any) -> Any:
        """A value in the form its kind has here; whatever is wrong with it is left to the validator."""
        if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
            value = value.item()
        kinds = [_bare(kind) for kind in alternatives(hint)]
        if isinstance(value, os.PathLike) and str in kinds:
            return os.fspath(value)
        for kind in kinds:
            origin, inner = get_origin(kind) or kind, get_args(kind) or (Any,)
            if origin is tuple and isinstance(value, (list, tuple)):
                fixed = len(inner) == len(value) and inner[-1] is not ...
                each = inner if fixed else inner[:1] * len(value)
                return tuple(cls._plain(one, item) for one, item in zip(each, value, strict=True))
            if origin is list and isinstance(value, list):
                return [cls._plain(inner[0], item) for item in value]
            if origin is dict and isinstance(value, Mapping):
                return {name: cls._plain(inner[-1], item) for name, item in value.items()}
        return value


# Functions and no methods, whose names an option may bear.


def option_names(cls: type[Fields]) -> tuple[str, ...]:
    """The names of all options of a class."""
    return tuple(item.name for item in fields(cls) if item.init and "internal" not in item.metadata)


def renamed(cls: type[Fields], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their names of today. Raises ConfigurationError if one is given by both, or is unknown."""
    if not isinstance(given, Mapping):
        raise _error(cls, f"the options are {_words().shown(given)}, expected a mapping of names to values")
    values = dict(given)
    for old in set(cls.earlier_names) & set(values):
        value, new = values.pop(old), cls.earlier_names[old]
        if values.setdefault(new, value) != value:
            raise _error(cls, f"{old} is the earlier name of {new}: give one of them")
    refuse_unknown(cls, values)
    return values


def refuse_unknown(cls: type[Fields], given: Iterable[str]) -> None:
    """Raise ConfigurationError for a name that is no option, with the nearest that is one."""
    for name in given:
        if name not in _accepted(cls):
            hint = f" {cls.gone[name]}" if str(name) in cls.gone else did_you_mean(name, _accepted(cls))
            raise _error(cls, f"{cls._unknown} {name!r}.{hint}")


@_once
def judge(cls: type[Fields]) -> TypeAdapter[Any]:
    """What checks the options of a class."""
    hints = _hints(cls)
    try:
        return _judge_of(hints)
    except (TypeError, SchemaError):  # among them is a kind that pydantic has no rule for
        return _judge_of({name: hint if _has_a_rule(hint) else Any for name, hint in hints.items()})


def _judge_of(hints: dict[str, Any]) -> TypeAdapter[Any]:
    typed: Any = TypedDict
    shape = typed("Options", hints)
    shape.__pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return TypeAdapter(shape)


def _has_a_rule(hint: Any) -> bool:
    try:
        return bool(_judge_of({"value": hint}))
    except (TypeError, SchemaError):
        return False


@_once
def _accepted(cls: type[Fields]) -> tuple[str, ...]:
    """What the constructor takes: the fields, and what is only for it (``InitVar``)."""
    return tuple(inspect.signature(cls).parameters)


@_once
def _hints(cls: type[Fields]) -> dict[str, Any]:
    """The declared kind of each field, strings evaluated where they were written; Any where that fails."""
    found: dict[str, Any] = {}
    names = option_names(cls)
    for base in reversed(cls.__mro__):
        known = {**_VOCABULARY, **getattr(sys.modules.get(base.__module__), "__dict__", {})}
        for name, hint in inspect.get_annotations(base).items():
            if name in names:
                found[name] = _resolved(hint, known, dict(vars(base).get("_locals", {})))
    return {name: found[name] for name in names}


def _resolved(hint: Any, known: dict[str, Any], here: dict[str, Any]) -> Any:
    written = types.SimpleNamespace(__annotations__={"kind": hint})
    try:
        return get_type_hints(written, known, here, include_extras=True)["kind"]
    except (NameError, AttributeError, TypeError):  # imported for type checkers only
        return Any


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The kinds of a union, or the one there is."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _words() -> Any:
    return WorldModelRegistry.reach("integration", "words.options")


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _earlier(name: str) -> property:
    return property(
        lambda self: getattr(self, name),
        lambda self, value: setattr(self, name, value),
        doc=f"The earlier name of ``{name}``.",
    )
