"""The negative control: without its regulariser the family collapses and is seen to, with it neither."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from worldflux import ActionSpec, ConfigurationError, ModalitySpec, create_world_model
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.evals import evaluate_horizon
from worldflux.experiment import fit
from worldflux.training import CollapseMonitor, CollapseWarning, Trainer, TrainingConfig

SEEN, EPISODES, ROWS = 8, 40, 12
PLACE = {"place": {"kind": "vector", "shape": (SEEN,)}}
SMALL = {
    "latent_dim": 16, "units": 32, "depth": 1, "vector_units": 32, "directions": 64, "rollout_steps": 1,
    "inverse_dynamics": 0.0, "learning_rate": 3e-3,
}  # fmt: skip
BARE = {"projector": "linear", "latent_norm": "none"}
NEXT_TO_NOTHING = 1e-9
OBJECTIVES = {
    "sigreg": ({**BARE, "sigreg_weight": 0.1}, {"sigreg_weight": NEXT_TO_NOTHING}, "its numbers hardly vary"),
    "vicreg": ({**BARE, "regulariser": "vicreg"}, {"std_weight": NEXT_TO_NOTHING, "cov_weight": 0.0}, "its numbers"),
    "sigreg and a batch norm": ({"seed": 2}, {"sigreg_weight": NEXT_TO_NOTHING}, "it varies in few directions"),
}


def walks(seed: int) -> Dataset:
    """Episodes of a point that its actions push about the square, seen as eight numbers."""
    rng, seen_as = np.random.default_rng(seed), np.random.default_rng(5).normal(size=(2, SEEN))
    places, actions = [], rng.uniform(-1, 1, (EPISODES, ROWS, 2))
    for pushes in actions:
        place = rng.uniform(-1, 1, 2)
        for push in pushes:
            places.append(place)
            place = np.clip(place + 0.4 * push, -1, 1)
    columns = {
        "obs/place": np.tanh(np.array(places) @ seen_as).astype(np.float32),
        "action": actions.reshape(-1, 2).astype(np.float32),
    }
    table = EpisodeTable.of(range(EPISODES), [ROWS] * EPISODES)
    spec = {"place": ModalitySpec("vector", (SEEN,))}
    return Dataset(Recording("walks", Path("walks"), spec, ActionSpec("continuous", 2), table, columns))


@pytest.fixture
def train(tmp_path):
    """A monitor, and the model that it watched for 96 updates."""

    def run(options):
        model = create_world_model("jepa:ci", observation_modalities=PLACE, action_dim=2, **{**SMALL, **options})
        config = TrainingConfig(
            total_steps=96, batch_size=64, sequence_length=4, log_interval=12, output_dir=str(tmp_path / "run")
        )
        monitor = CollapseMonitor(walks(1).windows(seed=0), warmup=50, share=1.0)
        Trainer(model, config, [monitor]).train(walks(0).windows(seed=0))
        return monitor, model.eval()

    return run


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_its_regulariser_it_is_warned_of(train, objective):
    on, off, what = OBJECTIVES[objective]
    with pytest.warns(CollapseWarning, match=what):
        _, model = train({**on, **off})
    said = evaluate_horizon(model, walks(2), context=2, horizon=4, sequences=40).to_dict()["in_words"]
    assert any(f"'latent' has collapsed: {what}" in sentence for sentence in said)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_with_its_regulariser_it_is_not(train, objective):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        monitor, model = train(OBJECTIVES[objective][0])
    assert monitor.alarms == []
    result = evaluate_horizon(model, walks(2), context=2, horizon=4, sequences=40)
    assert not any("collapsed" in sentence for sentence in result.to_dict()["in_words"])
    assert result.curve("collapse", "latent", "std", "encoded").mean.value > 0.5


@pytest.mark.parametrize("options", [{"regulariser": "none"}, {"sigreg_weight": 0.0}])
def test_what_must_collapse_is_refused_before_it_is_trained(options):
    with pytest.raises(ConfigurationError, match=r"target='online' with regulariser=.* must collapse.*'ema'"):
        create_world_model("jepa:ci", obs_shape=(3, 32, 32), action_dim=2, target="online", **options)


@pytest.mark.parametrize("held_out", [0.2, 0.0])
def test_a_run_of_the_family_is_watched_by_itself(tmp_path, held_out):
    fit(
        "jepa:ci", data=walks(0), updates=4, held_out=held_out, run=tmp_path / "run", model_options=SMALL, batch_size=16
    )
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert any({"collapse/std", "collapse/rankme", "collapse/within_ratio"} <= set(line) for line in lines)


def test_a_monitor_of_the_callers_takes_the_place_of_the_other(tmp_path):
    own = CollapseMonitor(walks(1).windows(seed=0), interval=2)
    fit("jepa:ci", data=walks(0), updates=4, run=tmp_path / "run", model_options=SMALL, batch_size=16, callbacks=[own])
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "collapse/std" in line] == [2, 4]
