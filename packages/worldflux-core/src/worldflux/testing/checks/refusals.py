"""A mistake by the caller is a ValueError that says what was expected and what was given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from worldflux.core.batch import Batch
from worldflux.core.model import WorldModel
from worldflux.core.payloads import ConditionPayload
from worldflux.core.spec import ModalityKind
from worldflux.core.state import State

from ..calls import calls, remembers
from ..check import CheckFailed, CheckSkipped, check, expect
from ..inputs import Inputs, Named, length
from ..subject import Subject

EXTRA = "wf_no_such_modality"
CONDITIONS = ("text_condition", "goal", "spatial", "camera_pose")
EXTRA_CONDITION = "wf.kit.no_such_condition"


def _refused(what: str, call: Callable[[], Any], *words: str) -> None:
    """Raise CheckFailed unless the call raises a ValueError that holds every one of ``words``."""
    try:
        call()
    except ValueError as error:
        silent = [word for word in words if word not in str(error)]
        expect(not silent, f"{what}: the error names neither {' nor '.join(silent)}: {error}")
    except Exception as error:
        hint = "check what comes in with self.observations, self.actions and self.validate_batch_contract"
        raise CheckFailed(f"{what} fails deep inside with {type(error).__name__}: {error}; {hint}") from error
    else:
        raise CheckFailed(f"{what} is accepted; it should be a ValueError that names what is expected and what came")


def _observers(subject: Subject, model: WorldModel) -> dict[str, Callable[[Named], Any]]:
    """The doors that observations ``[3, ...]`` come in by."""
    inputs, doors = subject.inputs(), dict[str, Callable[[Named], Any]]()
    if subject.declares("representation", "latent_dynamics"):
        doors["encode"] = lambda obs: model.encode(obs)
        doors["update"] = lambda obs: model.update(inputs.state, inputs.action, obs)
    rows = length(inputs.batch)
    doors["loss"] = lambda obs: model.loss(
        replace(inputs.batch, obs={n: v.unsqueeze(1).expand(-1, rows, *v.shape[1:]) for n, v in obs.items()})
    )
    return doors


@check()
def check_wrong_action_size_is_refused(subject: Subject) -> None:
    """Actions of another size are refused, naming both sizes."""
    model, inputs = subject.model(), subject.inputs()
    size = model.io_contract().action_spec.dim
    if size < 1:
        raise CheckSkipped("the family takes no actions")

    def wider(value: Any) -> Any:
        return torch.cat([value, value[..., :1]], -1)

    batch = replace(inputs.batch, actions=wider(inputs.batch.actions))
    wrong = replace(inputs, action=wider(inputs.action), plan=wider(inputs.plan), batch=batch)
    known = calls(subject, model)
    for name in ("transition", "rollout", "update", "loss"):
        if name in known and (name != "update" or remembers(subject, model)):
            what = f"{name} with actions of size {size + 1}"
            _refused(what, lambda call=known[name]: call(wrong, True), str(size), str(size + 1))  # type: ignore[misc]


@check()
def check_wrong_observation_shape_is_refused(subject: Subject) -> None:
    """An observation of another shape is refused, naming the modality and both shapes."""
    model, obs = subject.model(), subject.inputs().obs
    name, value = next(iter(obs.items()))
    wrong = {**obs, name: torch.cat([value, value[..., :1]], -1)}
    shape, got = value.shape[1:], wrong[name].shape[1:]
    for door, call in _observers(subject, model).items():
        what = f"{door} with {name!r} of shape {tuple(got)}"
        _refused(what, lambda call=call: call(wrong), name, _inner(shape), _inner(got))  # type: ignore[misc]


def _inner(shape: torch.Size) -> str:
    """A shape as it stands at the end of a longer one."""
    return ", ".join(map(str, shape)) + ")"


@check()
def check_missing_modality_is_refused(subject: Subject) -> None:
    """Observations without one of the modalities are refused, naming it."""
    model, obs = subject.model(), subject.inputs().obs
    for name in obs:
        rest = {other: value for other, value in obs.items() if other != name}
        for door, call in _observers(subject, model).items():
            _refused(f"{door} without {name!r}", lambda call=call, rest=rest: call(rest), name)  # type: ignore[misc]


@check()
def check_extra_modality_is_refused(subject: Subject) -> None:
    """Observations with a modality the model does not know are refused, naming it and the known ones."""
    model, obs = subject.model(), subject.inputs().obs
    wrong = {**obs, EXTRA: next(iter(obs.values()))}
    for door, call in _observers(subject, model).items():
        _refused(f"{door} with {EXTRA!r}", lambda call=call: call(wrong), EXTRA, *obs)  # type: ignore[misc]


@check()
def check_channels_last_image_is_refused(subject: Subject) -> None:
    """An image with its channels last is refused, saying so."""
    if subject.pictures is None:
        raise CheckSkipped("the family observes no image of the sizes the kit tries")
    if not subject.declares("representation", "latent_dynamics"):
        raise CheckSkipped("not declared: latent_dynamics or representation")
    model = subject.build(**subject.pictures)
    specs = model.io_contract().effective_input_spec.modalities
    obs = {name: torch.zeros(2, *spec.shape, dtype=getattr(torch, spec.dtype)) for name, spec in specs.items()}
    for name, spec in specs.items():
        if spec.kind is ModalityKind.IMAGE and len(set(spec.shape)) > 1:
            wrong = {**obs, name: obs[name].movedim(1, -1)}
            _refused(f"encode with {name!r} channels last", lambda wrong=wrong: model.encode(wrong), name, "channels")  # type: ignore[misc]


@check()
def check_wrong_dtype_is_refused(subject: Subject) -> None:
    """An observation of another dtype is refused, naming both dtypes."""
    model, obs = subject.model(), subject.inputs().obs
    name, value = next(iter(obs.items()))
    dtype = torch.int16 if value.dtype is not torch.int16 else torch.int64
    wrong = {**obs, name: value.to(dtype)}
    stated = model.io_contract().effective_input_spec.modalities[name].dtype
    for door, call in _observers(subject, model).items():
        what = f"{door} with {name!r} as {dtype}"
        _refused(what, lambda call=call: call(wrong), name, stated, str(dtype).removeprefix("torch."))  # type: ignore[misc]


@check()
def check_incomplete_batch_is_refused(subject: Subject) -> None:
    """A batch without something the contract requires is refused, naming what is missing."""
    model, batch = subject.model(), subject.batch()
    for key in model.io_contract().required_batch_keys:
        _refused(f"loss of a batch without {key!r}", lambda key=key: model.loss(_without(batch, key)), key)  # type: ignore[misc]


def _without(batch: Batch, key: str) -> Batch:
    """The batch without what a dotted key names."""
    root, *path = key.replace(":", ".").split(".", 1)
    if path and isinstance(inner := getattr(batch, root), dict):
        rest: Any = {name: value for name, value in inner.items() if name != path[0]}
    else:
        rest = None
    copied = replace(batch)
    setattr(copied, root, rest)
    return copied


@check()
def check_broken_rewards_are_refused(subject: Subject) -> None:
    """A reward that is no number is refused, naming where it stands."""
    model, batch = subject.model(), subject.batch()
    if "rewards" not in model.io_contract().required_batch_keys and not subject.declares("reward_pred"):
        raise CheckSkipped("the family reads no rewards")
    rewards = torch.zeros(batch.batch_size, length(batch))
    rewards[1, -1] = float("nan")
    place = str([1, rewards.shape[1] - 1])
    _refused("loss of a batch with a NaN reward", lambda: model.loss(replace(batch, rewards=rewards)), "reward", place)


@check()
def check_broken_observations_are_refused(subject: Subject) -> None:
    """An observation that is no number is refused, naming it and where it stands."""
    model, obs = subject.model(), subject.inputs().obs
    for name, value in obs.items():
        broken = {**obs, name: value.float().clone()}
        broken[name][1] = float("nan")
        for door, call in _observers(subject, model).items():
            what = f"{door} with a NaN in {name!r}"
            _refused(what, lambda call=call, broken=broken: call(broken), name, "[1")  # type: ignore[misc]


@check()
def check_broken_actions_are_refused(subject: Subject) -> None:
    """An action that is no number is refused, saying where it stands."""
    model, inputs = subject.model(), subject.inputs()
    if not model.io_contract().action_spec.dim:
        raise CheckSkipped("the family takes no actions")
    broken = inputs.clone()
    for value in (broken.action, broken.plan, broken.batch.actions):
        value[-1, ..., -1] = float("nan")  # type: ignore[index]
    known = calls(subject, model)
    for name in ("transition", "rollout", "update", "loss"):
        if name in known and (name != "update" or remembers(subject, model)):
            what = f"{name} with an action that is NaN"
            _refused(what, lambda call=known[name]: call(broken, True), "action", "[")  # type: ignore[misc]


@check()
def check_foreign_states_are_refused(subject: Subject) -> None:
    """A state of another family, width or dtype, or with a NaN, is refused, naming the tensor."""
    if subject.earlier:
        raise CheckSkipped("the family overrides io_contract, as before states were checked for it")
    model, inputs = subject.model(), subject.inputs()
    contract = model.io_contract()
    known = calls(subject, model, loss=False, policy=False)
    doors = [name for name in ("transition", "rollout", "update", "decode") if name in known]
    for name, state in _foreign(inputs, contract.required_state_keys).items():
        word, what = name
        for door in doors:
            if door != "update" or remembers(subject, model):
                wrong = replace(inputs, state=state)
                _refused(f"{door} of {what}", lambda door=door, wrong=wrong: known[door](wrong, True), word)  # type: ignore[misc]


def _foreign(inputs: Inputs, required: tuple[str, ...]) -> dict[tuple[str, str], State]:
    """States that are not the family's, by the word an error must hold and by what is wrong with them."""
    tensors, found = inputs.state.tensors, dict[tuple[str, str], State]()
    if required:
        found[required[0], "another family's state"] = State({EXTRA: torch.zeros(inputs.action.shape[0], 2)})
    for name, value in tensors.items():
        wider = torch.cat([value, value[..., :1]], -1) if value.ndim > 1 else value[:, None]
        found[name, f"a state whose {name!r} is wider"] = State({**tensors, name: wider})
        if value.is_floating_point():
            found[name, f"a state whose {name!r} is float64"] = State({**tensors, name: value.double()})
            broken = value.clone()
            broken[-1] = float("nan")
            found[name, f"a state whose {name!r} is NaN"] = State({**tensors, name: broken})
    return found


@check()
def check_unread_conditions_are_refused(subject: Subject) -> None:
    """Conditions that the model does not read are refused by name, not ignored."""
    if subject.earlier:
        raise CheckSkipped("the family overrides io_contract, as before conditions were checked for it")
    model, inputs = subject.model(), subject.inputs()
    contract = model.io_contract()
    read = {*contract.condition_spec.modalities, *contract.effective_condition_extra_keys}
    read |= {name for slot in model.slots for name in getattr(getattr(model, slot, None), "reads", ())}
    goal: Any = torch.zeros(3, 2)
    given = {name: ConditionPayload(**{name: goal}) for name in CONDITIONS if name not in read}
    given[EXTRA_CONDITION] = ConditionPayload(extras={EXTRA_CONDITION: goal})
    known = calls(subject, model, loss=False, policy=False)
    for name, conditions in given.items():
        doors: dict[str, Callable[[], Any]] = {
            "transition": lambda c=conditions: model.transition(inputs.state, inputs.action, c),  # type: ignore[misc]
            "rollout": lambda c=conditions: model.rollout(inputs.state, inputs.plan, c),  # type: ignore[misc]
            "decode": lambda c=conditions: model.decode(inputs.state, c),  # type: ignore[misc]
        }
        if remembers(subject, model):
            doors["update"] = lambda c=conditions: model.update(inputs.state, inputs.action, inputs.following, c)  # type: ignore[misc]
        for door, call in doors.items():
            if door in known:
                _refused(f"{door} with a condition {name!r} that the model does not read", call, name)
