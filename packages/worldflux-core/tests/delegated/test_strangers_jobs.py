"""A job's folder may be a stranger's: what its files say is believed only as far as it can be true."""

from __future__ import annotations

import contextlib
import json
import random

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.delegated import Job, job, processes
from worldflux.delegated.processes import birth

PROGRAM = {"checkpoints": "*", "complete": "done"}
STATUS = {"state": "finished", "pid": 7, "host": "here", "step": 3, "started": 1.5, "message": ""}
VALUES = [None, True, -1, 0, 1, 2**70, 1.5, "", "\0", "..", "/", "**x", "a" * 5000, "a/" * 3000, [], [[]], {}, {"a": 1}]


@pytest.fixture
def folder(tmp_path):
    """Give what writes a job's files, and the job."""
    (tmp_path / "program").mkdir()

    def write(status=STATUS, **description):
        (tmp_path / "job.json").write_text(json.dumps({"program": PROGRAM, **description}))
        (tmp_path / "status.json").write_text(json.dumps(status))
        return Job.open(tmp_path)

    return write


@pytest.mark.parametrize("pid", [0, 1, -1, -7, True, 2.0, "2"])
@pytest.mark.parametrize("born", [{}, {"birth": None}])
def test_a_number_that_means_no_single_program_is_never_signalled(folder, monkeypatch, pid, born):
    sent = []
    monkeypatch.setattr(processes.os, "killpg", lambda group, what: sent.append((group, what)))
    monkeypatch.setattr(job, "birth", lambda pid: None)  # as of a process that is not there
    with contextlib.suppress(ConfigurationError):  # a pid of another kind is refused
        assert folder({"state": "running", "pid": pid, **born}).cancel(0).state == "lost"
    assert sent == []


def test_a_number_without_a_birth_is_not_taken_for_the_program(folder, monkeypatch):
    ended = []
    monkeypatch.setattr(job, "end_group", lambda group, grace: ended.append(group))
    monkeypatch.setattr(job, "group_lives", lambda group: True)
    monkeypatch.setattr(job, "birth", lambda pid: None)
    assert folder({"state": "running", "pid": 12345}).cancel(0).state == "lost"
    assert ended == []
    assert birth(2**70) is None


@pytest.mark.parametrize("status", [{}, {"state": 3}, {"state": ["running"]}, {"state": "gone"}])
def test_a_state_that_is_none_is_refused_with_its_file(folder, status):
    with pytest.raises(ConfigurationError, match=r"status\.json has the state .*expected one of \['submitted'"):
        folder(status).status()


@pytest.mark.parametrize("name", ["pid", "step", "started", "message", "host", "exit_code", "env_steps"])
def test_a_fact_of_another_kind_is_refused_with_its_file_and_name(folder, name):
    with pytest.raises(ConfigurationError, match=rf"status\.json: {name} is \[3\], expected"):
        folder({**STATUS, name: [3]}).status()


@pytest.mark.parametrize("program", [None, 3, [], {**PROGRAM, "checkpoints": "**x"}, {**PROGRAM, "checkpoints": 3}])
def test_a_description_of_checkpoints_that_is_none_is_refused_with_its_file(folder, program):
    with pytest.raises(ConfigurationError, match=r"job\.json: (program|checkpoints) is "):
        folder(program=program).status()


def test_a_program_may_have_no_checkpoints(folder):
    assert folder(program={"checkpoints": "", "complete": ""}).status().checkpoint is None


def test_whatever_the_files_hold_there_is_a_status_or_an_error_of_ours(folder):
    rng = random.Random(0)
    for _ in range(300):
        status = {**STATUS, rng.choice([*STATUS, "env_steps", "birth"]): rng.choice(VALUES)}
        program = {**PROGRAM, rng.choice([*PROGRAM]): rng.choice(VALUES)} if rng.random() < 0.8 else rng.choice(VALUES)
        with contextlib.suppress(ConfigurationError):
            folder(status, program=program).status().to_dict()
