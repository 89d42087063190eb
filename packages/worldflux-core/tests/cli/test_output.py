from __future__ import annotations

import io
import logging

import pytest

from worldflux.cli.output import narrated, report
from worldflux.core.errors import CapabilityError, CheckpointError, ConfigurationError, PluginError, TrainingError
from worldflux.experiment import Run, fit
from worldflux.experiment.settings import NoRunError


def test_what_is_logged_is_read_once_whoever_else_listens(capsys):
    """dm_control's absl puts a handler of its own on the root logger."""
    other = logging.StreamHandler(heard := io.StringIO())
    logging.getLogger().addHandler(other)
    try:
        with narrated():
            logging.getLogger("worldflux.data").info("a replay")
        logging.getLogger("worldflux.data").warning("afterwards")
    finally:
        logging.getLogger().removeHandler(other)
    assert capsys.readouterr().err == "a replay\n"
    assert heard.getvalue() == "afterwards\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoRunError("runs/x holds no run"), 2),
        (CapabilityError("it plans for rewards, which this model does not predict"), 2),
        (ConfigurationError("units is -1"), 2),
        (CheckpointError("model.safetensors is damaged"), 1),
        (PluginError("acme-world does not start"), 1),
        (TrainingError("the loss is not finite"), 1),
        (OSError("no space left"), 1),
    ],
)
def test_a_mistake_in_the_call_is_2_and_a_problem_that_was_found_1(capsys, error, code):
    assert report(error, as_json=False) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_run_that_is_not_there_is_a_mistake_in_the_call(tmp_path):
    with pytest.raises(NoRunError, match="holds no run"):
        Run.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is a file, expected the directory of a run"):
        fit("dreamer:ci", env="CartPole-v1", run=tmp_path / "file")
