"""The names a new package goes by, and why some cannot be had."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from packaging.version import Version

from worldflux.core.errors import ConfigurationError
from worldflux.plugins.catalog import first_party_of
from worldflux.plugins.discovery import FIRST_PARTY, Plugin
from worldflux.plugins.versions import KERNEL
from worldflux.strangers.distributions import canonical

DISTRIBUTION = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
FAMILY = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*")  # as the manifest wants it


@dataclass(frozen=True)
class Names:
    """What the templates fill in: the distribution ``name``, its ``module``, the ``family`` id, the ``title`` its
    classes begin with, and the ``range`` of kernel versions it is written for."""

    name: str
    module: str
    family: str
    title: str
    range: str


def choose_names(name: str, *, family: str | None = None, plugins: Iterable[Plugin] = (), kernel: str) -> Names:
    """Derive every name from ``name`` and the ``family`` id (by default the same), for a kernel of that version.

    Raises ConfigurationError for a name that is malformed, or taken by one of ``plugins``, by a family of ours
    (installed or not) or by a module that is already importable.
    """
    if not DISTRIBUTION.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot name a package: expected lower-case words such as 'acme-world'")
    family = name if family is None else family
    if not FAMILY.fullmatch(family):
        raise ConfigurationError(f"{family!r} cannot be a family's id: expected a lower-case word such as 'acme'")
    module = name.replace("-", "_")
    _refuse_taken(name, module, family, list(plugins))
    title = "".join(word.capitalize() for word in re.split("[-_]", name))
    if title in ("World", "WorldModel"):  # WorldModel and WorldModelConfig are what the classes derive from
        title = f"My{title}"
    return Names(name, module, family, title, version_range(kernel))


def version_range(kernel: str) -> str:
    """The kernel versions to ask for: from this minor version until what may break, ``>=0.1,<0.2`` or ``>=1.3,<2``."""
    major, minor = (*Version(kernel).release, 0, 0)[:2]
    return f">=0.{minor},<0.{minor + 1}" if major == 0 else f">={major}.{minor},<{major + 1}"


def _refuse_taken(name: str, module: str, family: str, plugins: list[Plugin]) -> None:
    if canonical(name) in (*FIRST_PARTY, KERNEL):
        raise ConfigurationError(f"{name!r} is a package of WorldFlux itself: choose another name")
    home = first_party_of(family)
    if home is not None:
        raise ConfigurationError(f"the family {family!r} belongs to {home}: give another id with --family")
    for plugin in plugins:
        if canonical(plugin.name) == canonical(name):
            raise ConfigurationError(f"a plugin called {plugin.name!r} is installed: choose another name, or remove it")
        if ("models", family) in plugin.ids:
            raise ConfigurationError(f"the family {family!r} comes with {plugin.name}: give another id with --family")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise ConfigurationError(f"the module would be {module!r}, which is Python's own: choose another name")
    spec = find_spec(module)
    if spec is not None and spec.origin is not None:  # a folder of that name without code is no obstacle
        raise ConfigurationError(f"module {module!r} is already installed ({spec.origin}): choose another name")
