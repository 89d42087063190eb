"""What is missing is said before anything starts: what was given, what was expected, what to do."""

from __future__ import annotations

import shutil
import sys

import pytest

from worldflux.core.errors import ConfigurationError, TrainingError
from worldflux.delegated import MetricsSource


def refused(submit, tmp_path, message, error=ConfigurationError, **options):
    with pytest.raises(error, match=message):
        submit(**options)
    assert not (tmp_path / "run").exists()


def test_an_interpreter_must_be_named(submit, tmp_path):
    refused(submit, tmp_path, "none is named: pass python=.* or set WORLDFLUX_TOY_PYTHON", python=None)


def test_an_interpreter_must_exist(submit, tmp_path, monkeypatch):
    refused(submit, tmp_path, "python is '/nowhere/python', which is no executable file", python="/nowhere/python")
    monkeypatch.setenv("WORLDFLUX_TOY_PYTHON", str(tmp_path))
    refused(submit, tmp_path, "WORLDFLUX_TOY_PYTHON is .* no executable file", python=None)


@pytest.mark.parametrize("body", ["exit 3", "echo not json"])
def test_an_interpreter_must_be_a_python(submit, tmp_path, body):
    false = tmp_path / "false"
    false.write_text(f"#!/bin/sh\n{body}\n")
    false.chmod(0o755)
    refused(submit, tmp_path, "does not run as a Python interpreter", python=false)


def test_a_checkout_must_be_named(submit, tmp_path):
    expected = "none is named: git clone https://example.org/toy, then pass checkout=.* or set WORLDFLUX_TOY_CHECKOUT"
    refused(submit, tmp_path, expected, checkout=None)


def test_a_checkout_must_be_one(submit, tmp_path):
    refused(submit, tmp_path, "which is no folder; expected a checkout", checkout=tmp_path / "nowhere")
    refused(submit, tmp_path, "which lacks toy/main.py; expected a checkout of https://example.org", checkout=tmp_path)


def test_modules_must_be_there(submit, tmp_path, backend):
    backend.modules = ("json", "toy_jax", "toy_jax.nested", "json.absent")
    refused(
        submit, tmp_path, "cannot import toy_jax, toy_jax.nested, json.absent, which.*-m pip install -r .*/checkout"
    )


def test_environment_variables_stand_in_for_arguments(submit, tmp_path, checkout, monkeypatch):
    monkeypatch.setenv("WORLDFLUX_TOY_PYTHON", sys.executable)
    monkeypatch.setenv("WORLDFLUX_TOY_CHECKOUT", str(checkout))
    job = submit(python=None, checkout=None, env_steps=10)
    assert job.wait(240).state == "finished"


def test_an_argument_goes_before_the_variable(submit, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDFLUX_TOY_CHECKOUT", str(tmp_path / "nowhere"))
    assert submit(env_steps=10).wait(240).state == "finished"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "impossible"}, "no such task"),
        ({"env_steps": 0}, "env_steps is 0, expected at least 1"),
        ({"training": {"total_steps": 5}}, r"cannot follow TrainingConfig.total_steps.*submit\(env_steps="),
        ({"training": {"sedd": 5}}, "cannot follow TrainingConfig.sedd.*Did you mean 'seed'"),
        ({"options": {"x": object()}}, "options and env take text, numbers"),
    ],
)
def test_what_the_program_cannot_do_is_refused(submit, tmp_path, options, message):
    refused(submit, tmp_path, message, **options)


def test_a_place_that_cannot_be_written_is_refused(submit, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot write to output_dir"):
        submit(run_dir=tmp_path / "file" / "run")


def test_a_supervisor_that_does_not_start_is_told(submit, monkeypatch):
    python = sys.executable
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(TrainingError, match="the supervisor of the job in .* did not start"):
        submit(python=python)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "yaml"}, "format is 'yaml', expected one of jsonl, csv, lines"),
        ({"format": "lines"}, "'lines' needs one"),
        ({"pattern": "(?P<a>x)"}, "'lines' needs one"),
        ({"format": "lines", "pattern": "x"}, "has no named group"),
    ],
)
def test_a_source_of_metrics_is_checked(options, message):
    with pytest.raises(ConfigurationError, match=message):
        MetricsSource("x", **options)
