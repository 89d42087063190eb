"""DreamerV3 under the contract of every world model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import worldflux
from worldflux import Batch, ShapeMismatchError, ValidationError
from worldflux_dreamer import DreamerV3, DreamerV3Config

SIZES = {
    "deter_dim": 16, "hidden_dim": 8, "stoch": 4, "classes": 4, "blocks": 2, "units": 12, "depth": 2,
    "decoder_blocks": 2, "imagination": 3,
}  # fmt: skip
MIXED = {"image": {"shape": (3, 32, 32)}, "speed": {"shape": (2,)}, "grid": {"shape": (3, 3)}}


def build(**options) -> DreamerV3:
    return DreamerV3(DreamerV3Config(**{**SIZES, "obs_shape": (5,), "action_dim": 2, **options})).eval()


def make_batch(model: DreamerV3, size: int = 2, rows: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    obs = {}
    for name, spec in model.config.modalities.items():
        noise = torch.rand(size, rows, *spec.shape, generator=generator)
        obs[name] = (noise * 255).to(torch.uint8) if spec.kind == "image" else noise
    return Batch(
        obs=obs,
        actions=torch.rand(size, rows, model.config.actions.dim, generator=generator),
        rewards=torch.randn(size, rows, generator=generator),
        is_first=torch.zeros(size, rows, dtype=torch.bool),
        is_last=torch.zeros(size, rows, dtype=torch.bool),
        is_terminal=torch.zeros(size, rows, dtype=torch.bool),
    )


def observations(model: DreamerV3, size: int = 3) -> dict[str, Tensor]:
    return {name: value[:, 0] for name, value in make_batch(model, size).obs.items()}


def shaken(model: DreamerV3) -> DreamerV3:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def test_states_and_predictions_are_what_the_contract_says():
    model = build(observation_modalities=MIXED)
    state = model.encode(observations(model))
    model.validate_state_contract(state)
    assert {n: tuple(v.shape) for n, v in state.tensors.items()} == {"deter": (3, 16), "stoch": (3, 4, 4)}
    assert torch.equal(state["stoch"].sum(-1), torch.ones(3, 4))
    preds = model.decode(state).preds
    assert {n: tuple(v.shape) for n, v in preds.items()} == {
        "image": (3, 3, 32, 32), "speed": (3, 2), "grid": (3, 3, 3), "reward": (3,), "continue": (3,),
    }  # fmt: skip
    assert ((preds["image"] >= 0) & (preds["image"] <= 1)).all()
    assert ((preds["continue"] >= 0) & (preds["continue"] <= 1)).all()
    model.io_contract().validate()


def test_a_rollout_predicts_rewards_and_continues_of_arriving():
    model = build()
    with torch.no_grad():
        for parameter in model.decoder.reward.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    start = model.encode(observations(model))
    imagined = model.rollout(start, torch.rand(4, 3, 2), deterministic=True)
    assert len(imagined) == 5
    state = start
    for h in range(4):
        state = model.transition(state, imagined.actions[h], deterministic=True)
        preds = model.decode(state).preds
        torch.testing.assert_close(imagined.rewards[h], preds["reward"], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(imagined.continues[h], preds["continue"])
    assert model.rollout(start, None).horizon == 0


def test_determinism_and_seeds():
    model = build()
    obs, before = observations(model), torch.random.get_rng_state()

    def path(deterministic: bool) -> Tensor:
        state = model.encode(obs, deterministic=deterministic)
        state = model.update(state, torch.ones(3, 2), obs, deterministic=deterministic)
        return model.rollout(state, torch.ones(9, 3, 2), deterministic=deterministic).to_tensor("stoch")

    assert torch.equal(path(True), path(True))
    assert not torch.equal(path(False), path(False))
    model.seed(5)
    first = path(False)
    model.seed(5)
    assert torch.equal(path(False), first)
    batch = make_batch(model)
    model.seed(5)
    loss = model.loss(batch).loss
    model.seed(5)
    assert torch.equal(model.loss(batch).loss, loss)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_deterministic_calls_draw_nothing():
    model = build()
    state, obs = model.encode(observations(model), deterministic=True), observations(model)
    model.update(model.transition(state, torch.ones(3, 2), deterministic=True), torch.ones(3, 2), obs, None, True)
    policy = model.policy()
    policy(obs, policy.initial(3), is_first=torch.ones(3, dtype=torch.bool), explore=False)
    assert model.rng_state() == {}


def test_rows_of_a_batch_do_not_touch_each_other():
    model = build(observation_modalities=MIXED)
    batch = make_batch(model, size=3)
    tokens = model.tokens(batch.obs)
    alone = model.tokens({name: value[1:2] for name, value in batch.obs.items()})
    torch.testing.assert_close(alone, tokens[1:2], rtol=1e-4, atol=1e-5)


def test_a_first_row_forgets_what_came_before():
    model = build()
    batch = make_batch(model)
    batch.is_first[:, 3] = True
    changed = copy.deepcopy(batch)
    changed.obs["obs"][:, :3] += 1
    changed.actions[:, :3] += 1
    model.seed(0)
    one = model.loss(batch).latents["deter"]
    model.seed(0)
    two = model.loss(changed).latents["deter"]
    assert torch.equal(one[:, 2:], two[:, 2:])  # latents begin at row 1
    assert not torch.equal(one[:, :2], two[:, :2])


def test_a_sequence_without_context_begins_as_encode_takes_a_row():
    model = build()
    batch = make_batch(model)
    batch.is_first[:] = False
    changed = copy.deepcopy(batch)
    changed.actions[:, 0] += 1  # of what nobody knows the state
    model.seed(0)
    one = model.loss(batch).latents
    model.seed(0)
    two = model.loss(changed).latents
    assert torch.equal(one["deter"], two["deter"])
    state = model.encode({name: rows[:, 1] for name, rows in batch.obs.items()}, deterministic=True)
    torch.testing.assert_close(one["deter"][:, 0], state["deter"], rtol=1e-4, atol=1e-5)


def test_latents_are_causal():
    model = build()
    batch = make_batch(model)
    changed = copy.deepcopy(batch)
    changed.obs["obs"][:, 4:] += 1
    changed.actions[:, 4:] += 1
    outs = []
    for given in (batch, changed):
        model.seed(0)
        outs.append(model.loss(given).latents["deter"])
    assert torch.equal(outs[0][:, :4], outs[1][:, :4])  # row 4's deter knows rows up to 3, and its action


def test_stored_latents_start_the_sequence():
    model = build()
    batch = make_batch(model)
    model.seed(0)
    cold = model.loss(batch).latents["deter"]
    stoch = torch.randint(4, (2, 6, 4), dtype=torch.uint8)
    batch.context = {"deter": torch.rand(2, 6, 16), "stoch": stoch}
    model.seed(0)
    warm = model.loss(batch).latents["deter"]
    assert not torch.equal(cold[:, 0], warm[:, 0])
    batch.context["stoch"] = torch.nn.functional.one_hot(stoch.long(), 4).float()
    model.seed(0)
    assert torch.equal(model.loss(batch).latents["deter"], warm)
    batch.context["deter"] = torch.rand(2, 6, 15)
    with pytest.raises(ShapeMismatchError, match="deter"):
        model.loss(batch)


def test_evaluating_changes_nothing():
    model = shaken(build())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.loss(make_batch(model))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.train()
    model.loss(make_batch(model))
    assert not torch.equal(model.return_normalizer.hi, before["return_normalizer.hi"])


def test_masked_rows_teach_nothing():
    model = build(actor_critic=False)
    batch = make_batch(model)
    batch.mask = torch.ones(2, 6)
    batch.mask[1] = 0
    grads = []
    for reward in (0.0, 100.0):
        batch.rewards[1] = reward
        model.zero_grad()
        model.seed(0)
        model.loss(batch).loss.backward()
        grads.append(model.decoder.reward.out.kernel.grad.clone())
    assert torch.equal(*grads)
    assert grads[0].abs().max() > 0


def test_the_loss_falls_on_one_batch_and_every_parameter_learns():
    model = build(observation_modalities=MIXED, learning_rate=1e-3, warmup=0).train()
    batch = make_batch(model)
    batch.obs["image"][:] = 200
    model.seed(0)
    optimizer = model.configure_optimizer(worldflux.training.TrainingConfig(learning_rate=3e-3))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    totals = []
    for _ in range(30):
        optimizer.zero_grad()
        out = model.loss(batch)
        out.loss.backward()
        optimizer.step()
        model.on_after_optimizer_step()
        totals.append(sum(float(out.components[name]) for name in ("image", "speed", "grid", "rew", "con")))
    assert totals[-1] < 0.8 * totals[0]
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert still == []


def test_the_slow_critic_follows_the_critic():
    model = build()
    with torch.no_grad():
        model.critic.out.bias.add_(1.0)
    model.on_after_optimizer_step()
    torch.testing.assert_close(model.slow_critic.out.bias, torch.full((255,), 0.02))


def test_weight_decay_is_for_kernels():
    kernels, others = build().parameter_groups()
    assert all(p.ndim >= 2 for p in kernels["params"])
    assert all(p.ndim == 1 for p in others["params"])
    assert others["weight_decay"] == 0


def test_a_saved_model_is_the_same_model(tmp_path):
    model = build(observation_modalities=MIXED)
    model.return_normalizer.hi.fill_(3.0)
    model.save_pretrained(tmp_path)
    again = worldflux.create_world_model(str(tmp_path))
    assert again.config == model.config
    state = again.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    obs = observations(model)
    assert torch.equal(model.encode(obs, deterministic=True)["deter"], again.encode(obs, deterministic=True)["deter"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda b: b.obs.update(obs=b.obs["obs"][..., :3]), ShapeMismatchError, "obs"),
        (lambda b: b.obs.update(more=b.obs["obs"]), ValidationError, "unexpected"),
        (lambda b: b.rewards.fill_(float("nan")), ValidationError, "rewards is not finite"),
        (lambda b: setattr(b, "rewards", None), ValidationError, "rewards"),
        (lambda b: setattr(b, "actions", b.actions[..., :1]), ShapeMismatchError, "actions"),
    ],
)
def test_a_broken_batch_is_refused(change, error, message):
    model = build()
    batch = make_batch(model)
    change(batch)
    with pytest.raises(error, match=message):
        model.loss(batch)


def test_a_sequence_needs_a_row_beside_the_first():
    model = build()
    with pytest.raises(ValidationError, match="at least 2 rows"):
        model.loss(make_batch(model, rows=1))
    for rows in (2, 3):
        assert torch.isfinite(model.loss(make_batch(model, rows=rows)).loss)
