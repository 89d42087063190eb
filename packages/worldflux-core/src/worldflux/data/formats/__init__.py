"""The formats that come with WorldFlux, each read without the library that wrote it; imported when asked for."""

from __future__ import annotations

import importlib

from ..recording import Format

#: Name -> "module:class"; the order is the order in which an unnamed source is looked at.
FORMATS: dict[str, str] = {
    "worldflux": "..native.reader:NativeFormat",
    "worldflux-replay": ".replays:SavedReplay",
    "minari": ".minari:Minari",
    "robomimic": ".robomimic:RoboMimic",
    "swm": ".swm:StableWorldModel",
    "ogbench": ".ogbench:OgBench",
    "d4rl": ".d4rl:D4rl",
    "lerobot": ".lerobot:LeRobot",
    "dreamerv3": ".dreamerv3:DreamerV3",
    "dreamerv3-torch": ".dreamerv3_torch:DreamerV3Torch",
    "tdmpc2": ".tdmpc2:TDMPC2",
    "clips": ".clips:Clips",
    "parquet": ".parquet:Parquet",
    "npz": ".npz:NpzFolder",
}


def format_called(name: str) -> Format:
    """Return a format by its name."""
    module, _, attribute = FORMATS[name].partition(":")
    made: Format = getattr(importlib.import_module(module, __name__), attribute)()
    return made
