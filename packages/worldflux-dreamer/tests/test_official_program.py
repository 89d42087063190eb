"""The official program as a backend: its command line, and what comes back from a run of a program that speaks it."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch

import worldflux
from worldflux import ConfigurationError
from worldflux.delegated import Request
from worldflux_dreamer import load, official_settings
from worldflux_dreamer.dreamerv3.official_program import OfficialDreamerV3
from worldflux_dreamer.dreamerv3.official_run import _spaces

BACKEND = "official_dreamerv3_jax_subprocess"
# Flags, files and words of the public program, none of its code.
PROGRAM = """
import json, pathlib, shutil, sys

here = pathlib.Path(__file__).parent
arguments, flags = sys.argv[1:], {}
for word in arguments:
    if word.startswith("--"):
        values = flags.setdefault(word[2:], [])
    else:
        values.append(word)
logdir = pathlib.Path(flags["logdir"][0])
assert flags["task"] == ["pinpad_three"] and flags["logger.outputs"] == ["jsonl"], flags
shutil.copy(here / "settings.json", logdir / "config.yaml")
print((here / "spaces.txt").read_text())
steps = int(flags["run.steps"][0])
with (logdir / "metrics.jsonl").open("w") as file:
    for step in range(0, steps + 1, 10):
        file.write(json.dumps({"step": step, "episode/score": 2.0, "episode/length": 10.0}) + "\\n")
        file.write(json.dumps({"step": step, "train/opt/updates": step / 2, "train/loss/rew": 0.5,
                               "train/opt/loss": 3.0, "train/opt/grad_norm": 1.5, "fps/policy": 9.0}) + "\\n")
folder = logdir / "ckpt" / "20250101T000000F000000"
folder.mkdir(parents=True)
shutil.copy(here / "agent.pkl", folder)
(folder / "done").touch()
(logdir / "ckpt" / "latest").write_text(folder.name)
"""
SPACES = """
Observations
  vector           Space(float32, shape=(7,), low=-inf, high=inf)
  reward           Space(float32, shape=(), low=-inf, high=inf)
  is_first         Space(bool, shape=(), low=False, high=True)
  is_last          Space(bool, shape=(), low=False, high=True)
  is_terminal      Space(bool, shape=(), low=False, high=True)
\x1b[36mActions\x1b[0m
  action           Space(int32, shape=(), low=0, high=5)
Extras
  consec           Space(int32, shape=(), low=-2147483648, high=2147483647)
JAX devices (1): [cpu:0]
"""


def words(preset: str = "dreamerv3:size12m", *, task: str = "crafter_reward", config=None, **asked):
    """Flags and what follows each, of the command for a handle with these config changes."""
    handle = worldflux.create_world_model(preset, backend=BACKEND, **(config or {}))
    request = Request(
        model_id=handle.model_id, task=task, folder=Path("/runs/a"), checkout=Path("/src"),
        config=handle.metadata["config"], **asked,
    )  # fmt: skip
    program = OfficialDreamerV3().program(request)
    assert program.argv[0] == "/src/dreamerv3/main.py"
    found: dict[str, list[str]] = {}
    for word in program.argv[1:]:
        if word.startswith("--"):
            assert word[2:] not in found
            values = found.setdefault(word[2:], [])
        else:
            values.append(word)
    return found, program


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "block"),
    [("dreamerv3:official_xl", "size200m"), ("dreamerv3:size1m", "size1m"), ("dreamerv3", "size12m")],
)
def test_a_preset_is_its_block_of_the_official_settings(preset, block):
    found, program = words(preset, env_steps=1000)
    expected = {"logdir": "/runs/a", "configs": block, "task": "crafter_reward"}
    expected |= {"logger.outputs": "jsonl", "run.steps": "1000"}
    assert found == {name: [value] for name, value in expected.items()}
    assert program.env == {}


def test_the_size_comes_after_the_blocks_that_were_asked_for():
    found, _ = words(options={"configs": ["crafter", "debug"]})
    assert found["configs"] == ["crafter", "debug", "size12m"]
    assert words(options={"configs": "crafter"})[0]["configs"] == ["crafter", "size12m"]


def test_changed_fields_become_official_settings():
    changes = {
        "units": 32, "bins": 41, "multipliers": (1, 2), "loss_scales": {"rep": 0.2}, "replay_ratio": 64, "seed": 3,
        "slow_target": True, "learning_rate": 1e-3, "return_lambda": 0.9,
    }  # fmt: skip
    found, _ = words(config=changes)
    for part in ("enc.simple", "dec.simple", "rewhead", "conhead", "policy", "value"):
        assert found[f"agent.{part}.units"] == ["32"]
    assert found["agent.value.bins"] == found["agent.rewhead.bins"] == ["41"]
    assert found["agent.dec.simple.mults"] == ["1", "2"]
    assert found["agent.loss_scales.rep"] == ["0.2"]
    assert found["agent.imag_loss.slowtar"] == found["agent.repl_loss.slowtar"] == ["True"]
    assert found["agent.repl_loss.lam"] == ["0.9"]
    assert (found["run.train_ratio"], found["seed"], found["agent.opt.lr"]) == (["64.0"], ["3"], ["0.001"])
    assert "agent.dyn.rssm.deter" not in found


def test_what_the_official_program_cannot_be_told_is_refused():
    with pytest.raises(ConfigurationError, match="actor_critic = False has no counterpart"):
        words(config={"actor_critic": False})


def test_observations_and_actions_are_the_tasks():
    assert words(config={"obs_shape": (8,), "action_dim": 2})[0] == words()[0]


def test_training_options_go_before_the_config_and_the_programs_own_before_both():
    training = {"batch_size": 4, "sequence_length": 20, "learning_rate": 1e-4, "seed": 9, "device": "cuda:1"}
    found, program = words(
        config={"batch_size": 2}, training=training, options={"agent.opt.lr": 0.5, "run.debug": False}
    )
    assert (found["batch_size"], found["batch_length"], found["seed"]) == (["4"], ["20"], ["9"])
    assert (found["agent.opt.lr"], found["run.debug"], found["jax.platform"]) == (["0.5"], ["False"], ["cuda"])
    assert program.env == {"CUDA_VISIBLE_DEVICES": "1"}


def test_steps_of_the_call_go_before_those_of_the_config():
    assert words(config={"env_steps": 7})[0]["run.steps"] == ["7"]
    assert words(config={"env_steps": 7}, env_steps=5)[0]["run.steps"] == ["5"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "walker"}, "expected SUITE_TASK"),
        ({"options": {"logdir": "/x"}}, r"'logdir', which TrainingConfig\(output_dir=...\) says"),
        ({"options": {"run.steps": 5}}, r"submit\(env_steps=...\) says"),
        ({"options": {"logger.outputs": ["wandb"]}}, "must hold 'jsonl'"),
        ({"options": {"run": {"envs": 2}}}, "setting run is .*expected text, a number"),
    ],
)
def test_options_that_cannot_be_followed_are_named(asked, message):
    with pytest.raises(ConfigurationError, match=message):
        words(**asked)


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def case(cases):
    return cases("proprio_disc")


@pytest.fixture
def checkout(tmp_path, case):
    """A program that answers like the public one and ends with recorded weights."""
    folder = tmp_path / "checkout"
    for name in (*OfficialDreamerV3.modules, "embodied", "dreamerv3"):  # found from the checkout, never imported
        package = folder.joinpath(*name.split("."))
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("")
    (folder / "ruamel/yaml/__init__.py").write_text(
        "import json\nclass YAML:\n    def __init__(self, typ): self.load = json.load\n"
    )
    nested: dict = {}
    for name, value in case.settings["agent_config"].items():
        *path, leaf = name.split(".")
        inner = nested
        for part in path:
            inner = inner.setdefault(part, {})
        inner[leaf] = value
    (folder / "dreamerv3/main.py").write_text(PROGRAM)
    (folder / "dreamerv3/configs.yaml").write_text("")
    (folder / "dreamerv3/settings.json").write_text(json.dumps({"agent": nested, "task": "pinpad_three"}))
    (folder / "dreamerv3/spaces.txt").write_text(SPACES)
    (folder / "dreamerv3/agent.pkl").write_bytes(pickle.dumps({"params": case.weights, "counters": {"updates": 3}}))
    return folder


def script(path: Path, code: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    return path


def test_a_finished_run_is_imported_as_our_model(case, checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDFLUX_DREAMERV3_PYTHON", sys.executable)
    monkeypatch.setenv("WORLDFLUX_DREAMERV3_CHECKOUT", str(checkout))
    handle = worldflux.create_world_model("dreamerv3:size1m", backend=BACKEND)
    trainer = worldflux.Trainer(handle, worldflux.TrainingConfig(output_dir=str(tmp_path / "run"), seed=1))
    job = trainer.submit(task="pinpad_three", env_steps=20)
    status = job.wait(240)
    assert (status.state, status.step, status.env_steps) == ("finished", 10, 20), status.message

    records = [json.loads(line) for line in job.metrics_path.read_text().splitlines()]
    assert [record["env_steps"] for record in records] == [0, 0, 10, 10, 20, 20]
    assert records[2]["episode/return"] == 2.0
    last = {name: value for name, value in records[-1].items() if name != "time"}
    expected = {"step": 10, "env_steps": 20, "loss": 3.0, "loss/rew": 0.5, "grad_norm": 1.5, "fps/policy": 9.0}
    assert last == expected

    described = json.loads(job.job_path.read_text())
    ran = tmp_path / "ran"
    described["program"]["argv"][0] = str(script(tmp_path / "strangers", f"open({str(ran)!r}, 'w')"))
    job.job_path.write_text(json.dumps(described))
    with pytest.raises(ConfigurationError, match="Set WORLDFLUX_DREAMERV3_PYTHON"):
        official_settings(job.run_dir)
    assert not ran.exists()  # what a file names is not run

    reading = script(tmp_path / "python", "import json, sys; print(json.dumps(json.load(sys.stdin)))")
    monkeypatch.setenv("WORLDFLUX_DREAMERV3_PYTHON", str(reading))
    settings = official_settings(job.run_dir)
    assert settings["agent_config"] == case.settings["agent_config"]
    assert settings["act_space"] == {"action": {"discrete": True, "n": 5}}
    model = worldflux.import_weights(status.checkpoint, importer="official-dreamerv3")
    ours = load(case.weights, case.settings)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), ours.parameters()))


def test_a_missing_dependency_is_named_before_anything_starts(checkout, tmp_path):
    (checkout / "ninjax/__init__.py").unlink()
    (checkout / "ninjax").rmdir()
    handle = worldflux.create_world_model("dreamerv3:size1m", backend=BACKEND)
    trainer = worldflux.Trainer(handle, worldflux.TrainingConfig(output_dir=str(tmp_path / "run")))
    with pytest.raises(ConfigurationError, match="cannot import ninjax"):
        trainer.submit(task="pinpad_three", python=sys.executable, checkout=checkout)
    assert not (tmp_path / "run").exists()


def test_weights_outside_a_job_need_their_settings(case, tmp_path):
    for source in (case.weights, tmp_path):
        with pytest.raises(ConfigurationError, match="official weights need their settings"):
            load(source)


def test_spaces_are_read_as_the_program_prints_them():
    spaces = _spaces(
        SPACES.replace("shape=(7,)", "shape=(64, 64, 3)").replace("float32, shape=(64", "uint8, shape=(64")
    )
    assert spaces["Observations"]["vector"] == {"shape": [64, 64, 3], "classes": 0}
    assert spaces["Actions"] == {"action": {"shape": [], "classes": 5}}
