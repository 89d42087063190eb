"""Files are whole or absent, and what is read is bounded and named."""

from __future__ import annotations

import json
import os

import pytest

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.files import (
    MAX_DEPTH,
    opened,
    parse_json,
    read_bytes,
    read_json,
    replacing,
    saved,
    sha256,
    write_json,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def full(*_):
    raise OSError(28, "No space left on device")


def test_several_files_take_their_places_together_and_only_when_all_are_written(tmp_path):
    first, second = tmp_path / "new" / "first", tmp_path / "new" / "second"
    with replacing(first, second) as stages:
        for stage in stages:
            stage.write_text("whole")
        assert not first.exists() and not second.exists()
    assert (names(tmp_path / "new"), first.read_text(), second.read_text()) == (["first", "second"], "whole", "whole")


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()])
def test_what_fails_half_way_leaves_what_was_there_and_no_stage(tmp_path, error):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("before")

    def fail(stages):
        stages[0].write_text("after")
        raise error

    with pytest.raises(type(error)), replacing(first, second) as stages:
        fail(stages)
    assert (names(tmp_path), first.read_text()) == (["first"], "before")


def test_a_folder_in_the_place_of_a_file_is_found_before_any_file_is_replaced(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("before")
    second.mkdir()
    with pytest.raises(IsADirectoryError, match="second is a folder"), replacing(first, second):
        pass
    assert (names(tmp_path), first.read_text()) == (["first", "second"], "before")


def test_files_and_their_folder_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("flush"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("rename"), replace(*paths)))
    write_text(tmp_path / "file", "text")
    assert order == ["flush", "rename", "flush"]


def test_json_that_cannot_be_written_is_a_checkpoint_error_that_names_the_file(tmp_path, monkeypatch):
    write_json(tmp_path / "page.json", {"a": 1})
    with pytest.raises(CheckpointError, match=r"page\.json.*not JSON serializable.*untouched"):
        write_json(tmp_path / "page.json", {"a": object()})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"page\.json.*No space left"):
        write_json(tmp_path / "page.json", {"a": 2})
    assert read_json(tmp_path / "page.json") == {"a": 1}
    assert names(tmp_path) == ["page.json"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[1]", "it holds a list, expected an object"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", f"nested more than {MAX_DEPTH} deep"),
    ],
)
@pytest.mark.parametrize("error", [CheckpointError, ConfigurationError])
def test_what_is_no_json_object_is_named_in_the_callers_kind_of_error(tmp_path, content, says, error):
    if content is not None:
        (tmp_path / "page.json").write_bytes(content)
    with pytest.raises(error, match=rf"page\.json.*{says}"):
        read_json(tmp_path / "page.json", error=error)


def test_what_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("worldflux.core.files.MAX_BYTES", 10)
    (tmp_path / "page.json").write_text('{"a": "0123456789"}')
    with pytest.raises(CheckpointError, match="it has more than"):
        read_json(tmp_path / "page.json")


def test_the_digest_is_the_files(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256(tmp_path / "file").startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda place: os.symlink("/dev/zero", place)])
def test_only_plain_files_are_read_and_none_is_waited_for(tmp_path, make):
    make(tmp_path / "page.json")
    with pytest.raises(CheckpointError, match=r"page\.json cannot be read as JSON"):
        read_json(tmp_path / "page.json")
    with pytest.raises(OSError):
        opened(tmp_path / "page.json", follow=True)


def test_a_link_out_of_the_folder_is_refused_unless_the_user_named_the_file(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "in/beside.json").write_text('{"a": 1}')
    for name, target in (("out", "../secret.json"), ("far", "/etc/hostname"), ("same", "beside.json")):
        (tmp_path / "in" / f"{name}.json").symlink_to(target)
    for name in ("out", "far"):
        with pytest.raises(CheckpointError, match="out of its folder"):
            read_json(tmp_path / "in" / f"{name}.json")
    assert read_json(tmp_path / "in/same.json") == {"a": 1}
    assert read_json(tmp_path / "in/out.json", follow=True) == {}


def test_the_hubs_cache_links_to_its_blobs(tmp_path):
    (tmp_path / "snapshots/main").mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/0123").write_text("{}")
    (tmp_path / "snapshots/main/config.json").symlink_to("../../blobs/0123")
    assert read_json(tmp_path / "snapshots/main/config.json") == {}


def test_no_more_bytes_are_read_than_asked_for(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_bytes(tmp_path / "file", limit=10)
    assert read_bytes(tmp_path / "file", limit=11) == b"x" * 11


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"a": ' + b"9" * 101 + b"}", "a number of 101 digits"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "a number of 10000 digits"),
        (b'{"a": ' + b'{"a":' * 200 + b"1" + b"}" * 201, "nested more than"),
        (b'{"a": "' + b"\\\\" + b'", "b": ' + b"[" * 200 + b"]" * 200 + b"}", "nested more than"),
        ('{"a": 1}'.encode("utf-16"), "can't decode"),
    ],
)
def test_json_is_bounded_in_depth_and_digits(text, says):
    with pytest.raises(ValueError, match=says):
        parse_json(text)


def test_brackets_and_quotes_in_text_are_no_depth():
    deep = {"a": "[" * 500, 'b"': '\\"' + "{" * 500, "c": [[[1, {"d": -(2**130)}]]]}
    assert parse_json(json.dumps(deep).encode()) == deep


# --- several files as one: the page names the others by their hashes ---


def save(folder, value):
    with replacing(folder / "part", folder / "page") as (part, page):
        part.write_text(value)
        page.write_text(sha256(part))


def load(folder, alone=True):
    return saved(folder / "page", {"part": (folder / "page").read_text()}, alone=alone)["part"].read_text()


@pytest.mark.parametrize("alone", [True, False])
def test_between_the_page_and_its_files_the_new_ones_are_found_and_put_in_place(tmp_path, monkeypatch, alone):
    save(tmp_path, "old")
    replace = os.replace

    def killed(source, target):
        if target == tmp_path / "part":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, "new")
    monkeypatch.undo()
    assert load(tmp_path, alone) == "new"
    assert (names(tmp_path) == ["page", "part"]) is alone
    save(tmp_path, "newer")
    assert (load(tmp_path), names(tmp_path)) == ("newer", ["page", "part"])


def test_what_a_kill_left_is_cleared_and_nothing_else(tmp_path):
    save(tmp_path, "old")
    (tmp_path / f".part.{'0' * 32}").write_text("half of it")
    (tmp_path / f".notes.{'0' * 32}").write_text("somebody's")
    (tmp_path / ".part.mine").write_text("somebody's")
    assert load(tmp_path) == "old"
    assert names(tmp_path) == [f".notes.{'0' * 32}", ".part.mine", "page", "part"]


@pytest.mark.parametrize("name", ["../part", "/etc/hostname", "", ".", "a/b", "x\0"])
def test_a_page_names_files_of_its_folder_only(tmp_path, name):
    save(tmp_path, "old")
    with pytest.raises(CheckpointError):
        saved(tmp_path / "page", {name: "0"}, alone=True)
