from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from worldflux.core.errors import CapabilityError, ConfigurationError
from worldflux.core.output import ModelOutput
from worldflux.core.state import State
from worldflux.evals import imagine, record_segments


def segments(toys, *, images=False, rows=8, lengths=(20, 20)):
    env = toys.Clockwork(list(lengths), images=images)
    return record_segments(env, toys.Alternating(), sequences=len(lengths), rows=rows)


def test_segments_stay_within_an_episode_and_keep_the_arrival_convention(toys):
    recorded = segments(toys, lengths=(9, 9, 9, 9))
    place = recorded.obs["obs"][..., 0]
    np.testing.assert_array_equal(place[:, 1:] - place[:, :-1], recorded.actions[:, :-1, 0])
    np.testing.assert_array_equal(recorded.rewards[:, 1:], recorded.actions[:, :-1, 0])
    assert not recorded.is_terminal[:, :-1].any()


def test_segments_longer_than_the_episodes_are_refused_naming_the_longest(toys):
    env = toys.Clockwork([4])
    with pytest.raises(ConfigurationError, match="longest had 5"):
        record_segments(env, toys.Always(), sequences=1, rows=6)


def test_segments_need_no_end_of_episode(toys):
    env = toys.Clockwork([10_000])
    assert record_segments(env, toys.Always(), sequences=3, rows=4).sequences == 3


def test_a_model_that_knows_the_world_makes_no_open_loop_error(toys):
    result = imagine(toys.Knowing(), segments(toys), context=3)
    assert result.horizon == 5
    for measure in (result.errors["obs"]["mse"], result.errors["reward"]["mae"]):
        np.testing.assert_array_equal(measure, np.zeros(5))


def test_copying_the_last_context_row_errs_by_the_way_travelled(toys):
    result = imagine(toys.Knowing(), segments(toys), context=3)
    # One sequence moves by 1 and the other by 2 a step: after h steps the squared errors are h^2 and 4 h^2.
    np.testing.assert_allclose(result.errors["obs"]["copy_last_mse"], [2.5 * h * h for h in range(1, 6)])


def test_an_action_blind_model_is_no_worse_with_anothers_actions(toys):
    seeing = imagine(toys.Knowing(), segments(toys), context=3).errors["obs"]
    blind = imagine(toys.Knowing(blind=True), segments(toys), context=3).errors["obs"]
    assert (seeing["shuffled_actions_mse"] > seeing["mse"]).all()
    np.testing.assert_array_equal(blind["shuffled_actions_mse"], blind["mse"])
    np.testing.assert_array_equal(blind["mse"], blind["copy_last_mse"])


def test_a_reward_that_comes_a_row_late_is_an_error(toys):
    recorded = segments(toys)
    recorded.actions[:, :, 0] += np.arange(8)  # rewards that differ from row to row
    recorded.rewards[:, 1:] = recorded.actions[:, :-1, 0]
    assert imagine(toys.Knowing(), recorded, context=3).errors["reward"]["mae"].max() == 0
    assert imagine(toys.Knowing(late=True), recorded, context=3).errors["reward"]["mae"].min() > 0


def test_image_errors_are_measured_on_the_pixels_that_changed(toys):
    result = imagine(toys.Knowing(images=True, blind=True), segments(toys, images=True, rows=5), context=2)
    errors = result.errors["obs"]
    # The pixel that went out and the one that lit up: each is wrong by 1 when the last frame is copied.
    np.testing.assert_allclose(errors["copy_last_changed_mse"], np.ones(3))
    np.testing.assert_allclose(errors["changed_mse"], np.ones(3))
    np.testing.assert_allclose(errors["copy_last_mse"], np.full(3, 2 / 64))


def test_where_no_pixel_changed_there_is_no_number(toys):
    env = toys.Clockwork([20], images=True)
    recorded = record_segments(env, toys.Always(0.0), sequences=1, rows=4)
    result = imagine(toys.Knowing(images=True), recorded, context=2)
    assert np.isnan(result.errors["obs"]["changed_mse"]).all()
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["summary"]["obs"]["changed_mse_mean"] is None


def test_the_model_sees_nothing_after_the_context(toys):
    recorded = segments(toys)
    changed = segments(toys)
    changed.obs["obs"][:, 3:] += 100
    same = [imagine(toys.Knowing(), s, context=3).prediction["obs"] for s in (recorded, changed)]
    np.testing.assert_array_equal(*same)


def test_the_terminal_row_is_what_continue_is_judged_by(toys):
    recorded = segments(toys)
    recorded.is_terminal[:, -1] = True
    brier = imagine(toys.Knowing(), recorded, context=3).errors["continue"]["brier"]
    np.testing.assert_array_equal(brier, [0, 0, 0, 0, 1])


def test_the_model_is_left_in_the_mode_it_was_in(toys):
    model = toys.Knowing().train()
    imagine(model, segments(toys), context=3)
    assert model.training


@pytest.mark.parametrize("context", [0, 8])
def test_a_context_that_leaves_nothing_to_imagine_is_refused(toys, context):
    with pytest.raises(ConfigurationError, match=f"context is {context}, expected 1 to 7"):
        imagine(toys.Knowing(), segments(toys), context=context)


def without_a_decoder(model, *names):
    """The model, decoding no more than ``names``."""
    whole = model.decode
    model.decode = lambda state: ModelOutput({name: whole(state).preds[name] for name in names})
    return model


def test_a_model_that_decodes_no_observation_is_judged_by_its_rewards(toys):
    imagined = imagine(without_a_decoder(toys.Knowing(), "reward"), segments(toys), context=3)
    assert list(imagined.errors) == ["reward"] and imagined.truth == {}
    np.testing.assert_array_equal(
        imagined.errors["reward"]["mae"], imagine(toys.Knowing(), segments(toys), context=3).errors["reward"]["mae"]
    )


def test_a_model_that_decodes_neither_reward_nor_observation_says_so(toys):
    with pytest.raises(CapabilityError, match=r"decodes nothing, neither a reward nor any of .*\['obs'\]"):
        imagine(without_a_decoder(toys.Knowing()), segments(toys), context=3)


def test_a_model_that_decodes_nothing_is_shown_by_the_nearest_rows_of_other_episodes(toys):
    class Latent(toys.Knowing):
        """Its latent is the place."""

        def rollout(self, state, actions, deterministic=False):
            found = super().rollout(state, actions)
            return SimpleNamespace(states=[placed(one) for one in found.states])

        def encode(self, obs, deterministic=False):
            return placed(super().encode(obs))

        def update(self, state, action, obs, deterministic=False):
            return placed(super().update(state, action, obs))

    def placed(state):
        return State({**state.tensors, "latent": state["place"][:, None]})

    model, recorded = without_a_decoder(Latent()), segments(toys, lengths=(20,) * 6)
    imagined = imagine(model, recorded, context=3, library=recorded)
    assert imagined.nearest and imagined.to_dict()["shown_by"]
    shown, truth = imagined.prediction["obs"], imagined.truth["obs"]
    rows = recorded.obs["obs"]
    for b in range(6):  # every picture is a row of another episode, and none of those is nearer
        others = np.delete(rows, b, 0).reshape(-1)
        for t in range(8):
            assert np.abs(shown[b, t] - truth[b, t]).min() == pytest.approx(np.abs(others - truth[b, t]).min())
    assert not imagine(toys.Knowing(), recorded, context=3, library=recorded).nearest


def test_rows_of_the_imagined_episode_itself_are_not_shown(toys):
    recorded = segments(toys)
    one = segments(toys, lengths=(20,))
    with pytest.raises(CapabilityError, match="nothing to compare"):
        imagine(without_a_decoder(toys.Knowing()), one, context=3, library=one)
    assert imagine(without_a_decoder(toys.Knowing()), recorded, context=3, library=recorded).nearest


def test_summary_has_the_mean_and_the_last_horizon(toys):
    summary = imagine(toys.Knowing(), segments(toys), context=3).summary()
    assert summary["obs"]["mse_mean"] == 0
    assert summary["obs"]["copy_last_mse_at_5"] == pytest.approx(2.5 * 25)
