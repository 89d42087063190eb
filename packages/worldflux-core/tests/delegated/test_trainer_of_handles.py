"""Handles submit and follow jobs; ``Trainer`` on a handle does the same by its config."""

from __future__ import annotations

import sys

import pytest
import torch

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.core.registry import WorldModelRegistry
from worldflux.delegated import OfficialBackendHandle
from worldflux.training import Trainer, TrainingConfig


@pytest.fixture
def adapters(monkeypatch, backend):
    """Backends by id, as plugins would provide them."""
    known = {"toy_flags": lambda: backend, "toy_wrong": object}
    monkeypatch.setattr(WorldModelRegistry, "_loader", lambda kind, name: known[name] if kind == "backend" else None)
    return known


def test_a_handle_submits_follows_and_cancels_its_job(adapters, handle, checkout, tmp_path, eventually):
    run = {"run_dir": tmp_path / "run"}
    job = handle.submit(task="await", python=sys.executable, checkout=checkout, training={"seed": 5}, **run)
    assert job.description["request"]["training"] == {"seed": 5}
    later = OfficialBackendHandle(handle.backend, handle.model_id)  # as in another process
    assert later.job(**run).run_dir == job.run_dir
    assert later.status(**run).state == "running"
    assert eventually(lambda: later.logs(1, **run)).startswith("Logdir")
    assert later.cancel(5, **run).state == "cancelled"
    assert later.wait(**run).state == "cancelled"


def test_a_handle_says_what_its_program_cannot_follow(adapters, handle, checkout, tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot follow TrainingConfig.batch_size"):
        handle.submit(task="x", run_dir=tmp_path / "run", training={"batch_size": 3})
    with pytest.raises(TypeError, match="env_step"):
        handle.submit(task="x", run_dir=tmp_path / "run", env_step=3)
    with pytest.raises(ConfigurationError, match="holds no delegated job"):
        handle.status(run_dir=tmp_path)


def test_the_handle_of_a_model_in_this_process_says_train():
    with pytest.raises(ConfigurationError, match=r"'toy:ci' is trained in this process: Trainer\(model\).train"):
        OfficialBackendHandle("native_torch", "toy:ci").submit(task="x")


def test_a_trainer_submits_follows_and_cancels_a_handle(adapters, handle, checkout, tmp_path, eventually):
    config = TrainingConfig(output_dir=str(tmp_path / "run"), seed=5)
    job = Trainer(handle, config).submit(task="await", env_steps=30, python=sys.executable, checkout=checkout)
    assert job.description["request"]["training"] == {"seed": 5}
    later = Trainer(handle, config)  # as in another process
    assert later.status().state == "running"
    assert eventually(lambda: later.logs(1)).startswith("Logdir")
    assert later.cancel(5).state == "cancelled"
    assert later.wait().state == "cancelled"


def test_what_was_not_set_is_left_to_the_program(adapters, handle, checkout, tmp_path):
    trainer = Trainer(handle, TrainingConfig(output_dir=str(tmp_path / "run")))
    job = trainer.submit(task="finish", python=sys.executable, checkout=checkout)
    assert job.description["request"]["training"] == {}
    assert job.wait(240).state == "finished"


def test_a_handle_is_not_trained_here(handle):
    with pytest.raises(ValueError, match=r"trained by the official program of backend 'toy_flags': call submit\(task"):
        Trainer(handle).train(source=None)


def test_before_it_is_submitted_there_is_no_job(handle, tmp_path):
    with pytest.raises(ConfigurationError, match="holds no delegated job"):
        Trainer(handle, TrainingConfig(output_dir=str(tmp_path))).status()


def test_a_subclass_of_trainer_takes_a_handle_too(adapters, handle, checkout, tmp_path):
    class Mine(Trainer):
        pass

    trainer = Mine(handle, TrainingConfig(output_dir=str(tmp_path / "run")))
    assert isinstance(trainer, Mine)
    assert trainer.submit(task="finish", python=sys.executable, checkout=checkout).wait(240).state == "finished"
    assert trainer.status().state == "finished"


def test_a_config_of_another_kind_is_named(handle):
    with pytest.raises(ConfigurationError, match="config is a dict, expected a TrainingConfig"):
        Trainer(handle, {"seed": 1})


def test_a_handle_takes_no_callbacks(handle):
    with pytest.raises(ConfigurationError, match="takes a TrainingConfig only"):
        Trainer(handle, None, [])


def test_an_adapter_of_another_kind_is_named(adapters):
    with pytest.raises(ConfigurationError, match="the adapter of backend 'toy_wrong' is .*SubprocessBackend"):
        Trainer(OfficialBackendHandle("toy_wrong", "toy:official")).submit(task="x")


class Plain(WorldModel):
    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def loss(self, batch):
        return None


@pytest.mark.parametrize("call", ["submit", "logs", "cancel"])
def test_a_model_of_this_process_says_train(call):
    trainer = Trainer(Plain(WorldModelConfig()))
    with pytest.raises(ValueError, match=r"call train\(source\)"):
        getattr(trainer, call)()
    assert trainer.status == "new"
