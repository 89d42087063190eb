"""TOML files as dataclasses: the annotations are the format, and every fault is named by its key.

With the standard library alone, because reading many of them must stay cheap.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

#: What no file needs more of: bytes, keys and items, levels, characters of a text, items of a list.
MAX_BYTES, MAX_VALUES, MAX_DEPTH, MAX_TEXT, MAX_ITEMS = 2 << 20, 120_000, 16, 1000, 1000
TableT = TypeVar("TableT")


class TableError(ValueError):
    """A file breaks a rule of its format; the message names the key and what was expected."""


@dataclass(frozen=True)
class Match:
    """Annotation of a string field: the whole value matches ``regex``, or it is not ``what``."""

    regex: str
    what: str
    pattern = functools.cached_property(lambda self: re.compile(self.regex, re.ASCII))

    def holds(self, value: str) -> bool:
        """Whether a text keeps the rule."""
        return self.pattern.fullmatch(value) is not None

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        ecma = re.sub(r"\\U000(\w{5})", r"\\u{\1}", self.regex)  # JSON schemas write the later planes another way
        return {**handler(schema), "pattern": f"^(?:{ecma})$"}


@dataclass(frozen=True)
class Parses:
    """Annotation of a string field: ``parser`` takes the value, or it is not ``what``."""

    parser: Callable[[str], Any]
    what: str

    def holds(self, value: str) -> bool:
        """Whether a text keeps the rule."""
        try:
            self.parser(value)
        except ValueError:
            return False
        return True


# Strings, closed or not, and comments: what is left of a TOML file without them shows how it is built.
_PROSE = re.compile(
    r"""(?s)"{3}(?:[^\\]|\\.)*?(?:"{3}|\Z)|'{3}.*?(?:'{3}|\Z)|"(?:[^"\\\n]|\\[^\n])*"?|'[^'\n]*'?|#[^\n]*"""
)


def load(content: bytes) -> dict[str, Any]:
    """Decode a TOML file.

    Raises:
        TableError: it is not TOML, or beyond the limits; they are judged first, because a parser takes a time that
            is quadratic in the length of a dotted key.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    expect(len(content) <= MAX_BYTES, "", f"at most {MAX_BYTES:,} bytes")
    try:
        text = content.decode()
        bones = _PROSE.sub("_", text)
        expect(sum(map(bones.count, "=,[")) <= MAX_VALUES, "", f"at most {MAX_VALUES:,} keys and values")
        longest = max(part.count(".") for part in re.split(r"[=,\[\]{}\n]", bones))
        steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", bones))
        expect(max(longest, *accumulate(steps), 0) <= MAX_DEPTH, "", "values that are not nested so deeply")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a limit, bad TOML, bad UTF-8, numbers of too many digits
        raise TableError(str(error)) from None


def read(cls: type[TableT], table: dict[str, Any]) -> tuple[TableT, list[str]]:
    """A decoded file as the dataclass ``cls``, and the dotted paths of keys that this does not know.

    Raises:
        TableError: a key is missing, or its value is not of the annotated kind.
    """
    unknown: list[str] = []
    value: TableT = _read(cls, table, "", unknown)
    return value, unknown


# What TOML has, and what to call it; tuples are read from lists, and dataclasses from tables.
_TOML = {str: "a text", int: "a number", bool: "true or false", list: "a list", dict: "a table"}
_INSIDE: dict[type, Any] = {dict: dict[str, Any], list: list[Any]}  # what config values are made of


@functools.cache
def _shape(kind: Any) -> tuple[Any, tuple[Any, ...], Any]:
    """What an annotation asks for: its origin, its arguments, and the TOML type."""
    origin = get_origin(kind) or kind
    table = dict if dataclasses.is_dataclass(kind) else origin
    return origin, get_args(kind), {Annotated: str, tuple: list}.get(origin, table)


@functools.cache
def _keys(cls: type) -> dict[str, tuple[Any, bool]]:
    """The keys of a table: the annotation of each, and whether it must be there."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: (hints[f.name], f.default is f.default_factory) for f in dataclasses.fields(cls)}


def _read(kind: Any, value: Any, where: str, unknown: list[str]) -> Any:
    """Turn a TOML value into the annotated type ``kind``, or say at ``where`` it is wrong."""
    origin, args, wanted = _shape(kind)
    expect(wanted not in _TOML or wanted is type(value), where, _TOML.get(wanted, ""), value)
    if kind is Any:  # config values travel through JSON: text, finite numbers, booleans, lists and tables of these
        fits = type(value) in _TOML or (isinstance(value, float) and math.isfinite(value))
        expect(fits, where, "a text, a finite number, true or false", value)
        return _read(_INSIDE[type(value)], value, where, unknown) if type(value) in _INSIDE else value
    if origin in (tuple, list):
        expect(len(value) <= MAX_ITEMS or args[0] is Any, where, f"at most {MAX_ITEMS:,} items")
        return origin([_read(args[0], item, f"{where}[{n}]", unknown) for n, item in enumerate(value)])
    if origin is dict:
        keys = [_read(args[0], key, f"{where}.{key}", unknown) for key in value]
        return {key: _read(args[1], value[key], f"{where}.{key}", unknown) for key in keys}
    if wanted is dict:
        return _read_table(kind, value, where, unknown)
    if type(None) in args:  # X | None: TOML has no null, so the key is absent or an X
        return _read(args[0], value, where, unknown)
    if origin is Annotated:
        expect(len(value) <= MAX_TEXT, where, f"at most {MAX_TEXT:,} characters")
        for rule in args[1:]:
            expect(rule.holds(value), where, rule.what, value)
    elif origin is Literal:
        expect(value in args, where, f"one of {', '.join(args)}", value)
    return value


def _read_table(cls: Any, table: dict[str, Any], where: str, unknown: list[str]) -> Any:
    keys = _keys(cls)
    at = {name: f"{where}.{name}".lstrip(".") for name in (*keys, *table)}
    for name, (_, needed) in keys.items():
        if needed and name not in table:
            raise TableError(f"{at[name]} is missing")
    unknown.extend(at[name] for name in table if name not in keys)
    return cls(**{name: _read(keys[name][0], table[name], at[name], unknown) for name in keys if name in table})


def expect(holds: bool, where: str, what: str, *got: Any) -> None:
    """Raises TableError, which shows what was ``got``, unless the rule holds."""
    if not holds:
        found = "".join(f", not {value!r}" for value in got)
        raise TableError(f"{where or 'the file'}: expected {what}{found}"[:400])
