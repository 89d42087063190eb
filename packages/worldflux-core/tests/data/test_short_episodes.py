"""Episodes shorter than a sequence: refused while little is lost, with the numbers that matter."""

from __future__ import annotations

import pytest

from worldflux.core.errors import BufferError, ConfigurationError
from worldflux.data import BatchRequest, EnvironmentSource, Replay
from worldflux.envs import RandomPolicy, make_env


@pytest.fixture
def source(counter):
    """A source whose episodes take so many actions each, one after the other."""

    def build(lengths, capacity=60, **options):
        class Varied(counter):
            episodes = 0

            def reset(self, *, seed=None, options=None):
                self.length = lengths[min(self.episodes, len(lengths) - 1)]
                self.episodes += 1
                return super().reset(seed=seed)

        env = make_env(Varied, num_envs=2)
        replay = Replay(capacity, obs_spec=env.obs_spec, action_spec=env.action_spec, num_streams=2, boundary="within")
        return EnvironmentSource(env, RandomPolicy(env.action_spec), replay, replay_ratio=4.0, **options)

    return build


@pytest.mark.parametrize("options", [{}, {"random_steps": 1000}, {"min_rows": 7}])
def test_a_replay_full_of_episodes_that_are_too_short_is_refused(source, options):
    collecting = source([2], **options)
    with pytest.raises(BufferError, match="after 60 environment steps .*of 4 rows.* longest episode has 3 rows"):
        collecting.sample(BatchRequest(2, 4))
    assert collecting.env_steps == 60


def test_episodes_that_are_too_short_are_refused_at_the_step_limit(source):
    collecting = source([2, 1], step_limit=20)
    with pytest.raises(BufferError, match="after 20 environment steps .* longest episode has 3 rows"):
        collecting.sample(BatchRequest(2, 4))


def test_a_large_replay_is_not_filled_before_episodes_are_called_too_short(source):
    collecting = source([1], capacity=10_000, patience=100)
    with pytest.raises(BufferError, match="after 100 environment steps"):
        collecting.sample(BatchRequest(2, 4))


def test_patience_is_longer_where_many_streams_need_long_sequences(source):
    assert source([7], capacity=10_000, patience=0).sample(BatchRequest(2, 8)).actions.shape[:2] == (2, 8)


def test_one_long_episode_among_short_ones_is_trained_from(source):
    collecting = source([1, 1, 5, 1], step_limit=40)
    batch = collecting.sample(BatchRequest(8, 4))
    assert batch.obs["obs"].argmax(-1)[:, -1].min() >= 3 and collecting.env_steps == 40


def test_no_more_steps_than_the_limit_are_taken_however_often_is_sampled(source):
    collecting = source([5], step_limit=40)
    for _ in range(50):
        collecting.sample(BatchRequest(4, 4))
    assert collecting.env_steps == 40


def test_a_replay_without_a_sequence_names_its_longest_episode(source):
    collecting = source([4, 2], min_rows=20)
    collecting.sample(BatchRequest(1, 2))
    with pytest.raises(BufferError, match="no episode has 7 rows, the longest has 5"):
        collecting.replay.sample(BatchRequest(1, 7))


def test_a_step_limit_that_is_none_is_refused(source):
    with pytest.raises(ConfigurationError, match="step_limit is 0, expected a whole number of at least 1"):
        source([2], step_limit=0)
