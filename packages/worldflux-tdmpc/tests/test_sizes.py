"""Sizes, labels and initial weights."""

from __future__ import annotations

import pytest
import torch

from worldflux import get_config, get_model_info
from worldflux_tdmpc import TDMPC2, TDMPC2Config
from worldflux_tdmpc.tdmpc2 import twohot
from worldflux_tdmpc.tdmpc2.networks import joined

# preset -> parameters of the official program: one task (24 numbers, 6 actions), mt80, mt30
OFFICIAL = {
    "1m": (1_214_651, 1_435_067, 1_426_427),
    "5m": (4_960_618, 5_389_930, 5_241_066),
    "19m": (18_062_442, 18_970_218, 16_031_210),
    "48m": (47_208_298, 48_791_146, 48_242_410),
    "317m": (312_595_417, 317_383_129, 317_316_889),
}
PARTS = {
    "observation_encoder": 139_520, "dynamics_model.latent": 794_112, "dynamics_model.reward": 582_245,
    "prior": 533_516, "critics": 2_911_225, "decoder.termination": 527_873,
}  # fmt: skip


def on_meta(size: str, **options) -> TDMPC2:
    with torch.device("meta"):
        return TDMPC2(TDMPC2Config.from_size(size, **{"action_dim": 6, **options}))


@pytest.mark.parametrize("size", OFFICIAL)
def test_parameters_are_counted_as_officially(size):
    single, mt80, mt30 = OFFICIAL[size]
    assert on_meta(size, obs_shape=(24,)).num_parameters() == single
    assert on_meta(size, obs_shape=(39,), num_tasks=80, task_dim=96).num_parameters() == mt80
    smaller = {"latent_dim": 512} if size == "19m" else {}  # the official exception
    assert on_meta(size, obs_shape=(24,), num_tasks=30, **smaller).num_parameters() == mt30


def test_each_part_is_counted_as_officially():
    model = on_meta("5m", obs_shape=(24,), episodic=True)
    for part, count in PARTS.items():
        found = sum(p.numel() for name, p in model.named_parameters() if name.startswith(f"{part}."))
        assert found == count, part
    assert model.num_parameters() == sum(PARTS.values())


def test_the_largest_task_is_counted_as_officially():
    assert on_meta("5m", obs_shape=(223,), action_dim=38).num_parameters() == 5_159_082


PRESETS = ("ci", "5m", "proof_5m", "5m_legacy", "1m", "19m", "48m", "317m")


@pytest.mark.parametrize("size", PRESETS)
def test_the_label_is_within_a_quarter_of_the_count(size):
    label = get_model_info(f"tdmpc2:{size}")["params"]
    assert label.startswith("~")
    assert label.endswith("M")
    assert abs(on_meta(size).num_parameters() / (float(label[1:-1]) * 1e6) - 1) <= 0.25


def test_proof_and_legacy_are_the_model_of_5m():
    configs = [get_config(f"tdmpc2:{size}") for size in ("5m", "proof_5m", "5m_legacy")]
    assert configs[0] == configs[1] == configs[2]


def test_initial_weights_have_the_official_distribution():
    model = TDMPC2(TDMPC2Config.from_size("1m", obs_shape=(24,), num_tasks=3))
    for name, value in model.state_dict().items():
        if name.startswith("target_critics.") or name in ("updates", "value_scale.value"):
            continue
        if "ln." in name:
            assert torch.equal(value, torch.full_like(value, float(name.endswith("weight")))), name
        elif name.endswith("bias") or name in ("dynamics_model.reward.2.weight", "critics.2.weight"):
            assert not value.any(), name
        elif name == "task_embedding.weight":
            assert value.abs().max() <= 0.02
            assert value.std() == pytest.approx(0.02 / 3**0.5, rel=0.1)
        else:
            assert value.std() == pytest.approx(0.02, rel=0.1), name
            assert abs(value.mean()) < 0.002, name
    own, target = dict(model.critics.named_parameters()), dict(model.target_critics.named_buffers())
    assert set(own) == set(target)
    assert all(torch.equal(value, target[name]) for name, value in own.items())


def test_at_first_every_reward_and_value_is_zero():
    model = TDMPC2(TDMPC2Config.from_size("ci", obs_shape=(5,), action_dim=2))
    ahead = model.transition(model.encode(torch.randn(4, 5)), torch.randn(4, 2).clamp(-1, 1))
    x = joined(ahead["latent"], None, torch.zeros(4, 2))
    assert model.decode(ahead).preds["reward"].abs().max() < 1e-6
    assert twohot.decode(model.critics(x), limit=10.0).abs().max() < 1e-6


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    images = {"observation_modalities": {"image": {"shape": (3, 64, 64)}, "body": {"shape": (4,)}}}
    models = [TDMPC2(TDMPC2Config.from_size("ci", seed=seed, num_tasks=2, **images)) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.isfinite(weights[0]).all()
