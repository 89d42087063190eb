"""Sizes, labels and initial weights."""

from __future__ import annotations

import json
import math
import sys
from importlib import resources

import pytest
import torch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from worldflux_dreamer import DreamerV3, DreamerV3Config
from worldflux_dreamer.dreamerv3.official import official_names

OURS = {
    "enc": ("observation_encoder",), "dyn": ("dynamics_model", "posterior"), "rew": ("decoder.reward",),
    "con": ("decoder.cont",), "pol": ("actor",), "val": ("critic",), "slowval": ("slow_critic",),
}  # fmt: skip
SPACES = {
    "image64_disc6": {"obs_shape": (3, 64, 64), "action_dim": 6, "action_type": "discrete"},
    "proprio24_cont6": {"obs_shape": (24,), "action_dim": 6},
}


def module_of(name: str) -> str:
    return next((module for module, ours in OURS.items() if name.startswith(ours)), "dec")


def on_meta(size: str, **options) -> DreamerV3:
    with torch.device("meta"):
        return DreamerV3(DreamerV3Config.from_size(size, **options))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("size", ["size1m", "size12m", "size25m", "size50m", "size100m", "size200m", "size400m"])
def test_parameters_are_counted_as_officially(space, size, recordings):
    recorded = json.loads((recordings / "dreamerv3_params.json").read_text())[space]["sizes"][size]
    counts = dict.fromkeys((*OURS, "dec"), 0)
    tensors = dict(counts)
    for name, parameter in on_meta(size, **SPACES[space]).named_parameters():
        counts[module_of(name)] += parameter.numel()
        tensors[module_of(name)] += 1
    assert counts == {name: recorded[name] for name in counts}
    assert {name: tensors[name] for name in recorded["tensors"]} == recorded["tensors"]
    assert sum(counts.values()) - counts["slowval"] == recorded["total"]


def presets() -> dict[str, dict]:
    manifest = tomllib.loads(resources.files("worldflux_dreamer").joinpath("worldflux.toml").read_text())
    return manifest["models"][0]["presets"]


@pytest.mark.parametrize("size", presets())
def test_the_label_is_within_a_quarter_of_the_count(size):
    label = presets()[size]["params"]
    count = sum(p.numel() for p in on_meta(size).parameters() if p.requires_grad)
    assert label.startswith("~")
    assert label.endswith("M")
    assert abs(count / (float(label[1:-1]) * 1e6) - 1) <= 0.25


def test_official_xl_has_the_shape_of_the_official_default():
    assert presets()["official_xl"]["config"] == presets()["size200m"]["config"]


def test_initial_weights_have_the_official_statistics(case):
    model = DreamerV3(case.model().config)
    state = model.state_dict()
    for official, own in official_names(model).items():
        if official.startswith(("retnorm", "slowval")):
            continue
        recorded, value = case.meta["official_init_stats"][official], state[own]
        assert value.numel() == math.prod(recorded["shape"]), official
        assert value.abs().max() <= 1.1 * recorded["absmax"] + 1e-8 if value.numel() > 500 else True, official
        if value.numel() > 500:  # a tenth is five deviations of the estimate
            assert value.std() == pytest.approx(recorded["std"], rel=0.1), official
            assert abs(value.mean()) <= 0.2 * recorded["std"] + 1e-8, official
        if recorded["std"] == 0:
            assert (value == recorded["mean"]).all(), official
    assert all(torch.equal(a, b) for a, b in zip(model.critic.parameters(), model.slow_critic.parameters()))


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one, same, other = (DreamerV3(DreamerV3Config.from_size("ci", obs_shape=(4,), seed=s)) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
