from __future__ import annotations

import json

import pytest


@pytest.fixture(scope="module")
def reports(worldflux):
    return worldflux.several(["doctor", "--json"], ["doctor"])


def test_the_installation_is_described(reports):
    report = json.loads(reports[0].out)
    assert reports[0].code == 0, report["problems"]
    assert {"torch", "pluggy", "typer"} <= set(report["packages"])
    assert report["torch"]["devices"][0] == "cpu"
    assert report["extras"]["env"]["packages"]["gymnasium"]
    assert "all" not in report["extras"] or report["extras"]["all"]["packages"]


def test_every_plugin_is_started(reports):
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(reports[0].out)["plugins"]}
    assert states["toy-world"] == "active"


def test_it_reads_as_text(reports):
    assert "No problems found." in reports[1].out
    assert "toy-world" in reports[1].out


def test_a_plugin_that_does_not_start_is_a_problem(worldflux, site):
    code = site / "toy_world" / "plugin.py"
    text = code.read_text()
    code.write_text("raise RuntimeError('no luck')\n")
    try:
        (report,) = worldflux.several(["doctor", "--json"])
    finally:
        code.write_text(text)
    assert report.code == 1
    assert any("no luck" in problem for problem in json.loads(report.out)["problems"])


def test_an_extra_is_told_what_it_lacks():
    from worldflux.cli.doctor import _text

    extras = {"dmc": {"present": False, "packages": {"dm-control": None, "mujoco": "3.3", "numpy": None}}}
    data = {"python": "3", "executable": "", "platform": "", "packages": {}, "torch": {}, "plugins": [], "problems": []}
    assert "extra dmc: lacks dm-control, numpy (pip install 'worldflux-core[dmc]')" in _text({**data, "extras": extras})
