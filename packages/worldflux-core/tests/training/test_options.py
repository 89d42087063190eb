"""Options know what was asked for; a model's recipe fills the rest, whichever way the options went."""

import copy
import importlib.util
import json
import pickle
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.fields import option_names
from worldflux.core.registry import WorldModelRegistry
from worldflux.experiment import fit, resume_run
from worldflux.experiment.settings import Settings, make_plan, read_settings
from worldflux.recipe import Recipe
from worldflux.training import CollectConfig, Trainer, TrainingConfig

RECIPE = Recipe(batch_size=5, sequence_length=7, learning_rate=1e-2)


def via_file(config, tmp_path):
    config.save(tmp_path / "config.json")
    return type(config).load(tmp_path / "config.json")


def via_sorted_json(config, tmp_path):
    return type(config).from_dict(json.loads(json.dumps(config.to_dict(), sort_keys=True)))


WAYS = {
    "as it is": lambda config, tmp_path: config,
    "file": via_file,
    "dict": lambda config, tmp_path: type(config).from_dict(config.to_dict()),
    "sorted": via_sorted_json,
    "replace": lambda config, tmp_path: replace(config),
    "replace twice": lambda config, tmp_path: replace(replace(config)),
    "pickle": lambda config, tmp_path: pickle.loads(pickle.dumps(config)),
    "oldest pickle": lambda config, tmp_path: pickle.loads(pickle.dumps(config, protocol=0)),
    "copy": lambda config, tmp_path: copy.copy(config),
    "deepcopy": lambda config, tmp_path: copy.deepcopy(config),
    "updates": lambda config, tmp_path: config.with_updates(),
    "another recipe": lambda config, tmp_path: config.with_defaults(Recipe(batch_size=9, learning_rate=0.5)),
    "copied, then replaced": lambda config, tmp_path: replace(copy.deepcopy(config)),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_left_open_stays_open_and_what_was_set_stays_set(way, tmp_path):
    config = WAYS[way](TrainingConfig(batch_size=16, grad_clip=1.0), tmp_path)
    assert config.given == {"batch_size", "grad_clip"}
    filled = config.with_defaults(RECIPE)
    assert (filled.batch_size, filled.sequence_length, filled.learning_rate, filled.grad_clip) == (16, 7, 1e-2, 1.0)
    assert filled.given == {"batch_size", "grad_clip"}


def test_an_option_that_is_set_to_its_default_is_set():
    assert TrainingConfig(batch_size=16).with_defaults(RECIPE).batch_size == 16


@pytest.mark.parametrize("value", [16, 5, 3])
@pytest.mark.parametrize("how", ["replace", "with_updates"])
def test_what_a_replace_is_given_is_set_even_where_it_changes_nothing(how, value):
    config = replace(TrainingConfig(seed=1), batch_size=value) if how == "replace" else None
    config = config or TrainingConfig(seed=1).with_updates(batch_size=value)
    assert config.given == {"seed", "batch_size"}
    assert config.with_defaults(RECIPE).batch_size == value


def test_replacing_twice_adds_up():
    config = replace(replace(TrainingConfig(), seed=42), learning_rate=3e-4)
    assert config.given == {"seed", "learning_rate"}


def test_a_first_and_a_last_option_count_in_a_replace():
    names = TrainingConfig.names()
    config = TrainingConfig()
    for name in (names[0], names[-1]):
        assert replace(config, **{name: getattr(config, name)}).given == {name}


def test_the_names_that_are_set_may_be_given():
    config = replace(TrainingConfig(batch_size=3), given=["seed"], grad_clip=1.0)
    assert config.given == {"seed"}
    assert config.with_defaults(RECIPE).batch_size == 5


@pytest.mark.parametrize("wrong", [["batchsize"], 3, None, "seed_", [["seed"]]])
def test_names_that_are_set_are_names_of_options(wrong):
    with pytest.raises(ConfigurationError, match="unknown option"):
        TrainingConfig(given=wrong)


def test_a_second_recipe_fills_what_the_first_left_and_overrules_it():
    one, two = Recipe(batch_size=9, grad_clip=2.0), Recipe(batch_size=5)
    filled = TrainingConfig(seed=1).with_defaults(one).with_defaults(two)
    assert filled == TrainingConfig(seed=1).with_defaults(two)
    assert filled.grad_clip == TrainingConfig().grad_clip, "what the first model chose is not the second's"


def test_an_updated_copy_keeps_what_a_recipe_filled():
    filled = TrainingConfig(seed=1).with_defaults(RECIPE)
    assert filled.with_updates(grad_clip=1.0) == replace(filled, grad_clip=1.0)
    assert filled.with_updates(grad_clip=1.0).batch_size == 5


def test_what_was_set_takes_no_part_in_comparing():
    assert TrainingConfig(batch_size=16) == TrainingConfig()


def test_whole_floats_count_as_whole_numbers_and_others_do_not():
    assert TrainingConfig(total_steps=1e6).total_steps == 1_000_000
    assert type(TrainingConfig(total_steps=1e6).total_steps) is int
    for wrong in (1.5, float("inf"), float("nan")):
        with pytest.raises(ConfigurationError, match="total_steps is"):
            TrainingConfig(total_steps=wrong)


def test_options_of_a_third_party_follow_the_same_rules():
    @dataclass(frozen=True, kw_only=True)
    class Further(CollectConfig):
        extra: int = 1

    config = replace(Further(extra=1), num_envs=1)
    assert config.given == {"extra", "num_envs"}
    assert config.with_defaults(Recipe(num_envs=4, replay_ratio=2.0)).replay_ratio == 2.0


def test_a_loaded_config_takes_the_models_recipe(toy, tmp_path):
    TrainingConfig(batch_size=16, device="cpu", output_dir=str(tmp_path)).save(tmp_path / "config.json")
    model = toy.ToyModel(defaults={"batch_size": 5, "sequence_length": 7})
    config = Trainer(model, TrainingConfig.load(tmp_path / "config.json")).config
    assert (config.batch_size, config.sequence_length) == (16, 7)
    assert config.learning_rate == model.config.learning_rate


# --- recipes -----------------------------------------------------------------------------------------


class Older:
    """A family of before, whose ``training_defaults`` returns a dict."""

    @staticmethod
    def of(toy, given):
        class OlderModel(toy.ToyModel):
            def training_defaults(self):
                return given

        return OlderModel()


def test_an_unknown_name_in_a_recipe_is_refused_with_the_nearest():
    with pytest.raises(ConfigurationError, match=r"\[Recipe\] unknown option 'batchsize'.*Did you mean 'batch_size'"):
        Recipe(batchsize=3)


def test_an_unknown_name_in_an_older_familys_recipe_is_refused_by_all_who_ask(toy, tmp_path):
    model = Older.of(toy, {"replay_ration": 3})
    with pytest.raises(ConfigurationError, match="Did you mean 'replay_ratio'"):
        model.recipe()
    with pytest.raises(ConfigurationError, match="Did you mean 'replay_ratio'"):
        Trainer(model, TrainingConfig(device="cpu", output_dir=str(tmp_path)))


def test_an_older_familys_recipe_is_taken(toy):
    recipe = Older.of(toy, {"batch_size": 3, "learning_rate": 0.5}).recipe()
    assert (recipe.batch_size, recipe.learning_rate) == (3, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("batch_size", True), ("replay_ratio", 0), ("optimizer", "adamv"), ("boundary", "out"),
     ("learning_rate", float("nan")), ("catch_up", 1), ("env_steps", "many")],
)  # fmt: skip
def test_a_bad_value_in_a_recipe_is_refused(toy, name, value):
    for made in (lambda: Recipe(**{name: value}), Older.of(toy, {name: value}).recipe):
        with pytest.raises(ConfigurationError, match=rf"\[Recipe\] {name} is .*, expected"):
            made()


def test_every_name_in_a_recipe_is_an_option_somewhere():
    known = {*TrainingConfig.names(), *CollectConfig.names(), "env_steps", "eval_explore"}
    assert set(option_names(Recipe)) <= known


def test_a_model_config_has_its_say_where_a_recipe_is_silent(toy):
    model = toy.ToyModel()
    assert model.recipe().chosen() == {"learning_rate": model.config.learning_rate, "grad_clip": model.config.grad_clip}


# --- settings of a run -------------------------------------------------------------------------------

BEFORE = {  # what config.json of a run held when its options were few, flat, and all filled in
    "model": "toy", "env": "Walk", "steps": 400, "seed": 3, "env_options": {}, "image_size": None, "frame_stack": 1,
    "num_envs": 2, "replay_ratio": 4.0, "replay_capacity": 400, "batch_size": 4, "sequence_length": 5,
    "eval_every": 40, "eval_episodes": 2, "eval_explore": False, "save_every": 100, "device": "cpu",
    "model_options": {}, "training": {"total_steps": 10, "batch_size": 4, "warmup_steps": 30},
}  # fmt: skip


def test_flat_names_reach_training_and_collecting():
    settings = Settings.from_dict({"model": "m", "env": "e", "batch_size": 3, "num_envs": 2, "mixed_precision": True})
    assert (settings.training.batch_size, settings.collect.num_envs) == (3, 2)
    assert (settings.batch_size, settings.num_envs, settings.mixed_precision) == (3, 2, True)
    assert settings.training.given == {"batch_size", "mixed_precision", "seed"}
    with pytest.raises(AttributeError, match="'batchsize'"):
        _ = settings.batchsize


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("batchsize", "unknown option 'batchsize'. Did you mean 'batch_size'"),
        ("replay_ration", "Did you mean 'replay_ratio'"),
        ("eval_evry", "Did you mean 'eval_every'"),
        ("total_steps", "'total_steps'. It follows from steps"),
        ("eval_interval", "It follows from steps, eval_every and save_every"),
        ("output_dir", "It is called run"),
        ("keep_checkpoints", "keeps its last two"),
        ("training", "unknown option 'training'"),
        ("given", "unknown option 'given'"),
    ],
)
def test_a_setting_that_is_none_is_refused_with_what_to_do(name, message):
    with pytest.raises(ConfigurationError, match=message):
        Settings.from_dict({"model": "m", "env": "e", name: 3})


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("batch_size", 0), ("replay_ratio", float("nan"))])
def test_a_bad_value_in_settings_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=f"{name} is"):
        Settings.from_dict({"model": "m", "env": "e", name: value})


def test_settings_survive_json_pickling_and_replacing():
    settings = Settings.from_dict({"model": "m", "env": "e", "batch_size": 3, "model_options": {"units": 4}})
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    for again in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings), replace(settings, steps=None)):
        assert again == settings
        assert again.training.given == settings.training.given
    assert json.loads(json.dumps(settings.to_dict()))["batch_size"] == 3


def test_what_is_asked_for_is_what_was_set():
    asked = Settings.from_dict({"model": "m", "env": "e", "batch_size": 16, "num_envs": 1}).asked()
    assert {"batch_size", "num_envs", "seed", "model"} <= set(asked)
    assert not {"learning_rate", "replay_ratio", "warmup_steps"} & set(asked)


def test_a_plan_takes_from_the_recipe_exactly_what_settings_leave_open(toy):
    model = toy.ToyModel(defaults={"batch_size": 5, "warmup_steps": 30, "num_envs": 3, "env_steps": 777})
    plan = make_plan(Settings.from_dict({"model": "m", "env": "e", "batch_size": 16, "num_envs": 1}), model).settings
    assert (plan.batch_size, plan.num_envs, plan.warmup_steps, plan.steps) == (16, 1, 30, 777)
    assert plan.learning_rate == model.config.learning_rate


def test_a_run_of_before_goes_on_with_the_recipe_it_was_started_with(toy, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(BEFORE))
    stored = read_settings(tmp_path)
    assert (stored.steps, stored.batch_size, stored.replay_capacity, stored.seed) == (400, 4, 400, 3)
    model = toy.ToyModel(defaults={"warmup_steps": 30, "weight_decay": 0.25, "catch_up": True, "batch_size": 9})
    going_on = Settings.from_dict({**stored.asked(), "model": "toy", "env": "Walk", "steps": 800}).resuming(stored)
    plan = make_plan(going_on, model).settings
    assert (plan.steps, plan.batch_size, plan.num_envs) == (800, 4, 2)
    assert (plan.warmup_steps, plan.weight_decay, plan.catch_up) == (30, 0.25, True)
    assert plan.learning_rate == model.config.learning_rate


def test_a_planned_run_is_stored_with_every_choice(toy, tmp_path):
    model = toy.ToyModel(defaults={"warmup_steps": 30, "batch_size": 9})
    plan = make_plan(Settings.from_dict({"model": "m", "env": "e"}), model).settings
    (tmp_path / "config.json").write_text(json.dumps({**plan.to_dict(), "training": {}}))
    stored = read_settings(tmp_path)
    assert stored == plan
    assert (stored.asked()["warmup_steps"], stored.asked()["batch_size"]) == (30, 9)


@pytest.mark.parametrize("name", ["batch_size", "learning_rate", "seed", "model_options"])
def test_what_makes_a_run_another_run_may_not_change_on_the_way(name):
    stored = Settings.from_dict({"model": "m", "env": "e", "batch_size": 4, "learning_rate": 1e-3, "seed": 1})
    other = {"model_options": {"units": 4}}.get(name, 7)
    changed = Settings.from_dict({**stored.asked(), name: other})
    with pytest.raises(ConfigurationError, match=f"started with {name} .*cannot go on with"):
        changed.resuming(stored)


# --- a run from end to end ---------------------------------------------------------------------------


class Short(gym.Env):
    """Two actions, four steps."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(2, np.float32), 1.0, False, self.time == 4, {}


SMALL = {"steps": 40, "eval_episodes": 1, "eval_every": 0, "device": "cpu"}


@pytest.fixture
def family(monkeypatch):
    """The toy family of the command's tests, with a recipe that has much to say."""
    path = Path(__file__).parent.parent / "cli" / "toy_world" / "plugin.py"
    spec = importlib.util.spec_from_file_location("toy_world_of_options", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    before = WorldModelRegistry.snapshot()
    spec.loader.exec_module(module)
    WorldModelRegistry.register("toyworld")(module.ToyWorld)
    defaults = module.ToyWorld.training_defaults
    monkeypatch.setattr(
        module.ToyWorld,
        "training_defaults",
        lambda self: Recipe(**{**defaults(self).chosen(), "warmup_steps": 3, "weight_decay": 0.25}),
    )
    yield module
    WorldModelRegistry.restore(before)


def trained_with(directory):
    return json.loads((directory / "config.json").read_text())["training"]


def test_options_of_training_given_to_fit_reach_the_trainer(family, tmp_path):
    chosen = {"learning_rate": 0.125, "mixed_precision": True, "scheduler": "linear", "warmup_steps": 0}
    fit("toyworld", env=Short, run=tmp_path / "a", **SMALL, **chosen)
    used = trained_with(tmp_path / "a")
    assert {name: used[name] for name in chosen} == chosen
    assert used["weight_decay"] == 0.25
    logged = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert next(record["lr"] for record in logged if "lr" in record) == 0.125


def test_a_runs_directory_of_before_goes_on(family, tmp_path):
    fit("toyworld", env=Short, run=tmp_path / "a", **SMALL, seed=3)
    used, file = trained_with(tmp_path / "a"), tmp_path / "a" / "config.json"
    old = {name: value for name, value in json.loads(file.read_text()).items() if name in BEFORE}
    old["training"].pop("given")
    file.write_text(json.dumps(old))
    again = resume_run(tmp_path / "a", env=Short, steps=60)
    assert (again.status, again.settings.seed, again.settings.steps) == ("finished", 3, 60)
    now = trained_with(tmp_path / "a")
    same = ("learning_rate", "weight_decay", "warmup_steps", "batch_size", "sequence_length", "grad_clip", "optimizer")
    assert {name: now[name] for name in same} == {name: used[name] for name in same}
