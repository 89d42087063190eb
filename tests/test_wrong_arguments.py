"""Whatever is given in an argument's place: it is taken, or refused by an error of ours that says something.

``WORLDFLUX_DOOR_EXAMPLES`` sets how many calls are made; the default is for the suite.
"""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("worldflux_dreamer")
pytest.importorskip("worldflux_tdmpc")
np = pytest.importorskip("numpy")

import worldflux as wf  # noqa: E402
from worldflux import data, planners, training  # noqa: E402
from worldflux.core.errors import WorldFluxError  # noqa: E402

EXAMPLES = int(os.environ.get("WORLDFLUX_DOOR_EXAMPLES", "400"))


class Unhelpful:
    """An object that has nothing and does not like to be looked at."""

    def __repr__(self) -> str:
        return "<unhelpful>"


#: What comes in the place of an argument: kinds that are nearly right, and kinds that never are.
WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 3, 2**70, 0.5, -2.5, float("nan"), float("inf"), "", "x", "dreamer:ci", "no:such", "cpu",
    "../nowhere", b"bytes", (), (3,), (0, -1), ("a",), [], [1, 2], [None], {}, {"x": 1}, {1: 2}, {"obs": None}, {"a"},
    object(), Unhelpful(), int, len, lambda: None, lambda *a, **k: None, 1j, range(3), Path("nowhere"),
    torch.zeros(()), torch.zeros(2), torch.zeros(2, 4), torch.zeros(2, 3, 4), torch.zeros(0, 4), torch.zeros(2, 5),
    torch.full((2, 4), float("nan")), torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4, dtype=torch.bool),
    torch.zeros(2, 4, dtype=torch.complex64), torch.zeros(2, 2), np.zeros((2, 4)), np.array(["a"]), np.float32(1.5),
    wf.State({}), wf.State({"x": torch.zeros(2, 3)}), wf.State({"x": 3}), wf.Batch(), wf.ActionPayload(),
    wf.ActionPayload("nonsense"), wf.ActionPayload("continuous", "x"), wf.ConditionPayload(goal="x"),
    wf.WorldModelInput(), wf.ActionSpec("continuous", 2), wf.ModalitySpec("vector", (4,)),
)  # fmt: skip


def worlds(folder: Path) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Every door: how it is called, and arguments that are right."""
    obs, action = torch.zeros(2, 4), torch.zeros(2, 2)
    first = torch.zeros(2, 3, dtype=torch.bool)
    first[:, 0] = True
    no = torch.zeros_like(first)
    batch = wf.Batch(torch.zeros(2, 3, 4), torch.zeros(2, 3, 2), torch.zeros(2, 3), first, no, no)
    env = wf.make_env("CartPole-v1")
    acting, step = wf.RandomPolicy(env.action_spec), wf.make_env("CartPole-v1").reset(0)
    doors: dict[str, tuple[Any, dict[str, Any]]] = {
        "create_world_model": (wf.create_world_model, {
            "model": "tdmpc2:ci", "obs_shape": (4,), "action_dim": 2, "observation_modalities": None,
            "action_spec": None, "component_overrides": None, "device": "cpu", "backend": None, "num_q": 2,
        }),
        "get_config": (wf.get_config, {"model": "dreamer:ci", "obs_shape": (4,), "action_dim": 2, "units": 8}),
        "list_models": (wf.list_models, {"verbose": False, "maturity": None, "surface": "all"}),
        "get_model_info": (wf.get_model_info, {"model": "dreamer:ci"}),
        "import_weights": (wf.import_weights, {"source": {}, "importer": "official-dreamerv3", "config": {}}),
        "Batch.from_dict": (wf.Batch.from_dict, {"data": {"obs": obs}}),
        "as_batch": (data.as_batch, {"item": batch}),
        "as_provider": (data.as_provider, {"data": [batch], "seed": 0}),
        "BatchRequest": (wf.BatchRequest, {"batch_size": 2, "seq_len": 3, "device": "cpu"}),
        "TrainingConfig": (wf.TrainingConfig, {"total_steps": 1, "optimizer": "adam", "device": "cpu"}),
        "CEMPlanner": (planners.CEMPlanner, {"horizon": 2, "num_samples": 8, "num_elites": 2, "iterations": 1}),
        "MPPIPlanner": (planners.MPPIPlanner, {"horizon": 2, "num_samples": 8, "num_elites": 2, "temperature": 0.5}),
        "make_planner": (planners.make_planner, {"name": "cem", "horizon": 2}),
        "ReplayBuffer": (wf.ReplayBuffer, {"capacity": 20, "obs_shape": (4,), "action_dim": 2, "obs_dtype": "float32"}),
        "ReplayBuffer.load": (wf.ReplayBuffer.load, {"path": folder / "no.npz"}),
        "RandomPolicy": (wf.RandomPolicy, {"action_spec": wf.ActionSpec("continuous", 2), "seed": 0}),
        "make_env": (wf.make_env, {"env": "CartPole-v1", "num_envs": 1, "seed": 0, "image_size": None,
                                   "frame_stack": 1, "env_options": None}),
        "evaluate_policy": (wf.evaluate_policy, {"env": env, "policy": acting, "episodes": 1, "max_steps": 2}),
    }  # fmt: skip
    for name in ("dreamer:ci", "tdmpc2:ci"):
        model = wf.create_world_model(name, obs_shape=(4,), action_dim=2)
        state, policy, planner = model.encode(obs), model.policy(), planners.CEMPlanner(
            horizon=2, num_samples=8, num_elites=2, iterations=1)  # fmt: skip
        cut = {"deterministic": True}
        doors |= {
            f"{name} encode": (model.encode, {"obs": obs, **cut}),
            f"{name} transition": (model.transition, {"state": state, "action": action, "conditions": None, **cut}),
            f"{name} update": (model.update, {"state": state, "action": action, "obs": obs, "conditions": None}),
            f"{name} rollout": (model.rollout, {"initial_state": state, "action_sequence": action[None]}),
            f"{name} decode": (model.decode, {"state": state, "conditions": None}),
            f"{name} initial_state": (model.initial_state, {"batch_size": 2, "device": "cpu"}),
            f"{name} loss": (model.loss, {"batch": batch}),
            f"{name} set_component": (model.set_component, {"slot": "decoder", "value": None}),
            f"{name} supports": (model.supports, {"capability": "policy"}),
            f"{name} from_pretrained": (type(model).from_pretrained, {"name_or_path": folder / "no", "device": "cpu"}),
            f"{name} policy": (policy, {"obs": {"obs": obs}, "carry": policy.initial(2),
                                        "is_first": torch.ones(2, dtype=torch.bool), "explore": False}),
            f"{name} policy.initial": (policy.initial, {"batch_size": 2}),
            f"{name} plan": (planner.plan, {"model": model, "state": state, "objective": None, "carry": None}),
            f"{name} PlannerPolicy": (planners.PlannerPolicy, {"model": model, "planner": planner, "objective": None}),
            f"{name} Trainer": (training.Trainer, {"model": model, "config": None, "callbacks": None,
                                                   "optimizer": None, "scheduler": None}),
            f"{name} train": (wf.train, {"model": model, "data": [batch], "total_steps": 1, "callbacks": [],
                                         "output_dir": str(folder / "run"), "batch_size": 2}),
        }  # fmt: skip
        del doors[f"{name} set_component"]  # it would change the model that the other doors are asked of
    replay = wf.Replay(20, obs_spec=env.obs_spec, action_spec=wf.ActionSpec("continuous", 2))
    buffer = wf.ReplayBuffer(20, (4,), 2)
    buffer.add_episode(np.zeros((5, 4)), np.zeros((4, 2)), np.zeros(4))
    doors |= {
        "Replay": (wf.Replay, {"capacity": 20, "obs_spec": replay.obs_spec, "action_spec": replay.action_spec,
                               "num_streams": 1, "sequence_length": 3, "boundary": "cross", "seed": 0}),
        "Replay.sample": (replay.sample, {"request": wf.BatchRequest(2, 3)}),
        "Replay.add": (replay.add, {"step": step, "action": np.zeros((1, 2)), "latents": None}),
        "ReplayBuffer.sample": (buffer.sample, {"batch_size": 2, "seq_len": 2, "device": "cpu"}),
        "ReplayBuffer.add_episode": (wf.ReplayBuffer(20, (4,), 2).add_episode, {
            "obs": np.zeros((5, 4)), "actions": np.zeros((4, 2)), "rewards": np.zeros(4), "dones": None}),
    }  # fmt: skip
    return doors


def refusals(folder: Path, *, examples: int, seed: int = 0) -> SimpleNamespace:
    """Call doors with one or two arguments replaced, and count what came of it."""
    draw, doors = random.Random(seed), worlds(folder)
    found = SimpleNamespace(calls=0, taken=0, ours=0, foreign=Counter(), kinds=Counter())
    names = sorted(doors)
    for number in range(examples):
        name = names[number % len(names)]
        call, right = doors[name]
        given = dict(right)
        for argument in draw.sample(sorted(given), k=min(len(given), draw.choice((1, 1, 2)))):
            given[argument] = draw.choice(WRONG)
        if name.endswith("train"):
            given["total_steps"] = 1 if given["total_steps"] is None else given["total_steps"]  # 100,000 otherwise
            given["output_dir"] = str(folder / f"run-{number}") if given["output_dir"] is right["output_dir"] else "\0"
        found.calls += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call(**given)
            found.taken += 1
        except WorldFluxError as error:
            found.ours += 1 if len(str(error)) > 10 else 0
        except Exception as error:
            shown = {key: type(value).__name__ for key, value in given.items() if value is not right[key]}
            found.foreign[f"{name} {shown}: {type(error).__name__}: {str(error)[:80]}"] += 1
    return found


def test_refusals_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = refusals(tmp_path, examples=EXAMPLES)
    foreign = sum(found.foreign.values())
    share = found.ours / (found.ours + foreign)
    assert share >= 0.99, "\n".join(f"{count} {line}" for line, count in found.foreign.most_common(80))
