"""Parts with faces bring what they are asked for; parts that only predict are judged by one shared default."""

import math

import pytest
import torch
from torch import nn

from worldflux.blocks import decoder_losses
from worldflux.core.components import arrival
from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.spec import ModalityKind, ModalitySpec
from worldflux.core.state import State

VECTOR, IMAGE = ModalitySpec("vector", (2,)), ModalitySpec("image", (1, 2, 2), "uint8")
MODALITIES = {"pose": VECTOR, "view": IMAGE}


class Predicts:
    """Says of every state what it was made with, and notes how it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def decode(self, state, conditions=None):
        self.asked.append(tuple(state["z"].shape))
        rows = state["z"][:, 0]
        return {name: value(rows) for name, value in self.answers.items()}


def rows_of(*event, scale=1.0):
    """An answer that is the state's first number, everywhere."""
    return lambda rows: (rows * scale).reshape(-1, *[1] * len(event)).expand(-1, *event)


def states(a=2, b=3):
    return State({"z": torch.arange(float(a * b)).reshape(a, b, 1)})


def symlog(x):
    return math.copysign(math.log1p(abs(x)), x)


def losses(part, targets, state=None):
    return decoder_losses(part, states() if state is None else state, targets, modalities=MODALITIES)


# --- arrival ---------------------------------------------------------------------------------------


def test_a_part_that_tells_what_arriving_pays_is_asked_for_that_alone():
    class Pays(Predicts):
        def arrival(self, state):
            return {"reward": state["z"][..., 0] * 2}

    part = Pays()
    assert torch.equal(arrival(part, states())["reward"], states()["z"][..., 0] * 2)
    assert part.asked == []


@pytest.mark.parametrize("event", [(), (1,)])
def test_another_part_decodes_all_states_at_once_in_their_order(event):
    part = Predicts(reward=rows_of(*event), obs=rows_of(2))
    paid = arrival(part, states(2, 3))
    assert part.asked == [(6, 1)]
    assert list(paid) == ["reward"]
    assert torch.equal(paid["reward"], torch.arange(6.0).reshape(2, 3))


def test_reward_and_continue_come_as_far_as_they_are_predicted():
    assert arrival(Predicts(obs=rows_of(2)), states()) == {}
    both = arrival(Predicts(reward=rows_of(), **{"continue": rows_of(scale=0.1)}), states())
    assert {name: tuple(value.shape) for name, value in both.items()} == {"reward": (2, 3), "continue": (2, 3)}


def test_a_wrapper_that_passes_attributes_on_has_the_faces_of_what_it_wraps():
    class Pays(Predicts):
        def arrival(self, state):
            return {"reward": state["z"][..., 0]}

        def losses(self, state, targets):
            return {"rew": targets["reward"] + 1}

    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            object.__setattr__(self, "inner", inner)

        def __getattr__(self, name):
            return getattr(self.inner, name)

    for part in (Pays(), Wrapper(Pays()), type("Sub", (Pays,), {})()):
        assert torch.equal(arrival(part, states())["reward"], states()["z"][..., 0])
        assert torch.equal(losses(part, {"reward": torch.ones(2, 3)})["rew"], torch.full((2, 3), 2.0))


# --- losses ----------------------------------------------------------------------------------------


def test_a_part_brings_its_own_losses():
    class Own(Predicts):
        def losses(self, state, targets):
            return {"pose": state["z"][..., 0] + targets["pose"].sum(-1)}

    part = Own()
    found = losses(part, {"pose": torch.ones(2, 3, 2)})
    assert torch.equal(found["pose"], torch.arange(6.0).reshape(2, 3) + 2)
    assert part.asked == []


def test_vectors_are_judged_by_squared_symlog_errors_summed_over_their_axes():
    target = torch.full((2, 3, 2), 5.0)
    target[1, 2] = torch.tensor([-5.0, 9.0])
    found = losses(Predicts(pose=rows_of(2)), {"pose": target})
    assert found["pose"].shape == (2, 3)
    assert found["pose"][0, 1].item() == pytest.approx(2 * (symlog(1) - symlog(5)) ** 2)
    by_hand = (symlog(5) - symlog(-5)) ** 2 + (symlog(5) - symlog(9)) ** 2
    assert found["pose"][1, 2].item() == pytest.approx(by_hand)


@pytest.mark.parametrize("event", [(), (1,)])
def test_rewards_are_judged_by_squared_symlog_errors(event):
    found = losses(Predicts(reward=rows_of(*event)), {"reward": torch.full((2, 3), -2.0)})
    assert list(found) == ["rew"]
    assert found["rew"][1, 1].item() == pytest.approx((symlog(4) - symlog(-2)) ** 2)


def test_images_are_judged_by_squared_errors_between_0_and_1():
    stored = torch.full((2, 3, 1, 2, 2), 51, dtype=torch.uint8)
    found = losses(Predicts(view=rows_of(1, 2, 2, scale=0.1)), {"view": stored})
    assert found["view"][1, 2].item() == pytest.approx(4 * (0.5 - 51 / 255) ** 2)
    floats = losses(Predicts(view=rows_of(1, 2, 2, scale=0.1)), {"view": stored / 255})
    torch.testing.assert_close(found["view"], floats["view"])


@pytest.mark.parametrize(("chance", "target"), [(0.25, 1.0), (0.25, 0.0), (0.25, 0.995), (0.0, 1.0), (1.0, 0.0)])
def test_going_on_is_judged_by_cross_entropy(chance, target):
    part = Predicts(**{"continue": lambda rows: torch.full_like(rows, chance)})
    found = losses(part, {"continue": torch.full((2, 3), target)})
    assert list(found) == ["con"]
    p = min(max(chance, 1e-6), 1 - 1e-6)
    by_hand = -(target * math.log(p) + (1 - target) * math.log(1 - p))
    assert found["con"][0, 0].item() == pytest.approx(by_hand, rel=0.05 if chance in (0, 1) else 1e-5)


def test_booleans_and_integers_are_judged_as_numbers():
    for dtype in (torch.bool, torch.int64):
        found = losses(Predicts(pose=rows_of(2)), {"pose": torch.ones(2, 3, 2, dtype=dtype)})
        assert found["pose"][0, 0].item() == pytest.approx(2 * symlog(1) ** 2)


def test_losses_of_everything_come_by_name():
    part = Predicts(pose=rows_of(2), view=rows_of(1, 2, 2), reward=rows_of(), **{"continue": rows_of(scale=0.1)})
    targets = {
        "pose": torch.zeros(2, 3, 2),
        "view": torch.zeros(2, 3, 1, 2, 2, dtype=torch.uint8),
        "reward": torch.zeros(2, 3),
        "continue": torch.ones(2, 3),
    }
    found = losses(part, targets)
    assert {name: tuple(value.shape) for name, value in found.items()} == dict.fromkeys(
        ("pose", "view", "rew", "con"), (2, 3)
    )
    assert part.asked == [(6, 1)]


def test_what_is_not_to_be_learned_is_not_judged():
    assert list(losses(Predicts(pose=rows_of(2), reward=rows_of()), {"reward": torch.zeros(2, 3)})) == ["rew"]


def test_a_prediction_that_is_missing_is_named():
    targets = {"pose": torch.zeros(2, 3, 2), "reward": torch.zeros(2, 3), "continue": torch.ones(2, 3)}
    with pytest.raises(ConfigurationError, match=r"predicts \['pose'\]; training needs \['continue', 'reward'\], too"):
        losses(Predicts(pose=rows_of(2)), targets)


@pytest.mark.parametrize(
    ("name", "answer", "target"),
    [
        ("pose", rows_of(3), torch.zeros(2, 3, 2)),
        ("view", rows_of(2, 2, 1), torch.zeros(2, 3, 1, 2, 2)),  # as many numbers, but channels last
        ("pose", rows_of(1), torch.zeros(2, 3, 2)),
        ("reward", rows_of(2), torch.zeros(2, 3)),
    ],
)
def test_a_prediction_of_another_shape_is_named(name, answer, target):
    with pytest.raises(ShapeMismatchError, match=f"the decoder's '{name}'"):
        losses(Predicts(**{name: answer}), {name: target})


def test_the_default_is_learned_from():
    layer = nn.Linear(1, 2)
    part = Predicts(
        pose=lambda rows: layer(rows[:, None]), **{"continue": lambda rows: layer(rows[:, None])[:, 0].sigmoid()}
    )
    found = losses(part, {"pose": torch.ones(2, 3, 2), "continue": torch.ones(2, 3)})
    for value in found.values():
        layer.zero_grad()
        value.sum().backward(retain_graph=True)
        assert layer.weight.grad.abs().sum() > 0


def test_half_precision_of_a_sure_prediction_is_finite():
    sure = Predicts(**{"continue": lambda rows: torch.ones_like(rows, dtype=torch.bfloat16)})
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(sure, {"continue": torch.zeros(2, 3)})["con"]
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()


def test_an_image_is_told_by_its_kind_not_by_its_shape():
    grid = ModalitySpec(ModalityKind.OTHER, (1, 2, 2))
    part = Predicts(view=rows_of(1, 2, 2))
    found = decoder_losses(part, states(), {"view": torch.zeros(2, 3, 1, 2, 2)}, modalities={"view": grid})
    assert found["view"][1, 2].item() == pytest.approx(4 * symlog(5) ** 2)
