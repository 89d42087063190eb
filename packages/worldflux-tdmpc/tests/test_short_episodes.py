"""Families that train within episodes, where the episodes are shorter than what they train on."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from worldflux.core.errors import BufferError
from worldflux.experiment import fit


class Short(gymnasium.Env):
    """Episodes of so many actions, all steps counted."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    length, steps = 1, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        type(self).steps += 1
        self.age += 1
        return np.zeros(2, np.float32), 1.0, self.age >= self.length, False, {}


def run(env, tmp_path, **options):
    return fit(
        "tdmpc2:ci", env=env, run=tmp_path / "run", num_envs=2, batch_size=4, eval_every=0, eval_episodes=1, **options
    )


@pytest.mark.parametrize("options", [{"replay_capacity": 10_000}, {"model_options": {"seed_steps": 40}}])
def test_a_run_is_refused_when_its_steps_are_spent(tmp_path, options):
    class OneStep(Short):
        pass

    with pytest.raises(BufferError, match="no sequence of 4 rows to train from: the longest episode has 2 rows"):
        run(OneStep, tmp_path, steps=100, **options)
    assert OneStep.steps <= 100


def test_a_run_takes_no_more_steps_than_asked_for_where_sequences_are_rare(tmp_path):
    class FourSteps(Short):  # one sequence in five rows
        length = 3

    finished = run(FourSteps, tmp_path, steps=60, replay_ratio=4.0, model_options={"seed_steps": 20})
    assert finished.status == "finished"
    collected = FourSteps.steps - sum(finished.evaluation.trained.lengths + finished.evaluation.random.lengths)
    assert collected <= 60
