from __future__ import annotations

import pytest
import torch
from torch import nn

from worldflux.blocks import Conv, Ensemble, KernelConv, KernelDeconv, KernelLinear, Linear, dense


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(3, 4),
        lambda: Conv(3, 4, 3, stride=2),
        lambda: dense([3, 4, 2], nn.ReLU),
        lambda: KernelLinear(3, 4),
        lambda: KernelConv(3, 4, 3),
        lambda: KernelDeconv(3, 4, 3),
        lambda: Ensemble(2, [3, 4, 2], torch.relu, normed=True),
    ],
)
def test_making_a_layer_draws_nothing(make):
    before = torch.get_rng_state()
    make()
    assert torch.equal(torch.get_rng_state(), before)


def test_dense_has_an_activation_between_layers_and_none_behind():
    net = dense([1, 1, 1], nn.ReLU)
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    net.load_state_dict({name: torch.full_like(value, -1.0) for name, value in net.state_dict().items()})
    assert net(torch.tensor([[1.0], [-3.0]])).tolist() == [[-1.0], [-3.0]]  # 1 -> relu(-2), -3 -> relu(2)


def test_a_kernel_is_laid_out_inputs_first():
    layer = KernelLinear(2, 3)
    layer.load_state_dict({"kernel": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(3)})
    assert layer(torch.tensor([[[1.0, 10.0]]])).tolist() == [[[31.0, 42.0, 53.0]]]


def test_a_kernel_convolution_keeps_the_size_or_strides():
    images = torch.zeros(2, 3, 8, 6)
    assert KernelConv(3, 4, 5)(images).shape == (2, 4, 8, 6)
    assert KernelConv(3, 4, 4, stride=2, padding=0)(images).shape == (2, 4, 3, 2)


def test_a_kernel_deconvolution_is_the_transpose_of_the_convolution():
    kernel = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    down, up = KernelConv(3, 4, 5, stride=2, padding=0), KernelDeconv(4, 3, 5, stride=2)
    down.load_state_dict({"kernel": kernel, "bias": torch.zeros(4)})
    up.load_state_dict({"kernel": kernel, "bias": torch.zeros(3)})
    images, maps = torch.ones(1, 3, 9, 9), torch.ones(1, 4, 3, 3)
    torch.testing.assert_close((down(images) * maps).sum(), (images * up(maps)).sum())
