"""Components that a caller puts in place of the family's own are really used, and mean what they are."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from worldflux.core.components import SLOTS
from worldflux.core.model import WorldModel
from worldflux.core.registry import ComponentSpec, WorldModelRegistry

from ..calls import calls, differences, remembers
from ..check import CheckSkipped, check, expect
from ..inputs import Named
from ..subject import Subject

SEED = 13
REGISTERED = "wf_kit.part"


class Standin(nn.Module):
    """Stands for a component: every attribute is the component's, and calls of its methods are counted."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part, self.count = part, 0

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "part" or name.startswith("__"):
                raise
        value = getattr(self.part, name)
        return self._counted(value) if inspect.ismethod(value) else value

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.part(*args, **kwargs)

    def _counted(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return method(*args, **kwargs)

        return call


class Passing:
    """The same for what is no module, and is not to become one."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __getattr__(self, name: str) -> Any:
        if name == "part" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.part, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.part(*args, **kwargs)


class Plain(nn.Module):
    """A component that has the slot's method and no other: it may change what is learnt, but nothing else."""

    def __init__(self, part: Any, method: str) -> None:
        super().__init__()
        self.part = part
        setattr(self, method, lambda *args, **kwargs: getattr(part, method)(*args, **kwargs))


def _part(model: WorldModel, slot: str) -> Any:
    if (part := getattr(model, slot, None)) is None:
        raise CheckSkipped(f"the family leaves {slot} empty")
    return part


def _is_used_by(subject: Subject, slot: str, *methods: str) -> None:
    """Raise CheckFailed if one of the methods passes an override of the slot by."""
    model, inputs = subject.model(), subject.inputs()
    standin = Standin(_part(model, slot))
    model.set_component(slot, standin)
    known = calls(subject, model)
    for name in methods:
        if name not in known or (name == "update" and slot != "observation_encoder" and not remembers(subject, model)):
            continue
        before = standin.count
        known[name](inputs, False)
        expect(
            standin.count > before,
            f"{name} does not use the {slot} that was put in place; call self.{slot} wherever it is meant",
        )


@check()
def check_encoder_override_is_used(subject: Subject) -> None:
    """Another observation encoder is used by encode, update and loss."""
    _is_used_by(subject, "observation_encoder", "encode", "update", "loss")


@check()
def check_conditioner_override_is_used(subject: Subject) -> None:
    """Another action conditioner is used by update, transition, rollout and loss, and what it says is heard."""
    _is_used_by(subject, "action_conditioner", "update", "transition", "rollout", "loss")
    plain, model, inputs = subject.model(), subject.model(), subject.inputs()
    part = _part(model, "action_conditioner")
    said = [value for value in part.condition(inputs.state, inputs.action).values() if value.is_floating_point()]
    if not any(value.numel() for value in said):
        raise CheckSkipped("the conditioner says nothing")
    model.set_component("action_conditioner", Loud(part))
    own, other = (_numbers(subject, m, modes=(False,)) for m in (plain, model))
    for name in ("transition", "rollout", "update", "loss"):
        if name in own and (name != "update" or remembers(subject, model)):
            expect(
                bool(differences(own[name], other[name], tolerance=1e-6)),
                f"{name} asks the action_conditioner and does not read its answer; read what is conditioned, not the "
                "action",
            )


class Loud(nn.Module):
    """Says everything another conditioner says, but louder."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def condition(self, *args: Any, **kwargs: Any) -> Named:
        said: Named = self.part.condition(*args, **kwargs)
        return {name: value + 0.5 if value.is_floating_point() else value for name, value in said.items()}


@check()
def check_dynamics_override_is_used(subject: Subject) -> None:
    """Another dynamics model is used by transition, rollout and loss, and by update where that reads its weights."""
    reads = _update_reads(subject, "dynamics_model")
    _is_used_by(subject, "dynamics_model", *["update"] * reads, "transition", "rollout", "loss")


def _update_reads(subject: Subject, slot: str) -> bool:
    """Whether other weights of a part change what ``update`` gives; taken for granted of one without weights."""
    model, inputs = subject.model(), subject.inputs()
    part, call = _part(model, slot), calls(subject, model, loss=False, policy=False).get("update")
    weights = list(part.parameters()) if isinstance(part, nn.Module) else []
    if call is None or not weights:
        return True
    with torch.no_grad():
        before = call(inputs, True)
        for value in weights:
            value.add_(0.1)
        return bool(differences(before, call(inputs, True)))


@check()
def check_decoder_override_is_used(subject: Subject) -> None:
    """Another decoder is used by decode and loss."""
    _is_used_by(subject, "decoder", "decode", "loss")


@check()
def check_executor_override_is_used(subject: Subject) -> None:
    """Another rollout executor is used by rollout."""
    _is_used_by(subject, "rollout_executor", "rollout")


@check()
def check_own_slots_are_used(subject: Subject) -> None:
    """Another part in a slot of the family's own is used by one of its methods, the loss or the policy at least."""
    own = [slot for slot in subject.build().slots if slot not in SLOTS]
    if not own:
        raise CheckSkipped("the family has no slots of its own")
    for slot in own:
        model, inputs = subject.model(), subject.inputs()
        standin = Standin(_part(model, slot))
        model.set_component(slot, standin)
        for call in calls(subject, model).values():
            call(inputs, False)
        expect(standin.count > 0, f"nothing uses the {slot} that was put in place; call self.{slot}, or drop the slot")


# --- what is put in place is the part itself, in other clothes ----------------------------------------------------


def _numbers(
    subject: Subject, model: WorldModel, *, modes: tuple[bool, ...] = (False, True), loss: bool = True
) -> dict[str, Named]:
    """What every method gives: in evaluation what is certain, in training what is drawn, each from the same noise."""
    inputs, found = subject.inputs(), dict[str, Named]()
    for training in modes:
        model.train(training)
        for name, call in calls(subject, model, loss=loss).items():
            model.seed(SEED)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(SEED)  # layers such as dropout draw from it
                found[f"{name} in training" if training else name] = call(inputs, not training)
    found["parameter_groups"] = _groups(model)
    return found


def _groups(model: WorldModel) -> Named:
    """How many numbers learn at which rate."""
    groups = model.parameter_groups()
    return {
        f"group {number}": torch.tensor([sum(p.numel() for p in group["params"]), group.get("lr", 0.0)])
        for number, group in enumerate(groups)
    }


def _expect_equal(what: str, own: dict[str, Named], other: dict[str, Named]) -> None:
    for name, values in own.items():
        wrong = differences(values, other[name])
        expect(not wrong, f"{name}: {wrong} change when {what}; ask parts for what they can do, never for their type")


@check()
def check_equal_components_change_nothing(subject: Subject) -> None:
    """A part that is wrapped, or of a subclass, changes no number of any method, loss and policy included."""
    model = subject.model()
    own, again = _numbers(subject, model), _numbers(subject, subject.model())
    # what is another at every call is not this rule's: see check_same_seed_same_numbers
    own = {name: values for name, values in own.items() if not differences(values, again[name])}
    for slot, method in model.slots.items():
        part = getattr(model, slot, None)
        if part is None:
            continue
        wrapper = Standin if isinstance(part, nn.Module) else Passing
        for what, dress in (("wrapped", wrapper), ("of a subclass", _as_subclass)):
            other = subject.model()
            other.set_component(slot, dress(getattr(other, slot)))
            _expect_equal(f"{slot} is {what}", own, _numbers(subject, other))
        if slot in SLOTS:
            other = subject.model()
            other.set_component(slot, Plain(getattr(other, slot), method))
            plain = _numbers(subject, other, modes=(False,), loss=False)
            named = {name: values for name, values in own.items() if name in plain}
            _expect_equal(f"{slot} has nothing but {method}", named, plain)


def _as_subclass(part: Any) -> Any:
    twin = copy.deepcopy(part)
    twin.__class__ = _subclass(type(part))
    return twin


def _subclass(kind: type) -> type:
    return type(kind.__name__, (kind,), {})


@check()
def check_class_overrides_start_as_the_familys_own(subject: Subject) -> None:
    """A part given as the family's own class, a subclass of it or an id starts with the weights the family's has."""
    plain = subject.build()
    if type(plain).initialise is WorldModel.initialise:
        raise CheckSkipped("the family has no initialise(): parts are what their own layers make them")
    own = {name: value.clone() for name, value in plain.state_dict().items()}
    if differences(own, subject.build().state_dict(), tolerance=0):
        raise CheckSkipped("no two models start alike: see check_seed_decides_the_weights")
    tried = 0
    for slot in plain.slots:
        kind = type(getattr(plain, slot, None))
        if not _takes_config(kind):
            continue
        tried += 1
        with _registered(kind, slot, plain.config.model_type) as component_id:
            for what, value in (("its class", kind), ("a subclass", _subclass(kind)), ("an id", component_id)):
                model = subject.build()
                model.set_component(slot, value)
                wrong = differences(own, model.state_dict(), tolerance=0)
                expect(
                    not wrong,
                    f"{slot} given as {what} starts with other weights: {wrong[:4]}; set every weight in initialise(), "
                    "the same at every call and whatever the order of the modules",
                )
    if not tried:
        raise CheckSkipped("no part is made of the config alone")


def _takes_config(kind: type) -> bool:
    """Whether ``kind()`` or ``kind(config)`` makes one."""
    if kind is type(None):
        return False
    try:
        accepted = inspect.signature(kind).parameters.values()
    except ValueError:
        return False
    required = [p.name for p in accepted if p.kind <= p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    return required in ([], ["config"])


@contextmanager
def _registered(kind: type, slot: str, family: str) -> Iterator[str]:
    """An id for a class, as long as it is needed."""
    before = WorldModelRegistry.snapshot()
    try:
        WorldModelRegistry.register_component(REGISTERED, kind, ComponentSpec(name=REGISTERED, component_type=slot))
        yield REGISTERED
    finally:
        WorldModelRegistry.restore(before)
