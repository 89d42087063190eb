"""What a package may have too much of: each limit is judged before it costs time, and named."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from worldflux.plugins.manifest import ManifestError, parse
from worldflux.strangers.tables import load

HEAD = 'manifest_version = 1\nname = "acme"\nplugin_api_version = "1.0"\nworldflux_version_range = ">=0.1"\n'
MODELS = HEAD + 'capabilities = ["models"]\n'
PRESET = '[models.presets.p{}]\ndescription = "d"\nparams = "1"\ndefault_obs = "vector"\nmaturity = "reference"\n'
DEEP = "values that are not nested so deeply"
TOO_MUCH = {
    "a long dotted key": ("a" + ".a" * 40_000 + " = 1", DEEP),
    "a long key with blanks": ("a" + " . a" * 40_000 + " = 1", DEEP),
    "a long key of quoted signs": ('"="' + '."#"' * 40_000 + " = 1", DEEP),
    "a long header": ("[a" + ".a" * 40_000 + "]", DEEP),
    "a long header of a list": ("[[a" + ".a" * 40_000 + "]]", DEEP),
    "a long key within a table": ("x = {a" + ".a" * 40_000 + " = 1}", DEEP),
    "lists in lists": ("x = " + "[" * 100_000, DEEP),
    "tables in tables": ("x = " + "{a = " * 50_000, DEEP),
    "after an escaped quote": (r'x = "\""' + "\ny" + ".y" * 40_000 + " = 1", DEEP),
    "after a long text": ("x = '''\n\"'''\ny" + ".y" * 40_000 + ' = "" #"', DEEP),
    "many values": ("x = [" + "1," * 200_000 + "]", "at most 120,000 keys and values"),
    "many keys": ("".join(f"a{n}=1\n" for n in range(120_001)), "at most 120,000 keys and values"),
    "many headers": ("".join(f"[a{n}]\n" for n in range(120_001)), "at most 120,000 keys and values"),
    "many bytes": ("#" * 10_000_000, "at most 2,097,152 bytes"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_a_manifest_beyond_a_limit_is_refused_before_it_is_parsed(case):
    text, says = TOO_MUCH[case]
    content, started = text.encode(), time.process_time()
    with pytest.raises(ManifestError, match=f"the file: expected {says}"):
        load(content)
    assert time.process_time() - started < 1.0  # milliseconds; parsing these takes from seconds to hours


@pytest.mark.parametrize("quotes", ['"', '"\\"' * 1, "'''", '"""', '"""\\"', "#\"'\n", "'''a\n", '"\\\n'])
def test_quotes_that_never_end_cost_no_time(quotes):
    content, started = (quotes * 300_000)[: 2 << 20].encode(), time.process_time()
    with contextlib.suppress(ManifestError):
        load(content)
    assert time.process_time() - started < 3.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "requires = [" + '"a",' * 1001 + "]", "requires: expected at most 1,000 items"),
        (MODELS + "".join(f'[[models]]\nid = "m{n}"\n' for n in range(1001)), "models: expected at most 1,000 items"),
        (HEAD.replace(">=0.1", ">=0.1," * 300), "worldflux_version_range: expected at most 1,000 characters"),
        (
            MODELS + '[[models]]\nid = "m"\n' + "".join(map(PRESET.format, range(10_001))),
            "models: expected at most 10,000 presets and aliases",
        ),
    ],
    ids=["items", "models", "characters", "presets"],
)
def test_a_manifest_has_limits_of_counts(text, says):
    with pytest.raises(ManifestError, match=says):
        parse(load(text.encode()))


def test_what_stands_in_texts_and_comments_is_not_counted():
    dots = "." * 100
    text = HEAD + f'requires = []  # {dots} [[[[[[[[[[[[[[[[[[[[\n[aliases]\n"x{"y" * 50}" = "a:b"\n'
    text += f'[later]\na = "{dots}"\nb = """{dots}\n{dots} \\""""\nc = \'\'\'{dots}"\'\'\'\nd = "{"[" * 50}"\n'
    assert parse(load(text.encode()))[0].name == "acme"


def test_numbers_of_a_config_may_be_many_on_one_line():
    numbers = ", ".join(["1.5"] * 1000)
    text = MODELS + f'[[models]]\nid = "m"\n{PRESET.format(1)}config = {{ rates = [{numbers}] }}\n'
    assert len(parse(load(text.encode()))[0].models[0].presets["p1"].config["rates"]) == 1000


@pytest.mark.parametrize("char", ["\\u202e", "\\u200b", "\\u2066", "\\u001b", "\\u2028", "\\ufeff", "\\U000E0041"])
def test_a_text_with_what_is_unseen_is_refused(char):
    text = MODELS + '[[models]]\nid = "m"\n' + PRESET.format(1).replace('"d"', f'"a{char}b"')
    with pytest.raises(ManifestError, match="description: expected one line of text, all of it visible"):
        parse(load(text.encode()))


def points(site, text):
    (site.root / "acme_world-1.0.dist-info" / "entry_points.txt").write_text(text)
    (plugin,) = site.kernel().plugins
    return plugin


@pytest.mark.parametrize(
    "text",
    [
        "[worldflux.models]\n" + "".join(f"m{n} = acme_world.m{n}\n" for n in range(100_000)),
        "[worldflux.models]\nacme_world = " + "acme_world." * 500_000,
    ],
    ids=["many", "long"],
)
def test_entry_points_beyond_the_limit_are_refused_before_they_are_followed(site, text):
    site.add("acme-world")
    started = time.process_time()
    plugin = points(site, text)
    assert time.process_time() - started < 1.0
    assert plugin.state == "rejected"
    assert plugin.reason == "its metadata cannot be read: its entry_points.txt has more than 131,072 characters"


def test_a_manifest_that_is_no_regular_file_is_none(site):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes with names here")
    site.add("acme-world", manifest=None)
    os.mkfifo(site.root / "acme_world" / "worldflux.toml")
    (plugin,) = site.kernel().plugins  # opening it would wait for somebody to write
    assert plugin.reason.startswith("broken worldflux.toml: there is none beside")
