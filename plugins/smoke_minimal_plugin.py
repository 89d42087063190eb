"""Prove that worldflux-minimal-plugin works where only wheels are installed, and leaves no trace when it goes.

Run with the python of that environment, from anywhere:

    python plugins/smoke_minimal_plugin.py [--uninstall]

Each proof is the first thing its own process does, so none stands on what another one loaded. One line per proof;
exit code 1 at the first that fails. ``--uninstall`` also removes the plugin with pip and proves what is left.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

DISTRIBUTION, MODULE = "worldflux-minimal-plugin", "minimal_plugin"
ALIAS, COMPONENT = "minimalplugin-dreamer", "minimal_plugin.zero_action_conditioner"
OVERRIDE = {"action_conditioner": COMPONENT}
SHAPES: dict[str, Any] = {"obs_shape": (6,), "action_dim": 3}


# --- the proofs: each runs in a process of its own, in a folder they share -----------------------------------------


def alias_resolves() -> str:
    """The alias is another family's preset."""
    from worldflux import get_config

    config = get_config(ALIAS)
    expect((config.model_type, config.model_name), ("dreamer", "ci"))
    return f"{ALIAS} -> {config.model_type}:{config.model_name}"


def info_works() -> str:
    """Information comes from manifests alone."""
    from worldflux import get_model_info

    info = get_model_info(ALIAS)
    expect((info["model_id"], info["alias"]), ("dreamer:ci", ALIAS))
    expect({"torch", MODULE, "worldflux_dreamer"} & set(sys.modules), set())
    return f"{info['model_id']}, {info['params']} parameters; neither torch nor a plugin was imported"


def component_is_built_in() -> str:
    """A model takes the component by its id."""
    model = build(component_overrides=OVERRIDE)
    file = str(sys.modules[MODULE].__file__)
    expect(("site-packages" in file, type(model.action_conditioner).__name__), (True, "ZeroActionConditioner"))
    return f"{type(model).__name__} with {type(model.action_conditioner).__name__} from {DISTRIBUTION}"


def encode_runs() -> str:
    """A model with the component encodes."""
    state = start(build(component_overrides=OVERRIDE))
    return f"a state with {', '.join(sorted(state.tensors))} of batch size {state.batch_size}"


def transition_runs() -> str:
    """A model with the component imagines a step, and decodes it."""
    import torch

    model = build(component_overrides=OVERRIDE)
    ahead = model.transition(start(model), torch.ones(2, 3), deterministic=True)
    reward = model.decode(ahead).preds["reward"]
    expect((ahead.batch_size, tuple(reward.shape)), (2, (2,)))
    return "a step ahead, and its reward"


def rollout_runs() -> str:
    """A model with the component imagines several steps."""
    import torch

    model = build(component_overrides=OVERRIDE)
    imagined = model.rollout(start(model), torch.ones(5, 2, 3), deterministic=True)
    expect((len(imagined.states), tuple(imagined.rewards.shape)), (6, (5, 2)))
    return "5 steps ahead, and their rewards"


def loss_runs() -> str:
    """A model with the component has a finite loss with a gradient."""
    import torch

    from worldflux import Batch

    model, rows = build(component_overrides=OVERRIDE).train(), (2, 4)
    no = torch.zeros(rows, dtype=torch.bool)
    batch = Batch(
        obs=torch.rand(*rows, 6),
        actions=torch.rand(*rows, 3),
        rewards=torch.rand(rows),
        is_first=no,
        is_last=no,
        is_terminal=no,
    )
    loss = model.loss(batch).loss
    loss.backward()
    expect(bool(torch.isfinite(loss)), True)
    return f"loss {float(loss.detach()):.3f}, differentiated"


def action_has_no_effect() -> str:
    """With the component, different actions lead to equal imaginations; without it, they do not."""
    blind = far_apart(build(component_overrides=OVERRIDE))
    seeing = far_apart(build())
    expect((blind == 0, seeing > 0), (True, True))
    return f"rollouts of opposite actions differ by {blind:g} with the component, by {seeing:.3g} without"


def is_saved() -> str:
    """A model with the component is saved; the meta file names the component, not its code."""
    model = build(component_overrides=OVERRIDE)
    model.save_pretrained("saved")
    Path("imagined.json").write_text(json.dumps(rewards(model)))
    meta = json.loads(Path("saved/worldflux_meta.json").read_text())
    expect(meta["components"], OVERRIDE)
    return f"worldflux_meta.json names {COMPONENT}"


def loads_back() -> str:
    """The saved model comes back with the component and imagines the same, bit for bit."""
    from worldflux import create_world_model

    model = create_world_model("./saved")
    expect((model.component_ids, far_apart(model)), (OVERRIDE, 0.0))
    expect(rewards(model.eval()), json.loads(Path("imagined.json").read_text()))
    return "with the component, and the same numbers"


# --- the proofs after pip uninstall --------------------------------------------------------------------------------


def alias_is_gone() -> str:
    """Asking for the alias says that nothing has that name."""
    return refused(lambda: build(), ALIAS)


def component_is_gone() -> str:
    """Asking for the component names it."""
    return refused(lambda: build("dreamer:ci", component_overrides=OVERRIDE), COMPONENT)


def saved_model_says_what_it_lacks() -> str:
    """A saved model that needs the component names it."""
    from worldflux import create_world_model

    return refused(lambda: create_world_model("./saved"), COMPONENT)


def nothing_else_changed() -> str:
    """Plugins and models are listed as before, less the one."""
    before = json.loads(Path("listed.json").read_text())
    expect([plugin["name"] for plugin in before["plugins"]].count(DISTRIBUTION), 1)
    before["plugins"] = [plugin for plugin in before["plugins"] if plugin["name"] != DISTRIBUTION]
    after = listings()
    expect(after, before)
    expect(any(word in json.dumps(after) for word in (DISTRIBUTION, MODULE, ALIAS)), False)
    return f"{len(after['plugins'])} plugins and {len(after['models'])} models listed as before"


def no_file_is_left() -> str:
    """Nothing of the package can be imported any more."""
    from importlib import metadata, util

    expect((util.find_spec(MODULE), DISTRIBUTION in {dist.name for dist in metadata.distributions()}), (None, False))
    return f"neither module {MODULE} nor distribution {DISTRIBUTION}"


def others_still_work() -> str:
    """The family that the alias pointed to is unaffected."""
    return f"dreamer:ci is built and imagines: {len(rewards(build('dreamer:ci')))} rewards"


INSTALLED: tuple[Callable[[], str], ...] = (
    alias_resolves,
    info_works,
    component_is_built_in,
    encode_runs,
    transition_runs,
    rollout_runs,
    loss_runs,
    action_has_no_effect,
    is_saved,
    loads_back,
)
REMOVED: tuple[Callable[[], str], ...] = (
    alias_is_gone,
    component_is_gone,
    saved_model_says_what_it_lacks,
    nothing_else_changed,
    no_file_is_left,
    others_still_work,
)


# --- what they share -----------------------------------------------------------------------------------------------


def expect(got: object, expected: object) -> None:
    """Stop unless both are equal."""
    if got != expected:
        raise SystemExit(f"expected {expected!r}, got {got!r}")


def build(model: str = ALIAS, **options: Any) -> Any:
    """A small model in evaluation mode."""
    from worldflux import create_world_model

    return create_world_model(model, **SHAPES, **options).eval()


def start(model: Any) -> Any:
    """The state after two first observations."""
    import torch

    return model.encode(torch.linspace(-1, 1, 12).reshape(2, 6), deterministic=True)


def rewards(model: Any, action: float = 1.0) -> list[float]:
    """Every imagined number: latents and rewards of five steps of one action, from the same start."""
    import torch

    with torch.no_grad():
        imagined = model.rollout(start(model), torch.full((5, 2, 3), action), deterministic=True)
    found = [*imagined.states[-1].tensors.values(), imagined.rewards]
    return [float(number) for tensor in found for number in tensor.flatten()]


def far_apart(model: Any) -> float:
    """How much the imaginations of opposite actions differ."""
    return max(abs(a - b) for a, b in zip(rewards(model, 1.0), rewards(model, -1.0)))


def refused(call: Callable[[], Any], named: str) -> str:
    """The error of a call that must fail as a mistake of the caller, naming what is missing."""
    try:
        call()
    except ValueError as error:
        expect((named in str(error), "\n" in str(error)), (True, False))
        return f"{type(error).__name__}: {error}"
    raise SystemExit("expected an error, got none")


def listings() -> dict[str, Any]:
    """What the command lists."""

    def listed(*verb: str) -> Any:
        command = [sys.executable, "-m", "worldflux.cli", *verb, "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return {"plugins": listed("plugins", "list"), "models": listed("models", "list", "--all")}


def prove(proof: Callable[[], str], folder: str) -> None:
    """Run a proof in a fresh process and print its line, or stop with what went wrong."""
    command = [sys.executable, str(Path(__file__).resolve()), "--proof", proof.__name__]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    name = proof.__name__.replace("_", " ")
    if done.returncode:
        sys.exit(f"FAILED  {name}: {(done.stdout + done.stderr).strip()}")
    print(f"ok  {name}: {done.stdout.strip()}", flush=True)


def main() -> None:
    """Run every proof in order."""
    parser = argparse.ArgumentParser(description="Prove that worldflux-minimal-plugin works from its wheel.")
    parser.add_argument("--uninstall", action="store_true", help="also uninstall the plugin, and prove what is left")
    parser.add_argument("--proof", choices=[proof.__name__ for proof in INSTALLED + REMOVED], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.proof:
        here = Path(__file__).resolve().parent  # which holds a folder that is called like the plugin's module
        sys.path[:] = [place for place in sys.path if place and Path(place).resolve() != here]
        print(globals()[asked.proof]())
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        for proof in INSTALLED:
            prove(proof, folder)
        if asked.uninstall:
            (Path(folder) / "listed.json").write_text(json.dumps(listings()))
            command = [sys.executable, "-m", "pip", "uninstall", "--yes", "--quiet", DISTRIBUTION]
            subprocess.run(command, cwd=folder, check=True)
            for proof in REMOVED:
                prove(proof, folder)


if __name__ == "__main__":
    main()
