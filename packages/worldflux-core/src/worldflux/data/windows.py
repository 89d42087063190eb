"""Windows over recorded episodes: batches of sequences, as a replay gives them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch

from worldflux.core.batch import Batch
from worldflux.core.errors import BufferError, ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.envs.skipping import skipped_actions
from worldflux.words.counts import counted

from .draws import Draws
from .providers import BatchRequest, check_request
from .recording import EpisodeTable
from .row import check_whole
from .sequences import Piece
from .storage import generator_state


class Source(Protocol):
    """What windows are drawn from: a dataset."""

    episodes: EpisodeTable

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]: ...
    @property
    def action_spec(self) -> ActionSpec: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def title(self) -> str: ...
    def sequences(
        self, windows: Sequence[Sequence[Piece]], *, frame_skip: int = 1, obs: Collection[str] | None = None
    ) -> Batch: ...


class Windows:
    """Draws windows of ``length`` rows from a dataset, every possible start equally likely. A ``BatchProviderV2``.

    ``dataset.windows(length).sample(16)`` is a ``Batch`` with ``obs``, ``actions``, ``rewards`` (where there are any),
    the three flags, and in ``extras["wf.data.index"]`` the number of every row in the recording, int64 ``[B, T]``.

    Args:
        dataset: the episodes.
        length: rows of a window; a request's ``seq_len`` wins over it.
        frame_skip: keep every k-th row; an action is then the k actions up to the next one, see ``action_spec``, and a
            reward the sum of the k. Any row may be the first that is kept, so every end is reached.
        boundary: "within" keeps each window inside one episode; "cross" lets it run into the next of the dataset,
            whose first row ``is_first``.
        seed: of the draw. A copy in another process (a DataLoader's worker) draws a stream of its own.
        obs: names of the observations that are read; None is all.
        stand_ins: whether a window may show a last row whose observation is only a stand-in.
    """

    source_kind = "dataset"

    def __init__(
        self,
        dataset: Source,
        length: int | None,
        *,
        frame_skip: int = 1,
        boundary: Literal["within", "cross"] = "within",
        seed: int = 0,
        obs: Collection[str] | None = None,
        stand_ins: bool = True,
    ) -> None:
        for name, value, least in (("length", length, 1), ("frame_skip", frame_skip, 1), ("seed", seed, 0)):
            if value is not None or name != "length":
                check_whole(name, value, least)
        if boundary not in ("within", "cross"):
            raise ConfigurationError(f"boundary must be 'cross' or 'within', got {boundary!r}")
        if isinstance(obs, str):
            raise ConfigurationError(f"obs is {obs!r}, expected a collection of names, such as [{obs!r}]")
        unknown = [name for name in obs or () if name not in dataset.obs_spec]
        if unknown:
            raise ConfigurationError(f"there is no observation {unknown[0]!r}, only {', '.join(dataset.obs_spec)}")
        self.dataset, self.length, self.frame_skip, self.boundary = dataset, length, int(frame_skip), boundary
        self._obs, self._draws = None if obs is None else tuple(obs), Draws(seed)
        table = dataset.episodes
        self._lengths = table.lengths if stand_ins else table.lengths - table.stand_in
        self._starts: tuple[int, np.ndarray, np.ndarray] | None = None  # for a length: how many, and their sums

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]:
        """The observations that are read, by name."""
        spec = self.dataset.obs_spec
        return spec if self._obs is None else {name: spec[name] for name in self._obs}

    @property
    def action_spec(self) -> ActionSpec:
        """The flat action of a window's row: ``frame_skip`` actions of the dataset."""
        return skipped_actions(self.dataset.action_spec, self.frame_skip)

    def count(self, length: int | None = None) -> int:
        """How many windows there are. Raises ConfigurationError without a length."""
        ends = self._valid(self._asked(length))[1]
        return int(ends[-1]) if len(ends) else 0

    def sample(self, request: BatchRequest | int) -> Batch:
        """Return a batch: of so many windows, or as the request says (whose ``seq_len`` wins over ``length``).

        Raises:
            BufferError: no window is that long. DatasetError: the data is damaged.
        """
        whole = isinstance(request, (int, np.integer)) and not isinstance(request, bool)
        request = BatchRequest(int(request)) if whole else check_request(request)  # type: ignore[arg-type]
        length = self._asked(request.seq_len)
        valid, ends = self._valid(length)
        if not len(ends) or not ends[-1]:
            raise BufferError(self._too_long(length))
        self._draws.settle()
        drawn = self._draws.generator.integers(int(ends[-1]), size=request.batch_size)
        episodes = np.searchsorted(ends, drawn, side="right")
        starts = drawn - (ends - valid)[episodes]
        windows = [self._pieces(*place, length) for place in zip(episodes.tolist(), starts.tolist(), strict=True)]
        batch = self.dataset.sequences(windows, frame_skip=self.frame_skip, obs=self._obs)
        return batch if str(request.device) == "cpu" else batch.to(request.device)

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state of the draw and which data it is over."""
        about = {"dataset": self.dataset.title, "fingerprint": self.dataset.fingerprint}
        return {}, {"rng": self._draws.state, **about, "frame_skip": self.frame_skip, "boundary": self.boundary}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, so that the same windows follow.

        Raises:
            ConfigurationError: it is of other data, or of windows of another kind. CheckpointError: it is damaged.
        """
        if meta.get("fingerprint") != self.dataset.fingerprint:
            raise ConfigurationError(
                f"the saved windows are over {meta.get('dataset')!r}, fingerprint {str(meta.get('fingerprint'))[:12]}; "
                f"this is {self.dataset.title!r}, {self.dataset.fingerprint[:12]}: give the same data, or begin anew"
            )
        for name, mine in (("frame_skip", self.frame_skip), ("boundary", self.boundary)):
            if meta.get(name, mine) != mine:
                raise ConfigurationError(f"the saved windows have {name} {meta[name]!r}, these {mine!r}")
        self._draws.state = generator_state(meta.get("rng"), "dataset")

    def _asked(self, length: int | None) -> int:
        length = length or self.length
        if length is None:
            raise ConfigurationError("no window length: pass windows(length), or seq_len in the request")
        return length

    def _valid(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """How many rows of each episode a window can begin with, and their running sums."""
        if self._starts is None or self._starts[0] != length:
            lengths, skip = self._lengths, self.frame_skip
            needed = np.full(len(lengths), length)  # rows that must be kept of the episode a window begins in
            if self.boundary == "cross":
                kept = -(-lengths // skip)
                needed = np.maximum(length - (kept.sum() - np.cumsum(kept)), 1)
            valid = np.maximum(lengths - (needed - 1) * skip, 0)
            self._starts = length, valid, np.cumsum(valid)
        return self._starts[1:]

    def _pieces(self, episode: int, start: int, length: int) -> list[Piece]:
        if self.boundary == "within":
            return [(episode, start, length)]
        pieces: list[Piece] = []
        while length:
            count = min(length, -(-(int(self._lengths[episode]) - start) // self.frame_skip))
            if count:  # none where a stand-in is an episode's only row
                pieces.append((episode, start, count))
            episode, start, length = episode + 1, 0, length - count
        return pieces

    def _too_long(self, length: int) -> str:
        skip = f" {self.frame_skip} apart" if self.frame_skip > 1 else ""
        if self.boundary == "cross":
            return f"all episodes together have no {counted(length, 'row')}{skip}: ask for shorter windows"
        longest = int(self._lengths.max(initial=0))
        return f"no episode has {counted(length, 'row')}{skip}, the longest has {longest}: ask for shorter windows"


def tensor(array: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor that may be written to."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
