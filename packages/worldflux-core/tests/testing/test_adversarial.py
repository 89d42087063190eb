"""An update of several steps: in order, each of its own group, accumulated, clipped, resumed and diagnosed alone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from worldflux import TrainingConfig, WorldModelConfig  # noqa: E402
from worldflux.core.errors import TrainingError  # noqa: E402
from worldflux.testing import run_checks  # noqa: E402
from worldflux.testing.fixtures import tiny_batch  # noqa: E402
from worldflux.training import Trainer, find_checkpoint  # noqa: E402
from worldflux.training.optim import build_optimizer  # noqa: E402
from worldflux.training.update import groups_of, make_update  # noqa: E402

FOLDER = Path(__file__).parent / "adversarial_family"
SPEC = importlib.util.spec_from_file_location("worldflux_adversarial_family", FOLDER / "plugin.py")
FAMILY = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(FAMILY)
PARTS = {"tokenizer": "observation_encoder.", "generator": "dynamics_model.", "critic": "critic."}


def made(kind=FAMILY.Model):
    return kind(WorldModelConfig(model_type="adversarial-family", obs_shape=(6,), action_dim=3, learning_rate=1e-2))


def options(**changes) -> TrainingConfig:
    given = {"device": "cpu", "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "grad_clip": 0.0}
    return TrainingConfig(**{**given, "batch_size": 4, "sequence_length": 5, "warmup_steps": 0, **changes})


def update(model, *batches, ready=lambda step: None, **changes):
    """One update of a model, by plain gradient descent if nothing else is said."""
    config, remaining = options(gradient_accumulation_steps=len(batches), **changes), iter(batches)
    optimizer = build_optimizer(model, config)
    return make_update(model, optimizer, lambda: next(remaining), config=config, groups=groups_of(model), ready=ready)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def moved(before, after) -> set[str]:
    """The groups whose parameters differ."""
    names = {name for name in before if not torch.equal(before[name], after[name])}
    return {group for group, prefix in PARTS.items() if any(name.startswith(prefix) for name in names)}


class Sequences:
    """The same sequences for every request of the same number."""

    def __init__(self, model) -> None:
        self.model, self.count = model, 0

    def sample(self, request):
        self.count += 1
        return tiny_batch(self.model, batch_size=request.batch_size, seq_len=request.seq_len, seed=self.count)

    def state_dict(self):
        return {}, {"count": self.count}

    def load_state_dict(self, arrays, meta) -> None:
        self.count = meta["count"]


def test_each_step_moves_its_group_alone_and_in_order():
    model, seen = made(), []
    update(model, tiny_batch(model), ready=lambda step: seen.append((step.losses[0][1].group, weights(model))))
    assert [group for group, _ in seen] == list(FAMILY.GROUPS)
    states = [state for _, state in seen] + [weights(model)]
    assert [moved(before, after) for before, after in zip(states, states[1:])] == [{name} for name in FAMILY.GROUPS]


def test_a_step_has_gradients_of_its_group_alone():
    model, seen = made(), []

    def look(step) -> None:
        seen.append({name for name, value in model.named_parameters() if value.grad is not None})

    update(model, tiny_batch(model), ready=look)
    assert seen == [{n for n, _ in model.named_parameters() if n.startswith(p)} for p in PARTS.values()]


def test_a_later_step_sees_the_weights_that_an_earlier_one_moved():
    model, other = made(), made()
    batch = tiny_batch(model)
    steps = update(model, batch)
    other.observation_encoder.load_state_dict(model.observation_encoder.state_dict())  # as it was for the second step
    expected = other.generator_loss(other.checked(batch), other.tokens(other.checked(batch)).detach())
    assert torch.equal(steps[1].losses[0][1].loss, expected.loss)
    other.dynamics_model.load_state_dict(model.dynamics_model.state_dict())  # and for the third
    expected = other.critic_loss(other.checked(batch), other.tokens(other.checked(batch)).detach())
    assert torch.equal(steps[2].losses[0][1].loss, expected.loss)
    assert not torch.equal(steps[1].losses[0][1].loss, made().loss(batch).components["near"])


def test_two_micro_batches_are_one_batch_of_both():
    small, large = made(), made()
    whole = tiny_batch(large, batch_size=8)
    halves = [whole.map(lambda value, part=part: value[part]) for part in (slice(4), slice(4, 8))]
    steps = update(small, *halves)
    update(large, whole)
    assert [len(step.losses) for step in steps] == [2, 2, 2]
    for name, value in weights(small).items():
        assert torch.allclose(value, weights(large)[name], atol=1e-6), name
    assert moved(weights(made()), weights(small)) == set(FAMILY.GROUPS)


def test_each_step_is_clipped_by_its_own_norm():
    model, norms = made(), []

    def measure(step) -> None:
        grads = [value.grad for value in model.parameters() if value.grad is not None]
        norms.append((float(step.norm), float(torch.nn.utils.get_total_norm(grads))))

    update(model, tiny_batch(model), ready=measure, grad_clip=1e-3)
    assert len(norms) == 3 and all(before > 1e-3 for before, _ in norms)
    assert [after for _, after in norms] == pytest.approx([1e-3] * 3, rel=1e-2)


def test_mixed_precision_computes_every_step_in_bfloat16():
    model, dtypes = made(), []
    for name in ("observation_encoder.back", "dynamics_model.linear"):
        model.get_submodule(name).register_forward_hook(lambda module, given, out: dtypes.append(out.dtype))
    before = weights(model)
    update(model, tiny_batch(model), mixed_precision=True)
    assert len(dtypes) >= 2 and set(dtypes) == {torch.bfloat16}
    assert moved(before, weights(model)) == set(FAMILY.GROUPS)
    assert all(value.dtype is torch.float32 for value in model.parameters())


@pytest.mark.parametrize("accumulated", [1, 2])
def test_going_on_from_a_checkpoint_is_exact(tmp_path, accumulated):
    runs = {"whole": tmp_path / "whole", "broken": tmp_path / "broken"}

    def train(run, steps, **resumed):
        config = options(
            optimizer="adamw", total_steps=6, save_interval=3, output_dir=str(runs[run]),
            gradient_accumulation_steps=accumulated,
        )  # fmt: skip
        model = made()
        Trainer(model, config).train(Sequences(model), num_steps=steps, **resumed)
        return weights(model)

    whole = train("whole", 6)
    train("broken", 3)
    resumed = train("broken", 6, resume_from=find_checkpoint(runs["broken"]))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_second_step_that_is_not_finite_is_named_and_moves_nothing(tmp_path):
    class Breaking(FAMILY.Model):
        def generator_loss(self, batch, tokens):
            out = super().generator_loss(batch, tokens)
            return type(out)(out.loss * torch.nan, {**out.components, "near": out.components["near"] * torch.nan},
                             group=out.group)  # fmt: skip

    model = made(Breaking)
    before = weights(model)
    with pytest.raises(TrainingError, match="loss 'near' is not finite at step 0; the batch and the parameters are"):
        Trainer(model, options(output_dir=str(tmp_path))).train(Sequences(model))
    assert json.loads((tmp_path / "diagnosis.json").read_text())["first"] == "near"
    assert moved(before, weights(model)) == {"tokenizer"}


def test_it_keeps_every_rule_of_the_kit(make_plugin_dist):
    texts = {"code": "plugin.py", "manifest": "worldflux.toml"}
    make_plugin_dist("adversarial-family", **{name: (FOLDER / file).read_text() for name, file in texts.items()})
    failed = {result.check: result.message for result in run_checks("adversarial-family") if result.outcome == "failed"}
    assert failed == {}
