"""An update is a list of steps: each moves the parameters it names before the next is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from worldflux.core.batch import Batch
from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError, TrainingError
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import Replay
from worldflux.envs import make_env
from worldflux.training import Callback, Trainer, TrainingConfig, train
from worldflux.training.update import groups_of, make_update

RATE = 0.25


class Players(WorldModel):
    """One number for each of two groups; the second step's loss is the product with what the first became."""

    order = ("one", "two")

    def __init__(self, **attributes) -> None:
        super().__init__(WorldModelConfig(model_type="players-of-tests", obs_shape=(3,), action_dim=2))
        self.one, self.two = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
        self.seen: list[tuple] = []
        self.updates = 0
        self.fails: set[str] = set()
        for name, value in attributes.items():
            setattr(self, name, value)

    def parameter_groups(self):
        return [
            {"params": [getattr(self, name)], "lr": self.config.learning_rate, "group": name} for name in ("one", "two")
        ]

    def steps(self, batch):
        for name in self.order:
            if name in self.fails:
                raise RuntimeError(f"{name} failed")
            self.seen.append((name, self.one.item(), self.two.item(), torch.is_autocast_enabled("cpu")))
            loss = (self.one * self.two) * self.weight(batch)
            yield LossOutput(loss, {name: loss.detach()}, {f"metric_{name}": loss.detach()}, group=name)

    def weight(self, batch):
        return batch.obs.mean()

    def loss(self, batch):
        return LossOutput(self.one * self.two * self.weight(batch))

    def on_after_optimizer_step(self):
        self.updates += 1


class Ones:
    """Batches that are one number throughout, one after the other."""

    def __init__(self, *values: float) -> None:
        self.values, self.taken = values or (1.0,), 0

    def sample(self, request) -> Batch:
        value = self.values[self.taken % len(self.values)]
        self.taken += 1
        return Batch(obs=torch.full((2, 3, 3), value), actions=torch.zeros(2, 3, 2))


def config(tmp_path: Path, **changes) -> TrainingConfig:
    given = {"total_steps": 1, "optimizer": "sgd", "learning_rate": RATE, "grad_clip": 0.0, "log_interval": 1}
    fixed = {"batch_size": 2, "sequence_length": 3, "device": "cpu", "output_dir": str(tmp_path), "save_interval": 0}
    return TrainingConfig(**{**given, **fixed, **changes})


class Keeps(Callback):
    def __init__(self) -> None:
        self.records: list[dict] = []

    def on_log(self, trainer, record) -> None:
        self.records.append(dict(record))


# --- order and groups ------------------------------------------------------------------------------


def test_a_later_step_sees_what_the_one_before_it_moved(tmp_path: Path) -> None:
    model = Players()
    Trainer(model, config(tmp_path)).train(Ones())
    first, second = model.seen
    assert first[:3] == ("one", 1.0, 1.0)
    assert second[:3] == ("two", 1.0 - RATE, 1.0)
    assert (model.one.item(), model.two.item()) == (1 - RATE, 1 - RATE * (1 - RATE))


def test_steps_are_taken_in_the_order_they_are_made(tmp_path: Path) -> None:
    model = Players(order=("two", "one", "two"))
    Trainer(model, config(tmp_path, total_steps=2)).train(Ones())
    assert [name for name, *_ in model.seen] == ["two", "one", "two"] * 2
    assert model.seen[1][2] == 1 - RATE


def test_a_step_moves_its_group_alone(tmp_path: Path) -> None:
    """Also where the optimizer moves what has no gradient: momentum, weight decay."""
    model = Players(order=("one",))
    chosen = config(tmp_path, total_steps=3, optimizer="adamw", weight_decay=0.5)
    Trainer(model, chosen).train(Ones())
    assert model.two.item() == 1.0
    assert model.one.item() != 1.0


def test_a_step_without_a_group_moves_everything(tmp_path: Path) -> None:
    model = Players()
    model.steps = lambda batch: iter([model.loss(batch)])
    Trainer(model, config(tmp_path)).train(Ones())
    assert (model.one.item(), model.two.item()) == (1 - RATE, 1 - RATE)


def test_several_entries_may_be_one_group() -> None:
    model = Players()
    model.parameter_groups = lambda: [
        {"params": [model.one], "group": "both"},
        {"params": [model.two], "group": "both", "lr": 1.0},
    ]
    assert groups_of(model) == {"both": [model.one, model.two]}


def test_a_group_that_does_not_exist_is_named_with_the_nearest(tmp_path: Path) -> None:
    model = Players()
    model.steps = lambda batch: iter([LossOutput(model.one * 1.0, group="onee")])
    with pytest.raises(
        TrainingError, match=r"names the group 'onee', parameter_groups\(\) has \['one', 'two'\].*'one'"
    ):
        Trainer(model, config(tmp_path)).train(Ones())
    assert (model.one.item(), model.two.item()) == (1.0, 1.0)


def test_a_frozen_parameter_of_a_group_stays(tmp_path: Path) -> None:
    model = Players()
    model.held = nn.Parameter(torch.tensor(1.0), requires_grad=False)
    groups = model.parameter_groups()
    groups[0]["params"].append(model.held)
    model.parameter_groups = lambda: groups
    Trainer(model, config(tmp_path)).train(Ones())
    assert (model.one.item(), model.held.item()) == (1 - RATE, 1.0)


# --- gradients -------------------------------------------------------------------------------------


def test_gradients_of_the_last_step_are_there_after_the_update(tmp_path: Path) -> None:
    model, seen = Players(), []

    class Looks(Callback):
        def on_step_end(self, trainer) -> None:
            seen.append((model.one.grad, model.two.grad.clone()))

    Trainer(model, config(tmp_path), [Looks()]).train(Ones())
    assert seen[0][0] is None
    assert seen[0][1] == 1 - RATE


def test_every_step_is_clipped_for_itself(tmp_path: Path) -> None:
    model = Players()
    Trainer(model, config(tmp_path, grad_clip=0.5)).train(Ones(100.0))
    assert model.one.item() == pytest.approx(1 - RATE * 0.5, abs=1e-6)
    assert model.two.item() == pytest.approx(1 - RATE * 0.5, abs=1e-6)


def test_a_groups_own_clip_holds_in_its_step(tmp_path: Path) -> None:
    model = Players()
    groups = model.parameter_groups()
    groups[1]["grad_clip"] = 0.1
    model.parameter_groups = lambda: groups
    Trainer(model, config(tmp_path, grad_clip=0.5)).train(Ones(100.0))
    assert model.one.item() == pytest.approx(1 - RATE * 0.5, abs=1e-6)
    assert model.two.item() == pytest.approx(1 - RATE * 0.1, abs=1e-6)


def test_a_given_optimizer_takes_every_step(tmp_path: Path) -> None:
    model = Players()
    optimizer = torch.optim.SGD([model.two, model.one], lr=RATE)
    Trainer(model, config(tmp_path), optimizer=optimizer).train(Ones())
    assert (model.one.item(), model.two.item()) == (1 - RATE, 1 - RATE * (1 - RATE))


@pytest.mark.parametrize(("argument", "wrong"), [("optimizer", 3), ("optimizer", "adam"), ("scheduler", 3)])
def test_an_optimizer_or_scheduler_that_is_none_is_refused(tmp_path: Path, argument, wrong) -> None:
    with pytest.raises(ConfigurationError, match=f"{argument} is a .*, expected a .*not {wrong!r}"):
        Trainer(Players(), config(tmp_path), **{argument: wrong})


# --- micro-batches ---------------------------------------------------------------------------------


def test_micro_batches_go_through_the_steps_side_by_side(tmp_path: Path) -> None:
    model, source = Players(), Ones(1.0, 3.0)
    Trainer(model, config(tmp_path, gradient_accumulation_steps=2)).train(source)
    assert [name for name, *_ in model.seen] == ["one", "one", "two", "two"]
    assert {one for _, one, *_ in model.seen[2:]} == {1 - RATE * 2}
    assert (model.one.item(), model.two.item()) == (1 - 2 * RATE, 1 - 2 * RATE * (1 - 2 * RATE))
    assert source.taken == 2


def test_a_batch_is_read_when_its_turn_comes(tmp_path: Path) -> None:
    model = Players()
    taken = []
    source = Ones()
    sample = source.sample
    source.sample = lambda request: taken.append(len(model.seen)) or sample(request)
    Trainer(model, config(tmp_path, gradient_accumulation_steps=3)).train(source)
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("longer", [0, 1])
def test_micro_batches_of_unequal_steps_are_refused(tmp_path: Path, longer) -> None:
    model = Players()
    whole = model.steps

    def steps(batch):
        made = whole(batch)
        yield next(made)
        if int(batch.obs.flatten()[0]) == longer:
            yield from made

    model.steps = steps
    with pytest.raises(TrainingError, match="step 2 of an update was made of 1 of 2 micro-batches"):
        Trainer(model, config(tmp_path, gradient_accumulation_steps=2)).train(Ones(0.0, 1.0))


@pytest.mark.parametrize("count", [1, 2])
def test_an_update_without_a_step_is_refused(tmp_path: Path, count) -> None:
    model = Players(order=())
    with pytest.raises(TrainingError, match=f"step 1 of an update was made of 0 of {count} micro-batches"):
        Trainer(model, config(tmp_path, gradient_accumulation_steps=count)).train(Ones())


# --- around the steps ------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [True, False])
def test_every_step_is_computed_in_the_precision_asked_for(tmp_path: Path, mixed) -> None:
    model, around = Players(), []
    model.on_after_optimizer_step = lambda: around.append(torch.is_autocast_enabled("cpu"))
    Trainer(model, config(tmp_path, mixed_precision=mixed)).train(Ones())
    assert [autocast for *_, autocast in model.seen] == [mixed, mixed]
    assert around == [False]


def test_the_hook_after_an_update_is_called_once_after_all_its_steps(tmp_path: Path) -> None:
    model, seen = Players(), []
    model.on_after_optimizer_step = lambda: seen.append((len(model.seen), model.two.item()))
    Trainer(model, config(tmp_path, gradient_accumulation_steps=2)).train(Ones())
    assert seen == [(4, 1 - RATE * (1 - RATE))]


def test_the_logged_loss_is_the_sum_of_the_steps_and_every_part_is_logged(tmp_path: Path) -> None:
    keeps = Keeps()
    Trainer(Players(), config(tmp_path), [keeps]).train(Ones())
    record = keeps.records[0]
    assert (record["loss/one"], record["loss/two"]) == (1.0, 1 - RATE)
    assert (record["metric_one"], record["metric_two"]) == (1.0, 1 - RATE)
    assert record["loss"] == 2 - RATE
    assert record["grad_norm"] == pytest.approx((1 + (1 - RATE) ** 2) ** 0.5)


def test_the_logged_loss_is_the_mean_over_micro_batches(tmp_path: Path) -> None:
    keeps, model = Keeps(), Players(order=("one",))
    Trainer(model, config(tmp_path, gradient_accumulation_steps=2), [keeps]).train(Ones(1.0, 3.0))
    assert keeps.records[0]["loss"] == 2.0


# --- failures --------------------------------------------------------------------------------------


def test_a_failing_step_is_a_training_error_and_the_next_update_is_whole(tmp_path: Path) -> None:
    model = Players(fails={"two"})
    trainer = Trainer(model, config(tmp_path))
    with pytest.raises(TrainingError, match="step 0 failed: two failed"):
        trainer.train(Ones())
    assert (trainer.step, model.updates) == (0, 0)
    model.fails, after = set(), model.one.item()
    trainer.train(Ones())
    assert model.one.item() == pytest.approx(after - RATE), "a gradient of the update that failed is left"
    assert model.two.item() == pytest.approx(1 - RATE * model.one.item())


@pytest.mark.parametrize("which", ["one", "two"])
def test_a_step_that_is_not_finite_is_named_before_anything_moves(tmp_path: Path, which) -> None:
    model = Players()
    whole = model.steps

    def steps(batch):
        for out in whole(batch):
            if out.group == which:
                out = LossOutput(out.loss * float("nan"), {which: out.loss * float("nan")}, group=which)
            yield out

    model.steps = steps
    with pytest.raises(TrainingError, match=f"loss '{which}' is not finite at step 0"):
        Trainer(model, config(tmp_path)).train(Ones())
    assert getattr(model, which).item() == 1.0


def test_gradients_that_are_not_finite_are_found_in_the_group_of_the_step(tmp_path: Path) -> None:
    model = Players()

    def steps(batch):
        yield LossOutput(((model.one - 1.0).abs() + 0.0).sqrt().sum(), group="one")

    model.steps = steps
    with pytest.raises(TrainingError, match="the gradients are not finite at step 0"):
        Trainer(model, config(tmp_path)).train(Ones())
    assert model.one.item() == 1.0


def test_resuming_between_updates_of_several_steps_is_exact(tmp_path: Path) -> None:
    def run(directory, total, resume=None, optimizer="adam"):
        model = Players()
        chosen = config(directory, total_steps=total, optimizer=optimizer, save_interval=2)
        Trainer(model, chosen).train([Ones(float(i)).sample(None) for i in (1, 2, 3)], resume_from=resume)
        return model.one.item(), model.two.item()

    whole = run(tmp_path / "a", 5)
    run(tmp_path / "b", 2)
    assert run(tmp_path / "b", 5, resume=tmp_path / "b") == whole


# --- latents ---------------------------------------------------------------------------------------


class Source(Ones):
    def __init__(self, kept=None) -> None:
        super().__init__()
        self.written: list[list[str]] = []
        if kept is not None:
            self.latent_names = kept

    def update(self, batch, latents) -> None:
        self.written.append(sorted(latents))


@pytest.mark.parametrize(("kept", "written"), [(None, [["a", "b"]]), (["b"], [["b"]]), ([], []), (["c"], [])])
def test_a_source_is_given_the_latents_it_keeps(tmp_path: Path, kept, written) -> None:
    model, source = Players(), Source(kept)
    latents = {"a": torch.zeros(2, 3, 1), "b": torch.zeros(2, 3, 1)}
    model.steps = lambda batch: iter([LossOutput(model.one * 1.0, latents=latents)])
    Trainer(model, config(tmp_path)).train(source)
    assert source.written == written


def test_a_replay_that_stores_no_latents_is_learned_from(toy, tmp_path: Path) -> None:
    model = toy.ToyModel()
    env = make_env(toy.Walk)
    replay = Replay(40, obs_spec={"obs": ModalitySpec("vector", (3,))}, action_spec=ActionSpec("continuous", 2))
    step = env.reset(seed=0)
    for _ in range(30):
        action = torch.zeros(1, 2).numpy()
        replay.add(step, action)
        step = env.step(action)
    train(model, replay, 2, batch_size=2, sequence_length=3, output_dir=tmp_path, device="cpu", callbacks=[])
    assert model.updates == 2


# --- alone -----------------------------------------------------------------------------------------


def test_an_update_returns_its_steps_with_their_batches_and_norms(tmp_path: Path) -> None:
    model, source, ready = Players(), Ones(2.0), []
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    made = make_update(
        model,
        optimizer,
        lambda: source.sample(None),
        config=config(tmp_path),
        groups=groups_of(model),
        ready=lambda step: ready.append((model.one.item(), model.two.item())),
    )
    assert [out.group for step in made for _, out in step.losses] == ["one", "two"]
    assert [float(step.norm) for step in made] == [2.0, 2 * (1 - 2 * RATE)]
    assert ready == [(1.0, 1.0), (1 - 2 * RATE, 1.0)], "ready is asked before its step is taken"
