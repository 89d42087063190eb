"""Recorded data in a model's own terms: what it observes, by name, and the actions it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.model import WorldModel
from worldflux.core.spec import ActionSpec, ModalitySpec

from .alike import in_words
from .dataset import Dataset
from .recording import Recording
from .sequences import skipped_actions

_WAY_OUT = "build the model for this data (leave out what names another), or convert the data to what the model takes"


def matched(dataset: Dataset, model: WorldModel, *, frame_skip: int = 1, name: str = "the data") -> Dataset:
    """Return the same episodes with just what ``model`` observes, in which ``info`` may stand for an observation.

    ``frame_skip`` is that of the windows the model learns from; ``name`` is what messages call the data.

    Raises:
        ConfigurationError: an observation is missing, or of another shape or dtype; the actions are of another kind or
            size; the model learns from rewards, and there are none. The message names both sides.
    """
    contract, taken = model.io_contract(), skipped_actions(dataset.action_spec, frame_skip)
    check_actions(taken, contract.effective_action_specs, name=name)
    if "rewards" in contract.required_batch_keys and not dataset.has_rewards:
        raise ConfigurationError(
            f"{name} has no rewards, and {type(model).__name__} learns from rewards: record them with the data, name "
            "the column that holds them where the format has an option for it, or train a family that needs none"
        )
    return observing(dataset, contract.effective_input_spec.modalities, name=name)


def observing(dataset: Dataset, wanted: Mapping[str, ModalitySpec], *, name: str = "the data") -> Dataset:
    """Return the same episodes with the observations ``wanted``, in that order.

    Raises ConfigurationError for one that is missing, or of another shape or dtype.
    """
    columns = {one: _column(dataset, one, spec, name) for one, spec in wanted.items()}
    if list(columns.items()) == [(one, f"obs/{one}") for one in dataset.obs_spec]:
        return dataset
    return dataset.over(_Observing(dataset.recording, columns))


def check_actions(taken: ActionSpec, accepted: tuple[ActionSpec, ...], *, name: str) -> None:
    """Raise ConfigurationError if actions are of another kind or size than a model accepts; one without takes any."""
    acted = [spec for spec in accepted if spec.kind in ("continuous", "discrete", "multi")]
    if acted and not any((one.kind, one.dim, one.parts) == (taken.kind, taken.dim, taken.parts) for one in acted):
        raise ConfigurationError(
            f"the actions of {name} are {in_words(taken)}, the model takes {' or '.join(map(in_words, acted))}: "
            f"{_WAY_OUT}"
        )


def _column(dataset: Dataset, one: str, spec: ModalitySpec, name: str) -> str:
    """The column that shows an observation: that of its name, or else the ``info`` of its name, such as a task."""
    shown = dataset.obs_spec.get(one) or dataset.info_spec.get(one)
    if shown is None:
        near = did_you_mean(one, dataset.obs_spec)
        raise ConfigurationError(
            f"the model observes {one!r} {list(spec.shape)}, but {name} shows {_shapes(dataset.obs_spec)}.{near} A "
            "format's rename option gives an observation another name"
        )
    if shown.shape != spec.shape:
        sizes = "; an image needs another size: convert the data, or build the model for it"
        raise ConfigurationError(
            f"observation {one!r} of {name} has shape {list(shown.shape)}, the model takes {list(spec.shape)}"
            f"{sizes if len(spec.shape) == 3 else f': {_WAY_OUT}'}"
        )
    floats = shown.dtype.startswith("float") and spec.dtype.startswith("float")
    if shown.dtype != spec.dtype and not floats:
        raise ConfigurationError(
            f"observation {one!r} of {name} is {shown.dtype}, the model takes {spec.dtype}: {_WAY_OUT}"
        )
    return f"obs/{one}" if one in dataset.obs_spec else f"info/{one}"


def _shapes(specs: Mapping[str, ModalitySpec]) -> str:
    return ", ".join(f"{name!r} {list(spec.shape)}" for name, spec in specs.items()) or "no observation"


class _Observing(Recording):
    """A recording that shows some of another's columns as its observations, and no other column of observations."""

    def __init__(self, inner: Recording, columns: Mapping[str, str]) -> None:
        specs = {f"info/{name}": spec for name, spec in inner.info_spec.items()}
        specs |= {f"obs/{name}": spec for name, spec in inner.obs_spec.items()}
        self._inner, self._columns = inner, {f"obs/{one}": column for one, column in columns.items()}
        self._others = tuple(name for name in inner.names if not name.startswith("obs/"))
        super().__init__(
            format=inner.format,
            place=inner.place,
            obs_spec={one: specs[column] for one, column in columns.items()},
            action_spec=inner.action_spec,
            episodes=inner.episodes,
            columns=inner.columns,
            info_spec=dict(inner.info_spec),
            remarks=inner.remarks,
            provenance=inner.provenance,
            files=inner.files,
        )

    @property
    def has_rewards(self) -> bool:
        return self._inner.has_rewards

    @property
    def names(self) -> tuple[str, ...]:
        return (*self._columns, *self._others)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self._inner.fingerprint} {self._columns}".encode()).hexdigest()

    def read(self, name: str, episode: int, start: int, stop: int, step: int = 1) -> np.ndarray:
        return self._inner.read(self._columns.get(name, name), episode, start, stop, step)

    def gather(self, name: str, episodes: Any, starts: Any, length: int, step: int = 1) -> np.ndarray:
        return self._inner.gather(self._columns.get(name, name), episodes, starts, length, step)

    def close(self) -> None:
        self._inner.close()
