"""Every method of the contract under one signature, so that one rule can be asked of all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput, ModelOutput
from worldflux.core.spec import ModelIOContract
from worldflux.core.state import State, map_tensors
from worldflux.core.trajectory import Trajectory

if TYPE_CHECKING:
    from .subject import Subject

HORIZON = 4
Named = dict[str, Tensor]


@dataclass
class Inputs:
    """Arguments for B rows: ``obs`` and ``following`` by modality, ``action [B, A]``, ``plan [H, B, A]``."""

    obs: Named
    following: Named
    state: State
    action: Tensor
    plan: Tensor
    batch: Batch

    def row(self, index: int) -> Inputs:
        """One row alone, as a batch of one; the training batch stays whole."""
        only = slice(index, index + 1)
        alone = map_tensors([self.obs, self.following, self.state, self.action], lambda value: value[only])
        obs, following, state, action = alone
        return Inputs(obs, following, state, action, self.plan[:, only], self.batch)

    def clone(self) -> Inputs:
        """A copy that shares no memory."""
        parts = [self.obs, self.following, self.state, self.action, self.plan, self.batch]
        return Inputs(*map_tensors(parts, torch.clone))

    def named(self) -> Named:
        """Every tensor by a name a reader understands."""
        found = {"action": self.action, "action sequence": self.plan}
        found |= {f"obs {name}": value for name, value in (*self.obs.items(),)}
        found |= {f"following obs {name}": value for name, value in self.following.items()}
        found |= {f"state {name}": value for name, value in self.state.tensors.items()}
        return found | {f"batch.{name}": value for name, value in self.batch.tensors()}


def make_inputs(subject: Subject, size: int) -> Inputs:
    """Observations, actions and a state of the subject's toy world."""
    world, model = subject.echo, subject.model()
    generator = torch.Generator().manual_seed(size)
    before, action = (world.actions(size, generator=generator) for _ in range(2))
    plan = world.actions(HORIZON, size, generator=generator)
    obs = world.show(before)
    with torch.no_grad():
        encodes = subject.declares("representation", "latent_dynamics")
        state = model.encode(obs, deterministic=True) if encodes else model.initial_state(size)
    return Inputs(obs, world.show(action), state, action, plan, subject.batch(size))


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


def complete(batch: Batch, contract: ModelIOContract) -> Batch:
    """A batch with the fields that a contract requires beside the usual ones, as far as it declares their shapes."""
    lead = batch.batch_size, length(batch)
    roots = {key.replace(":", ".").split(".")[0] for key in contract.required_batch_keys}
    more: dict[str, Any] = {}
    if "next_obs" in roots:
        more["next_obs"] = map_tensors(batch.obs, lambda value: torch.cat([value[:, 1:], value[:, -1:]], 1))
    if "mask" in roots:
        more["mask"] = torch.ones(lead)
    if roots & {"target", "targets"}:
        specs = contract.target_spec.modalities
        more["target"] = {n: batch.obs[n] if n in batch.obs else _zeros(lead, s) for n, s in specs.items()} or batch.obs
    extras = {name: _zeros(lead, spec) for name, spec in contract.additional_batch_fields.items()}
    return replace(batch, extras={**batch.extras, **extras}, **more)


def length(batch: Batch) -> int:
    """The number of rows of a batch of the toy world."""
    assert batch.actions is not None
    return batch.actions.shape[1]


def _zeros(lead: tuple[int, ...], spec: Any) -> Tensor:
    return torch.zeros(*lead, *spec.shape, dtype=getattr(torch, spec.dtype))


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
