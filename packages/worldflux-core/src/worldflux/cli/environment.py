"""The options that name an environment, as several verbs have them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .assignments import assignments

EnvOption = Annotated[
    str | None,
    typer.Option("--env", metavar="NAME", help="The environment, where the run cannot name it: file.py:Class, say."),
]
EnvSetOption = Annotated[
    list[str] | None,
    typer.Option("--env-set", metavar="KEY=VALUE", help="An option of the environment; may be repeated."),
]
ImageSizeOption = Annotated[int | None, typer.Option(min=1, help="Make the images observed this many pixels a side.")]
RenderSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Observe the rendered picture, this many pixels a side, instead.")
]
FrameStackOption = Annotated[
    int | None, typer.Option(min=1, help="Observe the last so many pictures at once; default 1.")
]
PolicyOption = Annotated[
    str | None, typer.Option(help="Who acts: own, random, cem, icem, mppi or gradient; by default own if there is one.")
]


@contextmanager
def named(env: str | None, env_set: list[str] | None) -> Iterator[dict[str, Any]]:
    """Give what was said of the environment as ``env`` and ``env_options``, as far as it was.

    A module that ``env`` names may lie in the working directory meanwhile: whoever calls has named it. Nothing that is
    installed is hidden by it, and where only a file names a module, nothing is imported from there.
    """
    given: dict[str, Any] = {} if env is None else {"env": env}
    if env_set:
        given["env_options"] = assignments(env_set, option="--env-set")
    before = list(sys.path)
    if env is not None:
        from worldflux.envs.code import names_code

        if names_code(env):
            sys.path.append(str(Path.cwd()))
    try:
        yield given
    finally:
        sys.path[:] = before


def needed(about: Mapping[str, Any], *, resume: bool) -> str | None:
    """Return the environment that must be named again to go on, because a run's file may not name it; else None."""
    from worldflux.envs.code import names_code

    env = about.get("env") or about.get("eval_env")
    return env if env and (resume or "env_options" in about or names_code(env)) else None
