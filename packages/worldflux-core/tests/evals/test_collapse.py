"""Evaluations say whether what a model calls its representation has collapsed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worldflux.core.state import State
from worldflux.evals import across_runs, evaluate_horizon
from worldflux.evals.horizon.collapse import collapse_curves
from worldflux.evals.horizon.unrolled import Unrolled

ASKED = {"context": 3, "horizon": 5, "sequences": 24}


@pytest.fixture
def judged(drift):
    """The evaluation of the model that knows everything, with its latent changed as asked."""

    def judge(change=lambda place: place, *, stand_in=False, named=("place",), data=None):
        class Changed(drift.Drift):
            def begin(self, obs, *, deterministic):
                return State({"place": change(super().begin(obs, deterministic=deterministic)["place"])})

        model = Changed(drift.model().config).know()
        model.representation = named
        return evaluate_horizon(model, data or drift.dataset(stand_in=stand_in), **ASKED)

    return judge


def mean(result, measure, source):
    return result.curve("collapse", "place", measure, source).mean.value


def test_what_is_seen_is_measured_beside_what_is_imagined_and_the_untrained_model(judged):
    result = judged()
    assert result.curve("collapse", "place", "std", "encoded").horizon == tuple(range(6))
    assert result.curve("collapse", "place", "std", "model").horizon == tuple(range(1, 6))
    assert mean(result, "std", "encoded") > 1 and mean(result, "std", "untrained_encoded") > 0
    assert mean(result, "rankme", "encoded") > 1.5 and mean(result, "pooled_rankme", "encoded") > 1.5
    assert result.to_dict()["collapse"]["place"]["within_ratio"]["encoded"]["horizon"] == [0]
    assert not any("collapsed" in sentence for sentence in result.to_dict()["in_words"])


def test_a_constant_is_said_to_have_collapsed(judged):
    result = judged(torch.zeros_like)
    assert mean(result, "std", "encoded") == 0
    assert any("'place' has collapsed: its numbers hardly vary" in said for said in result.to_dict()["in_words"])


def test_a_model_that_names_no_representation_has_no_such_section(judged):
    assert "collapse" not in judged(named=()).to_dict()
    assert "collapse" not in judged(named=("elsewhere",)).to_dict()


def test_rows_without_an_observation_of_their_own_are_not_measured(judged):
    result = judged(stand_in=True)  # the last row of an episode is seen a thousand away
    assert mean(result, "std", "encoded") < 10


def test_what_is_no_number_is_not_measured():
    rows = np.random.default_rng(0).normal(size=(8, 3, 4))
    out = Unrolled(latents={"latent": {"encoded": rows, "model": np.where(rows > 1, np.inf, rows)[:, 1:]}})
    found, _ = collapse_curves(out, SimpleNamespace(representation=("latent",)), np.ones((8, 3), bool))
    assert set(found["latent"]["std"]) == {"encoded"}


def test_runs_are_put_together_in_this_too(judged):
    document = judged().to_dict()
    alone, both = (one["collapse"]["place"]["rankme"]["encoded"] for one in (document, across_runs([document] * 2)))
    assert both["mean"]["value"] == pytest.approx(alone["mean"]["value"])
