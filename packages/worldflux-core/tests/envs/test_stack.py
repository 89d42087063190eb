"""Several frames at once: which ones, of which episode, and after a resume."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind, ModalitySpec
from worldflux.data import BatchRequest, EnvironmentSource, Replay
from worldflux.envs import FrameStack, RandomPolicy, VectorEnv, make_env


class Film(gymnasium.Env):
    """Every pixel of an episode's frame t is 20 * (the seed's draw) + t; over after ``length`` steps."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 5, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)
    shape = (4, 5, 3)

    def __init__(self, length: int = 5) -> None:
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.base = 0, 20 * int(self.np_random.integers(12))
        return self.seen(), {}

    def step(self, action):
        self.time += 1
        return self.seen(), 1.0, self.time == self.length, False, {}

    def seen(self):
        return np.full(self.shape, self.base + self.time, np.uint8)


class Described(Film):
    """The frame beside its time."""

    observation_space = gymnasium.spaces.Dict(
        {"eye": Film.observation_space, "time": gymnasium.spaces.Box(0, 99, (2,), np.float32)}
    )

    def seen(self):
        return {"eye": super().seen(), "time": np.full(2, self.time, np.float32)}


def shown(step, frames: int, name: str = "obs") -> list[list[int]]:
    """The brightness of each of the stacked frames, oldest first, for every environment."""
    pixels = step.obs[name].reshape(len(step), frames, -1).astype(int)
    assert (pixels.min(2) == pixels.max(2)).all()
    return pixels[:, :, 0].tolist()


def go(env):
    return env.step(np.eye(2, dtype=np.float32)[[0] * env.num_envs])


def test_the_last_frames_are_shown_oldest_first_and_the_first_one_is_repeated_at_reset():
    env = make_env(Film, frame_stack=3)
    step = env.reset(seed=1)
    base = shown(step, 3)[0][0]
    seen = [shown(step, 3)[0]] + [shown(go(env), 3)[0] for _ in range(4)]
    assert (np.array(seen) - base).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_each_environment_begins_its_own_episodes_with_no_frame_of_the_one_before():
    made = iter([Film(5), Film(2)])
    env = make_env(lambda: next(made), num_envs=2, frame_stack=2)
    steps = [env.reset(seed=0)] + [go(env) for _ in range(8)]
    first = np.array([step.is_first for step in steps])
    assert first.T.nonzero()[1].tolist() == [0, 6, 0, 3, 6]  # of environment 0 at 0 and 6, of environment 1 every 3
    for step in steps:
        for (older, newest), begun in zip(shown(step, 2), step.is_first):
            assert newest - older == (0 if begun else 1)


@pytest.mark.parametrize(("shape", "stacked"), [((4, 5, 3), (9, 4, 5)), ((3, 4, 5), (9, 4, 5)), ((4, 5), (3, 4, 5))])
def test_channels_are_those_of_one_frame_times_their_number_whatever_the_layout(shape, stacked):
    class Other(Film):
        pass

    Other.shape, Other.observation_space = shape, gymnasium.spaces.Box(0, 255, shape, np.uint8)
    env = make_env(Other, num_envs=2, frame_stack=3)
    assert env.obs_spec == {"obs": ModalitySpec(ModalityKind.IMAGE, stacked, "uint8", "CHW", "obs")}
    picture = env.reset().obs["obs"]
    assert picture.shape == (2, *stacked) and picture.dtype == np.uint8


def test_beside_images_vectors_stay_as_they_are():
    env = make_env(Described, frame_stack=4)
    assert {name: spec.shape for name, spec in env.obs_spec.items()} == {"eye": (12, 4, 5), "time": (2,)}
    env.reset(seed=0)
    step = go(env)
    older, newest = shown(step, 4, "eye")[0][2:]
    assert newest - older == 1 and step.obs["time"].tolist() == [[1, 1]]


def test_without_an_image_stacking_is_refused_with_the_way_out(counter):
    with pytest.raises(ConfigurationError, match=r"frame_stack=3 is for images.*obs float32\(8,\).*render_size"):
        make_env(counter, frame_stack=3)


def test_what_was_opened_for_a_refused_stack_is_closed(counter):
    closed = []

    class Closing(counter):
        def close(self):
            closed.append(self)

    with pytest.raises(ConfigurationError):
        make_env(Closing, num_envs=2, frame_stack=2)
    assert len(closed) == 2


@pytest.mark.parametrize("frames", [0, -1, 1.5, True, "3"])
def test_a_number_of_frames_that_makes_no_sense_is_named(frames):
    with pytest.raises(ConfigurationError, match=f"frame_stack must be a whole number of at least 1, got {frames!r}"):
        make_env(Film, frame_stack=frames)


def test_one_frame_is_no_stack():
    assert make_env(Film, frame_stack=1).obs_spec == make_env(Film).obs_spec


def test_a_vector_that_is_already_built_is_stacked_too():
    foreign = gymnasium.vector.SyncVectorEnv([Film, lambda: Film(2)], autoreset_mode=AutoresetMode.NEXT_STEP)
    for vector in (foreign, make_env(Film, num_envs=2)):
        env = make_env(vector, frame_stack=2)
        assert isinstance(env, VectorEnv) and env.num_envs == 2 and env.obs_spec["obs"].shape == (6, 4, 5)
        env.reset(seed=0)
        assert [newest - older for older, newest in shown(go(env), 2)] == [1, 1]


def test_rendered_pictures_are_stacked():
    pytest.importorskip("pygame")
    env = make_env("CartPole-v1", render_size=16, frame_stack=3)
    assert env.obs_spec["obs"].shape == (9, 16, 16)
    steps = [env.reset(seed=0)] + [go(env) for _ in range(3)]
    frames = steps[-1].obs["obs"].reshape(3, 3, 16, 16)
    plain = make_env("CartPole-v1", render_size=16)
    alone = [plain.reset(seed=0)] + [go(plain) for _ in range(3)]
    assert np.array_equal(frames, np.concatenate([step.obs["obs"] for step in alone[1:]]))
    env.close()


@pytest.mark.parametrize("steps", [0, 1, 7, 12])
def test_an_open_episode_goes_on_from_the_saved_state_with_the_frames_it_had(steps):
    env = make_env(lambda: Film(9), num_envs=2, frame_stack=3, seed=4)
    step = env.reset()
    for _ in range(steps):
        step = go(env)
    other = make_env(lambda: Film(9), num_envs=2, frame_stack=3)
    again = other.load_state_dict(*env.state_dict())
    for _ in range(12):
        assert np.array_equal(step.obs["obs"], again.obs["obs"]) and np.array_equal(step.is_first, again.is_first)
        step, again = go(env), go(other)


def test_a_saved_state_of_another_number_of_frames_is_refused():
    env = make_env(Film, frame_stack=3)
    env.reset()
    with pytest.raises(ConfigurationError, match="the saved frames 'obs' are .1, 9, 4, 5., expected .1, 6, 4, 5."):
        make_env(Film, frame_stack=2).load_state_dict(*env.state_dict())


def test_where_the_environments_cannot_be_played_again_new_episodes_begin():
    class Unsaved:
        num_envs = 1

        def __init__(self):
            self.env = make_env(Film)
            self.obs_spec, self.action_spec = self.env.obs_spec, self.env.action_spec
            self.reset, self.step, self.close = self.env.reset, self.env.step, self.env.close

    env = FrameStack(Unsaved(), frames=2)
    env.reset()
    assert FrameStack(Unsaved(), frames=2).load_state_dict(*env.state_dict()) is None


def collecting():
    env = make_env(Film, num_envs=2, frame_stack=3)
    replay = Replay(64, obs_spec=env.obs_spec, action_spec=env.action_spec, num_streams=2, sequence_length=4)
    return EnvironmentSource(env, RandomPolicy(env.action_spec, seed=3), replay, replay_ratio=4, seed=5)


def test_a_replay_that_is_told_of_no_stacks_keeps_them_whole():
    source = collecting()
    batch = source.sample(BatchRequest(4, 4))
    seen = batch.obs["obs"]
    assert seen.shape == (4, 4, 9, 4, 5) and str(seen.dtype) == "torch.uint8"
    newest, before = seen[:, 1:, 3:6].int(), seen[:, :-1, 6:9].int()
    going = ~batch.is_first[:, 1:].bool()
    assert going.any() and (newest[going] == before[going]).all()


def test_collecting_resumes_bit_by_bit():
    source, other = collecting(), collecting()
    for _ in range(3):
        source.sample(BatchRequest(4, 4))
    other.load_state_dict(*source.state_dict())
    for _ in range(5):
        one, two = source.sample(BatchRequest(4, 4)), other.sample(BatchRequest(4, 4))
        assert (
            one.obs["obs"].equal(two.obs["obs"]) and one.rewards.equal(two.rewards) and one.is_first.equal(two.is_first)
        )
    assert [a.tobytes() for a in source.state_dict()[0].values()] == [
        a.tobytes() for a in other.state_dict()[0].values()
    ]
