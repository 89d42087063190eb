"""Files are whole or absent, and what is read is bounded and named."""

from __future__ import annotations

import os

import pytest

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.files import MAX_DEPTH, read_json, replacing, sha256, write_json, write_text


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
