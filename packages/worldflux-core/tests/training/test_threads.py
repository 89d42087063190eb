"""With how many threads a training computes, on a machine whose speed a clock of our own decides."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.training import Trainer, TrainingConfig, threads as module
from worldflux.training.threads import ORDER, WARM_UP, Threads, using

TRIAL = WARM_UP + len(ORDER)


@pytest.fixture
def machine(monkeypatch):
    """Four threads, and updates that take as long as ``speed(threads)`` says."""

    class Machine:
        now = 0.0
        used: list[int] = []

        def run(self, threads, speed, updates=TRIAL, left=10_000):
            self.used = []
            with threads:
                for _ in range(updates):
                    with threads.update(left=left):
                        self.used.append(torch.get_num_threads())
                        taken = speed(self.used[-1])
                        self.now += taken
            return threads.count

    before, machine = torch.get_num_threads(), Machine()
    torch.set_num_threads(4)
    monkeypatch.setattr(module.time, "perf_counter", lambda: machine.now)
    yield machine
    assert torch.get_num_threads() == 4
    torch.set_num_threads(before)


def auto():
    return Threads("auto", on_cpu=True)


@pytest.mark.parametrize(("gain", "count"), [(2.0, 4), (1.2, 4), (1.05, 1), (0.9, 1)])
def test_all_threads_are_kept_only_where_they_are_clearly_faster(machine, gain, count):
    threads = auto()
    assert machine.run(threads, lambda n: 0.2 / (gain if n == 4 else 1)) == count
    assert machine.used[:WARM_UP] == [1] * WARM_UP and machine.used.count(4) == len(ORDER) // 2
    machine.run(threads, lambda n: 0.1, updates=3)
    assert machine.used == [count] * 3


def test_one_slow_update_does_not_decide(machine):
    slow = iter([0.2] * 6 + [5.0] + [0.2] * 60)
    assert machine.run(auto(), lambda n: next(slow) / (2 if n == 4 else 1)) == 4


def test_threads_that_wait_for_one_another_are_not_tried_for_long(machine):
    assert machine.run(auto(), lambda n: 0.1 if n == 1 else 5.0) == 1
    assert machine.used.count(4) == 1


@pytest.mark.parametrize("second", [0.002, 2.0])
def test_a_trial_is_of_so_many_updates_however_fast_they_are(machine, second):
    threads = auto()
    machine.run(threads, lambda n: second / n, updates=TRIAL - 1, left=10**5)
    assert not threads.state_dict()["settled"]
    assert machine.run(threads, lambda n: second / n, updates=1, left=10**5) == 4


def test_a_trial_that_was_saved_at_its_last_update_is_made_again(machine):
    first, second = auto(), auto()
    machine.run(first, lambda n: 0.3 / n, updates=TRIAL - 1)
    second.load_state_dict(first.state_dict())
    assert machine.run(second, lambda n: 0.3 / n, updates=1 + len(ORDER)) == 4


def test_a_training_of_seconds_tries_nothing_until_there_is_more_to_do(machine):
    threads = auto()
    machine.run(threads, lambda n: 0.1, updates=50, left=50)
    assert set(machine.used) == {1}
    assert machine.run(threads, lambda n: 0.2 / n, updates=2 * TRIAL) == 4


def test_updates_that_become_slower_are_tried_again_with_one_thread_and_said_why(machine, caplog):
    threads = auto()
    machine.run(threads, lambda n: 0.3 / n, updates=TRIAL + 50)
    assert threads.count == 4 and not caplog.records
    with caplog.at_level(logging.WARNING):
        machine.run(threads, lambda n: 0.3 if n == 1 else 6.0, updates=30)
    assert threads.count == 1
    (record,) = caplog.records
    assert "80.0 times as long as they did (load average" in record.getMessage()


def test_one_thread_that_becomes_slow_is_said_once_and_kept(machine, caplog):
    threads = auto()
    machine.run(threads, lambda n: 0.3)
    machine.run(threads, lambda n: 0.3, updates=20)
    machine.run(threads, lambda n: 2.0, updates=40)
    assert threads.count == 1 and machine.used == [1] * 40
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_moment_of_fast_updates_that_are_slow_changes_nothing(machine):
    threads = auto()
    machine.run(threads, lambda n: 0.04 / n, updates=400)
    machine.run(threads, lambda n: 0.1, updates=20)
    machine.run(threads, lambda n: 0.04 / n, updates=300)
    assert machine.used == [4] * 300


def test_what_happens_elsewhere_does_not_count(machine):
    threads = auto()

    def speed(n):
        with threads.elsewhere():
            machine.now += 9.0 if n == 4 else 0.1
        return 0.3 / n

    assert machine.run(threads, speed) == 4


def test_a_number_is_used_for_every_update(machine):
    threads = Threads(3, on_cpu=True)
    assert machine.run(threads, lambda n: 0.1) == 3 and machine.used == [3] * TRIAL


def test_an_accelerators_training_keeps_the_threads_there_are(machine):
    assert machine.run(Threads("auto", on_cpu=False), lambda n: 0.1) == 4 and machine.used == [4] * TRIAL


@pytest.mark.parametrize("saved_after", [1, TRIAL // 2, TRIAL, TRIAL + 5])
def test_a_resumed_training_computes_with_the_same_threads(machine, saved_after):
    def speed(n):
        return 0.3 / n

    whole, first, second = auto(), auto(), auto()
    machine.run(whole, speed, updates=TRIAL + 10)
    expected = machine.used[saved_after:]
    machine.run(first, speed, updates=saved_after)
    torch.set_num_threads(2)  # of another machine
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    torch.set_num_threads(4)
    machine.run(second, speed, updates=TRIAL + 10 - saved_after)
    assert machine.used == expected and second.count == whole.count == 4


def test_a_number_that_is_asked_for_when_resuming_is_taken(machine):
    threads, saved = Threads(2, on_cpu=True), auto()
    machine.run(saved, lambda n: 0.3 / n)
    threads.load_state_dict(saved.state_dict())
    assert machine.run(threads, lambda n: 0.1) == 2


def test_what_is_not_trained_uses_one_thread_unless_told(machine):
    for asked, expected in (("auto", 1), (3, 3)):
        with using(asked):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 4


@pytest.mark.parametrize("wrong", [0, -1, "two", 1.5, None])
def test_threads_that_are_none_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="threads"):
        TrainingConfig(threads=wrong)


def test_a_run_tells_its_threads_and_a_checkpoint_keeps_them(toy, tmp_path):
    before = torch.get_num_threads()
    trainer = Trainer(toy.ToyModel(), toy.options(tmp_path, threads=2, total_steps=2))
    trainer.train(toy.NoiseSource())
    assert json.loads((tmp_path / "run_manifest.json").read_text())["threads"] == 2
    state = json.loads((trainer.last_checkpoint / "state.json").read_text())
    assert state["threads"]["count"] == 2 and torch.get_num_threads() == before
