"""Metrics of an official program as records of ours, while it writes them."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import opened, parse_json
from .program import MetricsSource


class Counters:
    """The last known number of updates and environment steps; every source of a job shares them."""

    def __init__(self) -> None:
        self.step = 0
        self.env_steps: int | None = None


class MetricsReader:
    """Follows one source; ``poll`` gives what came since, as records without a time.

    A line still being written waits for its end. One that says nothing is counted in ``skipped`` and passed over.
    """

    def __init__(self, source: MetricsSource, path: Path, counters: Counters) -> None:
        self.source, self.path, self.counters = source, path, counters
        self.skipped = 0
        self._offset, self._rest = 0, b""
        self._names: list[str] = []
        self._pattern = re.compile(source.pattern)

    def poll(self, *, last: bool = False) -> list[dict[str, Any]]:
        """Records of the lines completed since; with ``last``, of one without an end, too."""
        records = []
        for line in self._lines(last):
            try:
                found = self._parse(line)
            except (ValueError, RecursionError, csv.Error):
                self.skipped += 1
                continue
            if found:
                records.append(translate(found, self.source, self.counters))
        return records

    def _lines(self, last: bool) -> Iterator[str]:
        try:
            with opened(self.path) as file:
                if 0 < file.seek(0, 2) < self._offset:  # started over; an empty one is about to be written anew
                    self._offset, self._rest, self._names = 0, b"", []
                file.seek(self._offset)
                new = file.read()
        except OSError:  # not there yet
            new = b""
        self._offset += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        if last:
            whole, self._rest = [*whole, self._rest], b""
        for line in whole:
            if text := line.decode("utf-8", errors="replace").strip():
                yield text

    def _parse(self, line: str) -> Mapping[str, Any]:
        if self.source.format == "lines":
            match = self._pattern.search(line)
            return {name: _number(text) for name, text in match.groupdict().items() if text} if match else {}
        if self.source.format == "jsonl":
            return parse_json(line.encode())
        (values,) = csv.reader([line])
        if not self._names:
            self._names = values
            return {}
        if len(values) != len(self._names):
            raise ValueError("not as many values as names")
        return {name: _number(text) for name, text in zip(self._names, values) if text}


def translate(found: Mapping[str, Any], source: MetricsSource, counters: Counters) -> dict[str, Any]:
    """A program's record with our names: ``step`` (updates) first, then ``env_steps``, if known, then the metrics."""
    counters.step = _count(found, source.step, counters.step)
    counters.env_steps = _count(found, source.env_steps, counters.env_steps)
    record: dict[str, Any] = {"step": counters.step}
    if counters.env_steps is not None:
        record["env_steps"] = counters.env_steps
    for name, value in found.items():
        ours = _rename(name, source.rename)
        if name not in (source.step, source.env_steps) and ours and ours not in ("step", "env_steps", "time"):
            record[ours] = value if _is_json(value) else str(value)
    return record


def _count(found: Mapping[str, Any], name: str | None, known: Any) -> Any:
    value = found.get(name) if name else None
    number = isinstance(value, (int, float)) and math.isfinite(value)
    return round(value) if number and value is not None else known


def _rename(name: str, table: Mapping[str, str | None]) -> str | None:
    if name in table:
        return table[name]
    fitting = [prefix for prefix in table if prefix.endswith("/") and name.startswith(prefix)]
    if not fitting:
        return name
    prefix = max(fitting, key=len)
    ours = table[prefix]
    return None if ours is None else ours + name[len(prefix) :]


def _number(text: str) -> float | int | str:
    plain = text.replace(",", "") if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text) else text
    for kind in (int, float):
        try:
            return kind(plain)
        except ValueError:
            continue
    return text


def _is_json(value: Any) -> bool:
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)) or value is None
