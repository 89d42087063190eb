"""Three complete updates give the official numbers: losses, gradients, norms, both optimizers, targets, scale.

The trainer's own functions build the optimizer, take the steps and clip: it is what users train with that agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from worldflux.core.output import LossOutput
from worldflux.training import TrainingConfig
from worldflux.training.optim import build_optimizer
from worldflux.training.update import Step, groups_of, make_update
from worldflux_tdmpc import TDMPC2
from worldflux_tdmpc.tdmpc2.official import official_names

COMPONENTS = {"consistency_loss": "consistency", "reward_loss": "reward", "value_loss": "value", "pi_loss": "policy"}
METRICS = {"pi_scaled_entropy": "entropy", "pi_scale": "scale"}


class Run:
    """Updates of a fresh model on the recorded batch."""

    def __init__(self, case, prefix: str, *, leaking: bool = False) -> None:
        self.case, self.prefix = case, prefix
        self.model: TDMPC2 = case.model().train()
        self.config = TrainingConfig(learning_rate=case.settings["lr"], grad_clip=case.settings["grad_clip_norm"])
        self.optimizer, self.number = build_optimizer(self.model, self.config), 0
        self.leak = Leak(self.model) if leaking else None
        names = official_names(self.model)
        self.parameters = {own: official for official, own in names.items()}
        self.model.steps = self.steps  # with the recorded noise

    def steps(self, batch: None) -> Iterator[LossOutput]:
        steps = self.model.steps_of(self.case.window(), self.case.noise(f"{self.prefix}/{self.number}"))
        world = next(steps)
        self.loss = world.loss.detach()
        yield self.leak.added(world) if self.leak else world
        yield from steps

    def update(self, ready: Callable[[Step], None] = lambda step: None) -> list[Step]:
        groups = groups_of(self.model)
        made = make_update(self.model, self.optimizer, lambda: None, config=self.config, groups=groups, ready=ready)
        self.model.on_after_optimizer_step()
        self.number += 1
        return made


class Leak:
    """What the official program does to the embedding of tasks: the policy's loss leaves a gradient for the next step.

    We do not; here it is done to show that nothing else differs.
    """

    def __init__(self, model: TDMPC2) -> None:
        self.model, self.left, self.ours = model, None, model.policy_loss
        model.policy_loss = self.policy_loss

    def policy_loss(self, *given) -> LossOutput:
        model, scale = self.model, self.model.value_scale.value.clone()
        model.fixed_embedding = model.embed
        loss = self.ours(*given).loss
        del model.fixed_embedding
        (self.left,) = torch.autograd.grad(loss, [model.task_embedding.weight])
        model.value_scale.value.copy_(scale)
        return self.ours(*given)

    def added(self, world: LossOutput) -> LossOutput:
        """The same step, its gradient with what was left."""
        left = 0.0 if self.left is None else (self.left * self.model.task_embedding.weight).sum()
        return replace(world, loss=world.loss + left)


@pytest.fixture
def run(case) -> Run:
    return Run(case, "update", leaking=case.name == "multitask")


def test_three_updates(run, agrees):
    case, model = run.case, run.model
    for _ in range(3):
        prefix = f"update/{run.number}/metric"
        steps = run.update()
        world, policy = (step.losses[0][1] for step in steps)
        agrees(run.loss, case[f"{prefix}/total_loss"])
        for step, official in zip(steps, ("grad_norm", "pi_grad_norm"), strict=True):
            agrees(step.norm, case[f"{prefix}/{official}"])
        found = world.components | policy.components
        for official, own in COMPONENTS.items():
            agrees(found[own], case[f"{prefix}/{official}"])
        for official, own in METRICS.items():
            agrees(policy.metrics[own], case[f"{prefix}/{official}"])
        if model.config.episodic:
            agrees(found["termination"], case[f"{prefix}/termination_loss"])
    state, after = model.state_dict(), case.below("weights_after/")
    assert len(after) > 50
    for own, official in run.parameters.items():
        agrees(state[own], after.get(official, case.weights[official]), tolerance=5e-5)


def test_gradients_of_the_first_update(run, agrees):
    recorded = run.case.below("grads/")
    parameters = {run.parameters[n]: p for n, p in run.model.named_parameters()}
    compared = set()

    def compare(step: Step) -> None:
        share = min(1.0, float(20 / (step.norm + 1e-6)))  # they are clipped
        policy = step.losses[0][1].group == "policy"
        for official, parameter in parameters.items():
            if official.startswith("_pi.") == policy:
                agrees(parameter.grad, recorded[official] * share)
                compared.add(official)
            else:
                assert parameter.grad is None

    run.update(compare)
    assert compared == set(recorded)


def test_without_the_leak_into_the_task_embedding(cases, agrees):
    case = cases("multitask")
    run = Run(case, "update_noleak")
    for _ in range(3):
        prefix = f"update_noleak/{run.number}/metric"
        world, policy = run.update()
        agrees(run.loss, case[f"{prefix}/total_loss"])
        agrees(world.norm, case[f"{prefix}/grad_norm"])
        agrees(policy.losses[0][1].components["policy"], case[f"{prefix}/pi_loss"])
    agrees(run.model.task_embedding.weight, case.tensors["weights_after_noleak/_task_emb.weight"], tolerance=1e-6)


def test_with_the_critics_of_before_it_is_near_but_another_algorithm(cases):
    case = cases("state")
    model, given = case.model().train(), (case.window(), case.noise("update/0"))
    _, latents = model.world_model_loss(*given)
    policy = model.policy_loss(latents, *given).loss.detach()  # as in the one sum of loss(batch)
    recorded = case["update/0/metric/pi_loss"]
    assert 1e-3 < abs(policy - recorded) / (1 + recorded.abs()) < 1e-1
