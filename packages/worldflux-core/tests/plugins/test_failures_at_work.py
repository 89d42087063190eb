"""Failures that need more than one broken package to show: threads, hangs, hooks, neighbours, and looking again."""

from __future__ import annotations

import importlib
import logging
import shutil
import subprocess
import sys
import threading
import warnings

import pytest

from worldflux.core.errors import ModelNotFoundError, PluginError
from worldflux.plugins import ModelSpec

SPEC = ModelSpec("acme_world:ci", "acme_world", "acme-world 1.0", "v3")
SLOW = "import time, pathlib\ntime.sleep(0.1)\n"


def together(*calls):
    """Run calls at once, each in a thread; returns what each gave or raised."""
    results = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(n, call):
        barrier.wait()
        try:
            results[n] = call()
        except BaseException as error:
            results[n] = error

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    return results


def ran(house):
    return (house.site.root / "broken_world" / "plugin.py.ran").read_text()


# Interrupts


def test_an_interrupt_passes_leaves_no_trace_and_does_not_count_as_a_failure(house, text):
    before = house.snapshot()
    house.add_broken(code="".join(vars(text.hooks).values()) + "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        house.kernel.ensure("model", "broken_world")
    assert house.snapshot() == before
    assert house.broken.state == "indexed"
    file = house.site.root / "broken_world" / "plugin.py"
    file.write_text(file.read_text().replace("raise KeyboardInterrupt", "# this time nobody interrupts"))
    importlib.invalidate_caches()
    house.kernel.ensure("model", "broken_world")
    assert house.broken.state == "active"


# Threads


def test_threads_that_ask_at_once_start_a_plugin_once(house, text):
    house.add_broken(code=SLOW + "".join(vars(text.hooks).values()))
    asked = [lambda: house.kernel.ensure("model", "broken_world")] * 3
    asked += [lambda: house.kernel.ensure("component", "broken_world.zero")] * 3
    assert together(*asked) == [None] * 6
    assert ran(house) == "x"
    assert house.broken.state == "active"


def test_threads_that_ask_at_once_for_what_fails_are_all_told_the_same(house, text):
    before = house.snapshot()
    house.add_broken(code=text.hooks.head + SLOW + "1 / 0\n")
    told = together(*[lambda: house.kernel.ensure("model", "broken_world")] * 6)
    assert {type(error) for error in told} == {PluginError}
    assert len({str(error) for error in told}) == 1
    assert ran(house) == "x"
    assert house.snapshot() == before


def test_a_thread_that_imports_the_plugin_itself_meanwhile_gets_the_same_module(house, text):
    house.add_broken(code=SLOW + "".join(vars(text.hooks).values()))
    _, module = together(
        lambda: house.kernel.ensure("model", "broken_world"), lambda: importlib.import_module("broken_world.plugin")
    )
    assert module is sys.modules["broken_world.plugin"]
    assert house.kernel.registry.model("broken_world").model_class is module.Thing
    assert ran(house) == "x"


def test_two_plugins_that_start_each_other_from_two_threads_do_not_deadlock(house, text):
    whole = "".join(vars(text.hooks).values())
    for name, other in (("one-world", "two_world"), ("two-world", "one_world")):
        code = f"from worldflux.core.registry import WorldModelRegistry\nimport {other}\n{other}.kernel.ensure"
        house.install(name, code=SLOW + whole + f"{code}('model', '{other}')\n", init="")
    house.kernel.rediscover()
    import one_world
    import two_world

    one_world.kernel = two_world.kernel = house.kernel
    told = together(
        lambda: house.kernel.ensure("model", "one_world"), lambda: house.kernel.ensure("model", "two_world")
    )
    assert {type(error) for error in told} == {PluginError}
    assert all("asks for one of its own ids while it is being started" in str(error) for error in told)
    house.still_works()


def test_listing_does_not_wait_for_a_plugin_that_is_being_started(house, text):
    started, listed = threading.Event(), threading.Event()
    house.add_broken(
        code="import broken_world\nbroken_world.started.set()\nassert broken_world.listed.wait(10), 'nobody listed'\n"
        + "".join(vars(text.hooks).values()),
        init="started = listed = None\n",
    )
    import broken_world

    broken_world.started, broken_world.listed = started, listed

    def listing():
        started.wait(10)
        names = [found.model_id for found in house.kernel.catalog.presets]
        listed.set()
        return names

    _, names = together(lambda: house.kernel.ensure("model", "broken_world"), listing)
    assert "broken_world:ci" in names
    assert house.broken.state == "active"


# Hangs

HANGS = """
import logging, sys
sys.path.insert(0, {site!r})
import importlib_metadata
from worldflux.core.registry import Registry
from worldflux.plugins import Kernel
from worldflux.strangers import code
logging.basicConfig(format="%(message)s")
code.HANG_SECONDS, code.SLOW_SECONDS = 0.3, 0.5
found = lambda: importlib_metadata.distributions(path=[{site!r}])
kernel = Kernel(found, registry=Registry(), environ={{}}, version="0.1")
kernel.ensure("model", "acme_world")
print(kernel.plugins[0].state)
"""


def test_a_hang_at_import_shows_where_and_the_log_says_who_and_how_long(site, text, tmp_path):
    site.add("acme-world", code="import time\ntime.sleep(1.2)\n" + text.plugin.format(id="acme_world"))
    done = subprocess.run(
        [sys.executable, "-c", HANGS.format(site=str(site.root))], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout.strip()) == (0, "active")  # shown, not killed
    assert "Timeout (0:00:00.3" in done.stderr
    assert 'plugin.py", line 2 in <module>' in done.stderr
    assert "plugin acme-world 1.0 took 1 s to start" in done.stderr
    assert done.stderr.count("Timeout") == 1


def test_a_start_that_does_not_hang_prints_nothing(house, capfd, monkeypatch):
    monkeypatch.setattr("worldflux.strangers.code.HANG_SECONDS", 0.2)
    house.kernel.ensure("model", "waiting_world")
    threading.Event().wait(0.4)  # the watch must end with the start
    assert capfd.readouterr() == ("", "")


# Hooks


@pytest.mark.parametrize("raises", ["1 / 0", "raise SystemExit(3)", "raise PermissionError('no')"])
def test_a_hook_that_raises_disturbs_nobody_and_is_logged_by_name(house, text, caplog, raises):
    events = f"@hookimpl\ndef worldflux_checkpoint_saved(path):\n    {raises}\n"
    code = text.hooks.head + text.hooks.models + text.hooks.components
    house.add_broken(code=code + events)
    house.install("late-world", code=code + "told = []\n" + events.replace(raises, "told.append(path)"))
    house.kernel.rediscover()
    for name in ("late_world", "broken_world"):
        house.kernel.ensure("model", name)
    before = house.snapshot()
    with caplog.at_level(logging.ERROR):
        house.kernel.notify("checkpoint_saved", path="p", spec=SPEC)
    assert sys.modules["late_world.plugin"].told == ["p"]
    (record,) = caplog.records
    assert record.getMessage() == "plugin broken-world: its worldflux_checkpoint_saved raised"
    assert record.exc_info
    assert house.snapshot() == before
    assert house.broken.state == "active"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("raise KeyError(preset)", "KeyError: 'tiny'"),
        ("raise SystemExit", "SystemExit"),
        ("return 3", "TypeError: 'int' object is not iterable"),
    ],
)
def test_a_hook_that_cannot_answer_is_an_error_that_names_the_plugin(house, text, answer, says):
    hooks = text.hooks.head + text.hooks.models + text.hooks.components
    house.add_broken(code=hooks + f"@hookimpl\ndef worldflux_resolve_preset(preset):\n    {answer}\n")
    house.kernel.ensure("model", "broken_world")
    with pytest.raises(PluginError) as error:
        house.kernel.preset_config(house.kernel.resolve("broken_world:tiny"))
    assert str(error.value) == f"plugin broken-world could not resolve 'broken_world:tiny': {says}"


@pytest.mark.parametrize("late", ["raise SystemExit", "1 / 0", "import nothing_of_that_name", "def x(:"])
def test_an_importer_that_cannot_be_loaded_is_an_error_that_names_the_plugin(house, text, late):
    manifest = text.model.format(id="broken_world")
    manifest += '[[importers]]\nid = "weights"\ntarget = "broken_world.weights:load"\n'
    house.add_broken(manifest=manifest, components={}, code=text.hooks.head + text.hooks.models)
    (house.site.root / "broken_world" / "weights.py").write_text(late)
    with pytest.raises(PluginError, match="plugin broken-world 1.0: importers:weights cannot be loaded: "):
        house.kernel.target("importers", "weights")


# Neighbours and shared names


def test_corrupt_neighbours_change_nothing(house):
    before = house.snapshot()
    corrupt = {
        "a": b"[worldflux.models\nx =",
        "b": b"\xff\xff[worldflux.models]",
        "c": b"nonsense worldflux. nonsense",
        "d": b"[worldflux.models]\nacme_world = acme_world.plugin\n",
    }
    for name, content in corrupt.items():
        folder = house.site.root / f"{name}_corrupt-1.0.dist-info"
        folder.mkdir()
        (folder / "entry_points.txt").write_bytes(content)
    (house.site.root / "e_corrupt-1.0.dist-info").write_text("a file, not a folder")
    (house.site.root / "f_corrupt-1.0.dist-info").mkdir()
    (house.site.root / "g_corrupt.egg-info").write_bytes(b"\xff\x00")
    found = house.kernel.rediscover()
    neighbours = [plugin for plugin in found if "corrupt" in plugin.name]
    assert {plugin.state for plugin in neighbours} == {"rejected"}
    assert all(plugin.reason for plugin in neighbours)
    now = house.snapshot()
    now["list"] = [entry for entry in now["list"] if "corrupt" not in entry["name"]]
    assert now == before
    house.still_works()


def test_an_alias_that_shadows_is_ignored_with_one_warning_and_its_plugin_stays(house, text):
    manifest = text.model.format(id="broken_world") + text.extras.format(id="broken_world")
    before = house.snapshot()
    with pytest.warns(UserWarning, match="ignored") as warned:
        plugin = house.add_broken(manifest=manifest + '[aliases]\nacme_world = "broken_world:ci"\n')
    sentence = "alias 'acme_world' ignored, it means 'acme_world'"
    assert [str(warning.message) for warning in warned] == [f"broken-world: {sentence}"]
    assert (plugin.state, plugin.notes) == ("indexed", [sentence])
    assert house.snapshot() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert house.kernel.resolve("acme_world").family == "acme_world"
        house.kernel.ensure("model", "broken_world")
    with pytest.raises(PluginError, match="broken-world: alias 'acme_world' ignored"):
        _ = house.site.kernel({"WORLDFLUX_STRICT_PLUGINS": "1"}).plugins


def test_a_failure_in_a_shared_namespace_leaves_the_neighbours_modules(site, text):
    plugin = text.plugin.format(id="{id}")
    site.add("shared-good", package="shared.good", id="good", code=plugin.replace("{id}", "good"))
    site.add("shared-bad", package="shared.bad", id="bad", code="import shared.good.helper\n1 / 0")
    (site.root / "shared" / "good" / "helper.py").write_text("")
    kernel = site.kernel()
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        kernel.ensure("model", "bad")
    assert {name for name in sys.modules if name.startswith("shared")} >= {"shared.good", "shared.good.helper"}
    assert not {name for name in sys.modules if name.startswith("shared.bad")}
    kernel.ensure("model", "good")


def test_every_name_of_a_plugin_that_cannot_be_served_tells_its_reason(house, text):
    manifest = text.model.format(id="broken_world").replace("[models.p", 'synonyms = ["brokenv2"]\n[models.p')
    manifest += '[aliases]\nbroken-small = "brokenv2:ci"\n' + text.extras.format(id="broken_world")
    house.add_broken(manifest=manifest, head=text.manifest.format(name="broken-world").replace('"1.0"', '"1.9"'))
    for name in ("broken_world", "broken_world:ci", "brokenv2:ci", "brokenv2", "broken-small", "Broken-Small"):
        with pytest.raises(PluginError, match="cannot be had: .* needs plugin API 1.9, this kernel"):
            house.kernel.resolve(name)
    with pytest.raises(PluginError, match="needs plugin API 1.9"):
        house.kernel.target("importers", "official-broken_world")
    assert house.broken.to_dict()["plugin_api_version"] == "1.9"


def test_names_of_ours_tell_the_reason_even_of_a_manifest_nobody_can_read(site):
    site.add("worldflux-dreamer", id="dreamer", manifest=None)
    kernel = site.kernel()
    for name in ("dreamer", "dreamerv3:size12m", "dreamer-large", "dreamer:ci"):
        with pytest.raises(PluginError, match="cannot be had: plugin worldflux-dreamer 1.0 is rejected: broken worldf"):
            kernel.resolve(name)
    with pytest.raises(ModelNotFoundError, match="pip install worldflux-tdmpc"):
        kernel.resolve("tdmpc2:5m")


# Looking again


def test_rediscover_finds_what_was_installed_since(house):
    before = house.snapshot()
    assert house.add_broken().state == "indexed"
    assert house.snapshot() == before
    house.kernel.ensure("model", "broken_world")


def test_a_plugin_taken_from_an_older_list_starts_the_one_of_today(house):
    (old,) = (plugin for plugin in house.kernel.plugins if plugin.name == "waiting-world")
    house.kernel.rediscover()
    house.kernel.activate(old)
    house.kernel.ensure("model", "waiting_world")
    assert {plugin.name: plugin.state for plugin in house.kernel.plugins} == dict.fromkeys(
        ("acme-world", "waiting-world"), "active"
    )


def test_a_new_version_is_stopped_and_starts_with_its_new_code(house, text):
    house.add_broken()
    house.kernel.ensure("model", "broken_world")
    old = house.kernel.registry.model("broken_world").model_class
    shutil.rmtree(house.site.root / "broken_world-1.0.dist-info")
    code = "".join(vars(text.hooks).values()) + "# the second version is longer\n"
    assert house.add_broken(version="2.0", code=code).state == "indexed"
    assert "broken_world" not in house.kernel.registry.list_models()
    house.kernel.ensure("model", "broken_world")
    entry = house.kernel.registry.model("broken_world")
    assert entry.plugin == "broken-world 2.0"
    assert entry.model_class is not old


def test_a_manifest_that_changed_starts_its_plugin_anew_and_one_that_did_not_keeps_it(house, text):
    house.add_broken()
    house.kernel.ensure("model", "broken_world")
    house.kernel.rediscover()
    assert house.broken.state == "active"
    file = house.site.root / "broken_world" / "worldflux.toml"
    file.write_text(file.read_text().replace("A toy", "Another toy"))
    house.kernel.rediscover()
    assert house.broken.state == "indexed"
    assert "broken_world" not in house.kernel.registry.list_models()


def test_a_plugin_that_is_blocked_or_broken_since_is_stopped(site):
    environ = {"WORLDFLUX_DISABLED_PLUGINS": ""}
    site.add("acme-world")
    kernel = site.kernel(environ)
    kernel.ensure("model", "acme_world")
    environ["WORLDFLUX_DISABLED_PLUGINS"] = "acme-world"
    assert [plugin.state for plugin in kernel.rediscover()] == ["blocked"]
    assert not kernel.registry.list_models()
    environ["WORLDFLUX_DISABLED_PLUGINS"] = ""
    kernel.rediscover()
    kernel.ensure("model", "acme_world")
    (site.root / "acme_world" / "worldflux.toml").unlink()
    assert [plugin.state for plugin in kernel.rediscover()] == ["rejected"]
    assert not kernel.registry.list_models()


def test_strict_mode_refuses_to_look_again_and_changes_nothing(house):
    house.kernel._environ = {"WORLDFLUX_STRICT_PLUGINS": "1"}
    before = house.snapshot()
    with pytest.raises(PluginError, match="broken-world 1.0 is rejected"):
        house.add_broken(manifest=None)
    assert house.snapshot() == before
