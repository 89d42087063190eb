"""What the predictor looks back on: the frames of an episode up to now, as a state carries them and as it reads them.

Letters: B batch, W frames of a window, T of them read, N patches, D width, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldflux import State


@dataclass
class Frames:
    """Frames ``latents [B, T, N, D]``, oldest first, the action done at each ``[B, T, A]``, its vectors ``[B, T, V]``.

    ``begun [B, T]`` int64 says at which of the frames the episode of each began; what is before is another's, or none.
    """

    latents: Tensor
    actions: Tensor
    vectors: dict[str, Tensor]
    begun: Tensor

    @property
    def together(self) -> bool:
        """Whether all frames are of one episode."""
        return not bool(self.begun.any())

    @property
    def place(self) -> Tensor:
        """When each frame was, counted from where its episode began: ``[B, T]``; ``[T]`` where that is the first."""
        row = torch.arange(self.begun.shape[1], device=self.begun.device)
        return row if self.together else (row - self.begun).clamp(min=0)

    @property
    def seen(self) -> Tensor:
        """Which frame (the axis before the last) may read which, itself included: ``[T, T]``, or ``[B, T, T]``."""
        row = torch.arange(self.begun.shape[1], device=self.begun.device)
        earlier = row <= row.unsqueeze(-1)
        if self.together:
            return earlier
        return earlier & ((row >= self.begun.unsqueeze(-1)) | (row == row.unsqueeze(-1)))

    def first(self, count: int) -> Frames:
        """The first of the frames."""
        vectors = {name: value[:, :count] for name, value in self.vectors.items()}
        return Frames(self.latents[:, :count], self.actions[:, :count], vectors, self.begun[:, :count])

    def followed(self, latent: Tensor) -> Frames:
        """As many frames, of which the last become ``latent [B, K, N, D]``: what was predicted takes their place."""
        kept = self.latents[:, : self.latents.shape[1] - latent.shape[1]]
        return Frames(torch.cat([kept, latent], 1), self.actions, self.vectors, self.begun)

    def distinct(self) -> tuple[Frames, Tensor]:
        """The rows without those equal to the one before them, ``[R, T, ...]``, and which of these each is, ``[B]``.

        Candidates of a plan are equal. Where gradients are to reach what rows hold, each stays by itself.
        """
        held = (self.latents, self.actions, *self.vectors.values(), self.begun)
        new = torch.ones(len(self.begun), dtype=torch.bool, device=self.begun.device)
        if not (torch.is_grad_enabled() and any(value.requires_grad for value in held)):
            new[1:] = torch.stack([(value[1:] != value[:-1]).flatten(1).any(1) for value in held]).any(0)
        vectors = {name: value[new] for name, value in self.vectors.items()}
        return Frames(self.latents[new], self.actions[new], vectors, self.begun[new]), new.cumsum(0) - 1


def begun(is_first: Tensor | None, like: Tensor) -> Tensor:
    """At which row the episode of each row ``like [B, T]`` began, ``[B, T]`` int64; at the first, if unknown."""
    if is_first is None:
        return torch.zeros_like(like, dtype=torch.int64)
    row = torch.arange(like.shape[1], device=like.device)
    return torch.where(is_first[:, : like.shape[1]] > 0, row, 0).cummax(1).values


def fresh(latent: Tensor, vectors: dict[str, Tensor], *, window: int, action_dim: int) -> State:
    """The state of a frame ``[B, N, D]`` that nothing came before."""
    size, before = latent.shape[0], window - 1
    past = {f"past_{name}": value.new_zeros(size, before, value.shape[-1]) for name, value in vectors.items()}
    return State(
        {
            **vectors,
            "latent": latent,
            "past": latent.new_zeros(size, before, *latent.shape[1:]),
            "past_actions": latent.new_zeros(size, before, action_dim),
            **past,
            "length": torch.zeros(size, dtype=torch.int64, device=latent.device),
        }
    )


def followed(
    state: State, action: Tensor, latent: Tensor, vectors: dict[str, Tensor], *, history: int | None = None
) -> State:
    """The state a frame later: ``action [B, A]`` was done in ``state`` and led to ``latent [B, N, D]``.

    It remembers no more than ``history`` frames, the new one included (None: as many as there is room for).
    """
    most = state["past"].shape[1] if history is None else history - 1

    def on(past: str, now: Tensor) -> Tensor:
        return torch.cat([state[past][:, 1:], now.unsqueeze(1).to(state[past])], 1)

    found = {
        "latent": latent,
        **vectors,
        "past": on("past", state["latent"]),
        "past_actions": on("past_actions", action),
    }
    for name in vectors:
        found[f"past_{name}"] = on(f"past_{name}", state[name])
    return State({**found, "length": (state["length"] + 1).clamp(max=most)})


def frames_of(state: State, action: Tensor, vectors: tuple[str, ...]) -> Frames:
    """The frames of a state, the newest last, in which ``action [B, A]`` is done; what no row has is left out."""
    past, newest = before(state, vectors), newest_of(state, action, vectors)
    longest = past.begun.shape[1]
    return Frames(
        torch.cat([past.latents, newest.latents.to(past.latents)], 1),
        torch.cat([past.actions, newest.actions.to(past.actions)], 1),
        {name: torch.cat([value, newest.vectors[name].to(value)], 1) for name, value in past.vectors.items()},
        (longest - state["length"]).unsqueeze(1).expand(-1, longest + 1),
    )


def before(state: State, vectors: tuple[str, ...]) -> Frames:
    """The frames of a state before the newest, ``[B, T, ...]``; what no row has is left out."""
    longest = int(state["length"].max()) if state["length"].numel() else 0
    since = state["past"].shape[1] - longest
    return Frames(
        state["past"][:, since:],
        state["past_actions"][:, since:],
        {name: state[f"past_{name}"][:, since:] for name in vectors},
        (longest - state["length"]).unsqueeze(1).expand(-1, longest),
    )


def newest_of(state: State, action: Tensor, vectors: tuple[str, ...]) -> Frames:
    """The newest frame of a state alone, in which ``action [B, A]`` is done."""
    latent = state["latent"].unsqueeze(1)
    told = {name: state[name].unsqueeze(1) for name in vectors}
    return Frames(latent, action.unsqueeze(1).to(latent), told, latent.new_zeros(latent.shape[:2], dtype=torch.int64))


def state_of(frames: Frames, *, window: int) -> tuple[State, Tensor]:
    """The state that frames ``[B, T, N, D]`` make, and the action ``[B, A]`` done in the newest; the way back."""
    count = frames.latents.shape[1] - 1
    newest = {name: value[:, -1] for name, value in frames.vectors.items()}
    state = fresh(frames.latents[:, -1], newest, window=window, action_dim=frames.actions.shape[-1])
    names = {"past": frames.latents, "past_actions": frames.actions}
    names |= {f"past_{name}": value for name, value in frames.vectors.items()}
    for name, value in names.items():
        kept = state[name][:, : window - 1 - count]
        state.tensors[name] = torch.cat([kept, value[:, :-1].to(kept)], 1)
    state.tensors["length"] = (count - frames.begun[:, -1]).clamp(min=0)
    return state, frames.actions[:, -1]
