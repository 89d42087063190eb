"""The predictor: what frames, actions and poses up to now make of the next frame.

Letters: B batch, T frames, N patches of one, D width of the encoder, P of the predictor, L tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from worldflux import State
from worldflux.blocks import Linear, action_in

from ..layers.attention import Block
from ..layers.rope import Positions, Rotation, rotation_of
from .config import CAMERA, POSE, VECTORS, VJEPA2ACConfig
from .window import Frames, frames_of


@dataclass
class Memory:
    """Keys and values ``[B, heads, L, d]`` of each block, of frames that were read; which tokens count ``[B, L]``; and
    how many frames of each row there were ``[B]``."""

    count: Tensor
    real: Tensor
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def of(self, rows: Tensor) -> Memory:
        """The memory of ``rows [R]``, of which one may be there several times."""
        kept = [[value[rows] for value in values] for values in (self.keys, self.values)]
        return Memory(self.count[rows], self.real[rows], *kept)

    def joined(self, block: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a block, to which those of more tokens ``[B, heads, L, d]`` are added."""
        if block == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[block] = torch.cat([self.keys[block], key], 2)
            self.values[block] = torch.cat([self.values[block], value], 2)
        return self.keys[block], self.values[block]


class Predictor(nn.Module):
    """A transformer in which the tokens of a frame (action, pose, camera, patches) see each other and earlier frames.

    Patches are rotated by time, row and column, the others by time alone; columns are scaled as if the picture were a
    square. Parameters are called as the official ones; what reads the camera is there beside poses, and frozen where
    no camera is observed.
    """

    def __init__(self, config: VJEPA2ACConfig) -> None:
        super().__init__()
        width = config.predictor_dim
        self.grid, self.layout, self.head_dim = config.grid, config.rope_layout, width // config.predictor_heads
        self.vectors = config.vectors
        self.predictor_embed = Linear(config.embed_dim, width)
        self.action_encoder = Linear(config.action_dim, width)
        if POSE in self.vectors:
            self.state_encoder = Linear(VECTORS[POSE], width)
            self.extrinsics_encoder = Linear(VECTORS[CAMERA], width).requires_grad_(CAMERA in self.vectors)
        self.predictor_blocks = nn.ModuleList(
            Block(width, config.predictor_heads, mlp_ratio=config.predictor_mlp_ratio, eps=config.predictor_eps)
            for _ in range(config.predictor_depth)
        )
        self.predictor_proj = Linear(width, config.embed_dim)
        self.predictor_norm = nn.LayerNorm(width, eps=config.predictor_eps)

    def ahead(self, frames: Frames) -> Tensor:
        """What follows each of the frames ``[B, T, N, D]``, given those up to it, ``[B, T, N, D]``; not yet normed."""
        x, rotation = self.embed(frames), self.rotation(frames.place)
        mask = self.seen(frames.seen)
        for block in self.predictor_blocks:
            x = block(x, rotation, mask)
        return self.read_out(x)

    def transition(self, state: State, conditioned: dict[str, Tensor], deterministic: bool = False) -> State:
        """The next frame ``latent [B, N, D]``, not yet normed."""
        action = action_in(conditioned, like=state["latent"][:, 0], size=self.action_encoder.in_features)
        return State({"latent": self.ahead(frames_of(state, action, self.vectors))[:, -1]})

    # --- with a memory ----------------------------------------------------------------------------------------------

    def remembered(self, frames: Frames) -> Memory:
        """What later frames will read of frames ``[B, T, N, D]``, of which there may be none."""
        real = torch.arange(frames.begun.shape[1], device=frames.begun.device) >= frames.begun
        memory = Memory(real.sum(1), self._of_tokens(real))
        if not real.numel():
            return memory
        x, rotation, mask = self.embed(frames), self.rotation(frames.place), self.seen(frames.seen)
        for index, block in enumerate(self._blocks()):
            query, key, value = block.attn.project(block.norm1(x), rotation)
            memory.joined(index, key, value)
            if index + 1 < len(self.predictor_blocks):  # no more is read of the last
                x = self._passed(block, x, block.attn.attend(query, key, value, mask))
        return memory

    def next(self, frame: Frames, memory: Memory) -> Tensor:
        """What follows one more frame ``[B, 1, N, D]``, which the memory then holds, ``[B, N, D]``."""
        x, rotation = self.embed(frame), self.rotation(memory.count.unsqueeze(1))
        memory.real = torch.cat([memory.real, memory.real.new_ones(x.shape[:2])], 1)
        memory.count = memory.count + 1
        mask = None if bool(memory.real.all()) else memory.real[:, None, None]
        for index, block in enumerate(self._blocks()):
            query, key, value = block.attn.project(block.norm1(x), rotation)
            x = self._passed(block, x, block.attn.attend(query, *memory.joined(index, key, value), mask))
        return self.read_out(x)[:, 0]

    def _blocks(self) -> list[Block]:
        return [cast(Block, block) for block in self.predictor_blocks]

    @staticmethod
    def _passed(block: Block, x: Tensor, read: Tensor) -> Tensor:
        x = x + read
        passed: Tensor = x + block.mlp(block.norm2(x))
        return passed

    # --- tokens -----------------------------------------------------------------------------------------------------

    @property
    def others(self) -> int:
        """Tokens of a frame before its patches."""
        return 1 + len(self.vectors)

    def embed(self, frames: Frames) -> Tensor:
        """Tokens ``[B, T (1 + vectors + N), P]``: of each frame its action, its vectors, and its patches."""
        readers = {POSE: "state_encoder", CAMERA: "extrinsics_encoder"}
        parts = [self.action_encoder(frames.actions)]
        parts += [getattr(self, readers[name])(frames.vectors[name]) for name in self.vectors]
        others = torch.stack(parts, 2)
        return torch.cat([others, self.predictor_embed(frames.latents)], 2).flatten(1, 2)

    def read_out(self, x: Tensor) -> Tensor:
        """Tokens ``[B, L, P]`` to patches ``[B, T, N, D]``."""
        patches = x.unflatten(1, (-1, self.others + self.grid[0] * self.grid[1]))[:, :, self.others :]
        predicted: Tensor = self.predictor_proj(self.predictor_norm(patches))
        return predicted

    def rotation(self, place: Tensor) -> Rotation:
        """How tokens of frames at ``place [B, T]`` or ``[T]`` in time are turned."""
        rows, columns = self.grid
        ids = torch.arange(rows * columns, device=place.device)
        none = ids.new_zeros(self.others).float()
        row = torch.cat([none, torch.div(ids, columns, rounding_mode="floor").float()])
        column = torch.cat([none, (ids % columns) * (rows / columns)])
        time = place.unsqueeze(-1).expand(*place.shape, len(row)).flatten(-2)
        across = (part.expand(*place.shape, len(row)).flatten(-2) for part in (row, column))
        return rotation_of(Positions(time, *across), self.head_dim, self.layout)

    def seen(self, frames: Tensor) -> Tensor | None:
        """Which token may read which, ``[L, L]`` or ``[B, 1, L, L]``, of which frame may, ``[(B,) T, T]``.

        None where every one may read all: attention without a mask is faster.
        """
        if bool(frames.all()):
            return None
        mask = self._of_tokens(self._of_tokens(frames).mT).mT
        return mask if mask.ndim == 2 else mask.unsqueeze(1)

    def _of_tokens(self, of_frames: Tensor) -> Tensor:
        """``[..., L]`` of ``[..., T]``: what is said of a frame, of each of its tokens."""
        return of_frames.repeat_interleave(self.others + self.grid[0] * self.grid[1], -1)
