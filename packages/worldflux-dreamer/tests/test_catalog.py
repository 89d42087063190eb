"""The manifest of the dreamer family: names, aliases, sizes, and labels that are honest."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
import torch

import worldflux
from worldflux.plugins import get_kernel

PRESETS = [
    "dreamer:ci",
    "dreamerv3:size1m",
    "dreamerv3:size12m",
    "dreamerv3:size25m",
    "dreamerv3:size50m",
    "dreamerv3:size100m",
    "dreamerv3:size200m",
    "dreamerv3:size400m",
    "dreamerv3:official_xl",
]
ALIASES = {
    "dreamer": "dreamerv3:size12m",
    "dreamer-ci": "dreamer:ci",
    "dreamerv3": "dreamerv3:size12m",
    "dreamer-small": "dreamerv3:size12m",
    "dreamer-medium": "dreamerv3:size50m",
    "dreamer-large": "dreamerv3:size200m",
    "dreamerv3:official": "dreamerv3:official_xl",
}
# deter_dim, hidden_dim, classes, depth, units of the official program
OFFICIAL = {
    "size1m": (512, 64, 4, 4, 64),
    "size12m": (2048, 256, 16, 16, 256),
    "size25m": (3072, 384, 24, 24, 384),
    "size50m": (4096, 512, 32, 32, 512),
    "size100m": (6144, 768, 48, 48, 768),
    "size200m": (8192, 1024, 64, 64, 1024),
    "size400m": (12288, 1536, 96, 96, 1536),
    "official_xl": (8192, 1024, 64, 64, 1024),
}


@pytest.fixture(autouse=True)
def the_family_is_sound():
    (plugin,) = (plugin for plugin in get_kernel().plugins if plugin.name == "worldflux-dreamer")
    assert plugin.state in ("indexed", "active"), plugin.problem
    assert not plugin.notes


def dreamers(surface: str) -> list[str]:
    entries = worldflux.list_models(verbose=True, surface=surface)
    return [name for name, entry in entries.items() if entry["plugin"] == "worldflux-dreamer"]


def test_every_preset_is_listed_in_the_catalogues_order():
    assert [name for name in dreamers("all") if name.startswith("dreamer")] == PRESETS


def test_all_but_the_one_for_comparison_are_on_the_supported_surface():
    assert set(PRESETS) - set(dreamers("supported")) == {"dreamerv3:official_xl"}
    assert set(PRESETS) <= set(dreamers("public"))


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_means_its_preset(alias):
    info = worldflux.get_model_info(alias)
    assert (info["model_id"], info["alias"], info["type"]) == (ALIASES[alias], alias, "dreamer")


@pytest.mark.parametrize("name", ["dreamer:size12m", "dreamerv3:size12m", "DreamerV3:Size12M"])
def test_both_family_names_and_any_case_are_one(name):
    assert worldflux.get_model_info(name)["model_id"] == "dreamerv3:size12m"


@pytest.mark.parametrize("size", OFFICIAL)
def test_sizes_are_the_official_ones(size):
    config = worldflux.get_config(f"dreamerv3:{size}")
    found = (config.deter_dim, config.hidden_dim, config.classes, config.depth, config.units)
    assert found == OFFICIAL[size]
    assert config.stoch == 32


@pytest.mark.parametrize("name", PRESETS)
def test_the_label_is_within_a_quarter_of_the_counted_parameters(name):
    config = worldflux.get_config(name, obs_shape=(3, 64, 64), action_dim=6)
    family = worldflux.WorldModelRegistry.model("dreamer")
    with torch.device("meta"):  # shapes only: nothing is allocated
        counted = sum(p.numel() for p in family.model_class(config).parameters())
    label = worldflux.get_model_info(name)["params"]
    number, unit = re.fullmatch(r"~([\d.]+)([KMB])", label).groups()
    stated = float(number) * {"K": 1e3, "M": 1e6, "B": 1e9}[unit]
    assert counted == pytest.approx(stated, rel=0.25)


def test_a_config_is_the_familys_in_a_fresh_process(tmp_path: Path):
    code = (
        "import worldflux as w; print(w.get_config('dreamerv3:size12m').deter_dim, w.get_config('dreamer').deter_dim)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["2048", "2048"], done.stderr


def test_a_preset_takes_family_options_and_refuses_others():
    model = worldflux.create_world_model("dreamer:ci", obs_shape=(4,), action_dim=2, units=16)
    assert model.config.units == 16
    with pytest.raises(worldflux.ConfigurationError, match="Did you mean 'units'"):
        worldflux.create_world_model("dreamer:ci", unts=16)
    with pytest.raises(ValueError, match="Unknown size: size_12m.*Did you mean 'size12m'"):
        worldflux.create_world_model("dreamerv3:size_12m")


def test_the_official_program_runs_the_official_sizes_only():
    backend = "official_dreamerv3_jax_subprocess"
    handle = worldflux.create_world_model("dreamerv3:official", backend=backend)
    assert (handle.model_id, handle.metadata["backend_profile"]) == ("dreamerv3:official_xl", "official_xl")
    for size in OFFICIAL:
        assert worldflux.create_world_model(f"dreamerv3:{size}", backend=backend).backend == backend
    with pytest.raises(ValueError, match="runs dreamerv3:official_xl, .*, not 'dreamer:ci'"):
        worldflux.create_world_model("dreamer:ci", backend=backend)


def test_the_importer_is_declared_and_callable():
    assert callable(get_kernel().target("importers", "official-dreamerv3"))


def test_the_manifests_range_is_the_distributions_requirement():
    (plugin,) = (plugin for plugin in get_kernel().plugins if plugin.name == "worldflux-dreamer")
    (line,) = (line for line in requires("worldflux-dreamer") if line.startswith("worldflux-core"))
    stated = set(line.removeprefix("worldflux-core").split(","))
    assert stated == set(plugin.manifest.worldflux_version_range.split(","))
