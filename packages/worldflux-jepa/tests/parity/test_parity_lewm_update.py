"""LeWM's training: losses, gradients, and two steps with the buffers of batch norms.

The trainer's own functions build the optimizer, clip and step: it is what users train with that agrees.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from worldflux import Batch
from worldflux.training import TrainingConfig
from worldflux.training.optim import build_optimizer
from worldflux.training.update import Step, groups_of, make_update
from worldflux_jepa.jepa.official import load, official_names

RECORDED = "jepa_lewm"
NEAR = 5e-5


class Run:
    """Updates of the recorded model on the recorded batch, with the recorded directions."""

    def __init__(self, recording) -> None:
        config, optimizer = recording.meta["config"], recording.meta["optimizer"]
        predictor = {k: v for k, v in config["predictor"].items() if k in ("heads", "dim_head", "dropout")}
        settings = {
            "encoder": {"num_attention_heads": config["encoder"]["num_attention_heads"]},
            "predictor": predictor,
            "sigreg_weight": config["sigreg"]["weight"],
            "directions": config["sigreg"]["num_proj"],
            "knots": config["sigreg"]["knots"],
            "image_mean": [0.0],
            "image_std": [1 / 255],
        }
        self.recording, self.model = recording, load(recording.below("weights/"), settings).train()
        directions = recording["sigreg/directions"].unsqueeze(0)
        self.model.objective.noise = lambda *shape, **others: {"directions": directions}
        self.rates, self.number = optimizer["lr_per_step"], 0
        self.config = TrainingConfig(
            learning_rate=self.rates[0],
            weight_decay=optimizer["weight_decay"],
            grad_clip=optimizer["grad_clip_norm"],
            optimizer=optimizer["name"].lower(),
        )
        self.optimizer = build_optimizer(self.model, self.config)
        self.official = {own: official for official, own in official_names(self.model).items()}

    @property
    def batch(self) -> Batch:
        return Batch(obs={"obs": self.recording["pixels"]}, actions=self.recording["action"].nan_to_num(0.0))

    def update(self, ready: Callable[[Step], None] = lambda step: None) -> Step:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[self.number]
        (step,) = make_update(
            self.model,
            self.optimizer,
            lambda: self.batch,
            config=self.config,
            groups=groups_of(self.model),
            ready=ready,
        )
        self.model.on_after_optimizer_step()
        self.number += 1
        return step

    def as_recorded(self, own: str, value: Tensor, like: Tensor) -> Tensor:
        """A weight or gradient in the official layout."""
        return value.reshape(like.shape)

    def exempt(self, own: str) -> bool:
        return self.official[own] in self.recording.meta["zero_gradient_elements"]


@pytest.fixture
def run(recording) -> Run:
    return Run(recording)


def test_the_losses(run, agrees):
    out = run.model.loss(run.batch)
    agrees(out.components["prediction"], run.recording["pred_loss"], tolerance=NEAR)
    weight = run.recording.meta["config"]["sigreg"]["weight"]
    agrees(out.components["sigreg"] / weight, run.recording["sigreg/value"], tolerance=NEAR)
    agrees(out.loss, run.recording["total_loss"], tolerance=NEAR)
    agrees(out.latents["latent"], run.recording["emb"], tolerance=NEAR)


def test_one_forward_moves_the_running_statistics(run, agrees):
    run.model.loss(run.batch)
    state, recorded = run.model.state_dict(), run.recording.below("buffers_after_forward/")
    names = {official: own for own, official in run.official.items()}
    assert recorded
    for official, value in recorded.items():
        agrees(state[names[official]].float(), value.float(), tolerance=NEAR)


def test_the_gradients(run, agrees):
    recorded, compared = run.recording.below("grads/"), set()

    def compare(step: Step) -> None:
        share = min(1.0, float(run.config.grad_clip / (step.norm + 1e-6)))  # they are clipped
        for own, parameter in run.model.named_parameters():
            wanted = recorded[run.official[own]] * share
            agrees(run.as_recorded(own, parameter.grad, wanted), wanted, tolerance=1e-4)
            compared.add(run.official[own])

    run.update(compare)
    assert compared == set(recorded)


def test_two_train_steps(run, agrees):
    recording = run.recording
    for number, tolerance in enumerate((1e-4, 2e-4)):
        step = run.update()
        (_, out), *_ = step.losses
        agrees(out.loss, recording[f"train/loss{number}"], tolerance=NEAR)
        agrees(out.components["prediction"], recording[f"train/pred_loss{number}"], tolerance=NEAR)
        agrees(step.norm, recording[f"train/grad_norm{number}"], tolerance=1e-4)
        after = recording.below(f"weights_after{number + 1}/")
        state = run.model.state_dict()
        assert set(after) == set(run.official.values())
        for own, official in run.official.items():
            got = run.as_recorded(own, state[own].float(), after[official])
            if run.exempt(own):
                apart = (got - after[official]).abs().max()  # both may step by the rate, either way
                assert apart <= 2 * sum(run.rates[: number + 1]), own
            else:
                follows = official.endswith("net.1.running_mean") and number
                agrees(got, after[official].float(), tolerance=max(tolerance, 1e-3 if follows else 0.0))
