"""A monitor that sees a representation collapse says so, and changes nothing about the training."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from worldflux.core.errors import BufferError, ConfigurationError
from worldflux.core.state import State
from worldflux.training import Callback, CollapseMonitor, CollapseWarning, Trainer, TrainingConfig

STEPS = 12


class Recorder(Callback):
    """Keeps what is logged."""

    def __init__(self):
        self.records = []

    def on_log(self, trainer, record):
        self.records.append(dict(record))


class Short:
    """A source with no sequence of more than ten rows."""

    def __init__(self, source):
        self.source, self.requests = source, []

    def sample(self, request):
        self.requests.append(request)
        if request.seq_len > 10:
            raise BufferError("too long")
        return self.source.sample(request)


@pytest.fixture
def trained(toy, tmp_path):
    """A trainer after twelve updates of a model whose latent is its observation, times ``scale`` of the step."""

    def train(monitor, *, scale=lambda step: 1.0, named=("latent",), steps=STEPS, resume_from=None, name="run"):
        class Seeing(toy.ToyModel):
            representation = named

            def encode(self, obs, deterministic=False):
                assert not self.training and deterministic
                torch.rand(())  # what draws from the global generator must not be noticed either
                return State({"latent": obs["obs"] * scale(int(self.updates))})

        recorder = Recorder()
        config = TrainingConfig(
            total_steps=steps, batch_size=4, sequence_length=6, log_interval=2, output_dir=str(tmp_path / name)
        )
        callbacks = [recorder, *([] if monitor is None else [monitor])]
        trainer = Trainer(Seeing(), config, callbacks)
        trainer.train(toy.NoiseSource(), resume_from=resume_from)
        return trainer, [record for record in recorder.records if "collapse/std" in record]

    return train


@pytest.fixture
def monitor(toy):
    return lambda **options: CollapseMonitor(
        toy.NoiseSource(7), **{"sequences": 32, "share": 1.0, "warmup": 0, **options}
    )


def test_the_measures_are_logged_at_every_interval_and_at_the_end(trained, monitor):
    _, records = trained(monitor(interval=5))
    assert [record["step"] for record in records] == [5, 10, 12]
    assert {"collapse/rankme", "collapse/pooled/std", "collapse/within_ratio"} <= set(records[0])
    assert records[0]["collapse/std"] == records[1]["collapse/std"] == pytest.approx(1, abs=0.1)


def test_what_is_measured_is_long_enough_for_something_to_move(toy, trained):
    long, short = toy.NoiseSource(7), Short(toy.NoiseSource(7))
    for source, asked in ((long, [16]), (short, [16, 6])):
        trained(CollapseMonitor(source, sequences=32, share=1.0), name=f"run{len(asked)}")
        assert [request.seq_len for request in source.requests] == asked


def test_several_tensors_are_logged_by_name(trained, monitor):
    trainer, records = trained(monitor(names=("latent",)), named=())
    assert len(records) == STEPS // 2 and trainer.status == "finished"


def test_a_healthy_representation_is_not_warned_of(trained, monitor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watching = monitor()
        trained(watching)
    assert watching.alarms == []


def test_collapse_is_warned_of_once_after_so_many_measurements_in_a_row(trained, monitor):
    with pytest.warns(CollapseWarning, match="by step 8 .3 measurements in a row.. latent: its numbers") as warned:
        trainer, _ = trained(monitor(patience=3), scale=lambda step: 1.0 if step < 3 else 0.01)
    assert len(warned) == 1 and trainer.step == STEPS


def test_what_is_measured_before_anything_is_learnt_is_not_warned_of(trained, monitor):
    with pytest.warns(CollapseWarning, match="by step 10 "):
        trained(monitor(patience=2, warmup=7), scale=lambda step: 0.0)


def test_a_representation_that_recovers_is_not_warned_of(trained, monitor):
    trained(monitor(patience=2), scale=lambda step: 0.01 if step % 4 == 0 else 1.0)


def test_aborting_ends_the_training_with_the_reason(trained, monitor):
    with pytest.warns(CollapseWarning):
        trainer, _ = trained(monitor(patience=2, abort=True), scale=lambda step: 0.0)
    assert trainer.step == 4 and trainer.status == "finished" and "has collapsed" in trainer.stop_reason


def test_the_training_is_the_same_without_it(trained, monitor):
    with_it, _ = trained(monitor(), name="with")
    without, _ = trained(None, name="without")
    for name, value in with_it.model.state_dict().items():
        assert torch.equal(value, without.model.state_dict()[name]), name


def test_a_resumed_run_goes_on_counting(trained, monitor, tmp_path):
    trained(monitor(patience=4), scale=lambda step: 0.0, steps=6)
    with pytest.warns(CollapseWarning, match="by step 8"):
        trained(monitor(patience=4), scale=lambda step: 0.0, steps=8, resume_from=tmp_path / "run")


def test_measuring_keeps_within_its_share_of_the_time(trained, monitor, monkeypatch):
    monkeypatch.setattr("worldflux.training.collapse.FREE", 0.0)
    _, records = trained(monitor(share=1e-9))
    assert [record["step"] for record in records] == [2]


def test_latents_that_are_no_numbers_are_an_alarm(trained, monitor):
    with pytest.warns(CollapseWarning, match="latent: its latents are not finite numbers"):
        trained(monitor(patience=1), scale=lambda step: np.nan)


def test_a_model_without_a_representation_is_refused(trained, monitor):
    with pytest.raises(ConfigurationError, match=r"names no representation.*CollapseMonitor\(data, names="):
        trained(monitor(), named=())


@pytest.mark.parametrize(
    ("option", "value"), [("sequences", 1), ("sequences", True), ("rows", 1), ("patience", 0), ("share", 0.0)]
)
def test_options_that_measure_nothing_are_refused(option, value):
    with pytest.raises(ConfigurationError, match=f"{option} is .*expected"):
        CollapseMonitor([], **{option: value})


def test_without_data_or_a_replay_there_is_nothing_to_measure(trained):
    with pytest.raises(ConfigurationError, match="NoiseSource has no replay: CollapseMonitor.data."):
        trained(CollapseMonitor())
