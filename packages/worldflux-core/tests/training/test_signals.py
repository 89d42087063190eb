"""Being asked to stop, once and twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from worldflux.training.signals import Interrupted, StopSignals

HANGING = """
import contextlib, sys, time
from worldflux.training.signals import StopSignals
with StopSignals():
    try:
        print("hangs", flush=True)
        time.sleep(60)
    finally:
        if "closing" in sys.argv:
            time.sleep(60)
"""


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    for _ in range(3):  # Python runs a handler between bytecodes
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_for_those_who_ask(number, caplog) -> None:
    with StopSignals() as signals:
        signals.check()
        assert (signals.received, signals.exit_code) == (None, 0)
        send(number)
        assert (signals.received, signals.exit_code) == (number.name, 128 + number)
        with pytest.raises(Interrupted, match=number.name):
            signals.check()


def test_those_inside_one_another_are_one() -> None:
    with StopSignals() as outer:
        with StopSignals() as inner:
            send(signal.SIGTERM)
        assert outer.received == inner.received == "SIGTERM"
        assert signal.getsignal(signal.SIGTERM).__self__ is outer
    with StopSignals() as later:
        assert later.received is None


@pytest.mark.parametrize(("first", "second"), [(15, 15), (2, 15), (15, 2)])
def test_the_second_signal_ends_at_once_whichever_it_is(first: int, second: int) -> None:
    with StopSignals():
        send(first)
        with pytest.raises(SystemExit if second == 15 else KeyboardInterrupt):
            send(second)


@pytest.mark.parametrize("closing", [[], ["closing"]])
def test_a_process_that_hangs_ends_by_a_second_signal_and_says_so(closing: list[str], monkeypatch) -> None:
    code = HANGING.replace("with Stop", "from worldflux.training import signals; signals.GRACE = 0.3\nwith Stop")
    process = subprocess.Popen(
        [sys.executable, "-c", code, *closing], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "hangs\n"
    process.terminate()
    assert "SIGTERM: stopping at the next safe point" in process.stderr.readline()
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "SIGTERM after SIGTERM: ending at once" in err


def test_a_forked_worker_ends_by_one_sigterm_and_leaves_ctrl_c_to_its_parent() -> None:
    with StopSignals() as signals:
        worker = os.fork()
        if worker == 0:
            send(signal.SIGINT)
            send(signal.SIGTERM)
            os._exit(1)
        _, status = os.waitpid(worker, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        assert signals.received is None
