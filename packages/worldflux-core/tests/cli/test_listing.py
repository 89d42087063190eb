from __future__ import annotations

import json
import sys

import pytest

HEAVY = """
import sys
from worldflux.cli import main
try:
    main({argv!r})
except SystemExit as stop:
    assert not stop.code, stop.code
loaded = {{"torch", "numpy", "gymnasium", "pydantic", "toy_world"}} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["--version"], ["models", "list"], ["models", "--help"], ["plugins", "list"], ["train", "--help"]],
)
def test_listing_and_help_load_nothing_heavy(worldflux, argv):
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", HEAVY.format(argv=argv)],
        cwd=worldflux.cwd,
        env=worldflux.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def listed(worldflux):
    calls = {
        "text": ["models", "list"],
        "json": ["models", "list", "--json"],
        "all": ["models", "list", "--all", "--json"],
        "info": ["models", "info", "toy-world-model", "--no-options", "--json"],
        "info text": ["models", "info", "toyworld:ci", "--no-options"],
        "plugins": ["plugins", "list", "--json"],
        "plugins text": ["plugins", "list"],
        "show": ["plugins", "show", "Toy_World", "--json"],
        "show a model": ["plugins", "show", "toyworld:ci", "--json"],
        "show an alias": ["plugins", "show", "toy-world-model", "--json"],
        "show a command": ["plugins", "show", "toy-greet", "--json"],
        "unknown plugin": ["plugins", "show", "toy-word"],
        "unknown model": ["models", "info", "toyworld:cj"],
        "unknown model json": ["models", "info", "toyworld:cj", "--json"],
        "usage json": ["eval", "--json"],
        "unknown verb": ["modells"],
        "unknown option": ["models", "list", "--jason"],
        "command": ["toy-greet", "you", "--loudly"],
        "help": ["--help"],
        **{f"{verb} --help": [*verb.split(), "--help"] for verb in VERBS},
    }
    return dict(zip(calls, worldflux.several(*calls.values()), strict=True))


@pytest.fixture(scope="module")
def told(worldflux):
    """The same model asked for three times, with its options from the second time on."""
    ask = ["models", "info", "toyworld:ci"]
    calls = {"plain": [*ask, "--no-options", "--json"], "options": [*ask, "--options", "--json"], "text": ask}
    return dict(zip(calls, worldflux.several(*calls.values()), strict=True))


VERBS = (
    *("models list", "models info", "plugins list", "plugins show", "plugins check", "plugins doctor", "plugins new"),
    *("train", "eval", "plan", "imagine", "doctor"),
    *("data inspect", "data convert", "data merge", "data collect", "data preview", "data split", "data verify"),
)


def test_presets_are_listed_with_what_is_known(listed):
    assert listed["text"].out.splitlines()[1].split()[:3] == ["toyworld:ci", "~0.1K", "reference"]


def test_json_is_all_there_is_on_stdout(listed):
    assert json.loads(listed["json"].out)["toyworld:ci"]["description"] == "Toy for tests"
    assert listed["json"].err == ""


def test_experimental_presets_are_listed_when_all_are_asked_for(listed):
    assert list(json.loads(listed["json"].out)) == ["toyworld:ci"]
    assert list(json.loads(listed["all"].out)) == ["toyworld:ci", "toyworld:untried"]


def test_an_alias_is_described(listed):
    assert json.loads(listed["info"].out)["model_id"] == "toyworld:ci"
    assert "Toy for tests" in listed["info text"].out


def test_options_are_told_with_what_they_take_their_default_and_the_presets_value(told):
    options = json.loads(told["options"].out)["options"]  # what the plugin prints is not on stdout
    assert options["learning_rate"] == {"type": "number", "exclusiveMinimum": 0, "default": 0.0003, "value": 0.0003}
    assert options["explode_at"] == {"type": "integer", "default": 0, "value": 0}
    rows = {line.split()[0]: line.split()[1:] for line in told["text"].out.splitlines() if line}
    assert rows["OPTION"] == ["TAKES", "DEFAULT", "HERE"]
    assert rows["learning_rate"] == ["number", ">", "0", "0.0003", "0.0003"]
    assert rows["model_type"] == ["string", "toyworld", "toyworld"]


def test_its_training_recipe_is_told(told):
    recipe = json.loads(told["options"].out)["recipe"]
    assert (recipe["num_envs"], recipe["env_steps"]) == (2, 120)
    assert ["env_steps", "120"] in [line.split() for line in told["text"].out.splitlines()]


def test_what_it_takes_is_found_out_by_building_it(told):
    takes = json.loads(told["options"].out)["takes"]
    assert takes["vector"] == takes["image 64x64"] == ["continuous", "discrete", "multi"]


def test_a_family_that_does_not_start_is_described_by_its_manifest_and_its_reason(worldflux, tmp_path):
    plugin = worldflux.site / "toy_world" / "plugin.py"
    whole = plugin.read_text()
    try:
        for last_words in ("raise RuntimeError('no oracle')", "import os; os._exit(0)"):
            plugin.write_text(f"{last_words}\n")
            result = worldflux("models", "info", "toyworld:ci", "--json")
            told = json.loads(result.out)
            assert (result.code, told["description"]) == (1, "Toy for tests")
            assert "no oracle" in told["problem"] or "os._exit(0)" in told["problem"]
    finally:
        plugin.write_text(whole)


def test_a_family_is_imported_for_its_options_only(told):
    talk = "a plugin that talks when it is imported"
    assert talk in told["options"].err
    assert talk not in told["plain"].err + told["plain"].out
    assert "options" not in json.loads(told["plain"].out)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"enum": ["a", "b"], "type": "string"}, "'a' or 'b'"),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "number >= 0, < 1"),
        ({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, "integer >= 1 or None"),
        ({"type": "array", "items": {"type": "integer", "minimum": 1}}, "list of integer >= 1"),
        ({}, "anything"),
    ],
)
def test_what_an_option_takes_is_said_in_words(rule, words):
    from worldflux.cli.models import takes

    assert takes(rule) == words


def test_plugins_are_listed_with_their_state(listed):
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(listed["plugins"].out)}
    assert states["toy-world"] == "indexed"
    assert "toy-world" in listed["plugins text"].out


def test_a_plugin_is_found_however_its_name_is_written(listed):
    assert json.loads(listed["show"].out)["provides"]["commands"] == ["toy-greet"]


@pytest.mark.parametrize("call", ["show a model", "show an alias", "show a command"])
def test_a_plugin_is_found_by_what_it_brings(listed, call):
    assert json.loads(listed[call].out)["name"] == "toy-world"


@pytest.mark.parametrize(
    ("call", "near"),
    [
        ("unknown plugin", "'toy-world'"),
        ("unknown model", "'ci'"),
        ("unknown verb", "models"),
        ("unknown option", "--json"),
    ],
)
def test_an_unknown_name_is_a_usage_error_that_names_the_nearest(listed, call, near):
    result = listed[call]
    assert (result.code, result.out) == (2, "")
    assert near in result.err
    assert "Traceback" not in result.err


def test_an_error_is_one_line(listed):
    assert len(listed["unknown model"].err.splitlines()) == 1


def test_with_json_an_error_is_json_too(listed):
    result = listed["unknown model json"]
    assert result.code == 2
    assert json.loads(result.out)["error"]["code"] == "WF-M001"


def test_with_json_a_mistake_in_the_call_is_json_and_one_line(listed):
    result = listed["usage json"]
    assert result.code == 2
    assert "'run...'" in json.loads(result.out)["error"]["message"].lower()
    assert result.err.startswith("error: ") and result.err.count("\n") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_in_its_help_and_speaks_json(listed, verb):
    text = listed[f"{verb} --help"].out
    assert "Example" in text
    assert f"worldflux {verb}" in text
    assert "--json" in text


def test_a_plugins_command_is_listed_and_run_with_its_arguments(listed):
    assert "Greet whoever is named" in listed["help"].out
    assert (listed["command"].code, listed["command"].out) == (3, "hello you --loudly\n")


def test_a_rejected_plugin_stays_listed_with_its_reason(worldflux, site):
    info = site / "broken_world-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-world\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[worldflux.models]\nbroken = broken_world.plugin\n")
    try:
        listed, asked, doctor = worldflux.several(
            ["plugins", "list", "--json"],
            ["models", "info", "broken:ci"],
            ["doctor", "--json"],
            WORLDFLUX_PLUGINS="toy-world,broken-world",
        )
    finally:
        for path in info.iterdir():
            path.unlink()
        info.rmdir()
    found = {plugin["name"]: plugin for plugin in json.loads(listed.out)}
    assert found["broken-world"]["state"] == "rejected"
    assert found["broken-world"]["reason"]
    assert asked.code == 1
    assert "broken-world" in asked.err
    assert doctor.code == 1
    assert any("broken-world" in problem for problem in json.loads(doctor.out)["problems"])
