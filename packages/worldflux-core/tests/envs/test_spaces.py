"""Gymnasium's spaces as modalities and flat actions."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.core.spec import ActionPart, ModalityKind
from worldflux.envs.spaces import ActionAdapter, ObservationAdapter


def test_images_with_channels_last_become_channels_first():
    adapter = ObservationAdapter(spaces.Box(0, 255, (4, 6, 3), np.uint8))
    image = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    assert adapter.spec["obs"].kind is ModalityKind.IMAGE and adapter.spec["obs"].shape == (3, 4, 6)
    assert np.array_equal(adapter([image])["obs"][0], image.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ((3, 8, 9), (3, 8, 9)),
        ((8, 9), (1, 8, 9)),
        ((8, 9, 1), (1, 8, 9)),
        ((6, 8, 9), (6, 8, 9)),
        ((8, 9, 6), (6, 8, 9)),
    ],
)
def test_image_layouts(given, stored):
    adapter = ObservationAdapter(spaces.Box(0, 255, given, np.uint8))
    assert adapter.spec["obs"].shape == stored
    assert adapter([np.zeros(given, np.uint8)])["obs"].shape == (1, *stored)


def test_every_kind_of_observation_becomes_a_named_array():
    space = spaces.Dict(
        {
            "arm": spaces.Dict({"angle": spaces.Box(-1, 1, (2, 2), np.float64), "grip": spaces.Discrete(3, start=5)}),
            "lamps": spaces.MultiBinary(3),
            "pair": spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.Box(0, 9, (), np.int64))),
        }
    )
    adapter = ObservationAdapter(space)
    value = {
        "arm": {"angle": np.array([[0.1, 0.2], [0.3, 0.4]]), "grip": 6},
        "lamps": np.array([1, 0, 1], np.int8),
        "pair": (np.array([1, 2]), np.array(4)),
    }
    got = {name: array[0].tolist() for name, array in adapter([value]).items()}
    assert got == {
        "arm/angle": pytest.approx([0.1, 0.2, 0.3, 0.4]),
        "arm/grip": [0, 1, 0],
        "lamps": [1, 0, 1],
        "pair/0": [0, 1, 0, 0, 1],
        "pair/1": [4],
    }
    assert {name: spec.shape for name, spec in adapter.spec.items()} == {n: (len(v),) for n, v in got.items()}


@pytest.mark.parametrize("space", [spaces.Text(5), spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))})])
def test_a_space_without_a_fixed_size_is_refused(space):
    with pytest.raises(ConfigurationError, match="no place in a fixed-size row"):
        ObservationAdapter(space)


def test_what_is_not_of_its_space_is_refused():
    adapter = ObservationAdapter(spaces.Dict({"a": spaces.Box(0, 1, (2,), np.float32), "b": spaces.Discrete(2)}))
    good = {"a": np.zeros(2, np.float32), "b": 1}
    with pytest.raises(ShapeMismatchError, match="environment 1: observation 'a'"):
        adapter([good, {**good, "a": np.zeros(3, np.float32)}])
    with pytest.raises(ValidationError, match="environment 0 gave no observation 'b'"):
        adapter([{"a": good["a"]}])
    with pytest.raises(ValidationError, match="outside its space of 2"):
        adapter([{**good, "b": 2}])
    with pytest.raises(ValidationError, match="dtype complex128"):
        adapter([{**good, "a": np.zeros(2, complex)}])


def test_one_hot_becomes_a_class_counted_from_the_start_of_the_space():
    adapter = ActionAdapter(spaces.Discrete(3, start=-1))
    assert adapter.spec.discrete and adapter.spec.num_actions == 3
    assert [adapter(row) for row in np.eye(3)] == [-1, 0, 1]


def test_continuous_actions_are_clipped_and_scaled_to_their_bounds():
    adapter = ActionAdapter(spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)))
    assert adapter.spec.kind == "continuous" and adapter.spec.dim == 2
    assert adapter(np.array([0.5, -1])).tolist() == [1, 0]
    assert adapter(np.array([-7, 7])).tolist() == [-2, 10]
    assert adapter(np.array([1, 1])).dtype == np.float32


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0, np.inf), (-np.inf, 0), (-3e38, 3e38)])
def test_a_continuous_action_without_bounds_is_refused_with_the_way_out(bounds):
    with pytest.raises(ConfigurationError, match="'a/b' has no finite bounds.*TransformAction"):
        ActionAdapter(spaces.Dict({"a": spaces.Dict({"b": spaces.Box(*bounds, (2,), np.float32)})}))


def test_the_way_out_of_missing_bounds_leads_out(counter):
    import gymnasium

    env = counter()
    env.action_space = spaces.Box(-np.inf, np.inf, (1,))
    bounded = gymnasium.wrappers.TransformAction(env, lambda a: a, spaces.Box(-2, 2, (1,)))
    assert ActionAdapter(bounded.action_space)(np.ones(1)).tolist() == [2]


@pytest.mark.parametrize("adapter", [ActionAdapter, ObservationAdapter])
def test_entries_that_come_to_one_name_are_refused(adapter):
    twice = spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)}), "a/b": spaces.Discrete(3)})
    with pytest.raises(ConfigurationError, match="come to the name 'a/b'"):
        adapter(twice)


@pytest.mark.parametrize("adapter", [ActionAdapter, ObservationAdapter])
def test_an_empty_space_is_refused(adapter):
    with pytest.raises(ConfigurationError, match="is empty"):
        adapter(spaces.Dict({}))


def test_a_grid_of_choices_keeps_its_shape():
    space = spaces.MultiDiscrete(np.array([[2, 3], [4, 2]]), start=np.array([[0, 5], [0, 0]]))
    adapter = ActionAdapter(space)
    assert [part.dim for part in adapter.spec.parts] == [2, 3, 4, 2]
    action = adapter(np.concatenate([np.eye(2)[1], np.eye(3)[2], np.eye(4)[3], np.eye(2)[0]]))
    assert action.tolist() == [[1, 7], [3, 0]] and space.contains(action)
    seen = ObservationAdapter(space)([action])["obs"][0]
    assert seen.tolist() == [0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0]


def test_composite_actions_are_the_concatenation_of_their_parts_in_sorted_order():
    space = spaces.Dict(
        {
            "move": spaces.Box(-1, 1, (2,), np.float32),
            "buttons": spaces.MultiBinary(2),
            "choice": spaces.Tuple((spaces.Discrete(3), spaces.MultiDiscrete([2, 2], start=[1, 1]))),
        }
    )
    adapter = ActionAdapter(space)
    assert adapter.spec.kind == "multi" and adapter.spec.dim == 4 + 3 + 4 + 2
    assert adapter.spec.parts == (
        ActionPart("buttons/0", "discrete", 2),
        ActionPart("buttons/1", "discrete", 2),
        ActionPart("choice/0", "discrete", 3),
        ActionPart("choice/1/0", "discrete", 2),
        ActionPart("choice/1/1", "discrete", 2),
        ActionPart("move", "continuous", 2),
    )
    action = adapter(np.array([0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 1, 0.5, -0.5]))
    assert action["buttons"].tolist() == [1, 0]
    assert action["choice"][0] == 2 and action["choice"][1].tolist() == [1, 2]
    assert action["move"].tolist() == [0.5, -0.5]
    assert space.contains(action)


def test_many_components_keep_their_order():
    adapter = ActionAdapter(spaces.MultiDiscrete([2] * 12))
    flat = np.zeros(24)
    flat[np.arange(12) * 2 + (np.arange(12) % 2)] = 1
    assert adapter(flat).tolist() == [0, 1] * 6


def test_parts_are_read_where_their_sorted_names_stand():
    space = spaces.Tuple([spaces.Discrete(i + 2) for i in range(11)])  # "10" sorts before "2"
    adapter = ActionAdapter(space)
    assert [part.name for part in adapter.spec.parts][:4] == ["0", "1", "10", "2"]
    flat = np.concatenate([np.eye(part.dim)[part.dim - 1] for part in adapter.spec.parts])
    assert adapter(flat) == tuple(range(1, 12))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1 / 3, 0.1, (2,), np.float64),
        spaces.Box(-1e9, 1e-3, (2,), np.float32),
        spaces.Box(-7.3, 0.7, (2, 2), np.float64),
        spaces.Box(-1e-30, 1e-30, (2,), np.float32),
        spaces.Box(-60000, 65000, (2,), np.float16),
        spaces.Box(0, 1, (), np.float32),
        spaces.Box(0, 255, (2,), np.uint8),
        spaces.Box(0, 4_294_967_295, (1,), np.uint32),
        spaces.Discrete(4, start=-9),
        spaces.MultiDiscrete([[3, 4], [2, 2]], start=[[5, -2], [0, 1]]),
        spaces.MultiBinary([2, 2]),
        spaces.Dict(
            {"a": spaces.Box(-0.7, 0.3, (2,)), "b": spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (0,))])}
        ),
    ],
    ids=str,
)
def test_whatever_is_given_the_space_contains_what_comes_of_it(space):
    adapter, rng = ActionAdapter(space), np.random.default_rng(0)
    for flat in (*np.repeat([[-1.0], [1.0], [5.0]], adapter.spec.dim, 1), *rng.uniform(-2, 2, (50, adapter.spec.dim))):
        assert space.contains(adapter(flat.astype(np.float32)))


def test_full_scale_stays_inside_of_any_bounds():
    rng = np.random.default_rng(0)
    for _ in range(200):
        low, high = np.sort(rng.normal(size=2) * 10.0 ** rng.integers(-3, 4, 2))
        for dtype in (np.float32, np.float64):
            space = spaces.Box(dtype(low), dtype(high), (1,), dtype)
            assert space.contains(ActionAdapter(space)(np.ones(1))) and space.contains(
                ActionAdapter(space)(-np.ones(1))
            )


@pytest.mark.parametrize("adapter", [ActionAdapter, ObservationAdapter])
def test_a_space_without_numbers_is_refused(adapter):
    with pytest.raises(ConfigurationError, match="holds no numbers"):
        adapter(spaces.Box(0, 1, (0,)))


def test_an_observation_without_numbers_is_left_out():
    adapter = ObservationAdapter(spaces.Dict({"none": spaces.Box(0, 1, (0,)), "one": spaces.Box(0, 1, (1,))}))
    assert list(adapter.spec) == ["one"]
    assert list(adapter([{"none": np.zeros(0), "one": np.ones(1)}])) == ["one"]
