"""Choose, from full recordings of the official V-JEPA 2, what travels with these tests.

    python select_vjepa2.py FOLDER_WITH_RECORDINGS

A recording is ``vjepa2_<kind>.safetensors`` with a JSON beside it, made by running facebookresearch/vjepa2 at commit
c2963a4 in float32 on a CPU with random weights and every draw recorded. Left out is what says the same again: the
weights between two updates, gradients of further blocks, later masks of large grids, and checkpoints, whose weights are
the recordings'. Whole numbers become int16. The tests compare whatever a recording has.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

LEFT_OUT = {
    "encoder": r"grads/encoder/blocks\.[1-9]|io/long",
    "pretrain": r"weights_after1/|weights_after2/target_encoder/|grads/encoder/blocks\.[1-9]",
    "masks": r"io/\w+_256/it[1-9]",
    "probe": r"grads/probe/pooler\.blocks\.[1-9]",
}
UNREAD = ("tensors", "weight_shapes")


def main(folder: Path) -> None:
    target = Path(__file__).parent / "fixtures"
    for kind, pattern in LEFT_OUT.items():
        name = f"vjepa2_{kind}"
        tensors = load_file(folder / f"{name}.safetensors")
        kept = {key: value for key, value in tensors.items() if not re.match(pattern, key)}
        small = {k: v.to(torch.int16) if v.dtype == torch.int32 else v for k, v in kept.items()}
        save_file(small, target / f"{name}.safetensors")
        meta = json.loads((folder / f"{name}.json").read_text())
        for case, said in meta.get("cases", {}).items():
            said["iterations"] = [x for n, x in enumerate(said["iterations"]) if f"io/{case}/it{n}/u" in kept]
        text = json.dumps({key: value for key, value in meta.items() if key not in UNREAD}, separators=(",", ":"))
        (target / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
