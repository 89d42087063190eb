"""A frozen encoder is only ever asked: it does not learn, is not saved, and gives the tokens of patches."""

from __future__ import annotations

import copy

import pytest
import torch

from worldflux import CheckpointError, ConfigurationError, ShapeMismatchError
from worldflux_jepa.external import FrozenEncoder
from worldflux_jepa.external.encoders import AT_ONCE, Features

from .conftest import Spy, weights_of


def frozen(name="dinov2", prefix=1, **more):
    spy = Spy(prefix)
    return FrozenEncoder(weights_of(name, **more), network=spy), spy


def test_it_stays_in_evaluation_under_train():
    encoder, spy = frozen()
    encoder.train()
    x = torch.rand(2, 3, 16, 16)
    assert not spy.training
    assert torch.equal(encoder(x), encoder(x))


def test_it_gives_no_gradient_and_has_no_parameter():
    encoder, spy = frozen()
    image = torch.rand(2, 3, 16, 16, requires_grad=True)
    assert not encoder(image).requires_grad
    assert not list(encoder.parameters()) and not spy.weight.requires_grad


def test_its_state_is_the_digest_alone():
    encoder, _ = frozen()
    assert list(encoder.state_dict()) == ["digest"]


def test_a_checkpoint_made_with_other_weights_is_refused():
    one, other = (FrozenEncoder(weights_of(seed=seed)) for seed in (0, 1))
    other.load_state_dict(FrozenEncoder(weights_of(seed=1)).state_dict())
    with pytest.raises(CheckpointError, match="other encoder weights"):
        one.load_state_dict(other.state_dict())


@pytest.mark.parametrize(("name", "more", "prefix"), [("dinov2", {}, 1), ("ijepa", {}, 0), ("vit", {}, 1)])
def test_tokens_before_the_patches_are_counted_by_class(name, more, prefix):
    encoder, _ = frozen(name, prefix, **more)
    x = torch.rand(2, 3, 16, 16)
    assert encoder.weights.prefix == prefix
    assert bool((encoder.patches(x) > -1).all())


def test_registers_are_counted_from_the_config():
    encoder, _ = frozen("dinov2-registers", 5, num_register_tokens=4)
    assert encoder.patches(torch.rand(1, 3, 16, 16)).shape == (1, 4, 12)


def test_a_network_with_another_number_of_tokens_is_refused():
    encoder, _ = frozen(prefix=5)
    with pytest.raises(ShapeMismatchError, match="2 x 2 patches"):
        encoder(torch.rand(1, 3, 16, 16))


def test_patches_stand_row_by_row():
    encoder, _ = frozen()
    image = torch.zeros(1, 3, 16, 16)
    image[..., :8, 8:] = 1
    assert encoder.patches(image)[0, :, 0].tolist() == [0, 1, 0, 0]


def test_a_picture_alone_is_a_clip_for_an_encoder_of_videos():
    encoder, spy = frozen("vjepa2", 0, crop_size=16, tubelet_size=2)
    encoder(torch.rand(3, 3, 16, 16))
    clip = spy.asked[0]["pixel_values_videos"]
    assert clip.shape == (3, 2, 3, 16, 16) and torch.equal(clip[:, 0], clip[:, 1])
    assert spy.asked[0]["skip_predictor"] is True


def test_an_encoder_of_videos_takes_its_own_size_only():
    with pytest.raises(ConfigurationError, match="16 pixels a side only"):
        frozen("vjepa2", 0, crop_size=16, size=24)


def test_pictures_that_hold_no_whole_patches_are_refused():
    with pytest.raises(ConfigurationError, match="image_size to 16 or 24"):
        frozen(size=20)


def test_many_pictures_are_asked_in_parts_and_mean_the_same():
    encoder, spy = frozen()
    x = torch.rand(AT_ONCE + 3, 3, 16, 16)
    whole = encoder(x)
    assert [len(asked["pixel_values"]) for asked in spy.asked] == [AT_ONCE, 3]
    assert torch.equal(whole[-1:], encoder(x[-1:]))


def test_bytes_and_floats_mean_the_same():
    encoder, _ = frozen()
    image = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.allclose(encoder(image), encoder(image.float() / 255))


def test_a_copy_shares_the_network():
    encoder, spy = frozen()
    copy.deepcopy(encoder)(torch.rand(1, 3, 16, 16))
    assert len(spy.asked) == 1


def test_frames_of_one_image_are_joined_and_grey_is_colour():
    encoder, _ = frozen()
    stacked = torch.rand(2, 5, 6, 16, 16)
    features = Features(encoder, {"image": 6})
    assert features({"image": stacked}).shape == (2, 5, 24)
    first = Features(encoder, {"image": 3})({"image": stacked[..., :3, :, :]})
    assert torch.equal(features({"image": stacked})[..., :12], first)
    grey = stacked[..., :1, :, :]
    told = Features(encoder, {"image": 1})({"image": grey})
    assert torch.allclose(told, Features(encoder, {"image": 3})({"image": grey.expand(-1, -1, 3, -1, -1)}))


def test_two_channels_are_refused():
    with pytest.raises(ConfigurationError, match="2 channels"):
        Features(frozen()[0], {"image": 2})


def test_the_cls_token_of_an_encoder_without_one_is_refused():
    with pytest.raises(ConfigurationError, match="no CLS"):
        Features(frozen("ijepa", 0)[0], {"image": 3}, pool="cls")
