"""The one door for files: what is written is whole or absent, what is read is a plain file, within bounds.

Nothing is known of who made a file: it may be a pipe, a link to elsewhere, without end, or nested a million deep.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import json
import os
import re
import socket
import stat
import uuid
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from worldflux.core.errors import CheckpointError, ConfigurationError, WorldFluxError

MAX_BYTES, MAX_DEPTH, MAX_DIGITS = 1 << 24, 100, 100  # beyond these a JSON file is not one of ours
MAX_STATE = 1 << 28  # bytes of the JSON of a checkpoint or a replay, which holds what a run has gathered
#: The name of a stage says for which file it is, and which process of which machine writes it.
_STAGE = re.compile(r"\..+\.([0-9a-f]{8})-([1-9][0-9]{0,8})-[0-9a-f]{8}", re.DOTALL)


@contextlib.contextmanager
def replacing(*files: Path) -> Iterator[list[Path]]:
    """Give a stage beside each file of one folder to write to; when the block ends well, all take their places at once.

    No system renames several files in one step, so the last one is the page of the others: it names them by their
    SHA-256 and takes its place first. From then on ``file_sets.saved`` finds the others on their stages, until they are
    in place: a process that is killed at any moment leaves the old files or the new. Nobody is waited for: where two
    save at the same time, the last page wins, and who finds another's page in the place of its own gives its stages up.
    Only a page that comes between that look and the move that follows it may lose a file to the other save: who saves
    to one folder from several processes all the time needs a lock of their own. The folder is made if absent.

    Raises what the block raises, and OSError if the disk is full or not writable; what was there before is then
    untouched.
    """
    page, folder = files[-1], files[-1].parent
    mark = f"{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    stages = [file.with_name(f".{file.name}.{mark}") for file in files]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for file in files:
            if file.is_dir():  # found now, before another file has taken its place
                raise IsADirectoryError(f"{file} is a folder")
        yield stages
        for path in (*stages, folder)[: None if len(files) > 1 else 1]:
            sync(path)
        own = content(stages[-1]) if len(files) > 1 else None
        os.replace(stages[-1], page)
    except BaseException:
        for stage in stages:
            with contextlib.suppress(OSError):
                stage.unlink(missing_ok=True)
        raise
    for stage, file in zip(stages[:-1], files):
        if content(page) in (own, None):
            os.replace(stage, file)
        else:  # what stands in the place may be the other writer's
            stage.unlink()
    sync(folder)
    finish(files, page, own)


def stages_of(file: Path) -> list[Path]:
    """What somebody writes, or has left, to take the place of a file."""
    return sorted(path for path in file.parent.glob(f".{glob.escape(file.name)}.*") if _STAGE.fullmatch(path.name))


def abandoned(path: Path) -> bool:
    """Whether this is a stage whose writer is no more: a process of this machine, of others nothing is known."""
    match = _STAGE.fullmatch(path.name)
    if match is None or match[1] != _host() or os.name == "nt":  # where asking for a process would end it
        return False
    try:
        os.kill(int(match[2]), 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False


def _host() -> str:
    """Which machine this is, and whose process ids count on it: a container has its own."""
    about = (socket.gethostname(), *map(os.readlink, glob.glob("/proc/self/ns/pid")))
    return hashlib.sha256(repr(about).encode()).hexdigest()[:8]


def content(page: Path) -> bytes | None:
    """The digest of a page's text, which tells one save from another; None if it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        return hashlib.sha256(read_bytes(page, limit=MAX_STATE)).digest()
    return None


def finish(files: Iterable[Path], page: Path, own: bytes | None, parts: Collection[Path] = ()) -> None:
    """Put the ``parts`` of a page whose writer is dead in their places and remove the rest of the dead.

    The dead are listed before the page is looked at: they cannot have put another one there since.
    """
    for stage, place in [(stage, file) for file in files for stage in stages_of(file) if abandoned(stage)]:
        if own not in (None, content(page)):
            return
        with contextlib.suppress(OSError):  # a folder that cannot be written to is read as it is
            if stage in parts:
                os.replace(stage, place)
            else:
                stage.unlink()


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk. Raises OSError."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path that a user gave, ``~`` being their home. Raises ConfigurationError for a name that no file can have."""
    if "\0" in str(path):
        raise ConfigurationError(f"the path {str(path)!r} has a null character, which no file's name has")
    return Path(os.path.expanduser(path))


def inside(path: str | os.PathLike[str], name: str) -> Path:
    """The file of a name in a folder that a user gave, or the file itself that they gave instead."""
    return expanded(path) if str(path).endswith(Path(name).suffix) else expanded(path) / name


def write_text(file: Path, text: str) -> None:
    """Write a text whole or not at all. Raises OSError."""
    with replacing(file) as (stage,):
        stage.write_text(text, encoding="utf-8")


def json_text(data: Any, *, limit: int = MAX_BYTES, indent: int | None = 2) -> str:
    """An object as JSON that ``read_json`` takes back. Raises ValueError beyond its bounds, TypeError for no JSON."""
    try:
        text = json.dumps(data, indent=indent) + "\n"
        parse_json(text.encode())
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    if len(text) > limit:  # in bytes: dumps writes nothing but ASCII
        raise ValueError(f"it has more than {limit:,} bytes")
    return text


def write_json(file: Path, data: Any) -> None:
    """Write an object as JSON whole or not at all. Raises CheckpointError naming the file."""
    try:
        write_text(file, json_text(data))
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"could not write {file}: {error}; what was there before is untouched") from error


def opened(file: Path, *, follow: bool = False) -> BinaryIO:
    """Open a plain file to read, and never wait for one; a link must stay in its folder, unless the user named it.

    Raises OSError for anything else.
    """
    real, home = Path(os.path.realpath(file)), Path(os.path.realpath(file.parent))
    inside = (home, home.parent.parent / "blobs")  # where the Hub's client keeps what its folders link to
    if not follow and not any(real.is_relative_to(root) for root in inside):
        raise OSError(f"it is a link to {real}, out of its folder: put the file itself there")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe is not waited for
    handle = os.open(real, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("it is no plain file")
    return os.fdopen(handle, "rb")


def read_bytes(file: Path, *, limit: int = MAX_BYTES, follow: bool = False) -> bytes:
    """Read a plain file of at most ``limit`` bytes. Raises OSError or ValueError."""
    with opened(file, follow=follow) as handle:
        data = handle.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return data


def read_json(
    file: Path, *, error: type[WorldFluxError] = CheckpointError, limit: int | None = None, follow: bool = False
) -> dict[str, Any]:
    """Read a JSON object. Raises ``error``, naming the file and what is wrong with it."""
    try:
        return parse_json(read_bytes(file, limit=limit or MAX_BYTES, follow=follow))
    except FileNotFoundError as reason:
        raise error(f"{file} does not exist") from reason
    except (OSError, ValueError, RecursionError) as reason:
        raise error(f"{file} cannot be read as JSON: {reason}") from reason


def parse_json(text: bytes) -> dict[str, Any]:
    """Return a JSON object of bounded depth and digits. Raises ValueError, or RecursionError in a tight stack."""
    outside = b"".join(text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    marks = outside.translate(bytes.maketrans(b"{}", b"[]"), bytes({*range(256)} - {*b"[]{}"}))
    # "[" is one level more and "]", two codes on, one less. Depth would exhaust the stack of whoever walks through it.
    if any(level > MAX_DEPTH for level in itertools.accumulate(ord("\\") - mark for mark in marks)):
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    data = json.loads(text.decode("utf-8-sig"), parse_int=_whole)
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}, expected an object")
    return data


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def sha256(file: Path) -> str:
    """Hex digest of a plain file. Raises OSError."""
    digest = hashlib.sha256()
    with opened(file) as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
