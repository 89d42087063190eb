"""The process in which a plugin is started to see what it does; see ``startup.observe``."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldflux.core.errors import PluginError
from worldflux.plugins import Kernel, get_kernel
from worldflux.plugins.discovery import Plugin
from worldflux.strangers.text import say

OF_TORCH_COMPILE = ("os.environ['TORCHINDUCTOR_", "os.environ['TRITON_", "warnings filters")


def main(name: str, place: str) -> None:
    """Start the plugin and write what was seen into the folder ``place``; never returns."""
    folder = Path(place)
    with open(folder / "trace", "w", encoding="utf-8") as trace:
        faulthandler.enable(trace)
        if hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR1, file=trace, all_threads=False)
        kernel = get_kernel()
        plugin = next(plugin for plugin in kernel.plugins if plugin.name == name)
        _load_what_every_plugin_may_use()
        logging.getLogger("worldflux.plugins").setLevel(logging.CRITICAL)  # a slow start is reported, not logged
        before, modules = global_state(), set(sys.modules)
        _write(folder / "ready", {"stdout": os.fstat(1).st_size, "stderr": os.fstat(2).st_size})
        found = _start(kernel, plugin)
        after = global_state()
        sys.stdout.flush()
        sys.stderr.flush()
        new = set(sys.modules) - modules
        changed = changes(before, after)
        if "torch._dynamo" in new:  # torch.compile brings these, and a plugin may use it
            changed = {name: change for name, change in changed.items() if not name.startswith(OF_TORCH_COMPILE)}
        found |= {"changed": changed, "imported": _packages(new, plugin), "families": _families(new, kernel, plugin)}
        found["formats"] = _wrong_formats(kernel, plugin) if found["outcome"] == "started" else {}
        _write(folder / "report", found)
        os._exit(0)  # threads and exit hooks of the plugin have no say


def _start(kernel: Kernel, plugin: Plugin) -> dict[str, Any]:
    started = time.perf_counter() - _starved()
    found: dict[str, Any] = {"outcome": "started"}
    try:
        kernel.activate(plugin)
    except PluginError as error:
        found = {"outcome": "failed", "reason": plugin.reason or str(error), "where": _traceback(error.__cause__)}
    return found | {"seconds": max(0.0, time.perf_counter() - _starved() - started)}


def _wrong_formats(kernel: Kernel, plugin: Plugin) -> dict[str, str]:
    """The formats of a plugin at work that are none, and what each lacks."""
    wrong = {id: _wrong_format(kernel.factory("format", id)) for kind, id in plugin.ids if kind == "formats"}
    return {id: what for id, what in sorted(wrong.items()) if what}


def _wrong_format(factory: Callable[[], Any]) -> str:
    try:
        made = factory()
        if not (isinstance(getattr(made, "name", None), str) and made.name):
            return f"{type(made).__name__} has no name"
        for method in ("detect", "open"):
            if not callable(getattr(made, method, None)):
                return f"{type(made).__name__} has no method {method!r}"
        with tempfile.TemporaryDirectory() as empty:
            verdict = made.detect(Path(empty))
        return "" if verdict is False else f"detect() of an empty folder gives {verdict!r}, expected False"
    except Exception as error:
        return say(error)


def _starved() -> float:
    """Seconds this thread could have run but had no processor (on Linux): a busy machine is not the plugin's fault."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _traceback(error: BaseException | None) -> str:
    """Where the plugin raised: the frames after the kernel's, and the error."""
    if error is None or isinstance(error, PluginError):
        return ""
    ours = (*(os.path.join("worldflux", room) for room in ("plugins", "strangers")), "importlib", "<frozen importlib")
    every = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in every if not any(part in frame.filename for part in ours)]
    return "".join(traceback.format_list(frames) + traceback.format_exception_only(error)).rstrip()


def _load_what_every_plugin_may_use() -> None:
    """So that time, output and changes are the plugin's own."""
    import worldflux.plugins.activation

    with contextlib.suppress(ImportError):  # without torch the plugin itself will say what it lacks
        import torch  # noqa: F401

        import worldflux.core.model
        import worldflux.factory  # noqa: F401


def global_state() -> dict[str, str]:
    """Process-wide settings that importing a package must leave alone, by name."""
    root = logging.getLogger()
    state = {
        "random's generator": _digest(random.getstate()),
        "logging: level of the root logger": logging.getLevelName(root.level),
        "logging: handlers of the root logger": str(root.handlers),
        "logging: disabled": str(root.manager.disable),
        "warnings filters": _digest(warnings.filters),
        "sys.excepthook": repr(sys.excepthook),
        "sys.path": str(sys.path),
        "recursion limit": str(sys.getrecursionlimit()),
        "working directory": os.getcwd(),
        "running threads": str(sorted(thread.name for thread in threading.enumerate())),
        "multiprocessing start method": str(multiprocessing.get_start_method(allow_none=True)),
    }
    state |= {f"os.environ[{key!r}]": _digest(value) for key, value in os.environ.items()}
    for number in signal.valid_signals():
        with contextlib.suppress(ValueError):
            state[f"handler of {signal.Signals(number).name}"] = repr(signal.getsignal(number))
    if "numpy" in sys.modules:
        import numpy as np

        state["numpy's generator"] = _digest(np.random.get_state(legacy=False))
        state["numpy's error handling"] = str(np.geterr())
    if "torch" in sys.modules:
        import torch

        state |= {
            "torch's generator": _digest(torch.get_rng_state().tolist()),
            "torch's default dtype": str(torch.get_default_dtype()),
            "torch's default device": str(torch.get_default_device()),
            "torch's grad mode": str(torch.is_grad_enabled()),
            "torch's number of threads": f"{torch.get_num_threads()} and {torch.get_num_interop_threads()}",
            "torch's deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
            "torch's float32 precision": torch.get_float32_matmul_precision(),
            "torch's anomaly detection": str(torch.is_anomaly_enabled()),
        }
    return state


def changes(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    """What differs, by name, as "was → is"; what has no short form is only named."""
    found = {}
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was != now:
            states = [("absent" if value is None else value) for value in (was, now)]
            short = not any(value.startswith("#") or len(value) > 80 for value in states)
            found[name] = " → ".join(states) if short else ""
    return found


def _digest(value: Any) -> str:
    return "#" + hashlib.sha256(repr(value).encode(errors="replace")).hexdigest()


def _packages(modules: set[str], plugin: Plugin) -> dict[str, int]:
    """Third-party packages with the number of modules each brought."""
    own = {ep.module.partition(".")[0] for ep in plugin.entry_points}
    counts: dict[str, int] = {}
    for name in modules:
        package = name.partition(".")[0]
        if package not in own and package not in sys.stdlib_module_names and package != "worldflux":
            counts[package] = counts.get(package, 0) + 1
    return dict(sorted(counts.items()))


def _families(modules: set[str], kernel: Kernel, plugin: Plugin) -> list[str]:
    """Packages of other plugins that were imported."""
    own = {_package(ep.module) for ep in plugin.entry_points}
    others = {_package(ep.module) for other in kernel.plugins for ep in other.entry_points} - own
    return sorted(package for package in others if any(f"{name}.".startswith(f"{package}.") for name in modules))


def _package(module: str) -> str:
    return module.rpartition(".")[0] or module


def _write(path: Path, data: Any) -> None:
    """All of it or nothing: the other process looks at any time."""
    staged = path.with_suffix(".staged")
    staged.write_text(json.dumps(data), encoding="utf-8")
    os.replace(staged, path)
