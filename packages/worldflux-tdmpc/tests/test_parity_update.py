"""Three complete updates give the official numbers: losses, gradients, norms, both optimizers, targets, scale.

The trainer's own functions build the optimizer and clip, so that it is what users train with that agrees.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from worldflux.core.output import LossOutput
from worldflux.training import TrainingConfig
from worldflux.training.optim import build_optimizer, clip_gradients
from worldflux_tdmpc import TDMPC2, TwoPhaseAdam, objective
from worldflux_tdmpc.import_official import official_names

COMPONENTS = {"consistency_loss": "consistency", "reward_loss": "reward", "value_loss": "value", "pi_loss": "policy"}
METRICS = {"pi_scaled_entropy": "entropy", "pi_scale": "scale", "pi_grad_norm": "policy_grad_norm"}


class Run:
    """Updates of a fresh model on the recorded batch."""

    def __init__(self, case, prefix: str, *, leaking: bool = False) -> None:
        self.case, self.prefix = case, prefix
        self.model: TDMPC2 = case.model().train()
        optimizer = build_optimizer(
            self.model, TrainingConfig(learning_rate=case.settings["lr"], grad_clip=case.settings["grad_clip_norm"])
        )
        assert isinstance(optimizer, TwoPhaseAdam)
        self.optimizer, self.number = optimizer, 0
        self.leak = Leak(self.model) if leaking else None
        names = official_names(self.model)
        self.parameters = {own: official for official, own in names.items()}

    def update(self, *, before_clip: Callable[[], None] | None = None) -> tuple[LossOutput, Tensor]:
        self.optimizer.zero_grad()
        out = self.model.compute_loss(self.case.window(), self.case.noise(f"{self.prefix}/{self.number}"))
        out.loss.backward()
        if self.leak:
            self.leak.add()
        if before_clip:
            before_clip()
        norm = clip_gradients(self.optimizer, self.case.settings["grad_clip_norm"])
        self.optimizer.step()
        self.model.on_after_optimizer_step()
        self.number += 1
        return out, norm


class Leak:
    """What the official program does to the embedding of tasks: the policy's loss leaves a gradient for the next step.

    We do not; here it is done to show that nothing else differs.
    """

    def __init__(self, model: TDMPC2) -> None:
        self.model, self.left = model, None
        phase = model.policy_phase
        self.ours, phase.gradients = phase.gradients, self.gradients

    def gradients(self, model: TDMPC2, clip: float) -> bool:
        ((inputs, *_),) = model.policy_phase.postponed
        embedding = self.model.task_embedding
        embedding.renormalise(inputs.task)
        scale = self.model.value_scale.value.clone()
        value, _ = objective.policy_losses(self.model, inputs, embedding=self.model.embed(inputs.task))
        (self.left,) = torch.autograd.grad(value, [embedding.weight])
        self.model.value_scale.value.copy_(scale)
        return self.ours(model, clip)

    def add(self) -> None:
        if self.left is not None:
            self.model.task_embedding.weight.grad += self.left


@pytest.fixture
def run(case) -> Run:
    return Run(case, "update", leaking=case.name == "multitask")


def test_three_updates(run, agrees):
    case, model = run.case, run.model
    for _ in range(3):
        prefix = f"update/{run.number}/metric"
        out, norm = run.update()
        agrees(out.loss, case[f"{prefix}/total_loss"])
        agrees(norm, case[f"{prefix}/grad_norm"])
        for official, own in COMPONENTS.items():
            agrees(out.components[own], case[f"{prefix}/{official}"])
        for official, own in METRICS.items():
            agrees(out.metrics[own], case[f"{prefix}/{official}"])
        if model.config.episodic:
            agrees(out.components["termination"], case[f"{prefix}/termination_loss"])
    state, after = model.state_dict(), case.below("weights_after/")
    assert len(after) > 50
    for own, official in run.parameters.items():
        agrees(state[own], after.get(official, case.weights[official]), tolerance=5e-5)


def test_gradients_of_the_first_update(run, agrees):
    recorded = run.case.below("grads/")
    parameters = {run.parameters[n]: p for n, p in run.model.named_parameters()}
    compared = set()

    def compare() -> None:
        for official, parameter in parameters.items():
            if not official.startswith("_pi."):
                agrees(parameter.grad, recorded[official])
                compared.add(official)

    run.update(before_clip=compare)
    norm = torch.stack([v.norm() for n, v in recorded.items() if n.startswith("_pi.")]).norm()
    share = min(1.0, float(20 / (norm + 1e-6)))  # the policy's were clipped
    for official, parameter in parameters.items():
        if official.startswith("_pi."):
            agrees(parameter.grad, recorded[official] * share)
            compared.add(official)
    assert compared == set(recorded)


def test_without_the_leak_into_the_task_embedding(cases, agrees):
    case = cases("multitask")
    run = Run(case, "update_noleak")
    for _ in range(3):
        prefix = f"update_noleak/{run.number}/metric"
        out, norm = run.update()
        agrees(out.loss, case[f"{prefix}/total_loss"])
        agrees(norm, case[f"{prefix}/grad_norm"])
        agrees(out.components["policy"], case[f"{prefix}/pi_loss"])
    agrees(run.model.task_embedding.weight, case.tensors["weights_after_noleak/_task_emb.weight"], tolerance=1e-6)


def test_with_the_critics_of_before_it_is_near_but_another_algorithm(cases):
    case = cases("state")
    model = case.model().train()
    out = model.compute_loss(case.window(), case.noise("update/0"))  # no optimizer of ours: one sum
    recorded = case["update/0/metric/pi_loss"]
    assert 1e-3 < abs(out.components["policy"] - recorded) / (1 + recorded.abs()) < 1e-1
