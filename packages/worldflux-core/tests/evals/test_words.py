from __future__ import annotations

import numpy as np
import pytest

from worldflux.evals import EvalResult, Imagination, imagination_in_words, returns_in_words


def returns(*values):
    return EvalResult(returns=values, lengths=(1,) * len(values))


@pytest.mark.parametrize(
    ("trained", "random", "said"),
    [
        (returns(1.0, 2.0), returns(5.0, 6.0), "less than acting at random (1.5 to 5.5)"),
        (returns(0.0, 10.0), returns(0.0, 9.0), "no clearly more than acting at random (5 to 4.5)"),
        (returns(4.0, 4.0), returns(4.0, 4.0), "no clearly more"),
        (returns(50.0, 51.0), returns(5.0, 6.0), None),
        (returns(), returns(5.0), None),
    ],
)
def test_a_policy_that_loses_to_chance_is_said_to(trained, random, said):
    lines = returns_in_words({"trained": trained, "random": random})
    assert len(lines) == (said is not None)
    assert said is None or (said in lines[0] and "trained" in lines[0])


def imagined(**errors):
    shape = np.zeros((1, 3))
    return Imagination(1, 2, {}, {}, shape, shape, {name: _arrays(values) for name, values in errors.items()})


def _arrays(values):
    return {measure: np.array([value, value]) for measure, value in values.items()}


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ({"obs": {"mse": 2.0, "copy_last_mse": 1.0}}, ["predicts obs no better than repeating the last row"]),
        ({"obs": {"mse": 1.0, "copy_last_mse": 2.0, "shuffled_actions_mse": 3.0}}, []),
        ({"obs": {"mse": 1.0, "copy_last_mse": 2.0, "shuffled_actions_mse": 0.9}}, ["nothing of its actions"]),
        ({"reward": {"mae": 1.0, "copy_last_mae": 0.0}}, ["predicts reward no better"]),
        ({"continue": {"brier": 1.0}}, []),
        ({"obs": {"mse": 0.0, "copy_last_mse": 0.0, "shuffled_actions_mse": 0.0}}, []),  # nothing moves, all are right
        (
            {"eye": {"mse": 1.0, "copy_last_mse": 2.0, "changed_mse": 4.0, "copy_last_changed_mse": 3.0}},
            ["changed_mse 4 to 3"],
        ),
        ({"eye": {"mse": 1.0, "copy_last_mse": 2.0, "changed_mse": np.nan, "copy_last_changed_mse": np.nan}}, []),
    ],
)
def test_a_model_that_loses_to_a_baseline_is_said_to(errors, said):
    lines = imagination_in_words(imagined(**errors))
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True))
