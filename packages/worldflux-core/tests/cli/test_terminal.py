"""Nothing that the command prints moves a terminal's cursor, turns the direction of reading, or hides."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from worldflux.cli.output import Plain, as_it_likes, fields, live, report, speak_plainly, table

EVIL = "evil\x1b[2J\u202e\u200b\x07\x9b"
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
MANIFEST = """
manifest_version = 1
name = "evil-world"
plugin_api_version = "1.0"
worldflux_version_range = ">=0.1,<0.2"
capabilities = ["models"]
"colour\\u202e\\u001b" = 1
[[models]]
id = "evil"
"""
PRESET = '[models.presets.p{n}]\ndescription = "A toy"\nparams = "1"\ndefault_obs = "vector"\nmaturity = "reference"\n'
EXITS = "import os, sys\nsys.stdout.write('on its way')\nos._exit(3)\n"


@pytest.fixture(scope="module")
def evil(site, worldflux):
    """A package beside the toy family with what a terminal obeys wherever its author could put some."""
    info, package = site / "evil_world-1.0.dist-info", site / "evil_world"
    info.mkdir()
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "worldflux.toml").write_text(MANIFEST + "".join(PRESET.format(n=n) for n in range(120)))
    (package / "plugin.py").write_text(f"import warnings\nwarnings.warn({EVIL!r})\nraise ValueError({EVIL!r})\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: evil-world\nVersion: 1.0{EVIL}\n")
    (info / "entry_points.txt").write_text("[worldflux.models]\nevil = evil_world.plugin\n")
    return lambda *calls: worldflux.several(*calls, WORLDFLUX_PLUGINS="toy-world,evil-world")


def test_no_verb_prints_what_a_terminal_obeys_wherever_it_came_from(evil):
    calls = [
        ["plugins", "list"],
        ["plugins", "list", "--json"],
        ["plugins", "show", "evil-world"],
        ["plugins", "show", EVIL],
        ["plugins", "check", "evil", "--static"],
        ["plugins", "doctor", "--timeout", "20"],
        ["models", "list"],
        ["models", "info", EVIL],
        ["models", "info", "evil:p1", "--options"],
        ["models", "info", "evil:p1", "--options", "--json"],
        [EVIL],
        ["models", "list", f"--{EVIL}"],
        ["models", "info", EVIL, "--options"],
        ["eval", EVIL],
        ["doctor"],
    ]
    for call, done in zip(calls, evil(*calls), strict=True):
        found = UNSEEN.search(done.out + done.err)
        assert found is None, (call, found, done.out, done.err)
        assert "Traceback" not in done.err, call


def test_names_are_shown_with_their_tricks_escaped(evil):
    (listed,) = evil(["plugins", "list"])
    assert r"1.0evil\x1b[2J\u202e\u200b\x07\x9b" in listed.out


def test_a_page_of_many_presets_is_listed_and_how_to_see_the_others(evil):
    calls = [["--json"], [], ["--no-page"]]
    every, page, lines = evil(*(["models", "list", *call] for call in calls))
    assert len(json.loads(every.out)) == 121
    assert len(page.out.splitlines()) == 52
    assert page.out.splitlines()[-1].startswith("50 of 121: --no-page")
    assert len(lines.out.splitlines()) == 122


def test_a_plugin_that_ends_the_process_leaves_a_json_document_and_an_exit_code(evil, site):
    code = site / "evil_world" / "plugin.py"
    text = code.read_text()
    code.write_text(EXITS)
    try:
        info, doctor = evil(["models", "info", "evil:p1", "--options", "--json"], ["doctor", "--json"])
    finally:
        code.write_text(text)
    assert (info.code, doctor.code) == (1, 1)
    assert "by os._exit(3)" in json.loads(info.out)["problem"]
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(doctor.out)["plugins"]}
    assert states == {"evil-world": "failed", "toy-world": "active"} | states
    assert states["evil-world"] == "failed"


def test_a_stream_escapes_what_is_unseen_drops_colours_and_keeps_lines_and_languages():
    stream = io.StringIO()
    Plain(stream).writelines(["é 日本\t\x1b[31mred\x1b[0m\r\n", "\x1b[2J\u202e\ud800\rx\n"])
    assert stream.getvalue() == "é 日本\tred\n\\x1b[2J\\u202e\\ud800\nx\n"


def test_a_stream_of_few_letters_shows_the_others_escaped():
    raw = io.BytesIO()
    stream = Plain(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("é")
    stream.flush()
    assert raw.getvalue() == rb"\xe9"


def test_a_cell_and_a_value_keep_to_their_line():
    assert table(("A",), [("x\ny\x1b",)]).splitlines() == ["A", r"x\ny\x1b"]
    assert fields({"a": "x\ny", "b": ["\u202e"]}).splitlines() == [r"a  x\ny", r"b  \u202e"]
    assert fields({"a": list(range(60))}).endswith("48, 49 and 10 more")


def test_what_a_plugins_own_command_prints_is_its_own(monkeypatch):
    raw = io.StringIO()
    monkeypatch.setattr(sys, "stdout", raw)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    speak_plainly()
    speak_plainly()
    with as_it_likes():
        sys.stdout.write("\x1b[31mred")
    sys.stdout.write("\x1b[2J")
    assert raw.getvalue() == "\x1b[31mred\\x1b[2J"


def test_a_live_line_is_drawn_on_a_terminal_only_and_its_text_is_visible(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", Plain(terminal))
    live("starting x")
    assert terminal.getvalue() == ""
    terminal.isatty = lambda: True
    live("starting \x1b[2J")
    assert terminal.getvalue() == "\r\x1b[Kstarting \\x1b[2J"


class Mute(RuntimeError):
    def __str__(self):
        raise SystemExit


def test_with_json_even_what_nobody_foresaw_is_a_document(capsys):
    assert report(Mute(), as_json=True) is None  # for its traceback
    assert json.loads(capsys.readouterr().out)["error"] == {
        "code": "Mute",
        "message": "Mute: (its text cannot be read)",
    }
