"""Every family judged by horizon on recorded noise, of which there is nothing to know, before it has learned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from worldflux import ActionSpec, ModalitySpec, create_world_model
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.evals import evaluate_horizon

SECTIONS = {  # what a family gives before it is trained; TD-MPC2's values and Dreamer's are the same everywhere then
    "dreamer:ci": {"observations", "reward", "continue", "latents", "probes", "spread"},
    "planet:ci": {"observations", "reward", "returns", "latents", "probes", "spread"},
    "tdmpc2:ci": {"reward", "latents", "probes"},
    "mbpo:ci": {"observations", "reward", "continue", "returns", "latents", "probes", "spread", "value"},
    "jepa:ci": {"latents", "probes", "collapse"},
}


@pytest.fixture(scope="module")
def noise():
    rng, episodes, length = np.random.default_rng(0), 12, 24
    rows = episodes * length
    columns = {
        "obs/obs": rng.normal(size=(rows, 4)).astype(np.float32),
        "action": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "reward": rng.normal(size=rows).astype(np.float32),
    }
    table = EpisodeTable.of(range(episodes), [length] * episodes, [True] * episodes)
    spec = {"obs": ModalitySpec("vector", (4,))}
    return Dataset(Recording("noise", Path("noise"), spec, ActionSpec("continuous", 2), table, columns))


@pytest.mark.parametrize("family", SECTIONS)
def test_an_untrained_model_of_any_family_gives_what_it_can_and_shows_nothing(family, noise):
    model = create_world_model(family, observation_modalities=dict(noise.obs_spec), action_spec=noise.action_spec)
    result = evaluate_horizon(model, noise, context=3, horizon=6, sequences=12, held_out=True)
    assert set(result.measures) == SECTIONS[family]
    assert result.claim in (None, "looks right")  # which MBPO does, whose state is what it sees
    for name, sources in result.measures.get("observations", {}).items():
        assert sources["mse"]["model"] == sources["mse"]["untrained"], name
    json.dumps(result.to_dict(), allow_nan=False)


def test_dreamers_critic_values_the_states_of_an_evaluation(noise):
    model = create_world_model("dreamer:ci", observation_modalities=dict(noise.obs_spec), action_spec=noise.action_spec)
    model.critic.out.kernel.data.normal_(generator=model.generator())
    curve = evaluate_horizon(model, noise, context=3, horizon=6, sequences=12).curve(
        "value", "rank_correlation", "encoded"
    )
    assert curve is not None and curve.horizon[0] == 0
