"""Damaged copies of sets: bytes flipped, cut, inserted; fields of JSON and CSV changed."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

STRANGE = (None, True, -1, 0, 3, 1e308, 2**63, "x", "../x", "", [], {}, [1], [[]], {"a": 1})


def mutated(source: Path, target: Path, seed: int) -> str:
    """Copy a set with one fault that follows from ``seed``; return what was done, to be read in a failed test."""
    rng = random.Random(seed)
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("expected.json"), copy_function=shutil.copyfile)
    files = sorted(file for file in target.rglob("*") if file.is_file())
    file = rng.choice(files)
    change = rng.choice([_flip, _flip, _cut, _insert, _zero, _field])
    text = change(file, rng)
    return f"seed {seed}: {file.relative_to(target)}: {text}"


def _flip(file: Path, rng: random.Random) -> str:
    data = bytearray(file.read_bytes())
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    data[at] ^= 1 << bit
    file.write_bytes(data)
    return f"bit {bit} of byte {at} flipped"


def _cut(file: Path, rng: random.Random) -> str:
    data = file.read_bytes()
    at = rng.randrange(len(data))
    file.write_bytes(data[:at])
    return f"cut at byte {at}"


def _insert(file: Path, rng: random.Random) -> str:
    data = file.read_bytes()
    at = rng.randrange(len(data))
    extra = rng.randbytes(rng.randint(1, 20))
    file.write_bytes(data[:at] + extra + data[at:])
    return f"{extra!r} inserted at byte {at}"


def _zero(file: Path, rng: random.Random) -> str:
    data = bytearray(file.read_bytes())
    at, length = rng.randrange(len(data)), rng.randint(1, 64)
    data[at : at + length] = bytes(len(data[at : at + length]))
    file.write_bytes(data)
    return f"{length} zeros at byte {at}"


def _field(file: Path, rng: random.Random) -> str:
    if file.suffix == ".csv":
        rows = [line.split(",") for line in file.read_text().splitlines()]
        row = rng.choice(rows)
        at, value = rng.randrange(len(row)), rng.choice(["", "nan", "-1", "1e999", "x", "0x1", "../a.mp4", '"', "1_0"])
        was, row[at] = row[at], value
        file.write_text("\n".join(",".join(row) for row in rows))
        return f"{was!r} became {value!r}"
    if file.suffix not in (".json", ".jsonl"):
        return _flip(file, rng)
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.suffix == ".jsonl" else None
    data: Any = lines or json.loads(file.read_text())
    place, key = rng.choice(list(_places(data)))
    value = rng.choice([*STRANGE, "gone"])
    if value == "gone":
        del place[key]
    else:
        place[key] = value
    file.write_text("\n".join(json.dumps(one) for one in data) if lines else json.dumps(data))
    return f"field {key!r} became {value!r}"


def _places(data: Any) -> Any:
    """Every place of a value in nested lists and objects."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        yield data, key
        yield from _places(value)
