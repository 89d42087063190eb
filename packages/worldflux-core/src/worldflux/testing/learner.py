"""Training as the Trainer does it, small: no run directory, no warm-up, no schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.model import WorldModel
from worldflux.training.config import TrainingConfig
from worldflux.training.optim import build_optimizer
from worldflux.training.update import groups_of, make_update

from .check import CheckFailed

if TYPE_CHECKING:
    from .subject import Subject

STEPS, EARLY = 30, 10  # updates on one batch, and how many of them must reach every parameter
LIMIT, PIECE = 300, 20  # updates a model may take to understand the toy world, and how often it is asked
SEQUENCES, ROWS = 8, 8  # of the toy world in one update


class Learner:
    """A model with its own optimizer and training defaults."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model.train()
        self.config = TrainingConfig(device="cpu", warmup_steps=0, scheduler="constant").with_defaults(model.recipe())
        self.optimizer = build_optimizer(model, self.config)
        self.groups = groups_of(model)

    def update(self, batch: Batch) -> Tensor:
        """Every optimizer step of an update; return the sum of their losses. What follows an update is to come."""
        steps = make_update(
            self.model, self.optimizer, lambda: batch, config=self.config, groups=self.groups, ready=lambda step: None
        )
        return torch.stack([out.loss.detach() for step in steps for _, out in step.losses]).sum()

    def step(self, batch: Batch) -> None:
        """One whole update."""
        self.update(batch)
        self.model.on_after_optimizer_step()


@dataclass
class Fit:
    """What updates on one batch did: the losses, and which parameters moved early on."""

    losses: list[float] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)  # trainable, and did not move
    restless: list[str] = field(default_factory=list)  # frozen, and moved


def fit(subject: Subject) -> Fit:
    """Update a fresh model on one batch, with the same noise at every step."""
    learner, batch, found = Learner(subject.build()), subject.batch(4, ROWS), Fit()
    parameters = dict(learner.model.named_parameters())
    start = {name: value.detach().clone() for name, value in parameters.items()}
    idle = {name for name, value in parameters.items() if value.requires_grad}
    frozen, restless = set(parameters) - idle, set[str]()
    with torch.random.fork_rng(devices=[]):
        for step in range(STEPS):
            learner.model.seed(0)
            torch.manual_seed(0)  # layers such as dropout draw from it
            before = {name: parameters[name].clone() for name in frozen} if step < EARLY else {}
            found.losses.append(float(learner.update(batch)))
            restless |= {name for name, value in before.items() if not torch.equal(value, parameters[name])}
            learner.model.on_after_optimizer_step()
            if step < EARLY:
                idle = {name for name in idle if torch.equal(start[name], parameters[name])}
    found.idle, found.restless = sorted(idle), sorted(restless)
    return found


class Pupil:
    """A model that learns the toy world a piece at a time, and is asked after each what it has understood."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.steps = subject, 0
        self.learner = Learner(subject.build())
        self.learner.model.seed(0)

    def until(self, judge: Callable[[WorldModel], str]) -> None:
        """Train until ``judge`` has nothing to say. Raises CheckFailed with its last word after ``LIMIT`` updates."""
        while complaint := self._ask(judge):
            if self.steps >= LIMIT:
                raise CheckFailed(f"after {self.steps} updates on the echo world {complaint}")
            self._train()

    def _ask(self, judge: Callable[[WorldModel], str]) -> str:
        model = self.learner.model.eval()
        with torch.no_grad():
            return judge(model)

    def _train(self) -> None:
        self.learner.model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.steps)
            for _ in range(PIECE):
                self.learner.step(self.subject.batch(SEQUENCES, ROWS, seed=1000 + self.steps))
                self.steps += 1
