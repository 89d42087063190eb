from __future__ import annotations

import json
import math

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.evals import EvalResult, evaluate_policy, random_baseline


@pytest.mark.parametrize(("num_envs", "episodes"), [(1, 3), (3, 7), (4, 4), (5, 2)])
def test_exactly_the_asked_number_of_episodes_is_counted(toys, num_envs, episodes):
    env = toys.Clockwork([2 + i for i in range(num_envs)])
    assert evaluate_policy(env, toys.Always(), episodes=episodes).episodes == episodes


def test_short_episodes_count_no_more_than_long_ones(toys):
    result = evaluate_policy(toys.Clockwork([1, 10]), toys.Always(), episodes=4)
    assert sorted(result.returns) == [1, 1, 10, 10]
    assert sorted(result.lengths) == [1, 1, 10, 10]
    assert result.mean == 5.5


def test_the_return_is_the_sum_of_the_rewards_on_arriving(toys):
    result = evaluate_policy(toys.Clockwork([3, 3]), toys.Alternating(), episodes=4)
    assert result.returns == (3.0, 3.0, 6.0, 6.0)


def test_the_policy_hears_of_every_new_episode_and_keeps_its_carry_within_one(toys):
    policy = toys.Always()
    evaluate_policy(toys.Clockwork([2]), policy, episodes=2)
    assert [rows for rows, _ in policy.seen] == [[0], [1], [2], [0], [1]]


def test_the_policy_does_not_explore_unless_asked(toys):
    for explore in (False, True):
        policy = toys.Always()
        evaluate_policy(toys.Clockwork([2]), policy, episodes=1, explore=explore)
        assert {flag for _, flag in policy.seen} == {explore}


def test_the_seed_reaches_the_environment(toys):
    env = toys.Clockwork([1])
    assert evaluate_policy(env, toys.Always(), episodes=1, seed=7).seed == 7
    assert env.seeds == [7]


def test_episodes_cut_by_max_steps_are_counted_apart(toys):
    result = evaluate_policy(toys.Clockwork([2, 100]), toys.Always(), episodes=2, max_steps=10)
    assert (result.returns, result.unfinished) == ((2.0,), 1)


def test_what_an_episode_that_was_cut_had_earned_stands_beside_the_returns(toys):
    result = evaluate_policy(toys.Clockwork([2, 100]), toys.Always(), episodes=2, max_steps=10)
    assert (result.cut_returns, result.cut_mean, result.mean) == ((10.0,), 10.0, 2.0)
    assert result.to_dict()["cut_returns"] == [10.0]


def test_an_episode_without_an_end_is_cut_and_the_others_are_complete(toys, caplog):
    env = toys.Clockwork([2, 10**9, 30])
    result = evaluate_policy(env, toys.Always(), episodes=6, max_episode_steps=20)
    assert (result.returns, result.unfinished) == ((2.0, 2.0), 4)
    assert result.cut_returns == (20.0, 20.0)
    assert not caplog.records  # it was asked for


def test_who_evaluates_without_an_end_is_told_once_and_soon(toys, caplog):
    result = evaluate_policy(toys.Clockwork([10**9]), toys.Always(), episodes=3)
    assert (result.returns, result.unfinished, result.cut_returns) == ((), 3, (10_000.0,))
    (said,) = caplog.records
    assert said.levelname == "WARNING" and "after 1000 " in said.getMessage()
    assert "episode" in said.getMessage() and "gymnasium.wrappers.TimeLimit" in said.getMessage()


def test_the_environment_says_how_long_an_episode_may_be(toys, caplog):
    env = toys.Clockwork([1500, 10**9])
    env.max_episode_steps = 2000
    result = evaluate_policy(env, toys.Always(), episodes=2)
    assert (result.lengths, result.cut_returns) == ((1500,), (2000.0,))
    assert "after 2000 environment steps" in caplog.text


def test_what_is_called_between_steps_may_end_the_evaluation(toys):
    def stop():
        raise InterruptedError

    env = toys.Clockwork([5])
    with pytest.raises(InterruptedError):
        evaluate_policy(env, toys.Always(), episodes=1, between_steps=stop)
    assert env.time == 0


@pytest.mark.parametrize("wrong", [{"episodes": 0}, {"max_steps": 0}, {"max_episode_steps": 0}])
def test_nothing_to_run_is_refused(toys, wrong):
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} is 0, expected at least 1"):
        evaluate_policy(toys.Clockwork([1]), toys.Always(), **wrong)


def test_the_summary_is_of_the_returns():
    result = EvalResult(returns=(1.0, 3.0), lengths=(4, 8))
    assert (result.mean, result.std, result.min, result.max, result.mean_length) == (2, 1, 1, 3, 6)


def test_a_result_without_episodes_is_still_json():
    result = EvalResult(returns=(), lengths=(), unfinished=2)
    assert math.isnan(result.mean)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["mean"] is None


def test_the_random_policy_is_the_same_for_the_same_seed(toys):
    first, again, other = (random_baseline(toys.Clockwork([5]), episodes=3, seed=s).returns for s in (1, 1, 2))
    assert first == again != other
