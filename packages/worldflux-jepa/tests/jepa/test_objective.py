"""The objective of the family: its terms, what they look at, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from worldflux import ValidationError
from worldflux_jepa.jepa.collapse import must_collapse
from worldflux_jepa.jepa.losses import (
    covariance,
    covariance_over_time,
    distance,
    sigreg,
    std_hinge,
    std_hinge_over_time,
)
from worldflux_jepa.jepa.objective import LatentObjective

BATCH, ROWS, TOKENS, LATENT, ACTION = 6, 5, 2, 4, 3
OFF = {
    "distance": "mse", "target": "online", "regulariser": "none", "sigreg_weight": 0.1, "directions": 16, "knots": 17,
    "std_weight": 2.0, "cov_weight": 3.0, "std_over_time": 0.0, "cov_over_time": 0.0, "margin_over_time": 1.0,
    "time_similarity": 0.0, "inverse_dynamics": 0.0, "straightening": 0.0,
    "latent_dim": LATENT, "action_dim": ACTION,
}  # fmt: skip


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def latents() -> torch.Tensor:
    return drawn(BATCH, ROWS, TOKENS, LATENT)


@pytest.fixture
def losses():
    """Terms and metrics with the options given; predictions are off by 0.5 unless others are given."""

    def make(latents, *, predictions=None, valid=None, steps=2, targets=None, **options):
        objective = LatentObjective(SimpleNamespace(**{**OFF, **options}))
        for parameter in objective.parameters():
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
        targets = latents if targets is None else targets
        ahead = range(1, steps + 1)
        predictions = predictions or [targets[:, k:] + 0.5 for k in ahead]
        valid = valid or [torch.ones(len(latents), ROWS - k) for k in ahead]
        noise = objective.noise(latents.shape, generator=torch.Generator().manual_seed(1), device="cpu")
        return objective.losses(latents, targets, predictions, drawn(len(latents), ROWS, ACTION), valid, noise)

    return make


@pytest.mark.parametrize(("kind", "value"), [("mse", 0.25), ("l1", 0.5), ("smooth_l1", 0.125)])
def test_each_distance_is_a_mean_over_the_latent(losses, latents, kind, value):
    terms, _ = losses(latents, distance=kind)
    assert terms["prediction"].item() == pytest.approx(value, rel=1e-5)


def test_the_cosine_distance_sees_no_length():
    x, y = drawn(3, LATENT), drawn(3, LATENT, seed=1)
    assert torch.allclose(distance(7 * x, y, kind="cosine"), 1 - F.cosine_similarity(x, y))
    assert distance(2 * x, x, kind="cosine").abs().max() < 1e-6


def test_every_number_of_steps_counts_the_same(losses, latents):
    terms, metrics = losses(latents, predictions=[latents[:, 1:] + 1, latents[:, 2:] + 3])
    assert terms["prediction"].item() == pytest.approx((1 + 9) / 2, rel=1e-5)
    assert metrics["prediction_2"].item() == pytest.approx(9, rel=1e-5)


def test_a_prediction_of_row_k_is_compared_with_row_k_and_no_other(losses, latents):
    exact = [latents[:, k:] for k in (1, 2)]
    assert losses(latents, predictions=exact)[0]["prediction"] == 0
    late = [latents[:, k - 1 : -1] for k in (1, 2)]
    assert losses(latents, predictions=late)[0]["prediction"] > 0.5


def test_rows_of_another_episode_are_left_out(losses, latents):
    first, second = latents[:, 1:] + 0.5, latents[:, 2:] + 0.5
    first[:, 2] = 100
    valid = [torch.ones(BATCH, ROWS - 1), torch.ones(BATCH, ROWS - 2)]
    valid[0][:, 2] = 0
    terms, _ = losses(latents, predictions=[first, second], valid=valid, time_similarity=1.0, straightening=1.0)
    assert terms["prediction"].item() == pytest.approx(0.25, rel=1e-5)
    jumping = latents.clone()
    jumping[:, 3:] += 1000  # between rows 2 and 3, where another episode begins
    again, _ = losses(jumping, valid=valid, time_similarity=1.0, straightening=1.0)
    assert again["time_similarity"] == pytest.approx(terms["time_similarity"].item(), rel=1e-3)
    assert again["straightening"] == pytest.approx(terms["straightening"].item(), abs=1e-3)


def test_skill_is_against_the_latent_as_it_was(losses, latents):
    _, metrics = losses(latents, predictions=[latents[:, :-1], latents[:, :-2]])
    assert metrics["skill_1"].abs() < 1e-5
    assert losses(latents, predictions=[latents[:, k:] for k in (1, 2)])[1]["skill_2"] == 1


def test_an_online_target_learns_and_a_detached_one_does_not(losses, latents):
    for detached in (False, True):
        targets = drawn(BATCH, ROWS, TOKENS, LATENT, seed=3).requires_grad_()
        terms, _ = losses(
            latents,
            targets=targets.detach() if detached else targets,
            predictions=[latents[:, 1:].clone().requires_grad_()],
            steps=1,
        )
        terms["prediction"].backward()
        assert (targets.grad is None) is detached


def test_sigreg_sees_each_row_and_token_alone(losses, latents):
    terms, _ = losses(latents, regulariser="sigreg")
    objective = LatentObjective(SimpleNamespace(**{**OFF, "regulariser": "sigreg"}))
    noise = objective.noise(latents.shape, generator=torch.Generator().manual_seed(1), device="cpu")
    one_by_one = [sigreg(latents[:, t, n], noise["directions"][0]) for t in range(ROWS) for n in range(TOKENS)]
    assert terms["sigreg"].item() == pytest.approx(0.1 * torch.stack(one_by_one).mean().item(), rel=1e-5)


def test_vicreg_sees_that_a_batch_is_the_same_at_every_step(losses):
    rows = drawn(1, ROWS, TOKENS, LATENT).expand(BATCH, -1, -1, -1)
    terms, _ = losses(rows, regulariser="vicreg")
    assert terms["std"].item() == pytest.approx(2 * 0.99, rel=1e-3)  # every deviation is 0, of which eps keeps .01
    assert std_hinge(rows.flatten(0, 2)) < 0.6


def test_vicreg_weighs_deviations_and_covariances(losses, latents):
    terms, _ = losses(latents, regulariser="vicreg")
    by_row = latents.permute(1, 2, 0, 3)
    assert terms["std"].item() == pytest.approx(2 * std_hinge(by_row).item())
    assert terms["cov"].item() == pytest.approx(3 * covariance(by_row).item())


def test_what_never_changes_within_a_sequence_costs_over_time(losses, latents):
    still = latents[:, :1].expand(-1, ROWS, -1, -1)  # tells the sequence, and not where in it
    terms, _ = losses(still, regulariser="vicreg", std_over_time=2.0, margin_over_time=0.5)
    assert terms["std_over_time"].item() == pytest.approx(2 * 0.49, rel=1e-3)
    assert std_hinge(still.permute(1, 2, 0, 3)) < 0.5  # which no statistic of the batch alone sees
    moving, _ = losses(9 * latents, std_over_time=2.0, margin_over_time=0.5)
    assert moving["std_over_time"].item() < 0.01


def test_over_time_each_token_counts_by_itself(losses, latents):
    terms, _ = losses(latents, std_over_time=2.0, cov_over_time=3.0)
    by_token = [latents[:, :, n] for n in range(TOKENS)]
    wanted = {"std_over_time": 2.0, "cov_over_time": 3.0}
    for name, by in (("std_over_time", std_hinge_over_time), ("cov_over_time", covariance_over_time)):
        mean = torch.stack([by(one) for one in by_token]).mean().item()
        assert mean > 0 and terms[name].item() == pytest.approx(wanted[name] * mean, rel=1e-5)


def test_inverse_dynamics_reads_the_action_between_two_rows(losses, latents):
    objective = LatentObjective(SimpleNamespace(**{**OFF, "inverse_dynamics": 1.0}))
    for parameter in objective.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    read = objective.inverse(latents.mean(2))
    assert read.shape == (BATCH, ROWS - 1, ACTION)
    changed = latents.clone()
    changed[:, 3] += 1
    moved = (objective.inverse(changed.mean(2)) != read).any(-1).any(0)
    assert moved.tolist() == [False, False, True, True]
    assert losses(latents, inverse_dynamics=2.0)[0]["inverse_dynamics"] > 0


class Difference(torch.nn.Module):
    def forward(self, latents):
        return latents[:, 1:, :ACTION] - latents[:, :-1, :ACTION]


def test_the_action_of_a_row_is_what_leads_to_the_next(latents):
    objective = LatentObjective(SimpleNamespace(**{**OFF, "inverse_dynamics": 1.0}))
    objective.inverse = Difference()
    actions = torch.zeros(BATCH, ROWS, ACTION)
    actions[:, :-1] = Difference()(latents.mean(2))
    valid = [torch.ones(BATCH, ROWS - 1)]
    terms, _ = objective.losses(latents, latents, [latents[:, 1:]], actions, valid, {})
    assert terms["inverse_dynamics"] == 0


def test_directions_are_drawn_afresh_from_the_generator_given():
    objective = LatentObjective(SimpleNamespace(**{**OFF, "regulariser": "sigreg"}))
    generator, shape = torch.Generator().manual_seed(0), (BATCH, ROWS, TOKENS, LATENT)
    first, second = (objective.noise(shape, generator=generator, device="cpu")["directions"] for _ in range(2))
    again = objective.noise(shape, generator=torch.Generator().manual_seed(0), device="cpu")["directions"]
    assert first.shape == (1, LATENT, 16) and torch.equal(first, again) and not torch.equal(first, second)
    assert LatentObjective(SimpleNamespace(**OFF)).noise(shape, generator=generator, device="cpu") == {}


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("vicreg", {"regulariser": "vicreg"}),
        ("sigreg", {"regulariser": "sigreg"}),
        ("over time", {"std_over_time": 1.0}),
        ("over time", {"cov_over_time": 1.0}),
    ],
)
def test_one_sequence_has_no_statistics(losses, latents, said, options):
    with pytest.raises(ValidationError, match=f"{said}.*got 1 sequence; train with batch_size"):
        losses(latents[:1], **options)


def test_statistics_are_of_full_precision_under_autocast(latents):
    rows, directions = latents.permute(1, 2, 0, 3) + 30, drawn(LATENT, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sigreg(rows, directions), std_hinge(rows), covariance(rows)
    for value, exact in zip(found, (sigreg(rows, directions), std_hinge(rows), covariance(rows)), strict=True):
        assert value.dtype == torch.float32 and torch.equal(value, exact)


@pytest.mark.parametrize(
    ("target", "regulariser", "weights"),
    [
        ("online", "none", {}),
        ("online", "none", {"inverse_dynamics": 1.0}),
        ("online", "sigreg", {"sigreg_weight": 0.0}),
        ("online", "vicreg", {"std_weight": 0.0}),
        ("stopgrad", "none", {"time_similarity": 0.3}),
        ("ema", "none", {"time_similarity": 0.3}),
    ],
)
def test_what_must_collapse_is_named(target, regulariser, weights):
    said = must_collapse(target, regulariser, **weights)
    assert said is not None and f"regulariser={regulariser!r}" in said and "must collapse" in said


@pytest.mark.parametrize(
    ("target", "regulariser", "weights"),
    [
        ("online", "sigreg", {"sigreg_weight": 0.003}),
        ("online", "vicreg", {}),
        ("online", "none", {"std_over_time": 0.3}),
        ("stopgrad", "none", {}),
        ("ema", "none", {}),
        ("ema", "none", {"time_similarity": 0.3, "inverse_dynamics": 1.0}),
        ("frozen", "none", {"time_similarity": 0.3}),
    ],
)
def test_what_need_not_collapse_is_allowed(target, regulariser, weights):
    assert must_collapse(target, regulariser, **weights) is None
