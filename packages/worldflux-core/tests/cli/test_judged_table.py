"""The table that `eval` prints of an evaluation by horizon leaves to the JSON what would drown the rest."""

from __future__ import annotations

from worldflux.cli.judged import horizon_table

CURVE = {"horizon": [0], "value": [0.5], "mean": {"value": 0.5}}


def test_of_collapse_it_has_the_three_that_alarm():
    measures = ("std", "rankme", "within_ratio", "dead", "pooled_std", "participation")
    sections = {
        "latents": {"latent": {"cosine": {"model": CURVE}}},
        "collapse": {
            "latent": {name: {"encoded": CURVE, "model": CURVE, "untrained_encoded": CURVE} for name in measures}
        },
    }
    lines = horizon_table(sections, 3).splitlines()[1:]
    shown = [line.split()[2] for line in lines]
    assert shown == ["cosine", "std", "std", "rankme", "rankme", "within_ratio", "within_ratio"]
