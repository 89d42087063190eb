"""How a defective family is made: the base family with passages of its code or manifest replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CODE = (HERE / "base_family" / "plugin.py").read_text(encoding="utf-8")
MANIFEST = (HERE / "base_family" / "worldflux.toml").read_text(encoding="utf-8")
SEVERAL = {
    "observation_modalities": {"eye": {"shape": (3, 8, 8)}, "touch": {"shape": (4,)}},
    "action_spec": {
        "kind": "multi",
        "parts": [{"name": "jump", "kind": "discrete", "dim": 3}, {"name": "arm", "kind": "continuous", "dim": 2}],
    },
}
DISCRETE = {"obs_shape": (6,), "action_spec": {"kind": "discrete", "dim": 4}}


class Mutant:
    """The base family with passages of its code (and of its manifest) replaced, built with ``options``."""

    def __init__(
        self,
        *changes: tuple[str, str],
        manifest: tuple[tuple[str, str], ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.changes, self.manifest, self.options = changes, manifest, options

    def package(self) -> dict[str, str]:
        """Arguments of ``make_plugin_dist``."""
        return {"code": _changed(CODE, self.changes), "manifest": _changed(MANIFEST, self.manifest)}


def _changed(text: str, changes: tuple[tuple[str, str], ...]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, f"{text.count(old)} times in the base family: {old!r}"
        text = text.replace(old, new)
    return text


def method(text: str) -> tuple[str, str]:
    """The change that adds a method to the model."""
    return ("    def policy(self):\n", f"{text}\n    def policy(self):\n")


def without(*capabilities: str) -> dict[str, Any]:
    """Changes to code and manifest of a family that declares less; what it still has, it declares no more."""
    code = [(f"            Capability.{name.upper()},\n", "") for name in capabilities]
    manifest = tuple((f'"{name}", ', "") for name in capabilities)
    return {"code": code, "manifest": manifest}


IMPORTS = "from dataclasses import dataclass\n"
REPLACE = (IMPORTS, "from dataclasses import dataclass, replace\n")
FIELDS = "    learning_rate: Positive = 1e-2\n"
BUILT = "        self.rollout_executor = OpenLoop()\n"
MADE = "        self.initialise()\n"
TOKENS = "        obs, actions = batch.obs, batch.actions\n        tokens = self.tokens(obs)\n"
VALIDATED = "        batch = self.checked(batch)\n"
SEEN = 'return self.see(ahead["memory"], tokens, deterministic)'
LOOP = "        states = [initial_state]\n"
NO_REWARD = without("reward_pred")
NOTHING_DECODED = without("reward_pred", "continue_pred", "obs_decoder")

CORRECTED = """        ahead = self.dynamics_model.transition(state, conditioned, deterministic=True)
        return self.see(ahead["memory"], tokens, deterministic)
"""
SINGLE = """        if self.training and len(batch.actions) == 1:
            raise ValidationError("{}")
"""
REFUSES = ("    StateSpec,\n", "    StateSpec,\n    ValidationError,\n")

#: What the base family declares less of, or does otherwise, and must pass with, too.
VARIANTS: dict[str, Mutant] = {
    "as it is": Mutant(),
    "discrete actions": Mutant(options=DISCRETE),
    "images": Mutant(options={"obs_shape": (1, 8, 12), "action_dim": 2}),
    "several of each": Mutant(options=SEVERAL),
    "no rewards": Mutant(*NO_REWARD["code"], manifest=NO_REWARD["manifest"]),
    "what is seen corrects alone": Mutant(
        (CORRECTED, "        return self.see(torch.zeros_like(tokens), tokens, deterministic)\n")
    ),
    "what was done is remembered beside what is predicted": Mutant(
        (
            CORRECTED,
            '        done = conditioned["action"].sum(-1, keepdim=True)\n'
            '        return self.see(torch.tanh(state["latent"] + done), tokens, deterministic)\n',
        )
    ),
    "statistics of a batch": Mutant(
        REFUSES, (VALIDATED, VALIDATED + SINGLE.format("a batch of one has no statistics"))
    ),
    "latents only": Mutant(*NOTHING_DECODED["code"], manifest=NOTHING_DECODED["manifest"]),
}
