"""Tokens of videos: how they are cut, where they are, and how attention learns of it."""

from __future__ import annotations

import pytest
import torch

from worldflux import ConfigurationError, ShapeMismatchError
from worldflux_jepa.layers.attention import Attention
from worldflux_jepa.layers.patches import Tubelets
from worldflux_jepa.layers.rope import Positions, axis_channels, positions_of, rotate, rotation_of


@pytest.mark.parametrize(("head", "channels"), [(12, 4), (16, 4), (32, 10), (64, 20), (80, 26)])
def test_each_axis_rotates_an_even_third_of_a_head(head, channels):
    assert axis_channels(head) == channels


@pytest.mark.parametrize("head", [4, 6, 11])
def test_a_head_too_narrow_for_three_axes_is_refused(head):
    with pytest.raises(ConfigurationError, match=rf"{head} channels.*at least 12"):
        axis_channels(head)


def test_tokens_are_counted_columns_first_then_rows_then_time():
    time, row, column = positions_of(torch.tensor([0, 2, 3, 6, 11]), rows=2, columns=3)
    assert time.tolist() == [0, 0, 0, 1, 1]
    assert row.tolist() == [0, 0, 1, 0, 1]
    assert column.tolist() == [0, 2, 0, 0, 2]


def test_a_position_of_zero_changes_nothing_and_the_rest_of_a_head_never_changes():
    x = torch.randn(2, 3, 5, 16, generator=torch.Generator().manual_seed(0))
    zero, some = torch.zeros(5), torch.arange(1.0, 6.0)
    assert torch.equal(rotate(x, rotation_of(Positions(zero, zero, zero), 16, "vjepa2")), x)
    turned = rotate(x, rotation_of(Positions(some, some, some), 16, "vjepa2"))
    assert torch.equal(turned[..., 12:], x[..., 12:])
    assert not torch.isclose(turned[..., :12], x[..., :12]).all(-2).any()


def test_the_standard_layout_knows_only_how_far_apart_tokens_are():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 1, 1, 16, generator=generator).expand(1, 1, 4, 16) for _ in range(2))
    some = torch.tensor([0.0, 1.0, 5.0, 9.0])
    moved = [rotation_of(Positions(some + by, some, some * 2), 16, "standard") for by in (0, 2)]
    near, far = ((rotate(query, turn) @ rotate(key, turn).mT) for turn in moved)
    assert torch.allclose(near, far, atol=1e-4)
    crooked = [rotation_of(Positions(some + by, some, some * 2), 16, "vjepa2") for by in (0, 2)]
    near, far = ((rotate(query, turn) @ rotate(key, turn).mT) for turn in crooked)
    assert not torch.allclose(near, far, atol=1e-2)


def test_each_row_of_a_batch_has_its_own_positions():
    x = torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[0, 3, 5, 7], [1, 2, 4, 6]])
    both = rotate(x, rotation_of(positions_of(ids, rows=2, columns=2), 16, "vjepa2"))
    for row in range(2):
        alone = rotate(x[row : row + 1], rotation_of(positions_of(ids[row], rows=2, columns=2), 16, "vjepa2"))
        assert torch.equal(both[row : row + 1], alone)


def test_a_masked_token_is_not_read():
    layer = Attention(24, 2)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    x = torch.randn(1, 3, 24, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 2] += 1
    mask = torch.ones(3, 3).tril().bool()
    assert torch.equal(layer(x, None, mask)[:, :2], layer(other, None, mask)[:, :2])
    assert not torch.allclose(layer(x)[:, :2], layer(other)[:, :2])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigurationError, match="32 cannot be split into 3 heads"):
        Attention(32, 3)


@pytest.fixture
def tubelets():
    layer = Tubelets(3, 8, patch=4, tubelet=2)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return layer


def test_tubelets_are_what_a_convolution_with_its_kernel_for_a_stride_gives(tubelets):
    video = torch.randn(2, 5, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    weight, bias = tubelets.proj.weight, tubelets.proj.bias
    wanted = torch.nn.functional.conv3d(video.transpose(1, 2), weight, bias, stride=(2, 4, 4))
    assert torch.allclose(tubelets(video), wanted.flatten(2).mT, atol=1e-5)
    assert tubelets.grid(video) == (2, 2, 3)


def test_a_clip_shorter_than_a_tubelet_is_refused(tubelets):
    with pytest.raises(ShapeMismatchError, match="shorter than a tubelet of 2 frames"):
        tubelets(torch.zeros(1, 1, 3, 8, 8))


def test_time_and_channels_swapped_are_refused(tubelets):
    with pytest.raises(ShapeMismatchError, match=r"time and channels are swapped, transpose\(1, 2\)"):
        tubelets(torch.zeros(1, 3, 4, 8, 8))


def test_pixels_that_hold_no_whole_patches_are_refused(tubelets):
    with pytest.raises(ShapeMismatchError, match="frames of 8 x 10 pixels hold no whole number of 4 x 4 patches"):
        tubelets(torch.zeros(1, 4, 3, 8, 10))
