"""What can be wrong with a plugin, what is then said, and that it costs nobody else anything.

Each test puts one broken plugin beside a sound one that is at work. Whatever happens, the hook table, the registry, the
other plugins, the catalogue and ``sys.modules`` are afterwards what they were before it was installed.
"""

from __future__ import annotations

import gc
import re

import pytest

import worldflux.core.config  # noqa: F401  what a stray plugin imports of ours is no trace of it
from worldflux.core.errors import PluginError


def says(sentence, text):
    """Whether ``text`` is the sentence; ``...`` stands for words that differ between versions of Python and pluggy."""
    return re.fullmatch(re.escape(sentence).replace(r"\.\.\.", ".*"), text, re.DOTALL) is not None


def edited(text, old, new):
    """The head of the broken plugin's manifest with one line changed."""
    head = text.manifest.format(name="broken-world")
    assert old in head
    return head.replace(old, new)


# What the list shows, without a line of the plugin being run: how to install it, and the sentence.
TWICE = "is already provided by 'acme-world'; disable one of the two"
# in two steps of less than 1000 parts each, which is as long a key as every TOML parser takes
DEEP = f"[models.presets.ci.config.{'.'.join(['a'] * 800)}]\n{'.'.join(['a'] * 800)} = 1\n"
LISTED = {
    "no manifest": (
        lambda text: {"manifest": None},
        "broken worldflux.toml: there is none beside 'broken_world.plugin'; is it package data of the wheel?",
    ),
    "not TOML": (lambda text: {"head": "a = [\n"}, "broken worldflux.toml: ...at line..."),
    "not UTF-8": (lambda text: {"raw": b"\xff\xfe"}, "broken worldflux.toml: 'utf-8' codec can't decode..."),
    "nested without end": (lambda text: {"raw": b"x = " + b"[" * 100_000}, "broken worldflux.toml: ..."),
    "nested beyond use": (
        lambda text: {"manifest": text.model.format(id="broken_world") + DEEP},
        "broken worldflux.toml: the file: expected values that are not nested so deeply",
    ),
    "a key is missing": (
        lambda text: {"head": edited(text, 'worldflux_version_range = ">=0.1,<0.2"', "")},
        "broken worldflux.toml: worldflux_version_range is missing",
    ),
    "a key is wrong": (
        lambda text: {"head": edited(text, '"1.0"', '"1.0.3"')},
        "broken worldflux.toml: plugin_api_version: expected a plugin API version MAJOR.MINOR, not '1.0.3'",
    ),
    "a later format": (
        lambda text: {"head": edited(text, "manifest_version = 1", "manifest_version = 2")},
        "its manifest has format 2, this kernel reads 1; update worldflux-core",
    ),
    "a later API minor": (
        lambda text: {"head": edited(text, '"1.0"', '"1.9"')},
        "needs plugin API 1.9, this kernel (worldflux-core 0.1.0) has 1.1; update worldflux-core",
    ),
    "a later API major": (
        lambda text: {"head": edited(text, '"1.0"', '"2.0"')},
        "needs plugin API 2.0, this kernel (worldflux-core 0.1.0) has 1.1; update worldflux-core",
    ),
    "an earlier API major": (
        lambda text: {"head": edited(text, '"1.0"', '"0.9"')},
        "was written for plugin API 0.9, this kernel (worldflux-core 0.1.0) has 1.1; update the plugin",
    ),
    "a later kernel": (
        lambda text: {"head": edited(text, ">=0.1,<0.2", ">=0.2")},
        "needs worldflux-core >=0.2, this is 0.1.0; update worldflux-core",
    ),
    "an earlier kernel": (
        lambda text: {"head": edited(text, ">=0.1,<0.2", "<0.1")},
        "needs worldflux-core <0.1, this is 0.1.0; update the plugin",
    ),
    "a dependency is absent": (
        lambda text: {"head": text.manifest.format(name="broken-world") + 'requires = ["no-such-thing>=1"]\n'},
        "needs no-such-thing>=1 (absent): pip install 'no-such-thing>=1'",
    ),
    "the model of another": (lambda text: {"id": "acme_world"}, f"models:acme_world {TWICE}"),
    "the component of another": (
        lambda text: {
            "manifest": text.model.format(id="broken_world")
            + text.extras.format(id="broken_world").replace("broken_world.zero", "acme_world.zero"),
            "components": {"acme_world.zero": "broken_world.plugin"},
        },
        f"components:acme_world.zero {TWICE}",
    ),
    "the backend of another": (
        lambda text: {
            "manifest": text.model.format(id="broken_world") + '[[backends]]\nid = "acme_world_remote"\n',
            "components": {},
        },
        f"backends:acme_world_remote {TWICE}",
    ),
    "the command of another": (
        lambda text: {
            "manifest": text.model.format(id="broken_world")
            + '[[commands]]\nname = "acme_world-probe"\nsummary = ""\ntarget = "broken_world.plugin:f"\n',
            "components": {},
        },
        f"commands:acme_world-probe {TWICE}",
    ),
    "a model of ours": (
        lambda text: {"id": "tdmpc2"},
        "models:tdmpc2 belongs to 'worldflux-tdmpc'; give the model another id",
    ),
    "a model without entry point": (
        lambda text: {"models": {}},
        "broken worldflux.toml: model 'broken_world' has no entry point of that name in [worldflux.models]",
    ),
    "a component without entry point": (
        lambda text: {"components": {}},
        "broken worldflux.toml: component 'broken_world.zero' has no entry point of that name in [worldflux.compon...",
    ),
    "an entry point without model": (
        lambda text: {"models": {"broken_world": "broken_world.plugin", "more": "broken_world.plugin"}},
        "broken worldflux.toml: entry point 'more' is not declared: expected an id or alias of the manifest",
    ),
    "an entry point that is none": (
        lambda text: {"models": {"broken_world": "not/a/module"}},
        "broken worldflux.toml: entry point 'broken_world': expected 'module' or 'module:object', not 'not/a/module'",
    ),
    "somebody else's package": (
        lambda text: {"models": {"broken_world": "acme_world.plugin"}, "components": {}},
        "broken worldflux.toml: the one beside 'acme_world' has name 'acme-world', expected 'broken-world'",
    ),
    "a package that is no plugin": (
        lambda text: {"models": {"broken_world": "json.decoder"}, "components": {}},
        "broken worldflux.toml: there is none beside 'json.decoder'; is it package data of the wheel?",
    ),
    "a module that is not there": (
        lambda text: {"models": {"broken_world": "nowhere_at_all"}, "components": {}},
        "broken worldflux.toml: there is none beside 'nowhere_at_all'; is it package data of the wheel?",
    ),
    "two manifests": (
        lambda text: {"components": {"broken_world.zero": "acme_world.plugin"}},
        "broken worldflux.toml: its entry points lead to different manifests; a distribution has one",
    ),
    "a command of somebody else": (
        lambda text: {
            "manifest": text.model.format(id="broken_world")
            + '[[commands]]\nname = "probe"\nsummary = ""\ntarget = "subprocess:run"\n',
            "components": {},
        },
        "broken worldflux.toml: target 'subprocess:run' is outside the plugin's own package ['broken_world']",
    ),
}


@pytest.fixture
def no_collection():
    """A finalizer of somebody else's, run where a nested manifest has used up the stack, would be reported here."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("case", LISTED)
def test_what_the_list_can_see_is_rejected_with_its_reason_and_none_of_it_runs(house, text, case):
    before = house.snapshot()
    make, reason = LISTED[case]
    options = make(text)
    raw = options.pop("raw", None)
    plugin = house.add_broken(init="raise SystemExit('imported')", **options)
    if raw is not None:
        (house.site.root / "broken_world" / "worldflux.toml").write_bytes(raw)
        house.kernel.rediscover()
        plugin = house.broken
    sentence = f"plugin broken-world 1.0 is rejected: {reason}"
    assert says(sentence, plugin.problem), plugin.problem
    assert plugin.problem.isprintable()
    assert plugin.state == "rejected"
    assert house.snapshot() == before
    if (id := options.get("id", "broken_world")) != "acme_world" and options.get("models", True):
        with pytest.raises(PluginError) as error:
            house.kernel.ensure("model", id)
        assert says(f"'{id}' cannot be had: {sentence}", str(error.value))
    assert house.snapshot() == before
    house.still_works()
    with pytest.raises(PluginError) as error:
        _ = house.site.kernel({"WORLDFLUX_STRICT_PLUGINS": "1"}).plugins
    assert says(f"{sentence} (WORLDFLUX_STRICT_PLUGINS is set)", str(error.value))
    blocking = {"WORLDFLUX_STRICT_PLUGINS": "1", "WORLDFLUX_DISABLED_PLUGINS": "broken-world"}
    assert "blocked" in [found.state for found in house.site.kernel(blocking).plugins]


def whole(hooks):
    """The code of a plugin that is in order."""
    return "".join(vars(hooks).values())


# What shows only when one of its ids is asked for: the code, and the sentence.
STRAY = """
from worldflux.core.config import WorldModelConfig
from worldflux.core.registry import ComponentSpec, WorldModelRegistry
"""
ASKED = {
    "import raises": (lambda h: h.head + "import acme_cuda", "ModuleNotFoundError: No module named 'acme_cuda'"),
    "import exits": (lambda h: h.head + "import sys; sys.exit(3)", "SystemExit: 3"),
    "import exits without a word": (lambda h: h.head + "raise SystemExit", "SystemExit"),
    "raises what is no Exception": (
        lambda h: h.head + "class Own(BaseException): pass\nraise Own('out')",
        "Own: out",
    ),
    "raises a GeneratorExit": (lambda h: h.head + "raise GeneratorExit", "GeneratorExit"),
    "raises what has no text": (
        lambda h: h.head + "class Own(Exception):\n    __str__ = __repr__ = lambda self: 1 / 0\nraise Own",
        "Own: (its text cannot be read)",
    ),
    "raises what a terminal obeys": (
        lambda h: h.head + "raise ValueError('\\x1b[2J\\u202e\\nx')",
        r"ValueError: \x1b[2J\u202e x",
    ),
    "ends the process": (
        lambda h: h.head + "import os; os._exit(0)",
        "it ends the process, by os._exit(0), while it is imported",
    ),
    "not Python": (lambda h: h.head + "def x(:", "SyntaxError: ...(plugin.py, line ...)"),
    "recurses": (lambda h: h.head + "def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded..."),
    "raises after its hooks": (lambda h: whole(h) + "assert False, 'no'", "AssertionError: no"),
    "a register hook raises": (
        lambda h: whole(h).replace('registrar.add("{id}_remote", Thing)', "1 / 0"),
        "ZeroDivisionError: division by zero",
    ),
    "a register hook exits": (
        lambda h: whole(h).replace('registrar.add("{id}_remote", Thing)', "raise SystemExit"),
        "SystemExit",
    ),
    "a misspelt hook": (
        lambda h: whole(h) + "@hookimpl\ndef worldflux_registr_models(registrar): pass\n",
        "PluginValidationError: unknown hook 'worldflux_registr_models' in plugin...",
    ),
    "a misspelt argument": (
        lambda h: whole(h) + "@hookimpl\ndef worldflux_checkpoint_saved(paht): pass\n",
        "PluginValidationError: Plugin 'broken-world:1' for hook 'worldflux_checkpoint_saved'...paht...",
    ),
    "a wrapper": (
        lambda h: whole(h) + "@hookimpl(wrapper=True)\ndef worldflux_checkpoint_saved(path):\n    yield\n",
        "worldflux_checkpoint_saved is a wrapper; plugin API 1 has plain hooks only",
    ),
    "a model not declared": (
        lambda h: whole(h).replace('add("{id}", Thing)', 'add("{id}", Thing); registrar.add("{id}s", Thing)'),
        "it registers models:broken_worlds, which its manifest does not declare. Did you mean 'broken_world'?",
    ),
    "a component not declared": (
        lambda h: whole(h).replace('"{id}.zero", "action', '"other", "action'),
        "it registers components:other, which its manifest does not declare.",
    ),
    "a backend not declared": (
        lambda h: whole(h).replace('"{id}_remote"', '"other"'),
        "it registers backends:other, which its manifest does not declare.",
    ),
    "another's model": (
        lambda h: whole(h).replace('add("{id}", Thing)', 'add("acme_world", Thing)'),
        "it registers models:acme_world, which its manifest does not declare...",
    ),
    "a model not registered": (
        lambda h: h.head + h.components + h.backends,
        "its manifest declares models:broken_world, but it does not register it",
    ),
    "a component not registered": (
        lambda h: h.head + h.models + h.backends,
        "its manifest declares components:broken_world.zero, but it does not register it",
    ),
    "twice": (
        lambda h: whole(h).replace('add("{id}", Thing)', 'add("{id}", Thing); registrar.add("{id}", Thing)'),
        "it registers models:broken_world twice",
    ),
    "not callable": (
        lambda h: whole(h).replace('add("{id}", Thing)', 'add("{id}", 3)'),
        "it registers models:broken_world with 3, expected a class or function",
    ),
    "another slot": (
        lambda h: whole(h).replace('"action_conditioner"', '"decoder"'),
        "it registers components:broken_world.zero for slot 'decoder', its manifest says 'action_conditioner'",
    ),
    "a model at import": (
        lambda h: whole(h) + STRAY + "WorldModelRegistry.register('stray', WorldModelConfig)(Thing)\n",
        "it registers 'stray' while it is imported; plugins register through their hooks",
    ),
    "a component at import": (
        lambda h: (
            whole(h)
            + STRAY
            + "WorldModelRegistry.register_component('stray', Thing, ComponentSpec('stray', 'decoder'))\n"
        ),
        "it registers 'stray' while it is imported; plugins register through their hooks",
    ),
    "takes another's away, and fails": (
        lambda h: whole(h) + STRAY + "WorldModelRegistry.unregister('acme_world')\n1 / 0\n",
        "ZeroDivisionError: division by zero",
    ),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_only_starting_it_shows_is_undone_remembered_and_told(house, text, case):
    before = house.snapshot()
    make, reason = ASKED[case]
    assert house.add_broken(code=make(text.hooks)).state == "indexed"
    told = []
    for kind, name in (("model", "broken_world"), ("component", "broken_world.zero"), ("model", "broken_world")):
        with pytest.raises(PluginError) as error:
            house.kernel.ensure(kind, name)
        told.append(str(error.value))
        assert house.snapshot() == before
    disable = "(disable it with WORLDFLUX_DISABLED_PLUGINS=broken-world)"
    assert says(f"plugin broken-world 1.0 failed to start: {reason} {disable}", told[0]), told[0]
    assert (set(told), house.broken.state) == ({told[0]}, "failed")
    ran = house.site.root / "broken_world" / "plugin.py.ran"
    assert ran.read_text() == "x" if ran.exists() else case == "not Python"
    with pytest.raises(PluginError, match="failed to start"):
        house.kernel.factory("backend", "broken_world_remote")
    house.still_works()


def test_the_error_keeps_the_exception_it_came_from(house):
    house.add_broken(code="1 / 0")
    with pytest.raises(PluginError) as error:
        house.kernel.ensure("model", "broken_world")
    assert isinstance(error.value.__cause__, ZeroDivisionError)
