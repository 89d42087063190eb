"""Every part gives the official numbers: networks, critics, policy, two-hot coding, scale, TD target."""

from __future__ import annotations

import torch

from worldflux.blocks import percentiles, symexp, symlog
from worldflux_tdmpc.tdmpc2 import twohot
from worldflux_tdmpc.tdmpc2.encoder import shifted
from worldflux_tdmpc.tdmpc2.networks import RunningScale, joined
from worldflux_tdmpc.tdmpc2.window import Noise

BINS, LIMIT = 31, 10.0


def test_parameters_are_counted_as_officially(case):
    assert case.model().num_parameters() == case.meta["trainable_params"]


def test_the_latent(case, agrees):
    model = case.model()
    agrees(case.state(model)["latent"], case["z"])


def test_an_image_is_shifted_as_recorded_and_not_at_all_when_deterministic(cases, agrees):
    case = cases("rgb")
    agrees(shifted(case["obs"], case["shift"]).float(), case["obs_aug"])
    agrees(case.model().encode(case["obs"], deterministic=True)["latent"], case["z_noaug"])


def test_the_next_latent_carries_the_reward_of_the_action(case, agrees):
    model = case.model()
    ahead = model.transition(case.state(model), case["action"])
    agrees(ahead["latent"], case["z_next"])
    agrees(ahead["reward_logits"], case["reward_logits"])
    agrees(model.decode(ahead).preds["reward"], case["reward"])


def test_where_nothing_led_to_a_state_it_pays_nothing(case):
    model = case.model()
    assert model.decode(case.state(model)).preds["reward"].abs().max() < 1e-6


def test_the_end_of_an_episode(cases, agrees):
    case = cases("episodic")
    model = case.model()
    state = case.state(model)
    agrees(model.decoder.termination(state["latent"]), case["termination_logits"])
    agrees(1 - model.decode(state).preds["continue"], case["termination_prob"])


def test_the_critics(case, agrees):
    model = case.model()
    x = joined(case.state(model)["latent"], model.embed(case.task), case["action"])
    for critics, name in ((model.critics, "q"), (model.target_critics, "target_q")):
        logits = critics(x)
        agrees(logits, case[f"{name}_logits"])
        agrees(twohot.decode(logits, limit=LIMIT), case[f"{name}_values"])
        two = twohot.decode(model.two_heads(critics, x, case["q_idx"]), limit=LIMIT)
        agrees(two.amin(0), case[f"{name}_min"])
        agrees(two.mean(0), case[f"{name}_avg"])


def test_the_policy(case, agrees):
    model = case.model()
    state, mask = case.state(model), model.mask_of(case.task)
    x = joined(state["latent"], model.embed(case.task))
    mean, log_std = model.prior.moments(x, mask)
    agrees(model.prior.net(x), case["pi_out"])
    agrees(mean, case["pi_mean"])
    agrees(log_std, case["pi_log_std"])
    action, entropy = model.prior.sample(x, case["pi_eps"], mask)
    agrees(action, case["pi_action"])
    agrees(entropy, case["pi_scaled_entropy"])
    agrees(model.act(state, None), case["pi_mean_squashed"])


def test_numbers_as_two_bins(case, agrees):
    x, logits = case["math/x"].squeeze(-1), case["math/logits"]
    agrees(symlog(x), case["math/symlog"])
    agrees(symexp(symlog(x)), case["math/symexp"])
    agrees(twohot.encode(x, bins=BINS, limit=LIMIT), case["math/two_hot"])
    agrees(twohot.decode(logits, limit=LIMIT), case["math/two_hot_inv"])
    agrees(twohot.cross_entropy(logits, x, limit=LIMIT), case["math/soft_ce"])


def test_the_scale_of_values(case, agrees):
    scale = RunningScale(0.01)
    agrees(torch.stack(percentiles(case["scale/x"], 5.0, 95.0)), case["scale/percentiles"])
    scale.update(case["scale/x"])
    agrees(scale.value.reshape(1), case["scale/value"])


def test_the_td_target(case, agrees):
    shift = case.get("td/shift")
    noise = Noise(
        case["td/eps"], case["td/q_idx"], case["td/eps"], case["td/q_idx"],
        None if shift is None else torch.cat([shift[:1], shift]),
    )  # fmt: skip
    seen, target = case.model().targets(case.window(), noise)
    agrees(seen, case["td/next_z"])
    agrees(target, case["td/target"])
