"""Which environment a run is about, and who may say so.

A run's ``config.json`` may come from a stranger. A plain id in it picks among what is installed; whatever would import
a file or a module, and options for a constructor, are taken only from whoever opens the run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worldflux.core.errors import ConfigurationError
from worldflux.envs.code import names_code
from worldflux.envs.identity import already_made
from worldflux.envs.study.options import is_study

Env = str | Callable[[], Any]
FACTORY = "()"  # ends the name of what was made by a callable, which no file can bring back


def env_name(env: Any, *, made: bool = False) -> str:
    """Return what a run's file calls an environment: its name, or the factory's with brackets behind it.

    Raises:
        ConfigurationError: it is there already, and not said to be welcome so (``made``).
    """
    if isinstance(env, str):
        return env
    if already_made(env) and not made:
        raise ConfigurationError(
            f"a run trains and evaluates in environments of its own, got a {type(env).__name__} that is already made: "
            "pass what makes them, as in env=lambda: MyEnv()"
        )
    function = getattr(env, "func", env)  # of a functools.partial
    return getattr(function, "__qualname__", type(env).__name__) + FACTORY


def from_factory(name: str) -> bool:
    """Tell whether a run's file says that a callable made its environment."""
    return name.endswith(FACTORY)


def stored_env(name: str, options: Mapping[str, Any], *, place: Path) -> str:
    """Return the environment that the file of the run in ``place`` names, where that is no more than a name.

    Raises:
        ConfigurationError: only whoever opens the run can name it, because it would import code, was made by a
            callable, or has ``options`` for a constructor that nobody but the file asks for.
    """
    file, here = place / "config.json", f"Run.load({str(place)!r}, env="
    if from_factory(name):
        raise ConfigurationError(
            f"the environment of the run {place} was made by {name.removesuffix(FACTORY)!r} in a program, which no "
            f"file can bring back. Name it: {here}MyEnv) in Python, --env my_file.py:MyEnv in the command"
        )
    allow = f"If you trust it, name the environment yourself: {here}{name!r}) in Python, --env {name!r} in the command"
    if names_code(name):
        raise ConfigurationError(
            f"{file} asks for the environment {name!r}, which imports code, and no file may choose what is "
            f"imported. {allow}"
        )
    if options and not is_study(name):  # whose options are numbers and words that it checks itself
        raise ConfigurationError(
            f"{file} asks for {name!r} with the options {dict(options)}, which no file may pass to an "
            f"environment. {allow}"
        )
    return name


def named_again(name: str, options: Mapping[str, Any]) -> str:
    """Return ``, env=...`` as who goes on with a run in Python must add it, where its file may not name it."""
    if from_factory(name):
        return f", env={name.removesuffix(FACTORY)}"
    return f", env={name!r}" if names_code(name) or (options and not is_study(name)) else ""


@contextmanager
def closed_to_imports(place: Path) -> Iterator[None]:
    """Have nothing imported from the folder of a run meanwhile, which may be where Python was started.

    What its file names may be installed and still ask for a module that is not: one that lies beside the run is not it.
    """
    folder = place.resolve()
    hidden = [(i, path) for i, path in enumerate(sys.path) if Path(path or ".").resolve().is_relative_to(folder)]
    sys.path[:] = [path for i, path in enumerate(sys.path) if (i, path) not in hidden]
    try:
        yield
    finally:
        for i, path in hidden:
            sys.path.insert(i, path)


def same_env(stored: str, now: str) -> bool:
    """Tell whether a run may go on in the environment named now; what a callable made may have any name."""
    return from_factory(stored) or _bare(stored) == _bare(now)


def _bare(name: str) -> str:
    return name.rpartition(":")[2].removesuffix(FACTORY)
