"""What a model and its baselines make of the same sequences, collected for the measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.spec import Capability

from ..observations import ObservationScores, Scores, joined
from ..unroll import as_floats, dream, judging, predictions, watch
from .baselines import Means

if TYPE_CHECKING:
    from worldflux.core.state import State

    from ..segments import Segments

AT_ONCE = 64  # sequences
Numbers = dict[str, dict[str, np.ndarray]]  # of what -> source -> [B, H, ...]
Value = Callable[[Any], Tensor]


@dataclass
class Unrolled:
    """Of B sequences and H imagined rows each.

    ``observations`` by modality; ``reconstructed`` squared errors ``[B, 1]`` of the last context row; ``numbers``
    (reward, continue, value) ``[B, H]``; ``latents`` ``[B, H, D]`` by tensor of the state. What was seen and not
    imagined (sources ``encoded``, ``untrained_encoded``) has the last context row, too: ``[B, H + 1]``. ``spread``, by
    what is predicted: the ``variance`` among draws and the squared ``error`` of their mean ``[B, H]``.
    """

    observations: dict[str, Scores] = field(default_factory=dict)
    reconstructed: Numbers = field(default_factory=dict)
    numbers: Numbers = field(default_factory=dict)
    latents: Numbers = field(default_factory=dict)
    spread: Numbers = field(default_factory=dict)


@dataclass(frozen=True)
class Subjects:
    """Who is judged: the model, the same one untrained, how each values a state, and the means beside them."""

    model: Any
    fresh: Any | None
    means: Means
    value: Value | None = None
    fresh_value: Value | None = None


def unrolled(
    subjects: Subjects, segments: Segments, *, context: int, others: np.ndarray | None, draws: int, seed: int
) -> Unrolled:
    """Unroll the model over all segments, some at a time. ``others [B]`` says whose actions each gets when shuffled."""
    parts = []
    for start in range(0, segments.sequences, AT_ONCE):
        which = slice(start, start + AT_ONCE)
        swapped = None if others is None else segments.actions[others[which]]
        with judging(subjects.model, seed=seed + start) as device, np.errstate(invalid="ignore", over="ignore"):
            parts.append(_Unrolling(subjects, segments, which, context, device).all(swapped, draws))
    kinds = ("reconstructed", "numbers", "latents", "spread")
    return Unrolled(
        {name: joined([part.observations[name] for part in parts]) for name in parts[0].observations},
        *(_together([getattr(part, kind) for part in parts]) for kind in kinds),
    )


class _Unrolling:
    """Some of the sequences."""

    def __init__(
        self, subjects: Subjects, segments: Segments, which: slice, context: int, device: torch.device
    ) -> None:
        self.by, self.context, self.device = subjects, context, device
        self.out = Unrolled()
        self.seen = {name: torch.as_tensor(value[which], device=device) for name, value in segments.obs.items()}
        self.actions = torch.as_tensor(segments.actions[which], device=device)
        self.future = self._future(segments.actions[which])
        self.truth = {name: as_floats(value[which]) for name, value in segments.obs.items()}
        self.paid = segments.has_rewards
        self.reward = segments.rewards[which].astype(np.float64)
        shown = np.ones(segments.rewards.shape, bool) if segments.shown is None else segments.shown
        self.shown = shown[which, context:]

    def all(self, swapped: np.ndarray | None, draws: int) -> Unrolled:
        model = self.by.model
        encoded = watch(model, self.seen, self.actions)[self.context - 1 :]
        imagines = can_imagine(model)
        sources: dict[str, tuple[Any, Sequence[State]]] = {}
        if imagines:
            sources["model"] = (model, dream(model, encoded[0], self.future))
        if imagines and swapped is not None:
            sources["shuffled_actions"] = (model, dream(model, encoded[0], self._future(swapped)))
        self._note("encoded", encoded, self.by.value)
        if self.by.fresh is not None:
            with judging(self.by.fresh):
                started = watch(self.by.fresh, self.seen, self.actions)[self.context - 1 :]
                if imagines:
                    sources["untrained"] = (self.by.fresh, dream(self.by.fresh, started[0], self.future))
                self._note("untrained_encoded", started, self.by.fresh_value)
        if imagines:
            self._reconstruct(encoded[0])
            self._predict(sources)
        for source, (own, states) in sources.items():
            self._note(source, states, self.by.value if own is model else self.by.fresh_value)
        if imagines and draws > 1:
            self._spread(encoded[0], draws)
        return self.out

    def _future(self, actions: np.ndarray) -> Tensor:
        return torch.as_tensor(actions[:, self.context - 1 : -1], device=self.device)

    def _note(self, source: str, states: Sequence[State], value: Value | None) -> None:
        """Keep the latents of states, and what they are held to be worth."""
        common = set.intersection(*(set(state.tensors) for state in states))
        common -= set(getattr(self.by.model, "optional_state", ()))  # nothing follows from these
        for name in sorted(common):
            if states[0][name].is_floating_point():
                rows = [state[name].float().cpu().numpy().reshape(state.batch_size, -1) for state in states]
                self.out.latents.setdefault(name, {})[source] = np.stack(rows, 1)
        if value is not None:
            worth = [value(state).float().cpu().numpy().reshape(-1) for state in states]
            self.out.numbers.setdefault("value", {})[source] = np.stack(worth, 1)

    def _reconstruct(self, state: State) -> None:
        for name, values in self._decoded(next(predictions(self.by.model, [state]))).items():
            truth = self.truth[name][:, self.context - 1]
            own = {"model": values, "mean_frame": np.broadcast_to(self.by.means.obs[name], truth.shape)}
            self.out.reconstructed[name] = {
                source: np.square(v - truth).reshape(len(truth), -1).mean(1, keepdims=True) for source, v in own.items()
            }

    def _predict(self, sources: Mapping[str, tuple[Any, Sequence[State]]]) -> None:
        """Decode every source row by row, beside the baselines that need no model."""
        flows: dict[str, Iterator[dict[str, np.ndarray]]] = {s: predictions(*pair) for s, pair in sources.items()}
        scores: dict[str, ObservationScores] = {}
        numbers: dict[str, dict[str, list[np.ndarray]]] = {}
        for h in range(self.future.shape[1]):
            now = {source: next(flow) for source, flow in flows.items()}
            for name in self._decoded(now["model"]):
                last = self.truth[name][:, self.context - 1]
                if name not in scores:
                    scores[name] = ObservationScores(self.truth[name][:, self.context :], last, self.shown)
                said = {source: preds[name].reshape(last.shape) for source, preds in now.items() if name in preds}
                mean = np.broadcast_to(self.by.means.obs[name], last.shape)
                scores[name].step(h, {**said, "copy_last": last, "mean_frame": mean})
            for what in ("reward", "continue"):
                for source, preds in now.items():
                    if what in preds:
                        row = preds[what].reshape(len(preds[what]), -1)[:, 0]
                        numbers.setdefault(what, {}).setdefault(source, []).append(row)
        self.out.observations = {name: score.sums() for name, score in scores.items()}
        for what, found in numbers.items():
            self.out.numbers[what] = {source: np.stack(rows, 1).astype(np.float64) for source, rows in found.items()}

    def _spread(self, state: State, draws: int) -> None:
        """Imagine every sequence several times over, and note how the draws differ and how far off their mean is."""
        size = state.batch_size
        many = state.map(lambda value: value.repeat_interleave(draws, 0))
        states = dream(self.by.model, many, self.future.repeat_interleave(draws, 0), deterministic=False)
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for h, preds in enumerate(predictions(self.by.model, states)):
            truths = {name: self.truth[name][:, self.context + h] for name in self._decoded(preds)}
            if "reward" in preds and self.paid:
                truths["reward"] = self.reward[:, self.context + h]
            for name, truth in truths.items():
                drawn = preds[name].reshape(size, draws, -1).astype(np.float64)
                error = np.square(drawn.mean(1) - truth.reshape(size, -1)).mean(-1)
                found.setdefault(name, []).append((drawn.var(1, ddof=1).mean(-1), error))
        for name, rows in found.items():
            variance, error = (np.stack([row[i] for row in rows], 1) for i in range(2))
            self.out.spread[name] = {"variance": variance, "error": error}

    def _decoded(self, preds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The predicted observations that there is a truth of, in its shape."""
        return {name: preds[name].reshape(-1, *v.shape[2:]) for name, v in self.truth.items() if name in preds}


def can_imagine(model: Any) -> bool:
    """Whether the model has dynamics; one that says it only sees is judged by what it encodes."""
    declared = getattr(model, "capabilities", ())
    return Capability.LATENT_DYNAMICS in declared or Capability.REPRESENTATION not in declared


def _together(parts: list[Numbers]) -> Numbers:
    return {
        name: {source: np.concatenate([part[name][source] for part in parts]) for source in sources}
        for name, sources in parts[0].items()
    }
