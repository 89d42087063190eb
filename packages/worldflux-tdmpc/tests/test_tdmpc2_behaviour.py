"""From recorded data alone the policy prior is held to what was done."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import worldflux
from worldflux.core.spec import ActionSpec, vector
from worldflux.data import DatasetWriter
from worldflux.planners import RewardObjective
from worldflux.testing.learner import Learner
from worldflux_tdmpc.tdmpc2 import losses
from worldflux_tdmpc.tdmpc2.policy import make_objective

SMALL = {"enc_dim": 16, "mlp_dim": 16, "latent_dim": 16}
SHORT = {"updates": 2, "batch_size": 8, "device": "cpu", "threads": 1, "eval_every": 0, "eval_episodes": 1}


def watched(model, learner, batch):
    """The steps of an update as a trainer takes them."""
    found, own = [], model.steps

    def steps(given):
        for out in own(given):
            found.append(out)
            yield out

    model.steps = steps
    learner.step(batch)
    del model.steps
    return found


@pytest.fixture
def recorded(tmp_path):
    """Four episodes of 13 rows that could be Pendulum's."""
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "set", {"obs": vector(3)}, ActionSpec("continuous", 1)) as writer:
        for _ in range(4):
            obs, action = rng.normal(size=(13, 3)).astype(np.float32), rng.uniform(-1, 1, (13, 1)).astype(np.float32)
            writer.append({"obs/obs": obs, "action": action, "reward": np.arange(13, dtype=np.float32)})
    return tmp_path / "set"


def test_it_is_the_squared_distance_from_what_was_done():
    action, done = torch.tensor([[[0.5, 1.0]], [[0.0, 0.0]]]), torch.tensor([[[0.5, -1.0]], [[0.0, 1.0]]])
    assert losses.behaviour_loss(action, done, torch.ones(2, 1)) == (4.0 + 1.0) / 2


def test_the_policy_comes_to_do_what_was_done(build, rows):
    model = build(behaviour_coef=100.0, learning_rate=1e-2).train()
    learner, batch = Learner(model), rows(model)
    losses_seen = []
    for _ in range(60):
        steps = [step.components for step in watched(model, learner, batch)]
        losses_seen.append(float(steps[1]["behaviour"]))
    assert losses_seen[-1] < 0.5 * losses_seen[0]


def test_only_the_policy_learns_from_it(build, shaken, rows):
    plain, held = shaken(build()).train(), shaken(build(behaviour_coef=0.5)).train()
    steps = [list(model.steps(rows(model))) for model in (plain, held)]
    assert torch.equal(steps[0][0].loss, steps[1][0].loss)
    assert torch.equal(steps[0][1].components["policy"], steps[1][1].components["policy"])
    added = 0.5 * steps[1][1].components["behaviour"]
    torch.testing.assert_close(steps[1][1].loss - steps[0][1].loss, added)
    held.zero_grad()
    steps[1][1].loss.backward()
    moved = {name.split(".")[0] for name, p in held.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"prior"}


def test_steps_into_another_episode_do_not_count():
    weight = losses.step_weight(torch.tensor([[1.0], [0.0]]), rho=0.5)
    action, done = torch.tensor([[[1.0]], [[9.0]]]), torch.zeros(2, 1, 1)
    assert losses.behaviour_loss(action, done, weight) == 0.5


def test_a_plan_is_held_to_the_prior(build, shaken):
    model = shaken(build(plan_behaviour_coef=0.1)).eval()
    state, plan = model.initial_state(3), torch.rand(3, 3, 2) * 2 - 1
    trajectory = model.rollout(state, plan, deterministic=True)
    noise = model.value_noise(3, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
    held, free = make_objective(model), RewardObjective(model.config.discounts[0], continues="hard")
    apart = [(a - model.act(s, None)).square().sum(-1) for s, a in zip(trajectory.states, trajectory.actions)]
    expected = sum(model.config.discounts[0] ** t * value for t, value in enumerate(apart))
    lost = free.score(model, trajectory, noise) - held.score(model, trajectory, noise)
    torch.testing.assert_close(lost, 0.1 * model.value_scale.value * expected, rtol=1e-4, atol=1e-4)


def test_plans_are_free_by_default(build):
    assert type(make_objective(build())) is RewardObjective


def test_it_is_on_where_there_is_recorded_data_alone(recorded, tmp_path):
    run = worldflux.fit("tdmpc2:ci", data=recorded, run=tmp_path / "alone", model_options=SMALL, **SHORT)
    assert run.model.config.behaviour_coef > 0 and run.model.config.plan_behaviour_coef > 0
    assert run.model.config.episode_length == 12


def test_it_is_off_where_an_environment_is_tried_out(recorded, tmp_path):
    run = worldflux.fit(
        "tdmpc2:ci", data=recorded, env="Pendulum-v1", run=tmp_path / "both", steps=2, seed=0,
        model_options={**SMALL, "seed_steps": 0, "num_samples": 8, "num_elites": 4, "num_pi_trajs": 2}, device="cpu",
        eval_every=0, eval_episodes=1, threads=1,
    )  # fmt: skip
    assert (run.model.config.behaviour_coef, run.model.config.plan_behaviour_coef) == (0, 0)
    assert run.model.config.episode_length == 500


def test_what_was_given_stays(recorded, tmp_path):
    given = {"behaviour_coef": 0.0, "episode_length": 50}
    run = worldflux.fit("tdmpc2:ci", data=recorded, run=tmp_path / "given", model_options={**SMALL, **given}, **SHORT)
    assert {name: getattr(run.model.config, name) for name in given} == given


def test_a_frame_skip_makes_fewer_decisions(recorded, tmp_path):
    run = worldflux.fit(
        "tdmpc2:ci", data=recorded, run=tmp_path / "skip", model_options=SMALL, frame_skip=5, held_out=0.0,
        **{**SHORT, "sequence_length": 3},
    )  # fmt: skip
    assert run.model.config.episode_length == 3


def test_a_run_of_before_goes_on_without(recorded, tmp_path):
    options = {**SMALL, "behaviour_coef": 0.0, "episode_length": 500}
    worldflux.fit("tdmpc2:ci", data=recorded, run=tmp_path / "old", model_options=options, **SHORT)
    config = json.loads((tmp_path / "old/config.json").read_text())  # as one that an earlier version began
    config["model_options"] = SMALL
    del config["resolved"]["model_options"]["behaviour_coef"]
    (tmp_path / "old/config.json").write_text(json.dumps(config))
    run = worldflux.fit("tdmpc2:ci", data=recorded, run=tmp_path / "old", resume=True, **{**SHORT, "updates": 3})
    assert run.model.config.behaviour_coef == 0
    assert run.model.config.episode_length == 500
