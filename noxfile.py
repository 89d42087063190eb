"""Everything a contributor runs, each session in a clean environment: ``nox -l`` lists them.

The suites run against the built wheels from a temporary directory, never against ``src/``, so a file that is
missing from a wheel, or a path that only exists in the checkout, fails here first. Sessions that need torch
take the interpreter nox runs under; the kernel is also tried without torch on every Python it supports.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import nox
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

nox.needs_version = ">=2024.3.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True  # a skipped Python must not look like a passed one
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).resolve().parent
DIST = ROOT / "dist"
CONSTRAINTS = ("-c", str(ROOT / "constraints" / "torch-cpu.txt"))
PACKAGES = ("worldflux-core", "worldflux-dreamer", "worldflux-tdmpc", "worldflux-jepa")
FAMILIES = PACKAGES[1:]
THIRD_PARTY = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
COMPAT = ROOT / "tests" / "compat.py"
SMOKE = ROOT / "plugins" / "smoke_minimal_plugin.py"
ALIAS = "minimalplugin-dreamer"  # what plugins/minimal_plugin calls somebody else's preset
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
STRANGER_SECONDS = 120.0  # from an empty folder to a family of one's own that passes the kit, downloads apart
TEST_TOOLS = ("pytest>=8.3", "pytest-xdist>=3.5", "hypothesis>=6.100")
LINT_TOOLS = ("ruff==0.17.6", "mypy==2.4.1", "import-linter==2.16")
# What listing, judging and describing plugins needs: the kernel's dependencies less torch and its company.
TORCH_FREE = (
    *("pluggy", "importlib-metadata", "packaging", "pydantic", "typer", "rich"),
    "tomli; python_version < '3.11'",
)

QUICKSTART_RESULTS = {
    "saved model": "model",
    "metrics (JSON lines)": "metrics.jsonl",
    "learning curve": "learning_curve.png",
    "imagined versus real": "imagined.gif",
}
TORCH_FREE_TESTS = (
    "packages/worldflux-core/tests/plugins",
    *(f"tests/test_{name}.py" for name in ("light", "wheels", "compat", "plugin_docs")),
)

DEFAULT_SUITE = ("-m", "not timing and not slow", "-n", str(min(4, os.cpu_count() or 1)))


@nox.session
def wheels(session: nox.Session) -> None:
    """Build every package: the sdist, then the wheel out of that sdist."""
    session.install("build>=1.2")
    shutil.rmtree(DIST, ignore_errors=True)
    for package in PACKAGES:
        session.run("python", "-m", "build", "--outdir", str(DIST), str(ROOT / "packages" / package), silent=True)
    for project in THIRD_PARTY:
        session.run("python", "-m", "build", "--outdir", str(DIST / "plugins"), str(project), silent=True)


@nox.session(requires=["wheels"])
def lint(session: nox.Session) -> None:
    """Check style (ruff), types (mypy) and the arrows between the parts (import-linter)."""
    session.install(*LINT_TOOLS)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    install_wheels(session, "all")
    session.run("mypy")
    session.run("lint-imports")


@nox.session(requires=["wheels"])
def tests(session: nox.Session) -> None:
    """Run the whole default suite against the wheels; ``-- -k NAME`` or ``-- PATH`` for a part of it."""
    install_wheels(session, "all", *TEST_TOOLS)
    if session.posargs:
        run_pytest(session, *session.posargs)
        return
    run_pytest(session, *DEFAULT_SUITE)
    run_pytest(session, "-m", "timing and not slow")  # milliseconds are measured alone


@nox.session(requires=["wheels"])
def slow(session: nox.Session) -> None:
    """Run the learning runs: minutes each, 2 cores."""
    install_wheels(session, "all", *TEST_TOOLS)
    run_pytest(session, "-m", "slow", *session.posargs)


@nox.session(requires=["wheels"])
def simulators(session: nox.Session) -> None:
    """Step dm_control's tasks and Atari's games, which are in no other session for their size."""
    install_wheels(session, "env,atari,dmc", *TEST_TOOLS)
    run_pytest(session, *(session.posargs or ("packages/worldflux-core/tests/envs",)))


@nox.session(requires=["wheels"])
def minari(session: nox.Session) -> None:
    """Have Minari write datasets of every kind, and read them back without it."""
    install_wheels(session, "env,data", *TEST_TOOLS, "minari[hdf5,arrow,create]>=0.5.4")
    run_pytest(session, *(session.posargs or ("tests/interop/test_minari.py",)))


@nox.session(requires=["wheels"])
def quickstart(session: nox.Session) -> None:
    """Train dreamer:ci on CartPole-v1, evaluate it, imagine with it; ``-- OPTIONS`` go to the training."""
    install_wheels(session, "env,viz")
    run = ROOT / "runs" / time.strftime("quickstart-%Y%m%d-%H%M%S")
    run.parent.mkdir(exist_ok=True)
    session.chdir(session.create_tmp())
    assert_installed(session)
    worldflux = ("python", "-m", "worldflux.cli")
    session.run(*worldflux, "train", "dreamer:ci", "--env", "CartPole-v1", "--run", str(run), *session.posargs)
    session.run(*worldflux, "eval", str(run))
    session.run(*worldflux, "imagine", str(run))
    for what, name in QUICKSTART_RESULTS.items():
        if not (run / name).exists():
            session.error(f"the {what} should be at {run / name}")
        session.log(f"{what:<24} {run / name}")


@nox.session(python=["3.10", "3.11", "3.12", "3.13"], requires=["wheels"])
def kernel(session: nox.Session) -> None:
    """Prove, without torch, that plugins are found, judged and listed on every supported Python."""
    session.install(*TORCH_FREE, "pytest>=8.3", "hypothesis>=6.100")
    session.install("--no-deps", *built_wheels())
    run_pytest(session, *(session.posargs or TORCH_FREE_TESTS), "-m", "not timing")


@nox.session(requires=["wheels"])
def minimums(session: nox.Session) -> None:
    """Run the default suite on the oldest versions the packages declare (torch stays the pinned one)."""
    lowest = Path(session.create_tmp()) / "lowest.txt"
    lowest.write_text("\n".join(lowest_requirements()) + "\n")
    install_wheels(session, "all", *TEST_TOOLS, "-c", str(lowest))
    # Old releases may use what newer ones of their own dependencies deprecate: that is not ours to repair.
    run_pytest(session, "-W", "ignore::DeprecationWarning", *(session.posargs or DEFAULT_SUITE))


@nox.session(requires=["wheels"])
@nox.parametrize("family", FAMILIES)
def isolated(session: nox.Session, family: str) -> None:
    """Prove that a family needs the kernel and nothing else of ours: list it, build it, hold it to the kit."""
    install_wheels(session, "testing", only=("worldflux-core", family))
    session.chdir(session.create_tmp())
    names = [plugin["name"] for plugin in listing(session)]
    if names != [family]:
        session.error(f"only {family} should be listed, not {names}")
    session.run("python", str(COMPAT), "family", family, "--level", "imports", env=ONE_THREAD)


@nox.session(requires=["wheels"])
def all_together(session: nox.Session) -> None:
    """Install every package and every plugin: no id twice, nothing rejected, and all of them start."""
    install_wheels(session, "testing", *third_party_wheels())
    session.chdir(session.create_tmp())
    strict = {"WORLDFLUX_STRICT_PLUGINS": "1"}  # a duplicate, a note or a rejection ends the program
    for plugin in listing(session, env=strict):
        session.log(f"{plugin['name']} {plugin['version']}: {plugin['provides']}")
    worldflux(session, "doctor", env=strict)


@nox.session(requires=["wheels"])
def third_party(session: nox.Session) -> None:
    """Hold a stranger's wheel to the kit, then go a stranger's way: a family of one's own in three commands."""
    # hatchling, and no build isolation below: the clock does not measure downloads
    install_wheels(session, "testing", *third_party_wheels(), "hatchling>=1.26")
    session.chdir(session.create_tmp())
    suite = ("pytest", "-p", "no:cacheprovider", "--import-mode=importlib")
    session.run(*suite, *(str(project / "tests") for project in THIRD_PARTY), env=ONE_THREAD)
    session.run(*suite, "--pyargs", "worldflux.testing.suite", f"--worldflux-family={ALIAS}", env=ONE_THREAD)
    shutil.rmtree("demo", ignore_errors=True)
    session.run("pip", "uninstall", "--yes", "--quiet", "demo")  # of a reused environment
    started = time.monotonic()
    worldflux(session, "plugins", "new", "demo")
    session.run("pip", "install", "--quiet", "--no-build-isolation", "--find-links", str(DIST), "./demo[test]")
    session.run("pytest", "-p", "no:cacheprovider", "demo", env=ONE_THREAD)
    seconds = time.monotonic() - started
    session.log(f"from nothing to a family that passes the kit: {seconds:.0f} s")
    if seconds > STRANGER_SECONDS:
        session.error(f"that should take less than {STRANGER_SECONDS:.0f} s")
    session.run("python", str(SMOKE), "--uninstall", env=ONE_THREAD)  # last, for it leaves the plugin uninstalled


@nox.session(requires=["wheels"])
def uninstall(session: nox.Session) -> None:
    """Take each plugin away in turn: no trace stays, the others are as before, and the error says the way back."""
    session.install(*TORCH_FREE)
    session.install("--no-deps", *built_wheels(), *third_party_wheels())
    session.chdir(session.create_tmp())
    for wheel in [*built_wheels(only=FAMILIES), *third_party_wheels()]:
        name = Path(wheel).name.partition("-")[0].replace("_", "-")
        before = listing(session)
        session.run("pip", "uninstall", "--yes", "--quiet", name)
        if listing(session) != [plugin for plugin in before if plugin["name"] != name]:
            session.error(f"uninstalling {name} changed what is said of others, or left something behind")
        (gone,) = (plugin for plugin in before if plugin["name"] == name)
        said = worldflux(session, "models", "info", gone["provides"]["models"][0], success_codes=[1, 2], silent=True)
        if name in FAMILIES and f"pip install {name}" not in said:
            session.error(f"without {name} the error does not say what to install: {said}")
        session.log(said.strip())
        session.install("--no-deps", wheel)


@nox.session(requires=["wheels"])
def editable(session: nox.Session) -> None:
    """Find and judge every plugin where all are installed in editable mode, as their authors have them."""
    projects = [ROOT / "packages" / package for package in PACKAGES] + THIRD_PARTY
    session.install(*TORCH_FREE)
    session.install("--no-deps", *(word for project in projects for word in ("-e", str(project))))
    session.chdir(session.create_tmp())
    for plugin in listing(session):
        session.log(f"{plugin['name']} {plugin['version']}: {plugin['state']} {plugin['reason']}")
        if plugin["state"] != "indexed" or plugin["notes"]:
            session.error(f"{plugin['name']} is not in order when it is editable")
    worldflux(session, "plugins", "check", "all", "--static")


@nox.session(requires=["wheels"])
def compat(session: nox.Session) -> None:
    """Try this checkout's kernel and families with those of the last release tags; write docs/compatibility.md."""
    install_wheels(session, "testing", "build>=1.2")
    builds = {("this", package): this_build(package) for package in PACKAGES}
    builds |= {("released", package): released_build(session, package) for package in PACKAGES}
    cells = Path(session.create_tmp()).resolve() / "cells.json"
    cells.unlink(missing_ok=True)
    session.chdir(session.create_tmp())
    session.run("python", str(COMPAT), "plugins")
    for family in FAMILIES:
        for row in nox.project.load_toml(ROOT / "tests" / "compat_matrix.toml")["releases"]:
            kernel_build, family_build = builds[row["kernel"], "worldflux-core"], builds[row["family"], family]
            about = {**row, "name": family, "kernel_version": kernel_build[0], "family_version": family_build[0]}
            if kernel_build[1] and family_build[1]:
                session.install("--no-deps", "--force-reinstall", kernel_build[1], family_build[1])
                session.run("python", str(COMPAT), "plugins")  # each kernel keeps to the table in its own words
            else:
                about["absent"] = True
            session.run(
                "python",
                str(COMPAT),
                "family",
                family,
                "--cells",
                str(cells),
                "--about",
                json.dumps(about),
                env=ONE_THREAD,
            )
    session.install("--no-deps", "--force-reinstall", *built_wheels())
    session.run("python", str(COMPAT), "page", "--cells", str(cells), "--out", str(ROOT / "docs" / "compatibility.md"))


# -- helpers ------------------------------------------------------------------------------------------


def built_wheels(extras: str = "", only: tuple[str, ...] = PACKAGES) -> list[str]:
    """The wheels of these packages in dist/, the kernel's with these extras."""
    paths = [path for package in only for path in DIST.glob(f"{package.replace('-', '_')}-*.whl")]
    return [f"{p}[{extras}]" if extras and p.name.startswith("worldflux_core-") else str(p) for p in paths]


def third_party_wheels() -> list[str]:
    """The wheels of plugins/, whose authors could be anybody."""
    return [str(path) for path in sorted((DIST / "plugins").glob("*.whl"))]


def install_wheels(session: nox.Session, extras: str, *more: str, only: tuple[str, ...] = PACKAGES) -> None:
    """Install the wheels with their dependencies; the second step is for reused environments (``nox -r``)."""
    session.install(*CONSTRAINTS, *built_wheels(extras, only), *more)
    session.install("--no-deps", "--force-reinstall", *built_wheels(only=only))


def worldflux(session: nox.Session, *words: str, **options: Any) -> str:
    """Run the installed command; returns what it printed if ``silent``."""
    return str(session.run("python", "-m", "worldflux.cli", *words, **options))


def listing(session: nox.Session, **options: Any) -> list[dict[str, Any]]:
    """What ``worldflux plugins list`` says."""
    return list(json.loads(worldflux(session, "plugins", "list", "--json", silent=True, **options)))


def this_build(package: str) -> tuple[str, str]:
    """(version, wheel) of a package of this checkout."""
    project = nox.project.load_toml(ROOT / "packages" / package / "pyproject.toml")["project"]
    return project["version"], built_wheels(only=(package,))[0]


def released_build(session: nox.Session, package: str) -> tuple[str | None, str | None]:
    """(version, wheel) of a package as its last release tag has it; (None, None) where none is tagged."""
    tags = str(session.run("git", "-C", str(ROOT), "tag", "--list", f"{package}-*", external=True, silent=True)).split()
    versions = {}
    for tag in tags:
        try:
            version = Version(tag.removeprefix(f"{package}-"))
        except InvalidVersion:
            continue
        if not version.is_prerelease:
            versions[version] = tag
    if not versions:
        return None, None
    tag = versions[max(versions)]
    tmp = Path(session.create_tmp()).resolve()
    tree, out = tmp / "tree", tmp / "released"
    git = ("git", "-C", str(ROOT), "worktree")
    shutil.rmtree(tree, ignore_errors=True)
    session.run(*git, "prune", external=True)
    session.run(*git, "add", "--detach", str(tree), tag, external=True, silent=True)
    try:
        project = tree / "packages" / package
        session.run("python", "-m", "build", "--wheel", "--outdir", str(out / tag), str(project), silent=True)
    finally:
        session.run(*git, "remove", "--force", str(tree), external=True)
    return str(max(versions)), str(next((out / tag).glob("*.whl")))


def assert_installed(session: nox.Session) -> None:
    """Stop unless the packages come from the environment, not from the checkout."""
    check = (
        "import sys, importlib.util as u; p = u.find_spec('{}').origin; sys.exit(None if 'site-packages' in p else p)"
    )
    for package in PACKAGES:
        module = package.replace("-core", "").replace("-", "_")
        session.run("python", "-I", "-c", check.format(module), silent=True)


def run_pytest(session: nox.Session, *args: str) -> None:
    """Run pytest from an empty directory; paths among ``args`` are taken from the repository's root."""
    resolved = [str(ROOT / arg) if (ROOT / arg.split("::")[0]).exists() else arg for arg in args]
    suites = [ROOT / "tests", *sorted(ROOT.glob("packages/*/tests"))]
    paths = map(str, suites) if resolved == list(args) else []
    session.chdir(session.create_tmp())
    assert_installed(session)
    session.run(
        "pytest",
        *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"),
        *resolved,
        *paths,
        env=ONE_THREAD | {"WORLDFLUX_DIST": str(DIST)},
    )


def lowest_requirements() -> list[str]:
    """Every ``>=X`` of the packages' pyprojects as ``==X``, less torch and the packages themselves."""
    requirements: dict[str, str] = {}
    for package in PACKAGES:
        project = nox.project.load_toml(ROOT / "packages" / package / "pyproject.toml")["project"]
        optional = project.get("optional-dependencies", {}).values()
        for text in [*project["dependencies"], *(text for group in optional for text in group)]:
            requirement = Requirement(text)
            floor = re.search(r">=([\w.]+)", str(requirement.specifier))
            if floor and requirement.name != "torch" and requirement.name not in PACKAGES:
                marker = f"; {requirement.marker}" if requirement.marker else ""
                requirements[requirement.name] = f"{requirement.name}=={floor[1]}{marker}"
    return sorted(requirements.values())
