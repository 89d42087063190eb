"""One door for every format, ours and those of plugins: a path, or ``FORMAT:PATH``, to a dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldflux.core.errors import ConfigurationError, PluginError, WorldFluxError, did_you_mean
from worldflux.core.registry import WorldModelRegistry
from worldflux.files import expanded

from .brought import check_brought
from .dataset import Dataset
from .format_options import check_options, refuse_handed_on
from .formats import FORMATS, format_called
from .recording import DatasetError, Format, Recording


def open_dataset(source: str | Path, /, *, format: str | None = None, **options: Any) -> Dataset:
    """Return the dataset in ``source``: a folder or a file, or ``"FORMAT:PATH"``; ``options`` go to the format.

    The format of an unnamed one is told from its files; a plugin's by the suffixes and markers in its manifest.

    Raises:
        DatasetError: nothing is there, nothing in it is known, or it is damaged.
        ConfigurationError: an unknown format or option. PluginError: a plugin's format does not do what it should.
    """
    brought = _brought()
    name, path = _parted(source)
    name = format or name
    place = expanded(path)
    if name is not None:
        _check_known(name, brought)
    if not place.exists():
        raise DatasetError(f"{place} is not there: expected the folder or file of a dataset")
    if name is None:
        name = _told(place, brought)
    if name in FORMATS:
        opened = format_called(name).open
        check_options(name, opened, options)
        return Dataset(opened(place, **options))
    return Dataset(_opened_by_plugin(name, place, options))


def _brought() -> Mapping[str, Any]:
    """What plugins declare, ``{id: (plugin, table)}``; ours are not theirs to take."""
    declared: Mapping[str, Any] = WorldModelRegistry.reach("declared", "formats")
    return {name: item for name, item in declared.items() if name not in FORMATS}


def _parted(source: str | Path) -> tuple[str | None, str | Path]:
    match = re.fullmatch(r"([a-z][a-z0-9._-]+):(.+)", source) if isinstance(source, str) else None
    return (match[1], match[2]) if match and not Path(str(source)).exists() else (None, source)


def _check_known(name: str, brought: Mapping[str, Any]) -> None:
    known = [*FORMATS, *brought]
    if name not in known:
        raise ConfigurationError(f"unknown format {name!r}, known are {', '.join(known)}.{did_you_mean(name, known)}")


def _told(place: Path, brought: Mapping[str, Any]) -> str:
    """The first format that this looks like, ours before those of plugins, none of which is imported for it."""
    for name in FORMATS:
        if format_called(name).detect(place):
            return name
    for name, (_, told) in brought.items():
        marked = any((place / marker).is_file() for marker in told.markers)
        if marked or (told.suffixes and place.name.endswith(tuple(told.suffixes))):
            return name
    known = ", ".join((*FORMATS, *brought))
    raise DatasetError(f"{place} is of no format that is known ({known}): name it with format=, or FORMAT:PATH")


def _opened_by_plugin(name: str, place: Path, options: Mapping[str, Any]) -> Recording:
    """What a plugin's format reads. Whatever it raises is its own, and named as such."""
    try:
        made = WorldModelRegistry.reach("format", name)()
        if not isinstance(made, Format):
            return check_brought(made, name)
        check_options(name, made.open, options)
        return check_brought(made.open(place, **options), name)
    except (WorldFluxError, OSError):
        raise
    except TypeError as error:
        refuse_handed_on(name, error, options)
        raise _failed(name, place, error) from error
    except Exception as error:
        raise _failed(name, place, error) from error


def _failed(name: str, place: Path, error: Exception) -> PluginError:
    return PluginError(f"the format {name!r} failed at {place}: {type(error).__name__}: {error}")
