"""How a family is trained where nobody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from worldflux.core.config import WorldModelConfig
from worldflux.core.fields import Amount, Count, Fields, NonNegative, Positive, option_names


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

    @classmethod
    def of(cls, config: WorldModelConfig, **others: Any) -> Recipe:
        """Return what a family's config has under the same names, with ``others`` beside or instead of them."""
        return cls(**{**{n: getattr(config, n) for n in option_names(cls) if hasattr(config, n)}, **others})

    @classmethod
    def of_model(cls, model: Any) -> Recipe:
        """How a model is trained where nobody says otherwise: ``training_defaults``, and the config's own two."""
        given = model.training_defaults()
        chosen: dict[str, Any] = given.chosen() if isinstance(given, Recipe) else dict(given)
        return cls(**{"learning_rate": model.config.learning_rate, "grad_clip": model.config.grad_clip, **chosen})

    def chosen(self) -> dict[str, object]:
        """What is not left open, by name."""
        return {name: value for name in option_names(type(self)) if (value := getattr(self, name)) is not None}
