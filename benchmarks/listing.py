"""How long ``worldflux models list`` takes over starting Python: as installed, and beside many plugins and presets.

Every command runs in a process of its own, in turns with the bare interpreter, so that whatever else the machine does
slows all of them alike. The least of each is what the command costs; the median says how busy the machine was.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from record import record

HEAD = """manifest_version = 1
name = "{name}"
plugin_api_version = "1.0"
worldflux_version_range = ">=0.1,<0.2"
capabilities = ["models", "components"]
[[models]]
id = "{id}"
capabilities = ["reward", "decode", "policy"]
"""
PRESET = """[models.presets.size{n}]
description = "A toy of size {n}"
params = "~{n}M"
default_obs = "vector"
maturity = "reference"
config = {{ width = 8, depth = 2, rate = 0.5 }}
"""
COMPONENT = '[[components]]\nid = "{id}.zero"\nslot = "action_conditioner"\n'
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: worldflux-core>=0.1,<0.2\n\n"
BARS = {"models list": 200, "models list, 200 more plugins": 400}  # milliseconds over the bare interpreter


def install(site: Path, *, plugins: int, presets: int) -> Path:
    """Lay as many plugin distributions into a folder, each with a family of as many presets and a component."""
    for n in range(plugins):
        id = "toy" + "".join(chr(ord("a") + int(digit)) for digit in f"{n:04d}")
        name, package, info = f"{id}-world", site / f"{id}_world", site / f"{id}_world-1.0.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / "__init__.py").write_text("")
        (package / "plugin.py").write_text("")
        sizes = "".join(PRESET.format(n=size) for size in range(presets))
        (package / "worldflux.toml").write_text(HEAD.format(name=name, id=id) + sizes + COMPONENT.format(id=id))
        (info / "METADATA").write_text(METADATA.format(name=name) + "A page about it.\n" * 100)
        points = (
            f"[worldflux.models]\n{id} = {id}_world.plugin\n[worldflux.components]\n{id}.zero = {id}_world.plugin\n"
        )
        (info / "entry_points.txt").write_text(points)
    return site


def milliseconds(command: list[str], site: Path | None) -> tuple[float, float]:
    """The wall and the processor time of a command beside the distributions of a folder."""
    path = [str(site)] if site else []
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), *path]))}
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], env=env, stdout=subprocess.DEVNULL, check=True)
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken * 1e3, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--record", action="store_true", help="keep the results in docs/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many = install(Path(folder) / "plugins", plugins=200, presets=3)
        large = install(Path(folder) / "presets", plugins=1, presets=10_000)
        listing = ["-m", "worldflux.cli", "models", "list"]
        cases = {
            "bare interpreter": (["-c", "pass"], None),
            "models list": (listing, None),
            "models list, 200 more plugins": (listing, many),
            "models list, 10,000 more presets": (listing, large),
            "plugins list": (["-m", "worldflux.cli", "plugins", "list"], None),
            "--help": (["-m", "worldflux.cli", "--help"], None),
        }
        for case in cases.values():  # once for the caches
            milliseconds(*case)
        rounds = [[milliseconds(*case) for case in cases.values()] for _ in range(args.rounds)]
    wall, processor = ([[taken[kind] for taken in one] for one in zip(*rounds)] for kind in (0, 1))
    table = dict(zip(cases, zip(map(min, wall), map(median, wall), map(min, processor))))
    bare = table.pop("bare interpreter")
    print(f"{'over the bare interpreter':34} {'least':>9} {'median':>9} {'processor':>9}   bar")
    for name, taken in table.items():
        least, middle, cpu = (value - start for value, start in zip(taken, bare))
        bar = BARS.get(name)
        print(f"{name:34} {least:6.0f} ms {middle:6.0f} ms {cpu:6.0f} ms   {bar or ''}", flush=True)
        if args.record:
            times = {"least_ms": least, "median_ms": middle, "least_processor_ms": cpu}
            record(
                "listing",
                case={"case": name, **times, **({"least_is_within_bar": least <= bar} if bar else {})},
                key="case",
                what="Milliseconds of listings over those of an interpreter that does nothing, each in its own process",
                command=f"python benchmarks/listing.py {' '.join(sys.argv[1:])}",
                bar="the least: 200 ms as installed, 400 ms beside 200 more plugins",
            )


if __name__ == "__main__":
    main()
