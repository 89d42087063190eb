"""Environments in code that the caller names: ``file.py:Class`` and ``module:Name``.

Naming one imports it, so only whoever calls may do it; a name that comes from a file is asked :func:`names_code` first.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from worldflux.core.errors import ConfigurationError, did_you_mean

from .study.options import is_study
from .suite import PREFIX


def names_code(name: str) -> bool:
    """Tell whether making the environment of this name imports a file or a module that the name chooses."""
    if name.lower().startswith(PREFIX) or is_study(name):
        return False
    bare = name.removeprefix("gym:")
    return ":" in bare or bare.endswith(".py")


def names_file(name: str) -> bool:
    """Tell whether a name is ``file.py:Class``, or a file alone."""
    return name.rpartition(":")[0].endswith(".py") or name.endswith(".py")


def from_file(name: str, *, what: str = "environment") -> Callable[..., Any]:
    """Return the class or function that ``file.py:Class`` names; a relative file is looked for where the caller works.

    ``what`` it is to be, for messages.

    Raises:
        ConfigurationError: there is no such file, it raises, or it has no such class or function (the message names
            those it has).
    """
    place, _, wanted = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    file = Path(place).expanduser().resolve()
    if not file.is_file():
        raise ConfigurationError(f"{what} {name!r}: there is no file {file}")
    module = _loaded(file, f"{what} {name!r}")
    found = getattr(module, wanted, None) if wanted else None
    if not callable(found):
        own = sorted(key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
        has = f"{file.name} has {', '.join(own)}" if own else f"{file.name} has no class or function of its own"
        missing = f"no {wanted!r}.{did_you_mean(wanted, own)}" if wanted else "no class or function is named."
        example = next((key for key in own if hasattr(vars(module)[key], "step")), own[0] if own else "MyEnv")
        raise ConfigurationError(f"{what} {name!r}: {missing} {has}; write {place}:{example}, say")
    return found


def from_module(name: str, registered: Mapping[str, Any], *, what: str = "environment") -> Callable[..., Any] | None:
    """Import the module of ``module:Name``; return its class or function of that name, or None for a registered id.

    Raises:
        ConfigurationError: there is no such module, or importing it raises.
    """
    place, _, wanted = name.rpartition(":")
    try:
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"{what} {name!r}: importing {place} failed: {error}") from error
        raise ConfigurationError(
            f"{what} {name!r}: there is no module {place!r} where Python looks for one. "
            f"A file is named as path/to/{place.rpartition('.')[2]}.py:{wanted}"
        ) from error
    except Exception as error:  # whatever the module does
        said = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"{what} {name!r}: importing {place} failed: {said}") from error
    found = getattr(module, wanted, None)
    return found if callable(found) and wanted not in registered else None


def called(make: Callable[..., Any], name: str, options: Mapping[str, Any], *, rendered: bool) -> Any:
    """Return what a class or function named by the caller makes, asked for pictures where it knows how.

    Raises:
        ConfigurationError: it raises.
    """
    given = dict(options)
    try:
        taken = inspect.signature(make).parameters
    except (TypeError, ValueError):  # of something that is not written in Python
        taken = {}  # type: ignore[assignment]
    if rendered and "render_mode" in taken:
        given.setdefault("render_mode", "rgb_array")
    try:
        return make(**given)
    except Exception as error:  # whatever its constructor raises
        what = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"environment {name!r} could not be made: {what}") from error


def _loaded(file: Path, what: str) -> ModuleType:
    """Run a file as a module; while it does not change it is the same module, so that its classes stay the same."""
    seen = file.stat()
    version = hashlib.sha256(f"{file}|{seen.st_mtime_ns}|{seen.st_size}".encode()).hexdigest()[:16]
    known = f"worldflux_env_{file.stem}_{version}"
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.util.spec_from_file_location(known, file)
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module  # where dataclasses and pickle look for what it defines
    try:
        with _beside(file):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[known]
        raise ConfigurationError(f"{what}: {file} failed: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _beside(file: Path) -> Iterator[None]:
    """Let a file import those beside it meanwhile, as it could if it were run."""
    folder = str(file.parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
