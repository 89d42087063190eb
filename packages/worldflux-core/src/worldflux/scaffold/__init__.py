"""Writing a new family's package: its files are the templates beside this module, with the names filled in."""

from __future__ import annotations

from .names import Names, choose_names
from .package import render, write

__all__ = ["Names", "choose_names", "render", "write"]
