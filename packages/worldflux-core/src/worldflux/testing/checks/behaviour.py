"""How a family's methods behave: rows, time, actions and randomness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.model import WorldModel
from worldflux.core.payloads import WorldModelInput

from ..calls import Call, calls, differences, few, global_randomness, named
from ..check import CheckSkipped, check, expect
from ..inputs import HORIZON, Inputs, length
from ..subject import Subject

SEED = 7


@check()
def check_rows_are_independent(subject: Subject) -> None:
    """A row of a batch gives the same numbers as the same row alone (deterministic)."""
    inputs = subject.inputs()
    for name, call in calls(subject, subject.model(), loss=False).items():
        with torch.no_grad():
            together = call(inputs, True)
            for index in range(inputs.action.shape[0]):
                alone = call(inputs.row(index), True)
                axis = 1 if name == "rollout" else 0
                row = {key: value.narrow(axis, index, 1) for key, value in together.items()}
                wrong = differences(row, alone)
                expect(not wrong, f"{name}: {wrong} of row {index} depend on the other rows of the batch")


@check(requires=("latent_dynamics",))
def check_rollout_is_causal(subject: Subject) -> None:
    """State t of a rollout, and what arriving there pays, does not depend on the actions done at t or later."""
    model, inputs = subject.model(), subject.inputs()
    for certain in (True, False):
        first = _rollout(model, inputs, inputs.plan, certain)
        for t in range(HORIZON):
            plan = torch.cat([inputs.plan[:t], inputs.plan[t:].roll(1, dims=1)])
            second = _rollout(model, inputs, plan, certain)
            wrong = [n for n, v in first.items() if differences({n: v[: _known(n, t)]}, {n: second[n][: _known(n, t)]})]
            expect(
                not wrong, f"rollout(deterministic={certain}): {wrong} up to state {t} change with actions from {t} on"
            )


def _known(name: str, t: int) -> int:
    """How many entries of a trajectory's series may depend on the first ``t`` actions only."""
    return t if name in ("rewards", "continues") else t + 1


def _rollout(model: WorldModel, inputs: Inputs, plan: Tensor, certain: bool) -> dict[str, Tensor]:
    model.seed(SEED)
    with torch.no_grad():
        return named(model.rollout(inputs.state, plan, deterministic=certain))


@check()
def check_loss_is_causal(subject: Subject) -> None:
    """The latents that ``loss`` infers for a row do not depend on later rows."""
    model, batch, other = subject.model(), subject.batch(), subject.batch(seed=1)
    first = _latents(model, batch)
    rows = length(batch)
    for t in range(model.context_rows + 1, rows):
        second = _latents(model, _spliced(batch, other, t))
        wrong = [n for n, v in first.items() if differences(_before(v, t, rows), _before(second[n], t, rows))]
        expect(not wrong, f"loss: the latents {wrong} of rows before {t} change with what is seen from row {t} on")


def _before(latents: Tensor, t: int, rows: int) -> dict[str, Tensor]:
    """Latents of the rows before ``t``; they belong to the last of ``rows``."""
    return {"": latents[:, : max(0, t - (rows - latents.shape[1]))]}


@check()
def check_episodes_do_not_leak(subject: Subject) -> None:
    """The latents that ``loss`` infers from an episode's first row on do not depend on the episode before."""
    model, batch, other = subject.model(), subject.batch(), subject.batch(seed=1)
    rows = length(batch)
    t = rows - 4
    for name in ("is_first", "is_last", "is_terminal"):  # one episode ends with row t - 1, the next starts with t
        flags = getattr(batch, name).clone()
        flags[:, t] = name == "is_first"
        flags[:, t - 1] = name != "is_first"
        batch = replace(batch, **{name: flags})
    first, second = _latents(model, batch), _latents(model, _spliced(other, batch, t))
    wrong = [n for n, v in first.items() if differences({n: v[:, -4:]}, {n: second[n][:, -4:]})]
    expect(not wrong, f"loss: the latents {wrong} after is_first depend on the episode before; start from zeros there")


def _latents(model: WorldModel, batch: Batch) -> dict[str, Tensor]:
    model.seed(SEED)
    latents = model.loss(batch).latents
    if not latents:
        raise CheckSkipped("loss returns no latents")
    return {name: value.detach() for name, value in latents.items()}


def _spliced(head: Batch, tail: Batch, t: int) -> Batch:
    """The rows of ``head`` before ``t`` and those of ``tail`` from ``t`` on."""
    rows = length(head)
    tails = dict(tail.tensors())

    def join(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: join(f"{name}.{key}", child) for key, child in value.items()}
        follows_time = isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == rows
        return torch.cat([value[:, :t], tails[name][:, t:]], 1) if follows_time else value

    return replace(head, **{name: join(name, value) for name, value in vars(head).items()})


@check(requires=("latent_dynamics",))
def check_actions_matter(subject: Subject) -> None:
    """Every entry of the action changes what is imagined; a transition is never the identity."""
    model, inputs = subject.model(), subject.inputs()
    after = named(model.transition(inputs.state, inputs.action, deterministic=True))
    expect(bool(differences(inputs.state.tensors, after)), "transition returns the state it was given")
    spec = model.io_contract().action_spec
    if spec.dim < 1:
        raise CheckSkipped("the family takes no actions")
    for part, place in spec.slices():
        for index in range(place.start, place.stop):
            pair = []
            for value in (0, 1) if part.kind == "discrete" else (-1.0, 1.0):
                action = inputs.action.clone()
                if part.kind == "discrete":  # class ``index``, or its neighbour
                    action[:, place] = 0
                    action[:, place.start + (index - place.start + value) % part.dim] = 1
                else:
                    action[:, index] = value
                pair.append(named(model.transition(inputs.state, action, deterministic=True)))
            same = part.dim > 1 or part.kind != "discrete"
            changed = bool(differences(*pair, tolerance=1e-6))
            expect(changed or not same, f"transition: entry {index} of the action (part {part.name!r}) has no effect")


@check(requires=("latent_dynamics",))
def check_rollout_repeats_transition(subject: Subject) -> None:
    """A deterministic rollout is transition after transition, and pays what decoding the states it arrives in says."""
    model, inputs = subject.model(), subject.inputs()
    with torch.no_grad():
        trajectory, state = model.rollout(inputs.state, inputs.plan, deterministic=True), inputs.state
        for t, action in enumerate(inputs.plan):
            state = model.transition(state, action, deterministic=True)
            wrong = differences(state.tensors, trajectory.states[t + 1].tensors)
            expect(not wrong, f"rollout: {wrong} of state {t + 1} differ from {t + 1} transitions")
            for name, series in (("reward", trajectory.rewards), ("continue", trajectory.continues)):
                if series is None:
                    continue
                step = {name: model.decode(state).preds[name].reshape(-1)}
                arrived = not differences(step, {name: series[t].reshape(-1)})
                expect(arrived, f"rollout: entry {t} of {name}s is not decode(state {t + 1}), the state arrived in")


@check()
def check_update_uses_the_observation(subject: Subject) -> None:
    """``encode`` and ``update`` give other states for other observations."""
    inputs, model = subject.inputs(), subject.model()
    known = calls(subject, model, loss=False, policy=False)
    if "update" not in known:
        raise CheckSkipped("not declared: latent_dynamics or representation")
    other = replace(inputs, obs=subject.echo.start(3), following=subject.echo.start(3))
    for name in ("encode", "update"):
        changed = differences(known[name](inputs, True), known[name](other, True), tolerance=1e-6)
        expect(bool(changed), f"{name} gives one state whatever is observed")


@check()
def check_deterministic_draws_nothing(subject: Subject) -> None:
    """``deterministic=True`` gives the same numbers twice and leaves the model's generator where it was."""
    model, inputs = subject.model(), subject.inputs()
    for name, call in calls(subject, model, loss=False, policy=False).items():
        model.generator()
        state = {device: value.clone() for device, value in model.rng_state().items()}
        wrong = differences(call(inputs, True), call(inputs, True), tolerance=0)
        expect(not wrong, f"{name}(deterministic=True) called twice gives two values of {wrong}")
        drawn = differences(state, model.rng_state(), tolerance=0)
        expect(not drawn, f"{name}(deterministic=True) draws from the model's generator on {drawn}")


@check()
def check_same_seed_same_numbers(subject: Subject) -> None:
    """After ``model.seed(n)`` every method that samples gives the same numbers again."""
    model, inputs = subject.model(), subject.inputs()
    for name, call in calls(subject, model).items():
        found = []
        for _ in range(2):
            model.seed(SEED)
            found.append(call(inputs, False))
        wrong = differences(*found, tolerance=0)
        expect(not wrong, f"{name}: {wrong} differ under one seed; draw from model.generator(device) only")


@check()
def check_no_global_randomness(subject: Subject) -> None:
    """No method draws from the generators of torch, numpy or random that the whole process shares."""
    model, inputs = subject.model(), subject.inputs()
    for name, call in calls(subject, model).items():
        before = global_randomness()
        call(inputs, False)
        drawn = [library for library, state in global_randomness().items() if state != before[library]]
        expect(not drawn, f"{name} draws from the global generator of {drawn}; pass generator=model.generator(device)")


@check()
def check_inputs_are_not_changed(subject: Subject) -> None:
    """No method changes a tensor it was given."""
    model, inputs = subject.model(), subject.inputs()
    for name, call in calls(subject, model).items():
        given = inputs.clone()
        for certain in (True, False):
            call(given, certain)
            wrong = differences(inputs.named(), given.named(), tolerance=0)
            expect(not wrong, f"{name} changes what it was given: {wrong}; work on a copy")


@check()
def check_calls_leave_the_model_as_it_was(subject: Subject) -> None:
    """A call leaves the model's mode and torch's grad mode alone, and in evaluation also weights and buffers."""
    model, inputs = subject.model(), subject.inputs()
    for name, call in calls(subject, model).items():
        for training in (True, False):
            model.train(training)
            modes = {path: module.training for path, module in model.named_modules()}
            weights = {path: value.clone() for path, value in model.state_dict().items()}
            for grad in (True, False):
                with torch.set_grad_enabled(grad):
                    call(inputs, False)
                    expect(torch.is_grad_enabled() is grad, f"{name} leaves grad mode {not grad}, it was {grad}")
            changed = [path or "the model" for path, module in model.named_modules() if module.training != modes[path]]
            expect(not changed, f"{name} changes the training mode of {few(changed)}")
            moved = [] if training else differences(weights, model.state_dict(), tolerance=0)
            expect(not moved, f"{name} changes {few(moved)} in evaluation mode; learn when self.training only")


@check(requires=("policy",))
def check_policy_holds_no_state(subject: Subject) -> None:
    """What a policy remembers is in the carry alone: one policy may act in two environments in turn."""
    inputs, policy, fresh = subject.inputs(), subject.model().policy(), subject.model().policy()
    size = inputs.action.shape[0]
    first, later = torch.ones(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
    _, carry = policy(inputs.obs, policy.initial(size), is_first=first, explore=False)
    kept = {name: value.clone() for name, value in carry.items()}
    policy(subject.echo.start(size), policy.initial(size), is_first=first, explore=False)  # another environment
    after = policy(inputs.following, kept, is_first=later, explore=False)
    _, carry = fresh(inputs.obs, fresh.initial(size), is_first=first, explore=False)
    alone = fresh(inputs.following, carry, is_first=later, explore=False)
    wrong = differences({"action": alone[0], **alone[1]}, {"action": after[0], **after[1]})
    expect(not wrong, f"{wrong} depend on calls in between; keep everything the policy remembers in the carry")


@check(requires=("policy",))
def check_policy_forgets_at_episode_starts(subject: Subject) -> None:
    """Where ``is_first`` is set the policy ignores that row's carry."""
    inputs, model, found = subject.inputs(), subject.model(), []
    size = inputs.action.shape[0]
    first = torch.ones(size, dtype=torch.bool)
    for remembers in (True, False):
        policy = model.policy()
        _, used = policy(inputs.obs, policy.initial(size), is_first=first, explore=False)
        given = used if remembers else policy.initial(size)
        action, carry = policy(inputs.following, given, is_first=first, explore=False)
        found.append({"action": action, **{f"carry {name}": value for name, value in carry.items()}})
    wrong = differences(*found)
    expect(not wrong, f"after is_first {wrong} still depend on the episode before")


@check()
def check_observations_mean_the_same_in_every_form(subject: Subject) -> None:
    """A bare tensor (of the one modality), a dict and a WorldModelInput give the same numbers, policy included."""
    model, inputs = subject.model(), subject.inputs()
    known = calls(subject, model, policy=not subject.earlier)  # whose policies were promised a dict
    forms: dict[str, Any] = {"a WorldModelInput": lambda obs: WorldModelInput(observations=obs)}
    if len(inputs.obs) == 1:
        forms["a tensor"] = lambda obs: next(iter(obs.values()))
    for name in ("encode", "update", "policy", "loss"):
        if name not in known:
            continue
        own = _seeded(model, known[name], inputs)
        for form, turn in forms.items():
            if name == "loss" and form != "a tensor":
                continue  # a batch holds tensors
            batch = replace(inputs.batch, obs=turn(inputs.batch.obs)) if name == "loss" else inputs.batch
            other = replace(inputs, obs=turn(inputs.obs), following=turn(inputs.following), batch=batch)
            wrong = _changed(own, model, known[name], other)
            expect(
                not wrong,
                f"{name} where observations are {form}: {wrong}; read self.observations(obs), or what self.checked "
                "made of a batch",
            )


@check(requires=("latent_dynamics",))
def check_choices_mean_the_same_in_every_dtype(subject: Subject) -> None:
    """One-hot actions of integers or booleans, and indices, mean what those of floats mean, in the loss as well."""
    discrete = subject.discrete
    if discrete is None:
        raise CheckSkipped("the family takes no single discrete action of the kit's options")
    model, inputs = discrete.model(), discrete.inputs()
    forms = {"integers": torch.Tensor.long, "booleans": torch.Tensor.bool, "indices": lambda value: value.argmax(-1)}
    for name, call in calls(discrete, model, policy=False).items():
        if name not in ("transition", "rollout", "update", "loss"):
            continue
        own = _seeded(model, call, inputs)
        for form, turn in forms.items():
            assert inputs.batch.actions is not None
            batch = replace(inputs.batch, actions=turn(inputs.batch.actions))
            other = replace(inputs, action=turn(inputs.action), plan=turn(inputs.plan), batch=batch)
            wrong = _changed(own, model, call, other)
            expect(
                not wrong,
                f"{name} where actions are {form}: {wrong}; read self.actions(action), or what self.checked made of a "
                "batch",
            )


def _changed(own: dict[str, Tensor], model: WorldModel, call: Call, inputs: Inputs) -> str:
    """What is other than ``own`` for inputs that mean the same, or the error that they raise; else nothing."""
    try:
        wrong = differences(own, _seeded(model, call, inputs))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"{wrong} differ" if wrong else ""


def _seeded(model: WorldModel, call: Call, inputs: Inputs) -> dict[str, Tensor]:
    model.seed(SEED)
    return call(inputs, True)
