"""The loop: what it asks of a source, what it does with the answer, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import BufferError, ConfigurationError, TrainingError
from worldflux.core.output import LossOutput
from worldflux.training import Callback, train


def test_loss_falls_and_the_run_directory_tells_the_run(toy, tmp_path: Path) -> None:
    model = toy.ToyModel(dropout=0.0, noise=0.0)
    trainer = toy.Trainer(model, toy.options(tmp_path, total_steps=60), run_info={"env": "none"})
    before = trainer.evaluate(toy.items()[:1])["loss"]
    assert trainer.train(toy.items()[:1]) is model
    assert trainer.evaluate(toy.items()[:1])["loss"] < 0.8 * before

    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json", "run_manifest.json", "metrics.jsonl", "checkpoints",
    }  # fmt: skip
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["env"] == "none" and config["training"]["batch_size"] == 4
    manifest = json.loads((tmp_path / "run_manifest.json").read_text())
    assert manifest["schema"] == "worldflux.training.run_manifest.v1"
    assert (manifest["status"], manifest["step"], manifest["seed"]) == ("finished", 60, 7)
    assert manifest["versions"]["torch"] == torch.__version__


def test_a_registered_model_is_saved_at_the_end(toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(toy.ToyModel, "save_pretrained", lambda self, path: saved.append(path))
    toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1)).train(toy.items())
    assert saved == [tmp_path / "model"]


def test_each_update_is_followed_by_the_models_hook(toy, tmp_path: Path) -> None:
    model = toy.ToyModel()
    toy.Trainer(model, toy.options(tmp_path, total_steps=3)).train(toy.items())
    assert model.updates == 3


def test_rows_for_the_models_context_are_asked_for_beyond_the_sequence(toy, tmp_path: Path) -> None:
    model, source = toy.ToyModel(context_rows=2), toy.NoiseSource()
    toy.Trainer(model, toy.options(tmp_path, total_steps=1, sequence_length=6)).train(source)
    assert source.requests[0].seq_len == 8
    assert model.seen_shapes == [(4, 8, 3)]


def test_latents_are_written_back_to_the_source(toy, tmp_path: Path) -> None:
    source = toy.NoiseSource()
    model = toy.ToyModel(context_rows=1)
    toy.Trainer(model, toy.options(tmp_path, total_steps=2)).train(source)
    assert source.written == [{"hidden": (4, 5, 8)}] * 2


def test_latents_reach_the_rows_of_a_real_replay(toy, tmp_path: Path) -> None:
    model = toy.ToyModel(dropout=0.0, noise=0.0)
    config = toy.options(tmp_path, total_steps=1)
    source = toy.walking(model, config)
    toy.Trainer(model, config).train(source)
    before = source.replay.state_dict()[0]["latent/hidden"].copy()
    toy.Trainer(model, config.with_updates(output_dir=str(tmp_path / "b"))).train(source)
    shared = before.shape[1]
    assert not np.array_equal(before, source.replay.state_dict()[0]["latent/hidden"][:, :shared])


def test_accumulation_equals_a_larger_batch(toy, tmp_path: Path) -> None:
    rows = toy.batch_of(np.random.default_rng(0), 8, 5)
    halves = [toy.Batch(obs=rows.obs[i : i + 4], actions=rows.actions[i : i + 4]) for i in (0, 4)]
    results = []
    for name, data, steps in (("whole", [rows], 1), ("halves", halves, 2)):
        model = toy.ToyModel(dropout=0.0, noise=0.0)
        config = toy.options(tmp_path / name, total_steps=3, gradient_accumulation_steps=steps, optimizer="sgd")
        toy.Trainer(model, config).train(data)
        results.append(model.head.weight.detach())
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


def test_the_global_generator_of_the_caller_is_untouched(toy, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=2)).train(toy.items())
    assert torch.rand(3).equal(expected)


def test_modes_are_as_they_were(toy, tmp_path: Path) -> None:
    model = toy.ToyModel()
    model.eval()
    model.head.train()
    trainer = toy.Trainer(model, toy.options(tmp_path, total_steps=1))
    modes = []
    trainer.add_callback(_OnStep(toy, lambda t: modes.append(t.model.encoder.training)))
    trainer.train(toy.items())
    assert modes == [True]
    assert (model.training, model.encoder.training, model.head.training) == (False, False, True)


def test_evaluating_learns_nothing_and_draws_nothing_from_the_training(toy, tmp_path: Path) -> None:
    weights = []
    for name, evaluate in (("with", True), ("without", False)):
        trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path / name, total_steps=4))
        if evaluate:
            trainer.add_callback(_OnStep(toy, lambda t: t.evaluate(toy.items(), 2)))
        trainer.train(toy.items())
        weights.append(trainer.model.head.weight)
    assert weights[0].equal(weights[1])


def test_evaluating_asks_for_context_rows_and_draws_from_no_generator_it_began(toy, tmp_path: Path) -> None:
    model = toy.ToyModel(context_rows=2)
    fresh = toy.ToyModel().generator().get_state()
    toy.Trainer(model, toy.options(tmp_path)).evaluate(toy.NoiseSource(), 2)
    assert model.seen_shapes == [(4, 7, 3)] * 2
    assert model.generator().get_state().equal(fresh)


def test_one_of_several_processes_does_not_train_a_model_of_its_own(
    toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ConfigurationError, match="one of 2 processes"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path))


def test_the_same_seed_gives_the_same_model_and_another_another(toy, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        model = toy.ToyModel()
        torch.rand(len(weights))  # whatever the process drew before
        toy.Trainer(model, toy.options(tmp_path / name, seed=seed)).train(toy.items())
        weights.append(model.head.weight)
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_warmup_begins_at_zero_and_the_schedule_ends_there(toy, tmp_path: Path) -> None:
    model = toy.ToyModel()
    config = toy.options(tmp_path, total_steps=8, warmup_steps=4, scheduler="linear", log_interval=1)
    toy.Trainer(model, config).train(toy.items())
    rates = [json.loads(line)["lr"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([1e-2 * f for f in (0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25)])


def test_a_chosen_learning_rate_moves_the_groups_in_proportion(toy, tmp_path: Path) -> None:
    class Two(toy.ToyModel):
        def parameter_groups(self):
            rate = self.config.learning_rate
            return [{"params": self.encoder.parameters(), "lr": 0.3 * rate}, {"params": self.head.parameters()}]

    trainer = toy.Trainer(Two(), toy.options(tmp_path, learning_rate=1.0))
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([0.3, 1.0])


def test_a_given_optimizer_keeps_its_rate_and_follows_the_schedule(toy, tmp_path: Path) -> None:
    model = toy.ToyModel()
    config = toy.options(tmp_path, total_steps=4, scheduler="linear", log_interval=1)
    before = model.head.weight.detach().clone()
    toy.Trainer(model, config, optimizer=torch.optim.SGD(model.parameters(), lr=0.4)).train(toy.items())
    rates = [json.loads(line)["lr"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert not torch.equal(before, model.head.weight)


def test_a_schedulers_rates_are_recorded_as_they_were_used(toy, tmp_path: Path) -> None:
    model = toy.ToyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    config = toy.options(tmp_path, total_steps=3, log_interval=1)
    toy.Trainer(model, config, optimizer=optimizer, scheduler=scheduler).train(toy.items())
    rates = [json.loads(line)["lr"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([0.4, 0.2, 0.1])


def test_arguments_of_another_kind_are_refused_with_what_is_expected(toy, tmp_path: Path) -> None:
    model, config = toy.ToyModel(), toy.options(tmp_path)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.SGD(model.parameters(), lr=0.1))
    for arguments, options, message in (
        (("dreamer:ci", config), {}, "a trainer takes a model, got 'dreamer:ci'"),
        ((model, {"total_steps": 3}), {}, "config is a dict, expected a TrainingConfig"),
        ((model, config, Callback()), {}, "callbacks is a Callback, expected a list"),
        ((model, config), {"scheduler": plateau}, "ReduceLROnPlateau waits for a metric"),
        ((model, config), {"optimizer": 3}, "optimizer is a int, expected a torch.optim.Optimizer"),
        ((model, config), {"scheduler": 3}, "scheduler is a int, expected a scheduler of torch.optim"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            toy.Trainer(*arguments, **options)
    for steps in ("3", -1, 2.5):
        with pytest.raises(ConfigurationError, match="num_steps is .*, expected a whole number of updates"):
            toy.Trainer(model, config).train(toy.items(), num_steps=steps)


def test_gradients_are_clipped_to_the_norm_and_a_group_to_its_own(toy, tmp_path: Path) -> None:
    class Own(toy.ToyModel):
        def parameter_groups(self):
            return [{"params": self.encoder.parameters()}, {"params": self.head.parameters(), "grad_clip": 1e-4}]

    norms = []

    def measure(trainer) -> None:
        parts = (trainer.model.encoder, trainer.model.head)
        norms.extend(torch.stack([p.grad.norm() for p in part.parameters()]).norm().item() for part in parts)

    trainer = toy.Trainer(Own(), toy.options(tmp_path, total_steps=1, grad_clip=1e-3))
    trainer.add_callback(_OnStep(toy, measure))
    trainer.train(toy.items())
    assert norms == pytest.approx([1e-3, 1e-4], rel=1e-2)


def test_bfloat16_is_used_when_asked_for(toy, tmp_path: Path) -> None:
    dtypes = []
    model = toy.ToyModel()
    model.head.register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    toy.Trainer(model, toy.options(tmp_path, total_steps=1, mixed_precision=True)).train(toy.items())
    assert dtypes == [torch.bfloat16]


# --- failing ------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_is_named_and_the_parameters_stay(toy, tmp_path: Path) -> None:
    class Breaking(toy.ToyModel):
        def loss(self, batch):
            out = super().loss(batch)
            size = out.components["size"] * (torch.nan if self.updates == 5 else 1.0)
            return LossOutput(out.loss + size, {**out.components, "size": size})

    model = Breaking()
    trainer = toy.Trainer(model, toy.options(tmp_path))
    with pytest.raises(TrainingError, match="loss 'size' is not finite at step 5.*learning_rate.*step-000004"):
        trainer.train(toy.items())
    assert all(torch.isfinite(p).all() for p in model.parameters())
    report = json.loads((tmp_path / "diagnosis.json").read_text())
    assert (report["first"], report["step"], report["batch"]) == ("size", 5, {})
    assert json.loads((tmp_path / "run_manifest.json").read_text())["status"] == "failed"
    assert (tmp_path / "checkpoints" / "step-000004" / "manifest.json").exists()


def test_a_full_disk_does_not_hide_what_is_not_finite(toy, tmp_path: Path, monkeypatch) -> None:
    write = Path.write_text

    def full(path, *rest, **options):
        if "diagnosis" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, *rest, **options)

    monkeypatch.setattr(Path, "write_text", full)
    batch = toy.items()[0]
    batch.obs[2, 3, 1] = torch.inf
    with pytest.raises(TrainingError, match=r"batch's obs is not finite at \[2, 3, 1\]: repair the data"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path)).train([batch])


def test_a_number_in_the_batch_that_is_none_is_found(toy, tmp_path: Path) -> None:
    batch = toy.items()[0]
    batch.obs[2, 3, 1] = torch.inf
    with pytest.raises(TrainingError, match=r"batch's obs is not finite at \[2, 3, 1\]: repair the data"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path)).train([batch])


def test_gradients_that_are_not_finite_stop_before_the_step(toy, tmp_path: Path) -> None:
    class Steep(toy.ToyModel):
        def loss(self, batch):
            out = super().loss(batch)
            return LossOutput(out.loss + (self.head.bias * 0).sum().sqrt(), out.components)

    model = Steep()
    with pytest.raises(TrainingError, match="the gradients are not finite at step 0"):
        toy.Trainer(model, toy.options(tmp_path)).train(toy.items())
    assert torch.isfinite(model.head.bias).all()
    assert json.loads((tmp_path / "diagnosis.json").read_text())["gradients"] == ["head.bias"]


def test_a_failing_step_is_a_training_error_with_its_step(toy, tmp_path: Path) -> None:
    wrong = toy.Batch(obs=torch.zeros(4, 5, 9), actions=torch.zeros(4, 5, 2))
    with pytest.raises(TrainingError, match="step 0 failed: mat1 and mat2"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path)).train([wrong])


def test_a_source_that_fails_loses_nothing_that_was_learned(toy, tmp_path: Path) -> None:
    class Failing(toy.NoiseSource):
        def sample(self, request):
            if len(self.requests) == 6:
                raise OSError("the simulator is gone")
            return super().sample(request)

    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path))
    with pytest.raises(TrainingError, match=r"source failed at step 6.*simulator is gone.*resume_from"):
        trainer.train(Failing())
    assert trainer.last_checkpoint.name == "step-000006"


def test_an_environment_that_raises_mid_episode_is_named_and_the_run_resumes(toy, tmp_path: Path) -> None:
    class Breaking(toy.Walk):
        left = 60

        def step(self, action):
            Breaking.left -= 1
            if Breaking.left == 0:
                raise RuntimeError("joint 3 exploded")
            return super().step(action)

    collect = {"replay_ratio": 2.0, "replay_capacity": 100, "callbacks": []}
    config = toy.options(tmp_path).to_dict()
    with pytest.raises(TrainingError, match="environment 0 raised in step.*joint 3 exploded"):
        train(toy.ToyModel(), Breaking, **config, **collect)
    saved = json.loads((tmp_path / "run_manifest.json").read_text())
    assert saved["status"] == "failed" and saved["step"] > 0
    assert saved["checkpoint"].endswith(f"step-{saved['step']:06d}")

    train(toy.ToyModel(), Breaking, **config, **collect, resume_from=tmp_path)
    assert json.loads((tmp_path / "run_manifest.json").read_text())["status"] == "finished"


def test_a_replay_shorter_than_the_sequence_says_so(toy, tmp_path: Path) -> None:
    from worldflux.core.spec import ActionSpec, ModalitySpec
    from worldflux.data import Replay

    spec = {"obs": ModalitySpec(kind="vector", shape=(3,))}
    replay = Replay(100, obs_spec=spec, action_spec=ActionSpec(kind="continuous", dim=2))
    with pytest.raises(BufferError, match="sequences of 5 rows"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path)).train(replay)


def test_what_gives_no_batches_is_refused(toy, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot train on int"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path)).train(3)


def test_train_collects_in_an_environment(toy, tmp_path: Path) -> None:
    model = train(
        toy.ToyModel(), toy.Walk, 4, **{k: v for k, v in toy.options(tmp_path).to_dict().items() if k != "total_steps"},
        num_envs=2, replay_ratio=4, replay_capacity=200, callbacks=[],
    )  # fmt: skip
    assert model.updates == 4
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["collect"]["num_envs"] == 2
    assert json.loads((tmp_path / "run_manifest.json").read_text())["env_steps"] > 0


def test_an_environment_that_is_already_there_is_taken_as_many_as_it_is(toy, tmp_path: Path) -> None:
    model = toy.ToyModel(defaults={"num_envs": 3, "batch_size": 2, "sequence_length": 4})
    options = {"callbacks": [], "replay_capacity": 60, "output_dir": tmp_path, "device": "cpu"}
    with pytest.raises(ConfigurationError, match="cannot be 2 environments"):
        train(model, toy.Walk(), 1, num_envs=2, **options)
    train(model, toy.Walk(), 1, **options)
    assert model.updates == 1


def _OnStep(toy, do):
    class OnStep(toy.Callback):
        def on_step_end(self, trainer) -> None:
            do(trainer)

    return OnStep()
