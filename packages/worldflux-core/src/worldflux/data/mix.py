"""Several datasets with weights as one source."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch

from worldflux.core.batch import Batch
from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.words.counts import counted

from .alike import difference, in_words
from .bounds import known_together
from .dataset import Dataset
from .draws import Draws
from .providers import BatchRequest, check_request
from .storage import generator_state
from .windows import Windows


class Mixture:
    """Datasets of the same rows, each drawn from by its weight; what is asked of a dataset can be asked of it, too."""

    def __init__(self, parts: Iterable[tuple[Dataset, float]]) -> None:
        self.datasets, self.weights = _checked(list(parts))
        first = self.datasets[0]
        self.obs_spec: Mapping[str, ModalitySpec] = first.obs_spec
        self.action_spec: ActionSpec = first.action_spec
        self.has_rewards = first.has_rewards
        #: What every dataset has and is alike in all: the only ``info`` that batches have.
        self.info_spec: Mapping[str, ModalitySpec] = {
            name: spec
            for name, spec in first.info_spec.items()
            if all(in_words(one.info_spec.get(name)) == in_words(spec) for one in self.datasets)
        }

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the readers lost, guessed, or found slow, each with its dataset."""
        return tuple(f"{one.title}: {remark}" for one in self.datasets for remark in one.remarks)

    @property
    def title(self) -> str:
        """What to call it in a message: the places and the weights."""
        parts = zip(self.datasets, self.weights, strict=True)
        return ", ".join(f"{weight:g} of {one.title}" for one, weight in parts)

    @property
    def fingerprint(self) -> str:
        """What tells this data from other data: the datasets' and the weights, 64 hexadecimal digits."""
        parts = [(one.fingerprint, weight) for one, weight in zip(self.datasets, self.weights, strict=True)]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def __len__(self) -> int:
        """The number of rows."""
        return sum(map(len, self.datasets))

    def windows(
        self,
        length: int | None = None,
        *,
        frame_skip: int = 1,
        boundary: Literal["within", "cross"] = "within",
        seed: int = 0,
        obs: Collection[str] | None = None,
        stand_ins: bool = True,
    ) -> MixedWindows:
        """Return what samples windows of all datasets; the options are those of :class:`Windows`."""
        made = [
            one.windows(
                length, frame_skip=frame_skip, boundary=boundary, seed=seed + i, obs=obs, stand_ins=stand_ins
            )
            for i, one in enumerate(self.datasets)
        ]  # fmt: skip
        return MixedWindows(made, self.weights, info=self.info_spec, seed=seed)

    def split(self, held_out: float, *, seed: int = 0) -> tuple[Mixture, Mixture]:
        """Return two mixtures: every dataset is split, see :meth:`Dataset.split`."""
        pairs = [one.split(held_out, seed=seed) for one in self.datasets]
        sides = [list(zip(side, self.weights, strict=True)) for side in zip(*pairs, strict=True)]
        return Mixture(sides[0]), Mixture(sides[1])


class MixedWindows:
    """Windows of several datasets: each of a batch is of a dataset drawn by weight. A ``BatchProviderV2``.

    ``extras["wf.data.dataset"]`` ``[B]`` says which one; the sequences of one stand together.
    """

    source_kind = "datasets"

    def __init__(
        self, parts: list[Windows], weights: tuple[float, ...], *, info: Collection[str] = (), seed: int = 0
    ) -> None:
        self.parts, self._draws = parts, Draws(seed)
        self._extras = [f"wf.data.{name}" for name in (*info, "index")]
        self._shares = np.array(weights) / sum(weights)

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]:
        """The observations that are read, by name."""
        return self.parts[0].obs_spec

    @property
    def action_spec(self) -> ActionSpec:
        """The flat action of a window's row."""
        return self.parts[0].action_spec

    def sample(self, request: BatchRequest | int) -> Batch:
        """Return a batch: of so many windows, or as the request says. Raises what :meth:`Windows.sample` raises."""
        whole = isinstance(request, (int, np.integer)) and not isinstance(request, bool)
        request = BatchRequest(int(request)) if whole else check_request(request)  # type: ignore[arg-type]
        self._draws.settle()
        counts = self._draws.generator.multinomial(request.batch_size, self._shares)
        drawn = [(i, int(count)) for i, count in enumerate(counts) if count]
        batches = [self.parts[i].sample(BatchRequest(count, request.seq_len)) for i, count in drawn]
        for one in batches:
            one.extras = {name: one.extras[name] for name in self._extras}
        batch = batches[0] if len(batches) == 1 else _joined(batches)
        batch.extras["wf.data.dataset"] = torch.tensor([i for i, count in drawn for _ in range(count)])
        return batch if str(request.device) == "cpu" else batch.to(request.device)

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state of the draw, and of each dataset's."""
        return {}, {"rng": self._draws.state, "parts": [part.state_dict()[1] for part in self.parts]}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises what :meth:`Windows.load_state_dict` raises."""
        parts, state = meta.get("parts"), generator_state(meta.get("rng"), "mixture")
        if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
            raise CheckpointError("saved mixture: 'parts' is missing or damaged")
        if len(parts) != len(self.parts):
            raise ConfigurationError(
                f"the saved windows are over {counted(len(parts), 'dataset')}, these over {len(self.parts)}"
            )
        for windows, part in zip(self.parts, parts, strict=True):
            windows.load_state_dict({}, part)
        self._draws.state = state


def mix(parts: Iterable[tuple[Dataset, float]]) -> Mixture:
    """Return datasets as one, drawn from by weight: ``mix([(expert, 1), (random, 3)]).windows(64).sample(16)``.

    Raises ConfigurationError for weights that are none, or datasets whose rows differ; both sides are named.
    """
    return Mixture(parts)


def _checked(parts: list[tuple[Dataset, float]]) -> tuple[tuple[Dataset, ...], tuple[float, ...]]:
    if not parts:
        raise ConfigurationError("a mixture needs at least one dataset")
    for dataset, weight in parts:
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight <= 0:
            raise ConfigurationError(f"the weight of {dataset.title} is {weight!r}, expected a number above 0")
    first = parts[0][0]
    for dataset, _ in parts[1:]:
        differs = difference(first, dataset, ("obs_spec", "action_spec", "has_rewards"))
        if differs is not None:
            what, mine, other = differs
            raise ConfigurationError(
                f"datasets that are mixed have the same rows, but {what} of {first.title} is {mine}, of "
                f"{dataset.title} {other}: leave one out, or convert it"
            )
    known_together((dataset.title, dataset.action_bounds) for dataset, _ in parts)
    return tuple(dataset for dataset, _ in parts), tuple(float(weight) for _, weight in parts)


def _joined(batches: list[Batch]) -> Batch:
    def cat(name: str) -> Any:
        values = [getattr(batch, name) for batch in batches]
        if isinstance(values[0], Mapping):
            return {key: torch.cat([one[key] for one in values]) for key in values[0]}
        return None if values[0] is None else torch.cat(values)

    names = ("obs", "actions", "rewards", "is_first", "is_last", "is_terminal", "extras")
    return Batch(**{name: cat(name) for name in names})
