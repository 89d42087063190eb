"""DINO-WM: patches with vectors and actions beside them, the frame-causal predictor, its loss, rollouts and goals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worldflux import Batch, State
from worldflux_jepa.jepa import JEPA, JEPAConfig
from worldflux_jepa.jepa.goals import PatchGoal
from worldflux_jepa.jepa.window import Window

RECORDED = "jepa_dinowm"
NAMES = {
    "predictor.pos_embedding": "dynamics_model.positions", "proprio_encoder.patch_embed": "observation_encoder.vectors",
    "action_encoder.patch_embed": "dynamics_model.actions", "predictor.transformer.norm": "dynamics_model.norm",
    "predictor.transformer.layers": "dynamics_model.layers", ".0.norm": ".attention.norm",
    ".0.to_qkv": ".attention.qkv",
    ".0.to_out.0": ".attention.out", ".1.net.0": ".mlp.norm", ".1.net.1": ".mlp.first", ".1.net.4": ".mlp.second",
}  # fmt: skip


def our_name(official: str) -> str:
    layer = official.startswith("predictor.transformer.layers.")
    head, number, rest = official.partition("layers.")[0], "", ""
    if layer:
        number, _, rest = official.removeprefix("predictor.transformer.layers.").partition(".")
        rest = f".{rest}"
    else:
        head = official
    for theirs, ours in NAMES.items():
        head, rest = head.replace(theirs, ours), rest.replace(theirs, ours) if layer else rest
    return f"dynamics_model.layers.{number}{rest}" if layer else head


@pytest.fixture
def model(recording) -> JEPA:
    said, predictor = recording.meta["config"], recording.meta["config"]["predictor"]
    config = JEPAConfig(
        observation_modalities={
            "features": {"shape": (said["num_patches"], said["visual_dim"]), "kind": "other"},
            "proprio": {"shape": (said["proprio_in"],)},
        },
        action_dim=said["action_in"], encoder="features", vector_units=said["proprio_emb"], projector="none",
        latent_dim=said["visual_dim"] + said["proprio_emb"], predictor="concat", history=said["num_hist"],
        action_units=said["action_emb"], depth=predictor["depth"], heads=predictor["heads"],
        head_dim=predictor["dim_head"], mlp_units=predictor["mlp_dim"], dropout=predictor["dropout"], head_units=0,
        target="frozen", regulariser="none", rollout_steps=said["num_pred"],
    )  # fmt: skip
    model = JEPA(config)
    state = model.state_dict()
    for name, value in recording.below("weights/").items():
        state[our_name(name)] = value.reshape(state[our_name(name)].shape)
    assert set(state) == set(model.state_dict())
    model.load_state_dict(state)
    return model.train()


@pytest.fixture
def seen(recording) -> dict[str, Tensor]:
    return {"features": recording["visual"], "proprio": recording["proprio"]}


def test_every_weight_has_its_place(recording, model):
    learnt = {name for name, value in model.named_parameters() if value.requires_grad}
    assert learnt == {our_name(name) for name in recording.below("weights/")}


def test_vectors_and_actions_stand_beside_every_patch(recording, model, seen, agrees):
    latent = model.observation_encoder.encode(seen)["latent"]
    begun = torch.zeros(latent.shape[:2], dtype=torch.int64)
    agrees(model.dynamics_model.joined(Window(latent, recording["action"], begun)), recording["z"])


def test_a_patch_sees_its_own_and_earlier_rows(recording, model, seen):
    latent, count = model.observation_encoder.encode(seen)["latent"], model.config.history
    window = Window(
        latent[:, :count], recording["action"][:, :count], torch.zeros(len(latent), count, dtype=torch.int64)
    )
    mask = window.seen.repeat_interleave(latent.shape[2], 1).repeat_interleave(latent.shape[2], 2)
    assert torch.equal(mask[0], recording["attn_mask"].bool())


def test_the_predictor(recording, model, agrees):
    predictor, z, count = model.dynamics_model, recording["z"], model.config.history
    x = (z[:, :count] + predictor.positions.unflatten(0, (count, -1))).flatten(1, 2)
    mask = recording["attn_mask"].bool().unsqueeze(0)
    agrees(predictor.layers[0].attention(x, mask), recording["layer0_attn"])
    agrees(predictor.everything(x, mask).unflatten(1, (count, -1)), recording["z_pred"])


def test_the_loss_and_its_gradients(recording, model, seen, agrees):
    out = model.loss(Batch(obs=seen, actions=recording["action"]))
    agrees(out.components["prediction"], recording["z_loss"])
    out.loss.backward()
    grads, parameters = recording.below("grads/"), dict(model.named_parameters())
    assert grads
    for name, wanted in grads.items():
        got = parameters[our_name(name)].grad
        agrees((torch.zeros_like(wanted) if got is None else got).reshape(wanted.shape), wanted, tolerance=5e-5)


def test_visual_and_vector_channels_apart(recording, model, seen, agrees):
    latents = model.observation_encoder.encode(seen)["latent"]
    actions = recording["action"]
    (ahead,) = model.rolled_out(latents, actions, torch.zeros(actions.shape[:2], dtype=torch.int64))
    apart, width = (ahead - latents[:, 1:]).square(), recording["visual"].shape[-1]
    agrees(apart[..., :width].mean(), recording["z_visual_loss"])
    agrees(apart[..., width:].mean(), recording["z_proprio_loss"])


@pytest.fixture
def trajectory(recording, model, seen):
    """The rollout from as many given rows as the recording says."""
    actions = recording["rollout/action"]
    rows = recording["rollout/visual"].shape[1]
    given = 1 + next(i for i in range(rows) if not _given(recording, seen, i + 1))
    with torch.no_grad():
        state = model.eval().encode({name: value[:, 0] for name, value in seen.items()})
        for row in range(1, given):
            state = model.update(state, actions[:, row - 1], {name: value[:, row] for name, value in seen.items()})
        return given, model.rollout(state, actions[:, given - 1 :].transpose(0, 1), deterministic=True)


def _given(recording, seen: dict[str, Tensor], row: int) -> bool:
    """Whether a row of the rollout is one that was seen."""
    known = row < seen["features"].shape[1]
    return known and torch.equal(recording["rollout/visual"][:, row], seen["features"][:, row])


def test_a_rollout(recording, trajectory, agrees):
    given, imagined = trajectory
    latents = imagined.to_tensor("latent").transpose(0, 1)
    width = recording["visual"].shape[-1]
    agrees(latents[..., :width], recording["rollout/visual"][:, given - 1 :])
    agrees(latents[:, :, 0, width:], recording["rollout/proprio"][:, given - 1 :])


@pytest.mark.parametrize("over", ["last", "all"])
def test_what_goals_cost(recording, model, trajectory, agrees, over):
    visual, told = recording["goal/visual"][:, 0], recording["goal/proprio"][:, 0]
    goal = torch.cat([visual, told.unsqueeze(1).expand(-1, visual.shape[1], -1)], -1)
    objective = PatchGoal(State({"latent": goal}), vector_units=told.shape[-1], alpha=0.5, over=over)
    agrees(-objective.score(model, trajectory[1], {}), recording[f"cost_{over}"])
