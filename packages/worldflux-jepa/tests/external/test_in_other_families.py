"""A pretrained encoder in the place of another family's own: it gives what that family asks for, and learns a layer."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import worldflux
from worldflux import Batch, ConfigurationError, WorldModelRegistry
from worldflux.core.registry import ComponentSpec
from worldflux_jepa.external.part import part_of, wanted
from worldflux_jepa.jepa import JEPA, JEPAConfig

from .conftest import weights_of

part = partial(part_of, weights_of(), pool="mean")
SHAPES = {"observation_modalities": {"image": {"kind": "image", "shape": (3, 64, 64)}, "speed": {"shape": (2,)}}}


def make_batch(specs, *, rows=4, dim=2):
    generator = torch.Generator().manual_seed(0)
    obs = {
        name: torch.randint(0, 256, (3, rows, *spec.shape), dtype=torch.uint8, generator=generator)
        if spec.kind.value == "image"
        else torch.rand(3, rows, *spec.shape, generator=generator)
        for name, spec in specs.items()
    }
    flags = torch.zeros(3, rows, dtype=torch.bool)
    actions = torch.rand(3, rows, dim, generator=generator)
    rewards = torch.rand(3, rows, generator=generator)
    return Batch(obs=obs, actions=actions, rewards=rewards, is_first=flags, is_last=flags, is_terminal=flags)


@pytest.mark.parametrize("family", ["dreamer", "tdmpc2"])
@pytest.mark.parametrize("shapes", [SHAPES, {"obs_shape": (3, 64, 64)}], ids=["with vectors", "images alone"])
def test_it_takes_the_place_of_the_encoder(family, shapes):
    pytest.importorskip({"dreamer": "worldflux_dreamer", "tdmpc2": "worldflux_tdmpc"}[family])
    overrides = {"observation_encoder": part}
    model = worldflux.create_world_model(f"{family}:ci", action_dim=2, component_overrides=overrides, **shapes)
    batch = make_batch(model.config.modalities)
    model.loss(batch).loss.backward()
    layer = model.observation_encoder.layer
    assert layer.weight.grad is not None and bool(layer.weight.grad.abs().sum() > 0)
    first = {name: value[:, 0] for name, value in batch.obs.items()}
    ahead = model.rollout(model.encode(first), torch.zeros(2, 3, 2))
    assert len(ahead.states) == 3


def test_latents_of_simplices_stay_simplices():
    pytest.importorskip("worldflux_tdmpc")
    model = worldflux.create_world_model(
        "tdmpc2:ci", obs_shape=(3, 64, 64), action_dim=2, component_overrides={"observation_encoder": part}
    )
    latent = model.encode(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))["latent"]
    assert torch.allclose(latent.unflatten(-1, (-1, model.config.simnorm_dim)).sum(-1), torch.ones(2, 8))


SMALL = {"encoder": "external", "predictor": "mlp", "history": 1, "units": 16, "depth": 1, "head_units": 0}
PICTURES = {"obs_shape": (3, 16, 16), "action_dim": 2, "directions": 8}


def jepa(**more):
    return JEPA(JEPAConfig(**{**SMALL, **PICTURES, "latent_dim": 12, **more}))


def test_a_jepa_predicts_in_its_space():
    model = jepa(target="frozen", regulariser="none")
    model.set_component("observation_encoder", part)
    batch = make_batch(model.config.modalities)
    model.loss(batch).loss.backward()
    assert not list(model.observation_encoder.parameters())
    assert torch.equal(
        model.encode(batch.obs["obs"][:, 0])["latent"],
        model.observation_encoder.features({"obs": batch.obs["obs"]})[:, 0],
    )


def test_a_jepa_learns_a_layer_behind_it():
    model = JEPA(
        JEPAConfig(
            **PICTURES,
            encoder="cnn",
            channels=(4,),
            projector_units=8,
            latent_dim=10,
            head_units=0,
            predictor="mlp",
            history=1,
            units=16,
            depth=1,
            latent_norm="batch",
        )
    )
    model.set_component("observation_encoder", part)
    model.loss(make_batch(model.config.modalities)).loss.backward()
    assert model.observation_encoder.layer.out_features == 10
    assert bool(model.observation_encoder.layer.weight.grad.abs().sum() > 0)


def test_a_jepa_predicts_the_latents_of_all_patches():
    model = jepa(target="frozen", regulariser="none", tokens=4, predictor="concat", history=2, heads=2, head_dim=8)
    model.set_component("observation_encoder", partial(part_of, weights_of(), pool="patches"))
    assert model.encode(make_batch(model.config.modalities).obs["obs"][:, 0])["latent"].shape == (3, 4, 12)


def test_a_frozen_target_of_another_width_is_refused():
    with pytest.raises(ConfigurationError, match="latent_dim=12"):
        jepa(target="frozen", regulariser="none", latent_dim=10).set_component("observation_encoder", part)


def test_another_number_of_latents_is_refused():
    with pytest.raises(ConfigurationError, match="tokens=4"):
        jepa().set_component("observation_encoder", partial(part_of, weights_of(), pool="patches"))


def test_a_model_of_vectors_alone_is_refused():
    pytest.importorskip("worldflux_tdmpc")
    with pytest.raises(ConfigurationError, match="observes none"):
        worldflux.create_world_model(
            "tdmpc2:ci", obs_shape=(4,), action_dim=2, component_overrides={"observation_encoder": part}
        )


def test_what_the_family_asks_for_is_its_own_encoders_answer():
    pytest.importorskip("worldflux_dreamer")
    model = worldflux.create_world_model("dreamer:ci", obs_shape=(3, 64, 64), action_dim=2)
    own = model.observation_encoder.encode({"obs": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)})
    assert wanted(model.config) == ("tokens", tuple(own["tokens"].shape[1:]))


@pytest.fixture
def registered():
    before = WorldModelRegistry.snapshot()
    spec = ComponentSpec(name="tests.pretrained", component_type="observation_encoder")
    WorldModelRegistry.register_component("tests.pretrained", part, spec)
    yield "tests.pretrained"
    WorldModelRegistry.restore(before)


def test_with_an_id_it_is_saved_and_comes_back_without_the_encoders_weights(registered, tmp_path):
    pytest.importorskip("worldflux_tdmpc")
    model = worldflux.create_world_model(
        "tdmpc2:ci", obs_shape=(3, 64, 64), action_dim=2, component_overrides={"observation_encoder": registered}
    ).eval()
    names = [name for name in model.state_dict() if name.startswith("observation_encoder.")]
    assert {name.rpartition(".")[2] for name in names} == {"digest", "weight", "bias"}
    again = worldflux.create_world_model(str(model.save_pretrained(tmp_path / "saved")))
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(*(m.encode(image, deterministic=True)["latent"] for m in (model, again)))
