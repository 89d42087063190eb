"""The README and the documentation say what is so: snippets run, commands exist, links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")])
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def fences(language: str) -> list[pytest.param]:
    """Every block in ``language``, named by its page and its line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 2
                found.append(pytest.param(match[2], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def commands() -> list[pytest.param]:
    """Every ``worldflux …`` line of a shell block, continuation lines joined."""
    found = []
    for block in fences("bash"):
        for number, line in enumerate(block.values[0].replace("\\\n", " ").splitlines()):
            if line.startswith("worldflux "):
                found.append(pytest.param(shlex.split(line, comments=True)[1:], id=f"{block.id}+{number}"))
    return found


@pytest.mark.parametrize("code", fences("python"))
def test_snippet_runs_in_a_fresh_process(code, fresh_python, tmp_path):
    script = tmp_path / "snippet.py"
    script.write_text(code, encoding="utf-8")
    result = fresh_python(str(script))
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


@pytest.mark.parametrize("words", commands())
def test_command_line_uses_options_that_exist(words, fresh_python):
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    verbs = []
    for word in words:
        if word.startswith("-"):
            break
        verbs.append(word)
    nested = verbs[:1] in (["data"], ["models"], ["plugins"])
    path = verbs[: 2 if nested else 1]
    result = fresh_python("-m", "worldflux.cli", *path, "--help")
    assert result.returncode == 0, f"worldflux {' '.join(path)} --help: {result.stderr}"
    missing = [option for option in options if option not in result.stdout]
    assert not missing, f"worldflux {' '.join(path)} has no {missing}"


@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_example_runs_quickly_with_its_smoke_option(example, fresh_python):
    result = fresh_python(str(example), "--smoke")
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [unquote(t.split("#")[0]) for t in targets if not t.startswith(("http:", "https:", "mailto:", "#"))]
    missing = [target for target in local if target and not (page.parent / target).exists()]
    assert not missing, f"{page.relative_to(ROOT)} links to {missing}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/results/*.json")), ids=lambda path: path.name)
def test_result_says_what_was_measured_and_how(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    missing = {"what", "command", "date", "machine", "versions", "results"} - set(result)
    assert not missing, f"{path.name} does not say {sorted(missing)}"


FAMILIES = {
    "dreamer": "DreamerV3",
    "planet": "PlaNet",
    "tdmpc2": "TD-MPC2",
    "mbpo": "MBPO",
    "jepa": "JEPA",
    "vjepa2": "V-JEPA 2",
    "vjepa2-ac": "V-JEPA 2-AC",
    "external": "External encoders",
}
ASK_FAMILIES = """
import json, sys
import worldflux
from worldflux.cli.about import taken
from worldflux.plugins import get_kernel

told = {}
for family in sys.argv[1:]:
    _, model = get_kernel().catalog.find("models", family)
    told[family] = {"takes": taken(f"{family}:ci"), "can": model.capabilities}
print(json.dumps(told))
"""


def family_row(family: str, takes: dict[str, list[str]], can: list[str]) -> str:
    """A family's line of the table in docs/families/index.md."""
    sizes = [size for size in ("32", "64", "96") if takes[f"image {size}x{size}"]]
    together = [what for what in ("several vectors", "images and vectors") if takes[what]]
    acts = takes["vector"] or (takes["image 32x32"] if "latent_dynamics" in can else [])
    kinds = {"continuous": "continuous", "discrete": "discrete", "multi": "several parts"}
    cells = [
        f"[{FAMILIES[family]}]({family}.md), `{family}:ci`",
        "yes" if takes["vector"] else "no",
        "no" if not sizes else "any" if len(sizes) == 3 else ", ".join(sizes),
        "vectors and images" if len(together) == 2 else "vectors" if together == ["several vectors"] else "no",
        ", ".join(word for kind, word in kinds.items() if kind in acts) or "none",
        ", ".join(word for word, name in (("reward", "reward_pred"), ("end", "continue_pred")) if name in can)
        or "none",
        "yes" if "obs_decoder" in can else "no",
    ]
    return f"| {' | '.join(cells)} |"


def test_the_table_of_families_is_what_can_be_built(fresh_python):
    result = fresh_python("-c", ASK_FAMILIES, *FAMILIES)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    rows = [family_row(family, **facts) for family, facts in told.items()]
    text = (ROOT / "docs/families/index.md").read_text(encoding="utf-8")
    table = text.partition("<!-- families: begin")[2].partition("<!-- families: end -->")[0]
    assert [line for line in table.splitlines() if line.startswith("| [")] == rows, "\n".join(rows)
