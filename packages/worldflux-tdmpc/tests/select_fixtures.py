"""Choose, from full recordings of the official program, what travels with these tests.

    python select_fixtures.py FOLDER_WITH_RECORDINGS

A recording is ``tdmpc2_<case>.safetensors`` with a JSON beside it, made by running nicklashansen/tdmpc2 at commit
e9f5932 in float32 on a CPU with random weights and every draw recorded. Of the checkpoints
``tdmpc2_<case>_ckpt_<layout>.pt`` only the names are kept, each with the tensor of the recording it holds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent / "parity"
CASES = ("state", "episodic", "rgb", "multitask")
DUPLICATES = ("weights/_detach_Qs_params.", "weights_after/_detach_Qs_params.")
META = ("source", "config", "discount", "iterations_used", "trainable_params", "nontensor_state_dict_entries")


def names_of(folder: Path, case: str, tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, str]]:
    """Layout -> name in that layout -> name in the recording (or "" for what is no tensor)."""
    found = {}
    for file in sorted(folder.glob(f"tdmpc2_{case}_ckpt_*.pt")):
        names = {}
        for name, value in torch.load(file, weights_only=True)["model"].items():
            same = [n for n, v in tensors.items() if is_weight(n) and is_same(v, value)]
            names[name] = min(same, key=lambda n: n != f"weights/{name}").removeprefix("weights/") if same else ""
        found[file.stem.rpartition("_")[2]] = names
    return found


def is_weight(name: str) -> bool:
    return name.startswith("weights/") and not name.startswith(DUPLICATES)


def is_same(one: torch.Tensor, other: object) -> bool:
    return isinstance(other, torch.Tensor) and one.shape == other.shape and torch.equal(one, other)


def main(folder: Path) -> None:
    layouts = {}
    for case in CASES:
        tensors = load_file(folder / f"tdmpc2_{case}.safetensors")
        layouts[case] = names_of(folder, case, tensors)
        kept = {name: value for name, value in tensors.items() if not name.startswith(DUPLICATES)}
        save_file(kept, HERE / f"tdmpc2_{case}.safetensors")
        meta = json.loads((folder / f"tdmpc2_{case}.json").read_text())
        text = json.dumps({name: meta[name] for name in META}, separators=(",", ":"))
        (HERE / f"tdmpc2_{case}.json").write_text(text + "\n")
    text = json.dumps({case: names for case, names in layouts.items() if names}, indent=0)
    (HERE / "tdmpc2_layouts.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
