"""The alias is somebody else's preset, and the component does what it says."""

from __future__ import annotations

import torch

from worldflux import create_world_model, get_model_info
from worldflux.plugins import get_kernel

ALIAS, COMPONENT = "minimalplugin-dreamer", "minimal_plugin.zero_action_conditioner"


def test_the_plugin_is_in_order():
    (plugin,) = [plugin for plugin in get_kernel().plugins if plugin.name == "worldflux-minimal-plugin"]
    assert plugin.state in ("indexed", "active"), plugin.reason
    assert plugin.notes == []


def test_the_alias_is_the_small_dreamer():
    assert get_model_info(ALIAS)["model_id"] == "dreamer:ci"


def test_what_is_imagined_no_longer_depends_on_the_action():
    blind = create_world_model(
        ALIAS, obs_shape=(4,), action_dim=2, component_overrides={"action_conditioner": COMPONENT}
    )
    state = blind.encode(torch.zeros(3, 4), deterministic=True)
    left, right = (blind.rollout(state, torch.full((5, 3, 2), side), deterministic=True) for side in (-1.0, 1.0))
    assert torch.equal(left.states[-1]["deter"], right.states[-1]["deter"])
