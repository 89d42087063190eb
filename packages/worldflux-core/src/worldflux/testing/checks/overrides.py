"""Components that a caller puts in place of the family's own are really used."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from worldflux.core.components import SLOTS
from worldflux.core.model import WorldModel

from ..calls import calls, differences
from ..check import CheckSkipped, check, expect
from ..subject import Subject


class Recorder(nn.Module):
    """Stands for a component: passes every call of the slot's method on, and counts."""

    def __init__(self, slot: str, component: Any) -> None:
        super().__init__()
        self.component, self.count = component, 0
        self._method = SLOTS[slot]
        setattr(self, SLOTS[slot], self._pass_on)

    def _pass_on(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return getattr(self.component, self._method)(*args, **kwargs)


def _recorded(model: WorldModel, slot: str) -> Recorder:
    component = getattr(model, slot, None)
    if component is None:
        raise CheckSkipped(f"the family leaves {slot} empty")
    recorder = Recorder(slot, component)
    model.set_component(slot, recorder)
    return recorder


def _is_used_by(subject: Subject, slot: str, *methods: str) -> None:
    """Raise CheckFailed if one of the methods passes an override of the slot by."""
    model, inputs = subject.model(), subject.inputs()
    recorder = _recorded(model, slot)
    remembers = type(model).update is not WorldModel.update  # else update is encode: it reads no action
    known = calls(subject, model)
    for name in methods:
        if name not in known or (name == "update" and slot != "observation_encoder" and not remembers):
            continue
        before = recorder.count
        known[name](inputs, False)
        expect(
            recorder.count > before,
            f"{name} does not use the {slot} that was put in place; call self.{slot} wherever it is meant",
        )


@check()
def check_encoder_override_is_used(subject: Subject) -> None:
    """Another observation encoder is used by encode, update and loss."""
    _is_used_by(subject, "observation_encoder", "encode", "update", "loss")


@check()
def check_conditioner_override_is_used(subject: Subject) -> None:
    """Another action conditioner is used by update, transition, rollout and loss."""
    _is_used_by(subject, "action_conditioner", "update", "transition", "rollout", "loss")


@check()
def check_dynamics_override_is_used(subject: Subject) -> None:
    """Another dynamics model is used by update, transition, rollout and loss."""
    _is_used_by(subject, "dynamics_model", "update", "transition", "rollout", "loss")


@check()
def check_decoder_override_is_used(subject: Subject) -> None:
    """Another decoder is used by decode and loss."""
    _is_used_by(subject, "decoder", "decode", "loss")


@check()
def check_executor_override_is_used(subject: Subject) -> None:
    """Another rollout executor is used by rollout."""
    _is_used_by(subject, "rollout_executor", "rollout")


@check()
def check_equal_components_change_nothing(subject: Subject) -> None:
    """A component that passes every call on to the family's own changes no number."""
    inputs = subject.inputs()
    for slot in SLOTS:
        plain, model = subject.model(), subject.model()
        if getattr(model, slot, None) is None:
            continue
        _recorded(model, slot)
        own, wrapped = (calls(subject, m, loss=False, policy=False) for m in (plain, model))
        for name, call in own.items():
            with torch.no_grad():
                wrong = differences(call(inputs, True), wrapped[name](inputs, True))
            expect(not wrong, f"{name}: {wrong} change when {slot} is wrapped; depend on its method, not on its type")
