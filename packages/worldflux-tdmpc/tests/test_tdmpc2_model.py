"""The model as WorldFlux uses it: states, rewards on arrival, one sum of losses, tasks, images beside vectors."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch

import worldflux
from worldflux.core.errors import ValidationError
from worldflux.testing.echo import EchoWorld
from worldflux.testing.learner import Learner
from worldflux_tdmpc.tdmpc2 import twohot

# --- states and rewards ------------------------------------------------------------------------------------------


def test_the_reward_of_a_transition_is_carried_by_the_state_it_leads_to(build, shaken):
    model = shaken(build())
    state, action = model.encode(torch.randn(3, 5)), torch.rand(3, 2)
    ahead, seen = model.transition(state, action), model.update(state, action, torch.randn(3, 5))
    paid = model.decode(ahead).preds["reward"]
    assert paid.abs().min() > 1e-4
    assert torch.equal(model.decode(seen).preds["reward"], paid)  # what was paid does not depend on what is seen
    assert not torch.equal(seen["latent"], ahead["latent"])
    bare = worldflux.State({"latent": ahead["latent"]})
    assert not model.decode(bare).preds["reward"].any()  # nothing says what led here


def test_latents_are_groups_of_simplices(build, shaken):
    latent = shaken(build()).encode(torch.randn(3, 5))["latent"]
    assert torch.allclose(latent.unflatten(-1, (-1, 8)).sum(-1), torch.ones(3, 8))
    assert latent.min() >= 0


def test_images_and_vectors_are_seen_together(build, shaken):
    modalities = {"image": {"shape": (3, 64, 64)}, "body": {"shape": (4,)}, "map": {"shape": (2, 3)}}
    model = shaken(build(observation_modalities=modalities))
    obs = {"image": torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)}
    obs |= {"body": torch.randn(2, 4), "map": torch.randn(2, 2, 3)}
    latent = model.encode(obs, deterministic=True)["latent"]
    for name in obs:
        changed = {**obs, name: torch.zeros_like(obs[name])}
        assert not torch.allclose(model.encode(changed, deterministic=True)["latent"], latent), name


def test_images_are_shifted_by_the_models_own_generator(build, shaken):
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
def test_one_backward_reaches_every_parameter(options, build, shaken, rows):
    model = shaken(build(**options)).train()
    model.loss(rows(model)).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_policys_loss_teaches_only_the_policy_and_no_other_loss_does(build, shaken, rows):
    model = shaken(build(num_tasks=3)).train()
    window, noise = model.drawn(rows(model))
    world, latents = model.world_model_loss(window, noise)
    policy = model.policy_loss(latents, window, noise)
    taught = torch.autograd.grad(policy.loss, list(model.parameters()), allow_unused=True)
    names = {name for (name, _), grad in zip(model.named_parameters(), taught) if grad is not None}
    assert names == {name for name, _ in model.named_parameters() if name.startswith("prior.")}
    others = torch.autograd.grad(world.loss, list(model.prior.parameters()), allow_unused=True)
    assert others == (None,) * len(others)


def test_the_encoder_learns_from_the_first_row_only(build, shaken, rows):
    model = shaken(build()).train()
    batch = rows(model)
    batch.obs["obs"].requires_grad_()
    model.loss(batch).loss.backward()
    reached = batch.obs["obs"].grad.abs().sum((0, 2)) > 0
    assert reached.tolist() == [True, False, False, False]


def test_two_heads_give_the_numbers_of_all_heads(build, shaken, rows):
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


def test_dropout_is_off_in_targets_and_evaluation(build, shaken, rows):
    model = shaken(build(dropout=0.5))
    batch = rows(model)
    window, noise = model.train().drawn(batch)
    assert noise.value_keep is not None
    without = dataclasses.replace(noise, value_keep=None, policy_keep=None)
    assert torch.equal(*(model.targets(window, n)[1] for n in (noise, without)))
    with_it, plain = (model.world_model_loss(window, n)[0].components["value"] for n in (noise, without))
    assert not torch.equal(with_it, plain)
    _, noise = model.eval().drawn(batch)
    assert noise.value_keep is None and noise.policy_keep is None


def test_nothing_is_learnt_across_the_end_of_an_episode(build, shaken, rows):
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
        window, noise = model.train().drawn(other)
        model.seed(0)
        latents = torch.ones(4, 6, model.config.latent_dim)
        latents[2:] += change
        model.value_scale.rate = 0.0
        steps = model.world_model_loss(window, noise)[0], model.policy_loss(latents, window, noise)
        found.append([step.loss for step in steps])
        assert window.valid.T[0].tolist() == [1.0, 0.0, 0.0]
    assert all(torch.equal(one, other) for one, other in zip(*found))


def test_terminal_rows_stop_the_bootstrap(build, shaken, rows):
    model = shaken(build())
    batch = rows(model)
    batch.is_terminal = torch.zeros(6, 4, dtype=torch.bool)
    batch.is_terminal[:, 1] = True
    window, noise = model.drawn(batch)
    _, target = model.targets(window, noise)
    assert torch.equal(target[0], batch.rewards[:, 1])
    assert not torch.equal(target[1], batch.rewards[:, 2])


# --- what it learns -----------------------------------------------------------------------------------------------


CONTINUOUS = {"action_dim": 3}
DISCRETE = {"action_spec": {"kind": "discrete", "dim": 3}}


@pytest.mark.parametrize(("actions", "prior"), [(CONTINUOUS, "gaussian"), (DISCRETE, "categorical")])
def test_the_prior_follows_the_actions_and_is_saved_as_what_it_is(tmp_path, actions, prior):
    model = worldflux.create_world_model("tdmpc2:ci", obs_shape=(6,), **actions)
    assert model.config.prior == prior
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["prior"] == prior
    assert worldflux.create_world_model(tmp_path).config == model.config


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_it_learns_what_actions_pay_and_where_episodes_end(actions):
    model = worldflux.create_world_model("tdmpc2:ci", obs_shape=(6,), episodic=True, **actions).train()
    world, learner = EchoWorld(model.config.modalities, model.config.actions), Learner(model)
    for update in range(80):
        learner.step(world.batch(8, 8, seed=update))
    done = world.actions(256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        preds = model.decode(model.transition(model.encode(world.start(256)), done)).preds
    ends, stops = world.ends(done)
    assert preds["continue"][ends].mean() < 0.75  # 6 of 10 of these end
    assert preds["continue"][stops].mean() > 0.75  # whose watching may end, but not they
    assert torch.corrcoef(torch.stack([preds["reward"], world.reward(done)]))[0, 1] > 0.8


# --- several tasks ---------------------------------------------------------------------------------------------


def test_a_task_is_told_by_its_observation_and_remembered(build, shaken):
    model = shaken(build(num_tasks=3))
    obs = {"obs": torch.zeros(3, 5), "task": torch.tensor([0, 1, 2])}
    state = model.encode(obs)
    ahead = model.transition(state, torch.zeros(3, 2))
    assert ahead["task"].tolist() == [0, 1, 2]
    assert not torch.allclose(ahead["latent"][0], ahead["latent"][1])
    assert model.rollout(state, torch.zeros(2, 3, 2)).states[-1]["task"].tolist() == [0, 1, 2]


def test_actions_that_a_task_lacks_are_zero(build, shaken):
    model = shaken(build(num_tasks=2, action_dims=(1, 2), mpc=False)).train()
    model.on_after_optimizer_step()
    state = model.encode({"obs": torch.zeros(2, 5), "task": torch.tensor([0, 1])})
    action = model.act(state, torch.ones(2, 2))
    assert (action != 0).tolist() == [[True, False], [True, True]]
    assert model.action_mask(state).tolist() == [[1, 0], [1, 1]]


def test_a_tasks_embedding_has_at_most_norm_one(build, rows):
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


# --- numbers that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e38, -1e38])
def test_no_index_is_computed_from_a_number_that_is_none(number):
    weights = twohot.encode(torch.tensor([number, 2.0]), bins=11, limit=10.0)
    assert torch.equal(weights[1], twohot.encode(torch.tensor([2.0]), bins=11, limit=10.0)[0])
    if number != number:
        assert weights[0].isnan().any()
    else:
        assert weights[0, -1 if number > 0 else 0] == 1.0
    logits = torch.full((2, 11), number)
    assert twohot.cross_entropy(torch.zeros(2, 11), torch.tensor([number, 2.0]), limit=10.0).shape == (2,)
    assert twohot.decode(logits, limit=10.0).shape == (2,)


def test_a_number_that_is_none_is_named_at_the_door(build, rows):
    model = build()
    batch = rows(model)
    batch.obs["obs"][3, 1, 2] = torch.nan
    with pytest.raises(ValidationError, match=r"observation 'obs' is not finite at \[3, 1, 2\]"):
        model.loss(batch)
