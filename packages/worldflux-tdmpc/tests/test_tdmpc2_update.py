"""The update: one sum for any optimizer, two steps in the official order for the trainer."""

from __future__ import annotations

import copy

import pytest
import torch

import worldflux
from worldflux.core.errors import TrainingError
from worldflux.testing.learner import Learner
from worldflux.training import Trainer, TrainingConfig

# --- the update ----------------------------------------------------------------------------------------------------


def taken(model, batch):
    """The steps of one update as the trainer takes them: name of the group -> what was given for it."""
    learner, found = Learner(model), []
    own = model.steps

    def watched(given):
        for out in own(given):
            found.append(out)
            yield out

    model.steps = watched
    learner.step(batch)
    del model.steps
    return {out.group: out for out in found}


def changed(model, before) -> set[str]:
    return {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_the_policy_is_judged_by_the_critics_that_have_stepped(build, shaken, rows):
    model = shaken(build()).train()
    before, batch = copy.deepcopy(model), rows(model)
    steps = model.steps(batch)
    world = next(steps)
    assert (world.group, "policy" in world.components) == ("model", False)
    with torch.no_grad():
        model.critics[-1].bias += torch.randn(101)  # a step is taken
    policy = next(steps)
    assert (policy.group, set(policy.components)) == ("policy", {"policy"})
    assert {"scale", "entropy"} <= set(policy.metrics)
    assert next(steps, None) is None
    assert not torch.equal(policy.loss, before.loss(batch).components["policy"])


def test_each_step_moves_its_own_part_alone(build, shaken, rows):
    model = shaken(build(num_tasks=3)).train()
    learner, batch, moved = Learner(model), rows(model), []
    own = model.steps

    def watched(given):
        before = copy.deepcopy(model.state_dict())
        for out in own(given):
            yield out
            moved.append(changed(model, before) & set(dict(model.named_children())))
            before = copy.deepcopy(model.state_dict())

    model.steps = watched
    learner.update(batch)
    world = {"observation_encoder", "dynamics_model", "critics", "task_embedding"}
    assert moved == [world, {"prior", "value_scale"}] or moved == [world, {"prior"}]


def test_a_policy_that_cannot_learn_ends_the_training_before_it_is_stepped(tmp_path, build, shaken, rows):
    model = shaken(build()).train()
    model.value_scale.value.fill_(torch.nan)
    before = [p.clone() for p in model.prior.parameters()]
    config = TrainingConfig(total_steps=1, batch_size=6, sequence_length=4, output_dir=str(tmp_path), device="cpu")
    with pytest.raises(TrainingError, match="policy"):
        Trainer(model, config).train(rows(model))
    assert all(torch.equal(a, b) for a, b in zip(before, model.prior.parameters()))


def test_gradients_that_are_forgotten_without_a_step_change_nothing_in_the_next_loss(build, shaken, rows):
    plain = shaken(build()).train()
    other, batch = copy.deepcopy(plain), rows(plain)
    Learner(other).optimizer.zero_grad()
    assert torch.equal(plain.loss(batch).loss, other.loss(batch).loss)


def test_an_update_that_was_never_finished_leaves_nothing_behind(build, shaken, rows):
    model = shaken(build(num_tasks=3)).train()
    fresh, batch = copy.deepcopy(model), rows(model)
    next(model.steps(batch)).loss.backward()  # and no step
    model.zero_grad()
    copied = copy.deepcopy(model)  # which no tensor with a history allows
    copied.seed(0)
    assert torch.equal(copied.loss(batch).loss, fresh.loss(batch).loss)


def test_a_frozen_policy_stays_as_it_is_and_the_model_learns(build, shaken, rows):
    model = shaken(build()).train()
    model.prior.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    assert set(taken(model, rows(model))) == {"model"}
    moved = {"observation_encoder", "dynamics_model", "critics", "target_critics", "updates"}
    assert changed(model, before) == moved
    model.loss(rows(model)).loss.backward()


def test_another_optimizer_trains_the_policy_too(build, shaken, rows):
    model = shaken(build()).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [p.clone() for p in model.prior.parameters()]
    out = model.loss(rows(model))
    out.loss.backward()
    optimizer.step()
    assert "policy" in out.components
    assert all(not torch.equal(a, b) for a, b in zip(before, model.prior.parameters()))


def test_groups_have_the_official_rates(build):
    model = build()
    groups = Learner(model).optimizer.param_groups
    rate = model.config.learning_rate
    assert [group["lr"] for group in groups] == pytest.approx([0.3 * rate, rate, rate])
    assert [group["eps"] for group in groups] == [1e-8, 1e-8, 1e-5]
    assert [group["group"] for group in groups] == ["model", "model", "policy"]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_targets_follow_by_averages_and_the_scale_only_in_training(build, shaken, rows):
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


def test_the_scale_is_saved(tmp_path, build):
    model = build()
    model.value_scale.value.fill_(3.5)
    model.save_pretrained(tmp_path)
    assert float(worldflux.WorldModel.from_pretrained(tmp_path).value_scale.value) == 3.5
