"""Judging a world model by horizon: on episodes it did not learn from, beside what it has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from worldflux.core.errors import CapabilityError, ConfigurationError
from worldflux.words.counts import counted

from ..bootstrap import LEVEL, RESAMPLES, Curve, Resampler
from ..drawing import draw_segments, observed
from ..segments import Segments
from ..statistics import Sums
from . import measures as measuring
from .baselines import Means, means_for, others_actions, untrained
from .card import card_of
from .collapse import collapse_curves
from .evidence import Level, highest, levels_shown
from .unrolled import Subjects, Unrolled, can_imagine, unrolled
from .values import UNSEEN, carried_discount, discount_of, earned, value_of
from .words import horizon_in_words

if TYPE_CHECKING:
    from worldflux.data import Dataset

    from ..policy import EvalResult

FORMAT, VERSION = "worldflux-horizon-evaluation", 1
OWN = ("model", "encoded")  # sources that are the model's own
NO_RETURNS = (
    "Its values are ranked against nothing: every recorded episode is cut while what would follow still weighs more "
    "than {share:.0%} of a return discounted by {discount:g}."
)


@dataclass(frozen=True)
class HorizonEvaluation:
    """What was measured of a model, as ``docs/measures.md`` explains it.

    ``card`` says on what and how; ``measures`` holds curves by section, name, measure and source, where a family can
    give them; ``told`` what else a section has; ``levels`` what is shown; ``remarks`` say why something
    could not be measured.
    """

    card: dict[str, Any]
    measures: dict[str, Any]
    told: dict[str, dict[str, Any]]
    levels: list[Level]
    remarks: tuple[str, ...] = ()

    def curve(self, *path: str) -> Curve | None:
        """Return the curve at a path, such as ``("observations", "obs", "mse", "model")``; None where there is none."""
        at: Any = self.measures
        for name in path:
            at = at.get(name) if isinstance(at, dict) else None
        return at if isinstance(at, Curve) else None

    @property
    def claim(self) -> str | None:
        """The highest level of evidence that is shown."""
        return highest(self.levels)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; what could not be measured is absent."""
        evidence: dict[str, Any] = {"levels": [level.to_dict() for level in self.levels]}
        sections = {name: {**_plain(found), **self.told.get(name, {})} for name, found in self.measures.items()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "card": self.card,
            "evidence": evidence if self.claim is None else {"highest": self.claim, **evidence},
            **sections,
            "in_words": horizon_in_words(self.card, self.measures, self.remarks),
        }


def evaluate_horizon(
    model: Any,
    data: Dataset | Segments,
    *,
    context: int = 5,
    horizon: int = 15,
    sequences: int = 64,
    seed: int = 0,
    training: Dataset | None = None,
    held_out: bool | None = None,
    split: str | None = None,
    frame_skip: int = 1,
    draws: int = 8,
    discount: float | None = None,
    returns: Mapping[str, EvalResult] | None = None,
) -> HorizonEvaluation:
    """Show a model ``context`` rows of recorded sequences, let it imagine ``horizon`` more, and measure.

    Of a model without dynamics it is measured what its latents of those rows tell.

    Args:
        data: recorded episodes, of which up to ``sequences`` stretches are drawn; or stretches, all of which are taken.
        training: what the model learned from; means are taken over it, else over the contexts.
        held_out: whether the model never saw ``data`` in training; None where that is not known.
        split: what ``data`` is of a larger set, for the card.
        frame_skip: how many rows of ``data`` are between two that the model is shown, as it learned.
        draws: how often a stochastic model imagines each sequence; below 2 its spread is left out.
        discount: that of returns which values are ranked against; by default what the model's config says.
        returns: what policies earned with the model, with one called ``random``, for the highest level of evidence.

    Raises:
        ConfigurationError: model and data do not fit, or the episodes are shorter than context and horizon.
        CapabilityError: the model imagines nothing that can be compared.
    """
    rows = _checked(context=context, horizon=horizon, sequences=sequences, frame_skip=frame_skip)
    segments, starts = _drawn(model, data, sequences=sequences, rows=rows, seed=seed, frame_skip=frame_skip)
    means = means_for(segments, context, training, frame_skip=frame_skip)
    fresh = untrained(model)
    subjects = Subjects(
        model, fresh, means, value_of(model, seed=seed), None if fresh is None else value_of(fresh, seed=seed)
    )
    episodes = np.arange(segments.sequences) if segments.episodes is None else segments.episodes
    others = others_actions(episodes, seed=seed)
    out = unrolled(subjects, segments, context=context, others=others, draws=draws, seed=seed)
    with np.errstate(invalid="ignore", over="ignore"):  # what is no number is named below
        found, told = _measured(out, segments, context, means, draws, carried_discount(model))
    discount = discount_of(model) if discount is None else discount
    if starts is not None and discount is not None and segments.has_rewards and "value" in out.numbers:
        assert not isinstance(data, Segments)
        first = starts + (context - 1) * frame_skip
        returns_of = earned(data, episodes, first, horizon + 1, discount=discount, frame_skip=frame_skip)
        value, told["value"] = _values(out, *returns_of, discount)
        found["value"] = value
    sums, broken = _defined(found)
    remarks = [f"The model's {what} is not a finite number." for what in broken]
    if "known_returns" in told.get("value", {}) and not told["value"]["known_returns"]:
        remarks.append(NO_RETURNS.format(discount=discount, share=UNSEEN))
    resampler = Resampler(episodes, seed=seed)
    curves = _curves(sums, resampler)
    collapse, alarms = collapse_curves(out, model, _shown(segments)[:, context - 1 :])
    curves |= {"collapse": collapse} if collapse else {}
    remarks += alarms
    if not curves:
        if not can_imagine(model):
            raise CapabilityError(
                f"{type(model).__name__} has no dynamics, and {sorted({*segments.obs, *segments.info})} hold no vector "
                "to read out of its latents (of two episodes at least): there is nothing to measure"
            )
        raise CapabilityError(
            f"{type(model).__name__} predicts none of {sorted(segments.obs)}, no reward, and has no latent that "
            "varies: there is nothing to compare"
        )
    card = card_of(
        model,
        data,
        split=split,
        held_out=held_out,
        context=context,
        horizon=horizon,
        frame_skip=frame_skip if frame_skip > 1 else None,
        sequences=segments.sequences,
        episodes=resampler.episodes,
        draws=draws if "spread" in curves else None,
        seed=seed,
        interval={"level": LEVEL, "resamples": RESAMPLES, "over": "episodes"},
        mean_over={"source": means.source, "rows": means.rows},
    )
    levels = levels_shown(sums, resampler, held_out=held_out, returns=returns)
    told = {name: more for name, more in told.items() if name in curves}
    return HorizonEvaluation(card, curves, told, levels, tuple(remarks))


def _drawn(model: Any, data: Dataset | Segments, *, rows: int, **asked: Any) -> tuple[Segments, np.ndarray | None]:
    """The stretches to judge on, and where in their episodes they begin if these are known."""
    if not isinstance(data, Segments):
        shown = observed(model, data, frame_skip=asked["frame_skip"])
        return draw_segments(shown, rows=rows, also=data, **asked)
    if data.rows != rows:
        raise ConfigurationError(f"the segments have {counted(data.rows, 'row')}, context and horizon make {rows}")
    return data, None


def _checked(**counts: Any) -> int:
    """The rows of a sequence. Raises ConfigurationError for a count that is none."""
    for name, number in counts.items():
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
            raise ConfigurationError(f"{name} is {number!r}, expected a whole number of at least 1")
    return int(counts["context"] + counts["horizon"])


def _measured(
    out: Unrolled, segments: Segments, context: int, means: Means, draws: int, carried: float
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    ahead = _shown(segments)[:, context:]
    goes_on, told = measuring.continue_measures(out, segments, context, means, carried)
    return {
        "observations": measuring.observation_measures(out),
        "reward": measuring.reward_measures(out, segments, context, means),
        "continue": goes_on,
        "returns": measuring.return_measures(out, segments, context),
        "latents": measuring.latent_measures(out, ahead),
        "probes": measuring.probe_measures(out, segments, ahead, context),
        "spread": measuring.spread_measures(out, ahead, draws),
    }, {"continue": told}


def _shown(segments: Segments) -> np.ndarray:
    """Which rows ``[B, T]`` have an observation of their own."""
    return np.ones(segments.rewards.shape, bool) if segments.shown is None else segments.shown


def _values(
    out: Unrolled, returns: np.ndarray, known: np.ndarray, discount: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values against what was earned, and of how many rows that is known."""
    told = {"discount": discount, "known_returns": int(known.sum()), "returns": int(known.size)}
    return measuring.value_measures(out, returns, known), told


def _defined(tree: Mapping[str, Any], path: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """Leave out what was not measured, and sums that a prediction which is no number has spoilt, which are named."""
    found, broken = dict[str, Any](), list[str]()
    for name, below in tree.items():
        if not isinstance(below, Sums):
            kept, more = _defined(below, f"{path}{name} ")
            broken += more
            found |= {name: kept} if kept else {}
        elif np.isfinite(below.values).all():
            found[name] = below
        elif name in OWN:
            broken.append(path.strip())
    return found, tuple(broken)


def _curves(tree: Mapping[str, Any], resampler: Resampler) -> dict[str, Any]:
    """The curves of sums, where they are defined; baselines are nothing without the model that they are of."""
    found: dict[str, Any] = {}
    for name, below in tree.items():
        made = resampler.curve(below) if isinstance(below, Sums) else _curves(below, resampler)
        if made:
            found[name] = made
    baselines_alone = any(isinstance(made, Curve) for made in found.values()) and not set(OWN) & set(found)
    return {} if baselines_alone else found


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: below.to_dict() if isinstance(below, Curve) else _plain(below) for name, below in tree.items()}
