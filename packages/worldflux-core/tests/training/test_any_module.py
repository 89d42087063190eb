"""The trainer takes any module with a loss."""

from __future__ import annotations

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from worldflux import (  # noqa: E402  # noqa: E402
    Batch,
    ConfigurationError,
    LossOutput,
    TrainingError,
    WorldModelRegistry,
    create_world_model,
    train,
)
from worldflux.training import Trainer, TrainingConfig  # noqa: E402
from worldflux.training.any_module import AnyModule  # noqa: E402


class Plain(nn.Module):
    def __init__(self, config=None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.linear = nn.Linear(4, 4)

    def loss(self, batch):
        return LossOutput((self.linear(batch.obs) - batch.obs).square().mean())


BATCHES = [Batch(obs=torch.linspace(-1, 1, 24).reshape(2, 3, 4) * (i + 1)) for i in range(3)]


def options(folder, steps: int = 6) -> TrainingConfig:
    return TrainingConfig(total_steps=steps, device="cpu", output_dir=str(folder), learning_rate=1e-2)


def test_a_plain_module_learns_and_goes_on_exactly(tmp_path):
    whole = Trainer(Plain(), options(tmp_path / "whole")).train(BATCHES)
    assert Plain().loss(BATCHES[0]).loss > whole.loss(BATCHES[0]).loss
    Trainer(Plain(), options(tmp_path / "part")).train(BATCHES, num_steps=4)
    again = Trainer(Plain(), options(tmp_path / "part")).train(BATCHES, resume_from=tmp_path / "part")
    assert torch.equal(whole.linear.weight, again.linear.weight)


def test_a_plain_module_is_registered_and_built_by_name(monkeypatch):
    monkeypatch.setattr(WorldModelRegistry, "_entries", WorldModelRegistry.snapshot())
    WorldModelRegistry.register("plain-module")(Plain)
    assert isinstance(create_world_model("plain-module"), Plain)
    with pytest.raises(ConfigurationError, match="Plain has no slots"):
        create_world_model("plain-module", component_overrides={"decoder": object()})


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nn.Module with loss\(batch\)"):
        Trainer(nn.Linear(2, 2), options(tmp_path))
    with pytest.raises(ConfigurationError, match="only a WorldModel acts in an environment"):
        train(Plain(), "CartPole-v1", 1, output_dir=str(tmp_path / "acting"))
    bare = Plain()
    bare.loss = lambda batch: torch.zeros(())
    with pytest.raises(TrainingError, match=r"loss\(batch\) returned a Tensor, expected a LossOutput"):
        Trainer(bare, options(tmp_path / "bare")).train(BATCHES)


def test_what_neither_the_module_nor_its_stand_in_has_is_an_attribute_error():
    model = AnyModule(Plain())
    assert not hasattr(model, "imagine")
    with pytest.raises(AttributeError, match="a Plain has no 'imagine'"):
        _ = model.imagine


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_module_with_its_answers_is_copied(again):
    model = again(AnyModule(Plain()))
    assert type(model) is AnyModule
    assert model.context_rows == 0
    assert torch.equal(model.linear.weight, Plain().linear.weight)


@pytest.mark.parametrize("name", ["generator", "seed", "steps", "recipe", "rng_state"])
def test_a_part_or_a_number_that_is_called_as_a_hook_is_none(name, tmp_path):
    model = Plain()
    setattr(model, name, nn.Linear(4, 4) if name == "generator" else 4)
    trainer = Trainer(model, options(tmp_path, steps=2))
    trainer.train(BATCHES)
    assert trainer.status == "finished" and trainer.evaluate(BATCHES, num_batches=1)["loss"] >= 0
