"""The recorded data of a run: opened, parted into what is learned from and what is held out, in a model's terms."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import BufferError, ConfigurationError, did_you_mean
from worldflux.core.model import WorldModel
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import BatchProviderV2, BatchRequest, Dataset, DatasetError, mix, open_dataset
from worldflux.data.matching import matched, observing
from worldflux.data.resizing import resized
from worldflux.envs.skipping import skipped_actions
from worldflux.files import expanded
from worldflux.words.counts import counted

from .settings import Settings, read_json

Data = str | Path | Dataset
FORMAT_AND_PATH = r"([a-z][a-z0-9_-]+):(.+)"
SLACK = 1e-3  # of actions beyond 1: what rounding makes
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recorded:
    """One set of data of a run: its ``name`` in the run's file, all of it, and its two parts (one may be missing).

    ``fingerprint`` is that of the data as it was opened, whatever of it a model observes.
    """

    name: str
    whole: Dataset
    training: Dataset
    held_out: Dataset | None
    fingerprint: str


@dataclass(frozen=True)
class Experience:
    """The sets of data of a run, and what a model built for them observes and takes (that of the first)."""

    sets: tuple[Recorded, ...]
    weights: tuple[float, ...]
    frame_skip: int = 1

    @classmethod
    def open(cls, settings: Settings, given: Sequence[Dataset | None] = ()) -> Experience:
        """Open what the settings name; ``given`` stands for what is open already.

        Raises:
            DatasetError: a set is missing or damaged. ConfigurationError: an unknown format or option, or too few
                episodes to hold some out.
        """
        found = []
        for name, ready in zip(settings.data, given or [None] * len(settings.data), strict=True):
            whole = _opened(name, settings.data_options) if ready is None else ready
            for remark in whole.remarks:
                logger.info("%s: %s", name, remark)
            fingerprint = whole.fingerprint
            if settings.image_size is not None:
                whole = resized(whole, settings.image_size)
            if settings.obs:
                whole = observing(whole, {one: _shown(whole, one, name) for one in settings.obs}, name=name)
            training, held_out = parted(whole, settings.held_out, name)
            found.append(Recorded(name, whole, training, held_out, fingerprint))
        return cls(tuple(found), tuple(settings.data_weights), settings.frame_skip)

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]:
        """The observations by name."""
        return self.sets[0].whole.obs_spec

    @property
    def action_spec(self) -> ActionSpec:
        """The flat action, of all the steps from one row to the next that is kept."""
        return skipped_actions(self.sets[0].whole.action_spec, self.frame_skip)

    @property
    def rows(self) -> int:
        """The rows that are learned from."""
        return sum(len(one.training) for one in self.sets)

    def fitted(self, model: WorldModel) -> Experience:
        """Return the same data in a model's terms. Raises ConfigurationError naming both sides where they differ."""

        def fit(one: Recorded) -> Recorded:
            whole = matched(one.whole, model, frame_skip=self.frame_skip, name=one.name)
            parts = [part and part.over(whole.recording) for part in (one.training, one.held_out)]
            return replace(one, whole=whole, training=parts[0] or whole, held_out=parts[1])

        return replace(self, sets=tuple(map(fit, self.sets)))

    @property
    def held_out_episodes(self) -> int:
        """The episodes that are only evaluated on."""
        return sum(len(one.held_out.episodes) for one in self.sets if one.held_out is not None)

    def mean_return(self) -> float | None:
        """The mean return of every recorded episode; None where a set has no rewards."""
        if not all(one.whole.has_rewards for one in self.sets):
            return None
        sets = [one.whole for one in self.sets]
        returns = [whole.column("reward", i).sum() for whole in sets for i in range(len(whole.episodes))]
        return float(np.mean(returns))

    def windows(self, *, boundary: str, seed: int) -> BatchProviderV2:
        """Return what draws batches of what is learned from."""
        return self._drawn([one.training for one in self.sets], boundary, seed)

    def held_out_windows(self, *, boundary: str, seed: int) -> BatchProviderV2 | None:
        """Return what draws batches of what is held out; None if nothing is."""
        parts = [one.held_out for one in self.sets if one.held_out is not None]
        return self._drawn(parts, boundary, seed) if parts else None

    def _drawn(self, parts: Sequence[Dataset], boundary: str, seed: int) -> BatchProviderV2:
        how: Any = {"boundary": boundary, "seed": seed, "frame_skip": self.frame_skip}
        if len(parts) == 1:
            return parts[0].windows(**how)
        weights = self.weights or tuple(len(part) for part in parts)
        return mix(zip(parts, weights, strict=True)).windows(**how)

    def check_length(self, rows: int, *, boundary: str) -> None:
        """Raise ConfigurationError if a part has no sequence of so many rows."""
        for one in self.sets:
            for part in (one.training, one.held_out):
                if part is None:
                    continue
                try:
                    self._drawn([part], boundary, 0).sample(BatchRequest(1, rows))
                except BufferError as error:
                    where, more = "part that is learned from", ""
                    if part is one.held_out:
                        where, more = "held-out part", ", or hold more out (held_out, --held-out)"
                    raise ConfigurationError(
                        f"the {where} of {one.name} has no sequence of {counted(rows, 'row')}: {error} "
                        "(sequence_length, "
                        f"--sequence-length){more}"
                    ) from error

    def check_bounds(self, acts_in: str | None) -> None:
        """Raise ConfigurationError if actions lie outside [-1, 1], which an environment scales to bounds of its own.

        Where the policy acts in none, it is said and no more.
        """
        parts = [at for part, at in self.sets[0].whole.action_spec.slices() if part.kind == "continuous"]
        for one in self.sets:
            episodes = range(len(one.whole.episodes))
            actions = (one.whole.column("action", i)[:, at] for i in episodes for at in parts)
            largest = max((float(np.abs(action).max(initial=0)) for action in actions), default=0.0)
            if largest <= 1 + SLACK:
                continue
            what = (
                f"the actions of {one.name} reach {largest:.4g}, but a policy acts in [-1, 1], which an environment "
                "scales to its own bounds: name theirs where the data is read or converted (action_low and "
                "action_high, where the format has them)"
            )
            if acts_in is not None:
                raise ConfigurationError(what)
            logger.warning("%s", what)

    def facts(self) -> list[dict[str, Any]]:
        """Return what tells this data from other data, ready for JSON."""
        return [
            {
                "name": one.name,
                "fingerprint": one.fingerprint,
                "episodes": len(one.whole.episodes),
                "rows": len(one.whole),
                "held_out_episodes": 0 if one.held_out is None else len(one.held_out.episodes),
                **({} if (bounds := one.whole.action_bounds) is None else {"action_bounds": bounds.to_dict()}),
            }
            for one in self.sets
        ]

    def check(self, directory: Path) -> None:
        """Raise ConfigurationError if the run in a directory learned from other data than this."""
        told = read_json(directory / "config.json").get("resolved")
        stored = told.get("data") if isinstance(told, Mapping) else None
        before = [one.get("fingerprint") for one in stored or [] if isinstance(one, Mapping)]
        if before and before != [one.fingerprint for one in self.sets]:
            names = ", ".join(one.name for one in self.sets)
            raise ConfigurationError(
                f"{names} is other data than the run {directory} learned from (its fingerprint differs): put that "
                "back, or name where it is now (--data DIR, or data=DIR); a run on other data is a new one, --from this"
            )


def names_of(data: Data | Sequence[Data]) -> tuple[list[str], list[Dataset | None]]:
    """Return what a run's file calls its data, absolute paths, and what of it is open already."""
    several: list[Any] = list(data) if isinstance(data, (list, tuple)) else [data]
    for one in several:
        if not isinstance(one, (str, Path, Dataset)):
            raise ConfigurationError(
                f"data is {one!r}, expected the path of a dataset, FORMAT:PATH, a Dataset, or a list of these"
            )
    return [_name_of(one) for one in several], [one if isinstance(one, Dataset) else None for one in several]


def _name_of(one: Data) -> str:
    if isinstance(one, Dataset):
        return f"{one.recording.format}:{Path(one.recording.place).absolute()}"
    if not expanded(one).exists() and (match := re.fullmatch(FORMAT_AND_PATH, str(one))):
        return f"{match[1]}:{expanded(match[2]).absolute()}"
    return str(expanded(one).absolute())


def _opened(name: str, options: Mapping[str, Any]) -> Dataset:
    try:
        return open_dataset(name, **options)
    except DatasetError as error:
        if place_of(name).exists():
            raise
        raise DatasetError(f"{error}; data that has moved is named where it is now (--data DIR, data=DIR)") from error


def _shown(whole: Dataset, one: str, name: str) -> ModalitySpec:
    if (spec := whole.obs_spec.get(one) or whole.info_spec.get(one)) is None:
        known = [*whole.obs_spec, *whole.info_spec]
        raise ConfigurationError(f"obs names {one!r}, but {name} shows {known}.{did_you_mean(one, known)}")
    return spec


def place_of(name: str) -> Path:
    """Return the path of data that a run's file names."""
    match = re.fullmatch(FORMAT_AND_PATH, name)
    return expanded(match[2] if match else name).absolute()


def parted(whole: Dataset, share: float, name: str) -> tuple[Dataset, Dataset | None]:
    """Return the part to learn from and the one to hold out, which has an episode at least unless ``share`` is 0."""
    if not share:
        return whole, None
    if len(whole.episodes) < 2:
        has = "a single episode" if len(whole.episodes) else "no episode"
        raise ConfigurationError(
            f"{name} has {has}, of which none can be held out: held_out=0 (--held-out 0) learns from all of it, and "
            "nothing then says how well"
        )
    return whole.split(share)
