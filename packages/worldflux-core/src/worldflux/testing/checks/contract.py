"""What a family declares is there, and has the shapes it declares."""

from __future__ import annotations

import json
import re
from typing import Any

import torch
from torch import Tensor

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ValidationError
from worldflux.core.policy import Policy
from worldflux.core.registry import WorldModelRegistry
from worldflux.core.spec import Capability, ModalityKind, ModalitySpec
from worldflux.core.state import State
from worldflux.words.counts import counted

from ..calls import calls, named
from ..check import CheckSkipped, check, expect
from ..subject import Subject

BATCHES = (1, 3)
HORIZONS = (0, 1, 5)
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}
BUILDABLE = 2e7  # parameters that may be allocated only to be counted
NO_SUCH_OPTION = "wf_no_such_option"


@check()
def check_presets_build(subject: Subject) -> None:
    """Every preset of the manifest gives a config of the family."""
    for preset in subject.presets:
        try:
            subject.config(preset)
        except ValueError as error:
            message = f"{preset}: the values in worldflux.toml make no config ({error}); correct them or the config"
            expect(False, message)


@check()
def check_config_survives_json(subject: Subject) -> None:
    """A config written as JSON and read back is equal."""
    for preset, config in subject.configs.items():
        again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
        changed = [name for name, value in vars(config).items() if vars(again).get(name) != value]
        expect(
            again == config,
            f"{preset}: {changed} differ after a JSON round trip; it knows no tuples: make them again in __post_init__",
        )


@check()
def check_config_refuses_unknown_options(subject: Subject) -> None:
    """An option the config does not have is a ValueError that names it."""
    config = subject.build().config
    message = _refusal(lambda: type(config).from_dict({**config.to_dict(), NO_SUCH_OPTION: 1}))
    expect(message is not None, f"{type(config).__name__}.from_dict ignores unknown options: typos would go unseen")
    expect(NO_SUCH_OPTION in str(message), f"the error for an unknown option does not name it: {message!r}")


@check()
def check_labels_are_honest(subject: Subject) -> None:
    """The ``params`` label of every preset is within 25 % of the counted parameters, frozen copies included."""
    if subject.family is None:
        raise CheckSkipped("the presets are another plugin's")
    uncounted = []
    for key, preset in subject.family.presets.items():
        match = re.fullmatch(r"~?\s*([\d.]+)\s*([KMB]?)", preset.params)
        expect(match is not None, f"{key}: params = {preset.params!r} is no size; write '~12M', '~0.5M' or '~3K'")
        stated = float(match[1]) * UNITS[match[2]]  # type: ignore[index]
        config = subject.configs.get(subject.family.preset_name(key))
        counted = None if config is None else _count(config, stated)
        if counted is None:
            uncounted.append(key)
            continue
        expect(
            abs(counted - stated) <= 0.25 * stated,
            f"{key}: worldflux.toml says {preset.params}, the model has {counted:,} parameters; state what it has",
        )
    if uncounted:
        raise CheckSkipped(f"{uncounted} cannot be built without memory for the weights; the others hold")


def _count(config: WorldModelConfig, stated: float) -> int | None:
    model_class = WorldModelRegistry.model(config.model_type).model_class
    try:
        with torch.device("meta"):  # shapes only: nothing is allocated
            model = model_class(config)
    except (RuntimeError, NotImplementedError):
        if stated > BUILDABLE:
            return None
        model = model_class(config)
    return sum(parameter.numel() for parameter in model.parameters())


@check()
def check_capabilities_agree(subject: Subject) -> None:
    """The model's capabilities (members of ``Capability``) are the manifest's; with options, at least those."""
    if subject.family is None:
        raise CheckSkipped("the family is another plugin's")
    built = subject.build()
    model = {capability.value for capability in Capability if built.supports(capability)}
    expect(
        model == subject.capabilities or (subject.options is not None and model > subject.capabilities),
        f"worldflux.toml declares {sorted(subject.capabilities)}, the model {sorted(model)}; make them one list",
    )


@check()
def check_declared_capabilities_are_there(subject: Subject) -> None:
    """Every prediction and every method that a declared capability promises is there."""
    model, inputs = subject.model(), subject.inputs()
    for capability, wanted in (
        ("reward_pred", {"reward"}),
        ("continue_pred", {"continue"}),
        ("obs_decoder", set(inputs.obs)),
    ):
        if subject.declares(capability):
            missing = sorted(wanted - set(model.decode(inputs.state).preds))
            expect(not missing, f"{capability} is declared, but decode(state).preds lacks {missing}")
    for name, call in calls(subject, model).items():
        try:
            call(inputs, True)
        except NotImplementedError as error:
            expect(False, f"{name} is promised by {sorted(subject.capabilities)}, but not implemented: {error}")


@check()
def check_io_contract_is_consistent(subject: Subject) -> None:
    """The input/output contract does not contradict itself, the config or the capabilities."""
    model = subject.build()
    contract, config = model.io_contract(), model.config
    contract.validate()
    found = {
        "the observations": (contract.observation_spec.modalities, config.modalities),
        "the action": (contract.action_spec, config.actions),
    }
    for what, (stated, given) in found.items():
        expect(stated == given, f"io_contract() states {stated} as {what}, the config {given}")
    expect(
        bool(contract.state_spec.tensors) or not subject.declares("latent_dynamics", "representation"),
        "io_contract().state_spec is empty; name every tensor of the State with its shape",
    )
    stated = contract.prediction_spec.tensors
    for capability, name in (("reward_pred", "reward"), ("continue_pred", "continue")):
        expect(
            not stated or not subject.declares(capability) or name in stated,
            f"{capability} is declared, but io_contract().prediction_spec has no {name!r}, only {sorted(stated)}",
        )
    same = model.contract_fingerprint() == subject.build().contract_fingerprint()
    expect(same, "two models of one config have different contract fingerprints: saved models could not be loaded")


@check()
def check_states_are_as_declared(subject: Subject) -> None:
    """Every state has exactly the tensors of the contract: names, shapes, dtypes, device."""
    model = subject.model()
    specs, device = model.io_contract().state_spec.tensors, next(model.parameters()).device
    for size in BATCHES:
        inputs = subject.inputs(size)
        states = {"initial_state": model.initial_state(size)}
        if subject.declares("representation", "latent_dynamics"):
            states["encode"] = model.encode(inputs.obs)
            states["update"] = model.update(inputs.state, inputs.action, inputs.following)
        if subject.declares("latent_dynamics"):
            states["transition"] = model.transition(inputs.state, inputs.action)
        for method, state in states.items():
            expect(isinstance(state, State), f"{method} returns a {type(state).__name__}, expected a State")
            expect(
                set(state.tensors) == set(specs),
                f"{method} returns {sorted(state.tensors)}, io_contract().state_spec declares {sorted(specs)}",
            )
            for name, value in state.tensors.items():
                _expect_tensor(f"{method}: state tensor {name!r}", value, (size, *specs[name].shape), specs[name])
                expect(value.device == device, f"{method}: {name!r} is on {value.device}, the weights on {device}")


@check()
def check_predictions_are_as_declared(subject: Subject) -> None:
    """``decode`` gives the declared predictions in their shapes; reward and continue are ``[B]``."""
    if not subject.declares("obs_decoder", "reward_pred", "continue_pred"):
        raise CheckSkipped("nothing to decode is declared")
    model = subject.model()
    contract = model.io_contract()
    scalar = ModalitySpec(ModalityKind.VECTOR, ())
    seen = {name: ModalitySpec(spec.kind, spec.shape) for name, spec in contract.observation_spec.modalities.items()}
    specs = {**seen, "reward": scalar, "continue": scalar, **contract.prediction_spec.tensors}
    for size in BATCHES:
        preds = model.decode(subject.inputs(size).state).preds
        missing = sorted(set(contract.prediction_spec.tensors) - set(preds))
        expect(not missing, f"decode lacks {missing} of io_contract().prediction_spec")
        for name, value in preds.items():
            if name in specs:
                _expect_tensor(f"decode: {name!r}", value, (size, *specs[name].shape), specs[name])


@check()
def check_predictions_are_in_range(subject: Subject) -> None:
    """``continue`` is a probability and decoded images are floats in [0, 1]."""
    if not subject.declares("obs_decoder", "continue_pred"):
        raise CheckSkipped("neither observations nor continue are decoded")
    given = [{}] if subject.pictures is None else [{}, subject.pictures]
    for options in given:
        model = subject.model(**options)
        kinds = {name: spec.kind for name, spec in model.io_contract().observation_spec.modalities.items()}
        state = subject.inputs().state if not options else model.initial_state(3)
        for name, value in named(model.decode(state)).items():
            if name != "continue" and kinds.get(name) is not ModalityKind.IMAGE:
                continue
            low, high = float(value.min()), float(value.max())
            what = "a probability" if name == "continue" else "an image in [0, 1]"
            fits = value.is_floating_point() and low >= 0 and high <= 1
            expect(fits, f"decode: {name!r} should be {what}, got {value.dtype} from {low:.3g} to {high:.3g}")


@check(requires=("latent_dynamics",))
def check_rollout_shapes(subject: Subject) -> None:
    """A rollout of H actions has H + 1 states, and rewards and continues ``[H, B]`` if they are predicted."""
    model = subject.model()
    for size in BATCHES:
        inputs = subject.inputs(size)
        for horizon in HORIZONS:
            plan = inputs.action.expand(horizon, *inputs.action.shape)
            trajectory = model.rollout(inputs.state, plan)
            what = f"rollout of {counted(horizon, 'action')} for {counted(size, 'row')}"
            expect(len(trajectory.states) == horizon + 1, f"{what}: {len(trajectory.states)} states")
            for name, capability in (("rewards", "reward_pred"), ("continues", "continue_pred")):
                value = getattr(trajectory, name)
                if subject.declares(capability) and (horizon or value is not None):
                    got = None if value is None else tuple(value.shape)
                    expect(got == (horizon, size), f"{what}: {name} are {got}, expected {(horizon, size)}")


@check()
def check_loss_is_one_finite_scalar(subject: Subject) -> None:
    """The loss is one finite scalar to differentiate, and each of its components is a finite scalar.

    One that needs the statistics of a batch may refuse a single sequence, saying so.
    """
    model = subject.build().train()
    for size in BATCHES:
        for rows in (2, 8):
            what = f"loss of {counted(size, 'sequence')} of {counted(rows, 'row')}"
            try:
                out = model.loss(subject.batch(size, rows))
            except ValidationError as error:
                expect(size == 1 and "batch" in str(error), f"{what}: {error}")
                continue
            for name, value in {"loss": out.loss, **out.components}.items():
                good = isinstance(value, Tensor) and value.ndim == 0
                expect(good, f"{what}: {name!r} is {_describe(value)}, expected a tensor without axes")
                expect(bool(torch.isfinite(value)), f"{what}: {name!r} is {value.item()}")
            expect(out.loss.requires_grad, f"{what}: it has no gradient; something detached it")


@check(requires=("policy",))
def check_policy_actions_are_valid(subject: Subject) -> None:
    """A policy gives flat actions ``[N, A]``: one-hot where discrete, within [-1, 1] where continuous."""
    model = subject.model()
    spec, policy = model.io_contract().action_spec, model.policy()
    expect(
        isinstance(policy, Policy), f"policy() returns a {type(policy).__name__} that lacks part of core.policy.Policy"
    )
    for size in BATCHES:
        inputs = subject.inputs(size)
        for explore in (False, True):
            first = torch.ones(size, dtype=torch.bool)
            action, carry = policy(inputs.obs, policy.initial(size), is_first=first, explore=explore)
            what = f"the policy's action (explore={explore})"
            _expect_tensor(what, action, (size, spec.dim), None)
            for part, place in spec.slices():
                entries = action[:, place].detach()
                if part.kind == "discrete":
                    one_hot = bool(((entries == 0) | (entries == 1)).all() and (entries.sum(-1) == 1).all())
                    expect(one_hot, f"{what}: part {part.name!r} is not one-hot: {entries[0].tolist()}")
                else:
                    largest = float(entries.abs().max())
                    expect(largest <= 1, f"{what}: part {part.name!r} reaches {largest:.3g}, beyond [-1, 1]")
            held = all(isinstance(value, Tensor) for value in carry.values())
            expect(held, "the policy's carry must be a dict of tensors")


@check(requires=("policy",))
def check_policy_latents_are_as_declared(subject: Subject) -> None:
    """``policy.latents(carry)`` gives what ``latent_spec`` declares for a replay: names, shapes, dtypes."""
    policy = subject.model().policy()
    for size in BATCHES:
        first = torch.ones(size, dtype=torch.bool)
        _, carry = policy(subject.inputs(size).obs, policy.initial(size), is_first=first, explore=True)
        latents = policy.latents(carry)
        declared = {name: ((size, *shape), dtype) for name, (shape, dtype) in policy.latent_spec.items()}
        found = {n: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for n, value in latents.items()}
        expect(found == declared, f"policy.latents gives {found}, latent_spec declares {declared}")


def _expect_tensor(what: str, value: Any, shape: tuple[int, ...], spec: ModalitySpec | None) -> None:
    expect(isinstance(value, Tensor) and tuple(value.shape) == shape, f"{what} is {_describe(value)}, expected {shape}")
    if spec is not None and not spec.dtype.startswith("float"):
        expect(
            str(value.dtype) in (f"torch.{spec.dtype}", "torch.float32"), f"{what} is {value.dtype}, not {spec.dtype}"
        )
    else:
        expect(value.is_floating_point(), f"{what} is {value.dtype}, expected a floating dtype")
        expect(bool(torch.isfinite(value).all()), f"{what} is not finite")


def _describe(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _refusal(call: Any) -> str | None:
    """The text of the ValueError a call raises, None if it raises nothing."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return None
