from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from worldflux.blocks import compare_states, load_official, read_torch
from worldflux.core.errors import CheckpointError, ConfigurationError

NAMES = {"enc/kernel": "0.weight", "enc/bias": "0.bias"}


def model() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, affine=False))
    nn.init.zeros_(net[0].weight)
    return net


def official(**changes) -> dict:
    return {"enc/kernel": np.arange(6.0).reshape(2, 3), "enc/bias": torch.ones(3), **changes}


def transposed(name, value):
    return value.T if name.endswith("kernel") else value


def test_weights_are_copied_by_name_and_converted():
    net = model()
    report = load_official(net, official(**{"opt/step": 3}), NAMES, convert=transposed, ignored=("opt/",))
    assert net[0].weight.tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]] and net[0].bias.tolist() == [1.0] * 3
    assert (report.copied, report.parameters, report.ignored) == (NAMES, 9, ("opt/step",))
    assert report.untouched == ("1.running_mean", "1.running_var", "1.num_batches_tracked")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"enc/kernel": np.zeros((2, 3))}, r"lack \['enc/bias'\] \(1 in all\)"),
        ({"enc/kernels": np.zeros((2, 3)), "enc/bias": 0}, r"lack \['enc/kernel'\].*Did you mean 'enc/kernels'"),
        (official(**{"enc/biases": 0}), r"hold \['enc/biases'\].*no part of the model.*Did you mean 'enc/bias'"),
        (official(**{"enc/bias": np.zeros(4)}), r"'enc/bias' has shape \(4,\), .*make it \(3,\)"),
        (official(**{"enc/kernel": np.zeros((2, 4))}), r"shape \(2, 4\), read as \(4, 2\), .*make it \(3, 2\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(given, message):
    net = model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ConfigurationError, match=message):
        load_official(net, given, NAMES, convert=transposed)
    assert compare_states(net, before) == []


def test_a_name_that_is_not_ours_is_refused():
    with pytest.raises(ConfigurationError, match=r"'0\.biases', which the model lacks\. Did you mean '0\.bias'"):
        load_official(model(), official(), {**NAMES, "enc/bias": "0.biases"}, convert=transposed)


def test_foreign_byte_order_and_read_only_arrays_are_read():
    kernel = np.arange(6, dtype=">f4").reshape(2, 3)
    kernel.flags.writeable = False
    net = model()
    load_official(net, official(**{"enc/kernel": kernel}), NAMES, convert=transposed)
    assert net[0].weight[2].tolist() == [2.0, 5.0]


# --- files of torch.save ----------------------------------------------------------------------------------------------


class Code:
    """What a file may not bring along."""


@pytest.fixture
def saved(tmp_path):
    def save(content):
        torch.save(content, tmp_path / "run.pt")
        return tmp_path / "run.pt"

    return save


def test_a_file_of_torch_is_read_with_everything_nested_in_it(saved):
    content = {"epoch": 3, "encoder": {"a": torch.arange(3)}, "probes": [{"b": torch.ones(2)}], "scaler": None}
    read = read_torch(saved(content), example="run.pt")
    assert torch.equal(read["encoder"]["a"], torch.arange(3))
    assert torch.equal(read["probes"][0]["b"], torch.ones(2))
    assert (read["epoch"], read["scaler"]) == (3, None)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"a": [{"b": torch.zeros(1).expand(2**20, 2**20)}]}, r"tensor 'a\.0\.b' of shape .* is larger than the file"),
        ({"a": (torch.zeros(2, dtype=torch.complex64),)}, r"tensor 'a\.0' is torch\.complex64"),
        ({"a": Code()}, "Code"),
    ],
)
def test_what_is_no_plain_content_of_a_file_is_refused_by_name(saved, content, word):
    with pytest.raises(CheckpointError, match=rf"run\.pt cannot be read as an official checkpoint(?s:.*){word}"):
        read_torch(saved(content), example="run.pt")


def test_a_file_that_is_missing_is_told_apart_from_a_damaged_one(saved, tmp_path):
    with pytest.raises(CheckpointError, match=r"is no file: give an official checkpoint such as vitl\.pt"):
        read_torch(tmp_path / "absent.pt", example="vitl.pt")
    file = saved({"a": torch.arange(100)})
    file.write_bytes(file.read_bytes().replace(torch.arange(100).numpy().tobytes(), bytes(800)))
    with pytest.raises(CheckpointError, match="was altered"):
        read_torch(file, example="vitl.pt")
