"""What a family's adapter says about an official program, and whether all of it is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import ConfigurationError, did_you_mean
from .processes import program_environment
from .program import Program, Request

_PROBE = """
import importlib.util, json, sys
def absent(name):
    try:
        return importlib.util.find_spec(name) is None
    except ImportError:
        return True
print()
print(json.dumps({"python": sys.version.split()[0], "absent": [name for name in sys.argv[1:] if absent(name)]}))
"""


class SubprocessBackend(ABC):
    """An official program that trains in a process of its own.

    A family derives from it, states the names below, and makes command lines in ``program``; its plugin registers the
    class with ``registrar.add(id, TheClass)``. Nothing here runs while the program does: what a supervisor needs is in
    the ``Program``, as data.
    """

    id: str
    """The id in the manifest's ``[[backends]]``."""
    origin: str
    """Where the program comes from: an address for ``git clone``."""
    python_variable: str
    """Environment variable that names the interpreter, if ``submit(python=...)`` does not."""
    checkout_variable: str
    """Environment variable that names the checkout, if ``submit(checkout=...)`` does not."""
    checkout_files: tuple[str, ...] = ()
    """Files and folders that a checkout has."""
    modules: tuple[str, ...] = ()
    """Modules that the interpreter must find. They are looked for, not imported."""
    install: str = "-r {checkout}/requirements.txt"
    """What ``pip install`` takes to provide the modules."""
    training: tuple[str, ...] = ("device", "seed")
    """Fields of ``TrainingConfig`` that the program can follow; any other that the user sets is refused."""

    @abstractmethod
    def program(self, request: Request) -> Program:
        """How the program is called for a request. Raises ConfigurationError for what it cannot do."""

    def find_python(self, given: str | os.PathLike[str] | None, *, environ: Mapping[str, str] = os.environ) -> Path:
        """The interpreter to run with. Raises ConfigurationError if none is named or it is not an executable file."""
        text, named = self._named("python", given, self.python_variable, environ)
        if not text:
            raise ConfigurationError(
                f"backend {self.id!r} runs the official program with an interpreter of its own, and none is named: "
                f"pass python='.../bin/python' or set {self.python_variable}"
            )
        found = shutil.which(os.path.expanduser(text))
        if found is None:
            raise ConfigurationError(
                f"{named} is {text!r}, which is no executable file; expected the Python of the environment in which "
                f"{', '.join(self.modules) or 'the official program'} can be imported"
            )
        return Path(os.path.abspath(found))  # its links stay: a virtual environment's python is one

    def find_checkout(self, given: str | os.PathLike[str] | None, *, environ: Mapping[str, str] = os.environ) -> Path:
        """The folder of the program. Raises ConfigurationError if none is named or it lacks ``checkout_files``."""
        get = f"git clone {self.origin}"
        text, named = self._named("checkout", given, self.checkout_variable, environ)
        if not text:
            raise ConfigurationError(
                f"backend {self.id!r} runs a checkout of the official program, and none is named: {get}, then "
                f"pass checkout='...' or set {self.checkout_variable}"
            )
        folder = Path(os.path.abspath(os.path.expanduser(text)))
        if not folder.is_dir():
            raise ConfigurationError(f"{named} is {text!r}, which is no folder; expected a checkout: {get}")
        lacking = [name for name in self.checkout_files if not (folder / name).exists()]
        if lacking:
            raise ConfigurationError(
                f"{named} is {text!r}, which lacks {', '.join(lacking)}; expected a checkout of {self.origin}"
            )
        return folder

    def check_modules(self, python: Path, checkout: Path, env: Mapping[str, str]) -> str:
        """Return the interpreter's version, if it runs and finds every module. Raises ConfigurationError otherwise."""
        try:
            asked = subprocess.run(
                [str(python), "-c", _PROBE, *self.modules],
                cwd=checkout, env=program_environment(env), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=300, check=True,
            )  # fmt: skip
            answer = json.loads(asked.stdout.splitlines()[-1])
            version, absent = str(answer["python"]), list(answer["absent"])
        except subprocess.TimeoutExpired as error:
            raise ConfigurationError(f"{python} did not say which modules it has within five minutes") from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip() or f"exit code {error.returncode}").splitlines()[-1]
            raise ConfigurationError(f"{python} does not run as a Python interpreter: {said}") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ConfigurationError(f"{python} does not run as a Python interpreter: {error}") from error
        if absent:
            raise ConfigurationError(
                f"{python} (Python {version}) cannot import {', '.join(absent)}, which the official program of backend "
                f"{self.id!r} needs: {python} -m pip install {self.install.format(checkout=checkout)}"
            )
        return version

    def check_training(self, given: Mapping[str, object]) -> None:
        """Raises ConfigurationError for a field of ``TrainingConfig`` that the program cannot follow."""
        for name in sorted(set(given) - set(self.training)):
            hint = " Give submit(env_steps=...)." if name == "total_steps" else did_you_mean(name, self.training)
            raise ConfigurationError(
                f"backend {self.id!r} cannot follow TrainingConfig.{name}, only output_dir, "
                f"{', '.join(self.training)}; its own settings go into submit(options={{...}}).{hint}"
            )

    @staticmethod
    def _named(
        argument: str, given: str | os.PathLike[str] | None, variable: str, environ: Mapping[str, str]
    ) -> tuple[str, str]:
        """What was given, and by which name; an argument goes before the variable."""
        return (environ.get(variable, ""), variable) if given is None else (os.fspath(given), argument)
