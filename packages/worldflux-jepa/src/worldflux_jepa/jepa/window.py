"""What a predictor looks back on: the last rows of an episode, as a state carries them and as a clip holds them.

Letters: B sequences, T rows, W rows of a window, N latents of one row, D latent, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldflux import Batch, State, ValidationError
from worldflux.blocks import valid_steps


@dataclass
class Window:
    """The rows that lead on, oldest first, the newest last. What comes before ``begun`` is another episode's."""

    latents: Tensor  # [B, W, N, D]
    actions: Tensor  # [B, W, A], each done at its row
    begun: Tensor  # [B, W] int64: the row at which the episode of each row began

    @property
    def place(self) -> Tensor:
        """How many rows of its episode came before each row, ``[B, W]``."""
        return (torch.arange(self.begun.shape[1], device=self.begun.device) - self.begun).clamp(min=0)

    @property
    def seen(self) -> Tensor:
        """Whether a row (the second axis) may look at another (the third), ``[B, W, W]`` bool: at itself it may."""
        row = torch.arange(self.begun.shape[1], device=self.begun.device)
        earlier = (row <= row.unsqueeze(-1)) & (row >= self.begun.unsqueeze(-1))
        return earlier | (row == row.unsqueeze(-1))


def fresh(latent: Tensor, *, history: int, action_dim: int) -> State:
    """The state of a row ``[B, ..., D]`` that nothing came before."""
    state = State({"latent": latent})
    if history > 1:
        size, before = latent.shape[0], history - 1
        state.tensors |= {
            "past": latent.new_zeros(size, before, *latent.shape[1:]),
            "past_actions": latent.new_zeros(size, before, action_dim),
            "length": torch.zeros(size, dtype=torch.int64, device=latent.device),
        }
    return state


def followed(state: State, action: Tensor, latent: Tensor) -> State:
    """The state a row later: ``action [B, A]`` was done in ``state`` and led to ``latent [B, ..., D]``."""
    if "past" not in state:
        return State({"latent": latent})
    past = state["past"]
    return State(
        {
            "latent": latent,
            "past": torch.cat([past[:, 1:], state["latent"].unsqueeze(1)], 1),
            "past_actions": torch.cat([state["past_actions"][:, 1:], action.unsqueeze(1).to(past)], 1),
            "length": (state["length"] + 1).clamp(max=past.shape[1]),
        }
    )


def window_of(state: State, action: Tensor, *, tokens: int) -> Window:
    """What the predictor reads of a state and the action ``[B, A]`` done in it."""
    latents, actions = state["latent"].unsqueeze(1), action.unsqueeze(1)
    begun = torch.zeros(latents.shape[:2], dtype=torch.int64, device=latents.device)
    if "past" in state:
        latents = torch.cat([state["past"], latents], 1)
        actions = torch.cat([state["past_actions"], actions.to(latents)], 1)
        begun = (latents.shape[1] - 1 - state["length"].unsqueeze(-1)).expand(-1, latents.shape[1])
    return Window(spread(latents, tokens), actions, begun)


def spread(latents: Tensor, tokens: int) -> Tensor:
    """Latents ``[..., D]`` of a row as ``[..., 1, D]``; several are already apart."""
    return latents.unsqueeze(-2) if tokens == 1 else latents


@dataclass
class Clip:
    """Rows of one batch that predictions start from and are compared with."""

    begun: Tensor  # [B, T] int64: the row at which the episode of each row began, or the clip
    valid: list[Tensor]  # for k = 1 to K [B, T - k], 1 where row t + k is of the episode of row t


def read_clip(batch: Batch, *, steps: int, rows: int) -> Clip:
    """What a checked batch says of its rows. Raises ValidationError if it has less than ``rows``."""
    assert batch.actions is not None
    size, got = batch.actions.shape[:2]
    if got < rows:
        raise ValidationError(
            f"a clip of {got} rows is shorter than the window: this model needs {rows}, its history and the rows it "
            "predicts. Train on longer clips (sequence_length), or set history and rollout_steps lower; is the batch "
            "[B, T, ...]?"
        )
    step = valid_steps(batch)
    valid = [step]
    for ahead in range(1, steps):
        valid.append(valid[-1][:, :-1] * step[:, ahead:])
    row = torch.arange(got, device=step.device).expand(size, -1)
    first = torch.zeros_like(row) if batch.is_first is None else row * (batch.is_first > 0)
    return Clip(begun=first.cummax(1).values, valid=valid)


def states_of(latents: Tensor, actions: Tensor, begun: Tensor, *, history: int) -> State:
    """The state of every row of clips, ``[B * T, ...]``, of latents ``[B, T, ...]`` and actions ``[B, T, A]``."""
    size, rows = begun.shape
    state = State({"latent": latents.flatten(0, 1)})
    if history == 1:
        return state
    row = torch.arange(rows, device=begun.device)
    back = row.unsqueeze(-1) - torch.arange(history - 1, 0, -1, device=begun.device)  # [T, W - 1]
    length = (row - begun).clamp(max=history - 1)
    real = back >= (row - length).unsqueeze(-1)  # [B, T, W - 1]
    taken = back.clamp(min=0)

    def looked_back(values: Tensor) -> Tensor:
        found = values[:, taken].flatten(0, 1)
        return found * real.reshape(size * rows, history - 1, *[1] * (values.ndim - 2))

    state.tensors |= {
        "past": looked_back(latents),
        "past_actions": looked_back(actions),
        "length": length.flatten(),
    }
    return state
