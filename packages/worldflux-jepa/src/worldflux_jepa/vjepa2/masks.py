"""Which tokens of a clip are shown, and which are to be predicted.

Letters: B clips, T time steps, R rows, C columns, S = R C places of a step, K ids of the context, M of the targets.
Ids count columns first, then rows, then time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from worldflux import ConfigurationError

ATTEMPTS = 1000  # at a sample, before the blocks count as too many


class Masks(NamedTuple):
    """Ids of the tokens that are shown, ``context [B, K]``, and of those to predict, ``target [B, M]``; int64."""

    context: Tensor
    target: Tensor


@dataclass(frozen=True)
class EvenMasks:
    """Masks of fixed counts: of every time step, ``context`` places are shown and ``targets`` are to be predicted.

    Tubes hide the union of ``blocks`` rectangles, each ``scale`` of the picture with sides in a ratio between those of
    ``aspect``. Targets are drawn from inside, the context from outside, at each step anew; where one of them has too
    few places, the rest comes from the other. So no step is left out, and no count depends on chance.
    """

    rows: int
    columns: int
    blocks: int
    scale: float
    aspect: tuple[float, float]
    context: int
    targets: int

    def __post_init__(self) -> None:
        if min(self.context, self.targets) < 1 or self.context + self.targets > self.rows * self.columns:
            raise ConfigurationError(
                f"masks that show {self.context} and hide {self.targets} places of {self.rows} x {self.columns} leave "
                "nothing of one of them: each needs at least one, and both together at most all"
            )

    def draw(self, batch: int, steps: int, *, generator: torch.Generator) -> Masks:
        """Masks of ``batch`` clips of ``steps`` time steps, drawn from the generator and on its device."""
        device = generator.device
        covered = self.covered(batch, generator=generator)
        places = self.rows * self.columns
        order = torch.rand(batch, steps, places, generator=generator, device=device) + covered.unsqueeze(1)
        order = order.argsort(-1, descending=True)  # what is covered comes first, in an order by chance
        ids = order + places * torch.arange(steps, device=device).unsqueeze(-1)
        chosen = ids[..., places - self.context :], ids[..., : self.targets]
        return Masks(*(part.flatten(1).sort(-1).values for part in chosen))

    def covered(self, batch: int, *, generator: torch.Generator) -> Tensor:
        """Places ``[B, S]`` that the blocks of each clip cover, as 0 and 1."""
        device = generator.device
        low, high = self.aspect

        def uniform() -> Tensor:
            return torch.rand(batch, self.blocks, generator=generator, device=device)

        area, ratio = self.scale * self.rows * self.columns, low + uniform() * (high - low)
        inside = []
        for side, length in (((area * ratio).sqrt(), self.rows), ((area / ratio).sqrt(), self.columns)):
            extent = side.round().clamp(1, length)
            start = (uniform() * (length - extent + 1)).floor().unsqueeze(-1)
            place = torch.arange(length, device=device)
            inside.append((place >= start) & (place < start + extent.unsqueeze(-1)))
        return (inside[0].unsqueeze(-1) & inside[1].unsqueeze(-2)).any(1).flatten(1).float()


@dataclass(frozen=True)
class OfficialMasks:
    """The masks of the official program, number by number: every clip's are cut to the shortest's.

    The context is what no block covers, the targets are the rest. Of each list the first ids are kept, so late time
    steps are rarely among them. ``temporal_keep`` hides the last part of a clip from the context; ``max_keep`` bounds
    its ids. ``full_complement`` takes all but the context for targets, ``pred_full_complement`` all but the targets
    for context, ``inverted`` swaps the two. A block that would cover everything is a column (or a row) narrower, where
    the official program never ends. Raises ConfigurationError.

    Source: facebookresearch/vjepa2 ``src/masks/multiseq_multiblock3d.py`` at c2963a4.
    """

    rows: int
    columns: int
    steps: int
    blocks: int
    scale: tuple[float, float]
    aspect: tuple[float, float]
    temporal_scale: tuple[float, float] = (1.0, 1.0)
    temporal_keep: float = 1.0
    max_keep: int | None = None
    full_complement: bool = False
    pred_full_complement: bool = False
    inverted: bool = False

    def __post_init__(self) -> None:
        if self.steps * self.rows * self.columns < 2:
            raise ConfigurationError("a clip of one token leaves nothing to predict: give more frames or patches")
        if int(self.steps * self.temporal_keep) < 1:
            raise ConfigurationError(
                f"temporal_keep {self.temporal_keep} of {self.steps} time steps leaves no context: raise it"
            )
        if self.blocks < 1 or (self.max_keep is not None and self.max_keep < 1):
            raise ConfigurationError(
                f"{self.blocks} blocks and max_keep {self.max_keep} leave nothing of a mask: at least one of each"
            )

    def draw(self, batch: int, *, iteration: int, generator: torch.Generator) -> Masks:
        """Masks of ``batch`` clips: sizes of blocks follow from ``iteration``, their places from the generator."""
        drawn = torch.Generator().manual_seed(iteration)
        size = self.block_size(*(float(torch.rand(1, generator=drawn)) for _ in range(3)))
        samples = [self.sample(size, generator) for _ in range(batch)]
        return self.collate(samples)

    def block_size(self, time: float, space: float, ratio: float) -> tuple[int, int, int]:
        """Time steps, rows and columns of a block, for three uniform draws."""
        between = [low + draw * (high - low) for draw, (low, high) in zip(
            (time, space, ratio), (self.temporal_scale, self.scale, self.aspect), strict=True
        )]  # fmt: skip
        length = max(1, int(self.steps * between[0]))
        area = int(self.rows * self.columns * between[1])
        height = min(self.rows, round(math.sqrt(area * between[2])))
        width = min(self.columns, round(math.sqrt(area / between[2])))
        if not height * width:
            raise ConfigurationError(
                f"blocks of {between[1]:.3g} of {self.rows} x {self.columns} places hide nothing: raise the scale"
            )
        if (length, height, width) == (self.steps, self.rows, self.columns):
            height, width = (height, width - 1) if width > 1 else (height - 1, width)
            if not height:
                length, height = length - 1, 1
        return length, height, width

    def places(self, size: tuple[int, int, int], generator: torch.Generator) -> list[tuple[int, int, int]]:
        """The first row, column and time step of each block, by chance."""
        length, height, width = size
        room = (self.rows - height, self.columns - width, self.steps - length)

        def draw(free: int) -> int:
            return int(torch.randint(0, free + 1, (1,), generator=generator))

        return [(draw(room[0]), draw(room[1]), draw(room[2])) for _ in range(self.blocks)]

    def split(self, size: tuple[int, int, int], places: list[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
        """The ids of context and targets for blocks of a size at these places."""
        length, height, width = size
        shown = torch.ones(self.steps, self.rows, self.columns, dtype=torch.bool)
        for top, left, start in places:
            shown[start : start + length, top : top + height, left : left + width] = False
        shown[int(self.steps * self.temporal_keep) :] = False
        return shown.flatten().nonzero().flatten(), (~shown).flatten().nonzero().flatten()

    def sample(self, size: tuple[int, int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Context and targets of one clip; drawn anew while the blocks leave no context."""
        for _ in range(ATTEMPTS):
            context, target = self.split(size, self.places(size, generator))
            if len(context):
                return context, target
        raise ConfigurationError(
            f"{self.blocks} blocks of {size[1]} x {size[2]} places leave nothing of {self.rows} x {self.columns} to "
            f"show, {ATTEMPTS} times over: take fewer blocks, or smaller ones"
        )

    def collate(self, samples: list[tuple[Tensor, Tensor]]) -> Masks:
        """Lists of ids, each cut to the shortest, as the options say."""
        context = _cut([shown for shown, _ in samples])
        target = _cut([hidden for _, hidden in samples])
        context = context[:, : self.max_keep]
        if self.full_complement:
            target = self._others(context)
        elif self.pred_full_complement:
            context = self._others(target)
        return Masks(target, context) if self.inverted else Masks(context, target)

    def _others(self, ids: Tensor) -> Tensor:
        taken = torch.zeros(len(ids), self.steps * self.rows * self.columns, dtype=torch.bool).scatter_(1, ids, True)
        return (~taken).nonzero()[:, 1].unflatten(0, (len(ids), -1))


def _cut(lists: list[Tensor]) -> Tensor:
    shortest = min(map(len, lists))
    return torch.stack([ids[:shortest] for ids in lists])
