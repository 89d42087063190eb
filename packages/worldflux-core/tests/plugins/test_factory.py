"""The front door: presets, aliases and paths in, models out; and a clear sentence for everything else."""

from __future__ import annotations

import inspect
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")  # these are the only tests of plugins that build models

import worldflux  # noqa: E402
from worldflux.core.config import WorldModelConfig  # noqa: E402
from worldflux.core.errors import ConfigurationError, ModelNotFoundError, PluginError  # noqa: E402
from worldflux.core.events import announce  # noqa: E402
from worldflux.core.model import WorldModel  # noqa: E402
from worldflux.core.output import LossOutput  # noqa: E402
from worldflux.core.registry import WorldModelRegistry  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture
def mine(toy):
    """A family a script registers by itself."""

    @dataclass
    class MyConfig(WorldModelConfig):
        model_type: str = "my_model"
        obs_shape: tuple[int, ...] = (3,)
        depth: int = 1

    @WorldModelRegistry.register("my_model", MyConfig)
    class MyModel(WorldModel):
        def loss(self, batch):
            return LossOutput(torch.zeros(()))

    return MyModel


# --- create_world_model -----------------------------------------------------------------------------------------------


def test_the_signature_is_the_documented_one():
    parameters = inspect.signature(worldflux.create_world_model).parameters.values()
    assert [str(p.replace(annotation=p.empty)) for p in parameters] == [
        "model",
        "obs_shape=None",
        "action_dim=None",
        "observation_modalities=None",
        "action_spec=None",
        "component_overrides=None",
        "device='cpu'",
        "api_version='v3'",
        "**kwargs",
    ]


@pytest.mark.parametrize("name", ["toy:size12", "toyv2:size12", "TOY:Size12", "toy", "toy-large"])
def test_every_name_of_a_preset_builds_it(toy, name):
    model = worldflux.create_world_model(name)
    assert (model.config.width, model.config.learning_rate) == (12, 0.01)
    assert (model.config.model_type, model.config.model_name) == ("toy", "size12")
    assert (model.api_version, model.backend) == ("v3", "native_torch")
    assert model.backend_handle.model_id == "toyv2:size12"
    assert model.backend_handle.metadata == {"execution_kind": "native_model", "device": "cpu", "api_version": "v3"}


def test_arguments_and_config_fields_take_effect(toy):
    model = worldflux.create_world_model("toy:ci", obs_shape=(7,), action_dim=3, width=16)
    state = model.encode(torch.zeros(2, 7))
    assert model.transition(state, torch.zeros(2, 3))["z"].shape == (2, 16)


def test_several_modalities_are_built_and_accepted(toy):
    model = worldflux.create_world_model("toy:ci", observation_modalities={"a": {"shape": (2,)}, "b": {"shape": (3,)}})
    assert model.encode({"a": torch.zeros(1, 2), "b": torch.zeros(1, 3)})["z"].shape == (1, 4)


def test_a_discrete_action_may_be_given_by_its_index(toy):
    model = worldflux.create_world_model("toy:ci", action_spec={"kind": "discrete", "dim": 5})
    state = model.encode(torch.zeros(2, 4))
    one_hot = torch.nn.functional.one_hot(torch.tensor([1, 4]), 5).float()
    assert torch.equal(model.transition(state, torch.tensor([1, 4]))["z"], model.transition(state, one_hot)["z"])


def test_a_component_by_id_starts_its_plugin_takes_effect_and_is_saved(toy, tmp_path):
    model = worldflux.create_world_model("toy:ci", component_overrides={"action_conditioner": "toy.zero"})
    state = model.encode(torch.zeros(2, 4))
    assert torch.equal(model.transition(state, torch.ones(2, 2))["z"], state["z"])
    model.save_pretrained(tmp_path / "saved")
    again = worldflux.create_world_model(str(tmp_path / "saved"))
    assert torch.equal(again.transition(state, torch.ones(2, 2))["z"], state["z"])


def test_a_preset_only_the_family_knows_is_resolved_by_its_hook(toy):
    assert worldflux.create_world_model("toy:w5").config.width == 5


def test_plugins_are_told_of_the_model(toy):
    model = worldflux.create_world_model("toy:ci")
    created, spec = sys.modules["toy_family.plugin"].created[-1]
    assert created is model
    assert (spec.model_id, spec.family, spec.plugin, spec.api_version) == ("toy:ci", "toy", "toy-family 1.0", "v3")


def test_a_model_registered_by_a_script_is_built_by_its_name(mine):
    assert type(worldflux.create_world_model("my_model")) is mine
    assert worldflux.create_world_model("My_Model:base", depth=4, obs_shape=(5,)).config.depth == 4
    assert worldflux.get_config("my_model").obs_shape == (3,)
    assert worldflux.get_model_info("my_model")["type"] == "my_model"
    assert "my_model:base" in worldflux.list_models(surface="all")
    with pytest.raises(ModelNotFoundError, match="Unknown size: huge. Available: \\['base'\\]"):
        worldflux.create_world_model("my_model:huge")


def test_a_script_may_give_its_config_sizes(toy):
    @dataclass
    class Sized(WorldModelConfig):
        depth: int = 1

        @classmethod
        def from_size(cls, size, **overrides):
            return cls(**{"depth": {"base": 2, "big": 9}[size], "model_name": size, **overrides})

    @WorldModelRegistry.register("sized", Sized)
    class SizedModel(WorldModel):
        def loss(self, batch):
            return LossOutput(torch.zeros(()))

    assert worldflux.get_config("sized:big").depth == 9
    assert worldflux.create_world_model("sized", depth=3).config.depth == 3


@pytest.mark.parametrize(
    ("model", "options", "error", "says"),
    [
        ("toy:ci", {"api_version": "v4"}, ConfigurationError, "Unsupported api_version: v4. Expected 'v0.2' or 'v3'."),
        ("toy:ci", {"action_type": "hybrid"}, ValueError, "'hybrid'"),
        ("toy:ci", {"action_spec": {"kind": "hybrid", "dim": 2}}, ValueError, "'hybrid'"),
        ("toy:ci", {"widht": 3}, ConfigurationError, "[ToyConfig] Unknown parameter 'widht'. Did you mean 'width'"),
        ("toy:ci", {"revision": "main"}, ConfigurationError, "Unknown parameter 'revision'"),
        ("toy:ci", {"action_dim": 0}, ConfigurationError, "action_dim must be a positive integer"),
        ("toy:ci", {"obs_shape": (0,)}, ConfigurationError, "'obs' needs positive integer sizes"),
        ("toy:ci", {"obs_shape": (64, 64, 3)}, ConfigurationError, "channels-last"),
        ("toy:ci", {"action_type": "fuzzy"}, ConfigurationError, "fuzzy"),
        (
            "toy:ci",
            {"action_dim": 2, "action_spec": {"kind": "continuous", "dim": 3}},
            ConfigurationError,
            "contradicts",
        ),
        ("toy:ci", {"action_dim": 2, "action_spec": {"kind": "discrete", "num_actions": 3}}, ValueError, "contradicts"),
        ("toy:ci", {"device": "gpu"}, ConfigurationError, "device 'gpu' is not a torch device"),
        ("toy:ci", {"component_overrides": {"encoder": "toy.zero"}}, ConfigurationError, "component slot"),
        ("toy:ci", {"component_overrides": {"action_conditioner": "toy.zro"}}, ConfigurationError, "unknown component"),
        ("toy:cii", {}, ModelNotFoundError, "Unknown size: cii. Available: ['ci', 'size12'"),
        ("toi:ci", {}, ModelNotFoundError, "Unknown model type: toi. Available: ['toy']. Did you mean 'toy"),
        ("toy-larg", {}, ModelNotFoundError, "Did you mean 'toy-large'?"),
        ("token:base", {}, ModelNotFoundError, "pip install worldflux-generative"),
        ("./nowhere", {}, ModelNotFoundError, "'./nowhere' looks like a path and does not exist"),
        ("owner/model", {}, ModelNotFoundError, "WorldModel.from_pretrained('owner/name')"),
        ("toy:ci", {"backend": "toy_remot"}, ConfigurationError, "Did you mean 'toy_remote'"),
        (
            "toy:ci",
            {"backend": "toy_remote"},
            ConfigurationError,
            "backend 'toy_remote' runs toy:official, not 'toy:ci'",
        ),
        ("toy:cii", {"backend": "toy_remote"}, ModelNotFoundError, "Unknown size: cii"),
    ],
)
def test_a_mistake_is_a_value_error_that_says_what_was_expected(toy, model, options, error, says):
    with pytest.raises(error) as raised:
        worldflux.create_world_model(model, **options)
    assert isinstance(raised.value, ValueError)
    assert says in str(raised.value)


def test_a_family_is_listed_once_however_often_it_was_used(toy):
    worldflux.create_world_model("toy:ci")
    with pytest.raises(ModelNotFoundError, match=r"Available: \['toy'\]"):
        worldflux.create_world_model("toi:ci")


def test_a_cuda_device_that_is_not_there_is_refused_before_building(toy, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="device 'cuda:0' is not a torch device such as 'cpu'"):
        worldflux.create_world_model("toy:ci", device="cuda:0")


def test_a_blocked_family_says_what_blocks_it(toy, monkeypatch):
    monkeypatch.setenv("WORLDFLUX_DISABLED_PLUGINS", "toy-family")
    toy.rediscover()
    with pytest.raises(PluginError, match="blocked: by WORLDFLUX_DISABLED_PLUGINS"):
        worldflux.create_world_model("toy:ci")


def test_the_old_api_version_warns_and_lets_hybrid_pass(toy):
    with pytest.warns(DeprecationWarning, match="api_version='v0.2'"):
        model = worldflux.create_world_model("toy:ci", api_version="v0.2")
    assert model.api_version == "v0.2"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        worldflux.create_world_model("toy:ci", api_version="v0.2", action_spec={"kind": "hybrid", "dim": 2})
    assert any("hybrid" in str(warning.message) for warning in seen)


def test_plugins_are_told_of_a_checkpoint_with_its_path(toy, tmp_path):
    model = worldflux.create_world_model("toy:ci")
    announce("checkpoint_saved", model, path=tmp_path)
    path, spec = sys.modules["toy_family.plugin"].saved[-1]
    assert (path, spec.model_id) == (tmp_path, "toy:ci")


def test_a_model_nobody_registered_may_be_announced_too(toy):
    class Loose(WorldModel):
        def loss(self, batch):
            return LossOutput(torch.zeros(()))

    worldflux.create_world_model("toy:ci")
    announce("checkpoint_saved", Loose(WorldModelConfig(model_type="loose")), path=HERE)
    assert sys.modules["toy_family.plugin"].saved[-1][1].plugin is None


# --- backends and importers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["native_torch", "", None])
def test_the_native_backend_is_the_default(toy, backend):
    assert isinstance(worldflux.create_world_model("toy:ci", backend=backend), WorldModel)


def test_another_backend_gives_a_handle_and_loses_no_setting(toy):
    handle = worldflux.create_world_model("toy:official", backend="toy_remote", device="cuda", obs_shape=(9,))
    assert (handle.backend, handle.model_id, handle.adapter_id) == ("toy_remote", "toy:official", "toy_remote")
    assert not handle.is_native_torch
    config = handle.metadata.pop("config")
    assert config["obs_shape"] == [9]
    assert handle.metadata == {
        "execution_kind": "backend_handle",
        "adapter_id": "toy_remote",
        "backend_profile": "published",
        "requested_device": "cuda",
        "api_version": "v3",
    }


def test_weights_are_imported_by_the_declared_importer(toy):
    source = {"w": 1}
    model = worldflux.import_weights(source, importer="official-toy", config={"width": 3})
    assert model.source is source
    assert model.config.width == 3
    with pytest.raises(ConfigurationError, match="Unknown importer 'official-tay'.*Did you mean 'official-toy'"):
        worldflux.import_weights(source, importer="official-tay")


# --- saved models -----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(toy, tmp_path):
    model = worldflux.create_world_model("toy:ci", obs_shape=(6,))
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_folder_is_loaded_as_it_was_saved(saved):
    for path in (saved, str(saved)):
        model = worldflux.create_world_model(path, obs_shape=(6,), action_dim=2, width=4)
        assert model.config.obs_shape == (6,)
        assert model.backend_handle.model_id == str(saved)


def test_a_folder_named_like_nothing_else_is_found_in_the_working_directory(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    assert worldflux.create_world_model("saved").config.obs_shape == (6,)
    assert worldflux.create_world_model("./saved").config.obs_shape == (6,)


@pytest.mark.parametrize("given", [{"obs_shape": (7,)}, {"action_dim": 3}, {"width": 5}, {"action_type": "discrete"}])
def test_what_contradicts_the_saved_model_is_refused(saved, given):
    (name,) = given
    with pytest.raises(ConfigurationError, match=f"was saved with {name}="):
        worldflux.create_world_model(saved, **given)


def test_an_unknown_keyword_is_refused_for_a_saved_model_too(saved):
    with pytest.raises(ConfigurationError, match=r"\[ToyConfig\] Unknown parameter 'widht'"):
        worldflux.create_world_model(saved, widht=4)


def test_a_file_in_place_of_the_folder_is_refused(saved):
    with pytest.raises(ModelNotFoundError, match="is a file, expected the folder it is in"):
        worldflux.create_world_model(saved / "config.json")


def test_a_backend_does_not_run_a_saved_model(saved):
    with pytest.raises(ConfigurationError, match="backend 'toy_remote' runs presets, not the saved model"):
        worldflux.create_world_model(saved, backend="toy_remote")


def test_the_saved_api_version_stays(toy, tmp_path):
    with pytest.warns(DeprecationWarning, match="v0.2"):
        worldflux.create_world_model("toy:ci", api_version="v0.2").save_pretrained(tmp_path)
    assert worldflux.create_world_model(tmp_path).api_version == "v0.2"


# --- list_models, get_model_info, get_config --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["toy:ci", "toyv2:size12"]),
        ({"surface": " Supported "}, ["toy:ci", "toyv2:size12"]),
        ({"surface": ""}, ["toy:ci", "toyv2:size12"]),
        ({"surface": "public"}, ["toy:ci", "toyv2:size12", "toy:official"]),
        ({"surface": "all"}, ["toy:ci", "toyv2:size12", "toy:official", "toy:new", "toy:stub"]),
        ({"maturity": "reference"}, ["toy:ci", "toyv2:size12"]),
        ({"maturity": "Reference_Family", "surface": "public"}, ["toy:ci", "toyv2:size12", "toy:official"]),
        ({"maturity": "experimental"}, ["toy:new"]),
        ({"maturity": "experimental", "surface": "public"}, []),
        ({"maturity": "skeleton"}, ["toy:stub"]),
    ],
)
def test_listing_filters_by_surface_and_maturity_in_catalogue_order(toy, options, names):
    assert worldflux.list_models(**options) == names
    assert list(worldflux.list_models(verbose=True, **options)) == names


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"surface": "suported"}, "Unsupported surface.*Did you mean 'supported'"),
        ({"maturity": "refrence"}, "reference"),
    ],
)
def test_an_unknown_filter_is_refused(toy, options, says):
    with pytest.raises(ValueError, match=says):
        worldflux.list_models(**options)


def test_info_is_the_entry_with_its_id_and_alias(toy):
    entry = worldflux.list_models(verbose=True)["toyv2:size12"]
    expected = {"description", "params", "type", "default_obs", "maturity", "support_tier", "parity_role"}
    assert expected < set(entry)
    assert worldflux.get_model_info("toyv2:size12") == entry | {"model_id": "toyv2:size12"}
    assert worldflux.get_model_info("toy-large") == entry | {"model_id": "toyv2:size12", "alias": "toy-large"}
    for wrong in ("tey", "toy:cj", "tey:ci"):
        with pytest.raises(ValueError, match="Unknown"):
            worldflux.get_model_info(wrong)


def test_config_has_the_presets_values_and_the_callers(toy):
    config = worldflux.get_config("toy-large", obs_shape=(9,), action_dim=1, width=3)
    assert (type(config).__name__, config.width, config.obs_shape, config.action_dim) == ("ToyConfig", 3, (9,), 1)
    assert worldflux.get_config("toy").width == 12
    with pytest.raises(ConfigurationError, match="Did you mean 'width'"):
        worldflux.get_config("toy", wdth=3)
    with pytest.raises(ModelNotFoundError, match="Unknown size"):
        worldflux.get_config("toy:zz")


def test_what_a_caller_does_to_an_entry_stays_with_the_caller(toy):
    worldflux.list_models(verbose=True)["toy:ci"]["params"] = "?"
    worldflux.get_config("toy:ci").width = 99
    assert worldflux.get_model_info("toy:ci")["params"] == "~0.1M"
    assert worldflux.get_config("toy:ci").width == 4
