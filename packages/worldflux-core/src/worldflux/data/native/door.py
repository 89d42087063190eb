"""What every episode must be before a row of it is kept: whole, of one length, finite, in the arrival convention."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import did_you_mean
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.words.counts import counted

from ..recording import damaged
from ..row import FLAGS


class Door:
    """Checks the columns of one episode after the other; every error names the dataset, the episode and the row."""

    def __init__(
        self, place: Path, fields: Mapping[str, ModalitySpec], action_spec: ActionSpec, frame_stack: Mapping[str, int]
    ) -> None:
        self._place, self._fields, self._actions = place, fields, action_spec
        self._stacks = {f"obs/{name}": stack for name, stack in frame_stack.items()}

    def checked(self, columns: Mapping[str, Any], episode: str) -> tuple[dict[str, np.ndarray], bool]:
        """Return the columns as they are stored, copied, and whether the flags among them say it ended in truth."""
        given = {name: self._array(name, value, episode) for name, value in columns.items()}
        unknown = [name for name in given if name not in self._fields and name not in FLAGS]
        missing = [name for name in self._fields if name not in given]
        if unknown or missing:
            what = f"unknown column {unknown[0]!r}" if unknown else f"no column {missing[0]!r}"
            hint = did_you_mean(unknown[0], self._fields) if unknown else ""
            raise damaged(self._place, f"{what}, expected {', '.join(self._fields)}.{hint}", episode=episode)
        length = self._length(given, episode)
        out = {name: self._column(name, given[name], spec, episode) for name, spec in self._fields.items()}
        if "reward" in out and out["reward"][0] != 0:
            raise damaged(
                self._place, f"reward is {out['reward'][0]:g}", episode=episode, row=0,
                way_out="a row's reward was received on arriving there, so the first row has 0: "
                "shift rewards paid after an action by one row",
            )  # fmt: skip
        if "action" in out:
            self._one_hot(out["action"], episode)
        return out, self._terminal(given, length, episode)

    def _array(self, name: str, value: Any, episode: str) -> np.ndarray:
        if np.ma.is_masked(value):
            raise damaged(
                self._place, f"{name!r} has masked values", episode=episode, way_out="fill them, or leave it out"
            )
        try:
            return np.asarray(value)
        except (ValueError, TypeError, RuntimeError) as error:  # rows that differ; a tensor on a device, or with a grad
            raise damaged(self._place, f"{name!r} is no array of rows: {error}", episode=episode) from error

    def _length(self, given: Mapping[str, np.ndarray], episode: str) -> int:
        lengths = {name: len(value) if value.ndim else 0 for name, value in given.items()}
        first = next(iter(self._fields))
        if lengths[first] == 0:
            raise damaged(self._place, "it has no rows", episode=episode, way_out="leave it out")
        for name, length in lengths.items():
            if length != lengths[first]:
                raise damaged(
                    self._place, f"{name!r} has {counted(length, 'row')}, {first!r} {lengths[first]}", episode=episode,
                    row=min(length, lengths[first]),
                    way_out="every row has everything: the first row's reward is 0, the last row's action is not taken",
                )  # fmt: skip
        return lengths[first]

    def _column(self, name: str, given: np.ndarray, spec: ModalitySpec, episode: str) -> np.ndarray:
        stack, shape, dtype = self._stacks.get(name, 1), spec.shape, np.dtype(spec.dtype)
        if stack > 1 and given.shape[1:] == (stack * shape[0], *shape[1:]):
            given = self._newest(name, given, stack, episode)
        if given.shape[1:] != shape:
            channels_last = len(shape) == 3 and given.shape[1:] == (*shape[1:], shape[0])
            hint = "images are stored channels first [C, H, W]" if channels_last else ""
            raise damaged(
                self._place, f"{name!r} is {given.shape[1:]} in every row, expected {shape}", episode=episode,
                way_out=hint,
            )  # fmt: skip
        if given.dtype != dtype and not np.can_cast(given.dtype, dtype, "same_kind"):
            raise damaged(
                self._place, f"{name!r} is {given.dtype}, expected {dtype}", episode=episode, way_out="convert it"
            )
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused below
            rows = np.array(given, dtype, order="C")
        bad = ~np.isfinite(rows) if dtype.kind == "f" else np.zeros(rows.shape, bool)
        if given.dtype != dtype and given.dtype.kind in "iu":  # a float is rounded, a whole number is not
            bad |= rows != given
        if bad.any():
            row = int(np.argmax(bad.reshape(len(rows), -1).any(axis=1)))
            raise damaged(
                self._place, f"{name} is {given[row][bad[row]].flat[0] if rows.ndim > 1 else given[row]}",
                episode=episode, row=row, way_out=f"every number must be one that {dtype} can hold",
            )  # fmt: skip
        return rows

    def _newest(self, name: str, given: np.ndarray, stack: int, episode: str) -> np.ndarray:
        """The newest frame of each stack. Raises DatasetError if the others are not those of the rows before."""
        channels = given.shape[1] // stack
        newest = given[:, -channels:]
        for back in range(1, stack):
            shown = given[:, (stack - 1 - back) * channels : (stack - back) * channels]
            wrong = (shown != newest[np.maximum(np.arange(len(given)) - back, 0)]).reshape(len(given), -1).any(axis=1)
            if wrong.any():
                raise damaged(
                    self._place, f"{name!r} does not show the frame of {counted(back, 'row')} before", episode=episode,
                    row=int(np.argmax(wrong)), way_out="store what is no stack of the last frames without frame_stack",
                )  # fmt: skip
        return newest

    def _one_hot(self, actions: np.ndarray, episode: str) -> None:
        """The last row's action was not taken, so it may be none."""
        for part, where in self._actions.slices():
            if part.kind != "discrete":
                continue
            chosen = actions[:, where]
            wrong = ((chosen != 0) & (chosen != 1)).any(axis=1) | (chosen.sum(axis=1) != 1)
            wrong[-1] &= bool(chosen[-1].any())
            if wrong.any():
                row = int(np.argmax(wrong))
                raise damaged(
                    self._place, f"action part {part.name!r} is {chosen[row].tolist()}", episode=episode, row=row,
                    way_out=f"a discrete action is one-hot of {part.dim}",
                )  # fmt: skip

    def _terminal(self, given: Mapping[str, np.ndarray], length: int, episode: str) -> bool:
        rows = np.arange(length)
        allowed = {"is_first": rows == 0, "is_last": rows == length - 1, "is_terminal": rows == length - 1}
        for name, may in allowed.items():
            if name not in given:
                continue
            if given[name].shape != (length,):
                raise damaged(
                    self._place, f"{name!r} has shape {given[name].shape}, expected ({length},)", episode=episode
                )
            wrong = given[name].astype(bool) & ~may
            if wrong.any():
                raise damaged(
                    self._place, f"{name!r} is true in the middle", episode=episode, row=int(np.argmax(wrong)),
                    way_out="append one episode at a time",
                )  # fmt: skip
        return bool(given["is_terminal"][-1]) if "is_terminal" in given else False
