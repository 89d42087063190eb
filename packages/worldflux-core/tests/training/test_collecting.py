"""What is collected is not lost: interrupted between environment steps, and saved before the first update."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from worldflux.core.errors import TrainingError
from worldflux.data.storage import load_arrays
from worldflux.training import CheckpointCallback, CollectConfig, find_checkpoint


def source_of(toy, model, config, **changes):
    collect = CollectConfig(**{"replay_ratio": 2.0, "replay_capacity": 200, "min_rows": 30, **changes})
    env = toy.make_env(toy.Walk, num_envs=2)
    return toy.environment_source(model, env, training=config, collect=collect, policy=toy.Pusher(model))


def train(toy, directory: Path, *callbacks, resume: bool = False, collect=None, **changes):
    model, config = toy.ToyModel(), toy.options(directory, **{"total_steps": 6, "save_interval": 100, **changes})
    trainer = toy.Trainer(model, config, callbacks)
    trainer.train(source_of(toy, model, config, **(collect or {})), resume_from=directory if resume else None)
    return trainer


def everything(checkpoint: Path) -> dict[str, bytes]:
    """Every file of a checkpoint but those with times in them."""
    files = (path for path in checkpoint.rglob("*") if path.is_file())
    return {p.name: p.read_bytes() for p in files if p.name not in ("state.json", "manifest.json")}


def at(toy, env_steps: int, act):
    class At(toy.Callback):
        def on_collect(self, trainer) -> None:
            if trainer.env_steps >= env_steps:
                act()

    return At()


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.001)  # Python runs a handler between bytecodes


def kill() -> None:
    raise KeyboardInterrupt


MOMENTS = pytest.mark.parametrize(
    ("env_steps", "changes"),
    [(0, {}), (14, {}), (60, {}), (60, {"gradient_accumulation_steps": 2}), (14, {"collect": {"random_steps": 26}})],
    ids=["before the first", "first rows", "later", "micro-batches", "random rows"],
)


@MOMENTS
def test_a_run_interrupted_while_it_collects_goes_on_bit_for_bit(toy, tmp_path: Path, env_steps, changes) -> None:
    whole = train(toy, tmp_path / "whole", **changes)
    stopped = train(toy, tmp_path / "part", at(toy, env_steps, sigterm), **changes)
    assert stopped.status == "preempted"
    assert env_steps <= stopped.env_steps <= env_steps + 2 * changes.get("gradient_accumulation_steps", 1) * 10
    resumed = train(toy, tmp_path / "part", resume=True, **changes)
    assert resumed.env_steps == whole.env_steps
    assert everything(resumed.last_checkpoint) == everything(whole.last_checkpoint)


def test_it_stops_within_an_environment_step(toy, tmp_path: Path) -> None:
    assert train(toy, tmp_path, at(toy, 14, sigterm)).env_steps == 14 + 2  # of the step at hand, in both environments
    manifest = json.loads((tmp_path / "run_manifest.json").read_text())
    assert (manifest["status"], manifest["step"], manifest["env_steps"]) == ("preempted", 0, 16)


def test_the_rows_before_the_first_update_are_saved_once_they_are_complete(toy, tmp_path: Path) -> None:
    class Killed(toy.Callback):
        def on_step_end(self, trainer) -> None:
            raise KeyboardInterrupt

    whole = train(toy, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(toy, tmp_path / "part", Killed())
    assert find_checkpoint(tmp_path / "part").name == "step-000000"
    _, state = load_arrays(find_checkpoint(tmp_path / "part") / "replay")
    assert state["started"]
    assert state["env_steps"] >= 30
    resumed = train(toy, tmp_path / "part", resume=True)
    assert everything(resumed.last_checkpoint) == everything(whole.last_checkpoint)


def test_no_checkpoint_is_made_where_none_is_wanted(toy, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(toy, tmp_path, at(toy, 60, kill), save_interval=0)
    assert not list(tmp_path.glob("checkpoints/step-*"))


def test_saving_by_environment_steps_begins_with_the_first_of_them(toy, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    class Watch(toy.Callback):
        def on_checkpoint(self, trainer, path) -> None:
            seen.append((trainer.step, trainer.env_steps))

    trainer = train(toy, tmp_path, Watch(), CheckpointCallback(env_steps=20), total_steps=6)
    collected = max(env_steps for step, env_steps in seen if step == 0)  # what the first update waited for
    assert [at for _, at in seen] == [20, collected, *range(40, trainer.env_steps, 20), trainer.env_steps]
    assert 30 <= collected < 40 < 80 < trainer.env_steps


def test_a_family_that_catches_up_is_saved_while_it_does(toy, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    class Watch(toy.Callback):
        def on_checkpoint(self, trainer, path) -> None:
            seen.append((trainer.step, trainer.env_steps))

    trainer = train(
        toy,
        tmp_path,
        Watch(),
        CheckpointCallback(env_steps=10),
        collect={"catch_up": True, "min_rows": 50},
        total_steps=4,
    )
    assert trainer.source.replayed_steps < trainer.env_steps  # it makes up for the first rows throughout
    assert [step for step, _ in seen if step] == [1, 2, 3, 4]


def test_a_replaced_checkpoint_is_found_whenever_its_writer_dies(toy, tmp_path: Path) -> None:
    train(toy, tmp_path, total_steps=1)
    folder = tmp_path / "checkpoints"
    (folder / "step-000001").rename(folder / ".step-000001.old-1f")  # the new one is not in its place yet
    assert find_checkpoint(tmp_path).name == ".step-000001.old-1f"
    resumed = train(toy, tmp_path, resume=True, total_steps=1)
    assert resumed.step == 1
    assert sorted(path.name for path in folder.glob("*step-*")) == ["step-000000", "step-000001"]


def test_what_an_environment_that_fails_had_collected_is_kept_once_there_is_a_checkpoint(toy, tmp_path: Path) -> None:
    class Fails(toy.Walk):
        def step(self, action):
            if self.np_random.random() < 0.02:
                raise RuntimeError("a broken joint")
            return super().step(action)

    model, config = toy.ToyModel(), toy.options(tmp_path)
    collect = CollectConfig(replay_ratio=2.0, replay_capacity=2000, min_rows=1000)
    env = toy.make_env(Fails, num_envs=2)
    source = toy.environment_source(model, env, training=config, collect=collect, policy=toy.Pusher(model))
    with pytest.raises(TrainingError, match="a broken joint"):
        toy.Trainer(model, config, [CheckpointCallback(env_steps=4)]).train(source)
    _, state = load_arrays(find_checkpoint(tmp_path) / "replay")
    assert state["env_steps"] == source.env_steps


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_while_a_checkpoint_is_written_leaves_a_whole_one(toy, tmp_path: Path, signals: int) -> None:
    class Asks(toy.Callback):
        def state_dict(self) -> dict[str, object]:  # in the midst of writing
            if trainer.step == 4:
                for _ in range(signals):
                    sigterm()
            return {}

    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, save_interval=2), [Asks()])
    with contextlib.suppress(SystemExit):
        trainer.train(toy.NoiseSource())
    assert (trainer.step, trainer.status) == (4, "preempted" if signals == 1 else "failed")
    assert find_checkpoint(tmp_path).name == ("step-000004" if signals == 1 else "step-000002")
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_environments_that_end_by_the_signal_themselves_do_not_fail_the_run(toy, tmp_path: Path) -> None:
    class Broken(toy.Walk):
        def step(self, action):
            if self.np_random.random() < 0.05:
                sigterm()
                raise EOFError("the worker is gone")
            return super().step(action)

    model, config = toy.ToyModel(), toy.options(tmp_path)
    env = toy.make_env(Broken, num_envs=2)
    source = toy.environment_source(model, env, training=config, policy=toy.Pusher(model))
    trainer = toy.Trainer(model, config)
    trainer.train(source)
    assert trainer.status == "preempted"
    assert find_checkpoint(tmp_path) == trainer.last_checkpoint


def test_a_run_is_not_gone_on_with_to_where_it_has_been(toy, tmp_path: Path) -> None:
    train(toy, tmp_path, total_steps=6)
    with pytest.raises(ValueError, match="made after 6 updates, and it cannot go on to 4"):
        train(toy, tmp_path, resume=True, total_steps=4)
