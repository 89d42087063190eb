import json

import pytest

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import CheckpointError, ConfigurationError, ContractValidationError
from worldflux.core.spec import (
    ActionSpec,
    ModalityKind,
    ModalitySpec,
    ModelIOContract,
    ObservationSpec,
    SequenceFieldSpec,
    SequenceLayout,
    StateSpec,
    namespaced,
)

VECTOR = ModalitySpec("vector", (3,))


@pytest.mark.parametrize(
    ("key", "good"),
    [("wf.a.b", True), ("wf.a-b.c.d", True), ("wf.a", False), ("x.a.b", False), ("wf..b", False), ("wf.a.b c", False)],
)
def test_extras_keys_have_three_parts(key, good):
    assert namespaced(key) is good


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (ModelIOContract(required_batch_keys=("observations",)), "Unknown required batch key"),
        (ModelIOContract(required_state_keys=("z",)), "not in the state spec"),
        (ModelIOContract(sequence_layout=SequenceLayout({"sound": "BT"})), "Unknown sequence layout field"),
        (ModelIOContract(sequence_layout=SequenceLayout({"obs": "T..."})), "must include"),
        (ModelIOContract(sequence_field_spec={"obs": SequenceFieldSpec(variable_length=True)}), "no layout"),
        (ModelIOContract(sequence_field_spec={"obs": SequenceFieldSpec("B...", True)}), "time axis"),
        (ModelIOContract(sequence_field_spec={"obs": SequenceFieldSpec("BTT")}), "several time axes"),
        (ModelIOContract(condition_extras_schema={"scale": VECTOR}), "namespaced"),
        (ModelIOContract(action_union_spec=(ActionSpec("latent", 2),)), "must include"),
        (ModelIOContract(action_union_spec=(ActionSpec("latent", 2), ActionSpec("latent", 3))), "duplicate kinds"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(contract, message):
    with pytest.raises(ContractValidationError, match=message):
        contract.validate()


def test_a_whole_contract_validates():
    ModelIOContract(
        observation_spec=ObservationSpec({"image": ModalitySpec("image", (3, 8, 8), "uint8")}),
        state_spec=StateSpec({"z": VECTOR}),
        required_batch_keys=("obs:image", "actions"),
        required_state_keys=("z",),
        sequence_layout=SequenceLayout({"obs": "BT..."}),
    ).validate()


def test_equal_contracts_have_equal_fingerprints_and_others_do_not():
    one, two = ModelIOContract(action_spec=ActionSpec(dim=2)), ModelIOContract(action_spec=ActionSpec(dim=3))
    assert one.fingerprint() == ModelIOContract(action_spec=ActionSpec(dim=2)).fingerprint()
    assert one.fingerprint() != two.fingerprint()


def test_an_unknown_action_kind_names_the_nearest():
    with pytest.raises(ContractValidationError, match="Did you mean 'continuous'"):
        ActionSpec("continous", 2)


def test_one_shape_becomes_the_modality_obs():
    config = WorldModelConfig(obs_shape=[5])
    assert config.obs_shape == (5,)
    assert config.modalities["obs"].kind is ModalityKind.VECTOR


def test_modalities_win_over_the_single_shape():
    config = WorldModelConfig(observation_modalities={"image": {"shape": [3, 8, 8]}, "pose": {"shape": (7,)}})
    assert config.modalities["image"].dtype == "uint8"
    assert config.obs_shape == (3, 8, 8)


def test_the_action_spec_wins_over_dim_and_type():
    config = WorldModelConfig(action_dim=9, action_spec={"kind": "discrete", "num_actions": 4})
    assert (config.action_type, config.action_dim, config.actions.num_actions) == ("discrete", 4, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"obs_shape": (64, 64, 3)}, "channels-last"),
        ({"obs_shape": (0,)}, "obs_shape is .*expected a list, each entry a whole number of at least 1"),
        ({"obs_shape": (3, 64)}, None),
        ({"action_dim": 0}, "positive integer"),
        ({"action_type": "continous"}, "Did you mean 'continuous'"),
        ({"action_spec": {"size": 3}}, "unknown action_spec key"),
        ({"action_spec": {"kind": "discrete", "dim": 6, "num_actions": 4}}, "dim 6 contradicts num_actions 4"),
        ({"learning_rate": "fast"}, "learning_rate is .*expected a finite number above 0"),
        ({"learning_rate": -1.0}, "expected a finite number above 0"),
        ({"observation_modalities": {"image": {"kind": "picture", "shape": (3, 8, 8)}}}, "unknown kind 'picture'"),
    ],
)
def test_a_config_that_cannot_work_is_refused(fields, message):
    if message is None:
        assert WorldModelConfig(**fields).modalities["obs"].kind is ModalityKind.OTHER
        return
    with pytest.raises(ConfigurationError, match=message):
        WorldModelConfig(**fields)


def test_unknown_fields_name_the_nearest():
    with pytest.raises(ConfigurationError, match=r"Unknown parameter 'action_dims'.*Did you mean 'action_dim'"):
        WorldModelConfig.from_dict({"action_dims": 2})


def test_fields_may_go_by_their_earlier_names():
    class Grown(WorldModelConfig):
        earlier_names = {"rate": "learning_rate"}

    assert Grown.from_dict({"rate": 0.5}).learning_rate == 0.5
    assert Grown.from_dict({"rate": 0.5, "learning_rate": 0.5}).learning_rate == 0.5
    with pytest.raises(ConfigurationError, match="rate is the earlier name of learning_rate: give one of them"):
        Grown.from_dict({"rate": 0.5, "learning_rate": 0.1})
    with pytest.raises(ConfigurationError, match=r"\[WorldModelConfig\] Unknown parameter 'rate'"):
        WorldModelConfig.from_dict({"rate": 0.5})


def test_overrides_keep_what_is_none_and_follow_the_new_shape():
    config = WorldModelConfig().with_overrides(obs_shape=(8,), action_dim=None, seed=3)
    assert config.modalities["obs"].shape == (8,)
    assert (config.action_dim, config.seed) == (6, 3)


def test_a_config_survives_json():
    config = WorldModelConfig(observation_modalities={"pose": {"shape": (7,)}}, action_type="discrete", action_dim=3)
    again = WorldModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config


def test_a_config_saves_to_a_folder_or_a_file(tmp_path):
    config = WorldModelConfig(seed=5)
    config.save(tmp_path)
    assert WorldModelConfig.load(tmp_path) == config
    assert WorldModelConfig.load(tmp_path / "config.json") == config


def test_a_missing_config_says_what_was_expected(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        WorldModelConfig.load(tmp_path)
