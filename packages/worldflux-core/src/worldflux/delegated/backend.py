"""What a family's adapter says about an official program, and whether all of it is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationError, did_you_mean
from ..files import expanded
from .handle import OfficialBackendHandle
from .job import Job
from .processes import program_environment
from .program import Program, Request
from .starting import describe, refuse_taken, start

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

    def submit(
        self,
        handle: OfficialBackendHandle,
        *,
        run_dir: str | os.PathLike[str],
        task: str,
        env_steps: int | None = None,
        python: str | os.PathLike[str] | None = None,
        checkout: str | os.PathLike[str] | None = None,
        training: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Job:
        """Start the official program on ``task`` and return its job, which goes on without this process.

        ``python`` and ``checkout`` default to the backend's environment variables; ``training`` are ``TrainingConfig``
        fields by name; ``options`` the program's own settings; ``env`` environment variables for the program. They are
        kept in ``job.json``: what is secret belongs into the environment of this process, which the program inherits.

        Raises:
            ConfigurationError: the interpreter, the checkout or a module is missing, an option cannot be followed, or
                ``run_dir`` is taken. Then nothing has been started or written.
            TrainingError: the supervisor itself did not start.
        """
        if os.name != "posix":
            raise ConfigurationError(f"official programs run in process groups, which {sys.platform} does not have")
        if env_steps is not None and env_steps < 1:
            raise ConfigurationError(f"env_steps is {env_steps!r}, expected at least 1")
        job = Job(Path(os.path.abspath(expanded(run_dir))))
        refuse_taken(job)
        self.check_training(training or {})
        request = Request(
            model_id=handle.model_id,
            task=task,
            folder=job.folder,
            checkout=self.find_checkout(checkout),
            profile=str(handle.metadata.get("backend_profile", "")),
            env_steps=env_steps,
            config=handle.metadata.get("config", {}),
            training=training or {},
            options=options or {},
        )
        interpreter = self.find_python(python)
        program = self.program(request)
        variables = {**program.env, **(env or {})}
        version = self.check_modules(interpreter, request.checkout, variables)
        about = {"backend": self.id, "python": version, **describe(request, program, interpreter, variables)}
        try:
            json.dumps(about)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"options and env take text, numbers and lists of them: {error}") from error
        return start(job, about)

    def job(self, run_dir: str | os.PathLike[str]) -> Job:
        """The job in a run directory. Raises ConfigurationError if it holds none."""
        return Job.open(run_dir)

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
        folder = Path(os.path.abspath(expanded(text)))
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


launch = SubprocessBackend.submit
"""``launch(backend, handle, run_dir=..., task=...)`` is ``backend.submit(handle, ...)``."""
