"""Going on with a run: exactly, whatever gives the batches, and not with what is of another kind."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import CheckpointError
from worldflux.data import ReplayBuffer


class Rows(torch.utils.data.Dataset):
    """Sequences of five rows."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        obs = torch.randn(5, 3, generator=torch.Generator().manual_seed(index))
        return {"obs": obs, "actions": obs[:, :2].clone()}


def episodes() -> ReplayBuffer:
    buffer, rng = ReplayBuffer(200, (3,), 2), np.random.default_rng(0)
    for _ in range(5):
        buffer.add_episode(rng.normal(size=(21, 3)), rng.normal(size=(20, 2)), rng.normal(size=20))
    return buffer


KINDS = {
    "list": lambda toy: toy.items(),
    "dataset": lambda toy: Rows(),
    "shuffled loader": lambda toy: torch.utils.data.DataLoader(Rows(), batch_size=4, shuffle=True),
    "earlier buffer": lambda toy: episodes(),
}


def weights(trainer) -> torch.Tensor:
    return torch.cat([value.flatten() for value in trainer.model.parameters()])


def whole(toy, make, directory: Path):
    trainer = toy.Trainer(toy.ToyModel(), toy.options(directory / "whole", total_steps=9))
    trainer.train(make(toy))
    return trainer


def part(toy, make, directory: Path) -> Path:
    toy.Trainer(toy.ToyModel(), toy.options(directory / "part", total_steps=9)).train(make(toy), num_steps=4)
    return directory / "part"


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_every_kind_of_source_goes_on_exactly(toy, make, tmp_path: Path) -> None:
    resumed = toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "part", total_steps=9))
    resumed.train(make(toy), resume_from=part(toy, make, tmp_path))
    assert torch.equal(weights(whole(toy, make, tmp_path)), weights(resumed))


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_loaded_checkpoint_is_trained_on_exactly(toy, make, tmp_path: Path) -> None:
    source, trainer = make(toy), toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "part", total_steps=9))
    path, before = part(toy, make, tmp_path), torch.get_rng_state()
    trainer.load_checkpoint(path, source)
    assert torch.equal(torch.get_rng_state(), before)
    trainer.train(source)
    assert torch.equal(weights(whole(toy, make, tmp_path)), weights(trainer))


def test_a_checkpoint_can_be_looked_at_without_its_source(toy, tmp_path: Path) -> None:
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "part"))
    trainer.load_checkpoint(part(toy, KINDS["list"], tmp_path))
    assert trainer.step == 4


def test_a_source_of_another_kind_is_refused_before_anything_is_loaded(toy, tmp_path: Path) -> None:
    path, trainer = part(toy, KINDS["list"], tmp_path), toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "part"))
    before = weights(trainer).clone()
    with pytest.raises(CheckpointError, match="another source, iterable, and cannot go on with Dataset"):
        trainer.train(Rows(), resume_from=path)
    assert torch.equal(weights(trainer), before)


def test_an_optimizer_of_another_kind_is_refused(toy, tmp_path: Path) -> None:
    path = part(toy, KINDS["list"], tmp_path)
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "part", optimizer="sgd"))
    with pytest.raises(CheckpointError, match="another optimizer, AdamW, and cannot go on with SGD"):
        trainer.train(toy.items(), resume_from=path)


def test_a_learning_rate_that_is_not_taken_is_said(toy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = part(toy, KINDS["list"], tmp_path)
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "part", learning_rate=1e-6))
    with caplog.at_level(logging.WARNING):
        trainer.train(toy.items(), resume_from=path)
    assert "learning_rate goes on with 0.01" in caplog.text and "1e-06 is not taken" in caplog.text
    assert trainer.optimizer.param_groups[0]["initial_lr"] == 0.01


def test_a_line_that_is_no_text_does_not_stop_a_run_from_going_on(toy, tmp_path: Path) -> None:
    path = part(toy, KINDS["list"], tmp_path)
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n")
    toy.Trainer(toy.ToyModel(), toy.options(path, total_steps=9)).train(toy.items(), resume_from=path)
    assert [json.loads(line)["step"] for line in (path / "metrics.jsonl").read_text().splitlines()] == [3, 4, 6, 9]


def test_an_optimizer_that_is_gone_goes_on_as_the_one_it_was(toy, tmp_path: Path) -> None:
    config = toy.options(tmp_path / "part", optimizer="adam", total_steps=9)
    toy.Trainer(toy.ToyModel(), config).train(toy.items(), num_steps=4)
    step = tmp_path / "part/checkpoints/step-000004"
    state, page = step / "state.json", step / "manifest.json"
    state.write_text(state.read_text().replace('"optimizer_type": "Adam"', '"optimizer_type": "TwoPhaseAdam"'))
    manifest = json.loads(page.read_text())
    content = state.read_bytes()
    manifest["files"]["state.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    page.write_text(json.dumps(manifest))
    trainer = toy.Trainer(toy.ToyModel(), config)
    trainer.train(toy.items(), resume_from=tmp_path / "part")
    assert trainer.step == 9
