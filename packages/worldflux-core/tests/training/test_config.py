"""Options refuse what they do not know and say what they take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.training import CollectConfig, TrainingConfig, train


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="unknown option 'bach_size'.*Did you mean 'batch_size'"):
        TrainingConfig(bach_size=3)


def test_an_option_of_earlier_versions_says_what_to_do_instead() -> None:
    with pytest.raises(ConfigurationError, match="'dtype'.*bfloat16"):
        TrainingConfig(dtype="float16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5, expected a whole number"),
        ({"batch_size": True}, "batch_size is True, expected a whole number"),
        ({"batch_size": None}, "batch_size is None, expected a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, expected a finite number"),
        ({"learning_rate": -1}, "learning_rate is -1, expected a finite number of at least 0"),
        ({"mixed_precision": "yes"}, "mixed_precision is 'yes', expected True or False"),
        ({"optimizer": "adamv"}, "optimizer is 'adamv', expected one of 'adamw', 'adam', 'sgd'. Did you mean 'adam'"),
        ({"scheduler": "cosin"}, "Did you mean 'cosine'"),
        ({"output_dir": 3}, "output_dir is 3, expected a string"),
    ],
)
def test_a_bad_value_is_named_with_what_is_expected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrainingConfig(**options)


def test_options_survive_a_file(tmp_path: Path) -> None:
    config = TrainingConfig(batch_size=3, learning_rate=1, output_dir=tmp_path / "x")
    config.save(tmp_path / "config.json")
    assert TrainingConfig.load(tmp_path / "config.json") == config
    assert TrainingConfig.from_dict(config.to_dict()) == config
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"config.json cannot be read as JSON"):
        TrainingConfig.load(tmp_path / "config.json")


def test_updates_leave_the_original_and_are_checked() -> None:
    config = TrainingConfig(batch_size=3)
    assert config.with_updates(seed=1) == TrainingConfig(batch_size=3, seed=1)
    assert config == TrainingConfig(batch_size=3)
    with pytest.raises(ConfigurationError, match="Did you mean 'seed'"):
        config.with_updates(sed=1)


def test_a_models_default_holds_unless_the_user_chose_even_our_own_default(toy, tmp_path: Path) -> None:
    model = toy.ToyModel(defaults={"batch_size": 5, "sequence_length": 7, "num_envs": 3})
    trainer = toy.Trainer(model, TrainingConfig(batch_size=16, output_dir=str(tmp_path), device="cpu"))
    assert (trainer.config.batch_size, trainer.config.sequence_length) == (16, 7)
    assert trainer.config.learning_rate == model.config.learning_rate
    assert CollectConfig().with_defaults(model.recipe()).num_envs == 3


def test_a_device_that_is_none_or_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert TrainingConfig().resolve_device() == torch.device("cpu")
    with pytest.raises(ConfigurationError, match="no usable CUDA"):
        TrainingConfig(device="cuda").resolve_device()
    with pytest.raises(ConfigurationError, match="'gpu'.*expected 'auto'"):
        TrainingConfig(device="gpu").resolve_device()
    with pytest.raises(ConfigurationError, match="'meta', which this machine cannot use"):
        TrainingConfig(device="meta").resolve_device()


def test_train_tells_options_of_collecting_from_those_of_training(toy, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'replay_ratio' is about collecting"):
        train(toy.ToyModel(), toy.NoiseSource(), 1, replay_ratio=2, output_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="'replay_ration'.*Did you mean 'replay_ratio'"):
        train(toy.ToyModel(), toy.Walk, 1, replay_ration=2, output_dir=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            lambda of: {"observation_space": of.Box(-1, 1, (4,))},
            r"differ in \['obs'\]: .*observation_modalities=env.obs_spec",
        ),
        (lambda of: {"observation_space": of.Dict(at=of.Box(-1, 1, (3,)))}, r"differ in \['at', 'obs'\]: have the env"),
        (
            lambda of: {"action_space": of.Box(-1, 1, (5,))},
            r"acts with \[\('continuous', 2\)\].* takes \('continuous', 5\)",
        ),
        (lambda of: {"action_space": of.Discrete(2)}, r"takes \('discrete', 2\): build the model for action_spec="),
    ],
)
def test_an_environment_the_model_was_not_built_for_is_refused(toy, tmp_path: Path, changes, message) -> None:
    other = type("Other", (toy.Walk,), changes(toy.gym.spaces))
    with pytest.raises(ConfigurationError, match=message):
        train(toy.ToyModel(), other, 1, output_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_train_stacks_frames_as_it_is_told(toy, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="frame_stack=2 is for images"):
        train(toy.ToyModel(), toy.Walk, 1, frame_stack=2, output_dir=tmp_path)
