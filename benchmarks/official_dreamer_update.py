"""Milliseconds per update of the official DreamerV3 program, to set beside ``dreamer_update.py``.

    PYTHON benchmarks/official_dreamer_update.py CHECKOUT --size size1m

PYTHON is an interpreter with jax and what else a checkout of danijar/dreamerv3 needs; nothing of ours is imported. An
update is the program's jitted training step in float32 on noise, in the shapes that ``dreamer_update.py`` uses.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--size", default="size1m")
    parser.add_argument("--updates", type=int, default=8)
    args = parser.parse_args()
    sys.path.insert(0, str(args.checkout))

    import dreamerv3.agent
    import elements
    import jax
    import jax.numpy as jnp
    import ninjax
    import ruamel.yaml
    from embodied.jax import nets

    jax.config.update("jax_platforms", "cpu")
    nets.COMPUTE_DTYPE = jnp.float32
    settings = ruamel.yaml.YAML(typ="safe").load((args.checkout / "dreamerv3" / "configs.yaml").read_text())
    config = elements.Config(settings["defaults"]).update(settings[args.size])
    size, steps = 16, 64
    rows = steps + config.replay_context
    flags = {name: elements.Space(bool) for name in ("is_first", "is_last", "is_terminal")}
    reward = {"reward": elements.Space(np.float32)}
    obs_space = {"vector": elements.Space(np.float32, (24,)), **flags, **reward}
    act_space = {"action": elements.Space(np.float32, (6,), -1, 1)}
    own = elements.Config(
        **config.agent, logdir="unused", seed=0, jax=config.jax, batch_size=size, batch_length=steps,
        replay_context=config.replay_context, report_length=32, replica=0, replicas=1,
    )  # fmt: skip
    agent = object.__new__(dreamerv3.agent.Agent)  # past the wrapper that would compile and place it itself
    dreamerv3.agent.Agent.__init__(agent, obs_space, act_space, own)

    draw = np.random.default_rng(0)
    batch = {name: np.zeros((size, rows, *space.shape), space.dtype) for name, space in agent.ext_space.items()}
    batch |= {name: np.zeros((size, rows), bool) for name in flags}
    batch["consec"], batch["stepid"] = np.zeros((size, rows), np.int32), np.zeros((size, rows, 20), np.uint8)
    batch["vector"] = draw.normal(size=(size, rows, 24)).astype(np.float32)
    batch["reward"] = draw.normal(size=(size, rows)).astype(np.float32)
    batch["action"] = draw.uniform(-1, 1, (size, rows, 6)).astype(np.float32)
    batch = {name: jnp.asarray(value) for name, value in batch.items()}

    carry = agent.init_train(size)
    state = ninjax.init(agent.train)({}, carry, batch, seed=0)
    train = ninjax.pure(agent.train)
    update = jax.jit(lambda state, key: train(state, carry, batch, seed=key), donate_argnums=(0,))
    times = []
    for count in range(args.updates + 1):
        began = time.perf_counter()
        state, _ = update(state, jax.random.PRNGKey(count))
        jax.block_until_ready(state)
        times.append((time.perf_counter() - began) * 1e3)
    compiling, *times = times
    print(
        f"{args.size}, 24 numbers in, 6 actions, {size} x {steps}: {statistics.median(times):.0f} ms per update "
        f"(fastest {min(times):.0f}, slowest {max(times):.0f}; the first took {compiling / 1e3:.0f} s)"
    )


if __name__ == "__main__":
    main()
