"""The official program as a backend: its command line, its GPU, and what comes back from a program that speaks it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch

import worldflux
from worldflux.core.errors import ConfigurationError
from worldflux.delegated import Job, Request
from worldflux_tdmpc import load, official_settings
from worldflux_tdmpc.tdmpc2.official_program import OfficialTDMPC2

BACKEND = "official_tdmpc2_torch_subprocess"
# Names of its settings, as they stand in its config.yaml; all but the last line are what a user may give.
SETTINGS = """
defaults: [override hydra/launcher: submitit_local]
obs episodic eval_episodes eval_freq batch_size reward_coef lr rho discount_min discount_max exp_name data_dir mpc
num_samples save_csv save_agent compile enable_wandb wandb_project enc_dim mlp_dim num_q task_dim
task steps seed model_size checkpoint work_dir action_dim
"""
# Arguments, files and words of the public program, none of its code. What becomes of it is its task's name.
PROGRAM = """
import os, pathlib, shutil, sys, time

here = pathlib.Path(__file__).parent
settings = dict(word.split("=", 1) for word in sys.argv[1:])
assert settings["hydra.run.dir"] == "." and os.environ["NO_COLOR"] == "1"
task, rows = settings["task"], []
work = pathlib.Path("logs", task, settings["seed"], settings["exp_name"])
(work / "models").mkdir(parents=True)


def tell(kind, step, reward):
    pieces = [f"E: {step // 500}", f"I: {step:,}", f"R: {reward:.1f}", "S: 0.5", "T: 0:00:06"]
    print("   ".join([f" {kind:<14}", *(f"{piece:<22}" for piece in pieces)]), flush=True)


print("Episode length: 500")
if task == "dog-sing":
    raise ValueError('Failed to make environment "dog-sing"')
for step in range(0, int(settings["steps"]) + 1, 500):
    if step % 1000 == 0:
        rows.append(f"{float(step)},{step / 3}")
        (work / "eval.csv").write_text("\\n".join(["step,episode_reward", *rows, ""]))
        tell("eval", step, step / 3)
    if step:
        tell("train", step, step / 10)
    if task == "dog-crash" and step == 1000:
        raise RuntimeError("CUDA error: out of memory")
    if task == "dog-wait" and step == 500:
        time.sleep(120)
shutil.copy(here / "final.pt", work / "models")
print("Training completed successfully")
"""


@pytest.fixture
def checkout(tmp_path, cases):
    """A program that speaks like the public one and ends with recorded weights, and a torch that has a GPU."""
    folder = tmp_path / "checkout"
    for name in OfficialTDMPC2.modules:  # found from the checkout, never imported, but for torch
        package = folder.joinpath(*name.split("."))
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("")
    (folder / "tdmpc2").mkdir()
    (folder / "tdmpc2/train.py").write_text(PROGRAM)
    names = SETTINGS.partition("]")[2].split()
    (folder / "tdmpc2/config.yaml").write_text("defaults:\n    - override\n" + "".join(f"{n}: ???\n" for n in names))
    torch.save({"model": cases("state").weights}, folder / "tdmpc2/final.pt")
    gpu(folder, "True")
    return folder


def gpu(checkout: Path, available: str, cuda: str = "'12.6'") -> None:
    text = f"__version__ = '2.7.1'\nclass version: cuda = {cuda}\nclass cuda: is_available = lambda: {available}\n"
    (checkout / "torch/__init__.py").write_text(text)


@pytest.fixture
def words(checkout):
    """Settings on the command line for a handle with these config changes, and the program."""

    def make(preset="tdmpc2:5m", *, task="walker-walk", config=None, **asked):
        handle = worldflux.create_world_model(preset, backend=BACKEND, **(config or {}))
        request = Request(
            model_id=handle.model_id, task=task, folder=Path("/runs/a"), checkout=checkout,
            config=handle.metadata["config"], **asked,
        )  # fmt: skip
        program = OfficialTDMPC2().program(request)
        script, *settings = program.argv
        assert script == str(checkout / "tdmpc2/train.py")
        assert settings.pop() == "hydra.run.dir=."
        found = dict(word.split("=", 1) for word in settings)
        assert len(found) == len(settings)
        return found, program

    return make


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "size"),
    [("1m", 1), ("5m", 5), ("proof_5m", 5), ("5m_legacy", 5), ("19m", 19), ("48m", 48), ("317m", 317)],
)
def test_a_preset_is_its_official_model_size(words, preset, size):
    found, program = words(f"tdmpc2:{preset}", env_steps=50_000)
    assert found == {
        "task": "walker-walk", "seed": "1", "exp_name": "default", "enable_wandb": "false", "steps": "50000",
        "model_size": str(size),
    }  # fmt: skip
    assert program.env == {"NO_COLOR": "1", "ANSI_COLORS_DISABLED": "1", "HYDRA_FULL_ERROR": "1"}


def test_the_backend_runs_the_official_sizes_only():
    handle = worldflux.create_world_model("tdmpc-proof", backend=BACKEND)
    assert (handle.model_id, handle.metadata["backend_profile"]) == ("tdmpc2:proof_5m", "proof_5m")
    with pytest.raises(ValueError, match="runs tdmpc2:proof_5m, .*, not 'tdmpc2:ci'"):
        worldflux.create_world_model("tdmpc2:ci", backend=BACKEND)


@pytest.mark.parametrize(
    ("task", "official"),
    [
        ("walker-walk", "walker-walk"),
        ("dmc:walker-walk", "walker-walk"),
        ("dmc:ball_in_cup-catch", "cup-catch"),
        ("dmc:cartpole-balance_sparse", "cartpole-balance-sparse"),
        ("dmc:point_mass-easy", "pointmass-easy"),
        ("mw-reach", "mw-reach"),
    ],
)
def test_tasks_have_our_names_or_the_programs(words, task, official):
    found, program = words(task=task)
    assert found["task"] == official
    assert program.checkpoints == f"logs/{official}/1/default/models/*.pt"


def test_changed_fields_become_official_settings(words):
    changes = {
        "learning_rate": 1e-5, "horizon": 5, "num_samples": 256, "grad_clip": 10.0, "episodic": True, "mpc": False,
        "seed": 4, "env_steps": 1000,
    }  # fmt: skip
    found, _ = words(config=changes)
    expected = {"lr": "1e-05", "horizon": "5", "num_samples": "256", "grad_clip_norm": "10.0", "episodic": "true"}
    expected |= {"mpc": "false", "seed": "4", "steps": "1000", "model_size": "5"}
    assert {name: found[name] for name in expected} == expected


def test_a_fixed_discount_and_the_bound_of_values_become_pairs(words):
    found, _ = words(config={"discount": 0.97, "vmax": 5.0})
    assert (found["discount_min"], found["discount_max"]) == ("0.97", "0.97")
    assert (found["vmin"], found["vmax"]) == ("-5.0", "5.0")


@pytest.mark.parametrize("way", ["config", "options"])
def test_one_size_that_differs_is_not_overridden_by_the_model_size(words, way):
    found, _ = words("tdmpc2:19m", **{way: {"mlp_dim": 768}})
    assert "model_size" not in found
    sizes = {"enc_dim": "1024", "mlp_dim": "768", "latent_dim": "768", "num_enc_layers": "3", "num_q": "5"}
    assert {name: found[name] for name in sizes} == sizes


def test_images_are_asked_for_with_channels_that_fill_the_latent(words):
    found, _ = words("tdmpc2:1m", config={"obs_shape": (9, 64, 64)})
    assert (found["obs"], found["num_channels"]) == ("rgb", "8")
    assert words("tdmpc2:1m", options={"obs": "rgb"})[0]["num_channels"] == "8"
    both = {"pixels": {"kind": "image", "shape": (9, 64, 64), "dtype": "uint8"}, "state": {"shape": (4,)}}
    with pytest.raises(ConfigurationError, match="images or vectors, not both"):
        words(config={"observation_modalities": both})


def test_observations_and_actions_are_the_tasks(words):
    assert words(config={"obs_shape": (8,), "action_dim": 2})[0] == words()[0]


@pytest.mark.parametrize("change", [{"updates_per_step": 2.0}, {"reference": True}, {"episode_length": 100}])
def test_what_the_official_program_cannot_be_told_is_refused(words, change):
    with pytest.raises(ConfigurationError, match=f"{next(iter(change))} = .* has no counterpart.*leave it out"):
        words(config=change)


def test_training_options_go_before_the_config_and_the_programs_own_before_both(words):
    training = {"batch_size": 64, "learning_rate": 1e-4, "seed": 9, "device": "cuda:1"}
    found, program = words(config={"batch_size": 32}, training=training, options={"lr": 0.5, "compile": False})
    assert (found["batch_size"], found["seed"], found["lr"], found["compile"]) == ("64", "9", "0.5", "false")
    assert program.env["CUDA_VISIBLE_DEVICES"] == "1"


def test_steps_of_the_call_go_before_those_of_the_config(words):
    assert words(config={"env_steps": 7}, env_steps=5)[0]["steps"] == "5"
    assert "steps" not in words()[0]


def test_values_are_written_as_hydra_reads_them(words, tmp_path):
    given = {"data_dir": tmp_path / "my data", "wandb_project": None, "enable_wandb": True, "num_samples": 64}
    found, _ = words(task="mt30", options=given)
    assert found["data_dir"] == f"'{tmp_path}/my data'"
    assert (found["wandb_project"], found["enable_wandb"], found["num_samples"]) == ("null", "true", "64")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "Pendulum-v1"}, "task is 'Pendulum-v1', expected a name of the official program: 'walker-walk'"),
        ({"task": "../up-a"}, "expected a name of the official program"),
        ({"task": "mt80"}, r"learns from recorded data: pass options=\{'data_dir': .*files\}"),
        ({"options": {"task": "x-y"}}, r"'task', which submit\(task=...\) says"),
        ({"options": {"steps": 5}}, r"'steps', which submit\(env_steps=...\) says"),
        ({"options": {"seed": 5}}, r"'seed', which TrainingConfig\(seed=...\) says"),
        ({"options": {"model_size": 1}}, "'model_size', which the preset says"),
        ({"options": {"work_dir": "/x"}}, "'work_dir', which the official program works out"),
        ({"options": {"num_sample": 5}}, "'num_sample', which .*config.yaml does not. Did you mean 'num_samples'"),
        ({"options": {"hydra.launcher": "x"}}, "'hydra.launcher', which .*config.yaml does not"),
        ({"options": {"+new": 5}}, "which .*config.yaml does not"),
        ({"options": {"defaults": 5}}, "which .*config.yaml does not"),
        ({"options": {"save_csv": False}}, "save_csv must be True"),
        ({"options": {"data_dir": "${oc.env:HOME}"}}, "setting data_dir is .*expected a number"),
        ({"options": {"data_dir": "it's"}}, "setting data_dir is .*text without quotes"),
        ({"options": {"lr": [1, 2]}}, r"setting lr is \[1, 2\], expected a number"),
        ({"training": {"device": "cpu"}}, "device is 'cpu', but the official program computes on 'cuda' only"),
    ],
)
def test_what_cannot_be_followed_is_named(words, asked, message):
    with pytest.raises(ConfigurationError, match=message):
        words(**asked)


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def submit(tmp_path, checkout, monkeypatch):
    """Starts a job; what still runs of it afterwards is ended."""
    monkeypatch.setenv("WORLDFLUX_TDMPC2_PYTHON", sys.executable)
    monkeypatch.setenv("WORLDFLUX_TDMPC2_CHECKOUT", str(checkout))
    monkeypatch.delenv("WORLDFLUX_TDMPC2_NO_GPU_CHECK", raising=False)
    jobs: list[Job] = []

    def start(task="dmc:dog-run", *, config=None, seed=3, **asked):
        handle = worldflux.create_world_model("tdmpc2:5m", backend=BACKEND, **(config or {}))
        trainer = worldflux.Trainer(handle, worldflux.TrainingConfig(output_dir=str(tmp_path / "run"), seed=seed))
        jobs.append(trainer.submit(task=task, **{"env_steps": 3000, **asked}))
        return jobs[-1]

    yield start
    for job in jobs:
        job.cancel(0)


def records(job, name):
    """Pairs of environment steps and a metric, in order."""
    lines = [json.loads(line) for line in job.metrics_path.read_text().splitlines()]
    assert all(line["step"] == line["env_steps"] for line in lines)
    return [(line["env_steps"], line[name]) for line in lines if name in line]


def test_a_finished_run_has_our_metrics_and_is_imported_as_our_model(submit, cases):
    job = submit(config={"horizon": 5, "discount": 0.97})
    status = job.wait(240)
    assert (status.state, status.step, status.env_steps) == ("finished", 3000, 3000), status.message
    assert records(job, "eval/return") == [(step, pytest.approx(step / 3)) for step in (0, 1000, 2000, 3000)]
    assert records(job, "eval/success") == [(step, 0.5) for step in (0, 1000, 2000, 3000)]
    assert records(job, "episode/return") == [(step, step / 10) for step in range(500, 3001, 500)]
    assert job.logs(1) == "Training completed successfully\n"

    assert status.checkpoint == job.folder / "logs/dog-run/3/default/models/final.pt"
    model = worldflux.import_weights(status.checkpoint, importer="official-tdmpc2")
    assert (model.config.horizon, model.config.discounts) == (5, (0.97,))
    ours = load(cases("state").weights)
    assert ours.config.horizon == 3
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), ours.parameters()))


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("dog-sing", 'exit code 1: ValueError: Failed to make environment "dog-sing"'),
        ("dog-crash", "exit code 1: RuntimeError: CUDA error: out of memory"),
    ],
)
def test_a_run_that_breaks_says_why_and_keeps_what_it_had(submit, task, said):
    job = submit(task)
    status = job.wait(240)
    assert (status.state, status.checkpoint) == ("failed", None)
    assert said in status.message
    if task == "dog-crash":
        assert records(job, "episode/return") == [(500, 50.0), (1000, 100.0)]


def test_a_run_can_be_cancelled_from_elsewhere(submit):
    job = submit("dog-wait")
    until = time.monotonic() + 240
    while job.status().env_steps != 500:
        assert time.monotonic() < until and not job.status().is_over, job.logs()
        time.sleep(0.05)
    status = Job.open(job.run_dir).cancel()
    assert (status.state, status.env_steps, status.checkpoint) == ("cancelled", 500, None)
    assert records(job, "episode/return") == [(500, 50.0)]
    with pytest.raises(ProcessLookupError):
        os.kill(status.pid, 0)


def test_a_missing_dependency_is_named_before_anything_starts(submit, checkout, tmp_path):
    (checkout / "tensordict/__init__.py").unlink()
    (checkout / "tensordict").rmdir()
    with pytest.raises(ConfigurationError, match=r"cannot import tensordict, .*pip install .*tensordict==0.8.3"):
        submit()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("torch_says", "message"),
    [
        (("False", "None"), "NVIDIA GPU only, and torch 2.7.1 of .* is built without CUDA; install one that has it"),
        (("False", "'12.6'"), r"sees none \(CUDA_VISIBLE_DEVICES is '-1'\); `nvidia-smi` lists.*Leave backend out"),
        (("1 / 0", "None"), "cannot tell whether there is a GPU: ZeroDivisionError"),
    ],
)
def test_a_gpu_is_asked_for_before_anything_starts(submit, checkout, tmp_path, torch_says, message):
    gpu(checkout, *torch_says)
    with pytest.raises(ConfigurationError, match=message):
        submit(env={"CUDA_VISIBLE_DEVICES": "-1"})
    assert not (tmp_path / "run").exists()


def test_the_question_for_a_gpu_can_be_left_out(submit, checkout):
    gpu(checkout, "False", "None")
    assert submit(env={"WORLDFLUX_TDMPC2_NO_GPU_CHECK": "1"}).wait(240).state == "finished"


# --- its settings, for the importer -----------------------------------------------------------------------------------


@pytest.fixture
def settings_for(words, tmp_path):
    """What ``official_settings`` says of a job with this command line."""

    def make(task, **asked):
        _, program = words(task=task, **asked)
        description = {"backend": BACKEND, "program": {"argv": ["/bin/python", *program.argv]}}
        (tmp_path / "job.json").write_text(json.dumps(description))
        return official_settings(tmp_path)

    return make


@pytest.mark.parametrize(
    ("task", "length"), [("walker-walk", 500), ("mw-reach", 100), ("pick-cube", 100), ("myo-pose-hard", 100)]
)
def test_the_length_of_episodes_comes_from_the_task(settings_for, task, length):
    assert settings_for(task)["episode_length"] == length


def test_settings_have_the_types_they_were_given_with(settings_for):
    found = settings_for("walker-walk", options={"lr": 1e-5, "mpc": False, "wandb_project": "my runs"})
    assert (found["lr"], found["mpc"], found["wandb_project"], found["seed"]) == (1e-5, False, "my runs", 1)
    assert "hydra.run.dir" not in found


def test_what_the_program_fixes_for_gymnasium_goes_before_what_it_was_told(settings_for):
    found = settings_for("mujoco-walker", config={"rho": 0.4})
    assert (found["rho"], found["discount_max"], found["episode_length"]) == (0.7, 0.99, 1000)


@pytest.mark.parametrize(("task", "lengths"), [("mt30", [500] * 30), ("mt80", [500] * 30 + [100] * 50)])
def test_sets_of_tasks_have_the_length_of_each(settings_for, task, lengths):
    assert settings_for(task, options={"data_dir": "/data"})["episode_lengths"] == lengths


def test_a_job_of_another_program_has_no_settings_for_us(tmp_path):
    (tmp_path / "job.json").write_text(
        json.dumps({"backend": "acme", "program": {"argv": ["python", "main.py", "-x"]}})
    )
    with pytest.raises(ConfigurationError, match="is of backend 'acme', not of TD-MPC2's program"):
        official_settings(tmp_path)


@pytest.mark.parametrize("program", [None, 3, {}, {"argv": 3}, {"argv": []}])
def test_a_job_that_does_not_say_how_its_program_is_called_is_refused_with_its_file(tmp_path, program):
    (tmp_path / "job.json").write_text(json.dumps({"backend": BACKEND, "program": program}))
    with pytest.raises(ConfigurationError, match=r"job\.json does not say how its program is called"):
        official_settings(tmp_path)


def test_updates_are_counted_where_nothing_is_decided(words, tmp_path):
    _, program = words(task="mt30", options={"data_dir": tmp_path})
    (source,) = program.metrics
    assert (source.step, source.env_steps) == ("step", None)
