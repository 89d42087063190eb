"""``worldflux plugins new``: a family's package to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worldflux.words.counts import counted

from .output import JsonOption, emit


def new(
    name: Annotated[str, typer.Argument(help="The package's name, such as acme-world.")],
    directory: Annotated[
        Path | None, typer.Option("--directory", help="The folder to write, absent or empty; by default ./NAME.")
    ] = None,
    family: Annotated[str | None, typer.Option("--family", help="The family's id; by default NAME.")] = None,
    json: JsonOption = False,
) -> None:
    """Write a new family's package: a small world model that learns, and passes the conformance kit.

    \b
    Example:
      worldflux plugins new demo
    """
    from worldflux.files import expanded
    from worldflux.plugins import get_kernel
    from worldflux.scaffold import choose_names, render, write

    kernel = get_kernel()
    names = choose_names(name, family=family, plugins=kernel.plugins, kernel=kernel.version)
    place, contents = expanded(directory or name), render(names)
    write(contents, place.absolute())
    shown = place if place.is_absolute() or place.parts[:1] == ("..",) else f"./{place}"
    steps = [f'pip install "{shown}[test]"', f"pytest {place}"]
    data = {"name": name, "module": names.module, "family": names.family, "directory": str(place.absolute())}
    lines = [f"Wrote {counted(len(contents), 'file')} to {place}. Next:", "", *(f"  {step}" for step in steps), ""]
    lines.append(f"Then make {place / 'src' / names.module / 'model.py'} yours; README.md tells what is where.")
    emit({**data, "files": sorted(contents), "next": steps}, "\n".join(lines), as_json=json)
