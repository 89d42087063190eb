"""How a family is trained where nobody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .fields import Amount, Count, Fields, NonNegative, Positive


@dataclass(frozen=True, kw_only=True)
class Recipe(Fields):
    """What ``training_defaults`` returns: a family's own choices for options of training and collecting.

    What is None is left open. ``env_steps`` is how long a run lasts in environment steps, ``random_steps`` how many of
    them act at random first, ``eval_explore`` whether its evaluations sample actions; the others are those of
    ``TrainingConfig`` and ``CollectConfig``. Raises ConfigurationError for an unknown name or a bad value.
    """

    batch_size: Count | None = None
    sequence_length: Count | None = None
    learning_rate: NonNegative | None = None
    weight_decay: NonNegative | None = None
    grad_clip: NonNegative | None = None
    optimizer: Literal["adamw", "adam", "sgd"] | None = None
    scheduler: Literal["none", "constant", "linear", "cosine"] | None = None
    warmup_steps: Amount | None = None
    gradient_accumulation_steps: Count | None = None
    mixed_precision: bool | None = None
    num_envs: Count | None = None
    replay_ratio: Positive | None = None
    replay_capacity: Count | None = None
    min_rows: Count | None = None
    random_steps: Amount | None = None
    boundary: Literal["cross", "within"] | None = None
    online: bool | None = None
    catch_up: bool | None = None
    env_steps: Count | None = None
    eval_explore: bool | None = None

    def chosen(self) -> dict[str, object]:
        """What is not left open, by name."""
        return {name: value for name in self.names() if (value := getattr(self, name)) is not None}
