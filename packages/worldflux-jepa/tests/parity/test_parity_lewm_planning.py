"""LeWM's planning: rollouts from one row and from a full window, the cost of a goal, and complete searches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worldflux import State
from worldflux.planners import GoalObjective, Noise, Problem
from worldflux_jepa.jepa import JEPA
from worldflux_jepa.jepa.official import load
from worldflux_jepa.jepa.planner import LeWMPlanner

RECORDED = "jepa_lewm"
NEAR = 5e-5


@pytest.fixture
def model(recording) -> JEPA:
    config = recording.meta["config"]
    settings = {
        "encoder": {"num_attention_heads": config["encoder"]["num_attention_heads"]},
        "predictor": {k: v for k, v in config["predictor"].items() if k in ("heads", "dim_head", "dropout")},
        "image_mean": [0.0],
        "image_std": [1 / 255],
    }
    return load(recording.below("weights/"), settings)


def seen(model: JEPA, pixels: Tensor, done: Tensor | None) -> State:
    """The state after context frames ``[E, H, ...]`` and the actions ``[E, H - 1, A]`` done between them."""
    state = model.encode({"obs": pixels[:, 0]})
    for row in range(1, pixels.shape[1]):
        assert done is not None
        state = model.update(state, done[:, row - 1], {"obs": pixels[:, row]})
    return state


def goal_of(model: JEPA, pixels: Tensor) -> GoalObjective:
    """The official cost: squared differences, summed over the latent, of the last state."""
    return GoalObjective(
        model.encode({"obs": pixels[:, 0]}), key="latent", energy=lambda a, b: (a - b).square().sum(-1)
    )


def test_rollouts_and_what_they_cost(recording, model, agrees):
    contexts = {name.split("/")[1] for name in recording.tensors if name.startswith("io/rollout_")}
    assert contexts
    for context in contexts:
        rolled_out(recording, model, agrees, context)


def rolled_out(recording, model, agrees, context: str) -> None:
    done = recording[f"{context}/action_history"] if recording.has(f"{context}/action_history") else None
    pixels, actions = recording[f"{context}/pixels"], recording[f"{context}/actions"]
    envs, samples = actions.shape[:2]
    with torch.no_grad():
        state = seen(model, pixels, done).map(lambda value: value.repeat_interleave(samples, 0))
        trajectory = model.rollout(state, actions.flatten(0, 1).transpose(0, 1), deterministic=True)
    latents = trajectory.to_tensor("latent").transpose(0, 1).unflatten(0, (envs, samples))
    recorded = recording[f"{context}/predicted_emb"][:, :, pixels.shape[1] - 1 :]
    agrees(latents, recorded, tolerance=NEAR)
    objective = goal_of(model, recording[f"{context}/goal"])
    agrees(objective.goal["latent"], recording[f"{context}/goal_emb"][:, 0], tolerance=NEAR)
    agrees(-objective.score(model, trajectory, {}), recording[f"{context}/cost"].flatten(), tolerance=1e-4)


def test_two_environments_are_searched_alike(recording, model, agrees, monkeypatch):
    said = recording.meta["cem"]
    planner = LeWMPlanner(
        horizon=said["horizon"], num_samples=said["num_samples"], num_elites=said["topk"], iterations=said["n_steps"],
        init_std=said["var_scale"], bounded=False,
    )  # fmt: skip
    done = recording["cem/action_history"] if recording.has("cem/action_history") else None
    state = seen(model, recording["cem/pixels"], done)
    problem = Problem.of(model, state, goal_of(model, recording["cem/goal"]))
    noise = recording["cem/noise"]  # [E, iteration, sample, horizon, A]
    drawn = Noise(list(noise.unbind(1)), torch.zeros(noise.shape[0], noise.shape[-1]), [{}] * noise.shape[1])
    found: list[tuple[Tensor, Tensor]] = []
    scorer = problem.scorer(planner.num_samples)

    def score(candidates: Tensor, given: dict[str, Tensor]) -> Tensor:
        found.append((candidates.clone(), scorer(candidates, given)))
        return found[-1][1]

    monkeypatch.setattr(type(planner), "_scorer", lambda *_: score)
    start = recording["cem/init_action"]
    before = torch.nn.functional.pad(start, (0, 0, 1, said["horizon"] - 1 - start.shape[1]))  # the plan of one step ago
    plan = planner.search(problem, drawn, {"mean": before})
    for number, (candidates, scores) in enumerate(found):
        agrees(candidates, recording["cem/candidates"][:, number], tolerance=1e-4)
        agrees(-scores, recording["cem/costs"][:, number], tolerance=1e-4)
        elites = scores.topk(said["topk"], 1).indices.sort(1).values
        assert torch.equal(elites, recording["cem/topk_inds"][:, number].sort(1).values.long())
    best = -found[-1][1].topk(said["topk"], 1).values
    agrees(best.mean(1), recording["cem/final_costs"], tolerance=1e-4)
    agrees(plan.actions.transpose(0, 1), recording["cem/actions"], tolerance=1e-4)
    agrees(plan.carry["mean"], recording["cem/mean"][:, -1], tolerance=1e-4)
