"""A model without dynamics is judged by what its latents of the rows tell, beside itself untrained."""

from __future__ import annotations

import pytest

from worldflux.cli.judged import horizon_table
from worldflux.core.errors import CapabilityError
from worldflux.core.spec import Capability
from worldflux.evals import evaluate_horizon


@pytest.fixture
def seeing(drift):
    """A model that sees the place, its data, and how it is judged."""

    class Seeing(drift.Drift):
        capabilities = frozenset({Capability.REPRESENTATION})

        def advance(self, state, action, conditioned, *, deterministic):
            raise AssertionError("it has no dynamics")

        def decode(self, state, conditions=None):
            raise AssertionError("it decodes nothing")

    return Seeing


def judged(drift, model, **options):
    return evaluate_horizon(model, drift.dataset(episodes=12, length=12), context=2, horizon=6, **options)


def test_it_is_asked_for_nothing_that_it_cannot_do(drift, seeing):
    found = judged(drift, seeing(drift.model().config).know())
    assert "probes" in found.measures
    assert not {"observations", "reward", "latents", "spread"} & set(found.measures)
    assert found.curve("probes", "sum", "r2", "encoded").mean.value > 0.99
    assert found.curve("probes", "sum", "r2", "model") is None


def test_a_model_says_what_it_is_untrained(drift, seeing):
    class Fixed(seeing):
        def untrained(self):
            return seeing(drift.model().config).know()

    found = judged(drift, Fixed(drift.model().config).know())
    own, base = (found.curve("probes", "sum", "r2", source) for source in ("encoded", "untrained_encoded"))
    assert own.mean.value == base.mean.value
    assert any("no better than those of the same encoder untrained" in line for line in found.to_dict()["in_words"])


def test_the_table_shows_it_untrained(drift, seeing):
    class Fixed(seeing):
        def untrained(self):
            return seeing(drift.model().config)

    told = judged(drift, Fixed(drift.model().config).know()).to_dict()
    assert "untrained encoded" in horizon_table(told, 6)


def test_without_anything_to_read_out_it_is_refused(drift, seeing):
    model = seeing(drift.model().config).know()
    with pytest.raises(CapabilityError, match="no dynamics"):
        evaluate_horizon(model, drift.dataset(episodes=1, length=12), context=2, horizon=6)
