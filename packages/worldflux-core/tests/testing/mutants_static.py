"""One defective plugin for each check of the levels "static" and "imports": the plugin that works, with one change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NAME, PACKAGE = "mutant-world", "mutant_world"
NEIGHBOUR = "neighbour-world"  # another plugin, installed beside every mutant
HEADER = 'capabilities = ["models"]\n'  # a line of the manifest, to add others below it
API = 'plugin_api_version = "{}"\n'  # likewise
IMPORT = "from worldflux.plugins import hookimpl\n"  # a line of the code, likewise


@dataclass(frozen=True)
class Mutant:
    """The plugin that works, with a passage of its manifest or code replaced, or something installed otherwise.

    ``api`` is the plugin API it is written for.
    """

    manifest: tuple[str, str] = ("", "")
    api: str = "1.0"
    code: tuple[str, str] = ("", "")
    installed: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, manifest: str, code: str) -> dict[str, Any]:
        """For ``make_plugin_dist``, from the texts of the plugin that works."""
        assert self.manifest[0] in manifest
        assert self.code[0] in code
        manifest = manifest.replace(*self.manifest, 1).replace(API.format("1.0"), API.format(self.api))
        changed = {"manifest": manifest, "code": code.replace(*self.code, 1)}
        return {**changed, **self.installed}


#: A plugin with a format, and code that registers ``Kept`` as one.
WITH_A_FORMAT = (HEADER, 'capabilities = ["models", "formats"]\nformats = [{id = "mutant", markers = ["m.json"]}]\n')
REGISTERS = """
class Kept:
    name = "mutant"
    def detect(self, path): return False
    def open(self, path): ...
@hookimpl
def worldflux_register_formats(registrar):
    registrar.add("mutant", Kept)
"""


def adds(line: str) -> tuple[str, str]:
    """A line more in the code, run when it is imported."""
    return (IMPORT, f"{IMPORT}{line}\n")


MUTANTS: dict[str, Mutant] = {
    "check_manifest_is_valid": Mutant(manifest=(HEADER, HEADER + 'colour = "red"\n')),
    "check_ids_are_the_entry_points": Mutant(
        installed={"entry_points": {"worldflux.models": {NAME: f"{PACKAGE}.plugin", "other": f"{PACKAGE}.plugin"}}}
    ),
    "check_plugin_api_is_supported": Mutant(manifest=('plugin_api_version = "1.0"', 'plugin_api_version = "1.7"')),
    "check_kernel_range_is_the_requirement": Mutant(installed={"requires": ("worldflux-core>=0.0.1",)}),
    "check_is_accepted": Mutant(manifest=(HEADER, HEADER + 'requires = ["worldflux-nowhere>=3"]\n')),
    "check_shadows_no_name": Mutant(manifest=("[[models]]", f'[aliases]\ndreamer-large = "{NAME}:ci"\n\n[[models]]')),
    "check_has_a_readme": Mutant(installed={"files": {"README.md": None}}),
    "check_has_a_licence": Mutant(installed={"files": {"LICENSE": None}}),
    "check_is_typed": Mutant(installed={"files": {"py.typed": None}}),
    "check_starts_and_registers_what_it_declares": Mutant(code=(f'registrar.add("{NAME}", Family)', "pass")),
    "check_starts_quickly": Mutant(code=adds("import time; time.sleep(5.1)")),
    "check_prints_nothing_when_started": Mutant(code=adds('print("hello")')),
    "check_leaves_global_state_alone": Mutant(code=adds("import random; random.seed(1)")),
    "check_formats_are_formats": Mutant(
        manifest=WITH_A_FORMAT, code=adds(REGISTERS.replace("open", "opened")), api="1.1"
    ),
    "check_imports_no_other_family": Mutant(code=adds("import neighbour_world.plugin")),
}
