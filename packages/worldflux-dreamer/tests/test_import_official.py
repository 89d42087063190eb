"""Official weights load, or say why not."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

import worldflux
from worldflux import CheckpointError, ConfigurationError
from worldflux_dreamer import load
from worldflux_dreamer.dreamerv3.official import official_names


@pytest.fixture
def case(cases):
    return cases("image_proprio_cont")


def test_every_official_tensor_is_taken(case):
    model = load(case.weights, case.settings)
    state = model.state_dict()
    for official, own in official_names(model).items():
        value = state[own]
        got = value.permute(2, 3, 1, 0) if value.ndim == 4 else value
        assert np.array_equal(got.numpy(), case.weights[official]), official
    assert set(case.weights) - set(official_names(model)) == {"slowval_count/value"}
    assert not model.training


def test_it_is_found_by_its_name(case):
    model = worldflux.import_weights(case.weights, importer="official-dreamerv3", config=case.settings)
    assert torch.equal(model.return_normalizer.hi, torch.tensor(1.9))


def test_optimizer_state_may_come_along(case):
    plain = load(case.weights, case.settings).state_dict()
    for name, value in load({**case.weights, "opt/state/1/0": np.int32(3)}, case.settings).state_dict().items():
        assert torch.equal(value, plain[name]), name


def test_a_missing_weight_is_named(case):
    weights = dict(case.weights)
    del weights["dyn/obs0/kernel"]
    with pytest.raises(ConfigurationError, match="dyn/obs0/kernel"):
        load(weights, case.settings)


def test_an_unknown_weight_is_named(case):
    with pytest.raises(ConfigurationError, match="dyn/obs7/kernel"):
        load({**case.weights, "dyn/obs7/kernel": np.zeros(3, np.float32)}, case.settings)


def test_a_weight_of_another_shape_is_named(case):
    with pytest.raises(ConfigurationError, match=r"dyn/obslogit/bias.*\(3,\)"):
        load({**case.weights, "dyn/obslogit/bias": np.zeros(3, np.float32)}, case.settings)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("dyn.rssm.absolute", True, "not supported"),
        ("enc.simple.act", "gelu", "not supported"),
        ("dyn.rssm.detre", 3, "Did you mean 'dyn.rssm.deter'"),
        ("value.units", 31, "differs"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(case, setting, value, message):
    settings = copy.deepcopy(case.settings)
    settings["agent_config"][setting] = value
    with pytest.raises(ConfigurationError, match=message):
        load(case.weights, settings)


def test_settings_that_no_weight_tells_are_required(case):
    settings = copy.deepcopy(case.settings)
    del settings["agent_config"]["dyn.rssm.blocks"]
    with pytest.raises(ConfigurationError, match=r"dyn\.rssm\.blocks"):
        load(case.weights, settings)
    with pytest.raises(ConfigurationError, match="act_space"):
        load(case.weights, {"agent_config": {}, "obs_space": {}})


def test_discrete_official_observations_are_refused(case):
    settings = {**case.settings, "obs_space": {"inventory": {"shape": [], "classes": 5}}}
    with pytest.raises(ConfigurationError, match="one-hot"):
        load(case.weights, settings)


def write_checkpoint(folder, content) -> None:
    target = folder / "ckpt" / "20250101T000000"
    target.mkdir(parents=True)
    (folder / "ckpt" / "latest").write_text("20250101T000000\n")
    (target / "agent.pkl").write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("start", ["", "ckpt", "ckpt/20250101T000000", "ckpt/20250101T000000/agent.pkl"])
def test_checkpoint_folders(case, tmp_path, start):
    write_checkpoint(tmp_path, {"params": case.weights, "counters": {"updates": 3}})
    model = load(tmp_path / start, case.settings)
    expected = load(case.weights, case.settings)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters()))


class Malicious:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_pickle_with_anything_but_arrays_is_refused_unrun(case, tmp_path, capsys):
    write_checkpoint(tmp_path, {"params": {**case.weights, "x": Malicious()}})
    with pytest.raises(CheckpointError, match="only numpy arrays"):
        load(tmp_path, case.settings)
    assert capsys.readouterr().out == ""


def test_a_missing_or_broken_checkpoint_says_so(case, tmp_path):
    with pytest.raises(CheckpointError, match=r"agent\.pkl"):
        load(tmp_path, case.settings)
    (tmp_path / "agent.pkl").write_bytes(b"not a pickle")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path, case.settings)
    (tmp_path / "agent.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(CheckpointError, match="no official parameters"):
        load(tmp_path, case.settings)
