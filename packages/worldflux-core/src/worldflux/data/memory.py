"""How much memory there is, and sizes in bytes as people write and read them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from worldflux.core.errors import ConfigurationError

_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]?)(i?)B\s*", re.IGNORECASE)
_CGROUP, _PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def memory() -> int:
    """Bytes of memory that this process may have: the machine's, or a control group's limit; without end if unknown."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 62
    return min([machine, *_limits()])


def _limits() -> list[int]:
    """The limits of the control groups that this process is in, as far as they can be read."""
    try:
        lines = [line.split(":", 2) for line in _PROCESS.read_text().splitlines()]
    except OSError:  # no Linux
        return []
    files = []
    for _, controllers, group in (line for line in lines if len(line) == 3):
        version_1 = "memory" in controllers.split(",")
        if controllers and not version_1:
            continue
        root, name = (_CGROUP / "memory", "memory.limit_in_bytes") if version_1 else (_CGROUP, "memory.max")
        own = root / group.strip("/")  # a container may see only the root, as its own
        files += [folder / name for folder in (own, *own.parents) if folder.is_relative_to(root)]
    found = []
    for file in files:
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return found


def in_bytes(size: float) -> str:
    """Return a number of bytes with three digits and the unit that suits it, such as ``1.25 MB``."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 999.5:  # which three digits would show as a thousand
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def parse_bytes(text: str, *, name: str) -> int:
    """Return the bytes of a size such as ``"8GB"`` (thousands) or ``"8GiB"`` (of 1024).

    Raises ConfigurationError, with the option's name, for anything else.
    """
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    size = 0
    if match:
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** (" KMGT".index(match[2].upper() or " ")))
    if not 0 < size < 1 << 62:
        raise ConfigurationError(f"{name} is {text!r}, expected a size such as '8GB', '500MB' or '1.5GiB'")
    return size
