"""The hooks of plugin API 1.1: their exact signatures, and how each is called."""

from __future__ import annotations

import inspect
import logging

import pytest

from worldflux.core.errors import PluginError
from worldflux.plugins import ModelSpec, hookspecs
from worldflux.plugins.versions import PLUGIN_API

FROZEN = {
    "worldflux_register_models": ("(registrar: 'ModelRegistrar') -> 'None'", False),
    "worldflux_register_components": ("(registrar: 'ComponentRegistrar') -> 'None'", False),
    "worldflux_register_backends": ("(registrar: 'BackendRegistrar') -> 'None'", False),
    "worldflux_register_formats": ("(registrar: 'FormatRegistrar') -> 'None'", False),
    "worldflux_resolve_preset": ("(family: 'str', preset: 'str') -> 'Mapping[str, Any] | None'", True),
    "worldflux_model_created": ("(model: 'WorldModel', spec: 'ModelSpec') -> 'None'", False),
    "worldflux_checkpoint_saved": ("(path: 'Path', spec: 'ModelSpec') -> 'None'", False),
}
REGISTRARS = {
    "ModelRegistrar": "(self, id: 'str', factory: 'Callable[..., WorldModel]', config_type: 'type | None' = None) "
    "-> 'None'",
    "ComponentRegistrar": "(self, id: 'str', kind: 'str', factory: 'Callable[..., Any]') -> 'None'",
    "BackendRegistrar": "(self, id: 'str', factory: 'Callable[..., Any]') -> 'None'",
    "FormatRegistrar": "(self, id: 'str', factory: 'Callable[..., Any]') -> 'None'",
}
SPEC = ModelSpec("acme_world:ci", "acme_world", "acme-world 1.0", "v3")


def test_the_hooks_change_only_with_the_plugin_api():
    """A changed signature is a new plugin API: raise PLUGIN_API and note it in the changelog, then change this."""
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("worldflux_")}
    found = {name: (str(inspect.signature(h)), h.worldflux_spec["firstresult"]) for name, h in hooks.items()}
    assert found == FROZEN
    assert {name: str(inspect.signature(getattr(hookspecs, name).add)) for name in REGISTRARS} == REGISTRARS
    assert PLUGIN_API == {1: 1}


@pytest.mark.parametrize("name", FROZEN)
def test_every_hook_says_when_it_is_called_and_since_when(name):
    text = inspect.getdoc(getattr(hookspecs, name))
    assert "When:" in text
    assert "Raising" in text
    since = "1.1" if name == "worldflux_register_formats" else "1.0"
    assert f".. versionadded:: {since}" in text


@pytest.fixture
def active(site, text):
    """A kernel with active plugins that have these further hooks, one plugin for each."""

    def active(*hooks: str, head: str = ""):
        for n, hook in enumerate(hooks):
            name = f"acme_{n}"
            site.add(
                name.replace("_", "-"),
                manifest=text.model.format(id=name),
                head=text.manifest.format(name=name) + head,
                code=text.plugin.format(id=name) + f"\nseen = []\n@hookimpl\n{hook}\n",
            )
        kernel = site.kernel()
        if not head:
            for n in range(len(hooks)):
                kernel.ensure("model", f"acme_{n}")
        return kernel

    return active


def test_hook_worldflux_register_models(active):
    assert "acme_0" in active("def worldflux_model_created(): pass").registry.list_models()


def test_hook_worldflux_resolve_preset_is_asked_latest_first_until_one_answers(active):
    kernel = active(
        "def worldflux_resolve_preset(family, preset): return {'from': 0}",
        "def worldflux_resolve_preset(family, preset): return {'from': 1} if preset == 'tiny' else None",
    )
    assert kernel.preset_config(kernel.resolve("acme_0:tiny")) == {"from": 1}
    assert kernel.preset_config(kernel.resolve("acme_0:huge")) == {"from": 0}
    assert kernel.preset_config(kernel.resolve("acme_0:ci")) == {}


def test_hook_worldflux_resolve_preset_that_raises_is_named(active):
    kernel = active("def worldflux_resolve_preset(family): raise KeyError(family)")
    with pytest.raises(PluginError, match="plugin acme-0 could not resolve 'acme_0:tiny'"):
        kernel.preset_config(kernel.resolve("acme_0:tiny"))


@pytest.mark.parametrize(
    ("event", "argument"), [("model_created", "model"), ("checkpoint_saved", "path")], ids=["model", "checkpoint"]
)
def test_notifications_reach_everyone_and_one_that_raises_disturbs_nobody(active, caplog, event, argument):
    kernel = active(
        f"def worldflux_{event}({argument}, spec): seen.append(({argument}, spec))",
        f"def worldflux_{event}(): 1 / 0",
    )
    with caplog.at_level(logging.ERROR):
        kernel.notify(event, spec=SPEC, **{argument: "it"})
    import acme_0.plugin

    assert acme_0.plugin.seen == [("it", SPEC)]
    assert f"plugin acme-1: its worldflux_{event} raised" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_an_activation_event_starts_the_plugin_that_declares_it(active):
    kernel = active(
        "def worldflux_model_created(spec): seen.append(spec)", head='activation_events = ["model_created"]\n'
    )
    kernel.notify("checkpoint_saved", path="p", spec=SPEC)
    assert kernel.plugins[0].state == "indexed"
    kernel.notify("model_created", model=None, spec=SPEC)
    import acme_0.plugin

    assert acme_0.plugin.seen == [SPEC]


def test_a_plugin_that_fails_at_its_event_is_logged(active, caplog):
    kernel = active("def worldflux_misspelt(): pass", head='activation_events = ["model_created"]\n')
    kernel.notify("model_created", model=None, spec=SPEC)
    assert "plugin acme-0 1.0 failed to start" in caplog.text


def test_an_implementation_with_a_default_gets_the_real_value(active):
    """pluggy 1.3 to 1.6 pass the default instead, 1.7 the value; ours is the same with all of them."""
    kernel = active("def worldflux_model_created(model, spec=None): seen.append(spec)")
    kernel.notify("model_created", model=None, spec=SPEC)
    import acme_0.plugin

    assert acme_0.plugin.seen == [SPEC]
