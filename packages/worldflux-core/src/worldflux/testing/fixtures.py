"""What tests of plugins stand on: a kernel that sees nothing installed, distributions made on the spot, a batch."""

from __future__ import annotations

import importlib
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from worldflux.plugins import Kernel, get_kernel
from worldflux.plugins.kernel import ALLOW, DENY, STRICT

if TYPE_CHECKING:
    from worldflux.core.batch import Batch
    from worldflux.core.model import WorldModel

MANIFEST = """
manifest_version = 1
name = "{name}"
plugin_api_version = "1.0"
worldflux_version_range = "{range}"
capabilities = ["models"]

[[models]]
id = "{id}"

[models.presets.ci]
description = "Made for a test"
params = "~0"
default_obs = "vector"
maturity = "experimental"
"""
CODE = """
from worldflux.plugins import hookimpl

class Family:
    def __init__(self, config):
        self.config = config

@hookimpl
def worldflux_register_models(registrar):
    registrar.add("{id}", Family)
"""
README = "Made for a test.\n"


@contextmanager
def isolated_kernel() -> Iterator[Kernel]:
    """This process's kernel with every installed plugin blocked; afterwards it looks again, and is as before."""
    kernel = get_kernel()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(ALLOW, "")
            patch.delenv(DENY, raising=False)
            patch.delenv(STRICT, raising=False)
            kernel.rediscover()
            yield kernel
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it has to say of the installed plugins it has said before
            kernel.rediscover()


@contextmanager
def plugin_site(root: Path, kernel: Kernel) -> Iterator[Callable[..., Path]]:
    """A folder on ``sys.path`` and the function that installs a plugin there, which the kernel then sees.

    The function takes ``name``, the distribution, and by keyword: ``code`` of the module ``plugin.py``, ``manifest``
    (TOML; both by default of a family named like the package that works), ``files`` by path in the package (None
    leaves one out; "LICENSE" and "README.md" are the distribution's), ``entry_points`` by group, ``requires``, and
    ``version``. It returns the package's folder. The package is the name with underscores.
    """
    root.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    with pytest.MonkeyPatch.context() as patch:

        def make(
            name: str,
            *,
            code: str | None = None,
            manifest: str | None = None,
            files: Mapping[str, str | None] | None = None,
            entry_points: Mapping[str, Mapping[str, str]] | None = None,
            requires: tuple[str, ...] | None = None,
            version: str = "1.0",
        ) -> Path:
            package = name.replace("-", "_").replace(".", "_").lower()
            accepted = kernel_range(kernel.version)
            texts: dict[str, str | None] = {
                "__init__.py": "",
                "plugin.py": CODE.format(id=package.replace("_", "-")) if code is None else code,
                "worldflux.toml": MANIFEST.format(name=name, id=package.replace("_", "-"), range=accepted)
                if manifest is None
                else manifest,
                "py.typed": "",
                "LICENSE": "Anybody may use this.\n",
                "README.md": README,
                **(files or {}),
            }
            points = {"worldflux.models": {package.replace("_", "-"): f"{package}.plugin"}}
            required = (f"worldflux-core{accepted}",) if requires is None else requires
            _install(root, name, package, version, texts, points if entry_points is None else entry_points, required)
            names.append(name)
            patch.setenv(ALLOW, ",".join(names))
            kernel.rediscover()
            return root / package

        patch.syspath_prepend(root)
        try:
            yield make
        finally:
            for name, module in list(sys.modules.items()):
                file = getattr(module, "__file__", None)
                if file is not None and Path(file).is_relative_to(root):
                    del sys.modules[name]
            importlib.invalidate_caches()


def kernel_range(version: str) -> str:
    """The releases of worldflux-core that keep what ``version`` has, such as ">=0.1,<0.2"."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1}" if major == 0 else f">={major}.{minor},<{major + 1}"


def tiny_batch(model: WorldModel, *, batch_size: int = 2, seq_len: int = 5, seed: int = 0) -> Batch:
    """Sequences ``[batch_size, seq_len (+ model.context_rows), ...]`` of a toy world, as ``model`` takes them."""
    from .echo import EchoWorld
    from .inputs import complete

    contract = model.io_contract()
    world = EchoWorld(contract.effective_input_spec.modalities, contract.action_spec)
    return complete(world.batch(batch_size, seq_len + model.context_rows, seed=seed), contract)


def _install(
    root: Path,
    name: str,
    package: str,
    version: str,
    files: Mapping[str, str | None],
    entry_points: Mapping[str, Mapping[str, str]],
    requires: tuple[str, ...],
) -> None:
    """Write a distribution as an installer would."""
    info = f"{package}-{version}.dist-info"
    head = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    points = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in of.items()) for group, of in entry_points.items()]
    texts = {
        f"{info}/METADATA": "\n".join(head) + "\n\n" + (files["README.md"] or ""),
        f"{info}/entry_points.txt": "\n".join(points),
    }
    for path, text in files.items():
        if text is not None and path != "README.md":
            where = f"{info}/licenses/LICENSE" if path == "LICENSE" else f"{package}/{path}"
            texts[where] = textwrap.dedent(text)
    texts[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*texts, f"{info}/RECORD"])
    for path, text in texts.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
