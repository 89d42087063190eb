"""Runs and saved models judged by horizon on recorded episodes, from Python and from the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from worldflux.cli.eval import app
from worldflux.cli.imagine import app as imagine_app
from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import DatasetWriter
from worldflux.experiment import Run, fit, judge, save_judgement

pytestmark = pytest.mark.usefixtures("toy")

ASKED = {"context": 2, "horizon": 4, "sequences": 12}
WORDS = ["--context", "2", "--horizon", "4", "--sequences", "12"]


def write(path, *, seed=0, size=2):
    """Twenty episodes of a point that its actions move."""
    rng, names = np.random.default_rng(seed), {"obs": ModalitySpec("vector", (size,))}
    with DatasetWriter(path, obs_spec=names, action_spec=ActionSpec("discrete", 2, True, 2)) as writer:
        for _ in range(20):
            action = np.eye(2, dtype=np.float32)[rng.integers(2, size=12)]
            moves = np.repeat(action[:-1, :1] - action[:-1, 1:], size, 1)
            obs = np.concatenate([rng.normal(size=(1, size)), moves]).cumsum(0).astype(np.float32)
            writer.append({"obs/obs": obs, "action": action, "reward": np.where(np.arange(12) > 0, obs.sum(1), 0)})
    return path


@pytest.fixture(scope="module")
def place(toy, tmp_path_factory):
    """Two recordings, a run that learned from the first, and one that held nothing out."""
    root = tmp_path_factory.mktemp("judging")
    for name, seed in (("data", 0), ("other", 1)):
        write(root / name, seed=seed)
    for name, share in (("run", 0.3), ("greedy", 0.0)):
        options = {"updates": 4, "held_out": share, "device": "cpu", "callbacks": []}
        fit("toyworld", data=root / "data", run=root / name, **options)
    return root


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the pictures, which take longer than all else."""
    monkeypatch.setattr("worldflux.experiment.judging.save_pictures", lambda result, folder: [])


def told(runner_result):
    assert runner_result.exit_code == 0, runner_result.output
    return json.loads(runner_result.stdout)


def test_a_run_is_judged_on_the_episodes_that_it_held_out(place):
    card = judge(Run.load(place / "run"), **ASKED).card
    assert (card["held_out"], card["split"], card["data"]["episodes"]) == (True, "held out", 6)
    assert card["mean_over"] == {"source": "training data", "rows": 14 * 12}


def test_the_data_of_a_run_named_again_is_not_taken_for_data_of_its_own(place):
    assert judge(Run.load(place / "run"), place / "data", **ASKED).card["split"] == "held out"
    result = judge(Run.load(place / "greedy"), place / "data", **ASKED)
    assert result.card["held_out"] is False and "learned from this data" in result.to_dict()["in_words"][0]
    with pytest.raises(ConfigurationError, match="held out nothing"):
        judge(Run.load(place / "greedy"), **ASKED)


def test_other_data_is_held_out_as_a_whole(place):
    card = judge(Run.load(place / "run"), place / "other", **ASKED).card
    assert (card["held_out"], card["data"]["episodes"]) == (True, 20)


def test_a_saved_model_is_judged_without_a_run(place):
    result = judge(Run.load(place / "run" / "model", data=place / "other"), place / "other", **ASKED)
    assert "held_out" not in result.card and result.curve("observations", "obs", "mse", "model") is not None


def test_numbers_and_pictures_lie_in_the_run(place):
    pytest.importorskip("matplotlib")
    result = judge(Run.load(place / "run"), **ASKED)
    numbers, pictures = save_judgement(result, place / "run")
    assert json.loads(numbers.read_text()) == result.to_dict()
    assert place / "run" / "pictures" / "observations-obs-mse.png" in pictures


def test_the_command_judges_a_run_that_knows_no_environment(place, undrawn):
    found = told(CliRunner().invoke(app, [str(place / "run"), *WORDS, "--json"]))
    assert found["env"] is None and found["horizon"]["card"]["held_out"] is True
    assert (place / "run" / "evaluation-horizon.json").is_file()
    text = CliRunner().invoke(app, [str(place / "run"), *WORDS]).output
    assert "observations obs" in text and "copy last" in text and "shown: " in text


def test_the_command_judges_a_saved_model_on_data(place, tmp_path, undrawn):
    words = [str(place / "run" / "model"), "--data", str(place / "other"), *WORDS, "--json"]
    assert "numbers" not in told(CliRunner().invoke(app, words))  # nothing is written into a model
    found = told(CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")]))
    assert (tmp_path / "out" / "evaluation-horizon.json").is_file()
    assert found["horizon"]["observations"]["obs"]["mse"]["model"]["horizon"] == [1, 2, 3, 4]


def test_the_command_puts_several_runs_together(place, undrawn):
    words = [str(place / "run"), str(place / "greedy"), "--data", str(place / "other"), *WORDS, "--json"]
    found = told(CliRunner().invoke(app, words))
    assert len(found["runs"]) == found["across_runs"]["runs"] == 2
    assert found["across_runs"]["observations"]["obs"]["mse"]["model"]["horizon"] == [1, 2, 3, 4]


def test_a_run_on_data_imagines_what_it_held_out(place, tmp_path):
    pytest.importorskip("PIL")
    words = [str(place / "run"), *WORDS, "--out", str(tmp_path / "imagined.gif"), "--json"]
    found = told(CliRunner().invoke(imagine_app, words))
    assert len(found["errors"]["obs"]["mse"]) == 4 and found["env"] is None


def test_data_of_another_shape_is_refused_naming_both_sides(place, tmp_path):
    with pytest.raises(ConfigurationError, match=r"\[3\], the model takes \[2\]"):
        judge(Run.load(place / "run"), write(tmp_path / "wide", size=3), **ASKED)


@pytest.fixture(scope="module")
def skipping(place):
    """A run that learned from every second row of the first recording."""
    fit(
        "toyworld",
        data=place / "data",
        run=place / "skipping",
        frame_skip=2,
        updates=4,
        device="cpu",
        sequence_length=3,
    )
    return place / "skipping"


def test_a_run_is_judged_at_the_frame_skip_that_it_was_trained_with(skipping, undrawn):
    assert judge(Run.load(skipping), **ASKED).card["frame_skip"] == 2
    assert told(CliRunner().invoke(app, [str(skipping), *WORDS, "--json"]))["horizon"]["card"]["frame_skip"] == 2


def test_a_saved_model_is_judged_at_the_frame_skip_that_is_named(place, skipping, undrawn):
    words = [str(skipping / "model"), "--data", str(place / "other"), *WORDS, "--frame-skip", "2"]
    assert told(CliRunner().invoke(app, [*words, "--json"]))["horizon"]["card"]["frame_skip"] == 2
    saved = Run.load(skipping / "model", data=place / "other")
    assert judge(saved, place / "other", frame_skip=2, **ASKED).card["frame_skip"] == 2


def test_a_saved_model_imagines_at_the_frame_skip_that_is_named(place, skipping, tmp_path):
    pytest.importorskip("PIL")
    out = ["--frame-skip", "2", "--out", str(tmp_path / "imagined.gif"), "--json"]
    words = [str(skipping / "model"), "--data", str(place / "other"), *WORDS, *out]
    assert len(told(CliRunner().invoke(imagine_app, words))["errors"]["obs"]["mse"]) == 4


def test_a_frame_skip_that_makes_other_actions_is_refused_and_the_right_one_named(place, skipping):
    saved = Run.load(skipping / "model", data=place / "other")
    with pytest.raises(ConfigurationError, match=r"discrete of size 2, the model takes multi .*--frame-skip 2\)"):
        judge(saved, place / "other", **ASKED)
    with pytest.raises(ConfigurationError, match=r"\(frame_skip 3\), are multi .*--frame-skip 2\)"):
        judge(Run.load(skipping), frame_skip=3, **ASKED)
    with pytest.raises(ConfigurationError, match=r"\(frame_skip 2\), are multi .*--frame-skip 1\)"):
        judge(Run.load(place / "run"), frame_skip=2, **ASKED)
    with pytest.raises(ConfigurationError, match="frame_skip must be a whole number of at least 1, got 0"):
        judge(Run.load(skipping), frame_skip=0, **ASKED)


def test_a_frame_skip_without_recorded_data_is_refused(place):
    words = [str(place / "run" / "model"), "--env", "CartPole-v1", "--frame-skip", "2"]
    for asked in (app, imagine_app):
        assert "name it, --data DIR" in str(CliRunner().invoke(asked, words).exception)
