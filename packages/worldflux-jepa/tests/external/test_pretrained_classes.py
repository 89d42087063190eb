"""Each class of ``transformers`` on the list, tiny and random: built, asked, and refused where files are damaged."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from worldflux import CheckpointError, create_world_model
from worldflux_jepa.external import FrozenEncoder, weights_at

from .conftest import CLASSES

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", CLASSES)
def test_a_folder_becomes_the_network_it_was(written, name):
    place = written(name)
    weights = weights_at(place)
    encoder = FrozenEncoder(weights)
    theirs = getattr(transformers, weights.kind.class_name).from_pretrained(place, local_files_only=True).eval()
    pixels = torch.rand(2, 3, 16, 16)
    given = {"pixel_values": pixels}
    if weights.kind.video:
        given = {"pixel_values_videos": pixels.unsqueeze(1).expand(-1, 2, -1, -1, -1)}
    with torch.no_grad():
        hidden = theirs(**given, **weights.kind.call).last_hidden_state
    assert torch.equal(encoder.patches(pixels), hidden[:, weights.prefix :])
    assert encoder.patches(pixels).shape == (2, 4, weights.width)


def test_nobodys_generator_is_drawn_from(written):
    encoder = FrozenEncoder(weights_at(written("dinov2")))
    before = torch.get_rng_state()
    encoder.patches(torch.zeros(1, 3, 16, 16))
    assert torch.equal(before, torch.get_rng_state())


def _changed(place, change):
    tensors = load_file(place / "model.safetensors")
    save_file(change(tensors), place / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_lack_a_tensor_are_refused_by_name(written):
    place = written("dinov2")
    _changed(place, lambda tensors: {name: x for name, x in tensors.items() if "mlp.fc1" not in name})
    with pytest.raises(CheckpointError, match=r"mlp\.fc1"):
        weights_at(place).network()


def test_weights_of_another_depth_are_refused(written):
    place = written("vit")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(CheckpointError, match="another depth"):
        weights_at(place).network()


def test_weights_of_other_shapes_are_refused(written):
    place = written("dinov2")
    _changed(place, lambda tensors: {name: x[..., :-1].contiguous() for name, x in tensors.items()})
    with pytest.raises(CheckpointError):
        weights_at(place).network()


def test_damaged_files_are_refused(written):
    place = written("dinov2")
    os.truncate(place / "model.safetensors", 100)
    with pytest.raises(CheckpointError, match="can be read"):
        weights_at(place).network()


@pytest.mark.parametrize("name", ["dinov2", "vjepa2"])
def test_the_family_of_a_folder_is_saved_without_its_weights_and_comes_back(written, tmp_path, name):
    place = written(name)
    model = create_world_model(f"external:{name}", source=str(place), obs_shape=(3, 16, 16))
    image = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    saved = model.save_pretrained(tmp_path / "saved")
    assert (saved / "model.safetensors").stat().st_size < 1000
    known = json.loads((saved / "config.json").read_text())
    assert known["encoder_config"]["model_type"] == weights_at(place).kind.model_type
    assert known["weights_sha256"] == weights_at(place).digest
    again = create_world_model(str(saved))
    assert torch.equal(model.encode(image)["latent"], again.encode(image)["latent"])


def test_a_saved_model_does_not_take_other_weights_for_its_own(written, tmp_path):
    place = written("dinov2")
    model = create_world_model("external:dinov2", source=str(place), obs_shape=(3, 16, 16))
    saved = model.save_pretrained(tmp_path / "saved")
    _changed(place, lambda tensors: {name: x + 1 for name, x in tensors.items()})
    with pytest.raises(ValueError, match="SHA-256"):
        create_world_model(str(saved))


def test_untrained_it_is_the_same_class_with_other_weights(written):
    model = create_world_model("external:dinov2", source=str(written("dinov2")), obs_shape=(3, 16, 16))
    image = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    first, second = (model.untrained().encode(image)["latent"] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.allclose(first, model.encode(image)["latent"])
