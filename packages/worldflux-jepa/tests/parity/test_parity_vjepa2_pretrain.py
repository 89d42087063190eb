"""Masked pretraining gives the numbers of the official program: losses, gradients, two whole updates."""

from __future__ import annotations

import re

import pytest
import torch

from worldflux import import_weights
from worldflux_jepa.vjepa2 import VJEPA2, losses, schedules
from worldflux_jepa.vjepa2.clips import Clips
from worldflux_jepa.vjepa2.masks import Masks

RECORDED = "vjepa2_pretrain"
GRADIENT, AFTER = 1e-4, {1: 5e-5, 2: 1e-4}
PARTS = {"encoder": "observation_encoder", "predictor": "predictor", "target_encoder": "target_encoder"}


def weights_of(recording, place="weights"):
    return {part: recording.below(f"{place}/{part}/") for part in PARTS}


@pytest.fixture
def model(recording) -> VJEPA2:
    """Our model as the official one stood before the first update."""
    settings = {**recording.meta["config"], "which": "encoder"}
    return import_weights(weights_of(recording), importer="official-vjepa2", config=settings).train()


@pytest.fixture
def groups(recording) -> list[Clips]:
    """The recorded clips of each length, with their masks."""
    found = []
    for group in range(len(recording.meta["config"]["clip_groups"])):
        video = recording[f"clip{group}"].transpose(1, 2)
        masks = []
        while recording.has(f"group{group}/mask{len(masks)}/enc"):
            name = f"group{group}/mask{len(masks)}"
            masks.append(Masks(recording[f"{name}/enc"].long(), recording[f"{name}/pred"].long()))
        assert masks
        found.append(Clips(video, torch.ones(len(video)), masks))
    return found


def test_targets_contexts_predictions_and_losses(recording, model, groups, agrees):
    for group, (video, _, masks) in enumerate(groups):
        target = model.targets(video)
        agrees(target, recording[f"group{group}/target"])
        for number, (context, predicted) in enumerate(model.predicted(video, masks, group=group)):
            name = f"group{group}/mask{number}"
            agrees(context, recording[f"{name}/z"])
            agrees(predicted, recording[f"{name}/z_pred"])
            hidden = target.gather(1, masks[number].target.unsqueeze(-1).expand(-1, -1, target.shape[-1]))
            agrees(hidden, recording[f"{name}/h"])
            missed = losses.masked_loss(predicted, hidden, exponent=model.config.loss_exponent)
            agrees(missed.mean(), recording[f"{name}/loss"])


def test_the_eps_of_the_targets_norm(recording, model, agrees):
    normed = losses.normalised_targets(recording["target_ln_probe_in"], eps=model.config.target_eps)
    agrees(normed, recording["target_ln_probe_out"])


def test_the_loss_is_the_plain_mean_over_pairs_and_its_gradients_agree(recording, model, groups, agrees):
    out = model.masked_loss(groups)
    agrees(out.loss, recording["loss0"])
    out.loss.backward()
    found = {}
    for part in ("encoder", "predictor"):
        named = getattr(model, PARTS[part]).named_parameters()
        found |= {f"{part}/{name}": value.grad for name, value in named}
    wanted = recording.below("grads/")
    without = {name for name, value in found.items() if value is None}
    assert without == set(recording.meta["params_without_gradient"])
    assert wanted
    for name, value in wanted.items():
        agrees(found[name], value, tolerance=GRADIENT)


def test_two_whole_updates(recording, model, groups, agrees):
    assert recording.below("weights_after2/encoder/")
    told, loose = recording.meta["optimizer"], recording.meta["zero_gradient_elements"]
    optimizer = torch.optim.AdamW(
        model.parameter_groups(), betas=tuple(told["betas"]), eps=told["eps"], weight_decay=1.0
    )
    rates, decays = told["lr_per_step"], told["weight_decay_per_step"]
    for step, (rate, decay, kept) in enumerate(zip(rates, decays, recording.meta["ema"]["m_per_step"], strict=True)):
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = rate, decay if group["weight_decay"] else 0.0
        out = model.masked_loss(groups)
        agrees(out.loss, recording[f"loss{step}"])
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        model.move_target(kept)
        for part, wanted in weights_of(recording, f"weights_after{step + 1}").items():
            held = getattr(model, PARTS[part]).state_dict()
            assert set(held) == set(wanted) or not wanted
            for name, value in wanted.items():
                got, value = held[name].clone().flatten(), value.flatten()
                free = loose.get(f"{part.replace('target_encoder', 'encoder')}/{name}", [])
                # their gradient is zero but for noise, of which Adam makes whole steps
                assert (got[free] - value[free]).abs().le(sum(rates[: step + 1]) + 1e-6).all()
                got[free] = value[free]
                agrees(got, value, tolerance=AFTER[step + 1])


def test_the_recorded_checkpoint_is_the_recorded_weights(recording):
    file = recording.folder / f"{recording.name.replace('vjepa2_pretrain', 'vjepa2_ckpt_pretrain')}.pt"
    if not file.is_file():
        pytest.skip(f"there is no {file.name} beside the recording")
    weights = weights_of(recording)
    for which in ("encoder", "target_encoder"):
        settings = {**recording.meta["config"], "which": which}
        held = import_weights(file, importer="official-vjepa2", config=settings).state_dict()
        assert all(torch.equal(held[f"observation_encoder.{n}"], v) for n, v in weights[which].items())
        assert all(torch.equal(held[f"predictor.{n}"], v) for n, v in weights["predictor"].items())
        assert all(torch.equal(held[f"target_encoder.{n}"], v) for n, v in weights["target_encoder"].items())


def test_schedules(recording):
    said = {re.split(r"[( ]", name)[0]: (name, values) for name, values in recording.meta["schedules"].items()}
    numbers = {
        name: dict(re.findall(r"([a-zA-Z_.]+) (\.?\d+(?:\.\d+)?)", text.partition("(")[2]))
        for name, (text, _) in said.items()
    }

    def curve(name, function, **fields):
        _, values = said[name]
        given = {own: float(numbers[name][word]) for own, word in fields.items()}
        got = [function(step, **given) for step in range(1, len(values) + 1)]
        assert got == pytest.approx(values, abs=1e-8)

    ends = {"total": "T_max", "final": "final"}
    curve("warmup_cosine", schedules.warmup_cosine, warmup="warmup", start="start", peak="ref", **ends)
    curve("linear_decay", schedules.linear, start="ref", **ends)
    curve("wsd", schedules.warmup_stable_decay, warmup="warmup", anneal="anneal", start="start", peak="ref", **ends)
    curve("cosine_wd", schedules.cosine, start="ref", **ends)
