"""What V-JEPA 2-AC learns from: only what is aligned is right, only what is of one episode counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from worldflux import Batch, State, ValidationError
from worldflux_jepa.vjepa2_ac import VJEPA2AC, VJEPA2ACConfig

from .conftest import ARM, PLAIN, SIZES, actions, observation
from .test_rollouts import Alone


def make_batch(model, *, rows=5, size=3, **flags):
    return Batch(obs=observation(model, size, rows), actions=actions(model, size, rows), **flags)


class Oracle:
    """Knows what follows each frame, ``late`` frames off; which frame it is asked about it tells by the action."""

    def __init__(self, latents, actions, late=0):
        self.latents, self.actions, self.late = latents, actions, late

    def ahead(self, frames):
        found = []
        for row, done in enumerate(frames.actions):
            step = (self.actions[row].unsqueeze(0) - done.unsqueeze(1)).abs().sum(-1).argmin(1)
            found.append(self.latents[row, (step + 1 + self.late).clamp(0, self.latents.shape[1] - 1)])
        return torch.stack(found)

    def transition(self, state, conditioned, deterministic=False):
        raise AssertionError("the clip is predicted at once")


@pytest.mark.parametrize(("late", "right"), [(0, True), (1, False), (-1, False)])
def test_an_oracle_loses_nothing_only_where_it_is_aligned(build, late, right):
    model = build(auto_steps=3)
    batch = make_batch(model)
    latents = model.latent(batch.obs)
    model.set_component("dynamics_model", Oracle(latents, batch.actions, late))
    found = model.loss(batch).components
    assert all((float(value) < 1e-5) == right for value in found.values())
    assert set(found) == {"teacher_forced", "rollout"}


def test_a_rollout_is_fed_what_it_predicted(build):
    model, fed = build(auto_steps=3), []
    ahead = model.dynamics_model.ahead
    model.dynamics_model.ahead = lambda frames: fed.append(frames.latents) or ahead(frames)
    batch = make_batch(model)
    forced = model.loss(batch) and fed[0]
    assert [x.shape[1] for x in fed] == [4, 2, 3]
    assert torch.equal(fed[1][:, 0], forced[:, 0])
    assert not torch.allclose(fed[1][:, 1], forced[:, 1])
    assert torch.equal(fed[2][:, :2], fed[1])


def test_gradients_flow_through_the_rollout(build):
    model = build(auto_steps=2)
    fed = []
    ahead = model.dynamics_model.ahead
    model.dynamics_model.ahead = lambda frames: fed.append(frames.latents) or ahead(frames)
    model.loss(make_batch(model))
    assert not fed[0].requires_grad and fed[1].requires_grad


def test_steps_into_another_episode_do_not_count_and_what_was_before_is_not_seen(build):
    model = build(PLAIN, auto_steps=1)
    first = torch.zeros(3, 5, dtype=torch.bool)
    first[:, 2] = True
    batch = make_batch(model, is_first=first)
    alone = [
        Batch(obs={n: v[:, rows] for n, v in batch.obs.items()}, actions=batch.actions[:, rows])
        for rows in (slice(0, 2), slice(2, 5))
    ]
    parts = [float(model.loss(part).components["teacher_forced"]) for part in alone]
    assert float(model.loss(batch).components["teacher_forced"]) == pytest.approx(
        (parts[0] + 2 * parts[1]) / 3, rel=1e-5
    )


def test_a_part_that_only_predicts_the_next_step_learns_the_same(build):
    model = build()
    first = torch.zeros(3, 5, dtype=torch.bool)
    first[1, 3] = True
    batch = make_batch(model, is_first=first)
    whole = model.loss(batch).loss
    model.set_component("dynamics_model", Alone(model.dynamics_model))
    assert torch.allclose(whole, model.loss(batch).loss, atol=1e-5)


def test_the_encoder_does_not_learn_whoevers_it_is(build):
    model = build(PLAIN)
    assert not any(p.requires_grad for p in model.observation_encoder.parameters())

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 24)

        def encode(self, observations):
            image = observations["image"].float()
            return State(
                {"latent": self.layer(image.unflatten(-2, (2, 8)).unflatten(-1, (3, 8)).mean((-3, -1)).flatten(-2).mT)}
            )

    model.set_component("observation_encoder", Own())
    out = model.loss(make_batch(model))
    assert out.loss.requires_grad and not model.observation_encoder.layer.weight.requires_grad


def test_clips_longer_than_the_window_are_refused(build):
    model = build()
    with pytest.raises(ValidationError, match="window of 6 frames, it is 5"):
        model.loss(make_batch(model, rows=7))


@pytest.mark.parametrize("shapes", [ARM, PLAIN], ids=["an arm", "no arm"])
def test_later_frames_do_not_change_a_state(build, shapes):
    model = build(shapes)
    one, other = (observation(model, 2, 4, seed=seed) for seed in (0, 1))
    mixed = {name: torch.cat([one[name][:, :2], other[name][:, 2:]], 1) for name in one}
    first, second = (model.latent(obs) for obs in (one, mixed))
    assert torch.equal(first[:, :2], second[:, :2])


def test_what_reads_the_camera_is_there_and_frozen_where_none_is_observed(build):
    names = [name for name, p in build(ARM).named_parameters() if "extrinsics" in name and not p.requires_grad]
    assert names == ["dynamics_model.extrinsics_encoder.weight", "dynamics_model.extrinsics_encoder.bias"]


def test_the_official_size():
    shapes = {"observation_modalities": {"image": {"kind": "image", "shape": (3, 256, 256)}, "pose": {"shape": (7,)}}}
    with torch.device("meta"):
        model = VJEPA2AC(VJEPA2ACConfig(**shapes))
    predictor = sum(p.numel() for p in model.dynamics_model.parameters())
    assert round(predictor / 1e6, 2) == 305.22
    assert round(sum(p.numel() for p in model.observation_encoder.parameters()) / 1e6, 2) == 1012.17


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"auto_steps": 5}, "auto_steps"),
        ({"history": 6}, "history"),
        ({"patch_size": 7}, "whole patches"),
        ({"num_heads": 5}, "heads"),
        ({"predictor_heads": 4}, "at least 12"),
        ({**PLAIN, "action_spec": {"kind": "none"}}, "none"),
        ({**ARM, "action_dim": 3}, "7"),
        (
            {"observation_modalities": {"image": {"kind": "image", "shape": (3, 16, 16)}, "speed": {"shape": (2,)}}},
            "speed",
        ),
        ({"observation_modalities": {"pose": {"shape": (7,)}}}, "one image"),
    ],
)
def test_what_cannot_work_is_refused(change, word):
    with pytest.raises(ValueError, match=word):
        VJEPA2ACConfig(**{**SIZES, **ARM, **change})
