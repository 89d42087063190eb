"""Which plugins this kernel can serve: pure functions of version numbers, each answering with a reason or None.

``plugin_api_version`` is the contract: MINOR adds, MAJOR breaks. ``worldflux_version_range`` is the belt around it, for
known-bad releases; pip already refuses a mismatch, so it matters for ``--no-deps``, editable and conda installs.
"""

from __future__ import annotations

from collections.abc import Mapping

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from worldflux.strangers.distributions import installed_version

KERNEL = "worldflux-core"
#: API major -> the highest minor of it that this kernel implements.
PLUGIN_API: Mapping[int, int] = {1: 1}


def kernel_version() -> str:
    """The installed version of worldflux-core; "0" when it runs from a folder that was never installed."""
    return installed_version(KERNEL) or "0"


def api_mismatch(declared: str, kernel: str, api: Mapping[int, int] = PLUGIN_API) -> str | None:
    """Why a plugin that needs API ``declared`` ("MAJOR.MINOR") cannot run here, and whose move it is."""
    major, minor = map(int, declared.split("."))
    if minor <= api.get(major, -1):
        return None
    near = major if major in api else max(api)
    has = f"this kernel ({KERNEL} {kernel}) has {near}.{api[near]}"
    if (major, minor) > (near, api[near]):
        return f"needs plugin API {declared}, {has}; update {KERNEL}"
    return f"was written for plugin API {declared}, {has}; update the plugin"


def range_mismatch(declared: str, kernel: str) -> str | None:
    """Why a plugin whose ``worldflux_version_range`` is ``declared`` does not accept this kernel."""
    # base_version with prereleases=True is the one form that means the same in packaging 23 to 26,
    # and lets a development version of the kernel count as the release it will become.
    version = Version(Version(kernel).base_version)
    unmet = [part for part in SpecifierSet(declared) if not part.contains(version, prereleases=True)]
    if not unmet:
        return None
    lower = [part for part in unmet if part.operator in (">=", ">", "~=", "==")]
    newer = lower == unmet and all(version < Version(part.version.removesuffix(".*")) for part in lower)
    move = f"update {KERNEL}" if newer else "update the plugin"
    return f"needs {KERNEL} {declared}, this is {kernel}; {move}"
