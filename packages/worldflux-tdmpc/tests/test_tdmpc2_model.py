"""The model as WorldFlux uses it: states, rewards on arrival, one sum of losses, tasks, images beside vectors."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

import worldflux
from worldflux.core.batch import Batch
from worldflux.core.errors import TrainingError
from worldflux.testing.echo import EchoWorld
from worldflux.training import Trainer, TrainingConfig
from worldflux.training.optim import build_optimizer
from worldflux_tdmpc import TwoPhaseAdam, objective


def build(**options):
    return worldflux.create_world_model("tdmpc2:ci", **{"obs_shape": (5,), "action_dim": 2, **options})


def shaken(model):
    """A copy whose heads are no longer zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def rows(model, size=6, steps=4, seed=0, **more) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    obs = {
        name: torch.randn(size, steps, *spec.shape, generator=generator)
        for name, spec in model.config.modalities.items()
        if name != "task"
    }
    if model.config.num_tasks > 1:
        task = torch.randint(model.config.num_tasks, (size, 1), generator=generator)
        obs["task"] = task.expand(-1, steps)
    actions = torch.rand(size, steps, model.config.action_dim, generator=generator) * 2 - 1
    rewards = torch.randn(size, steps, generator=generator)
    return Batch(obs=obs, actions=actions, rewards=rewards, is_terminal=torch.zeros(size, steps), **more)


def drawn(model, batch):
    window = objective.read_window(batch, obs=model.observations(batch.obs), actions=model.actions(batch.actions))
    return window, objective.draw_noise(model, window)


# --- states and rewards ------------------------------------------------------------------------------------------


def test_the_reward_of_a_transition_is_carried_by_the_state_it_leads_to():
    model = shaken(build())
    state, action = model.encode(torch.randn(3, 5)), torch.rand(3, 2)
    ahead, seen = model.transition(state, action), model.update(state, action, torch.randn(3, 5))
    paid = model.decode(ahead).preds["reward"]
    assert paid.abs().min() > 1e-4
    assert torch.equal(model.decode(seen).preds["reward"], paid)  # what was paid does not depend on what is seen
    assert not torch.equal(seen["latent"], ahead["latent"])
    bare = worldflux.State({"latent": ahead["latent"]})
    assert not model.decode(bare).preds["reward"].any()  # nothing says what led here


def test_latents_are_groups_of_simplices():
    latent = shaken(build()).encode(torch.randn(3, 5))["latent"]
    assert torch.allclose(latent.unflatten(-1, (-1, 8)).sum(-1), torch.ones(3, 8))
    assert latent.min() >= 0


def test_images_and_vectors_are_seen_together():
    modalities = {"image": {"shape": (3, 64, 64)}, "body": {"shape": (4,)}, "map": {"shape": (2, 3)}}
    model = shaken(build(observation_modalities=modalities))
    obs = {"image": torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)}
    obs |= {"body": torch.randn(2, 4), "map": torch.randn(2, 2, 3)}
    latent = model.encode(obs, deterministic=True)["latent"]
    for name in obs:
        changed = {**obs, name: torch.zeros_like(obs[name])}
        assert not torch.allclose(model.encode(changed, deterministic=True)["latent"], latent), name


def test_images_are_shifted_by_the_models_own_generator():
    model = shaken(build(obs_shape=(3, 64, 64)))
    image = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8)
    certain = model.encode(image, deterministic=True)["latent"]
    model.seed(1)
    first = model.encode(image)["latent"]
    model.seed(1)
    assert torch.equal(first, model.encode(image)["latent"])
    assert not torch.equal(first, certain)


# --- the sum of losses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"episodic": True}, {"num_tasks": 3}], ids=["one", "episodic", "tasks"])
def test_one_backward_reaches_every_parameter(options):
    model = shaken(build(**options)).train()
    model.loss(rows(model)).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_policys_loss_teaches_only_the_policy_and_no_other_loss_does():
    model = shaken(build(num_tasks=3)).train()
    window, noise = drawn(model, rows(model))
    found = objective.world_model_losses(model, window, noise)
    value, _ = objective.policy_losses(model, found.policy)
    taught = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    names = {name for (name, _), grad in zip(model.named_parameters(), taught) if grad is not None}
    assert names == {name for name, _ in model.named_parameters() if name.startswith("prior.")}
    others = torch.autograd.grad(found.total, list(model.prior.parameters()), allow_unused=True)
    assert others == (None,) * len(others)


def test_the_encoder_learns_from_the_first_row_only():
    model = shaken(build()).train()
    batch = rows(model)
    batch.obs["obs"].requires_grad_()
    model.loss(batch).loss.backward()
    reached = batch.obs["obs"].grad.abs().sum((0, 2)) > 0
    assert reached.tolist() == [True, False, False, False]


def test_two_heads_give_the_numbers_of_all_heads():
    plain = shaken(build(num_q=5, reference=True)).train()
    quick = copy.deepcopy(plain)
    quick.config.reference = False
    batch, found = rows(plain), []
    for model in (plain, quick):
        model.seed(3)
        out = model.loss(batch)
        out.loss.backward()
        found.append((out.loss, [p.grad for p in model.parameters()]))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[0][1], found[1][1]))


def test_dropout_is_off_in_targets_and_evaluation():
    model = shaken(build(dropout=0.5))
    batch = rows(model)
    window, noise = drawn(model.train(), batch)
    assert noise.value_keep is not None
    without = dataclasses.replace(noise, value_keep=None, policy_keep=None)
    assert torch.equal(*(objective.targets(model, window, n)[1] for n in (noise, without)))
    with_it, plain = (objective.world_model_losses(model, window, n).components["value"] for n in (noise, without))
    assert not torch.equal(with_it, plain)
    _, noise = drawn(model.eval(), batch)
    assert noise.value_keep is None and noise.policy_keep is None


def test_nothing_is_learnt_across_the_end_of_an_episode():
    model = shaken(build())
    first = torch.zeros(6, 4, dtype=torch.bool)
    first[:, 2] = True
    batch = rows(model, is_first=first)
    found = []
    for change in (0.0, 1.0):  # the rows of the other episode do not matter
        other = copy.deepcopy(batch)
        other.obs["obs"][:, 2:] += change
        other.rewards[:, 2:] += change
        other.actions[:, 2:] = 0.0
        window, noise = drawn(model.train(), other)
        model.seed(0)
        found.append(objective.world_model_losses(model, window, noise))
        assert window.valid.T[0].tolist() == [1.0, 0.0, 0.0]
    assert torch.equal(found[0].total, found[1].total)
    assert found[0].policy.valid.T[0].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_terminal_rows_stop_the_bootstrap():
    model = shaken(build())
    batch = rows(model)
    batch.is_terminal = torch.zeros(6, 4, dtype=torch.bool)
    batch.is_terminal[:, 1] = True
    window, noise = drawn(model, batch)
    _, target = objective.targets(model, window, noise)
    assert torch.equal(target[0], batch.rewards[:, 1])
    assert not torch.equal(target[1], batch.rewards[:, 2])


# --- the update ----------------------------------------------------------------------------------------------------


def optimizer_of(model, **options) -> TwoPhaseAdam:
    return build_optimizer(model, TrainingConfig().with_defaults({**model.training_defaults(), **options}))


def test_the_policy_is_judged_by_the_critics_that_have_stepped():
    model = shaken(build()).train()
    optimizer = optimizer_of(model)
    optimizer.zero_grad()
    model.seed(0)
    out = model.loss(rows(model))
    assert "policy" not in out.components
    out.loss.backward()
    assert all(p.grad is None for p in model.prior.parameters())
    before = [p.clone() for p in model.prior.parameters()]
    optimizer.step()
    assert "policy" in out.components
    assert {"scale", "entropy", "policy_grad_norm"} <= set(out.metrics)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.prior.parameters()))


def test_a_policy_that_cannot_learn_ends_the_training_before_it_is_stepped(tmp_path):
    model = shaken(build()).train()
    model.value_scale.value.fill_(torch.nan)
    before = [p.clone() for p in model.prior.parameters()]
    config = TrainingConfig(total_steps=1, batch_size=6, sequence_length=4, output_dir=str(tmp_path), device="cpu")
    with pytest.raises(TrainingError, match="policy's loss is nan.*go on from the last checkpoint"):
        Trainer(model, config).train(rows(model))
    assert all(torch.equal(a, b) for a, b in zip(before, model.prior.parameters()))


@pytest.mark.parametrize(("clip", "clipped"), [(1e-4, True), (0.0, False)])
def test_the_training_options_clip_the_policy_too(clip, clipped):
    model = shaken(build()).train()
    optimizer = optimizer_of(model, grad_clip=clip)
    optimizer.zero_grad()
    out = model.loss(rows(model))
    out.loss.backward()
    optimizer.step()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.prior.parameters()])
    assert out.metrics["policy_grad_norm"] > 1e-3
    assert float(norm) == pytest.approx(1e-4 if clipped else float(out.metrics["policy_grad_norm"]), rel=1e-2)


def test_an_update_that_was_never_stepped_keeps_no_graph_and_is_forgotten_by_the_next():
    model = shaken(build()).train()
    optimizer = optimizer_of(model)
    optimizer.zero_grad()
    model.loss(rows(model))
    copied = copy.deepcopy(model)  # which no tensor with a history allows
    assert len(copied.policy_phase.postponed) == 1
    optimizer.zero_grad()
    out = model.loss(rows(model))
    out.loss.backward()
    optimizer.step()
    assert "policy" in out.components
    assert "policy" in model.loss(rows(model)).components


def test_after_an_update_that_failed_another_optimizer_trains_the_policy_too():
    model = shaken(build()).train()
    optimizer_of(model).zero_grad()  # and no step
    model.loss(rows(model)).loss.backward()
    other = torch.optim.Adam(model.parameters(), lr=1e-3)
    other.step()
    model.on_after_optimizer_step()
    other.zero_grad()
    out = model.loss(rows(model))
    out.loss.backward()
    assert "policy" in out.components
    assert all(p.grad is not None for p in model.prior.parameters())


def test_a_frozen_policy_stays_as_it_is_and_the_model_learns():
    model = shaken(build()).train()
    model.prior.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    optimizer = optimizer_of(model)
    optimizer.zero_grad()
    model.loss(rows(model)).loss.backward()
    optimizer.step()
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not {name for name in changed if name.startswith("prior.")}
    assert {name.split(".")[0] for name in changed} == {"observation_encoder", "dynamics_model", "critics"}


def test_another_optimizer_trains_the_policy_too():
    model = shaken(build()).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [p.clone() for p in model.prior.parameters()]
    out = model.loss(rows(model))
    out.loss.backward()
    optimizer.step()
    assert "policy" in out.components
    assert all(not torch.equal(a, b) for a, b in zip(before, model.prior.parameters()))


def test_accumulated_losses_share_one_policy_step():
    gradients = []
    for pieces in ([0], [0, 0]):
        model = shaken(build(dropout=0.0)).train()
        model.value_scale.rate = 0.0
        optimizer = optimizer_of(model)
        optimizer.zero_grad()
        for seed in pieces:
            model.seed(0)
            (model.loss(rows(model, seed=seed)).loss / len(pieces)).backward()
        optimizer.step()
        gradients.append([p.grad for p in model.prior.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients))


def test_groups_have_the_official_rates():
    model = build()
    groups = optimizer_of(model).param_groups
    rate = model.config.learning_rate
    assert [group["lr"] for group in groups] == pytest.approx([0.3 * rate, rate, rate])
    assert [group["eps"] for group in groups] == [1e-8, 1e-8, 1e-5]
    assert [group.get("grad_clip") for group in groups] == [None, None, 20.0]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_targets_follow_by_averages_and_the_scale_only_in_training():
    model = shaken(build())
    own, target = model.critics[0].weight.detach().clone(), model.target_critics[0].weight.clone()
    model.on_after_optimizer_step()
    assert torch.allclose(model.target_critics[0].weight, target + 0.01 * (own - target), atol=1e-7)
    with torch.no_grad():
        model.critics[-1].weight.mul_(100)  # values far apart
    model.eval().loss(rows(model))
    assert float(model.value_scale.value) == 1.0
    model.train().loss(rows(model))
    assert float(model.value_scale.value) > 1.0


def test_the_scale_is_saved(tmp_path):
    model = build()
    model.value_scale.value.fill_(3.5)
    model.save_pretrained(tmp_path)
    assert float(worldflux.WorldModel.from_pretrained(tmp_path).value_scale.value) == 3.5


CONTINUOUS = {"action_dim": 3}
DISCRETE = {"action_spec": {"kind": "discrete", "dim": 3}, "prior": "categorical"}


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_it_learns_what_actions_pay_and_where_episodes_end(actions):
    model = worldflux.create_world_model("tdmpc2:ci", obs_shape=(6,), episodic=True, **actions).train()
    world, optimizer = EchoWorld(model.config.modalities, model.config.actions), optimizer_of(model)
    for update in range(80):
        optimizer.zero_grad()
        model.loss(world.batch(8, 8, seed=update)).loss.backward()
        optimizer.step()
        model.on_after_optimizer_step()
    done = world.actions(256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        preds = model.decode(model.transition(model.encode(world.start(256)), done)).preds
    ends, stops = world.ends(done)
    assert preds["continue"][ends].mean() < 0.75  # 6 of 10 of these end
    assert preds["continue"][stops].mean() > 0.75  # whose watching may end, but not they
    assert torch.corrcoef(torch.stack([preds["reward"], world.reward(done)]))[0, 1] > 0.8


# --- several tasks ---------------------------------------------------------------------------------------------


def test_a_task_is_told_by_its_observation_and_remembered():
    model = shaken(build(num_tasks=3))
    obs = {"obs": torch.zeros(3, 5), "task": torch.tensor([0, 1, 2])}
    state = model.encode(obs)
    ahead = model.transition(state, torch.zeros(3, 2))
    assert ahead["task"].tolist() == [0, 1, 2]
    assert not torch.allclose(ahead["latent"][0], ahead["latent"][1])
    assert model.rollout(state, torch.zeros(2, 3, 2)).states[-1]["task"].tolist() == [0, 1, 2]


def test_actions_that_a_task_lacks_are_zero():
    model = shaken(build(num_tasks=2, action_dims=(1, 2), mpc=False)).train()
    model.on_after_optimizer_step()
    state = model.encode({"obs": torch.zeros(2, 5), "task": torch.tensor([0, 1])})
    action = model.act(state, torch.ones(2, 2))
    assert (action != 0).tolist() == [[True, False], [True, True]]
    assert model.action_mask(state).tolist() == [[1, 0], [1, 1]]


def test_a_tasks_embedding_has_at_most_norm_one():
    model = build(num_tasks=3).train()
    with torch.no_grad():
        model.task_embedding.weight[1] *= 1000
    norm = model.embed(torch.tensor([1])).detach().norm()
    assert float(norm) == pytest.approx(1.0, abs=1e-5)
    before = model.task_embedding.weight.clone()
    batch = rows(model)
    batch.obs["task"] = torch.ones_like(batch.obs["task"])
    model.eval().loss(batch)
    assert torch.equal(model.task_embedding.weight, before)  # evaluation changes nothing
    model.train().loss(batch)
    assert float(model.task_embedding.weight[1].detach().norm()) <= 1.0
    assert torch.equal(model.task_embedding.weight[0], before[0])
