"""The table of versions holds: each verdict, each sentence, and the page that is written from it."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/compatibility.md"
SPEC = importlib.util.spec_from_file_location("worldflux_compat", Path(__file__).with_name("compat.py"))
compat = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(compat)
KERNEL, API, ROWS = metadata.version("worldflux-core"), compat.kernel_api(), compat.load()["plugins"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_plugin_gets_the_verdict_and_the_sentence_of_the_table(row):
    assert compat.judge([row]) == [(row["state"], compat.expected_sentence(row, KERNEL, API))]


def test_the_table_asks_for_every_kind_of_version():
    assert {"0.9", "1.0", "1.1", "1.9", "2.0"} <= {row["plugin_api_version"] for row in ROWS}
    assert {row["state"] for row in ROWS} == {"indexed", "rejected"}
    assert all(("sentence" in row) == (row["state"] == "rejected") for row in ROWS)
    pairings = {(row["kernel"], row["family"]) for row in compat.load()["releases"]}
    assert pairings == {(kernel, family) for kernel in ("this", "released") for family in ("this", "released")}


def test_a_kernel_is_not_asked_about_what_came_after_it(monkeypatch):
    row = {**ROWS[0], "since": "1.9", "state": "rejected", "sentence": "said by later kernels only"}
    monkeypatch.setattr(compat, "load", lambda: {"plugins": [row]})
    assert compat.wrong_plugins() == []


def test_a_wrong_verdict_is_named(monkeypatch):
    row = {**ROWS[0], "state": "rejected", "sentence": "never said"}
    monkeypatch.setattr(compat, "load", lambda: {"plugins": [row]})
    assert compat.wrong_plugins() == ["same-api: expected ('rejected', 'never said'), got ('indexed', '')"]


def test_the_page_says_what_the_table_says_of_this_kernel():
    assert compat.plugins_part(compat.load(), KERNEL, API) in PAGE.read_text(encoding="utf-8"), "run nox -s compat"


def test_the_page_is_about_the_versions_of_this_checkout():
    text = PAGE.read_text(encoding="utf-8")
    packages = re.search(r"^PACKAGES = (\(.+?\))$", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
    for name in ast.literal_eval(packages[1]):
        project = ROOT / "packages" / name / "pyproject.toml"
        about = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        assert f"| {compat.named(about['name'], 'this', about['version'])} |" in text, "run nox -s compat"


def test_the_page_shows_a_pairing_that_does_not_exist_yet_as_not_run():
    about = {"kernel": "released", "family": "this", "name": "acme", "family_version": "1.0", "expected": "works"}
    text = compat.releases_part([{**about, "kernel_version": None, "verdict": "not run", "ran": []}])
    assert "| worldflux-core: no release yet | acme 1.0, this checkout | works | not run | nothing: " in text
