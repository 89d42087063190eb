"""A run's model judged by horizon: on the episodes its training held out, or on other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worldflux.core.errors import ConfigurationError
from worldflux.data import Dataset, open_dataset
from worldflux.data.bounds import known_together
from worldflux.data.resizing import resized
from worldflux.data.row import check_whole
from worldflux.evals import EvalResult, HorizonEvaluation, Imagination, evaluate_horizon, imagine, save_pictures
from worldflux.evals.drawing import draw_segments, observed
from worldflux.files import expanded, write_json

from .experience import Data, Experience, Recorded
from .lineage import fingerprints, held_out_unseen, never_learned, run_bounds
from .run import Run

NUMBERS, PICTURES = "evaluation-horizon.json", "pictures"
LIBRARY = 64  # sequences whose rows show what a model without a decoder imagines


def judge(
    run: Run,
    data: Data | None = None,
    *,
    context: int = 5,
    horizon: int = 15,
    sequences: int = 64,
    seed: int | None = None,
    frame_skip: int | None = None,
    data_options: Mapping[str, Any] | None = None,
    returns: Mapping[str, EvalResult] | None = None,
) -> HorizonEvaluation:
    """Return what the run's model predicts of episodes it did not learn from, beside its baselines.

    Without ``data`` these are the ones that the run held out of its (first set of) data; where ``data`` is one of the
    sets that it learned from, those it held out of that one. ``frame_skip`` is by default the one that the run was
    trained with, and 1 for a saved model, which does not tell. ``returns`` are what its policies earned, for the level
    of evidence.

    Raises:
        ConfigurationError: there is no data, it or the frame skip does not fit the model, its actions have other
            bounds, or its episodes are too short.
        DatasetError: the data is missing or damaged.
    """
    part = _part(run, data, data_options)
    return evaluate_horizon(
        run.model,
        part.data,
        context=context,
        horizon=horizon,
        sequences=sequences,
        seed=run.eval_seed(seed),
        training=part.training,
        held_out=part.held_out,
        split=part.split,
        frame_skip=_skip(run, frame_skip),
        returns=returns,
    )


def imagine_recorded(
    run: Run,
    data: Data | None = None,
    *,
    context: int = 5,
    horizon: int = 15,
    sequences: int = 16,
    seed: int | None = None,
    frame_skip: int | None = None,
    data_options: Mapping[str, Any] | None = None,
) -> Imagination:
    """Return open-loop predictions of the recorded episodes that :func:`judge` takes, as it does; raises the same."""
    skip, seed = _skip(run, frame_skip), run.eval_seed(seed)
    part = _part(run, data, data_options)
    shown = observed(run.model, part.data, frame_skip=skip)
    how: dict[str, Any] = {"rows": context + horizon, "frame_skip": skip, "stand_ins": False}
    segments, _ = draw_segments(shown, sequences=sequences, seed=seed, **how)
    held = shown if part.training is None else observed(run.model, part.training, frame_skip=skip)
    library, _ = draw_segments(held, sequences=max(sequences, LIBRARY), seed=seed + 1, **how)
    if part.training is not None and library.episodes is not None:  # which are none of those imagined
        library = replace(library, episodes=-1 - library.episodes)
    return imagine(run.model, segments, context=context, library=library)


def save_judgement(result: HorizonEvaluation, folder: str | Path) -> tuple[Path, list[Path]]:
    """Write the numbers of an evaluation into a folder, and a picture of every measure into ``pictures`` there.

    Raises ConfigurationError if matplotlib is missing; the numbers are there then.
    """
    numbers = expanded(folder) / NUMBERS
    numbers.parent.mkdir(parents=True, exist_ok=True)
    write_json(numbers, result.to_dict())
    return numbers, save_pictures(result, numbers.parent / PICTURES)


def _skip(run: Run, asked: int | None) -> int:
    """Every how many rows one is kept."""
    if asked is None:
        return run.settings.frame_skip
    check_whole("frame_skip", asked, 1)
    return asked


@dataclass(frozen=True)
class _Part:
    """Episodes to judge a model on; where it learned from others of the same set, those; and what is known of both."""

    data: Dataset
    split: str
    held_out: bool | None
    training: Dataset | None = None


def _part(run: Run, data: Data | None, options: Mapping[str, Any] | None) -> _Part:
    given = None if data is None else data if isinstance(data, Dataset) else open_dataset(data, **(options or {}))
    if run.status == "saved":
        if given is None:
            raise ConfigurationError(f"{run.directory} is a saved model: name the data to judge it on, --data DIR")
        return _Part(_as_seen(run, given), "all of the data", None)
    if given is not None:
        known_together([(f"the run {run.directory}", run_bounds(run.directory)), (given.title, given.action_bounds)])
    learned_from = fingerprints(run.directory)
    if given is not None and given.fingerprint not in learned_from:
        unseen = never_learned(run.directory, run.settings, given)
        return _Part(_as_seen(run, given), "data of its own", unseen)
    which = 0 if given is None else learned_from.index(given.fingerprint)
    one = _recorded(run, which, given)
    if one.held_out is not None:
        return _Part(one.held_out, "held out", held_out_unseen(run.directory, run.settings, one), one.training)
    if given is None:
        raise ConfigurationError(
            f"{run.directory} held out nothing of {one.name} (held_out 0): name other data to judge it on, --data DIR"
        )
    return _Part(one.whole, "all of what it learned from", False, one.training)


def _as_seen(run: Run, data: Dataset) -> Dataset:
    """Data whose images have the size that the run's had, where they were resized."""
    size = run.settings.image_size
    images = any(spec.kind.value == "image" for spec in data.obs_spec.values())
    return data if size is None or not images else resized(data, size)


def _recorded(run: Run, which: int, given: Dataset | None) -> Recorded:
    """One of the run's sets of data; ``given`` stands for it where that is open already, wherever it is now."""
    if given is None:
        return run.experience.sets[which]
    ready = [given if place == which else None for place in range(len(run.settings.data))]
    return Experience.open(run.settings, ready).sets[which]
