"""Two complete plans give the official numbers: one from nothing, one warm-started with exploration."""

from __future__ import annotations

import pytest
import torch

from worldflux.planners import Noise, Problem
from worldflux_tdmpc.tdmpc2.policy import make_objective, make_planner

CALLS = {"plan_t0": 1, "plan_warm": 0}  # and the task of the multitask case


def problem(case, model, call) -> Problem:
    task = None if case.task is None else torch.tensor([CALLS[call]])
    state = model.start({"obs": case[f"{call}/obs"]}, task, case.get(f"{call}/shift"))
    return Problem.of(model, state, make_objective(model))


def noise(case, call) -> Noise:
    act_noise = case.get(f"{call}/act_noise")
    size = case["action"].shape[-1]
    return Noise(
        samples=[sample.transpose(0, 1).unsqueeze(0) for sample in case[f"{call}/noise"]],
        explore=(torch.zeros(size) if act_noise is None else act_noise).unsqueeze(0),
        objective=[
            {"action": action, "heads": heads}
            for action, heads in zip(case[f"{call}/value_eps"], case[f"{call}/q_idx"], strict=True)
        ],
        choice=-case[f"{call}/gumbel_exp"].log().unsqueeze(0),
        proposals={"action": case[f"{call}/pi_eps"]},
    )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("reference", [False, True], ids=["two heads", "all heads"])
def test_a_plan_and_the_value_of_every_candidate(case, call, reference, agrees, monkeypatch):
    model, warm = case.model(), call == "plan_warm"
    model.config.reference = reference
    planner, posed = make_planner(model.config), problem(case, model, call)
    scorer, values = posed.scorer(planner.num_samples), []

    def score(candidates, drawn):
        values.append(scorer(candidates, drawn))
        return values[-1]

    monkeypatch.setattr(type(planner), "_scorer", lambda *_: score)
    start = {"mean": case["plan/prev_mean"].unsqueeze(0)}
    if not warm:
        start = planner.initial(posed.space, 1, device=posed.device, dtype=posed.dtype)
    plan = planner.search(posed, noise(case, call), start, explore=warm)
    for iteration, (got, recorded) in enumerate(zip(values, case[f"{call}/values"], strict=True)):
        agrees(got[0], recorded, tolerance=1e-3 if iteration else 1e-4)  # each starts from the rounding of all before
    agrees(plan.carry["mean"][0], case[f"{call}/mean"], tolerance=1e-4)
    agrees(plan.actions[0, 0], case[f"{call}/action"], tolerance=1e-4)
    agrees(plan.score, case[f"{call}/values"][-1].max().reshape(1), tolerance=1e-4)
