"""The pages for plugin authors say what the code says: hooks, manifest keys, checks, errors, versions."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from worldflux import plugins, strangers
from worldflux.core import registry
from worldflux.plugins import ModelSpec, hookspecs
from worldflux.plugins.manifest import json_schema, parse
from worldflux.plugins.versions import PLUGIN_API

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = Path(__file__).resolve().parents[1] / "docs" / "plugins"
TABLES = {
    "## The file": "Manifest",
    "## `[[models]]`": "Model",
    "## `[models.presets.KEY]`": "Preset",
    "## `[[components]]`": "Component",
    "## `[[backends]]`": "Backend",
    "## `[[importers]]`": "Importer",
    "## `[[commands]]`": "Command",
    "## `[[formats]]`": "Format",
}
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("worldflux_")}
REGISTRARS = {name: cls.add for name, cls in vars(hookspecs).items() if name.endswith("Registrar")}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def signature(function) -> str:
    return str(inspect.signature(function)).replace("'", "").replace("(self, ", "(")


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_in_the_docs_with_its_exact_signature(name):
    _, _, section = page("hooks.md").partition(f"\n### `{name}{signature(HOOKS[name])}`\n")
    text = inspect.getdoc(HOOKS[name]).replace("``", "`")
    when = next(line for line in text.splitlines() if line.startswith("When:"))
    assert section.lstrip().startswith(when)


def test_the_docs_have_no_hook_that_does_not_exist():
    assert set(re.findall(r"\n### `(\w+)\(", page("hooks.md"))) == set(HOOKS)


@pytest.mark.parametrize("name", REGISTRARS)
def test_every_registrar_is_in_the_docs_with_its_exact_signature(name):
    assert f"`{name}.add{signature(REGISTRARS[name])}`" in page("hooks.md")


def test_the_docs_name_the_fields_of_a_model_spec():
    text = page("hooks.md").partition("`ModelSpec` has four fields: ")[2]
    assert re.findall(r"`(\w+: [\w |]+)`", text) == [f"{field.name}: {field.type}" for field in fields(ModelSpec)]


@pytest.mark.parametrize("heading", TABLES)
def test_every_manifest_key_is_in_the_docs_and_no_other(heading):
    section = page("manifest.md").partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    told = {key: needed == "yes" for key, needed in re.findall(r"^\| `(\w+)` \| (yes)? ?\|", section, re.MULTILINE)}
    schema = json_schema()
    schema = schema["$defs"].get(TABLES[heading], schema)
    assert told == {key: key in schema.get("required", ()) for key in schema["properties"]}


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_every_manifest_shown_is_a_valid_one(path):
    for block in re.findall(r"^```toml\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if block.startswith("manifest_version"):
            parse(tomllib.loads(block), strict=True)


def test_every_plugin_api_has_its_entry_in_the_changelog():
    told = re.findall(r"^## (\d+\.\d+)", page("api-changelog.md"), re.MULTILINE)
    assert sorted(told) == sorted(f"{major}.{n}" for major, minor in PLUGIN_API.items() for n in range(minor + 1))


def test_every_check_of_the_kit_is_in_the_docs_with_its_rule():
    pytest.importorskip("torch")
    from worldflux.testing import all_checks

    rows = ["| check | the rule | level | only with | since |", "| --- | --- | --- | --- | --- |"]
    for check in all_checks():
        needs = ", ".join(f"`{name}`" for name in sorted(check.requires))
        rows.append(f"| `{check.name}` | {check.rule.replace('``', '`')} | {check.level} | {needs} | {check.since} |")
    table = page("checks.md").partition("should be. -->\n\n")[2].partition("\n\n<!-- table: end -->")[0]
    wanted = "\n".join(rows)
    assert table == wanted, f"docs/plugins/checks.md: the table should be\n{wanted}"


# -- errors: what the plugin kernel can say, taken from its code -------------------------------------------------


def fragments(node: ast.AST) -> list[str]:
    """The literal pieces of a text or an f-string that are long enough to tell it from others."""
    if isinstance(node, ast.Constant):
        pieces = [node.value] if isinstance(node.value, str) else []
    else:
        pieces = [part.value for part in node.values if isinstance(part, ast.Constant)]
    return [piece.strip(" ,;:.()'") for piece in pieces if len(re.findall(r"[a-z]{2,}", piece)) >= 2 and " " in piece]


def sentences() -> dict[str, str]:
    """Every such piece in the code of the plugin kernel, its tools and the registry, with its place."""
    found = {}
    rooms = (Path(inspect.getfile(room)).parent for room in (plugins, strangers))
    for path in [*(path for room in rooms for path in sorted(room.glob("*.py"))), Path(inspect.getfile(registry))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in inner | prose:
                found |= dict.fromkeys(fragments(node), f"{path.name}:{node.lineno}")
    return found


def told_sentences() -> list[str]:
    """The sentences of the page, each the first cell of a row."""
    return [cell for _, cell in re.findall(r"^\| (`{1,2})(.+?)\1 \|", page("errors.md"), re.MULTILINE)]


def test_every_sentence_the_plugin_kernel_can_say_is_in_the_docs():
    told = "\n".join(told_sentences())
    assert {piece: place for piece, place in sentences().items() if piece not in told} == {}


def test_every_sentence_in_the_docs_is_one_the_plugin_kernel_can_say():
    known = sentences()
    wrong = []
    for sentence in told_sentences():
        rest = sentence
        for piece in sorted(known, key=len, reverse=True):
            rest = rest.replace(piece, "")
        # what is left are placeholders in capitals, names in quotes and single words between them
        if re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", rest):
            wrong.append((sentence, rest))
    assert wrong == []
