"""An update is a list of steps: they add up to the loss, move what they name, and remember nothing in between."""

from __future__ import annotations

import torch

from worldflux.core.errors import TrainingError

from ..calls import differences, named
from ..check import check, expect
from ..inputs import Named
from ..learner import Learner
from ..subject import Subject

SEED = 17


@check()
def check_steps_add_up_to_the_loss(subject: Subject) -> None:
    """``steps(batch)`` together have the components that ``loss(batch)`` has, by name."""
    model, batch = subject.model().train(), subject.batch()
    whole = set(model.loss(batch).components)
    parts = [set(out.components) for out in model.steps(batch)]
    found = set[str]().union(*parts)
    expect(bool(parts), "steps(batch) yields nothing: an update needs a step")
    expect(
        found == whole,
        f"loss(batch) has the components {sorted(whole)}, the steps together {sorted(found)}; evaluation reads the "
        "first, training logs the second",
    )


@check()
def check_steps_move_what_they_name(subject: Subject) -> None:
    """Every step names a group of ``parameter_groups()`` or none, and every group there is moved by a step."""
    learner = Learner(subject.build())
    learner.model.seed(SEED)
    try:
        steps = learner.steps(subject.batch())
    except TrainingError as error:
        expect(False, str(error))
        return
    given = [group for group in learner.model.parameter_groups() if "group" in group]
    moved = {out.group for step in steps for _, out in step.losses}
    idle = sorted({group["group"] for group in given} - moved)
    expect(None in moved or not idle, f"no step moves the groups {idle}; name them in a step, or drop their names")


@check()
def check_nothing_waits_between_loss_and_step(subject: Subject) -> None:
    """``zero_grad`` without a step changes nothing in the next loss."""
    found: list[Named] = []
    for forgets in (False, True):
        learner, batch = Learner(subject.model()), subject.batch()
        for again in (False, True):
            learner.model.seed(SEED)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(SEED)
                out = learner.model.loss(batch)
            if not again:
                out.loss.backward()
                if forgets:
                    learner.optimizer.zero_grad()
        found.append(named(out))
    wrong = differences(*found, tolerance=0)
    expect(not wrong, f"after zero_grad without step {wrong} of the next loss differ; phases belong in steps(batch)")
