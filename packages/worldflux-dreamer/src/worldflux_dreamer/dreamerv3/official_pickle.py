"""Arrays from a pickle, without unpickling: the file's opcodes are read as data, and call nothing.

A pickle is a program. This interpreter knows the operations that build containers, text and numbers, and five names of
numpy's, for which it has records of its own (``Array``, ``Dtype``). numpy itself sees bytes of a length that was
checked, and a dtype from the table below. Everything else is refused by name.
"""

from __future__ import annotations

import math
import pickletools
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np

KINDS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_ORDERS = {"<": "<", ">": ">", "=": "=", "|": "="}
_MARK = object()
_MOST = 1_000_000  # operations; an array takes some forty
_TIMES = 4  # an early protocol's bytes are read as text, encoded, and made numbers
_BITS = 1024  # of a number
_SIZE = 1 << 40  # of an axis


@dataclass
class Name:
    """A global that the file refers to; one of ``CALLS`` or ``WORDS``."""

    full: str


@dataclass
class Dtype:
    """A dtype as the file describes it."""

    code: str
    order: str = "="


@dataclass
class Array:
    """An array as the file describes it: empty until its state is known."""

    value: np.ndarray | None = None


@dataclass
class Encoded:
    """Bytes that an old protocol wrote as text."""

    value: bytes


class Refused(ValueError):
    """The file holds something that is not an array, a number, text or a container."""


def read_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    """Return the arrays of ``{"params": {name: array}}``, or of the mapping inside, as a pickle holds it.

    Nothing else of the content is looked at: it may be deep, or hold itself. Raises ValueError, and whatever else a
    damaged file leads to.
    """
    content = Machine().run(_Bounded(file))
    params = content.get("params", content) if type(content) is dict else None
    if type(params) is not dict or not all(type(value) is Array for value in params.values()):
        raise Refused("it holds no official parameters: expected {'params': {name: array}}")
    if any(array.value is None for array in params.values()):
        raise Refused("it has an array without content")
    return {str(name): array.value for name, array in params.items()}


class Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = 0  # bytes that may still be worked on: a file can refer to the same ones a million times

    def run(self, file: _Bounded) -> Any:
        """Return what the pickle leaves on the stack: containers, numbers, text and records."""
        self.left = _TIMES * file.size
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(Any, file))):
            name = opcode.name
            if count > _MOST:
                raise Refused(f"it has more than {_MOST:,} operations")
            if name == "STOP":
                return self.pop()
            if name in _PLAIN:
                if type(argument) is int and argument.bit_length() > _BITS:
                    raise Refused(f"it has a number of more than {_BITS:,} bits")
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise Refused(f"it has the operation {name}; only arrays are admitted")
        raise Refused("it has no end")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise Refused("it takes a value where there is none")
        return value

    def drop(self, _: Any) -> None:
        self.stack.pop()

    def drop_to_mark(self, _: Any) -> None:
        self.since_mark()

    def since_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def put(self, place: int | None) -> None:
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def collect(self, count: int | None) -> None:
        items = self.since_mark() if count is None else [self.pop() for _ in range(count)][::-1]
        self.stack.append(tuple(items))

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise Refused("it appends to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise Refused("it sets items of what is no mapping")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in (str, int, float, bool, bytes, type(None)):  # a deep tuple would overflow the stack
                raise Refused(f"it has a {type(key).__name__} as a key")
            target[key] = value

    def mapping(self) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def name(self, full: str) -> None:
        if full not in CALLS and full not in WORDS:
            raise Refused(f"it refers to {full}; only numpy arrays are admitted")
        self.stack.append(Name(full))

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise Refused("it refers to a name that is no text")
        self.name(f"{module}.{name}")

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Name or function.full not in CALLS or type(arguments) is not tuple:
            raise Refused("it calls what is no array's maker")
        self.spend(arguments)
        self.stack.append(CALLS[function.full](*arguments))

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        self.spend(state if type(state) is tuple else ())
        if type(target) is Dtype:
            _order(target, state)
        elif type(target) is Array and target.value is None:
            _fill(target, state)
        else:
            raise Refused("it sets the state of what is no array")

    def spend(self, values: tuple[Any, ...]) -> None:
        """Count the bytes and the text that a call is about to work on."""
        contents = (value.value if type(value) is Encoded else value for value in values)
        self.left -= sum(len(content) for content in contents if type(content) in (str, bytes, bytearray))
        if self.left < 0:
            raise Refused(f"it works on its bytes more than {_TIMES} times over")


class _Bounded:
    """A file that gives no more than it has: a length in it may be any number."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell = file, file.tell
        self.size = file.seek(0, 2)
        file.seek(0)

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self.size:
            raise Refused(f"it announces {count} bytes, more than it has")
        return self._file.read(count)

    def readline(self) -> bytes:
        return self._file.readline(1 << 16)


def _dtype(code: Any, align: Any = False, copy: Any = True) -> Dtype:
    if type(code) is not str or code not in KINDS or align not in (False, 0) or copy not in (True, 1):
        raise Refused(f"it has numbers of the kind {reprlib.repr(code):.80}, expected one of {sorted(KINDS)}")
    return Dtype(code)


def _order(dtype: Dtype, state: Any) -> None:
    if type(state) is not tuple or len(state) != 8 or state[0] != 3 or type(state[1]) is not str:
        raise Refused("it describes a dtype in a way that plain numbers are not")
    if state[1] not in _ORDERS or state[2:] != (None, None, None, -1, -1, 0):
        raise Refused("it describes a dtype with fields, flags or an order that plain numbers have not")
    dtype.order = _ORDERS[state[1]]


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    if kind != Name("numpy.ndarray") or shape != (0,) or _bytes(code) != b"b":
        raise Refused("it makes something else than an array")
    return Array()


def _fill(array: Array, state: Any) -> None:
    if type(state) is not tuple or len(state) != 5 or state[0] != 1:
        raise Refused("it describes an array in a way that numpy does not")
    _, shape, dtype, fortran, data = state
    array.value = _numbers(data, dtype, shape, "F" if fortran else "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Array:
    if order == "K":
        return Array(_permuted(data, dtype, shape, axes))
    return Array(_numbers(data, dtype, shape, order))


def _permuted(data: Any, dtype: Any, shape: Any, axes: Any) -> np.ndarray:
    plain = type(axes) is tuple and type(shape) is tuple and all(type(axis) is int for axis in axes)
    if not plain or sorted(axes) != list(range(len(shape))):
        raise Refused(f"it permutes the axes {reprlib.repr(axes):.80} of an array of shape {reprlib.repr(shape):.80}")
    return _numbers(data, dtype, shape, "C").transpose(axes)


def _scalar(dtype: Any, data: Any) -> Array:
    return Array(_numbers(data, dtype, (), "C"))


def _encode(text: Any, encoding: Any) -> Encoded:
    if type(text) is not str or encoding != "latin1":
        raise Refused("it encodes what is no text of bytes")
    return Encoded(text.encode("latin1"))


def _no_bytes(*arguments: Any) -> Encoded:
    if arguments:
        raise Refused("it makes bytes of what is none")
    return Encoded(b"")


def _bytes(data: Any) -> bytes | bytearray:
    raw = data.value if type(data) is Encoded else data
    if type(raw) not in (bytes, bytearray):
        raise Refused(f"it gives a {type(raw).__name__} for the bytes of an array")
    return raw  # type: ignore[no-any-return]


def _numbers(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """The one place where numpy is called: the dtype is from ``KINDS``, the bytes are as many as the shape takes."""
    raw = _bytes(data)
    if type(dtype) is not Dtype or order not in ("C", "F"):
        raise Refused("it describes an array without a dtype or an order")
    fits = type(shape) is tuple and len(shape) <= 32
    if not fits or not all(type(size) is int and 0 <= size < _SIZE for size in shape):
        raise Refused(f"it has an array of the shape {reprlib.repr(shape):.80}")
    kind = np.dtype(dtype.order + dtype.code)
    if math.prod(shape) * kind.itemsize != len(raw):
        raise Refused(f"it has {len(raw)} bytes for an array of {dtype.code} of shape {shape}")
    if dtype.code == "b1" and raw.translate(None, b"\0\1"):
        raise Refused("it has booleans that are neither True nor False")
    return np.frombuffer(raw, kind).reshape(shape, order=order)


_PACKAGES = ("numpy.core", "numpy._core")  # of numpy 1 and 2
_OF_ARRAYS: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _reconstruct,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}
CALLS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,  # how early protocols write none
    "builtins.bytes": _no_bytes,
    **{f"{package}.{name}": call for package in _PACKAGES for name, call in _OF_ARRAYS.items()},
}
WORDS = {"numpy.ndarray"}

_PLAIN = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "MARK": lambda: _MARK,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "POP": Machine.drop, "POP_MARK": Machine.drop_to_mark,
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "MEMOIZE": lambda m, _: m.put(None), "PUT": Machine.put, "BINPUT": Machine.put, "LONG_BINPUT": Machine.put,
    "GET": lambda m, place: m.stack.append(m.memo[place]),
    "BINGET": lambda m, place: m.stack.append(m.memo[place]),
    "LONG_BINGET": lambda m, place: m.stack.append(m.memo[place]),
    "TUPLE": lambda m, _: m.collect(None), "TUPLE1": lambda m, _: m.collect(1),
    "TUPLE2": lambda m, _: m.collect(2), "TUPLE3": lambda m, _: m.collect(3),
    "LIST": lambda m, _: m.stack.append(m.since_mark()),
    "DICT": lambda m, _: m.mapping(),
    "APPEND": lambda m, _: m.extend([m.pop()]), "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "GLOBAL": lambda m, full: m.name(full.replace(" ", ".")), "STACK_GLOBAL": lambda m, _: m.stack_name(),
    "REDUCE": lambda m, _: m.call(), "BUILD": lambda m, _: m.build(),
}  # fmt: skip
