"""Rendering the templates, and writing them as a folder: whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from string import Template

from worldflux.core.errors import ConfigurationError

from .names import Names

#: template -> where it goes; both may hold names to fill in
TEMPLATES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    "gitignore": ".gitignore",
    "ci.yml": ".github/workflows/ci.yml",
    "init.py": "src/$module/__init__.py",
    "config.py": "src/$module/config.py",
    "model.py": "src/$module/model.py",
    "plugin.py": "src/$module/plugin.py",
    "worldflux.toml": "src/$module/worldflux.toml",
    "py.typed": "src/$module/py.typed",
    "test_conformance.py": "tests/test_conformance.py",
}


def render(names: Names) -> dict[str, str]:
    """Every file of the package, by its path in it."""
    folder, values = files(__package__) / "templates", asdict(names)
    texts = {place: (folder / f"{template}.tmpl").read_text("utf-8") for template, place in TEMPLATES.items()}
    return {Template(place).substitute(values): Template(text).substitute(values) for place, text in texts.items()}


def write(contents: Mapping[str, str], directory: Path) -> None:
    """Write ``contents`` as the folder ``directory``, which must be absent or empty; a failure leaves it as it was.

    Raises ConfigurationError if something is there, OSError if it cannot be written.
    """
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise ConfigurationError(f"{directory} is not a folder: give another place with --directory")
    if directory.exists() and any(directory.iterdir()):
        raise ConfigurationError(f"{directory} is not empty: give another place with --directory")
    made = _make_parents(directory)
    try:
        staged = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
        staged.mkdir()
        try:
            for place, text in contents.items():
                (staged / place).parent.mkdir(parents=True, exist_ok=True)
                (staged / place).write_text(text, encoding="utf-8", newline="\n")
            if directory.exists():
                directory.rmdir()
            os.replace(staged, directory)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except BaseException:
        for folder in made:
            folder.rmdir()
        raise


def _make_parents(directory: Path) -> list[Path]:
    """Make the folders above ``directory``; returns the new ones, innermost first."""
    missing = [folder for folder in directory.parents if not folder.exists()]
    directory.parent.mkdir(parents=True, exist_ok=True)
    return missing
