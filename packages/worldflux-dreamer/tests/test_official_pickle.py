"""The official program's pickles are read as data: arrays of every kind come back, everything else is refused unrun."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest

from worldflux import CheckpointError
from worldflux_dreamer.dreamerv3.official_pickle import read_arrays
from worldflux_dreamer.dreamerv3.official_run import read_checkpoint

ARRAYS = {
    "C order": np.arange(6, dtype=np.float32).reshape(2, 3),
    "Fortran order": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "not contiguous": np.arange(12, dtype=np.float64).reshape(3, 4)[:, ::2],
    "permuted": np.arange(24, dtype=np.int16).reshape(2, 3, 4).transpose(1, 2, 0),
    "big-endian": np.arange(3, dtype=">f4"),
    "no axis": np.array(1.5, np.float16),
    "a scalar": np.float32(3),
    "a whole scalar": np.int64(-3),
    "a truth": np.bool_(True),
    "truths": np.array([True, False]),
    "bytes": np.arange(4, dtype=np.uint8),
    "nothing": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("package", [b"numpy._core", b"numpy.core"])
@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_both_numpys_come_back_as_they_were(protocol, package):
    data = pickle.dumps({"params": ARRAYS, "counters": {"updates": 3}}, protocol=protocol)
    data = renamed(data, package)
    found = read_arrays(io.BytesIO(data))
    for name, value in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert np.array_equal(found[name], value), name


def renamed(data: bytes, package: bytes) -> bytes:
    """The same pickle as another numpy writes it."""
    own = np.array(0).__reduce__()[0].__module__.removesuffix(".multiarray").encode()
    if own == package:
        return data
    out = []
    for opcode, argument, start, stop in steps(data):
        part = data[start:stop]
        if opcode == "FRAME":
            continue
        if isinstance(argument, str) and argument.startswith(own.decode() + "."):
            if opcode == "SHORT_BINUNICODE":
                text = package + argument.encode()[len(own) :]
                part = b"\x8c" + bytes([len(text)]) + text
            elif opcode == "GLOBAL":
                part = part.replace(own, package)
        out.append(part)
    return b"".join(out)


def steps(data: bytes):
    found = [(opcode.name, argument, start) for opcode, argument, start in pickletools.genops(data)]
    for (name, argument, start), after in zip(found, [*(start for *_, start in found[1:]), len(data)]):
        yield name, argument, start, after


# --- what a file may try ---


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def dtype(code: str = "f4", state: bytes = b"", align: bytes = b"\x89") -> bytes:
    return name("numpy", "dtype") + b"(" + text(code) + align + b"\x88tR" + state


def order(which: str = "<", rest: bytes = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0") -> bytes:
    return b"(K\x03" + text(which) + rest + b"tb"


def array(data: bytes = b"C\x08AAAAAAAA", kind: bytes = dtype(), shape: bytes = b"(K\x02t", how: str = "C") -> bytes:
    return name("numpy._core.numeric", "_frombuffer") + b"(" + data + kind + shape + text(how) + b"tR"


def made(
    state: bytes, kind: bytes = name("numpy", "ndarray"), shape: bytes = b"(K\0t", code: bytes = b"C\x01b"
) -> bytes:
    return name("numpy._core.multiarray", "_reconstruct") + b"(" + kind + shape + code + b"tR" + state


def params(value: bytes) -> bytes:
    return b"\x80\x04}" + text("params") + b"}" + text("a") + value + b"ss."


FIELDS = b"(" + text("f") + b"t}" + text("f") + dtype("f8") + b"K\0\x86sK\x08K\x01K\x10"
PAIR = b"(" + dtype() + b"K\x02tNNK\x04K\x01K\0"
FLAGS = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3f"
ENCODE = name("_codecs", "encode")
BOMB = b"(K\0tq\0" + b"0(h\0h\0h\0h\0tq\0" * 50  # small in memory; compared or written, it has no end
BLOCK = 1 << 16
BYTES = b"B" + struct.pack("<I", BLOCK) + b"\0" * BLOCK
TEXT = b"X" + struct.pack("<I", BLOCK) + b"a" * BLOCK
AGAIN = {
    "encoded": b"\x80\x04" + ENCODE + b"q\0" + TEXT + b"q\1" + text("latin1") + b"q\2(" + b"h\0h\1h\2\x86R" * 9 + b"l.",
    "truths": b"\x80\x04" + BYTES + b"q\0" + dtype("b1") + b"q\1("
    + array(b"h\0", b"h\1", b"J" + struct.pack("<i", BLOCK) + b"\x85") * 9 + b"l.",
    "states": b"\x80\x04" + BYTES + b"q\0" + dtype("u1") + b"q\1("
    + made(b"(K\1J" + struct.pack("<i", BLOCK) + b"\x85h\1\x89h\0tb") * 9 + b"l.",
}  # fmt: skip
HOSTILE = {
    "a call of the system": params(name("os", "system") + text("true") + b"\x85R"),
    "a call of a builtin": params(name("builtins", "eval") + text("1") + b"\x85R"),
    "a global of an early protocol": b"cposix\nsystem\n(S'true'\ntR.",
    "an instance": b"(S'true'\nios\nsystem\n.",
    "an object of an early protocol": b"(cos\nsystem\nS'true'\no.",
    "a new object": params(name("numpy", "ndarray") + b"(K\x02t\x81"),
    "a new object with words": params(name("numpy", "ndarray") + b"(K\x02t}\x92"),
    "ndarray called": params(name("numpy", "ndarray") + b"((K\x02t" + text("f4") + b"tR"),
    "a persistent id": b"\x80\x04" + text("x") + b"Q.",
    "an extension": b"\x80\x04\x82\x01.",
    "another buffer": b"\x80\x05\x97.",
    "a set": b"\x80\x04\x8f.",
    "a dtype of objects": params(array(kind=dtype("O"))),
    "a dtype without kind": params(array(kind=dtype("V8"))),
    "a dtype of text": params(array(kind=dtype("U2"))),
    "a dtype of times": params(array(kind=dtype("M8[ns]"))),
    "a dtype of complex numbers": params(array(kind=dtype("c8"))),
    "a dtype with fields": params(array(kind=dtype("V8", b"(K\x03" + text("|") + b"N" + FIELDS + b"tb"))),
    "fields in a plain dtype": params(array(kind=dtype("f4", order("<", b"N" + FIELDS)))),
    "a subarray in a plain dtype": params(
        array(kind=dtype("f4", order("<", b"(" + dtype() + b"K\x02tNNK\x04K\x01K\0")))
    ),
    "flags in a plain dtype": params(
        array(kind=dtype("f4", order("<", b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3f")))
    ),
    "an order that is none": params(array(kind=dtype("f4", order("!")))),
    "a dtype's state of a mapping": params(array(kind=dtype("f4", b"}b"))),
    "an aligned dtype": params(array(kind=dtype(align=b"\x88"))),
    "a dtype of a dtype": params(array(kind=name("numpy", "dtype") + b"(" + dtype() + b"\x89\x88tR")),
    "no dtype": params(array(kind=text("f4"))),
    "fewer bytes than numbers": params(array(shape=b"(K\x03t")),
    "more bytes than numbers": params(array(shape=b"(K\x01t")),
    "a negative size": params(array(shape=b"(J\xff\xff\xff\xffJ\xfe\xff\xff\xfft")),
    "a huge size": params(array(shape=b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft")),
    "a size that is a truth": params(array(shape=b"(K\x02\x88t")),
    "40 axes": params(array(shape=b"(K\x02" + b"K\x01" * 39 + b"t")),
    "a shape that is a list": params(array(shape=b"]K\x02a")),
    "an order of an array that is none": params(array(how="A")),
    "axes that are none": params(array(how="K")),
    "bytes that are text": params(array(data=text("AAAAAAAA"))),
    "bytes that are numbers": params(array(data=b"K\x08")),
    "truths that are neither": params(array(kind=dtype("b1"), shape=b"(K\x08t")),
    "an array of a subclass": params(made(b"", kind=name("numpy", "memmap"))),
    "an array of a dtype": params(made(b"", kind=dtype())),
    "an array made large": params(made(b"", shape=b"(J\xff\xff\xff\x7ft")),
    "an array made of objects": params(made(b"", code=b"O")),
    "an array without state": params(made(b"")),
    "an array of a list": params(made(b"(K\x01(K\x01t" + dtype() + b"\x89]K\x01atb")),
    "an array's state of a mapping": params(made(b"}b")),
    "an array with two states": params(made(b"(K\x01(K\x01t" + dtype() + b"\x89C\x04AAAAtb" * 2)),
    "the state of a list": params(b"]}b"),
    "the state of a name": params(name("numpy", "ndarray") + b"}" + text("__code__") + b"Nsb"),
    "a scalar of nothing": params(name("numpy._core.multiarray", "scalar") + b"(" + dtype() + b"C\0tR"),
    "a scalar of an object": params(name("numpy._core.multiarray", "scalar") + b"(" + dtype("O") + b"C\x08AAAAAAAAtR"),
    "an encoding of another kind": params(
        name("_codecs", "encode") + b"(" + text("aa") + text("unicode_escape") + b"tR"
    ),
    "an encoding of no text": params(ENCODE + b"(K\x01" + text("latin1") + b"tR"),
    "an encoding alone": params(ENCODE + b"(" + text("a") + text("latin1") + b"tR"),
    "a name alone": params(name("numpy", "ndarray")),
    "a dotted name": params(name("numpy", "ndarray.__class__")),
    "a name in parts": params(name("numpy.ndarray", "__class__")),
    "a name of numbers": b"\x80\x04K\x01K\x02\x93.",
    "a number": params(b"K\x01"),
    "a list": b"\x80\x04]K\x01a.",
    "itself": b"\x80\x04}\x94" + text("params") + b"h\0s.",
    "a list as a key": b"\x80\x02}]K\x01s.",
    "a deep tuple as a key": b"\x80\x04})" + b"\x85" * 60_000 + b"K\x01s.",
    "a deep tuple as a dtype": params(name("numpy", "dtype") + b")" + b"\x85" * 60_000 + b"\x85R"),
    "a deep tuple as an order": params(dtype("f4", b"(K\x03)" + b"\x85" * 60_000 + b"NNNNNNtb")),
    "a deep tuple as a shape": params(array(shape=b")" + b"\x85" * 60_000)),
    "depth": params(b"]" * 60_000 + b"a" * 59_999),
    "a bomb of references": params(b"]\x94" + b"(h\0h\0h\0h\0l\x94" * 50),
    "bytes without end": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "text without end": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "bytes to write without end": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "a huge number": params(b"\x8a\xff" + b"\x7f" * 255),
    "a size of many bits": params(array(data=b"C\0", shape=b"(K\0\x8a\x06" + b"\x7f" * 6 + b"t")),
    "a bomb as a shape": params(array(shape=BOMB)),
    "a bomb as a kind": params(name("numpy", "dtype") + b"(" + BOMB + b"\x89\x88tR"),
    "bombs as axes": params(
        name("numpy._core.numeric", "_frombuffer")
        + b"(C\x04AAAA"
        + dtype()
        + b"(K\x01K\x01t"
        + text("K")
        + b"("
        + BOMB
        + BOMB
        + b"ttR"
    ),
    "a number without end": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a frame without end": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b".",
    "a negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "a place far away": b"\x80\x02]r\xff\xff\xff\xff.",
    "operations without end": b"\x80\x02" + b"N0" * 600_000 + b"N.",
    "a place that is empty": b"\x80\x02j\xff\xff\xff\xff.",
    "a place of many digits": b"p" + b"9" * 10_000 + b"\n.",
    "an empty stack": b".",
    "a mark alone": b"(.",
    "a mark taken": b"\x80\x04}(s.",
    "no mark": b"\x80\x04t.",
    "an odd number of items": b"\x80\x04}(K\x01u.",
    "no end": b"\x80\x04}",
    "nothing": b"",
    "text": b"not a pickle",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_every_trick_ends_in_one_kind_of_error(tmp_path, what):
    (tmp_path / "agent.pkl").write_bytes(HOSTILE[what])
    with pytest.raises(CheckpointError, match=r"agent\.pkl cannot be read as an official checkpoint"):
        read_checkpoint(tmp_path / "agent.pkl")


@pytest.mark.parametrize("what", ["bytes without end", "text without end", "a place far away", "a huge size"])
def test_what_a_file_announces_takes_no_memory(tmp_path, what):
    (tmp_path / "agent.pkl").write_bytes(HOSTILE[what])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / "agent.pkl")
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", AGAIN)
def test_the_same_bytes_are_not_worked_on_over_and_over(what):
    with pytest.raises(ValueError, match="it works on its bytes more than 4 times over"):
        read_arrays(io.BytesIO(AGAIN[what]))


@pytest.mark.parametrize(
    ("what", "why"), [("a huge number", "more than 1,024 bits"), ("a size of many bits", "an array of the shape")]
)
def test_numbers_that_no_array_has_are_refused_before_they_are_reckoned_with(what, why):
    with pytest.raises(ValueError, match=why):
        read_arrays(io.BytesIO(HOSTILE[what]))


def test_the_pickles_of_this_list_differ_from_a_good_one_in_their_trick_alone():
    found = read_arrays(io.BytesIO(params(array(kind=dtype("f4", order())))))
    assert found["a"].tobytes() == b"AAAAAAAA"
    assert read_arrays(io.BytesIO(params(made(b"(K\x01(K\x01t" + dtype() + b"\x89C\x04AAAAtb"))))["a"].shape == (1,)


@pytest.mark.parametrize("latest", ["../../elsewhere", "/etc", "..", "", "a/b", "x" * 5000, "\x00"])
def test_a_latest_that_leads_elsewhere_is_refused(tmp_path, latest):
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt/latest").write_text(latest)
    with pytest.raises(CheckpointError, match="latest"):
        read_checkpoint(tmp_path)
