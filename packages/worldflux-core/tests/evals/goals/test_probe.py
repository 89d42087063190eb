"""A named state is read out of latents by a linear map, and can be a goal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.evals import fit_probe
from worldflux.planners import CEMPlanner, StateGoal


def dataset(episodes=8, rows=20):
    state = np.random.default_rng(0).uniform(0.1, 0.9, (episodes * rows, 2)).astype(np.float32)
    columns = {
        "obs/state": state,
        "action": np.zeros((len(state), 2), np.float32),
        "info/turned": state[:, ::-1] * 3 + 1,
        "info/task": np.zeros((len(state), 1), np.int64),
    }
    vector = ModalitySpec("vector", (2,))
    info = {"turned": vector, "task": ModalitySpec("vector", (1,), "int64")}
    table = EpisodeTable.of(range(episodes), [rows] * episodes)
    return Dataset(
        Recording("t", Path("t"), {"state": vector}, ActionSpec("continuous", 2), table, columns, info_spec=info)
    )


def test_a_probe_reads_what_is_linear_in_the_latent(oracle):
    model = oracle.Oracle()
    probe = fit_probe(model, dataset(), "turned")
    assert probe.key == "latent" and probe.r2 > 0.999
    read = probe(model.encode(torch.tensor([[0.2, 0.7]])))
    torch.testing.assert_close(read, torch.tensor([[3.1, 1.6]]), atol=0.02, rtol=0)


def test_a_probe_of_latents_that_know_nothing_says_so(oracle):
    assert fit_probe(oracle.Oracle(knows=0.0), dataset(), "turned").r2 < 0.1


def test_a_named_state_is_planned_to(oracle):
    model = oracle.Oracle()
    goal = StateGoal(torch.tensor([3.1, 1.6]), fit_probe(model, dataset(), "turned"))
    planner = CEMPlanner(horizon=12, num_samples=300, num_elites=20, iterations=8)
    state = model.encode(torch.tensor([[0.5, 0.5], [0.8, 0.2]]))
    plan = planner.plan(model, state, goal, generator=torch.Generator().manual_seed(0))
    reached = model.rollout(state, plan).states[-1]["latent"]
    torch.testing.assert_close(reached, torch.tensor([[0.2, 0.7]] * 2), atol=0.05, rtol=0)


def test_the_nearest_name_is_told_for_a_state_that_the_data_does_not_have(oracle):
    with pytest.raises(ConfigurationError, match=r"the data has no 'turnde', it has .* Did you mean 'turned'"):
        fit_probe(oracle.Oracle(), dataset(), "turnde")
    with pytest.raises(ConfigurationError, match="record at least two"):
        fit_probe(oracle.Oracle(), dataset(episodes=1), "turned")


def test_a_wanted_state_of_another_size_or_number_of_rows_is_refused(oracle):
    model, probe = oracle.Oracle(), fit_probe(oracle.Oracle(), dataset(), "turned")
    planner, state = CEMPlanner(horizon=2, num_samples=8, num_elites=2), model.encode(torch.rand(2, 2))
    with pytest.raises(ShapeMismatchError, match="the wanted state"):
        planner.plan(model, state, StateGoal(torch.zeros(3), probe))
    with pytest.raises(ShapeMismatchError, match="rows of the wanted state"):
        planner.plan(model, state, StateGoal(torch.zeros(5, 2), probe))
    with pytest.raises(ConfigurationError, match=r"expected a Tensor \[S\]"):
        StateGoal([0.1, 0.2], probe)
