"""Metrics of another program, read while they are written."""

from __future__ import annotations

import pytest

from worldflux.delegated import MetricsSource
from worldflux.delegated.metrics import Counters, MetricsReader


@pytest.fixture
def read(tmp_path):
    """A reader of tmp_path/m and a function that appends to the file."""

    def make(**options):
        path = tmp_path / "m"
        reader = MetricsReader(MetricsSource("m", **options), path, Counters())

        def append(text, mode="a"):
            with path.open(mode) as file:
                file.write(text)
            return reader.poll()

        return reader, append

    return make


def test_a_file_that_is_not_there_yet_has_nothing(read):
    reader, _ = read()
    assert reader.poll() == []


def test_a_line_counts_once_it_has_its_end(read):
    reader, append = read()
    assert append('{"a": 1}\n{"a"') == [{"step": 0, "a": 1}]
    assert append(": 2}") == []
    assert append("\n") == [{"step": 0, "a": 2}]
    assert append('{"a": 3}') == []
    assert reader.poll(last=True) == [{"step": 0, "a": 3}]


def test_lines_that_say_nothing_are_passed_over_and_counted(read):
    reader, append = read()
    assert append('oops\n[1]\n\n{"a": 1}\n') == [{"step": 0, "a": 1}]
    assert reader.skipped == 2


def test_a_file_that_starts_over_is_read_from_its_start(read):
    _, append = read(format="csv")
    assert append("a,b\n1,2\n3,4\n") == [{"step": 0, "a": 1, "b": 2}, {"step": 0, "a": 3, "b": 4}]
    assert append("b\n5\n", mode="w") == [{"step": 0, "b": 5}]


def test_a_file_that_is_written_anew_as_a_whole_goes_on(read):
    _, append = read(format="csv")
    assert append("a\n1\n") == [{"step": 0, "a": 1}]
    assert append("", mode="w") == []
    assert append("a\n1\n2\n", mode="w") == [{"step": 0, "a": 2}]


def test_numbers_may_have_their_thousands_parted(read):
    _, append = read(
        format="lines", pattern=r"I: (?P<step>\S+) R: (?P<reward>\S+) T: (?P<time_left>\S+)", env_steps="step"
    )
    assert append("I: 1,234,500 R: -1,200.5 T: 1,2,3\n") == [
        {"step": 0, "env_steps": 1234500, "reward": -1200.5, "time_left": "1,2,3"}
    ]


def test_counts_carry_over_to_records_without_them(read):
    _, append = read(env_steps="frames", step="updates")
    found = append('{"frames": 8, "a": 1}\n{"updates": 2.6, "a": 2}\n{"updates": NaN, "frames": 16}\n')
    assert found == [
        {"step": 0, "env_steps": 8, "a": 1},
        {"step": 3, "env_steps": 8, "a": 2},
        {"step": 3, "env_steps": 16},
    ]


def test_the_longest_name_that_fits_is_changed(read):
    _, append = read(rename={"train/": "", "train/loss/": "losses/", "train/loss/x": "y", "usage/": None})
    line = '{"train/lr": 1, "train/loss/z": 2, "train/loss/x": 3, "usage/ram": 4, "fps": 5}\n'
    assert append(line) == [{"step": 0, "lr": 1, "losses/z": 2, "y": 3, "fps": 5}]


def test_our_own_names_are_not_overwritten(read):
    _, append = read(env_steps="frames")
    assert append('{"step": 7, "time": 8, "env_steps": 9, "frames": 3}\n') == [{"step": 0, "env_steps": 3}]


def test_lines_give_the_groups_they_match(read):
    reader, append = read(format="lines", pattern=r"loss=(?P<loss>\S+)(?: note=(?P<note>\w+))?")
    assert append("hello\nloss=0.5 note=ok\nloss=2\n") == [
        {"step": 0, "loss": 0.5, "note": "ok"},
        {"step": 0, "loss": 2},
    ]
    assert reader.skipped == 0


def test_a_csv_row_of_another_length_is_passed_over(read):
    reader, append = read(format="csv", env_steps="step")
    assert append('step,x,y\n1,2\n3,,"a,b"\n') == [{"step": 0, "env_steps": 3, "y": "a,b"}]
    assert reader.skipped == 1
