"""What a plugin does to the process while it is imported is undone; what cannot be undone is named."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from worldflux.core.errors import PluginError

MODULE = "colorsys"  # one of Python's own that nothing here needs
TAKES = {
    "a module away": f"import sys; sys.modules.pop({MODULE!r})\n",
    "a module's place": f"import sys; sys.modules[{MODULE!r}] = None\n",
    "stdout": "import io, sys; sys.stdout = sys.stderr = io.StringIO()\n",
    "os._exit": "import os; os._exit = print\n",
}


@pytest.mark.parametrize("case", TAKES)
def test_what_a_plugin_that_fails_takes_is_given_back(house, text, case):
    import colorsys

    before, streams, leave = house.snapshot(), (sys.stdout, sys.stderr), os._exit
    house.add_broken(code=text.hooks.head + TAKES[case] + "1 / 0\n")
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        house.kernel.ensure("model", "broken_world")
    assert sys.modules[MODULE] is colorsys
    assert ((sys.stdout, sys.stderr), os._exit) == (streams, leave)
    assert house.snapshot() == before
    house.still_works()


@pytest.mark.parametrize("case", ["a module away", "stdout", "os._exit"])
def test_and_so_it_is_after_one_that_works(house, text, case):
    import colorsys

    streams, leave = (sys.stdout, sys.stderr), os._exit
    house.add_broken(code=TAKES[case] + "".join(vars(text.hooks).values()))
    house.kernel.ensure("model", "broken_world")
    assert sys.modules[MODULE] is colorsys
    assert ((sys.stdout, sys.stderr), os._exit) == (streams, leave)


def test_the_end_of_the_process_is_kept_from_a_command_or_importer_as_well(house, text):
    manifest = text.model.format(id="broken_world") + text.extras.format(id="broken_world").replace(
        ":load", "_late:load"
    )
    house.add_broken(manifest=manifest.replace("broken_world.plugin_late", "broken_world.late"))
    (house.site.root / "broken_world" / "late.py").write_text("import os\nos._exit(3)\n")
    with pytest.raises(PluginError, match=r"cannot be loaded: it ends the process, by os._exit\(3\)"):
        house.kernel.target("importers", "official-broken_world")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_process_that_a_plugin_forks_may_end_itself(house, text):
    code = "import os\npid = os.fork()\nif pid == 0:\n    os._exit(5)\nstatus = os.waitpid(pid, 0)[1]\n"
    house.add_broken(code=code + "".join(vars(text.hooks).values()))
    house.kernel.ensure("model", "broken_world")
    assert os.waitstatus_to_exitcode(sys.modules["broken_world.plugin"].status) == 5


def test_what_kept_the_guarded_exit_can_use_it_later(house, text):
    code = "from os import _exit\n" + "".join(vars(text.hooks).values())
    house.add_broken(code=code)
    house.kernel.ensure("model", "broken_world")
    pid = os.fork() if hasattr(os, "fork") else pytest.skip("processes are not forked here")
    if pid == 0:
        sys.modules["broken_world.plugin"]._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_thread_that_is_left_and_keeps_the_program_from_ending_is_named(house, text):
    code = "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait, name='hum\\x1b').start()\n"
    house.add_broken(code=code + "".join(vars(text.hooks).values()))
    house.kernel.ensure("model", "broken_world")
    sys.modules["broken_world.plugin"].stop.set()
    assert house.broken.notes == [r"leaves a thread that keeps the program from ending: hum\x1b"]
    assert all(thread.name != "hum" for thread in threading.enumerate() if thread.daemon)
