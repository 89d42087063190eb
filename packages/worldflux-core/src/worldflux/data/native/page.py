"""``dataset.json``, the page of a dataset: what its rows are, where they come from, and every sealed shard."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.files import MAX_STATE, json_text, read_json
from worldflux.words.counts import counted

from ..bounds import ActionBounds
from ..recording import DatasetError, damaged

FORMAT, VERSION = "worldflux", 1
PAGE, EPISODES, IDS, SHARDS, HASHES = "dataset.json", "episodes.npy", "ids.npy", "shards", "checks.npy"
STORAGES = ("raw", "zstd")
NAME, FILE = re.compile(r"[0-9]{6,12}"), re.compile(r"[A-Za-z0-9_-]{1,200}\.(npy|zst)")  # of a shard, in one
_NUMBERS = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Column:
    """Where a shard keeps a column: a file, plain (``raw``) or in compressed blocks of rows (``zstd``)."""

    file: str
    storage: str = "raw"


@dataclass(frozen=True)
class Shard:
    """A folder of columns that is never written to again; ``files`` has the SHA-256 of each file in it."""

    name: str
    rows: int
    episodes: int
    columns: dict[str, Column]
    files: dict[str, str]


@dataclass(frozen=True)
class Page:
    """What ``dataset.json`` says.

    ``obs_spec`` is what a row shows when it is read; where ``frame_stack`` has n for a name, its column holds single
    frames, a n-th of the channels. ``action_bounds`` are what -1 and 1 of an action stand for, where that is known.
    ``sources`` say where episodes come from; ``tables`` has the SHA-256 of ``episodes.npy`` and ``ids.npy``.
    """

    obs_spec: dict[str, ModalitySpec]
    action_spec: ActionSpec
    info_spec: dict[str, ModalitySpec] = field(default_factory=dict)
    rewards: bool = True
    frame_stack: dict[str, int] = field(default_factory=dict)
    sources: tuple[dict[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()
    tables: dict[str, str] = field(default_factory=dict)
    action_bounds: ActionBounds | None = None

    @property
    def rows(self) -> int:
        """The rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def episodes(self) -> int:
        """The episodes of all shards."""
        return sum(shard.episodes for shard in self.shards)

    def fields(self) -> dict[str, ModalitySpec]:
        """Every stored column by name, as single frames where they are stacked when they are read."""
        out = {}
        for name, spec in self.obs_spec.items():
            stack = self.frame_stack.get(name, 1)
            out[f"obs/{name}"] = replace(spec, shape=(spec.shape[0] // stack, *spec.shape[1:])) if stack > 1 else spec
        if self.action_spec.dim:
            out["action"] = ModalitySpec("vector", (self.action_spec.dim,))  # type: ignore[arg-type]
        if self.rewards:
            out["reward"] = ModalitySpec("vector", ())  # type: ignore[arg-type]
        return out | {f"info/{name}": spec for name, spec in self.info_spec.items()}

    def text(self) -> str:
        """The page as JSON, with its own digest. Raises ValueError or TypeError for what JSON cannot hold."""
        data: dict[str, Any] = {
            "format": FORMAT,
            "format_version": VERSION,
            "rows": self.rows,
            "episodes": self.episodes,
            "modalities": {name: spec_json(spec) for name, spec in self.obs_spec.items()},
            "frame_stack": self.frame_stack,
            "action_spec": asdict(self.action_spec),
            "rewards": self.rewards,
            "info": {name: spec_json(spec) for name, spec in self.info_spec.items()},
            "sources": list(self.sources),
            "remarks": list(self.remarks),
            "tables": self.tables,
            "shards": [asdict(shard) for shard in self.shards],
        }
        if self.action_bounds is not None:
            data["action_bounds"] = self.action_bounds.to_dict()
        data = json.loads(json.dumps(data))  # as it comes back, whose keys are text
        return json_text(data | {"sha256": _digest(data)}, limit=MAX_STATE)


def read_page(folder: Path) -> Page:
    """Read the page of a dataset. Raises DatasetError: damaged, of a newer version, or naming what is elsewhere."""
    file = folder / PAGE
    data = read_json(file, error=DatasetError, limit=MAX_STATE, follow=True)
    version = data.get("format_version")
    if data.get("format") != FORMAT or type(version) is not int or version < 1:
        raise damaged(file, f"it is of format {data.get('format')!r}, version {version!r}, not a dataset of WorldFlux")
    if version > VERSION:
        raise damaged(
            file, f"it is of version {version}, this worldflux reads up to {VERSION}", way_out="upgrade worldflux-core"
        )
    try:
        page = _page(data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise damaged(file, said) from error
    if data.pop("sha256", None) != _digest(data):
        raise damaged(file, "it was altered: its digest differs", way_out="take it from a copy of the dataset")
    return page


def _page(data: Mapping[str, Any]) -> Page:
    shards = tuple(_shard(shard) for shard in data["shards"])
    if len({shard.name for shard in shards}) != len(shards):
        raise ValueError("a shard is listed twice")
    page = Page(
        obs_spec={str(name): read_modality(name, spec) for name, spec in data["modalities"].items()},
        action_spec=read_action(data["action_spec"]),
        info_spec={str(name): read_modality(name, spec) for name, spec in data["info"].items()},
        action_bounds=_action_bounds(data),
        rewards=_kind(data, "rewards", bool),
        frame_stack={
            str(name): _count(stack, f"frame_stack of {name!r}") for name, stack in data["frame_stack"].items()
        },
        sources=tuple(dict(source) for source in data["sources"]),
        remarks=tuple(str(remark) for remark in data["remarks"]),
        shards=shards,
        tables={name: _hash(data["tables"][name]) for name in (EPISODES, IDS)},
    )
    for name, stack in page.frame_stack.items():
        if name not in page.obs_spec or len(page.obs_spec[name].shape) != 3 or page.obs_spec[name].shape[0] % stack:
            raise ValueError(f"frame_stack {stack} does not fit {name!r}")
    columns = set(page.fields())
    for shard in shards:
        if set(shard.columns) != columns:
            raise ValueError(f"shard {shard.name} has columns {sorted(shard.columns)}, expected {sorted(columns)}")
    if (page.rows, page.episodes) != (data["rows"], data["episodes"]):
        raise ValueError(
            f"its shards have {counted(page.rows, 'row')}, {counted(page.episodes, 'episode')}; it says "
            f"{data['rows']}, …"
        )
    return page


def _shard(data: Mapping[str, Any]) -> Shard:
    name = data["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"a shard is called {name!r}, which leads out of the folder or is no number")
    columns = {str(column): Column(_file(at["file"]), str(at["storage"])) for column, at in data["columns"].items()}
    files = {_file(file): _hash(digest) for file, digest in data["files"].items()}
    for column in columns.values():
        if column.storage not in STORAGES or column.file not in files:
            raise ValueError(f"shard {name} keeps {column.file!r} as {column.storage!r}, or has no hash of it")
    if HASHES not in files:
        raise ValueError(f"shard {name} lists no {HASHES}")
    return Shard(name, _count(data["rows"], "rows"), _count(data["episodes"], "episodes"), columns, files)


def _file(name: Any) -> str:
    if not isinstance(name, str) or not FILE.fullmatch(name):
        raise ValueError(f"it names the file {name!r}, which leads out of the folder or is none of a dataset")
    return name


def _hash(digest: Any) -> str:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is no SHA-256")
    return digest


def _count(value: Any, what: str) -> int:
    if type(value) is not int or not 0 < value < 1 << 48:
        raise ValueError(f"{what} is {value!r}, expected a whole number of at least 1")
    return value


def _kind(data: Mapping[str, Any], name: str, kind: type) -> Any:
    if type(data[name]) is not kind:
        raise ValueError(f"{name} is {data[name]!r}, expected a {kind.__name__}")
    return data[name]


def read_modality(name: str, data: Mapping[str, Any]) -> ModalitySpec:
    """Return the spec that ``spec_json`` gave. Raises ValueError, TypeError, KeyError or AttributeError."""
    spec = ModalitySpec(**data)
    return check_modality(name, spec)


def check_modality(name: str, spec: ModalitySpec) -> ModalitySpec:
    """Return a spec that columns can be made of. Raises ValueError for a dtype that is no number, or a bad shape."""
    if not isinstance(spec.dtype, str) or not _NUMBERS.fullmatch(spec.dtype):
        raise ValueError(f"{name!r} has dtype {spec.dtype!r}, expected a number's such as 'uint8' or 'float32'")
    if any(size < 1 for size in spec.shape) or len(spec.shape) > 8 or np.prod(spec.shape, dtype=float) > 1 << 40:
        raise ValueError(f"{name!r} has shape {spec.shape}, expected sizes of at least 1")
    return spec


def read_action(data: Mapping[str, Any]) -> ActionSpec:
    """Return the flat action of which ``asdict`` gave the data. Raises ValueError, TypeError or KeyError."""
    spec = ActionSpec(**{**data, "parts": tuple(data["parts"])})
    if type(spec.dim) is not int or not 0 <= spec.dim < 1 << 24:
        raise ValueError(f"the action's dim is {spec.dim!r}")
    return spec


def _action_bounds(data: Mapping[str, Any]) -> ActionBounds | None:
    """None in a set of an earlier version, too."""
    if (told := data.get("action_bounds")) is None:
        return None
    return check_bounds(ActionBounds(told["low"], told["high"]), read_action(data["action_spec"]))


def check_bounds(bounds: ActionBounds, spec: ActionSpec) -> ActionBounds:
    """Return bounds that are of an action's size. Raises ValueError for others."""
    if len(bounds.low) != spec.dim:
        raise ValueError(f"action_bounds has {counted(len(bounds.low), 'component')}, the action {spec.dim}")
    return bounds


def spec_json(spec: ModalitySpec) -> dict[str, Any]:
    """Return a spec as JSON has it."""
    return {**asdict(spec), "kind": spec.kind.value, "shape": list(spec.shape)}


def specs_json(obs_spec: Mapping[str, ModalitySpec], action_spec: ActionSpec) -> dict[str, Any]:
    """Return what rows show and what is done in them, as JSON has it; ``read_modality`` and ``read_action`` read it."""
    modalities = {name: spec_json(spec) for name, spec in obs_spec.items()}
    return {"modalities": modalities, "action_spec": json.loads(json.dumps(asdict(action_spec)))}


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
