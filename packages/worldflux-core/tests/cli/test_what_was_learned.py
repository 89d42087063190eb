"""No episode that a model learned from, in whatever run, counts as held out."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from worldflux.core.spec import ActionSpec, vector
from worldflux.data import DatasetWriter, convert, open_dataset
from worldflux.experiment import Run, fit, judge

pytestmark = pytest.mark.usefixtures("toy")
ASKED = {"context": 2, "horizon": 4, "sequences": 12}


def write(path, *, seed=0, episodes=10, mode="new"):
    """Append episodes of a point and of something else beside it."""
    rng = np.random.default_rng(seed)
    with DatasetWriter(
        path, {"obs": vector(2), "other": vector(3)}, ActionSpec("discrete", 2, True, 2), mode=mode
    ) as writer:
        for _ in range(episodes):
            action = np.eye(2, dtype=np.float32)[rng.integers(2, size=12)]
            rows = {"obs/obs": rng.normal(size=(12, 2)), "obs/other": rng.normal(size=(12, 3))}
            rows = {name: values.astype(np.float32) for name, values in rows.items()}
            writer.append({**rows, "action": action, "reward": np.zeros(12, np.float32)})
    return path


@pytest.fixture(scope="module")
def place(toy, tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    write(root / "data"), write(root / "other", seed=1)
    train(root, "run", held_out=0.3)
    return root


def train(root, name, *, data="data", **options):
    options = {"obs": ["obs"], "updates": 1, "device": "cpu", "held_out": 0.3, **options}
    start = {} if "start_from" in options else {"model": "toyworld"}
    return fit(**start, data=root / data, run=root / name, **options)


def held_out(root, name, data=None):
    card = judge(Run.load(root / name), None if data is None else root / data, **ASKED).card
    return card["split"], card.get("held_out")


def test_a_run_that_observes_a_part_of_its_data_is_judged_on_the_episodes_it_held_out(place):
    assert held_out(place, "run", "data") == held_out(place, "run") == ("held out", True)


def test_what_a_run_held_out_is_not_held_out_where_its_start_learned_from_it(place, caplog):
    for share, unseen in ((0.3, True), (0.2, True), (0.6, False)):
        caplog.clear()
        train(place, f"on{share}", start_from=place / "run", held_out=share)
        assert held_out(place, f"on{share}") == ("held out", unseen)
        assert ("learned from episodes of" in caplog.text) is not unseen
    train(place, "further", start_from=place / "on0.2")
    assert held_out(place, "further") == ("held out", False)  # a start of its start
    train(place, "of-model", start_from=place / "run" / "model", held_out=0.6)
    assert held_out(place, "of-model") == ("held out", False)


def test_data_that_only_a_start_learned_from_is_no_data_of_its_own(place):
    train(place, "elsewhere", start_from=place / "run", data="other")
    assert held_out(place, "elsewhere", "data") == ("data of its own", False)
    assert held_out(place, "run", "other") == ("data of its own", True)


def test_of_data_that_has_grown_since_it_is_not_known_what_was_learned(place):
    shutil.copytree(place / "data", place / "growing")
    train(place, "early", data="growing")
    write(place / "growing", seed=2, mode="append")
    assert held_out(place, "early", "growing") == ("data of its own", None)


def test_a_part_of_what_was_learned_from_is_no_data_of_its_own(place):
    training, others = open_dataset(place / "data").split(0.3)
    convert(training, place / "part"), convert(others, place / "rest")
    assert held_out(place, "run", "part") == ("data of its own", False)
    assert held_out(place, "run", "rest") == ("data of its own", True)
    train(place, "on-part", data="part")
    assert held_out(place, "on-part", "rest") == ("data of its own", True)
    assert held_out(place, "on-part", "data") == ("data of its own", False)


def test_what_one_set_holds_out_is_not_held_out_where_it_is_learned_from_in_another(place, caplog):
    convert(open_dataset(place / "data").split(0.3)[1], place / "again")
    options = {"obs": ["obs"], "updates": 1, "device": "cpu", "held_out": 0.3}
    for other, unseen in (("again", False), ("other", True)):
        caplog.clear()
        fit("toyworld", data=[place / "data", place / other], run=place / f"with-{other}", **options)
        assert ("are learned from in" in caplog.text) is not unseen
        assert held_out(place, f"with-{other}") == ("held out", unseen)


def test_what_a_saved_model_learned_from_is_not_known(place):
    shutil.copytree(place / "run" / "model", place / "weights")
    train(place, "of-weights", start_from=place / "weights")
    assert held_out(place, "of-weights") == ("held out", None)
