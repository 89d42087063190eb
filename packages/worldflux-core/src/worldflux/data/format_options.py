"""Options that a user gives a format, held to what its ``open`` takes before it is called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from worldflux.core.errors import ConfigurationError

from .formats.common.guard import refuse_unknown

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_options(name: str, opened: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError, naming the format and the nearest, for an option that ``opened(path)`` does not take.

    One that takes any, ``**options``, refuses those that it does not know itself.
    """
    try:
        taken = list(inspect.signature(opened).parameters.values())
    except (TypeError, ValueError):  # of what is no Python
        return
    known = [one.name for one in taken[1:] if one.kind in _BY_NAME]  # the first is the path
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken):
        refuse_unknown(name, options, known)
    elif taken[0].kind in _BY_NAME and taken[0].name in options:
        raise ConfigurationError(f"the format {name!r} has no option {taken[0].name!r}: it is what is opened")


def refuse_handed_on(name: str, error: TypeError, options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if a format that takes any option handed an unknown one on to what does not take it."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if found and found[1] in options:
        raise ConfigurationError(f"the format {name!r} has no option {found[1]!r}: leave it out") from error
