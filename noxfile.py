"""Everything a contributor runs, each session in a clean environment: ``nox -l`` lists them.

The suites run against the built wheels from a temporary directory, never against ``src/``, so a file that is
missing from a wheel, or a path that only exists in the checkout, fails here first. Sessions that need torch
take the interpreter nox runs under; the kernel is also tried without torch on every Python it supports.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2024.3.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True  # a skipped Python must not look like a passed one
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).resolve().parent
DIST = ROOT / "dist"
CONSTRAINTS = ("-c", str(ROOT / "constraints" / "torch-cpu.txt"))
PACKAGES = ("worldflux-core", "worldflux-dreamer")
TEST_TOOLS = ("pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100")
LINT_TOOLS = ("ruff==0.17.6", "mypy==2.4.1", "import-linter==2.16")
# What listing, judging and describing plugins needs: the kernel's dependencies less torch and its company.
TORCH_FREE = ("pluggy", "packaging", "pydantic", "typer", "rich", "tomli; python_version < '3.11'")

QUICKSTART_RESULTS = {
    "saved model": "model",
    "metrics (JSON lines)": "metrics.jsonl",
    "learning curve": "learning_curve.png",
    "imagined versus real": "imagined.gif",
}
TORCH_FREE_TESTS = ("packages/worldflux-core/tests/plugins", "tests/test_light.py", "tests/test_wheels.py")

DEFAULT_SUITE = ("-m", "not timing and not slow", "-n", str(min(4, os.cpu_count() or 1)))


@nox.session
def wheels(session: nox.Session) -> None:
    """Build every package: the sdist, then the wheel out of that sdist."""
    session.install("build>=1.2")
    shutil.rmtree(DIST, ignore_errors=True)
    for package in PACKAGES:
        session.run("python", "-m", "build", "--outdir", str(DIST), str(ROOT / "packages" / package), silent=True)


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
    session.install(*TORCH_FREE, "pytest>=8", "hypothesis>=6.100")
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


# -- helpers ------------------------------------------------------------------------------------------


def built_wheels(extras: str = "") -> list[str]:
    """The wheels in dist/, the kernel's with these extras."""
    paths = sorted(DIST.glob("*.whl"))
    return [f"{p}[{extras}]" if extras and p.name.startswith("worldflux_core-") else str(p) for p in paths]


def install_wheels(session: nox.Session, extras: str, *more: str) -> None:
    """Install the wheels with their dependencies; the second step is for reused environments (``nox -r``)."""
    session.install(*CONSTRAINTS, *built_wheels(extras), *more)
    session.install("--no-deps", "--force-reinstall", *built_wheels())


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
        env={"OMP_NUM_THREADS": "1", "WORLDFLUX_DIST": str(DIST)},
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
