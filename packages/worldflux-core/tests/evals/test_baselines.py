"""What a model has to beat is as good as it can be: means are those of the rows that a model is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.evals.drawing import draw_segments
from worldflux.evals.horizon import baselines
from worldflux.evals.horizon.baselines import means_for

LENGTH = 10


def recorded(*, episodes=30, terminal=True):
    """Episodes that observe their own row number, and are paid 1 for every row that an action led to."""
    row = np.tile(np.arange(LENGTH, dtype=np.float32), episodes)
    columns = {"obs/row": row[:, None], "action": np.zeros((len(row), 1), np.float32), "reward": np.sign(row)}
    table = EpisodeTable.of(range(episodes), [LENGTH] * episodes, [terminal] * episodes)
    spec = {"row": ModalitySpec("vector", (1,))}
    return Dataset(Recording("rows", Path("rows"), spec, ActionSpec("continuous", 1), table, columns))


def means(data, *, training=True, context=3, **asked):
    segments, _ = draw_segments(data, sequences=8, rows=6)
    return means_for(segments, context, data if training else None, **asked)


def test_the_mean_reward_and_ends_are_over_the_rows_that_an_action_led_to():
    found = means(recorded())
    assert found.reward == 1 and found.rows == 300
    assert found.goes_on == pytest.approx(1 - 1 / (LENGTH - 1))
    assert found.obs["row"] == pytest.approx(4.5)
    assert means(recorded(), training=False).reward == 1


@pytest.mark.parametrize("most", [30, 60, 100])
def test_means_over_some_rows_are_over_rows_of_every_place_in_an_episode(monkeypatch, most):
    monkeypatch.setattr(baselines, "MEAN_ROWS", most)
    found = means(recorded())
    assert found.rows == most
    assert abs(found.obs["row"][0] - 4.5) < 1.5  # not the first of each
    assert found.reward == 1


def test_of_kept_rows_the_mean_chance_to_go_on_is_a_chance():
    segments, _ = draw_segments(recorded(), sequences=4, rows=6)
    assert means_for(segments, 3, recorded(), frame_skip=20).goes_on == 0


def test_means_read_no_observation_that_is_not_judged():
    data, segments = recorded(), draw_segments(recorded(), sequences=8, rows=6)[0]
    wide = {**data.obs_spec, "film": ModalitySpec("vector", (1,))}  # whose column is not there
    other = data.over(replace(data.recording, obs_spec=wide))
    assert set(means_for(segments, 3, other).obs) == {"row"}
