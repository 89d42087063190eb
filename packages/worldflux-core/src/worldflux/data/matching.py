"""Recorded data in a model's own terms: what it observes, by name, and the actions it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.model import WorldModel
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.envs.skipping import skipped_actions

from .alike import in_words
from .dataset import Dataset
from .formats.common.naming import REWARD
from .recording import Recording

_WAY_OUT = "build the model for this data (leave out what names another), or convert the data to what the model takes"


def matched(dataset: Dataset, model: WorldModel, *, frame_skip: int = 1, name: str = "the data") -> Dataset:
    """Return the same episodes with just what ``model`` observes, in which ``info`` may stand for an observation.

    ``frame_skip`` is that of the windows the model learns from; ``name`` is what messages call the data.

    Raises:
        ConfigurationError: an observation is missing, or of another shape or dtype; the actions are of another kind or
            size; the model learns from rewards, and there are none. The message names both sides.
    """
    contract = model.io_contract()
    check_actions(dataset.action_spec, contract.effective_action_specs, frame_skip=frame_skip, name=name)
    if "rewards" in contract.required_batch_keys and not dataset.has_rewards:
        raise ConfigurationError(
            f"{name} has no rewards (no column {', '.join(REWARD)}), and {type(model).__name__} learns from rewards: "
            "record them with the data, name the column that holds them (the option reward of npz and parquet: "
            f"--data-set reward=NAME), or {_without_rewards(model, dataset)}"
        )
    return observing(dataset, contract.effective_input_spec.modalities, name=name)


def _without_rewards(model: WorldModel, dataset: Dataset) -> str:
    """The way out for a model whose data has no rewards."""
    unrewarded = getattr(getattr(model, "config", None), "unrewarded", None)
    if unrewarded is None:
        return "train a family that learns without, as dreamer and planet do"
    options = unrewarded(ends=bool(dataset.episodes.terminal.any()))
    told = " ".join(f"--set {option}={str(value).lower()}" for option, value in options.items())
    return f"learn what is seen alone, without a policy: {told} (model_options={options})"


def observing(dataset: Dataset, wanted: Mapping[str, ModalitySpec], *, name: str = "the data") -> Dataset:
    """Return the same episodes with the observations ``wanted``, in that order.

    Raises ConfigurationError for one that is missing, or of another shape or dtype.
    """
    columns = {one: _column(dataset, one, spec, name) for one, spec in wanted.items()}
    if list(columns.items()) == [(one, f"obs/{one}") for one in dataset.obs_spec]:
        return dataset
    return dataset.over(_Observing(dataset.recording, columns))


def check_actions(recorded: ActionSpec, accepted: tuple[ActionSpec, ...], *, frame_skip: int, name: str) -> None:
    """Raise ConfigurationError if ``frame_skip`` actions are of another kind or size than a model accepts.

    A model without any takes all. Where another frame skip makes them fit, it is named.
    """
    acted = [spec for spec in accepted if spec.kind in ("continuous", "discrete", "multi")]
    if not acted or _accepted(recorded, acted, frame_skip):
        return
    apart = f", {frame_skip} for each row that is kept (frame_skip {frame_skip})," if frame_skip > 1 else ""
    fitting = {spec.dim // recorded.dim for spec in acted if recorded.dim and spec.dim >= recorded.dim}
    others = [skip for skip in sorted(fitting) if _accepted(recorded, acted, skip)]
    hint = f"it was trained with frame_skip {others[0]} (--frame-skip {others[0]})" if others else _WAY_OUT
    raise ConfigurationError(
        f"the actions of {name}{apart} are {in_words(skipped_actions(recorded, frame_skip))}, the model takes "
        f"{' or '.join(map(in_words, acted))}: {hint}"
    )


def _accepted(recorded: ActionSpec, acted: Sequence[ActionSpec], frame_skip: int) -> bool:
    taken = skipped_actions(recorded, frame_skip)
    return any((one.kind, one.dim, one.parts) == (taken.kind, taken.dim, taken.parts) for one in acted)


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
        sizes = "; an image of another size is resized by image_size (--image-size)"
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
            action_bounds=inner.action_bounds,
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
