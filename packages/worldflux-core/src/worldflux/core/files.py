"""The one door for files: what is written is whole or absent, what is read is a plain file, within bounds.

Nothing is known of who made a file: it may be a pipe, a link to elsewhere, without end, or nested a million deep.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .errors import CheckpointError, ConfigurationError, WorldFluxError

MAX_BYTES, MAX_DEPTH, MAX_DIGITS = 1 << 24, 100, 100  # beyond these a JSON file is not one of ours


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[bool]:
    """Keep others from writing to a folder (``shared``: and read beside other readers); False if that is impossible.

    The system frees the lock when its holder ends, however that ends.
    """
    with contextlib.ExitStack() as stack:
        alone = False
        with contextlib.suppress(ImportError, OSError):  # Windows, and the folders of some networks, have no such lock
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            alone = True
        yield alone


@contextlib.contextmanager
def replacing(*files: Path) -> Iterator[list[Path]]:
    """Give a stage beside each file of one folder to write to; when the block ends well, all take their places at once.

    No system renames several files in one step, so the last one is the page of the others: it names them by their
    SHA-256 and takes its place first. From then on ``saved`` finds the others on their stages, until they are in place:
    a process that is killed at any moment leaves the old files or the new. The folder is made if absent. Raises what
    the block raises, and OSError if the disk is full or not writable; what was there before is then untouched.
    """
    page, folder = files[-1], files[-1].parent
    stages = [file.with_name(f".{file.name}.{uuid.uuid4().hex}") for file in files]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as alone:
        try:
            for file in files:
                if file.is_dir():  # found now, before another file has taken its place
                    raise IsADirectoryError(f"{file} is a folder")
            yield stages
            for path in (*stages, folder)[: None if len(files) > 1 else 1]:
                sync(path)
            os.replace(stages[-1], page)
        except BaseException:
            for stage in stages:
                with contextlib.suppress(OSError):
                    stage.unlink(missing_ok=True)
            raise
        for stage, file in zip(stages[:-1], files):
            os.replace(stage, file)
        sync(folder)
        if alone:
            _clear(files)


def saved(page: Path, digests: Mapping[str, Any], *, alone: bool) -> dict[str, Path]:
    """Where the files are that a page names by their SHA-256; who is ``alone`` finishes a save that was killed.

    Raises CheckpointError naming the first file that is missing, altered or outside of the page's folder.
    """
    places = {name: _place(page, name, digest) for name, digest in digests.items()}
    if alone:
        with contextlib.suppress(OSError):  # a folder that cannot be written to is read as it is
            for name, place in places.items():
                os.replace(place, page.with_name(name))
                places[name] = page.with_name(name)
        _clear([page, *places.values()])
    return places


def _place(page: Path, name: str, digest: Any) -> Path:
    file = page.with_name(Path(name).name or "nothing")
    if file.name != name:
        raise CheckpointError(f"{page} names {name!r}, which is no plain file name")
    places = [place for place in (file, *_stages(file)) if place.exists()]
    if not places:
        raise CheckpointError(f"{file} is missing")
    try:
        return next(place for place in places if sha256(place) == digest)
    except StopIteration:
        raise CheckpointError(f"{file} was altered or truncated: its hash differs from {page.name}") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def _stages(file: Path) -> list[Path]:
    return sorted(file.parent.glob(f".{glob.escape(file.name)}.{'[0-9a-f]' * 32}"))


def _clear(files: Iterable[Path]) -> None:
    """Remove what killed saves left; only who is alone can tell it from what is being written."""
    for stage in (stage for file in files for stage in _stages(file)):
        with contextlib.suppress(OSError):
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


def write_text(file: Path, text: str) -> None:
    """Write a text whole or not at all. Raises OSError."""
    with replacing(file) as (stage,):
        stage.write_text(text, encoding="utf-8")


def write_json(file: Path, data: Any) -> None:
    """Write JSON whole or not at all. Raises CheckpointError naming the file."""
    try:
        write_text(file, json.dumps(data, indent=2) + "\n")
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
    marks = bytes(outside.translate(bytes.maketrans(b"{}", b"[]"), bytes({*range(256)} - {*b"[]{}"})))
    for _ in range(MAX_DEPTH):  # each round takes the innermost level away
        marks = marks.replace(b"[]", b"")
    if len(marks) > MAX_DEPTH or b"[]" in marks:  # it would exhaust the stack of whoever walks through it
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
