"""What is wrong with an option, and what its kind takes, in words."""

from __future__ import annotations

import reprlib
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.fields import alternatives

_BOUNDS = {
    "ge": "of at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "multiple_of": "a multiple of",
    "min_length": "of a length of at least",
    "max_length": "of a length of at most",
    "pattern": "of the form",
}
_WORDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a string"}
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 80


def shown(value: Any) -> str:
    """A value as Python writes it, or the most of it."""
    return _SHOWN.repr(value)


def refusal(name: str, value: Any, hint: Any) -> str:
    """What an option is, and what it is expected to be."""
    choices = [choice for kind in alternatives(hint) for choice in get_args(kind) if get_origin(kind) is Literal]
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
            f"{word} {getattr(rule, key)}" for key, word in _BOUNDS.items() for rule in rules if hasattr(rule, key)
        ]
        return f"{_describe(arguments[0])} {' and '.join(bounds)}".rstrip()
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is ...:
            return f"a list, each entry {_describe(arguments[0])}"
        return f"a list of {len(arguments)}: {', '.join(map(_describe, arguments))}".rstrip(": ")
    if origin in (dict, Mapping):
        return "a mapping of names"
    return "None" if hint in (None, type(None)) else _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def no_image(name: str, shape: tuple[int, ...]) -> ConfigurationError:
    """An image's shape has not three axes, or the channels last."""
    if len(shape) != 3:
        return ConfigurationError(f"image {name!r} needs a shape (channels, height, width), got {shape}")
    return ConfigurationError(
        f"image {name!r} of shape {shape} looks channels-last; worldflux takes channels first: "
        f"use {(shape[2], shape[0], shape[1])} and transpose the data"
    )
