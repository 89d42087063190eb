"""Choose, from full recordings of the official program, the tensors that travel with these tests.

    python select_fixtures.py FOLDER_WITH_RECORDINGS

The tests run on a folder of complete recordings, too, if WORLDFLUX_PARITY names it.

A recording is ``dreamerv3_<case>.safetensors`` with a JSON beside it. It was made by running danijar/dreamerv3 at
commit e3f0224 in float32 on a CPU, every distribution answering with its mode. ``proprio_cont`` is kept almost whole;
of the others what differs: discrete actions, images, both kinds of observation.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from safetensors.numpy import load_file, save_file

HERE = Path(__file__).parent / "parity"
BLOCKS = (
    "weights/", "io/obs/", "io/prevact/", "io/carry/", "io/enc/", "io/core/", "io/imagine/", "io/observe/",
    "io/policytrace/", "io/kl/", "io/con/", "io/rew/", "io/val/", "io/slowval/", "io/pol/", "io/heads/",
    "io/total/loss", "io/total/meanloss/", "io/total/metrics/", "io/total/imag/", "io/total/repl/",
    "io/total/retnorm", "io/gradnorm/", "io/dec/",
)  # fmt: skip
FUNCTIONS = (
    "io/kltest/", "io/imagtest/", "io/repltest/", "io/lambda_return/", "io/twohot/", "io/categorical/", "io/binary/",
    "io/bounded_normal/", "io/normalize/perc/", "io/normalize/in/", "io/layer/rms", "io/layer/linear",
    "io/layer/blocklinear", "io/layer/conv/", "io/fn/", "io/opttest/",
)  # fmt: skip
CASES = {
    "proprio_cont": (*BLOCKS, *FUNCTIONS, "io/grads/", "io/totaleps/", "io/train/", "optstate/"),
    "proprio_disc": (*BLOCKS, "io/imagtest/default", "io/imagtest/in/", "io/grads/pol/", "io/grads/dyn/prior"),
    "image_disc": (*BLOCKS, "io/grads/enc/", "io/grads/dec/sp", "io/grads/dec/conv", "io/grads/dec/imgout"),
    "image_proprio_cont": (*BLOCKS, "io/grads/enc/", "io/totaleps/grads/pol/head/"),
}
META = (
    "source",
    "agent_config",
    "obs_space",
    "act_space",
    "noisy",
    "opttest_cases",
    "train_opt",
    "official_init_stats",
)


def main(folder: Path) -> None:
    for case, prefixes in CASES.items():
        tensors = load_file(folder / f"dreamerv3_{case}.safetensors")
        kept = {name: value for name, value in tensors.items() if name.startswith(prefixes)}
        if "io/dec/image/mean" in kept:  # two frames of eighteen
            kept["io/dec/image/mean"] = kept["io/dec/image/mean"][:2, 0].copy()
        save_file(kept, HERE / f"dreamerv3_{case}.safetensors")
        meta = json.loads((folder / f"dreamerv3_{case}.json").read_text())
        text = json.dumps({name: meta[name] for name in META}, separators=(",", ":"))
        (HERE / f"dreamerv3_{case}.json").write_text(text + "\n")
    shutil.copyfile(folder / "dreamerv3_params.json", HERE / "dreamerv3_params.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
