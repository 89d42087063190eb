"""How families are found, judged and started. A plugin needs ``hookimpl`` from here, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldflux.plugins.hookspecs import ModelSpec, hookimpl
    from worldflux.plugins.kernel import Kernel, get_kernel

_HOME = {"hookimpl": "hookspecs", "ModelSpec": "hookspecs", "Kernel": "kernel", "get_kernel": "kernel"}
__all__ = ["Kernel", "ModelSpec", "get_kernel", "hookimpl"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
