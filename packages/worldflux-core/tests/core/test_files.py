"""Files are whole or absent, and what is read is bounded and named."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import subprocess
import sys
import time

import pytest

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.files import (
    MAX_BYTES,
    MAX_DEPTH,
    abandoned,
    opened,
    parse_json,
    read_bytes,
    read_json,
    replacing,
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
    monkeypatch.setattr("worldflux.files.MAX_BYTES", 10)
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


def test_depth_is_found_where_it_begins_however_long_the_text_goes_on():
    begun = time.process_time()
    with pytest.raises(ValueError, match="nested more than"):
        parse_json(b"[" * (1 << 24))
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"a": 10**MAX_DEPTH}, "a number of 101 digits"),
        ({"a": "x" * MAX_BYTES}, "more than 16,777,216 bytes"),
        (functools.reduce(lambda inner, _: {"a": inner}, range(MAX_DEPTH), {}), "nested more than 100 deep"),
        (functools.reduce(lambda inner, _: {"a": inner}, range(100_000), {}), "nested more than 100 deep"),
        ([1], "it holds a list"),
    ],
    ids=["digits", "bytes", "depth", "depth without end", "a list"],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, data, says):
    write_json(tmp_path / "page.json", {"a": 1})
    with pytest.raises(CheckpointError, match=rf"page\.json.*{says}.*untouched"):
        write_json(tmp_path / "page.json", data)
    assert (read_json(tmp_path / "page.json"), names(tmp_path)) == ({"a": 1}, ["page.json"])


# --- stages: their names say whose they are ---


def test_nobody_waits_for_who_holds_a_lock_on_the_folder(tmp_path):
    code = "import sys, pathlib; from worldflux.files import write_text; write_text(pathlib.Path(sys.argv[1]), 'x')"
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    subprocess.run([sys.executable, "-c", code, tmp_path / "file"], check=True, timeout=20)
    os.close(handle)
    assert (tmp_path / "file").read_text() == "x"


def test_a_file_may_be_written_while_another_of_its_folder_is(tmp_path):
    with replacing(tmp_path / "a") as (stage,):
        stage.write_text("x")
        write_text(tmp_path / "b", "y")
        write_text(tmp_path / "a", "z")
    assert ((tmp_path / "a").read_text(), names(tmp_path)) == ("x", ["a", "b"])


def test_the_next_save_removes_the_stages_of_the_dead_and_no_others(tmp_path, dead_process):
    with replacing(tmp_path / "file") as (living,):
        living.write_text("living")
        host, pid = living.name.split(".")[2].split("-")[:2]
        dead = f".file.{host}-{dead_process}-{'0' * 8}"
        others = {f".file.{'0' * 8}-{dead_process}-{'0' * 8}", f".notes.{host}-{dead_process}-{'0' * 8}", ".file.mine"}
        for name in {dead, *others}:
            (tmp_path / name).write_text("half of it")
        write_text(tmp_path / "file", "text")
        assert {*names(tmp_path)} == others | {living.name, "file"}
        assert abandoned(tmp_path / dead) and not abandoned(living) and int(pid) == os.getpid()
    assert {*names(tmp_path)} == others | {"file"}
