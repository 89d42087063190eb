"""What V-JEPA 2 is as a world model, and what it learns from."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux import Batch, Capability, CapabilityError, ConfigurationError, ShapeMismatchError, State, ValidationError
from worldflux_jepa.layers.video import normalised
from worldflux_jepa.vjepa2.clips import cut
from worldflux_jepa.vjepa2.masks import Masks


def test_frames_after_t_never_change_the_state_at_t(build, clips):
    model, first, other = build(), clips(frames=6), clips(frames=6, seed=1)
    action = torch.zeros(2, 2)
    states = []
    for video in (first, torch.cat([first[:, :3], other[:, 3:]], 1)):
        state, found = model.encode(video[:, 0]), []
        for t in range(1, 6):
            found.append(state["latent"])
            state = model.update(state, action, video[:, t])
        states.append([*found, state["latent"]])
    for t, (one, two) in enumerate(zip(*states, strict=True)):
        assert torch.equal(one, two) == (t < 3)


def test_the_tokens_of_a_clip_do_see_what_comes_after(build, clips):
    model, first, other = build(), clips(), clips(seed=1)
    mixed = torch.cat([first[:, :2], other[:, 2:]], 1)
    assert not torch.allclose(model.tokens(first)[:, :16], model.tokens(mixed)[:, :16], atol=1e-3)


def test_the_state_of_a_frame_is_the_clip_of_that_frame_alone(build, clips):
    model, frame = build(), clips(frames=1)
    assert torch.allclose(model.encode(frame[:, 0])["latent"], model.tokens(frame.expand(-1, 2, -1, -1, -1)), atol=1e-6)


def test_it_declares_what_it_can_and_nothing_else(build, clips):
    model = build()
    assert model.capabilities == {Capability.REPRESENTATION}
    state = model.encode(clips()[:, 0])
    with pytest.raises(CapabilityError, match="knows no actions.*vjepa2-ac"):
        model.transition(state, torch.zeros(2, 2))
    with pytest.raises(CapabilityError, match="knows no actions"):
        model.rollout(state, torch.zeros(3, 2, 2))
    with pytest.raises(CapabilityError, match="decoder"):
        model.decode(state)
    with pytest.raises(CapabilityError, match="no policy"):
        model.policy()


@pytest.mark.parametrize(
    ("name", "encoder", "predictor"),
    [
        ("ci", 75_120, 15_984), ("tiny", 1_853_760, 261_216), ("base", 86_236_416, 21_889_152),
        ("large", 303_885_312, 22_086_016), ("huge", 631_648_000, 22_282_880), ("giant", 1_012_173_952, 22_381_312),
    ],
)  # fmt: skip
def test_presets_have_the_official_numbers_of_parameters(name, encoder, predictor):
    config = worldflux.get_config(f"vjepa2:{name}")
    with torch.device("meta"):
        model = worldflux.WorldModelRegistry.model("vjepa2").model_class(config)
    for part, wanted in ((model.observation_encoder, encoder), (model.predictor, predictor)):
        assert sum(parameter.numel() for parameter in part.parameters()) == wanted
    assert sum(parameter.numel() for parameter in model.parameters()) == encoder + predictor


def test_initialising_again_gives_the_same_weights(build):
    model = build()
    fresh = type(model)(model.config).state_dict()
    model.initialise()
    held = {name: value for name, value in model.state_dict().items() if "norm" not in name}  # those are left alone
    assert all(torch.equal(value, fresh[name]) for name, value in held.items())


def test_images_of_bytes_are_normalised_as_imagenet_is():
    image = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    wanted = [(1 - mean) / deviation for mean, deviation in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert normalised(image)[0, :, 0, 0].tolist() == pytest.approx(wanted)
    assert torch.equal(normalised(image.repeat(1, 2, 1, 1))[0, 3:], normalised(image)[0])
    grey = normalised(image[:, :1])
    assert grey.shape == (1, 1, 2, 2)
    assert float(grey[0, 0, 0, 0]) == pytest.approx((1 - 0.449) / 0.226)


# --- clips ------------------------------------------------------------------------------------------------------------


def test_a_clip_stays_in_its_episode_and_repeats_its_last_frame():
    begins = torch.tensor([[True, False, False, True, False, False], [True, False, False, False, False, False]])
    counts = torch.ones_like(begins)
    rows, whole = cut(begins, counts, torch.tensor([1, 2]), 4)
    assert rows.tolist() == [[1, 2, 2, 2], [2, 3, 4, 5]]
    assert whole.tolist() == [1, 1]


def test_rows_that_do_not_count_end_a_clip_and_begin_none():
    counts = torch.tensor([[True, True, False, False], [False, False, True, True]])
    rows, whole = cut(torch.zeros_like(counts), counts, torch.tensor([0, 0]), 4)
    assert rows[0].tolist() == [0, 1, 1, 1]
    assert whole.tolist() == [1, 0]


def test_the_loss_does_not_see_another_episode(build, clips):
    model, video = build(clip_frames=(4,)).train(), clips(frames=4)
    first = torch.zeros(2, 4, dtype=torch.bool)
    first[:, 2] = True
    other = torch.cat([video[:, :2], clips(frames=4, seed=1)[:, 2:]], 1)
    found = []
    for shown in (video, other):
        model.seed(0)
        found.append(float(model.loss(Batch(obs={"obs": shown}, is_first=first)).loss.detach()))
    assert found[0] == found[1]


def test_clips_that_do_not_count_do_not_change_the_loss(build, clips):
    model, video = build(clip_frames=(4,)).train(), clips(4, frames=4)
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0]).unsqueeze(1).expand(4, 4)
    found = []
    for shown in (video, torch.cat([video[:2], clips(2, frames=4, seed=1)])):
        model.seed(0)
        found.append(float(model.loss(Batch(obs={"obs": shown}, mask=mask)).loss.detach()))
    assert found[0] == found[1]


def test_longer_sequences_give_clips_of_the_configured_lengths(build, rows):
    model = build(clip_frames=(4, 2))
    groups = model.drawn(model.checked(rows(3, 7)))
    assert [tuple(group.video.shape[:2]) for group in groups] == [(3, 4), (3, 2)]
    assert [len(group.masks) for group in groups] == [2, 2]
    starts = {float(group.video[0, 0].sum()) for _ in range(20) for group in model.drawn(model.checked(rows(3, 7)))[:1]}
    assert len(starts) > 1


# --- learning ---------------------------------------------------------------------------------------------------------


def test_the_target_encoder_follows_and_no_optimizer_sees_it(build, rows):
    model = build(ema_decay=0.75).train()
    before = {name: value.clone() for name, value in model.target_encoder.named_buffers()}
    seen = {id(value) for group in model.parameter_groups() for value in group["params"]}
    assert not list(model.target_encoder.parameters())
    assert not seen & {id(value) for value in model.target_encoder.buffers()}
    model.on_after_optimizer_step()
    for name, value in model.observation_encoder.named_parameters():
        assert torch.allclose(model.target_encoder.state_dict()[name], 0.75 * before[name] + 0.25 * value, atol=1e-6)
    assert any(name.startswith("target_encoder.") for name in model.state_dict())


def test_no_gradient_reaches_the_targets(build, rows):
    model = build().train()
    target = model.targets(model.video(rows().obs))
    assert not target.requires_grad
    assert torch.allclose(target.mean(-1), torch.zeros(()), atol=1e-5)
    assert torch.allclose(target.var(-1, unbiased=False), torch.ones(()), atol=1e-2)


def test_mask_tokens_that_the_loss_never_reads_are_frozen_and_the_others_learn(build, rows):
    model = build(num_mask_tokens=4, mask_index=1, clip_frames=(4, 2)).train()
    model.loss(rows(2, 4)).loss.backward()
    learnt = [token.grad is not None and bool(token.grad.abs().sum() > 0) for token in model.predictor.mask_tokens]
    assert learnt == [False, True, True, False]
    assert [token.requires_grad for token in model.predictor.mask_tokens] == learnt
    assert len(model.mask_token_norms()) == 4


def test_biases_and_norms_do_not_decay_and_mask_tokens_do(build):
    model = build()
    decays, plain = ({id(value) for value in group["params"]} for group in model.parameter_groups())
    named = dict(model.named_parameters())
    assert id(named["predictor.mask_tokens.0"]) in decays
    assert id(named["observation_encoder.blocks.0.attn.qkv.weight"]) in decays
    assert {id(value) for name, value in named.items() if value.requires_grad and value.ndim == 1} == plain
    assert model.parameter_groups()[1]["weight_decay"] == 0.0


def test_what_is_hidden_is_not_read_before_the_blocks_and_is_after_them(build, clips):
    found = {}
    for mode in ("before", "after"):
        model, video = build(mask_mode=mode), clips(1)
        masks = [Masks(torch.arange(8).unsqueeze(0), torch.arange(24, 32).unsqueeze(0))]
        changed = video.clone()
        changed[:, 2:] = 0
        found[mode] = [model.predicted(model.video(shown), masks)[0][0] for shown in (video, changed)]
    assert torch.equal(*found["before"])
    assert not torch.allclose(*found["after"], atol=1e-3)


def test_the_order_of_ids_does_not_matter_to_the_predictor(build, clips):
    model = build()
    video, order = model.video(clips(1)), torch.tensor([3, 0, 2, 1])
    shown, hidden = torch.tensor([[1, 5, 9, 30]]), torch.tensor([[2, 6, 10, 31]])
    ((_, plain),) = model.predicted(video, [Masks(shown, hidden)])
    ((_, other),) = model.predicted(video, [Masks(shown[:, order], hidden[:, order])])
    assert torch.allclose(plain[:, order], other, atol=1e-5)


def test_the_loss_says_what_the_mean_token_would_miss_and_how_far_tokens_are_apart(build, rows):
    out = build().train().loss(rows())
    assert set(out.components) == {"masked"}
    assert {"mean_token", "target_std", "masked_0", "masked_1"} <= set(out.metrics)
    assert 0 < float(out.metrics["mean_token"]) < 2
    assert float(out.metrics["target_std"]) > 0


def test_the_official_masks_follow_the_number_of_updates(build, rows):
    model = build(masking="official").train()
    sizes = set()
    for _ in range(4):
        groups = model.drawn(model.checked(rows()))
        sizes.add(tuple(mask.target.shape[1] for mask in groups[0].masks))
        model.on_after_optimizer_step()
    assert len(sizes) > 1


# --- parts ------------------------------------------------------------------------------------------------------------


class FramesOnly(torch.nn.Module):
    """An encoder of frames that knows no clips."""

    def encode(self, observations):
        image = observations["obs"].float()
        return State({"latent": image.mean((-3, -2, -1), keepdim=True)[..., 0].expand(-1, 16, 24)})


def test_an_encoder_without_clips_encodes_and_says_what_learning_takes(build, rows, clips):
    model = build(component_overrides={"observation_encoder": FramesOnly()})
    assert model.encode(clips()[:, 0])["latent"].shape == (2, 16, 24)
    for call in (lambda: model.loss(rows()), lambda: model.tokens(clips())):
        with pytest.raises(ConfigurationError, match="FramesOnly.*method tokens"):
            call()


class Plain:
    """An encoder of clips that is no module: it has no weights, and is its own target."""

    def encode(self, observations):
        return FramesOnly().encode(observations)

    def tokens(self, video, kept=None):
        every = video.mean((2, 3, 4)).repeat_interleave(8, 1).unsqueeze(-1).expand(-1, -1, 24)
        return every if kept is None else every.gather(1, kept.unsqueeze(-1).expand(-1, -1, 24))


def test_an_encoder_that_is_no_module_is_its_own_target(build, rows):
    model = build(component_overrides={"observation_encoder": Plain()}).train()
    model.loss(rows()).loss.backward()
    model.on_after_optimizer_step()
    assert model.target_encoder is model.observation_encoder


def test_another_encoder_has_targets_of_its_own(build):
    model, other = build(), build(seed=3)
    model.set_component("observation_encoder", other.observation_encoder)
    held = model.target_encoder.state_dict()
    assert all(torch.equal(held[name], value) for name, value in other.observation_encoder.state_dict().items())


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_batch_shorter_than_a_tubelet_is_refused(build, rows):
    with pytest.raises(ValidationError, match="1 rows, a tubelet is 2 frames: train on sequences of 4 rows"):
        build().loss(rows(2, 1))


def test_time_and_channels_swapped_are_refused(build, clips):
    with pytest.raises(ShapeMismatchError, match=r"time and channels are swapped"):
        build().observation_encoder.tokens(normalised(clips(frames=4)).transpose(1, 2))
    with pytest.raises(ValidationError, match="obs"):
        build().tokens(clips(frames=4).transpose(1, 2))


def test_one_frame_is_no_clip(build, clips):
    with pytest.raises(ShapeMismatchError, match="clips"):
        build().tokens(clips()[:, 0])


@pytest.mark.parametrize(
    ("context", "target", "word"),
    [
        (torch.zeros(2, 0), torch.zeros(2, 3), "leaves no token"),
        (torch.zeros(2, 3), torch.zeros(2, 0), "leaves no token"),
        (torch.zeros(2, 3), torch.full((2, 3), 32), "from 32 to 32.*0 to 31.*another grid"),
        (torch.full((2, 3), -1), torch.zeros(2, 3), "another grid"),
        (torch.zeros(1, 3), torch.zeros(2, 3), "ids of tokens"),
    ],
)
def test_masks_that_leave_nothing_or_are_another_grids_are_refused(build, clips, context, target, word):
    model = build()
    with pytest.raises(ValidationError, match=word):
        model.predicted(model.video(clips()), [Masks(context.long(), target.long())])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"obs_shape": (6,)}, "observes one image.*'vector'"),
        ({"observation_modalities": {"a": {"shape": (3, 16, 16)}, "b": {"shape": (3, 16, 16)}}}, "observes one image"),
        ({"patch_size": 5}, "16 x 16 pixels hold no whole number of patches of 5"),
        ({"patch_size": 16}, "a picture of 1 patch leaves nothing to predict"),
        ({"num_heads": 5}, "embed_dim 24 must be divisible by num_heads 5"),
        ({"num_heads": 4}, "heads of 6 channels are too narrow"),
        ({"pred_num_heads": 3}, "heads of 8 channels are too narrow"),
        ({"clip_frames": (4, 1)}, "must all hold a tubelet"),
        ({"clip_frames": ()}, "must all hold a tubelet"),
        ({"mask_index": 3}, "need 4 mask tokens, num_mask_tokens is 3"),
        ({"mask_scales": (0.15,)}, "one entry in each"),
        (
            {"target_shares": (0.8, 0.7), "context_shares": (0.25, 0.06)},
            "take 13 and 4 of a picture's 16 patches: together at most all",
        ),
        ({"aspect_ratios": (1.5, 0.75)}, "from the smallest to the largest"),
        ({"rope_layout": "other"}, "rope_layout"),
    ],
)
def test_options_that_cannot_be_are_refused(build, options, word):
    with pytest.raises(ValueError, match=word):
        build(**options)
