"""V-JEPA 2-AC gives the numbers of the official program: attention, losses, gradients, updates, poses, plans."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from worldflux import State, import_weights
from worldflux.planners import GoalObjective, Noise, Problem
from worldflux_jepa.vjepa2_ac import VJEPA2AC, ArmPlanner, pose
from worldflux_jepa.vjepa2_ac.losses import unrolled
from worldflux_jepa.vjepa2_ac.window import Frames, fresh

RECORDED = "vjepa2_ac"
POSES, GRADIENT, AFTER, PLAN = 1e-5, 1e-4, {1: 5e-5, 2: 1e-4}, 1e-4
PARTS = {"encoder": "observation_encoder", "predictor": "dynamics_model"}


def settings(recording, **more):
    told = recording.meta["config"]
    encoder, predictor = told["encoder"], told["predictor"]
    return {
        "img_size": encoder["img_size"],
        "num_heads": encoder["num_heads"],
        "predictor_heads": predictor["num_heads"],
        "window": predictor["max_time_steps"],
        "auto_steps": told["auto_steps"],
        "loss_exp": told["loss_exp"],
        "use_extrinsics": predictor["use_extrinsics"],
        **more,
    }


def build(recording, **more) -> VJEPA2AC:
    weights = {part: recording.below(f"weights/{part}/") for part in PARTS}
    return import_weights(weights, importer="official-vjepa2-ac", config=settings(recording, **more))


@pytest.fixture
def model(recording) -> VJEPA2AC:
    return build(recording).train()


def normalised(frames, model):
    """Frames of normalised pixels ``[B, C, H, W]`` as the model encodes them."""
    clip = frames.unsqueeze(1).expand(-1, model.config.tubelet_size, -1, -1, -1)
    tokens = model.observation_encoder.tokens(clip)
    return tokens, F.layer_norm(tokens, tokens.shape[-1:], eps=model.config.latent_eps)


def clips(recording, model, frames=None):
    """The recorded clip without its last frame, as it is learned from, and what follows each frame."""
    h = recording["h"].unflatten(1, (-1, model.config.grid[0] * model.config.grid[1]))
    actions, states = recording["actions"], recording["states"]
    steps = h.shape[1] - 1 if frames is None else frames
    given = {"pose": states[:, :steps], "extrinsics": recording["extrinsics"][:, :steps]}
    vectors = {name: given[name] for name in model.config.vectors}
    begun = torch.zeros(len(h), steps, dtype=torch.int64)
    return Frames(h[:, :steps], actions[:, :steps], vectors, begun), h[:, 1 : steps + 1]


def test_frames_are_encoded_one_by_one(recording, model, agrees):
    video = recording["clips"].transpose(1, 2)
    tokens, h = normalised(video.flatten(0, 1), model)
    agrees(tokens.unflatten(0, video.shape[:2]).flatten(1, 2), recording["enc"])
    agrees(h.unflatten(0, video.shape[:2]).flatten(1, 2), recording["h"])


def test_pixels_reach_the_encoder_as_its_own_preprocessing_says(recording, model):
    image = torch.randint(0, 256, (2, *model.config.obs_shape), dtype=torch.uint8)
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    _, h = normalised((image / 255 - mean) / std, model)
    state = model.encode({"image": image, **{n: torch.zeros(2, s.shape[0]) for n, s in specs(model).items()}})
    assert torch.allclose(state["latent"], h, atol=1e-5)


def specs(model):
    return {name: spec for name, spec in model.config.modalities.items() if name in model.config.vectors}


def test_the_mask(recording, model):
    mask = recording["attn_mask"].bool()
    frames = len(mask) // (model.dynamics_model.others + model.config.grid[0] * model.config.grid[1])
    assert torch.equal(model.dynamics_model.seen(torch.ones(frames, frames).tril().bool()), mask)


def test_the_first_block(recording, model, agrees):
    frames, _ = clips(recording, model)
    predictor = model.dynamics_model
    x, rotation, mask = predictor.embed(frames), predictor.rotation(frames.place), predictor.seen(frames.seen)
    block = predictor.predictor_blocks[0]
    agrees(x, recording["block0_in"])
    agrees(block.attn(block.norm1(x), rotation, mask), recording["block0_attn"])
    agrees(block(x, rotation, mask), recording["block0_out"])


def test_the_eps_of_the_blocks(recording, model, agrees):
    x, predictor = recording["eps_probe_in"], model.dynamics_model
    frames = x.shape[1] // (predictor.others + model.config.grid[0] * model.config.grid[1])
    seen = predictor.seen(torch.ones(frames, frames).tril().bool())
    out = predictor.predictor_blocks[0](x, predictor.rotation(torch.arange(frames)), seen)
    agrees(out, recording["eps_probe_out"], tolerance=1e-4)


def test_teacher_forced_predictions_rollouts_and_losses(recording, model, agrees):
    frames, seen = clips(recording, model)
    agrees(model.dynamics_model.ahead(frames).flatten(1, 2), recording["z_raw"])
    forced = model.predicted(frames)
    agrees(forced.flatten(1, 2), recording["z_tf"])
    rolled = unrolled(model.predicted, frames, forced, steps=model.config.auto_steps)
    agrees(rolled.flatten(1, 2), recording["z_ar"])
    out = model.clip_loss(frames, seen, torch.ones(seen.shape[:2]))
    agrees(out.components["teacher_forced"], recording["loss_tf"])
    agrees(out.components["rollout"], recording["loss_ar"])


def test_patches_before_their_projection(recording, model, agrees):
    frames, _ = clips(recording, model)
    found = []
    hook = model.dynamics_model.predictor_norm.register_forward_hook(lambda _, given, out: found.append(out))
    model.dynamics_model.ahead(frames)
    hook.remove()
    agrees(found[0].flatten(1, 2), recording["norm"])


def test_gradients(recording, model, agrees):
    frames, seen = clips(recording, model)
    model.clip_loss(frames, seen, torch.ones(seen.shape[:2])).loss.backward()
    found = {f"predictor/{name}": p.grad for name, p in model.dynamics_model.named_parameters()}
    without = {name.removeprefix("predictor/") for name, value in found.items() if value is None}
    assert without == set(recording.meta["params_without_gradient"])
    for name, value in recording.below("grads/").items():
        agrees(found[name], value, tolerance=GRADIENT)


def test_two_whole_updates(recording, model, agrees):
    frames, seen = clips(recording, model)
    told, loose = recording.meta["optimizer"], recording.meta["zero_gradient_elements"]
    groups = model.parameter_groups()
    optimizer = torch.optim.AdamW(groups, betas=tuple(told["betas"]), eps=told["eps"], weight_decay=1.0)
    rates = told["lr_per_step"]
    for step, (rate, decay) in enumerate(zip(rates, told["weight_decay_per_step"], strict=True)):
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = rate, decay if group["weight_decay"] else 0.0
        out = model.clip_loss(frames, seen, torch.ones(seen.shape[:2]))
        agrees(out.loss, recording[f"train/loss{step}"])
        agrees(out.components["teacher_forced"], recording[f"train/loss_tf{step}"])
        agrees(out.components["rollout"], recording[f"train/loss_ar{step}"])
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        held = model.dynamics_model.state_dict()
        wanted = recording.below(f"weights_after{step + 1}/predictor/")
        assert wanted
        for name, value in wanted.items():
            got, value = held[name].clone().flatten(), value.flatten()
            free = loose.get(f"predictor/{name}", [])
            # their gradient is zero but for noise, of which Adam makes whole steps
            assert (got[free] - value[free]).abs().le(sum(rates[: step + 1]) + 1e-6).all()
            got[free] = value[free]
            agrees(got, value, tolerance=AFTER[step + 1])


def test_with_the_camera(recording, agrees):
    model, recorded = build(recording, use_extrinsics=True), recording["ext/out"]
    frames, _ = clips(recording, model, recorded.shape[1] // (model.config.grid[0] * model.config.grid[1]))
    agrees(model.dynamics_model.ahead(frames).flatten(1, 2), recorded)


def test_pictures_that_are_no_squares(recording, agrees):
    x, side = recording["rect/x"], recording.meta["config"]["encoder"]["img_size"]
    rows = (side if isinstance(side, int) else side[0]) // recording.meta["config"]["encoder"]["patch_size"]
    steps = next(s for s in range(2, x.shape[1]) if x.shape[1] % (s * rows) == 0 and x.shape[1] // (s * rows) != rows)
    patch = recording.meta["config"]["encoder"]["patch_size"]
    size = (rows * patch, x.shape[1] // (steps * rows) * patch)
    model = build(recording, img_size=size)
    h = x.unflatten(1, (steps, -1))
    vectors = {"pose": recording["states"][: len(x), :steps]}
    begun = torch.zeros(len(x), steps, dtype=torch.int64)
    frames = Frames(h, recording["actions"][: len(x), :steps], vectors, begun)
    agrees(model.dynamics_model.ahead(frames).flatten(1, 2), recording["rect/out"])


def test_poses(recording, agrees):
    agrees(pose.moved(recording["pose/pose"], recording["pose/action"]), recording["pose/new_pose"], tolerance=POSES)
    between = pose.actions_between(recording["pose/seq"])
    agrees(between, recording["pose/seq_actions"], tolerance=POSES)
    agrees(between[0], recording["pose/pair_diff"], tolerance=POSES)
    seen = pose.seen_from(recording["pose/extrinsics"], recording["pose/seq"])
    agrees(seen, recording["pose/camera_frame"], tolerance=POSES)


PLANS = ("plan", "planb")


def planner_of(recording, name) -> ArmPlanner:
    told = recording.meta["plan_args"][name]
    held = tuple(told.get("axis", {}).get(str(axis)) for axis in range(3))
    return ArmPlanner(
        horizon=told["rollout"],
        num_samples=told["samples"],
        num_elites=told["topk"],
        iterations=told["cem_steps"],
        momentum=told["momentum_mean"],
        momentum_std=told["momentum_std"],
        momentum_grip=told.get("momentum_mean_gripper", 0.15),
        momentum_grip_std=told.get("momentum_std_gripper", 0.15),
        reach=told["maxnorm"],
        held=held,
        close_from=told.get("close_gripper"),
    )


def planning(recording, name, model):
    """The problem, the planner and its noise."""
    latents = {which: recording[f"{name}/z_{which}"] for which in ("context", "goal")}
    here = recording[f"{name}/pose"][:, 0]
    sizes = {"window": model.config.window, "action_dim": model.config.action_dim}
    state = fresh(latents["context"], {"pose": here}, **sizes)
    problem = Problem.of(model, state, GoalObjective(State({"latent": latents["goal"]}), key="latent"))
    samples = [noise.transpose(0, 1).unsqueeze(0) for noise in recording[f"{name}/noise"]]
    return problem, planner_of(recording, name), Noise(samples, torch.zeros(1, 7), [{} for _ in samples])


@pytest.mark.parametrize("name", PLANS)
def test_what_is_planned_from_and_to(recording, model, agrees, name):
    _, h = normalised(recording[f"{name}/images"], model)
    agrees(h[:1], recording[f"{name}/z_context"])
    agrees(h[1:], recording[f"{name}/z_goal"])


@pytest.mark.parametrize("name", PLANS)
def test_each_iteration_of_a_plan(recording, model, agrees, name):
    problem, planner, noise = planning(recording, name, model.eval())
    score, recorded = problem.scorer(planner.num_samples), recording
    mean, std = planner.begin(noise.samples[0][:, 0])
    for i, samples in enumerate(noise.samples):
        candidates = planner.candidates(mean, std, samples)
        agrees(candidates[0], recorded[f"{name}/actions"][i], tolerance=PLAN)
        scores = score(candidates, {}).detach()
        agrees(-scores[0], recorded[f"{name}/cost"][i], tolerance=PLAN)
        best = scores.topk(planner.num_elites, 1).indices[0]
        assert set(best.tolist()) == set(recorded[f"{name}/elite_idx"][i].tolist())
        mean, std = planner.refit(mean, std, candidates[:, best])
        agrees(mean[0], recorded[f"{name}/mean"][i], tolerance=PLAN)
        agrees(std[0], recorded[f"{name}/std"][i], tolerance=PLAN)


@pytest.mark.parametrize("name", PLANS)
def test_frames_that_candidates_lead_to(recording, model, agrees, name):
    problem, _, _ = planning(recording, name, model.eval())
    frames = recording[f"{name}/frames_it0"]
    actions = recording[f"{name}/actions"][0][: len(frames)].transpose(0, 1)
    state, _ = problem.repeated(len(frames))
    trajectory = model.rollout(state, actions, deterministic=True)
    agrees(trajectory.to_tensor("latent")[1:].transpose(0, 1), frames)


@pytest.mark.parametrize("name", PLANS)
def test_the_whole_plan(recording, model, agrees, name):
    problem, planner, noise = planning(recording, name, model.eval())
    agrees(planner.search(problem, noise, {}).actions[:, 0], recording[f"{name}/action"], tolerance=PLAN)


def test_the_recorded_checkpoint_is_the_recorded_weights(recording):
    file = recording.folder / f"{recording.name.replace('vjepa2_ac', 'vjepa2_ckpt_ac')}.pt"
    if not file.is_file():
        pytest.skip(f"there is no {file.name} beside the recording")
    held = import_weights(file, importer="official-vjepa2-ac", config=settings(recording)).state_dict()
    for part, own in PARTS.items():
        weights = recording.below(f"weights/{part}/")
        assert weights
        assert all(torch.equal(held[f"{own}.{name}"], value) for name, value in weights.items())
