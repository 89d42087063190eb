"""Rollouts that read every frame once: what later frames need of it, its keys and values, is kept and shared."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from worldflux import ConditionPayload, State, Trajectory

from .window import before, newest_of


class CachedRollout:
    """Imagines with the predictor's memory for as long as no frame leaves the window, then step by step.

    Frames before the newest that neighbouring rows have in common, as candidates of a plan do, are read once for all.
    ``plain`` imagines step by step: it is asked where the dynamics model has no memory (``remembered``, ``next``).
    """

    def __init__(self, plain: Any) -> None:
        self._plain = plain

    def rollout_open_loop(
        self,
        model: Any,
        initial_state: State,
        action_sequence: Tensor,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> Trajectory:
        """States ``H + 1`` under actions ``[H, B, A]``."""
        remembered, following = (getattr(model.dynamics_model, name, None) for name in ("remembered", "next"))
        if not callable(remembered) or not callable(following):
            trajectory: Trajectory = self._plain.rollout_open_loop(
                model, initial_state, action_sequence, conditions, deterministic
            )
            return trajectory
        states, memory, vectors = [initial_state], None, model.config.vectors
        length = initial_state["length"]
        fits = model.config.window - (int(length.max()) if length.numel() else 0)
        for step, action in enumerate(action_sequence):
            state = states[-1]
            if step >= fits:
                states.append(model.imagined(state, action, conditions, deterministic))
                continue
            read = model.read(action, model.condition(state, action, conditions))
            if memory is None:
                past, rows = before(state, vectors).distinct()
                memory = remembered(past).of(rows)
            predicted = following(newest_of(state, read, vectors), memory)
            states.append(model.arrived(state, read, predicted))
        return Trajectory(states, action_sequence, state_spec=model.io_contract().state_spec)
