"""Planning towards goals with a run: the environment's own, and ones that are given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from worldflux.cli.eval import app as eval_app
from worldflux.cli.imagine import app as imagine_app
from worldflux.cli.plan import app as plan_app
from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput, ModelOutput
from worldflux.core.registry import WorldModelRegistry
from worldflux.core.spec import Capability, StateSpec, vector
from worldflux.core.state import State
from worldflux.experiment import Run, collect, fit
from worldflux.experiment.goals import not_compared, read_goal

WORDS = ["--plan-horizon", "6", "--episodes", "12"]
FEW = ["--set", "num_samples=60", "--set", "num_elites=8", "--set", "iterations=3"]


@dataclass
class KnowingConfig(WorldModelConfig):
    model_type: str = "knowing"


class Knowing(WorldModel):
    """Its latent is the true state of the point goal, and it knows what actions do; nothing is learnt."""

    config_class = KnowingConfig
    capabilities = frozenset({Capability.LATENT_DYNAMICS, Capability.PLANNING})

    def __init__(self, config):
        super().__init__(config)
        self.weight = nn.Parameter(torch.ones(()))

    def state_spec(self):
        return StateSpec({"latent": vector(2)})

    def encode(self, obs, deterministic=False):
        return State({"latent": self.observations(obs)["state"] * self.weight})

    def transition(self, state, action, conditions=None, deterministic=False):
        latent = state["latent"]
        for step in self.actions(action).unflatten(-1, (-1, 2)).unbind(-2):
            latent = (latent + 0.06 * step).clamp(0.1, 0.9)
        return State({"latent": latent})

    def decode(self, state, conditions=None):
        return ModelOutput({}, state=state)

    def loss(self, batch):
        return LossOutput((self.weight - 1).square(), {})


@pytest.fixture(scope="module")
def knowing():
    before = WorldModelRegistry.snapshot()
    WorldModelRegistry.register("knowing")(Knowing)
    yield Knowing
    WorldModelRegistry.restore(before)


@pytest.fixture(scope="module")
def place(knowing, tmp_path_factory):
    """Recordings of the point goal, a run that learned from them, and one whose actions are two steps."""
    root, options = tmp_path_factory.mktemp("goals"), {"obs": "state", "limit": 20}
    collect(root / "data", env="study:point-goal", episodes=8, env_options=options, policy="random")
    for name, skip in (("run", 1), ("skipping", 2)):
        how = {
            "updates": 2,
            "sequence_length": 4,
            "batch_size": 2,
            "frame_skip": skip,
            "eval_env": "study:point-goal",
            "env_options": {"obs": "state"},
        }
        fit("knowing", data=root / "data", run=root / name, device="cpu", callbacks=[], eval_episodes=1, **how)
    return root


def told(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_goals_of_a_runs_environment_are_planned_to(place):
    words = ["--goal", "env", *WORDS, *FEW, "--energy", "l2", "--seed", "3"]
    found = told(CliRunner().invoke(plan_app, [str(place / "run"), *words, "--json"]))
    assert found["goals"]["success"]["value"] >= 0.9 > found["goals"]["floor"]["value"]
    assert (found["goals"]["card"]["execute"], found["goals"]["card"]["seed"]) == (2, 3)
    assert json.loads((place / "run" / "evaluation-goals.json").read_text())["success"] == found["goals"]["success"]
    text = CliRunner().invoke(plan_app, [str(place / "run"), *words]).stdout
    assert "study:point-goal, place goals: 12 episodes of up to 50 steps, seed 3" in text
    assert "planned" in text and "persistent" in text and "a plan takes" in text


def test_a_run_whose_actions_are_several_steps_plans_in_them(place):
    words = ["--goal", "env", *WORDS, *FEW, "--over", "sum"]
    found = told(CliRunner().invoke(plan_app, [str(place / "skipping"), *words, "--json"]))["goals"]
    assert found["card"]["frame_skip"] == 2 and found["success"]["value"] >= 0.9


def test_how_much_earlier_states_count_is_a_number(place):
    words = [str(place / "run"), "--goal", "env", *WORDS, *FEW]
    found = told(CliRunner().invoke(plan_app, [*words, "--over", "0.5", "--json"]))["goals"]
    assert found["card"]["objective"]["over"] == 0.5 and found["success"]["value"] >= 0.9
    refused = CliRunner().invoke(plan_app, [*words, "--over", "half"])
    assert refused.exit_code != 0 and "'last', 'sum', or a number from 0 to 1" in str(refused.exception)


def test_an_evaluation_has_the_success_where_the_environment_has_goals(place):
    words = ["--episodes", "4", "--horizon", "4", "--context", "2", "--sequences", "8"]
    words += ["--planner", "cem", "--plan-horizon", "4"]
    found = told(CliRunner().invoke(eval_app, [str(place / "run"), *words, "--out", str(place / "out"), "--json"]))
    assert found["goals"]["success"]["episodes"] == 4
    assert found["horizon"]["latents"]["latent"]["mse"]["model"]["mean"]["value"] < 1
    assert "trained" not in found  # without a policy and rewards there are no returns to speak of
    assert (place / "out" / "evaluation-goals.json").is_file()


def test_a_recorded_row_is_a_goal(place):
    run = Run.load(place / "run")
    row = run.experience.sets[0].whole.column("obs/state", 2)[5]
    goal = read_goal(run, f"{place / 'data'}#2,5")
    np.testing.assert_array_equal(goal.goal["latent"][0].numpy(), row)
    found = told(
        CliRunner().invoke(
            plan_app, [str(place / "run"), "--goal", f"{place / 'data'}#2,5", *WORDS, *FEW, "--budget", "30", "--json"]
        )
    )
    energy = found["sought"]["energy"]
    assert energy["planned"]["last"] < 0.2 * energy["planned"]["first"]
    assert energy["planned"]["last"] < min(energy["uniform"]["last"], energy["persistent"]["last"])
    assert found["in_words"] == [] and (place / "run" / "planned-goal.json").is_file()


def test_a_named_state_is_a_goal_that_a_probe_reads(place):
    words = ["--goal", "state:agent=0.3,0.7", *WORDS, *FEW, "--budget", "12"]
    text = CliRunner().invoke(plan_app, [str(place / "run"), *words]).stdout
    assert "the state is read by a probe, R² 1.00" in text
    goal = read_goal(Run.load(place / "run"), "state:agent=0.3,0.7")
    assert goal.probe.r2 > 0.99
    energy = goal.energy_of(State({"latent": torch.tensor([[0.3, 0.7], [0.3, 0.3]])}))
    np.testing.assert_allclose(energy.detach().numpy(), [0, 0.4], atol=0.02)


def test_an_array_is_an_observation_as_a_goal(place, tmp_path):
    np.save(tmp_path / "goal.npy", np.array([0.2, 0.4], np.float32))
    goal = read_goal(Run.load(place / "run"), str(tmp_path / "goal.npy"), energy="l2")
    np.testing.assert_allclose(goal.goal["latent"].detach().numpy(), [[0.2, 0.4]])
    assert (goal.key, goal.energy) == ("latent", "l2")


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ("nowhere", "the goal is 'nowhere', expected env, a picture"),
        ("nowhere.png", "is not there"),
        ("{data}#2", "expected DATA#EPISODE,ROW with two whole numbers"),
        ("{data}#2,21", "has 21 rows in episode 2, from 0"),
        ("{data}#8,0", "has 8 episodes, from 0"),
        ("{bad}", "the goal's 'state' is float32 .3., the model observes 'state' float32 .2."),
        ("{picture}", "is one array, but the model observes 'state'"),
        ("state:agent=0.3", "'agent' has 2 numbers, the goal .* 1"),
        ("state:agent=x", "expected state:NAME=NUMBER,NUMBER"),
        ("state:agnet=1,2", "Did you mean 'agent'"),
    ],
)
def test_what_is_no_goal_is_refused_with_words(place, tmp_path, goal, words):
    from PIL import Image

    np.save(tmp_path / "bad.npy", np.zeros(3, np.float32))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "goal.png")
    given = {"data": place / "data", "bad": tmp_path / "bad.npy", "picture": tmp_path / "goal.png"}
    with pytest.raises(ConfigurationError, match=words):
        read_goal(Run.load(place / "run"), goal.format(**given))


def test_an_evaluation_says_what_it_needs_to_measure_goals():
    spec = StateSpec({"deter": vector(2), "stoch": vector(2)})
    model = SimpleNamespace(state_spec=lambda: spec)
    assert not_compared(model, "stoch") is None
    assert not_compared(model, None) == (
        "its states have ['deter', 'stoch']: say which of them is compared with a goal's, --key NAME"
    )


class Picture(Knowing):
    """Observes a picture; its latent is the mean of each half of its three channels."""

    def state_spec(self):
        return StateSpec({"latent": vector(6)})

    def encode(self, obs, deterministic=False):
        return State(
            {"latent": self.observations(obs)["image"].float().unflatten(-1, (2, -1)).mean((-3, -1)).flatten(1)}
        )


@pytest.fixture(scope="module")
def sees():
    """What stands for a run whose model observes a picture."""
    model = Picture(KnowingConfig(observation_modalities={"image": {"shape": (3, 8, 8)}}, action_dim=2))
    return SimpleNamespace(model=model, settings=SimpleNamespace(frame_skip=1))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_picture_is_a_goal_as_the_model_sees_it(sees, tmp_path, mode):
    from PIL import Image

    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:] = 90
    Image.fromarray(pixels).convert(mode).save(tmp_path / "goal.png")
    goal = read_goal(sees, str(tmp_path / "goal.png"))
    np.testing.assert_allclose(goal.goal["latent"], [[0, 90] * 3])


def test_a_picture_of_another_size_is_refused(sees, tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(tmp_path / "goal.png")
    with pytest.raises(ConfigurationError, match=r"'image' is uint8 \[3, 9, 8\], the model observes .*resize"):
        read_goal(sees, str(tmp_path / "goal.png"))
    (tmp_path / "no.png").write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match="no picture that can be read"):
        read_goal(sees, str(tmp_path / "no.png"))


def test_an_array_of_a_latents_shape_is_a_latent(sees, tmp_path):
    np.save(tmp_path / "goal.npy", np.arange(6, dtype=np.float64))
    np.testing.assert_allclose(read_goal(sees, str(tmp_path / "goal.npy")).goal["latent"], [np.arange(6)])


def test_options_of_goals_need_a_goal(place):
    result = CliRunner().invoke(plan_app, [str(place / "run"), "--budget", "3"])
    assert isinstance(result.exception, ConfigurationError) and "--budget is about planning" in str(result.exception)


@pytest.mark.parametrize("more", [[], ["--data", "data"]])
def test_what_a_run_without_a_decoder_imagines_is_shown_by_the_nearest_rows(place, more, monkeypatch):
    monkeypatch.chdir(place)
    words = ["--context", "2", "--horizon", "4", "--sequences", "6", *more]
    found = told(CliRunner().invoke(imagine_app, [str(place / "run"), *words, "--json"]))
    assert found["shown_by"] == "nearest rows of other episodes"
    assert found["in_words"][0].startswith("The model decodes nothing: its latents are shown by")
    assert found["summary"]["state"]["mse_mean"] < 0.05


def test_several_runs_are_one_rate_and_it_is_said_if_their_cards_differ(place):
    words = ["--episodes", "3", "--budget", "6", "--horizon", "3", "--context", "2", "--sequences", "6", "--json"]
    runs = [str(place / "run"), str(place / "skipping")]
    found = told(CliRunner().invoke(eval_app, [*runs, *words]))["goals_across_runs"]
    assert found["success"]["episodes"] == 6
    assert found["cards_differ_in"] == ["frame_skip"]
