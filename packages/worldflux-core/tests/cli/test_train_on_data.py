"""``worldflux train --data``: as it is typed, and what comes back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from worldflux.core.spec import ActionSpec, vector
from worldflux.data import DatasetWriter

pytest.importorskip("gymnasium")
SHORT = ["--updates", "6", "--device", "cpu", "--threads", "1"]
TRAIN = ["train", "toyworld:ci", "--data", "set"]


@pytest.fixture(scope="module")
def calls(worldflux):
    """A run on data from start to end, in the order it is done."""
    for name, size in (("set", 4), ("other", 4), ("wide", 5)):
        with DatasetWriter(worldflux.cwd / name, {"obs": vector(size)}, ActionSpec("discrete", 2)) as writer:
            for _ in range(10):
                obs, action = np.random.default_rng(size).normal(size=(8, size)), np.eye(2)[[0, 1] * 4]
                writer.append({"obs/obs": obs, "action": action, "reward": np.r_[0, np.ones(7)]})
    several = {
        "train": [*TRAIN, *SHORT, "--run", "a", "--held-out", "0.2", "--json"],
        "as text": [*TRAIN, *SHORT, "--run", "b"],
        "on": ["train", "--run", "a", "--resume", "--updates", "9", "--json"],
        "weights": [*TRAIN, "--data", "other", "--data-weights", "0.7,0.3", *SHORT, "--run", "c", "--json"],
        "both": [*TRAIN, "--env", "CartPole-v1", "--steps", "20", "--eval-episodes", "1", "--run", "d", "--json"],
        "from": ["train", "--from", "a", "--data", "other", *SHORT, "--run", "e", "--json"],
        "evaluated": [*TRAIN, *SHORT, "--eval-env", "CartPole-v1", "--eval-episodes", "1", "--run", "f", "--json"],
        "skipping": [
            *TRAIN,
            "--frame-skip",
            "2",
            "--boundary",
            "within",
            *SHORT,
            "--sequence-length",
            "2",
            "--run",
            "h",
        ],
        "no boundary": [*TRAIN, "--boundary", "none", *SHORT, "--run", "i"],
        "no numbers": [*TRAIN, "--data-weights", "much"],
        "two environments": [*TRAIN, "--env", "CartPole-v1", "--eval-env", "CartPole-v1"],
        "nothing to learn from": ["train", "toyworld:ci"],
        "no model": ["train", "--data", "set"],
        "another's data": ["train", "--from", "a", "--data", "wide", *SHORT, "--run", "g"],
        "a format's option": [*TRAIN, "--data-set", "depth=3"],
    }
    return dict(zip(several, worldflux.several(*several.values()), strict=True))


def test_a_run_on_data_says_what_it_learned_and_where_it_is(calls):
    assert calls["train"].code == 0, calls["train"].err
    told = json.loads(calls["train"].out)
    assert told["status"] == "finished"
    assert told["held_out"]["episodes"] == 2
    assert told["held_out"]["behaviour"] == 7
    assert {"run", "model", "metrics", "held_out"} <= set(told["places"])
    assert "trained" not in told
    for part in ("on 1 held-out episode", "7.00 mean return of the recorded episodes", "held_out.json"):
        assert part in calls["as text"].out


def test_rows_are_kept_and_sequences_end_as_it_is_told(calls, worldflux):
    assert calls["skipping"].code == 0, calls["skipping"].err
    kept = json.loads((worldflux.cwd / "h" / "config.json").read_text())
    assert (kept["frame_skip"], kept["boundary"], kept["resolved"]["model_options"]["action_dim"]) == (2, "within", 4)


@pytest.mark.parametrize("name", ["on", "weights", "both", "from", "evaluated"])
def test_it_goes_on_mixes_collects_starts_and_is_evaluated(calls, name):
    assert calls[name].code == 0, calls[name].err
    told = json.loads(calls[name].out)
    assert told["held_out"]["losses"]["loss"] > 0
    assert ("trained" in told) == (name in ("both", "evaluated"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no boundary", "boundary is 'none', expected one of 'cross', 'within'"),
        ("no numbers", "--data-weights is 'much', expected numbers with commas between them"),
        ("two environments", "leave --eval-env out, or --env to collect nothing"),
        ("nothing to learn from", "--env ID is missing"),
        ("no model", "MODEL is missing"),
        ("another's data", "has shape [5], the model takes [4]"),
        ("a format's option", "'worldflux' has no option 'depth'"),
    ],
)
def test_a_mistake_says_the_way_out(calls, name, told):
    assert calls[name].code == 2
    assert told in calls[name].err
    assert "Traceback" not in calls[name].err
