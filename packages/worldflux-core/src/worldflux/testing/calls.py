"""Every method of the contract under one signature, so that one rule can be asked of all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput, ModelOutput
from worldflux.core.state import State
from worldflux.core.trajectory import Trajectory

from .inputs import Inputs, Named
from .subject import Subject

Call = Callable[[Inputs, bool], Named]


def calls(subject: Subject, model: WorldModel, *, loss: bool = True, policy: bool = True) -> dict[str, Call]:
    """The methods the family declares, by name; each takes inputs and ``deterministic`` and returns named tensors.

    The policy explores where ``deterministic`` is False; the loss knows no such option.
    """
    found: dict[str, Call] = {}
    if subject.declares("representation", "latent_dynamics"):
        found["encode"] = lambda x, certain: named(model.encode(x.obs, deterministic=certain))
        found["update"] = lambda x, certain: named(model.update(x.state, x.action, x.following, deterministic=certain))
    if subject.declares("latent_dynamics"):
        found["transition"] = lambda x, certain: named(model.transition(x.state, x.action, deterministic=certain))
        found["rollout"] = lambda x, certain: named(model.rollout(x.state, x.plan, deterministic=certain))
    if subject.declares("obs_decoder", "reward_pred", "continue_pred"):
        found["decode"] = lambda x, certain: named(model.decode(x.state))
    if policy and subject.declares("policy"):
        found["policy"] = lambda x, certain: act(model, x, explore=not certain)
    if loss:
        found["loss"] = lambda x, certain: named(model.loss(x.batch))
    return found


def remembers(subject: Subject, model: WorldModel) -> bool:
    """Whether ``update`` reads what was done before; else it is ``encode``."""
    kind = type(model)
    if kind.update is WorldModel.update and kind.correct is WorldModel.correct:
        return False
    inputs = subject.inputs()
    with torch.no_grad():
        afresh = model.encode(inputs.following, deterministic=True)
        after = model.update(inputs.state, inputs.action, inputs.following, deterministic=True)
    return bool(differences(afresh.tensors, after.tensors))


def act(model: WorldModel, inputs: Inputs, *, explore: bool) -> Named:
    """Two steps of a fresh policy: an episode's first observation and the one after."""
    policy, size = model.policy(), inputs.action.shape[0]
    carry = policy.initial(size)
    _, carry = policy(inputs.obs, carry, is_first=torch.ones(size, dtype=torch.bool), explore=explore)
    action, carry = policy(inputs.following, carry, is_first=torch.zeros(size, dtype=torch.bool), explore=explore)
    return {"action": action, **{f"carry {name}": value for name, value in carry.items()}}


def named(result: Any) -> Named:
    """The tensors of whatever a method of the contract returns, without gradients."""
    found: dict[str, Any] = {}
    if isinstance(result, State):
        found = dict(result.tensors)
    elif isinstance(result, ModelOutput):
        found = dict(result.preds)
    elif isinstance(result, Trajectory):
        found = {f"states {name}": result.to_tensor(name) for name in result.states[0].tensors}
        found |= {name: getattr(result, name) for name in ("rewards", "values", "continues")}
    elif isinstance(result, LossOutput):
        found = {"loss": result.loss, **{f"component {name}": value for name, value in result.components.items()}}
        found |= {f"latents {name}": value for name, value in (result.latents or {}).items()}
    return {name: value.detach() for name, value in found.items() if isinstance(value, Tensor)}


def differences(first: Mapping[str, Tensor], second: Mapping[str, Tensor], *, tolerance: float = 1e-4) -> list[str]:
    """Names under which two results differ by more than ``tolerance`` of the largest entry; 0 compares bit for bit."""
    return [name for name in first if name not in second or not _near(first[name], second[name], tolerance)]


def _near(first: Tensor, second: Tensor, tolerance: float) -> bool:
    if first.shape != second.shape:
        return False
    if tolerance == 0 or not first.is_floating_point():
        return torch.equal(first, second)
    if not first.numel():
        return True
    scale = float(first.abs().max())
    return bool((first - second).abs().max() <= tolerance * scale + 1e-6)


def few(names: Collection[str]) -> str:
    """The first names of possibly very many, for a message."""
    shown = ", ".join(sorted(names)[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def global_randomness() -> dict[str, Any]:
    """The states of the generators that the whole process shares."""
    _, numbers, position, *_ = np.random.get_state()
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (position, numbers.tolist()),  # type: ignore[attr-defined]
        "random": random.getstate(),
    }
