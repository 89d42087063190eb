"""A saved model of a stranger, hashes in order: what it asks for is judged before memory or time is taken."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

import worldflux
import worldflux.saved
from worldflux import WorldModel
from worldflux.core.errors import WorldFluxError
from worldflux.core.persistence import load_pretrained
from worldflux.files import sha256

FAMILIES = ("dreamer:ci", "planet:ci", "tdmpc2:ci", "mbpo:ci", "jepa:ci")


@pytest.fixture
def folder(request, tmp_path):
    name = getattr(request, "param", "dreamer:ci")
    return worldflux.create_world_model(name, obs_shape=(4,), action_dim=2).save_pretrained(tmp_path / "model")


def vouch(folder):
    meta = json.loads((folder / "worldflux_meta.json").read_text())
    meta["sha256"] = {name: sha256(folder / name) for name in meta["sha256"]}
    (folder / "worldflux_meta.json").write_text(json.dumps(meta))


def refused(folder):
    begun = time.monotonic()
    with pytest.raises(WorldFluxError) as caught:
        WorldModel.from_pretrained(folder)
    assert time.monotonic() - begun < 8
    return str(caught.value)


CONFIGS = {
    "a huge seed": {"seed": 2**70},
    "a huge learning rate": {"learning_rate": 10**90},
    "a learning rate beyond numbers": {"learning_rate": 10**400},
    "no learning rate": {"learning_rate": float("nan")},
    "a modality without a name": {"observation_modalities": {"": {"kind": "vector", "shape": [4]}}},
    "a modality with a dot": {"observation_modalities": {"a.b": {"kind": "vector", "shape": [4]}}},
    "terabytes of units": {"units": 2**20},
    "gigabytes of bins": {"bins": 2**33 + 1},
    "a million layers": {"encoder_layers": 10**6},
    "a huge observation": {"observation_modalities": {"obs": {"shape": [2**40]}}},
    "many modalities": {"observation_modalities": {f"o{i}": {"shape": [1]} for i in range(20_000)}},
    "more modalities": {"observation_modalities": {f"o{i}": {"shape": [1]} for i in range(100_000)}},
}


@pytest.mark.parametrize("what", CONFIGS)
def test_absurd_options_end_quickly_in_our_own_error(folder, what):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **CONFIGS[what]}))
    vouch(folder)
    if what == "a huge learning rate":  # large, but a number
        WorldModel.from_pretrained(folder)
    else:
        refused(folder)


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, torch.complex64, torch.bfloat16])
def test_weights_of_another_kind_are_refused_and_not_cast(folder, dtype):
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name, value in tensors.items() if value.dtype == torch.float32 and value.ndim > 1)
    save_file({**tensors, name: tensors[name].to(dtype)}, folder / "model.safetensors")
    vouch(folder)
    message = refused(folder)
    assert name in message and str(dtype) in message


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
def test_a_model_of_each_family_comes_back_by_its_earlier_loader(folder):
    assert all(map(torch.isfinite, (value.sum() for value in load_pretrained(folder).state_dict().values())))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "worldflux_meta.json"])
def test_a_pipe_or_a_link_elsewhere_in_place_of_a_file_is_refused(folder, tmp_path, name):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert "out of its folder" in refused(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "no plain file" in refused(folder)


@pytest.mark.parametrize("component", [5, None, ["x"], "os.system"])
def test_components_are_named_by_registered_ids_only(folder, component):
    meta = json.loads((folder / "worldflux_meta.json").read_text())
    (folder / "worldflux_meta.json").write_text(json.dumps({**meta, "components": {"decoder": component}}))
    refused(folder)


def test_what_another_thread_builds_meanwhile_is_not_counted(folder, monkeypatch):
    begun, built = [], []

    def build():
        begun.append(1)
        with torch.device("meta"):
            built.append(torch.nn.Linear(1 << 14, 1 << 14))

    def check(*given, check_fit=worldflux.saved.check_fit):
        thread = threading.Thread(target=build)
        thread.start()
        thread.join()
        check_fit(*given)

    monkeypatch.setattr("worldflux.saved.check_fit", check)
    WorldModel.from_pretrained(folder)
    assert begun and len(built) == len(begun)
