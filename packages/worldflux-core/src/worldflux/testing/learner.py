"""Training as the Trainer does it, small: no run directory, no warm-up, no schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import TrainingError
from worldflux.core.model import WorldModel
from worldflux.training.config import TrainingConfig
from worldflux.training.optim import build_optimizer
from worldflux.training.update import Step, groups_of, make_update
from worldflux.words.counts import counted

from .check import CheckFailed, CheckSkipped

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
        try:
            steps = self.steps(batch)
        except TrainingError as error:
            raise CheckSkipped(f"no update can be made ({error}): see check_steps_move_what_they_name") from error
        return torch.stack([out.loss.detach() for step in steps for _, out in step.losses]).sum()

    def steps(self, batch: Batch) -> list[Step]:
        """The steps of an update. Raises TrainingError for one that names no group of parameters."""
        return make_update(
            self.model, self.optimizer, lambda: batch, config=self.config, groups=self.groups, ready=lambda step: None
        )

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


def fit(model: WorldModel, batch: Batch) -> Fit:
    """Update a fresh model on one batch, with the same noise at every step."""
    learner, found = Learner(model), Fit()
    parameters = dict(learner.model.named_parameters())
    start = {name: value.detach().clone() for name, value in parameters.items()}
    idle = {name for name, value in parameters.items() if value.requires_grad}
    frozen, restless = set(parameters) - idle, set[str]()
    with torch.random.fork_rng(devices=[]):
        for step in range(STEPS):
            learner.model.seed(0)
            # dropout draws from it; torch.manual_seed would keep a stack trace for CUDA, which costs more than all else
            torch.default_generator.manual_seed(0)
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

    def __init__(self, model: WorldModel, batch: Callable[[int], Batch]) -> None:
        """``batch`` draws one of the toy world from a seed."""
        self.batch, self.steps = batch, 0
        self.learner = Learner(model)
        self.learner.model.seed(0)

    def until(self, judge: Callable[[WorldModel], str]) -> None:
        """Train until ``judge`` has nothing to say. Raises CheckFailed with its last word after ``LIMIT`` updates."""
        while complaint := self._ask(judge):
            if self.steps >= LIMIT:
                raise CheckFailed(f"after {counted(self.steps, 'update')} on the echo world {complaint}")
            self._train()

    def _ask(self, judge: Callable[[WorldModel], str]) -> str:
        model = self.learner.model.eval()
        with torch.no_grad():
            return judge(model)

    def _train(self) -> None:
        self.learner.model.train()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.steps)
            for _ in range(PIECE):
                self.learner.step(self.batch(1000 + self.steps))
                self.steps += 1
