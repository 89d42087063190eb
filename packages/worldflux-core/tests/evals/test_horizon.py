"""Controls: models that know a recorded world exactly, partly or not at all get the numbers that says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worldflux.core.errors import CapabilityError, ConfigurationError
from worldflux.core.output import ModelOutput
from worldflux.evals import EvalResult, across_runs, earned_across_runs, evaluate_horizon
from worldflux.evals.drawing import draw_segments
from worldflux.evals.horizon.baselines import others_actions
from worldflux.evals.horizon.values import earned
from worldflux.evals.words import returns_in_words

ASKED = {"context": 3, "horizon": 8, "sequences": 48, "held_out": True, "discount": 0.8}


@pytest.fixture(scope="module")
def judged(drift):
    """The evaluation of a model that knows everything but what is named; of one with fresh weights for "all"."""
    data, found = drift.dataset(), {}

    def judge(but=""):
        if but not in found:
            model = drift.model() if but == "all" else drift.model().know(but)
            found[but] = evaluate_horizon(model, data, training=drift.dataset(seed=1), **ASKED)
        return found[but]

    return judge


def mean(result, *path):
    return result.curve(*path).mean.value


def test_a_model_that_knows_the_world_is_right_in_every_measure(judged):
    result = judged()
    for path in (
        ("observations", "place", "mse"),
        ("reward", "mae"),
        ("continue", "brier"),
        ("latents", "place", "mse"),
    ):
        assert mean(result, *path, "model") < 1e-6
    for path in (("reward", "r2"), ("returns", "rank_correlation"), ("latents", "place", "cosine")):
        assert mean(result, *path, "model") == pytest.approx(1)
    for name in ("place", "sum"):
        assert mean(result, "probes", name, "r2", "model") > 0.999
    assert mean(result, "value", "rank_correlation", "encoded") > 0.5
    assert mean(result, "continue", "calibration_error", "model") == 0
    assert result.claim == "ranks decisions"
    assert result.to_dict()["in_words"] == []


def test_every_baseline_is_worse_than_the_model_that_knows(judged):
    for name in ("copy_last", "mean_frame", "shuffled_actions", "untrained"):
        assert mean(judged(), "observations", "place", "mse", name) > 0.1
    for name in ("copy_last", "mean", "shuffled_actions", "untrained"):
        assert mean(judged(), "reward", "mse", name) > 0.1
        assert mean(judged(), "reward", "r2", name) < 0.95
    for name in ("copy_last", "shuffled_actions", "untrained"):
        assert mean(judged(), "latents", "place", "mse", name) > 0.01


def test_a_model_with_fresh_weights_is_bad_in_every_measure(judged):
    result = judged("all")
    assert mean(result, "observations", "place", "mse", "model") > mean(
        result, "observations", "place", "mse", "mean_frame"
    )
    assert mean(result, "observations", "place", "mse", "model") == mean(
        result, "observations", "place", "mse", "untrained"
    )
    assert mean(result, "reward", "r2", "model") < 0
    assert mean(result, "continue", "brier", "model") > mean(result, "continue", "brier", "mean")
    assert mean(result, "continue", "calibration_error", "model") > 0.1
    assert mean(result, "latents", "place", "mse", "model") > mean(result, "latents", "place", "mse", "copy_last")
    assert mean(result, "probes", "place", "r2", "model") < 0
    assert mean(result, "value", "rank_correlation", "encoded") < 0.5
    assert result.claim is None


def test_a_model_that_ignores_its_actions_is_no_worse_with_anothers(judged):
    result = judged("actions")
    for path in (("observations", "place", "mse"), ("reward", "mse"), ("latents", "place", "mse")):
        assert mean(result, *path, "model") == mean(result, *path, "shuffled_actions")
    assert not next(level for level in result.levels if level.level == "obeys actions").shown
    assert result.claim == "looks right"
    assert "It predicts place as well with the actions of another episode" in " ".join(result.to_dict()["in_words"])


def test_a_model_that_copies_its_last_observation_is_as_good_as_copying(judged):
    result = judged("anything")
    for path in (("observations", "place", "mse"), ("latents", "place", "mse"), ("probes", "place", "r2")):
        assert mean(result, *path, "model") == pytest.approx(mean(result, *path, "copy_last"))
    assert not next(level for level in result.levels if level.level == "predicts held-out").shown
    assert "no better than repeating the last row it saw" in " ".join(result.to_dict()["in_words"])


def test_a_model_that_sees_no_rewards_is_bad_at_rewards_alone(judged):
    result, knowing = judged("rewards"), judged()
    assert mean(result, "reward", "r2", "model") < 0
    assert result.curve("returns", "rank_correlation", "model") is None
    place = ("observations", "place", "mse", "model")
    assert mean(result, *place) == mean(knowing, *place)
    assert result.claim == "obeys actions"


def test_spread_is_there_for_what_differs_between_draws_alone(judged):
    assert "spread" not in judged().to_dict() and "draws" not in judged().card
    spread = judged("certainty").to_dict()["spread"]["place"]
    assert spread["spread"]["model"]["mean"]["value"] > 0.5
    assert spread["ratio"]["model"]["mean"]["value"] > 1  # it draws where nothing is to be drawn


def test_what_a_family_cannot_give_is_absent(judged):
    result = judged("observations").to_dict()
    assert "observations" not in result and "continue" in result and "latents" in result
    assert "looks right" not in [level["level"] for level in result["evidence"]["levels"]]
    assert all(value is not None for value in flat(result))


def test_data_without_rewards_has_no_measure_of_them(drift):
    result = evaluate_horizon(drift.model().know(), drift.dataset(rewards=False), **ASKED).to_dict()
    assert not {"reward", "returns", "value"} & set(result)


def test_images_are_judged_on_all_pixels_and_on_those_that_moved(drift):
    result = evaluate_horizon(drift.model(images=True).know(), drift.dataset(images=True), **ASKED)
    for measure, perfect in (("psnr", 100), ("moved_psnr", 100), ("ssim", 1), ("moved_ssim", 1)):
        assert mean(result, "observations", "place", measure, "model") == pytest.approx(perfect)
        assert mean(result, "observations", "place", measure, "copy_last") < perfect
    path = ("observations", "place")
    assert mean(result, *path, "moved_mse", "copy_last") > 20 * mean(result, *path, "mse", "copy_last")
    assert result.claim == "ranks decisions"


def test_pixels_that_never_move_have_no_measure_of_their_own(drift):
    result = evaluate_horizon(drift.model(images=True).know(), drift.dataset(images=True, still=True), **ASKED)
    assert result.curve("observations", "place", "moved_mse", "model") is None
    assert result.curve("observations", "place", "mse", "copy_last").mean.value == 0


def test_the_observation_of_a_stand_in_is_never_taken_for_the_truth(drift):
    data = drift.dataset(stand_in=True, length=12)
    result = evaluate_horizon(drift.model().know(), data, **ASKED | {"horizon": 9, "training": data})
    assert result.curve("observations", "place", "mse", "model").horizon[-1] == 8
    assert mean(result, "observations", "place", "mse", "model") < 1e-6
    assert mean(result, "observations", "place", "mse", "mean_frame") < 100  # a stand-in here is 1,000 away
    assert mean(result, "probes", "sum", "r2", "model") > 0.99
    assert result.curve("reward", "mae", "model").horizon[-1] == 9  # its reward is real


def test_a_model_that_learned_from_every_second_row_is_judged_on_every_second_row(drift):
    asked = ASKED | {"frame_skip": 2, "training": drift.dataset(seed=1)}
    result = evaluate_horizon(drift.model(frame_skip=2).know(), drift.dataset(ends=False), **asked)
    assert mean(result, "observations", "place", "mse", "model") < 1e-6
    assert mean(result, "value", "rank_correlation", "encoded") > 0.5
    assert result.card["frame_skip"] == 2


def test_a_return_is_known_after_a_true_end_or_where_what_follows_weighs_little(drift):
    cut, over = drift.dataset(ends=False, length=40), drift.dataset(episodes=40, length=40)
    returns, known = earned(cut, np.array([0]), np.array([0]), 40, discount=0.8)
    rewards = cut.column("reward", 0).astype(float)
    assert returns[0, 10] == pytest.approx(sum(0.8**t * reward for t, reward in enumerate(rewards[11:])))
    assert known[0].tolist() == [0.8 ** (39 - row) <= 0.05 for row in range(40)]
    ended = int(np.flatnonzero(over.episodes.terminal)[0])
    length = int(over.episodes.lengths[ended])
    _, known = earned(over, np.array([ended]), np.array([0]), length, discount=0.99)
    assert known[0].tolist() == [True] * (length - 1) + [False]  # nothing follows the last row


def test_returns_of_every_second_row_have_both_rewards_between(drift):
    data = drift.dataset(ends=False, length=9)
    returns, _ = earned(data, np.array([0]), np.array([1]), 4, discount=0.5, frame_skip=2)
    paid = data.column("reward", 0).astype(float)
    blocks = [paid[2] + paid[3], paid[4] + paid[5], paid[6] + paid[7], paid[8]]
    assert returns[0, 0] == pytest.approx(sum(0.5**t * block for t, block in enumerate(blocks)))


def test_every_episode_gives_a_sequence_before_any_gives_its_second(drift):
    data = drift.dataset(ends=False, length=20)
    segments, starts = draw_segments(data, sequences=30, rows=11, seed=0)
    counts = np.bincount(segments.episodes, minlength=24)
    assert counts.min() == 1 and counts.max() == 2
    assert len({*zip(segments.episodes.tolist(), starts.tolist())}) == 30
    assert draw_segments(data, sequences=10_000, rows=11, seed=0)[0].sequences == 24 * 10  # all there are, once


def test_shuffled_actions_are_always_those_of_another_episode():
    for episodes in (np.array([0, 1]), np.array([0, 0, 0, 1, 2]), np.arange(9) % 3, np.array([0] * 9 + [1])):
        for seed in range(5):
            assert (episodes[others_actions(episodes, seed=seed)] != episodes).all()
    assert others_actions(np.zeros(4), seed=0) is None


def test_a_model_is_only_known_to_predict_data_that_is_known_to_be_held_out(drift):
    for held_out, why in ((None, "is not known"), (False, "the model learned from this data")):
        result = evaluate_horizon(drift.model().know(), drift.dataset(), **ASKED | {"held_out": held_out})
        level = next(level for level in result.levels if level.level == "predicts held-out")
        assert not level.shown and why in level.why


def test_the_chance_to_go_on_is_judged_without_the_discount_that_it_carries(drift, monkeypatch):
    model, decode = drift.model().know(), drift.Drift.decode

    def discounted(self, state, conditions=None):
        preds = dict(decode(self, state).preds)
        return ModelOutput({**preds, "continue": preds["continue"] * 0.8}, state=state)

    monkeypatch.setattr(drift.Drift, "decode", discounted)
    assert mean(evaluate_horizon(model, drift.dataset(), **ASKED), "continue", "calibration_error", "model") > 0.1
    model.config.discounted_continue, model.config.discount = True, 0.8
    result = evaluate_horizon(model, drift.dataset(), **ASKED)
    for measure in ("brier", "calibration_error"):
        assert mean(result, "continue", measure, "model") < 1e-6
    assert result.to_dict()["continue"]["reliability"]["stated"] == pytest.approx([0, 1])


def test_a_policy_that_earns_more_than_chance_improves_decisions(drift):
    random = EvalResult((1.0, 2.0, 1.0, 2.0), (5,) * 4)
    for returns, shown in (((9.0, 8.0, 9.0, 8.0), True), ((2.0, 1.0, 1.5, 2.0), False)):
        earnings = {"trained": EvalResult(returns, (5,) * 4), "random": random}
        result = evaluate_horizon(drift.model(), drift.dataset(), **ASKED, returns=earnings)
        assert (result.claim == "improves decisions") == shown


@pytest.mark.parametrize(("episodes", "claim"), [(3, None), (4, "ranks decisions")])
def test_of_fewer_than_four_episodes_nothing_is_claimed(drift, episodes, claim):
    data = drift.dataset(ends=False, episodes=episodes)
    assert evaluate_horizon(drift.model().know(), data, **ASKED).claim == claim


def test_one_episode_of_a_policy_shows_no_improvement(drift):
    earnings = {"trained": EvalResult((9.0,), (5,)), "random": EvalResult((1.0, 2.0, 1.0, 2.0), (5,) * 4)}
    result = evaluate_horizon(drift.model(), drift.dataset(), **ASKED, returns=earnings)
    assert not next(level for level in result.levels if level.level == "improves decisions").shown
    assert "one episode cannot say" in returns_in_words(earnings)[0]


def test_runs_are_put_together_by_interquartile_means(drift):
    data = drift.dataset()
    runs = [evaluate_horizon(drift.model(seed=seed), data, **ASKED).to_dict() for seed in range(4)]
    together = across_runs(runs)
    path = ("observations", "place", "mse", "model", "mean")
    values = sorted(at(run, *path)["value"] for run in runs)
    assert at(together, *path)["value"] == pytest.approx(sum(values[1:3]) / 2)
    assert at(together, *path)["low"] <= values[1] and together["runs"] == 4
    runs[0]["card"]["horizon"] = 9
    with pytest.raises(ConfigurationError, match=r"horizon \[8, 9\]"):
        across_runs(runs)


def test_returns_of_runs_are_put_together_where_all_have_them():
    documents = [{"env": "A", "trained": {"mean": value}} for value in (1.0, 2.0, 3.0, 10.0)]
    assert earned_across_runs(documents)["trained"]["value"] == 2.5
    assert earned_across_runs([*documents, {"env": None}]) == {}


def at(tree, *path):
    for name in path:
        tree = tree[name]
    return tree


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(drift):
    model, data = drift.model().know("certainty"), drift.dataset()
    one, again, other = (evaluate_horizon(model, data, **ASKED, seed=seed).to_dict() for seed in (5, 5, 6))
    assert one == again and one["spread"] != other["spread"]


def test_nothing_of_the_model_or_the_process_is_changed(drift):
    model = drift.model().know("certainty").train()
    torch.rand(3, generator=model.generator())
    weights, before = {k: v.clone() for k, v in model.state_dict().items()}, model.rng_state()
    process, numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    evaluate_horizon(model, drift.dataset(), **ASKED)
    assert model.training and set(model.rng_state()) == set(before)
    assert all(torch.equal(value, before[name]) for name, value in model.rng_state().items())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), process) and (np.random.get_state()[1] == numpy).all()


def test_a_generator_that_was_not_in_use_is_not_in_use_afterwards(drift):
    model = drift.model(seed=7).know("certainty")
    evaluate_horizon(model, drift.dataset(), **ASKED)
    assert model.rng_state() == {} and model.generator().initial_seed() == 7


def test_how_many_sequences_go_at_once_changes_nothing(drift, monkeypatch):
    model, data = drift.model().know(), drift.dataset()
    whole = evaluate_horizon(model, data, **ASKED).to_dict()
    monkeypatch.setattr("worldflux.evals.horizon.unrolled.AT_ONCE", 7)
    assert evaluate_horizon(model, data, **ASKED).to_dict()["observations"] == whole["observations"]


def test_predictions_that_are_no_numbers_are_said_and_not_averaged(drift):
    model = drift.model().know()
    with torch.no_grad():
        model.push.fill_(float("inf"))
    result = evaluate_horizon(model, drift.dataset(), **ASKED).to_dict()
    assert "mse" not in result["observations"]["place"]
    assert any("observations place mse is not a finite number" in said for said in result["in_words"])


def test_short_episodes_and_models_of_other_data_are_refused_by_name(drift):
    with pytest.raises(ConfigurationError, match="none of 24 episodes has 11 rows .* the longest has 9"):
        evaluate_horizon(drift.model(), drift.dataset(length=9), **ASKED)
    with pytest.raises(ConfigurationError, match="'place'"):
        evaluate_horizon(drift.model(), drift.dataset(images=True), **ASKED)
    with pytest.raises(ConfigurationError, match="horizon is 0"):
        evaluate_horizon(drift.model(), drift.dataset(), **ASKED | {"horizon": 0})


def test_skill_and_sensitivity_compare_the_errors_of_latents_step_by_step(judged):
    result, sources = judged("all"), ("model", "copy_last", "shuffled_actions")
    errors = {s: [p.value for p in result.curve("latents", "place", "mse", s).points] for s in sources}
    skill, sensitivity = (result.curve("latents", "place", name, "model") for name in ("skill", "action_sensitivity"))
    np.testing.assert_allclose(
        [point.value for point in skill.points], 1 - np.divide(errors["model"], errors["copy_last"])
    )
    np.testing.assert_allclose(
        [point.value for point in sensitivity.points], np.divide(errors["shuffled_actions"], errors["model"])
    )


def test_a_model_with_nothing_to_compare_is_refused(drift, monkeypatch):
    monkeypatch.setattr(drift.Drift, "decode", lambda self, state, conditions=None: ModelOutput({}, state=state))
    model = drift.model()
    with torch.no_grad():
        model.read.zero_()
    with pytest.raises(CapabilityError, match="nothing to compare"):
        evaluate_horizon(model, drift.dataset(rewards=False, episodes=1), **ASKED)


def flat(tree):
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, (dict, list)):
            yield from flat(value)
        else:
            yield value
