"""What happens when a plugin is started: in a process of its own, after torch, so that all of it is the plugin's."""

from __future__ import annotations

from ..check import CheckSkipped, check, expect
from ..startup import Startup
from ..subject import Subject

IMPORT_SECONDS = 5.0


@check(level="imports")
def check_starts_and_registers_what_it_declares(subject: Subject) -> None:
    """The plugin starts, and registers exactly what its manifest declares."""
    seen = subject.startup
    shown = f"\n{seen.where}" if seen.where else ""
    expect(seen.outcome == "started", f"{subject.plugin.label} does not start: {seen.reason}{shown}")


@check(level="imports")
def check_starts_quickly(subject: Subject) -> None:
    """Starting the plugin takes less than 5 seconds."""
    seconds = _started(subject).seconds or 0.0
    expect(
        seconds < IMPORT_SECONDS,
        f"starting {subject.plugin.name} took {seconds:.1f} s, expected less than {IMPORT_SECONDS:g} s after torch is "
        "imported; import what is slow where it is used, and do no work at module level",
    )


@check(level="imports")
def check_prints_nothing_when_started(subject: Subject) -> None:
    """Starting the plugin writes nothing to stdout or stderr, warnings included."""
    printed = _started(subject).printed
    expect(not printed, f"starting {subject.plugin.name} prints {printed!r}; use logging, and warn when used")


@check(level="imports")
def check_leaves_global_state_alone(subject: Subject) -> None:
    """Starting the plugin changes no process-wide state: generators, torch's defaults, logging, os.environ, signals."""
    changed = _started(subject).changed
    shown = "; ".join(f"{name} ({change})" if change else name for name, change in changed.items())
    expect(not changed, f"starting {subject.plugin.name} changes {shown}; leave that to the program")


@check(level="imports")
def check_imports_no_other_family(subject: Subject) -> None:
    """Starting the plugin imports no package of another plugin: families stand on worldflux alone."""
    families = _started(subject).families
    expect(
        not families,
        f"starting {subject.plugin.name} imports {', '.join(families)}, of another plugin; ask for its parts by id, "
        "when they are used",
    )


@check(level="imports", since="1.1")
def check_formats_are_formats(subject: Subject) -> None:
    """Every format of the manifest has a name, ``detect`` and ``open``, and finds nothing in an empty folder."""
    seen = _started(subject)
    if not any(kind == "formats" for kind, _ in subject.plugin.ids):
        raise CheckSkipped("it declares no format")
    shown = "; ".join(f"{name}: {what}" for name, what in seen.formats.items())
    expect(not seen.formats, f"what {subject.plugin.name} registers as a format is none: {shown}")


def _started(subject: Subject) -> Startup:
    if subject.startup.outcome != "started":
        raise CheckSkipped("it does not start: see check_starts_and_registers_what_it_declares")
    return subject.startup
