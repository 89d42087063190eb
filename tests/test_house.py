"""The shape of the house: who may import whom, how large things are, which words no file may hold."""

from __future__ import annotations

import ast
import importlib
import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KERNEL = ROOT / "packages/worldflux-core/src/worldflux"
SOURCES = sorted(ROOT.glob("packages/*/src/**/*.py"))
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
PLURALS = re.compile(
    r" ((held-out|environment|action|sequence|recorded|stored) )?"
    r"(batches|checkpoints|clips|columns|components|datasets|demonstrations|entries|environments|episodes|files|frames|"
    r"rows|sequences|sets of data|shards|steps|streams|tasks|updates)\b(?!/)"
)
MAY_IMPORT = {
    "core": set(),
    "earlier": {"core"},  # it is asked for names by the front door, and looks them up when it is
    "blocks": {"core", "files"},
    "files": {"core"},
    "state_bytes": {"core", "files"},
    "contract_rules": {"core"},
    "words": {"core"},
    "recipe": {"core"},
    "overrides": {"core"},
    "importing": {"core", "files"},
    "strangers": {"core"},
    "plugins": {"core", "strangers"},
    "hub": {"core"},
    "file_sets": {"core", "files"},
    "saved": {"core", "files", "file_sets"},
    "schema": {"core"},
    "factory": {"core", "files", "plugins"},
    "scaffold": {"core", "plugins", "strangers"},
    "envs": {"core", "words"},
    "data": {"core", "envs", "files", "file_sets", "words"},
    "agent": {"core", "envs", "files", "words"},
    "planners": {"core", "blocks"},
    "delegated": {"core", "files", "words"},
    "training": {"core", "blocks", "data", "delegated", "envs", "files", "recipe", "saved", "words"},
    "evals": {"core", "blocks", "data", "envs", "files", "planners", "words"},
    "experiment": {
        *("core", "agent", "factory", "files", "saved", "words"),
        *("data", "envs", "planners", "training", "evals"),
    },
    "testing": {
        *("core", "blocks", "strangers", "plugins", "factory", "the front door", "delegated", "saved", "words"),
        *("data", "envs", "planners", "training", "evals", "experiment"),
    },
    "cli": {
        *("core", "files", "strangers", "plugins", "factory", "the front door", "scaffold", "words"),
        *("data", "envs", "planners", "training", "evals", "experiment", "testing"),
    },
    "__main__": {"cli"},
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_of_code(path: Path) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    text = path.read_text(encoding="utf-8")
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            docstrings |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def part_of(module: str) -> str | None:
    """The part of the kernel's package that a module belongs to; its own names are the front door."""
    root, _, rest = module.partition(".")
    if root != "worldflux":
        return None
    first = rest.partition(".")[0]
    return first if first in MAY_IMPORT else "the front door"


def imported_modules(path: Path) -> set[str]:
    """Every module an import statement of the file names, wherever it stands, relative ones made absolute."""
    package = path.relative_to(next(p for p in path.parents if p.name == "src")).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_is_below_it(part):
    files = [KERNEL / f"{part}.py"] if (KERNEL / f"{part}.py").exists() else sorted((KERNEL / part).rglob("*.py"))
    assert files, f"there is no {part}"
    allowed = MAY_IMPORT[part] | {part, None}
    wrong = {
        f"{name(path)}: {module}"
        for path in files
        for module in imported_modules(path) - {"worldflux.__version__"}
        if part_of(module) not in allowed
    }
    assert not wrong


def test_every_part_of_the_package_has_its_arrows():
    parts = {path.stem if path.is_file() else path.name for path in KERNEL.iterdir()}
    assert parts - {"__init__", "__pycache__", "py", "py.typed"} <= set(MAY_IMPORT)


def test_only_the_front_door_imports_what_code_for_0_1_1_needs():
    others = [path for path in SOURCES if KERNEL / "earlier" not in path.parents]
    importing = {name(path) for path in others if any("worldflux.earlier" in m for m in imported_modules(path))}
    assert importing == {name(KERNEL / "__init__.py")}


def test_nothing_imports_a_family():
    families = {path.name for path in ROOT.glob("packages/*/src/worldflux_*")}
    wrong = {
        f"{name(path)}: {module}"
        for path in SOURCES
        for module in imported_modules(path)
        if module.split(".")[0] in families and module.split(".")[0] not in path.parts
    }
    assert not wrong


def test_the_kernel_is_small():
    kernel = [*KERNEL.glob("core/**/*.py"), *KERNEL.glob("plugins/**/*.py"), KERNEL / "factory.py"]
    assert sum(map(lines_of_code, kernel)) <= 2500


def test_no_file_is_long():
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_no_file_is_unpickled_and_no_stub_is_left():
    forbidden = re.compile(r"raise NotImplementedError|weights_only=False|allow_pickle=True|\b(TODO|FIXME|XXX)\b")
    wrong = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert not wrong


def test_no_file_names_a_place_on_somebodys_machine():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    homes = "|".join(["home", "root", "Users", "work", "mnt"])
    forbidden = re.compile(
        rf"(?<![\w.>/-])/(?:{homes})/[\w.]|\.\./shared|\bfile:///|pip(?:\.conf|_index)|--index-url http"
    )
    wrong = []
    for path in (ROOT / part for part in listed.stdout.split("\0") if part):
        data = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" in data:  # no text: pictures, arrays, videos
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            if forbidden.search(line) and path != Path(__file__):
                wrong.append(f"{name(path)}:{number}: {line.strip()[:120]}")
    assert not wrong


# --- circles ------------------------------------------------------------------------------------------------------

#: Two files that are one idea: a model and its policy, a trainer and its callbacks.
ONE_IDEA = ({"model", "policy"}, {"trainer", "callbacks"})


def import_graph() -> dict[str, set[str]]:
    """Every module of ours and those of ours it imports, for type checkers only included."""
    modules = {}
    for path in SOURCES:
        parts = path.relative_to(next(p for p in path.parents if p.name == "src")).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in modules.items():
        found = {name if name in modules else name.rpartition(".")[0] for name in imported_modules(path)}
        graph[module] = (found & modules.keys()) - {module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules each of which leads back to itself through the others."""
    reached = {module: set(targets) for module, targets in graph.items()}
    for through in graph:
        for targets in reached.values():
            if through in targets:
                targets |= reached[through]
    together = {module: frozenset(m for m in targets if module in reached[m]) for module, targets in reached.items()}
    return sorted(sorted(group) for group in {group for group in together.values() if len(group) > 1})


def test_files_import_downwards_but_for_those_that_are_one_idea():
    wrong = [
        circle
        for circle in circles(import_graph())
        if len({module.rpartition(".")[0] for module in circle}) > 1
        or {module.rpartition(".")[2] for module in circle} not in ONE_IDEA
    ]
    assert not wrong


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


# --- families -----------------------------------------------------------------------------------------------------

FAMILIES = sorted(path.parent for path in ROOT.glob("packages/*/src/worldflux_*/*/model.py"))
PUBLIC = {"worldflux.blocks", "worldflux.planners", "worldflux.delegated", "worldflux.plugins", "worldflux.samplers"}


def test_families_import_public_names_only():
    wrong = {
        f"{name(path)}: {module}"
        for path in ROOT.glob("packages/*/src/worldflux_*/**/*.py")
        for module in imported_modules(path)
        if module.startswith("worldflux.")
        and not any(module == room or module.rpartition(".")[0] == room for room in PUBLIC)
        and module.count(".") > 1 | (module.split(".")[1] in MAY_IMPORT)
    }
    assert not wrong


def bare_counts(text: str) -> list[str]:
    """Where a text puts a number that may be 1 before a plural, ``f"{n} rows"``."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.JoinedStr)]
    pairs = [(a, b) for node in found for a, b in zip(node.values, node.values[1:]) if isinstance(b, ast.Constant)]
    counts = [(ast.unparse(a.value), b.value) for a, b in pairs if isinstance(a, ast.FormattedValue)]
    return [
        f"{{{number}}}{after[:20]}"
        for number, after in counts
        if PLURALS.match(after) and not number.isupper() and not number.startswith(("list(", "1 / "))
    ]


def test_a_text_counts_one_of_a_thing_in_the_singular():
    rooms = [part for part, allowed in MAY_IMPORT.items() if "words" in allowed]
    files = [path for room in rooms for path in (KERNEL / room).rglob("*.py")]
    wrong = {name(path): bare_counts(path.read_text(encoding="utf-8")) for path in files}
    assert {path: counts for path, counts in wrong.items() if counts} == {}  # worldflux.words.counts.counted says them


def test_a_bare_count_is_found():
    assert bare_counts('f"has {n} rows"') == ["{n} rows"]
    assert bare_counts('f"{len(x):,} held-out episodes"') == ["{len(x)} held-out episodes"]
    assert bare_counts("f\"{LEAST} rows, {counted(n, 'row')}, {n} rowsome\"") == []


def code(path: Path) -> list[str | None]:
    """The lines of code of a file without indentation; None for imports, signatures and docstrings."""
    text = path.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, (node.end_lineno or 0) + 1))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            left_out |= set(range(first, node.body[0].lineno))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            left_out |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [None if number in left_out else line for number, line in lines if line and not line.startswith("#")]


BARE = {"try:", "finally:", "else:", "yield"}  # lines that say nothing by themselves


def test_what_programs_beside_the_packages_import_of_ours_is_there():
    programs = [path for folder in ("benchmarks", "examples") for path in sorted(ROOT.glob(f"{folder}/**/*.py"))]
    assert programs
    missing = [
        f"{name(path)}: {node.module}.{alias.name}"
        for path in programs
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("worldflux")
        for alias in node.names
        if not hasattr(importlib.import_module(node.module or ""), alias.name)
    ]
    assert not missing


def test_no_three_lines_of_code_stand_in_two_families():
    owners: dict[tuple[str, ...], set[str]] = {}
    for family in FAMILIES:
        for path in family.rglob("*.py"):
            lines = code(path)
            for run in zip(lines, lines[1:], lines[2:]):
                if None not in run and sum(len(line or "") > 2 and line not in BARE for line in run) > 1:
                    owners.setdefault(tuple(map(str, run)), set()).add(family.name)
    shared = {"; ".join(run): sorted(names) for run, names in owners.items() if len(names) > 1}
    assert len(FAMILIES) >= 5 and not shared


def test_the_map_of_the_design_names_every_room_and_no_other():
    design = (
        (ROOT / "docs/design.md").read_text(encoding="utf-8").partition("worldflux/\n")[2].partition("worldflux_")[0]
    )
    heads = re.findall(r"^  ((?:\w+(?:/|\.py) ?)+)", design, re.MULTILINE)
    told = {name.rstrip("/") for head in heads for name in head.split()}
    rooms = {path.name for path in KERNEL.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert told == rooms | {path.name for path in KERNEL.glob("*.py") if not path.name.startswith("__")}
