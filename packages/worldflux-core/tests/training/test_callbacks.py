"""Callbacks: recorded lines, shown lines, evaluation, stopping early."""

from __future__ import annotations

import io
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.training import Callback, EarlyStopping, EvalCallback, JSONLCallback, ProgressCallback
from worldflux.training.progress import fitted, terminal_width


def records(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_every_record_is_one_json_object_with_step_time_losses_and_the_sources_metrics(toy, tmp_path: Path) -> None:
    model, config = toy.ToyModel(), toy.options(tmp_path)
    toy.Trainer(model, config).train(toy.walking(model, config))
    lines = records(tmp_path)
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    expected = {"step", "time", "env_steps", "loss", "loss/recon", "loss/size", "hidden", "grad_norm", "lr"}
    assert expected <= set(lines[-1])
    assert any("episode/return" in line for line in lines)
    assert lines[-1]["env_steps"] > lines[0]["env_steps"]


def test_a_record_is_the_mean_since_the_one_before(toy, tmp_path: Path) -> None:
    losses = []

    class Watch(Callback):
        def on_log(self, trainer, record) -> None:
            losses.append(record["loss"])

    for name, interval in (("each", 1), ("third", 3)):
        toy.Trainer(
            toy.ToyModel(), toy.options(tmp_path / name, log_interval=interval, total_steps=3), [Watch()]
        ).train(toy.items())
    assert losses[3] == pytest.approx(sum(losses[:3]) / 3)


def test_resuming_drops_lines_after_the_checkpoint_and_broken_ones(toy, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 3, "x": 1}\n{"step": 4}\n{"step": 7}\nnot json\n{"step": 1')
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path))
    trainer.step = 4
    JSONLCallback(path).on_train_begin(trainer)
    assert [line["step"] for line in records(tmp_path)] == [3, 4]


def test_a_line_that_cannot_be_written_is_a_warning(toy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "nowhere").mkdir()
    callback = JSONLCallback(tmp_path / "nowhere" / "missing" / "m.jsonl")
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "run", total_steps=3), [callback])
    trainer.train(toy.items())
    assert trainer.status == "finished"
    assert "step 3 is not recorded" in caplog.text


def test_numbers_that_are_none_stay_readable_json(toy, tmp_path: Path) -> None:
    callback = JSONLCallback(tmp_path / "metrics.jsonl")
    callback.on_log(toy.Trainer(toy.ToyModel(), toy.options(tmp_path)), {"step": 1, "x": float("nan")})
    assert records(tmp_path) == [{"step": 1, "x": "nan"}]


def test_arrays_and_tensors_of_one_number_are_recorded_as_numbers(toy, tmp_path: Path) -> None:
    values = {"a": np.float32(1.5), "b": torch.tensor(2.0), "c": np.int64(3), "d": np.array([4])}
    toy.Trainer(
        toy.ToyModel(), toy.options(tmp_path, total_steps=1), [EvalCallback(lambda _: values, interval=1)]
    ).train(toy.items())
    found = next(line for line in records(tmp_path) if "eval/a" in line)
    assert [found[f"eval/{name}"] for name in "abcd"] == [1.5, 2.0, 3, 4]


def test_an_evaluation_without_numbers_is_refused(toy, tmp_path: Path) -> None:
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path), [EvalCallback(lambda _: None, interval=1)])
    with pytest.raises(ConfigurationError, match="must return numbers by name, got NoneType"):
        trainer.train(toy.items())


def test_evaluation_runs_at_its_interval_in_evaluation_mode_and_is_recorded(toy, tmp_path: Path) -> None:
    modes = []

    def evaluate(trainer) -> dict[str, float]:
        modes.append(trainer.model.training)
        return {"return": 10.0 * trainer.step}

    config = toy.options(tmp_path, eval_interval=5)
    toy.Trainer(toy.ToyModel(), config, [EvalCallback(evaluate)]).train(toy.items())
    assert modes == [False, False]
    found = {line["step"]: line["eval/return"] for line in records(tmp_path) if "eval/return" in line}
    assert found == {5: 50.0, 10: 100.0}


def test_stopping_early_after_patience_and_saying_why(toy, tmp_path: Path) -> None:
    class Flat(Callback):
        def on_step_end(self, trainer) -> None:
            trainer.log({"score": min(trainer.step, 3)})

    stopping = EarlyStopping(patience=4, min_delta=0.5, monitor="score", mode="max")
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=50), [stopping, Flat()])
    trainer.train(toy.items())
    assert (trainer.step, trainer.status) == (7, "finished")
    assert trainer.stop_reason == "score has not improved since step 3"
    assert trainer.last_checkpoint.name == "step-000007"


def test_a_resumed_run_remembers_what_callbacks_knew(toy, tmp_path: Path) -> None:
    first = EarlyStopping(patience=100)
    toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=6), [first]).train(toy.items())
    second = EarlyStopping(patience=100)
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=6), [second])
    trainer.train(toy.items(), resume_from=tmp_path)
    assert (second.best, second.best_step) == (first.best, first.best_step) != (float("inf"), 0)


def test_a_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'low', expected 'min' or 'max'"):
        EarlyStopping(mode="low")


def test_hooks_come_in_order_and_checkpoints_after_all_of_the_step(toy, tmp_path: Path) -> None:
    seen = []

    class Log(Callback):
        def on_train_begin(self, trainer) -> None:
            seen.append("begin")

        def on_step_begin(self, trainer) -> None:
            seen.append(f"step {trainer.step}")

        def on_log(self, trainer, record) -> None:
            seen.append("log")

        def on_step_end(self, trainer) -> None:
            seen.append(f"done {trainer.step}")

        def on_checkpoint(self, trainer, path) -> None:
            seen.append(path.name)

        def on_train_end(self, trainer) -> None:
            seen.append(trainer.status)

    config = toy.options(tmp_path, total_steps=2, save_interval=2, log_interval=2)
    toy.Trainer(toy.ToyModel(), config, [Log()]).train(toy.items())
    assert seen == ["begin", "step 0", "done 1", "step 1", "log", "done 2", "step-000002", "finished"]


def test_something_that_is_no_callback_is_refused(toy, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no Callback"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path), [print])


def test_off_a_terminal_progress_is_a_plain_line_now_and_then(toy, tmp_path: Path) -> None:
    stream = io.StringIO()
    model, config = toy.ToyModel(), toy.options(tmp_path, log_interval=1)
    trainer = toy.Trainer(model, config, [ProgressCallback(interval=0.0, stream=stream)])
    trainer.train(toy.walking(model, config))
    line = stream.getvalue().splitlines()[-2]
    for part in ("env step ", "update 12/12", "replay ratio 4", "updates/s", "env steps/s", "ETA 0:00", "return "):
        assert part in line
    assert stream.getvalue().splitlines()[-1].startswith("finished · ")


def test_on_a_terminal_progress_is_one_live_line(toy, tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = ProgressCallback(stream=stream)
    toy.Trainer(toy.ToyModel(), toy.options(tmp_path), [progress]).train(toy.items())
    lines = stream.getvalue().splitlines()
    assert "\x1b[" in stream.getvalue()  # drawn over, not one below the other
    assert "finished · update 12/12" in lines[-1]


def test_a_live_line_uses_the_width_of_the_terminal_and_drops_what_matters_least() -> None:
    line = "env step 1,000 · update 5/10 · replay ratio 128 · 9.6 updates/s, 57 env steps/s · ETA 0:01 · return 13"
    assert fitted(line, 200) == line
    assert fitted(line, 90) == "env step 1,000 · update 5/10 · 9.6 updates/s, 57 env steps/s · ETA 0:01 · return 13"
    assert fitted(line, 60) == "env step 1,000 · update 5/10 · ETA 0:01 · return 13"
    assert fitted(line, 10) == "env step 1"


def test_the_width_is_that_of_the_terminal_behind_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((123, 40)))
    with open(os.devnull) as stream:
        assert terminal_width(stream) == 123
    monkeypatch.setenv("COLUMNS", "77")
    assert terminal_width(io.StringIO()) == 77


def test_nothing_is_logged_at_a_level_that_shows_by_default(
    toy, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy.ToyModel, "save_pretrained", lambda self, path: path)
    with caplog.at_level(logging.WARNING):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path)).train(toy.items())
    assert caplog.records == []


def test_every_checkpoint_is_announced_with_its_path(toy, tmp_path, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("worldflux.core.events.listeners", [lambda *event, **facts: told.append((event, facts))])
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1))
    trainer.train(toy.NoiseSource())
    assert told == [(("checkpoint_saved", trainer.model), {"path": trainer.last_checkpoint})]
