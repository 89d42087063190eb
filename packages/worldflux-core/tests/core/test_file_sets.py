"""Several files as one: the page names the others by their hashes, and nobody waits for anybody."""

from __future__ import annotations

import os

import pytest

from worldflux.core.errors import CheckpointError
from worldflux.file_sets import MAX_READINGS, saved, steady
from worldflux.files import replacing, sha256


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def save(folder, value):
    with replacing(folder / "part", folder / "page") as (part, page):
        part.write_text(value)
        page.write_text(sha256(part))


def load(folder, meanwhile=lambda: None):
    """The text of the part; ``meanwhile`` happens after the page and the places are known."""

    def read():
        places = saved(folder / "page", {"part": (folder / "page").read_text()})
        meanwhile()
        try:
            return places["part"].read_text(), places
        except OSError as error:
            raise CheckpointError("it vanished") from error

    return steady(folder / "page", read)


def killed(folder, value, process):
    """What a save leaves whose writer, a process of this machine, died when its page was in place."""
    save(folder, "old")
    with replacing(folder / "new") as (stage,):  # for its name
        stage.write_text(value)
        left = folder / stage.name.replace(".new.", ".part.").replace(f"-{os.getpid()}-", f"-{process}-")
        os.link(stage, left)
    (folder / "new").unlink()
    (folder / "page").write_text(sha256(left))
    return left


@pytest.mark.parametrize("writer", ["dead", "living", "elsewhere"])
def test_between_the_page_and_its_files_the_new_ones_are_found(tmp_path, dead_process, writer):
    left = killed(tmp_path, "new", os.getpid() if writer == "living" else dead_process)
    if writer == "elsewhere":
        left = left.rename(left.with_name(f".part.{'0' * 8}-{dead_process}-{'0' * 8}"))
    assert load(tmp_path) == "new"
    assert names(tmp_path) == (["page", "part"] if writer == "dead" else sorted([left.name, "page", "part"]))
    save(tmp_path, "newer")
    assert load(tmp_path) == "newer"
    assert left.exists() == (writer != "dead")


def test_the_next_save_removes_what_a_killed_one_left(tmp_path, dead_process):
    killed(tmp_path, "new", dead_process)
    save(tmp_path, "newer")
    assert (load(tmp_path), names(tmp_path)) == ("newer", ["page", "part"])


def test_who_was_overtaken_gives_its_stages_up(tmp_path, monkeypatch):
    replace = os.replace

    def overtaken(source, target):
        replace(source, target)
        if target == tmp_path / "page":
            monkeypatch.undo()
            save(tmp_path, "of the other")

    monkeypatch.setattr(os, "replace", overtaken)
    save(tmp_path, "own")
    assert (load(tmp_path), names(tmp_path)) == ("of the other", ["page", "part"])


def test_a_file_that_another_reader_moves_meanwhile_is_found(tmp_path, dead_process):
    left = killed(tmp_path, "new", dead_process)

    def first():
        if left.exists():
            os.replace(left, tmp_path / "part")

    assert (load(tmp_path, first), names(tmp_path)) == ("new", ["page", "part"])


def test_a_save_in_the_middle_of_a_reading_is_read_anew(tmp_path):
    save(tmp_path, "old")
    left = iter(["new"])
    assert load(tmp_path, lambda: [save(tmp_path, value) for value in left]) == "new"


def test_who_saves_without_end_is_named(tmp_path):
    save(tmp_path, "old")
    values = iter(range(1000))
    with pytest.raises(CheckpointError, match=f"saved anew each of the {MAX_READINGS} times"):
        load(tmp_path, lambda: save(tmp_path, str(next(values))))
    assert next(values) == MAX_READINGS


def test_what_is_damaged_is_read_once(tmp_path):
    save(tmp_path, "old")
    (tmp_path / "part").write_text("else")
    times = []

    def read():
        times.append(1)
        return "", saved(tmp_path / "page", {"part": (tmp_path / "page").read_text()})

    with pytest.raises(CheckpointError, match="altered or truncated"):
        steady(tmp_path / "page", read)
    assert len(times) == 1


@pytest.mark.parametrize("name", ["../part", "/etc/hostname", "", ".", "a/b", "x\0"])
def test_a_page_names_files_of_its_folder_only(tmp_path, name):
    save(tmp_path, "old")
    with pytest.raises(CheckpointError):
        saved(tmp_path / "page", {name: "0"})
