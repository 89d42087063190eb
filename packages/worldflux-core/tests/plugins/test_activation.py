"""Starting a plugin is a transaction: all of it, or nothing, with the reason."""

from __future__ import annotations

import sys
import threading

import pytest

from worldflux.core.errors import ConfigurationError, PluginError

COMPONENT = '[[components]]\nid = "acme.zero"\nslot = "action_conditioner"\n'
BACKEND = '[[backends]]\nid = "acme_remote"\n'
HOOKS = "from worldflux.plugins import hookimpl\n\nclass Thing:\n    pass\n\n"
MODELS = "@hookimpl\ndef worldflux_register_models(registrar):\n    registrar.add('acme_world', Thing)\n\n"
COMPONENTS = (
    "@hookimpl\ndef worldflux_register_components(registrar):\n"
    "    registrar.add('acme.zero', 'action_conditioner', Thing)\n\n"
)
BACKENDS = "@hookimpl\ndef worldflux_register_backends(registrar):\n    registrar.add('acme_remote', Thing)\n\n"
ALL = HOOKS + MODELS + COMPONENTS + BACKENDS


@pytest.fixture
def add(site, text):
    """Install acme-world with a model, a component and a backend, and this code."""

    def add(code: str, **options):
        manifest = text.model.format(id="acme_world") + COMPONENT + BACKEND
        site.add("acme-world", manifest=manifest, code=code, components={"acme.zero": "acme_world.plugin"}, **options)
        return site.kernel()

    return add


def traces(kernel):
    """Everything an activation may leave behind."""
    host = kernel._hooks()
    hooks = [
        name for hook in vars(host._pm.hook).values() if hasattr(hook, "get_hookimpls") for name in hook._hookimpls
    ]
    return kernel.registry.snapshot(), host._pm.list_name_plugin(), hooks, set(host._labels)


def test_an_id_starts_its_plugin_which_then_registers_all_it_declares(add):
    kernel = add(ALL)
    kernel.ensure("model", "acme_world")
    kernel.ensure("model", "acme_world")
    entry = kernel.registry.model("acme_world")
    assert (entry.plugin, kernel.plugins[0].state) == ("acme-world 1.0", "active")
    assert kernel.registry.component("acme.zero").spec.component_type == "action_conditioner"
    assert kernel.factory("backend", "acme_remote").__name__ == "Thing"


def test_a_component_id_starts_the_plugin_too(add):
    kernel = add(ALL)
    kernel.ensure("component", "acme.zero")
    assert kernel.plugins[0].state == "active"


def test_an_id_nobody_declares_starts_nothing(add):
    kernel = add(ALL)
    kernel.ensure("model", "other")
    assert kernel.plugins[0].state == "indexed"


def test_a_known_family_that_is_not_installed_is_named_by_the_loader(add):
    with pytest.raises(ConfigurationError, match="pip install worldflux-tdmpc"):
        add(ALL).ensure("model", "tdmpc2")


def test_only_the_plugin_asked_for_is_imported(site):
    site.add("acme-world")
    site.add("beta-world", init="raise SystemExit")
    kernel = site.kernel()
    kernel.ensure("model", "acme_world")
    assert [plugin.state for plugin in kernel.plugins] == ["active", "indexed"]
    assert "beta_world" not in sys.modules


def test_an_entry_point_without_hooks_is_itself_the_model_or_component(site, text):
    site.add(
        "acme-world",
        manifest=text.model.format(id="acme_world") + COMPONENT,
        code="class Model: pass\nclass Zero: pass\n",
        models={"acme_world": "acme_world.plugin:Model"},
        components={"acme.zero": "acme_world.plugin:Zero"},
    )
    kernel = site.kernel()
    kernel.ensure("model", "acme_world")
    assert kernel.registry.model("acme_world").model_class.__name__ == "Model"
    assert kernel.registry.component("acme.zero").factory.__name__ == "Zero"


def test_a_plugin_that_asks_for_itself_while_it_starts_is_told_so(add):
    kernel = add(ALL + "import acme_world\nacme_world.kernel.ensure('model', 'acme_world')\n", init="kernel = None\n")
    import acme_world

    acme_world.kernel = kernel
    with pytest.raises(PluginError, match="acme-world 1.0 asks for one of its own ids while it is being started"):
        kernel.ensure("model", "acme_world")


def test_a_class_with_hooks_instead_of_an_instance_is_told_so(add):
    code = HOOKS + "class plugin:\n    @hookimpl\n    def worldflux_register_models(self, registrar): pass\n"
    with pytest.raises(PluginError, match="entry point 'acme_world' is the class plugin; have you forgotten the ()"):
        add(code, models={"acme_world": "acme_world.plugin:plugin"}).ensure("model", "acme_world")


def test_a_failure_keeps_what_another_plugin_registered_meanwhile(site, add):
    site.add("beta-world")
    kernel = add(
        ALL + "import acme_world\nacme_world.kernel.ensure('model', 'beta_world')\n1 / 0\n", init="kernel = None"
    )
    import acme_world

    acme_world.kernel = kernel
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        kernel.ensure("model", "acme_world")
    assert list(kernel.registry.list_models()) == ["beta_world"]
    assert [plugin.state for plugin in kernel.plugins] == ["failed", "active"]


def test_a_name_a_script_took_first_makes_the_plugin_fail_cleanly(add):
    kernel = add(ALL)
    kernel.registry.register("acme_world")(object)
    with pytest.raises(PluginError, match="already registered"):
        kernel.ensure("component", "acme.zero")
    assert kernel.registry.model("acme_world").model_class is object
    assert not kernel.registry.list_components()


def test_two_threads_start_a_plugin_once(add):
    kernel = add(ALL + "import time, acme_world\nacme_world.count.append(1)\ntime.sleep(0.05)\n", init="count = []\n")
    threads = [threading.Thread(target=kernel.ensure, args=("model", "acme_world")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.modules["acme_world"].count == [1]


def test_a_slow_start_is_reported(add, monkeypatch, caplog):
    monkeypatch.setattr("worldflux.strangers.code.SLOW_SECONDS", -1.0)
    add(ALL).ensure("model", "acme_world")
    assert "plugin acme-world 1.0 took 0 s to start" in caplog.text


def test_rediscover_tries_failed_plugins_again_and_keeps_active_ones(site, add):
    site.add("beta-world")
    kernel = add("import acme_cuda")
    kernel.ensure("model", "beta_world")
    with pytest.raises(PluginError):
        kernel.ensure("model", "acme_world")
    (site.root / "acme_world" / "plugin.py").write_text(ALL + "# repaired, and of another length\n")
    assert [plugin.state for plugin in kernel.rediscover()] == ["indexed", "active"]
    kernel.ensure("model", "acme_world")
    assert sorted(kernel.registry.list_models()) == ["acme_world", "beta_world"]


def test_a_plugin_that_was_removed_leaves_nothing_after_rediscover(site, add):
    kernel = add(ALL)
    before = traces(kernel)
    kernel.ensure("model", "acme_world")
    for file in (site.root / "acme_world-1.0.dist-info").iterdir():
        file.unlink()
    (site.root / "acme_world-1.0.dist-info").rmdir()
    assert kernel.rediscover() == []
    assert traces(kernel) == before


def test_an_importer_target_is_loaded_with_its_plugin(site, text):
    manifest = text.model.format(id="acme_world")
    manifest += '[[importers]]\nid = "official"\ntarget = "acme_world.plugin:load"\n'
    manifest += '[[importers]]\nid = "gone"\ntarget = "acme_world.plugin:nothing"\n'
    site.add(
        "acme-world", manifest=manifest, code=text.plugin.format(id="acme_world") + "\ndef load(source): return 7\n"
    )
    kernel = site.kernel()
    assert kernel.target("importers", "official")("x") == 7
    assert kernel.plugins[0].state == "active"
    with pytest.raises(PluginError, match="importers:gone cannot be loaded"):
        kernel.target("importers", "gone")
    with pytest.raises(ConfigurationError, match=r"Unknown importer 'offcial'. Available: .* Did you mean 'official'"):
        kernel.target("importers", "offcial")


def test_a_backend_may_have_no_adapter_and_then_says_so(add):
    kernel = add(HOOKS + MODELS + COMPONENTS)
    kernel.ensure("model", "acme_world")
    with pytest.raises(PluginError, match="plugin acme-world 1.0 has no adapter for backend 'acme_remote'"):
        kernel.factory("backend", "acme_remote")


def test_an_unknown_backend_names_the_nearest(add):
    with pytest.raises(ConfigurationError, match="Unknown backend 'acme_remot'.*Did you mean 'acme_remote'"):
        add(ALL).factory("backend", "acme_remot")
