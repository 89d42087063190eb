import hashlib
import json
import struct

import pytest
import torch

from worldflux.core.errors import ShapeMismatchError, StateError, ValidationError
from worldflux.core.output import ModelOutput
from worldflux.core.state import State, map_tensors, stack_states


def two():
    return State({"deter": torch.randn(3, 4), "stoch": torch.randint(0, 9, (3, 2), dtype=torch.uint8)}, {"step": 7})


def test_batch_size_is_the_leading_axis():
    assert two().batch_size == 3


def test_a_tensor_that_is_not_there_is_named_beside_those_that_are():
    with pytest.raises(StateError, match=r"no 'latent', it has \['deter', 'stoch'\]"):
        two()["latent"]


def test_an_empty_state_has_no_batch_size():
    with pytest.raises(StateError, match="no tensors"):
        _ = State().batch_size


def test_validate_names_the_tensor_with_another_batch_size():
    state = State({"a": torch.zeros(3, 1), "b": torch.zeros(2, 1)})
    with pytest.raises(ShapeMismatchError, match="'b'"):
        state.validate()


def test_bytes_give_back_values_dtypes_and_meta():
    state = two()
    again = State.deserialize(state.serialize())
    assert again.meta == {"step": 7}
    for name, value in state.tensors.items():
        assert again[name].dtype == value.dtype
        assert torch.equal(again[name], value)


def test_bytes_keep_bfloat16_and_empty_tensors():
    state = State({"h": torch.randn(2, 3).bfloat16(), "none": torch.zeros(2, 0)})
    again = State.deserialize(state.serialize())
    assert torch.equal(again["h"], state["h"])
    assert again["none"].shape == (2, 0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:5], "truncated"),
        (lambda b: b[:-1], "truncated"),
        (lambda b: b + b"x", "its hash is another"),
        (lambda b: b"XXXX" + b[4:], "magic"),
        (lambda b: b[:4] + b"\x09" + b[5:], "version"),
        (lambda b: b[:9] + b"\xff" * 20 + b[29:], "damaged"),
    ],
)
def test_damaged_bytes_are_named(damage, message):
    with pytest.raises(StateError, match=message):
        State.deserialize(damage(two().serialize()))


def packed(header, blob=b"\x00" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = struct.pack("<Q", len(text)) + text + blob
    return b"WFST\2" + hashlib.sha256(body).digest() + body


META = {"__metadata__": {"meta": "{}"}}
ENTRY = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
HEADERS = {
    "no meta": {"h": ENTRY},
    "a list": [ENTRY],
    "meta is a number": {"__metadata__": {"meta": 3}, "h": ENTRY},
    "meta is no JSON": {"__metadata__": {"meta": "step"}, "h": ENTRY},
    "meta is a list": {"__metadata__": {"meta": "[]"}, "h": ENTRY},
    "meta is deep": {"__metadata__": {"meta": "[" * 100_000}, "h": ENTRY},
    "an entry is a list": {**META, "h": ["F32"]},
    "two tensors of the same bytes": {**META, "h": ENTRY, "i": ENTRY},
    "deep": b'{"__metadata__": ' + b"[" * 100_000,
    "no text": b"\xff\xfe",
}
CHANGES = {
    "dtype": ["F33", "nn", "load", "quint4x2", 7, None],
    "data_offsets": [[0, 4], [0, 9], [-8, 0], [0, 2**70], [0], "08", None],
    "shape": [[-1], [-1, -2], [3], [2**70], [2**40, 2**40], [2.0], ["2"], [[2]], "12", 2, None],
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_is_none_is_a_state_error(what):
    with pytest.raises(StateError, match="damaged state"):
        State.deserialize(packed(HEADERS[what]))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in CHANGES for value in CHANGES[name]])
def test_a_tensor_that_is_not_as_its_header_says_is_a_state_error(name, value):
    assert State.deserialize(packed({**META, "h": ENTRY}))["h"].shape == (1, 2)
    with pytest.raises(StateError):
        State.deserialize(packed({**META, "h": {**ENTRY, name: value}}))


@pytest.mark.parametrize("shape", [[2**70, 0], [2**62, 2**62, 0], [-1, 0]])
def test_an_impossible_shape_of_nothing_is_a_state_error(shape):
    with pytest.raises(StateError):
        State.deserialize(packed({**META, "h": {**ENTRY, "shape": shape, "data_offsets": [0, 0]}}, b""))


def test_no_bit_of_a_serialized_state_can_turn():
    data = two().serialize()
    for at in range(len(data)):
        with pytest.raises(StateError):
            State.deserialize(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])


@pytest.mark.parametrize("data", [None, "WFST", 300, [1, 2]])
def test_what_is_no_bytes_is_a_state_error(data):
    with pytest.raises(StateError, match="damaged"):
        State.deserialize(data)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_kind_of_bytes_is_read(kind):
    assert State.deserialize(kind(two().serialize())).meta == {"step": 7}


def test_a_meta_that_json_cannot_hold_is_a_state_error():
    with pytest.raises(StateError, match="meta cannot be written"):
        State({"a": torch.zeros(1)}, {"now": torch.zeros(1)}).serialize()


def test_detach_cuts_the_graph_and_clone_copies():
    value = torch.ones(2, 2, requires_grad=True)
    state = State({"a": value * 2})
    assert not state.detach()["a"].requires_grad
    copy = state.clone()
    assert copy["a"].data_ptr() != state["a"].data_ptr()


def test_a_state_passes_through_vmap_and_compile():
    state = State({"a": torch.arange(6.0).reshape(3, 2)})
    doubled = torch.vmap(lambda s: s.map(lambda v: v * 2))(state)
    assert torch.equal(doubled["a"], state["a"] * 2)
    compiled = torch.compile(lambda s: s.map(lambda v: v + 1), backend="eager", fullgraph=True)
    assert torch.equal(compiled(state)["a"], state["a"] + 1)


def test_stacking_adds_a_time_axis():
    assert stack_states([two(), two(), two()])["deter"].shape == (3, 3, 4)


def test_what_comes_beside_predictions_is_cut_and_moved_with_them():
    given = ModelOutput({"reward": torch.ones(2)}, aux={"logits": torch.ones(2, requires_grad=True)})
    assert not map_tensors(given, torch.Tensor.detach).aux["logits"].requires_grad


def test_predictions_may_be_given_by_their_short_name():
    assert ModelOutput(preds={"reward": torch.ones(2)}).predictions["reward"].all()
    with pytest.raises(ValidationError, match="give one"):
        ModelOutput({"reward": torch.ones(2)}, preds={"reward": torch.ones(2)})


def of_before(entries, blob, meta=None):
    """A state as it was serialized before it had a hash: the length of a JSON header, the header, the raw tensors."""
    header = json.dumps({"tensors": entries, "meta": meta or {}}).encode()
    return b"WFST\1" + struct.pack(">I", len(header)) + header + blob


OLD = {"name": "h", "dtype": "float32", "shape": [1, 2], "size": 8}


def test_a_state_of_before_there_were_hashes_is_read():
    nothing = {"name": "n", "dtype": "int64", "shape": [1, 0], "size": 0}
    state = State.deserialize(of_before([OLD, nothing], struct.pack("<2f", 1, 2), {"step": 7}))
    assert (state["h"].tolist(), state["n"].shape, state.meta) == ([[1, 2]], (1, 0), {"step": 7})


@pytest.mark.parametrize(
    ("change", "blob"),
    [
        ({"dtype": "load"}, b"\0" * 8),
        ({"dtype": "float64"}, b"\0" * 8),
        ({"shape": [-1, -2]}, b"\0" * 8),
        ({"shape": [2**40, 2**40, 0], "size": 0}, b""),
        ({"name": 3}, b"\0" * 8),
        ({}, b"\0" * 7),
        ({}, b"\0" * 9),
    ],
)
def test_a_damaged_state_of_before_there_were_hashes_is_a_state_error(change, blob):
    with pytest.raises(StateError, match="damaged state"):
        State.deserialize(of_before([{**OLD, **change}], blob))
