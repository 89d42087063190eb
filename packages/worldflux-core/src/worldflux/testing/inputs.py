"""What the methods of the contract can be called with, for any family."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.model import WorldModel
from worldflux.core.spec import ModelIOContract
from worldflux.core.state import State, map_tensors

from .echo import EchoWorld

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


def make_inputs(world: EchoWorld, model: WorldModel, batch: Batch, *, size: int, encodes: bool) -> Inputs:
    """Observations, actions and a state of a toy world; the state is the encoder's if the family has one."""
    generator = torch.Generator().manual_seed(size)
    before, action = (world.actions(size, generator=generator) for _ in range(2))
    plan = world.actions(HORIZON, size, generator=generator)
    obs = world.show(before)
    with torch.no_grad():
        state = model.encode(obs, deterministic=True) if encodes else model.initial_state(size)
    return Inputs(obs, world.show(action), state, action, plan, batch)


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
