"""What PlaNet minimises: divergences, free nats, predictions further ahead, and which row belongs to which."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from worldflux import Batch, State
from worldflux.blocks import Arrivals, arrivals, gaussian_kl
from worldflux_dreamer.planet import PlaNet, PlaNetConfig, rssm
from worldflux_dreamer.planet.codec import read_pixels
from worldflux_dreamer.planet.losses import averaged, free, half_squared_error
from worldflux_dreamer.planet.model import Noise

SIZES = {"deter_dim": 12, "stoch_dim": 3, "hidden_dim": 10, "reward_units": 8, "depth": 2, "free_nats": 0.0}


def build(**options) -> PlaNet:
    return PlaNet(PlaNetConfig(**{**SIZES, "obs_shape": (5,), "action_dim": 2, **options})).eval()


def make_batch(size: int = 2, rows: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        obs={"obs": torch.randn(size, rows, 5, generator=generator)},
        actions=torch.rand(size, rows, 2, generator=generator),
        rewards=torch.randn(size, rows, generator=generator),
        is_first=torch.zeros(size, rows, dtype=torch.bool),
    )


def read(model: PlaNet, batch: Batch) -> Arrivals:
    return arrivals(model.checked(batch), from_nothing=True)


def observe(model: PlaNet, batch: Batch) -> rssm.Trace:
    rows = read(model, batch)
    return rssm.observe(
        model.dynamics_model, model.action_conditioner, model.posterior, start=model.initial_state(len(rows.reward)),
        action=rows.action, is_first=rows.is_first, tokens=model.tokens(rows.obs), noise=None,
    )  # fmt: skip


def overshoot(model: PlaNet, batch: Batch, trace: rssm.Trace) -> Tensor:
    rows, config = read(model, batch), model.config
    return rssm.overshoot(
        model.dynamics_model, model.action_conditioner, trace, action=rows.action, is_first=rows.is_first, weight=None,
        noise=None, distance=config.overshooting, free_nats=config.free_nats, min_std=config.min_std,
    )  # fmt: skip


def loss_of(model: PlaNet, batch: Batch) -> dict[str, Tensor]:
    model.seed(0)
    return model.loss(batch).components


# --- functions of tensors -----------------------------------------------------------------------------------------


def test_the_divergence_is_that_of_torchs_normals():
    first, second = ((torch.randn(4, 3), torch.rand(4, 3) + 0.1) for _ in range(2))
    normals = [torch.distributions.Normal(*pair) for pair in (first, second)]
    expected = torch.distributions.kl_divergence(*normals).sum(-1)
    torch.testing.assert_close(gaussian_kl(first, second), expected)
    assert float(gaussian_kl(first, first).abs().max()) < 1e-6
    by_hand = 0.5 * (0.25 + 0.25 - 1) + math.log(2.0)  # N(1, 1) to N(0, 2)
    one, zero, two = torch.ones(1), torch.zeros(1), torch.full((1,), 2.0)
    assert float(gaussian_kl((one, one), (zero, two))) == pytest.approx(by_hand)


def test_free_nats_cost_nothing_and_teach_nothing():
    divergence = torch.tensor([0.5, 2.9, 3.1, 7.0], requires_grad=True)
    value = free(divergence, 3.0)
    value.sum().backward()
    torch.testing.assert_close(value.detach(), torch.tensor([3.0, 3.0, 3.1, 7.0]))
    assert divergence.grad.tolist() == [0.0, 0.0, 1.0, 1.0]


def test_within_the_free_nats_the_prior_does_not_learn():
    grads = []
    for nats in (0.0, 50.0):
        model = build(free_nats=nats)
        out = model.loss(make_batch())
        out.loss.backward()
        grads.append(model.dynamics_model.prior.out.kernel.grad)
        assert float(out.components["kl"]) >= nats
        assert float(out.metrics["kl_raw"]) < 50
    assert float(grads[0].abs().max()) > 0
    assert grads[1] is None or float(grads[1].abs().max()) == 0


def test_the_reconstruction_is_half_the_squared_error_summed_over_events():
    mean, target = torch.zeros(2, 3, 4, 5), torch.full((2, 3, 4, 5), 2.0)
    torch.testing.assert_close(half_squared_error(mean, target, rank=2), torch.full((2, 3), 40.0))
    torch.testing.assert_close(half_squared_error(mean, target, rank=0), torch.full((2, 3, 4, 5), 2.0))


def test_rows_count_by_their_weight():
    values = torch.tensor([[1.0, 3.0], [5.0, 100.0]])
    assert float(averaged(values, torch.tensor([[1.0, 1.0], [1.0, 0.0]]))) == pytest.approx(3.0)
    assert float(averaged(values, torch.zeros(2, 2))) == 0.0


def test_pixels_lose_their_last_bits_and_get_noise_for_them():
    image = torch.arange(256, dtype=torch.uint8)
    read5 = read_pixels(image, 5, None)
    torch.testing.assert_close(read5, (torch.arange(256) // 8 + 0.5) / 32)
    noise = torch.rand(256)
    torch.testing.assert_close(read_pixels(image, 5, noise), (torch.arange(256) // 8 + noise) / 32)
    assert float((read_pixels(image, 8, None) - image / 256).abs().max()) < 1 / 256
    given = torch.rand(7)
    assert torch.equal(read_pixels(given, 5, noise), given)


# --- what follows what --------------------------------------------------------------------------------------------


def test_a_row_follows_the_action_of_the_row_before():
    model, batch = build(), make_batch()
    trace = observe(model, batch)
    state = model.encode({"obs": batch.obs["obs"][:, 0]}, deterministic=True)
    for t in range(6):
        torch.testing.assert_close(trace.state["deter"][:, t], state["deter"])
        torch.testing.assert_close(trace.state["stoch"][:, t], state["stoch"])
        if t < 5:
            state = model.update(state, batch.actions[:, t], {"obs": batch.obs["obs"][:, t + 1]}, deterministic=True)


def test_the_reward_is_that_of_arriving():
    model, batch = build(), make_batch()
    trace = observe(model, batch)
    targets = {"obs": batch.obs["obs"], **model.decoder.arrival(trace.state)}
    assert float(model.decoder.losses(trace.state, targets)["rew"].detach().abs().max()) < 1e-9
    batch.rewards = targets["reward"].detach()
    deterministic = model.loss_given(read(model, batch), Noise())
    assert float(deterministic.components["rew"]) < 1e-9


def test_states_are_causal():
    model, batch = build(), make_batch()
    changed = copy.deepcopy(batch)
    changed.obs["obs"][:, 4:] += 1
    changed.actions[:, 3:] += 1
    one, two = observe(model, batch), observe(model, changed)
    for name in ("deter", "stoch"):
        assert torch.equal(one.state[name][:, :4], two.state[name][:, :4])
        assert not torch.equal(one.state[name][:, 4], two.state[name][:, 4])


def test_a_first_row_forgets_what_came_before():
    model, batch = build(), make_batch()
    batch.is_first[:, 3] = True
    changed = copy.deepcopy(batch)
    changed.obs["obs"][:, :3] += 1
    changed.actions[:, :3] += 1
    one, two = observe(model, batch), observe(model, changed)
    for name in ("deter", "stoch"):
        assert torch.equal(one.state[name][:, 3:], two.state[name][:, 3:])
        assert not torch.equal(one.state[name][:, 2], two.state[name][:, 2])


def test_masked_rows_teach_nothing():
    model, batch, found = build(overshooting=3), make_batch(), []
    batch.mask = torch.ones(2, 6)
    batch.mask[1, 4:] = 0
    for value in (0.0, 50.0):
        batch.rewards[1, 4:] = value
        batch.obs["obs"][1, 4:] = value
        found.append(loss_of(model, batch))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], msg=name)


# --- overshooting -------------------------------------------------------------------------------------------------


def test_overshooting_is_off_by_default_and_adds_a_loss_where_it_is_on():
    batch = make_batch()
    assert "overshooting" not in loss_of(build(), batch)
    off, on = build(), build(overshooting=3, overshooting_scale=2.0)
    plain, more = loss_of(off, batch), loss_of(on, batch)
    assert float(more["overshooting"]) > 0
    on.seed(0)
    off.seed(0)
    added = float((on.loss(batch).loss - off.loss(batch).loss).detach())
    assert added == pytest.approx(2.0 * float(more["overshooting"]), rel=1e-4)
    assert all(torch.equal(plain[name], more[name]) for name in plain)


def test_overshooting_holds_each_prediction_to_the_row_it_is_of():
    model, batch = build(overshooting=3), make_batch()
    trace = observe(model, batch)
    expected = []
    for start in range(6):
        state = State({name: value[:, start] for name, value in trace.state.tensors.items()})
        for steps in range(1, 4):
            if start + steps > 5:
                break
            action = {"action": batch.actions[:, start + steps - 1]}
            state = model.dynamics_model.transition(state, action, deterministic=True)
            if steps > 1:
                seen = tuple(value[:, start + steps] for value in trace.post)
                expected.append(gaussian_kl(seen, (state["mean"], state["std"])))
    torch.testing.assert_close(overshoot(model, batch, trace), torch.stack(expected).mean())


def test_overshooting_does_not_run_into_another_episode():
    model, batch = build(overshooting=5), make_batch(rows=4)  # no row is two steps ahead in its episode
    batch.is_first[:, 2] = True
    assert float(overshoot(model, batch, observe(model, batch)).detach()) == 0.0
    batch.is_first[:, 2] = False
    assert float(overshoot(model, batch, observe(model, batch)).detach()) > 0


def test_overshooting_teaches_the_dynamics_and_not_the_posterior_it_is_held_to():
    model, batch = build(overshooting=3), make_batch()
    trace = observe(model, batch)
    trace.state = trace.state.map(torch.Tensor.detach)  # what it starts from may learn, too
    overshoot(model, batch, trace).backward()
    assert float(model.dynamics_model.prior.out.kernel.grad.abs().max()) > 0
    assert all(p.grad is None for p in model.posterior.parameters())
    assert all(p.grad is None for p in model.observation_encoder.parameters())
