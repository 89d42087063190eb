"""SIGReg, step by step as LeWM computes it."""

from __future__ import annotations

import torch

from worldflux_jepa.jepa import losses

RECORDED = "jepa_lewm"


def test_directions_are_brought_to_length_one(recording, agrees):
    directions = recording["sigreg/directions"]
    agrees(losses.along(torch.eye(len(directions)), directions), recording["sigreg/directions_normalised"])


def test_the_statistic_of_each_time_step_and_direction(recording, agrees):
    points = recording["sigreg/t"]
    seen = losses.sigreg_statistic(recording["sigreg/projections"], points, both_halves=True, times_rows=True)
    agrees(seen, recording["sigreg/statistic"], tolerance=5e-5)
    agrees(seen.mean(), recording["sigreg/value"], tolerance=5e-5)


def test_the_whole_of_the_latents(recording, agrees):
    latents, directions = recording["emb"].transpose(0, 1), recording["sigreg/directions"]
    agrees(losses.along(latents, directions), recording["sigreg/projections"], tolerance=5e-5)
    knots = len(recording["sigreg/t"])
    agrees(losses.sigreg(latents, directions, knots=knots), recording["sigreg/value"], tolerance=5e-5)
