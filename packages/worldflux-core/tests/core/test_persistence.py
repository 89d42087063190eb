import json
import pickle
from pathlib import Path

import pytest
import torch

from worldflux.core.errors import CheckpointError, ConfigurationError, ModelNotFoundError
from worldflux.core.model import WorldModel


@pytest.fixture
def saved(model, tmp_path):
    return model.save_pretrained(tmp_path / "model")


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def rehash(folder):
    from worldflux.files import sha256

    meta = folder / "worldflux_meta.json"
    edit(meta, sha256={name: sha256(folder / name) for name in ("config.json", "model.safetensors")})


def test_a_model_comes_back_bitwise(model, saved):
    again = WorldModel.from_pretrained(saved)
    assert type(again) is type(model)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_three_files_and_nothing_else_are_written(saved):
    assert sorted(f.name for f in saved.iterdir()) == ["config.json", "model.safetensors", "worldflux_meta.json"]


def test_a_registered_override_comes_back(model, tmp_path, toy):
    model.set_component("action_conditioner", "toy.ignore_action")
    again = WorldModel.from_pretrained(model.save_pretrained(tmp_path / "m"))
    assert isinstance(again.action_conditioner, toy["ignore"])


def test_an_override_without_an_id_is_not_saved_silently(model, tmp_path, toy):
    model.set_component("action_conditioner", toy["ignore"]())
    with pytest.raises(ConfigurationError, match="register it"):
        model.save_pretrained(tmp_path / "m")


def test_the_api_version_comes_back(model, tmp_path):
    model.api_version = "v0.2"
    assert WorldModel.from_pretrained(model.save_pretrained(tmp_path / "m")).api_version == "v0.2"


def test_truncated_weights_are_named(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"model\.safetensors was altered or truncated"):
        WorldModel.from_pretrained(saved)


def test_an_altered_config_is_named(saved):
    edit(saved / "config.json", width=16)
    with pytest.raises(CheckpointError, match=r"config\.json was altered"):
        WorldModel.from_pretrained(saved)


def test_weights_of_another_shape_are_named(saved):
    edit(saved / "config.json", width=16)
    rehash(saved)
    with pytest.raises(ConfigurationError, match="another input/output contract"):
        WorldModel.from_pretrained(saved)


def test_a_pickle_is_refused_unread(saved, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (saved / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="is a pickle"):
        WorldModel.from_pretrained(saved)
    torch.save({"w": torch.ones(1)}, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="is a pickle"):
        WorldModel.from_pretrained(saved)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_family_is_named(saved):
    edit(saved / "config.json", model_type="tooy")
    edit(saved / "worldflux_meta.json", model_type="tooy")
    rehash(saved)
    with pytest.raises(ModelNotFoundError, match="tooy"):
        WorldModel.from_pretrained(saved)


def test_an_unknown_component_is_named(model, tmp_path):
    model.set_component("action_conditioner", "toy.ignore_action")
    saved = model.save_pretrained(tmp_path / "m")
    edit(saved / "worldflux_meta.json", components={"action_conditioner": "os.system"})
    with pytest.raises(ConfigurationError, match=r"unknown component 'os\.system'"):
        WorldModel.from_pretrained(saved)


def test_another_format_version_is_refused(saved):
    edit(saved / "worldflux_meta.json", save_format_version=99)
    with pytest.raises(CheckpointError, match="format 99"):
        WorldModel.from_pretrained(saved)


def test_a_missing_file_is_named(saved):
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        WorldModel.from_pretrained(saved)


def test_a_missing_folder_is_not_taken_for_a_hub_id(registry, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        WorldModel.from_pretrained(tmp_path / "nowhere")


def test_a_full_disk_leaves_the_earlier_model_whole(model, saved, monkeypatch):
    before = {f.name: f.read_bytes() for f in saved.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worldflux.saved.save", full)
    with torch.no_grad():
        model.dynamics_model.linear.weight.add_(1)
    with pytest.raises(CheckpointError, match="No space left"):
        model.save_pretrained(saved)
    assert {f.name: f.read_bytes() for f in saved.iterdir()} == before


def test_a_disk_that_fills_up_at_the_last_file_leaves_the_earlier_model_whole(model, saved, monkeypatch):
    before = {f.name: f.read_bytes() for f in saved.iterdir()}
    write = Path.write_text

    def full(file, text, *rest, **options):
        if "save_format_version" in text:
            raise OSError(28, "No space left on device")
        return write(file, text, *rest, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with torch.no_grad():
        model.dynamics_model.linear.weight.add_(1)
    with pytest.raises(CheckpointError, match="No space left"):
        model.save_pretrained(saved)
    assert {f.name: f.read_bytes() for f in saved.iterdir()} == before
    WorldModel.from_pretrained(saved)


def test_from_pretrained_refuses_another_class(saved, toy):
    class Other(toy["model"]):
        pass

    with pytest.raises(ConfigurationError, match="not a Other"):
        Other.from_pretrained(saved)


@pytest.mark.parametrize("key", ["components", "sha256"])
def test_a_list_in_place_of_a_mapping_is_refused(saved, key):
    edit(saved / "worldflux_meta.json", **{key: ["action_conditioner"]})
    with pytest.raises(CheckpointError, match="must map slots"):
        WorldModel.from_pretrained(saved)
