"""The manifest of the tdmpc2 family: names, aliases, sizes, and labels that are honest."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

import worldflux
from worldflux.plugins import get_kernel

PRESETS = ["5m", "proof_5m", "5m_legacy", "ci", "1m", "19m", "48m", "317m"]
ALIASES = {
    "tdmpc": "5m", "tdmpc2": "5m", "tdmpc2-ci": "ci", "tdmpc-small": "5m", "tdmpc-medium": "48m",
    "tdmpc-large": "317m", "tdmpc-proof": "proof_5m", "tdmpc2:proof": "proof_5m", "tdmpc-legacy": "5m_legacy",
}  # fmt: skip
# enc_dim, mlp_dim, latent_dim, num_enc_layers, num_q of the official program
OFFICIAL = {
    "1m": (256, 384, 128, 2, 2),
    "5m": (256, 512, 512, 2, 5),
    "proof_5m": (256, 512, 512, 2, 5),
    "5m_legacy": (256, 512, 512, 2, 5),
    "19m": (1024, 1024, 768, 3, 5),
    "48m": (1792, 1792, 768, 4, 5),
    "317m": (4096, 4096, 1376, 5, 8),
}


@pytest.fixture(autouse=True)
def the_family_is_sound():
    (plugin,) = (plugin for plugin in get_kernel().plugins if plugin.name == "worldflux-tdmpc")
    assert plugin.state in ("indexed", "active"), plugin.problem
    assert not plugin.notes


def ours(surface: str) -> list[str]:
    entries = worldflux.list_models(verbose=True, surface=surface)
    return [name for name, entry in entries.items() if entry["type"] == "tdmpc2"]


def test_every_preset_is_listed_in_the_catalogues_order():
    assert ours("all") == [f"tdmpc2:{preset}" for preset in PRESETS]


def test_all_but_the_one_for_comparison_are_on_the_supported_surface():
    assert set(ours("all")) - set(ours("supported")) == {"tdmpc2:proof_5m"}
    assert set(ours("all")) == set(ours("public"))


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_means_its_preset(alias):
    info = worldflux.get_model_info(alias)
    assert (info["model_id"], info["alias"], info["type"]) == (f"tdmpc2:{ALIASES[alias]}", alias, "tdmpc2")


@pytest.mark.parametrize("name", ["tdmpc2:5m", "tdmpc:5m", "TDMPC2:5M"])
def test_both_family_names_and_any_case_are_one(name):
    assert worldflux.get_model_info(name)["model_id"] == "tdmpc2:5m"


@pytest.mark.parametrize("size", OFFICIAL)
def test_sizes_are_the_official_ones(size):
    config = worldflux.get_config(f"tdmpc2:{size}")
    found = (config.enc_dim, config.mlp_dim, config.latent_dim, config.num_enc_layers, config.num_q)
    assert found == OFFICIAL[size]
    assert (config.model_name == "5m") == ("5m" in size)
    assert (config.obs_shape, config.action_dim, config.num_bins, config.simnorm_dim) == ((39,), 6, 101, 8)


def test_the_three_of_five_million_are_told_apart():
    names = {worldflux.get_model_info(f"tdmpc2:{size}")["canonical_display_name"] for size in PRESETS[:3]}
    assert len(names) == 3


def test_a_config_is_the_familys_in_a_fresh_process(tmp_path: Path):
    code = "import worldflux as w; print(w.get_config('tdmpc2:5m').num_q_networks, w.get_config('tdmpc').latent_dim)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["5", "512"], done.stderr


def test_a_preset_takes_family_options_and_refuses_others():
    model = worldflux.create_world_model("tdmpc2:ci", obs_shape=(4,), action_dim=2, mlp_dim=32)
    assert model.config.mlp_dim == 32
    with pytest.raises(worldflux.ConfigurationError, match="Did you mean 'mlp_dim'"):
        worldflux.create_world_model("tdmpc2:ci", mlp_dmi=32)
    with pytest.raises(ValueError, match="Unknown size: 5mm.*Did you mean '5m'"):
        worldflux.create_world_model("tdmpc2:5mm")


def test_the_importer_is_declared_and_callable():
    assert callable(get_kernel().target("importers", "official-tdmpc2"))


def test_the_manifests_range_is_the_distributions_requirement():
    (plugin,) = (plugin for plugin in get_kernel().plugins if plugin.name == "worldflux-tdmpc")
    (line,) = (line for line in requires("worldflux-tdmpc") if line.startswith("worldflux-core"))
    stated = set(line.removeprefix("worldflux-core").split(","))
    assert stated == set(plugin.manifest.worldflux_version_range.split(","))
