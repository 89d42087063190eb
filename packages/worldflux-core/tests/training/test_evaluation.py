"""Evaluating while training: when, for how long, and what a signal leaves of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.training import CollectConfig, EvalCallback, evaluation as module
from worldflux.training.signals import StopSignals


def records(directory: Path) -> list[dict[str, float]]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if "eval/seconds" in record]


class Clock:
    """Time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr("worldflux.training.trainer.time", clock)
    return clock


def run(toy, directory: Path, clock: Clock, *, update: float, evaluation: float, share: float = 0.2, steps: int = 20):
    class Slow(toy.NoiseSource):
        def sample(self, request):
            clock.now += update
            return super().sample(request)

    def evaluate(trainer) -> dict[str, float]:
        clock.now += evaluation
        return {"return": 1.0}

    config = toy.options(directory, total_steps=steps, save_interval=0)
    trainer = toy.Trainer(toy.ToyModel(), config, [EvalCallback(evaluate, interval=1, share=share)])
    trainer.train(Slow())
    return trainer


def test_evaluations_take_no_more_than_their_share_and_the_log_says_so_once(toy, tmp_path, clock, caplog):
    caplog.set_level("INFO")
    trainer = run(toy, tmp_path, clock, update=10, evaluation=20)
    assert [record["step"] for record in records(tmp_path)] == [1, 16]  # 40 of 200 seconds
    assert (trainer.seconds, trainer.eval_seconds) == (200, 40)
    assert "no evaluation at step 2: it would take about 20.0 s" in caplog.text
    assert caplog.text.count("no evaluation at step") == 1
    assert "their share of 0.2" in caplog.text


@pytest.mark.parametrize("options", [{"share": 1, "evaluation": 20.0}, {"share": 0.001, "evaluation": 0.01}])
def test_all_of_the_time_or_next_to_none_leaves_nothing_out(toy, tmp_path, clock, options):
    run(toy, tmp_path, clock, update=0.01, steps=4, **options)
    assert len(records(tmp_path)) == 4


def test_what_is_left_out_changes_nothing_about_the_training(toy, tmp_path, clock):
    few, many = (run(toy, tmp_path / str(n), clock, update=1, evaluation=n, steps=5) for n in (100, 0))
    assert len(records(tmp_path / "100")) < len(records(tmp_path / "0"))
    for name, value in few.model.state_dict().items():
        assert value.equal(many.model.state_dict()[name])


def test_its_time_stands_in_the_record_and_in_the_manifest_and_is_kept_on_resume(toy, tmp_path, clock):
    run(toy, tmp_path, clock, update=10, evaluation=20, steps=3)
    assert records(tmp_path)[0]["eval/seconds"] == 20
    manifest = json.loads((tmp_path / "run_manifest.json").read_text())
    assert (manifest["seconds"], manifest["eval_seconds"]) == (30, 20)
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=3))
    trainer.load_checkpoint(tmp_path)
    assert trainer.eval_seconds == 20


def test_environment_steps_are_counted_from_the_first_but_nothing_is_evaluated_before_an_update(toy, tmp_path):
    at = []

    def evaluate(trainer) -> dict[str, float]:
        at.append((trainer.step, trainer.env_steps))
        return {"return": 0.0}

    model, config = toy.ToyModel(), toy.options(tmp_path, save_interval=0)
    collect = CollectConfig(replay_ratio=2.0, replay_capacity=200, min_rows=30)
    env = toy.make_env(toy.Walk, num_envs=2)
    source = toy.environment_source(model, env, training=config, collect=collect, policy=toy.Pusher(model))
    toy.Trainer(model, config, [EvalCallback(evaluate, env_steps=20)]).train(source)
    first = at[0][1]
    assert [steps // 20 for _, steps in at] == [*range(first // 20, source.env_steps // 20 + 1)]
    assert at[0][0] > 1


def test_an_evaluation_that_a_signal_interrupts_is_made_when_the_run_goes_on(toy, tmp_path):
    def evaluate(trainer) -> dict[str, float]:
        if trainer.step == 4 and not (tmp_path / "asked").exists():
            (tmp_path / "asked").touch()
            os.kill(os.getpid(), signal.SIGTERM)
            with StopSignals() as signals:  # those of the training
                signals.check()
        return {"weights": float(trainer.model.head.weight.detach().sum())}

    def train(directory: Path, *, resume: bool = False):
        trainer = toy.Trainer(toy.ToyModel(), toy.options(directory), [EvalCallback(evaluate, interval=2)])
        trainer.train(toy.NoiseSource(), resume_from=directory if resume else None)
        return trainer

    stopped = train(tmp_path / "part")
    assert (stopped.status, stopped.step) == ("preempted", 4)
    assert [record["step"] for record in records(tmp_path / "part")] == [2]
    train(tmp_path / "part", resume=True)
    train(tmp_path / "whole")
    part, whole = ([(r["step"], r["eval/weights"]) for r in records(tmp_path / name)] for name in ("part", "whole"))
    assert part == whole


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="share is 0, expected a part of the time"):
        EvalCallback(lambda trainer: {}, share=0)
