"""A toy world that shows whether a model and its data agree about time (the arrival convention)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec

CHANCE = 0.6  # that an action which may end the episode, or the watching, does so
START = -2.0  # what the first row of an episode shows in vectors: no action looks like it


class EchoWorld:
    """Whatever is done at row t is what row t + 1 shows and pays; the first row of an episode pays 0.

    The first part of the action also decides how an episode goes on: after its first class (or a value above 0.4) it
    may end in truth (``is_terminal``), after its second class of several (or a value below -0.4) only the watching
    may end. Letters: A action, ``...`` any leading axes.
    """

    def __init__(self, modalities: Mapping[str, ModalitySpec], action: ActionSpec) -> None:
        self.modalities, self.spec, self.dim = modalities, action, action.dim

    def actions(self, *shape: int, generator: torch.Generator) -> Tensor:
        """Random actions ``[*shape, A]``: one-hot for discrete parts, uniform in [-1, 1] for others."""
        drawn = torch.zeros(*shape, self.dim)
        for number, (part, place) in enumerate(self.spec.slices()):
            if part.kind == "discrete":
                chances = torch.ones(part.dim)
                if number == 0:  # whatever the number of classes, episodes are short
                    chances[:2] = max(1, part.dim - 2)
                count = max(math.prod(shape), 1)
                picked = torch.multinomial(chances, count, replacement=True, generator=generator)
                drawn[..., place] = (
                    torch.nn.functional.one_hot(picked[: math.prod(shape)], part.dim).view(*shape, part.dim).float()
                )
            else:
                drawn[..., place] = torch.rand(*shape, part.dim, generator=generator) * 2 - 1
        return drawn

    def reward(self, action: Tensor) -> Tensor:
        """What arriving by ``action [..., A]`` pays ``[...]``: between 0.5 and 1.5 for one-hot actions, mean 1."""
        worth = torch.linspace(-0.5, 0.5, self.dim) if self.dim > 1 else torch.full((self.dim,), 0.5)
        return 1 + action @ worth.to(action)

    def ends(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Whether ``action [..., A]`` may end the episode in truth, and whether only the watching, bool ``[...]``."""
        if not self.dim:
            never = torch.zeros(action.shape[:-1], dtype=torch.bool)
            return never, never
        first = self.spec.leaves()[0]
        if first.kind != "discrete":
            return action[..., 0] > 0.4, action[..., 0] < -0.4
        ends = action[..., 0] > 0.5
        return ends, action[..., 1] > 0.5 if first.dim > 2 else torch.zeros_like(ends)

    def show(self, action: Tensor) -> dict[str, Tensor]:
        """The observations ``[..., *shape]`` on arriving by ``action [..., A]``, as stored (images uint8)."""
        return {name: self._show(action, spec) for name, spec in self.modalities.items()}

    def start(self, *shape: int) -> dict[str, Tensor]:
        """The observations ``[*shape, *shape of the modality]`` of an episode's first row."""
        shown = self.show(torch.zeros(*shape, self.dim))
        vectors = [name for name, value in shown.items() if value.is_floating_point()]
        return {name: torch.full_like(value, START if name in vectors else 0) for name, value in shown.items()}

    def _show(self, action: Tensor, spec: ModalitySpec) -> Tensor:
        dtype = getattr(torch, spec.dtype)
        lead, size = action.shape[:-1], math.prod(spec.shape)
        if not self.dim:
            return torch.zeros(*lead, *spec.shape, dtype=dtype)
        if spec.kind in (ModalityKind.IMAGE, ModalityKind.VIDEO):  # vertical stripes, as bright as the action's entries
            width = spec.shape[-1]
            stripes = self._levels(action)[..., torch.arange(width) * self.dim // width]
            level = stripes.reshape(*lead, *[1] * (len(spec.shape) - 1), width).expand(*lead, *spec.shape)
            return (level * 255).round().to(dtype) if dtype == torch.uint8 else level.to(dtype)
        if not dtype.is_floating_point:
            index = self._levels(action).argmax(-1) if self.dim > 1 else (action[..., 0] > 0).long()
            return index.reshape(*lead, *[1] * len(spec.shape)).expand(*lead, *spec.shape).to(dtype)
        rows, columns = torch.arange(size)[:, None], torch.arange(self.dim)
        shown = (rows % self.dim == columns) if size >= self.dim else (columns % size == rows)
        return (action @ shown.to(action).T).reshape(*lead, *spec.shape).to(dtype)

    def _levels(self, action: Tensor) -> Tensor:
        """The action's entries as brightnesses in [0, 1]; some entry is bright, unlike in a first row."""
        levels = action.clone()
        for part, place in self.spec.slices():
            if part.kind != "discrete":
                levels[..., place] = 0.6 + 0.4 * action[..., place]
        return levels.clamp(0, 1)

    def batch(self, size: int, rows: int, *, seed: int) -> Batch:
        """Sequences ``[size, rows, ...]`` cut from an endless walk: they begin and end anywhere in an episode."""
        generator = torch.Generator().manual_seed(seed)
        actions = self.actions(size, rows + 1, generator=generator)  # one more: what led to the first row
        obs: dict[str, list[Tensor]] = {name: [] for name in self.modalities}
        flags: dict[str, list[Tensor]] = {"is_first": [], "is_last": [], "is_terminal": []}
        rewards, fresh = [], torch.rand(size, generator=generator) < 0.4
        for t in range(rows):
            seen, blank = self.show(actions[:, t]), self.start(size)
            chance = torch.rand(size, generator=generator) < CHANCE
            ended, stopped = (flag & chance & ~fresh for flag in self.ends(actions[:, t]))
            for name, values in obs.items():
                here = fresh.reshape(-1, *[1] * (seen[name].ndim - 1))
                values.append(torch.where(here, blank[name], seen[name]))
            rewards.append(torch.where(fresh, 0.0, self.reward(actions[:, t])))
            for name, flag in (("is_first", fresh), ("is_last", ended | stopped), ("is_terminal", ended)):
                flags[name].append(flag)
            fresh = ended | stopped
        fields: dict[str, Any] = {name: torch.stack(values, 1) for name, values in flags.items()}
        fields["obs"] = {name: torch.stack(values, 1) for name, values in obs.items()}
        return Batch(actions=actions[:, 1:], rewards=torch.stack(rewards, 1), **fields)
