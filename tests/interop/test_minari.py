"""What Minari itself writes today is read back as Minari reads it (``nox -s minari``)."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.data import open_dataset
from worldflux.envs.spaces import ActionAdapter, ObservationAdapter

gymnasium = pytest.importorskip("gymnasium")
minari = pytest.importorskip("minari")
pytest.importorskip("jax")  # without it Minari does not collect

pytestmark = pytest.mark.filterwarnings("ignore")  # Minari warns of every fact about the author that is not given


class Rooms(gymnasium.Env):
    """Numbers, a picture that Minari keeps as a JPEG, one that it does not, a class, and nested names."""

    observation_space = gymnasium.spaces.Dict(
        {
            "camera": gymnasium.spaces.Box(0, 255, (48, 40, 3), np.uint8),
            "map": gymnasium.spaces.Box(0, 255, (8, 8), np.uint8),
            "arm": gymnasium.spaces.Tuple([gymnasium.spaces.Box(-5, 5, (3,)), gymnasium.spaces.Discrete(4)]),
        }
    )
    action_space = gymnasium.spaces.Dict(
        {"push": gymnasium.spaces.Box(-2, 2, (2,), np.float32), "tool": gymnasium.spaces.Discrete(3)}
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._seen(), {"t": np.array([0.0])}

    def step(self, action):
        self.t += 1
        return self._seen(), float(self.t), self.t == 7, False, {"t": np.array([float(self.t)])}

    def _seen(self):
        rng = self.np_random
        shade = np.uint8(20 + 10 * self.t)
        return {
            "camera": np.full((48, 40, 3), shade), "map": rng.integers(0, 256, (8, 8), np.uint8),
            "arm": (rng.uniform(-5, 5, 3).astype(np.float32), int(rng.integers(4))),
        }  # fmt: skip


@pytest.mark.parametrize("container", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("jpeg", [True, False], ids=["jpeg", "raw"])
def test_a_set_that_minari_writes_reads_as_minari_reads_it(tmp_path, monkeypatch, container, jpeg):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(Rooms(), data_format=container, record_infos=True, jpeg_encoding=jpeg)
    for seed in range(3):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        over = False
        while not over:
            _, _, ended, cut, _ = env.step(env.action_space.sample())
            over = ended or cut
    theirs = env.create_dataset("rooms/test-v0")
    env.close()
    ours = open_dataset(tmp_path / "rooms" / "test-v0")
    seen, acted = ObservationAdapter(Rooms.observation_space), ActionAdapter(Rooms.action_space)
    assert ours.obs_spec == seen.spec and ours.action_spec == acted.spec
    for i, episode in enumerate(theirs.iterate_episodes()):
        rows = ours.episode(i)
        np.testing.assert_array_equal(rows["reward"][1:], np.float32(episode.rewards))
        assert rows["is_terminal"].tolist() == [False, *episode.terminations.tolist()]
        each = [_at(episode.observations, t) for t in range(len(episode.rewards) + 1)]
        for name, values in seen(each).items():
            np.testing.assert_array_equal(rows[f"obs/{name}"], values)
        for t in range(len(episode.rewards)):
            back, action = acted(rows["action"][t]), _at(episode.actions, t)
            np.testing.assert_allclose(back["push"], action["push"], atol=1e-6)
            assert back["tool"] == action["tool"]
        np.testing.assert_array_equal(rows["info/t"], np.float32(episode.infos["t"]))


def _at(values, t):
    if isinstance(values, dict):
        return {key: _at(value, t) for key, value in values.items()}
    return tuple(_at(value, t) for value in values) if isinstance(values, tuple) else values[t]
