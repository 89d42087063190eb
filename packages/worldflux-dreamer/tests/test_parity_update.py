"""The whole loss, its gradients, and one whole training step give the official numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from worldflux import Batch
from worldflux.blocks import arrivals
from worldflux_dreamer import LaProp
from worldflux_dreamer.dreamerv3.official import official_names
from worldflux_dreamer.dreamerv3.rssm import Noise

MODULES = {
    "enc": ("observation_encoder",), "dyn": ("dynamics_model", "posterior"), "rew": ("decoder.reward",),
    "con": ("decoder.cont",), "pol": ("actor",), "val": ("critic",),
}  # fmt: skip


def gradient_norms(model) -> dict[str, torch.Tensor]:
    """L2 norm of the gradient of each official module, and of all."""
    squares = {name: torch.zeros(()) for name in (*MODULES, "dec", "all")}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            module = next((m for m, ours in MODULES.items() if name.startswith(ours)), "dec")
            for key in (module, "all"):
                squares[key] = squares[key] + parameter.grad.square().sum()
    return {name: square.sqrt() for name, square in squares.items()}


def official_layout(value: torch.Tensor) -> torch.Tensor:
    return value.permute(2, 3, 1, 0) if value.ndim == 4 else value


def own_layout(value: np.ndarray) -> torch.Tensor:
    """The inverse of ``official_layout``."""
    found = torch.from_numpy(value).clone()
    return found.permute(3, 2, 0, 1).contiguous() if found.ndim == 4 else found


@pytest.fixture(params=[True, False], ids=["reference", "fast"])
def reference(request):
    return request.param


def test_total_loss_and_each_part(case, agrees, reference):
    model = case.model()
    model.config.reference = reference
    out = model.loss_given(*case.sequence(), Noise())
    agrees(out.loss, case["total/loss"])
    assert sorted(out.components) == sorted(case.names("total/meanloss/"))
    for name, value in out.components.items():
        agrees(value, case[f"total/meanloss/{name}"])
    for name, value in out.metrics.items():
        agrees(value, case[f"total/metrics/{name}"])
    agrees(model.return_normalizer.lo, case["total/retnorm_lo_after"])
    agrees(model.return_normalizer.hi, case["total/retnorm_hi_after"])


def test_gradients_and_their_norms(case, agrees, reference):
    model = case.model()
    model.config.reference = reference
    model.loss_given(*case.sequence(), Noise()).loss.backward()
    for name, value in gradient_norms(model).items():
        agrees(value, case[f"gradnorm/total/{name}"])
    recorded = case.names("grads/")
    assert recorded
    for name in recorded:
        got = official_layout(case.parameter(model, name).grad)
        if name.startswith("pol/head/action/mean"):  # zero but for rounding where actions are modes
            assert got.abs().max() < 1e-6
        else:
            agrees(got, case[f"grads/{name}"])


@pytest.mark.parametrize("loss", ["dyn", "rep", "rew", "con", "policy", "value", "repval"])
def test_each_loss_reaches_the_official_modules_only(case, agrees, loss):
    for reference in (True, False):
        model = case.model()
        model.config.reference = reference
        model.config.loss_scales = {name: float(name == loss) for name in case.names("total/meanloss/")}
        model.loss_given(*case.sequence(), Noise()).loss.backward()
        for name, value in gradient_norms(model).items():
            if not case.has(f"gradnorm/{loss}/{name}"):
                continue
            recorded = case[f"gradnorm/{loss}/{name}"]
            if recorded == 0:
                assert value == 0, name
            elif recorded > 1e-6:
                agrees(value, recorded)


def test_actions_away_from_the_mode_give_the_policy_its_gradient(cases, agrees, reference):
    case = cases("proprio_cont")
    model, (seq, carry) = case.model(), case.sequence()
    model.config.reference = reference
    starts = seq.reward.numel()
    half = torch.full((model.config.imagination, starts, model.config.actions.dim), 0.5)
    out = model.loss_given(seq, carry, Noise(action=half))  # mean + 0.5 stddev, as recorded
    agrees(out.loss, case["totaleps/loss"])
    out.loss.backward()
    for name in case.names("totaleps/grads/"):
        agrees(case.parameter(model, name).grad, case[f"totaleps/grads/{name}"])
    norms = gradient_norms(model)
    for name in case.names("totaleps/gradnorm/"):
        agrees(norms[name], case[f"totaleps/gradnorm/{name}"])


def train_batch(case) -> Batch:
    """The recorded replay batch; where the official program went on from a carry, that becomes the first row."""
    data = {name: case[f"train/data/{name}"].clone() for name in ("is_first", "is_last", "is_terminal", "reward")}
    actions = case.action("train/data/action")
    deter, stoch = case["train/data/dyn/deter"].clone(), case["train/data/dyn/stoch"].clone()
    goes_on = case["train/data/consec"][:, 0] != 0
    deter[goes_on, 0], stoch[goes_on, 0] = case["train/carry/deter"][goes_on], case["train/carry/stoch"][goes_on]
    return Batch(
        obs=case.observations("train/data"), actions=actions, rewards=data["reward"], is_first=data["is_first"],
        is_last=data["is_last"], is_terminal=data["is_terminal"], context={"deter": deter, "stoch": stoch},
    )  # fmt: skip


def test_one_training_step_from_replay(case, agrees, reference):
    model, given = case.model(), case.meta["train_opt"]
    model.config.reference = reference
    ours = {official: dict(model.named_parameters()).get(own) for official, own in official_names(model).items()}
    optimizer = LaProp(
        model.parameter_groups(), agc=given["agc"], eps=given["eps"], betas=(given["beta1"], given["beta2"])
    )
    step = float(case.arrays["optstate/opt/state/1/0"])
    for name, parameter in ours.items():
        if parameter is not None and parameter.requires_grad:
            moments = [case.arrays.get(f"optstate/opt/state/{i}/1/{name}") for i in (1, 2)]
            if all(moment is not None for moment in moments):  # the larger ones do not travel with the tests
                nu, mu = map(own_layout, moments)
                optimizer.state[parameter] = {"step": torch.tensor(step), "nu": nu, "mu": mu}
    for group in optimizer.param_groups:
        group["lr"] = given["lr"] * step / given["warmup"]

    batch = model.checked(train_batch(case))
    seq, carry = arrivals(batch), model.stored_state(batch)
    agrees(carry["deter"], case["train/ctx/deter"])
    agrees(carry["stoch"], case["train/ctx/stoch"])
    agrees(seq.reward, case["train/ctx/reward"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    out = model.loss_given(seq, carry, Noise())
    agrees(out.loss, case["train/loss_eager"])
    out.loss.backward()
    optimizer.step()
    model.on_after_optimizer_step()

    agrees(out.latents["deter"], case["train/replay_update/dyn/deter"])
    assert torch.equal(out.latents["stoch"].long(), case["train/replay_update/dyn/stoch"].argmax(-1))
    names, after = official_names(model), model.state_dict()
    assert case.names("train/params_after/")
    for official in case.names("train/params_after/"):
        if official in names:
            recorded = case[f"train/params_after/{official}"]
            got = official_layout(after[names[official]])
            agrees(got, recorded)
            if official.startswith("pol/head/action/mean"):
                continue  # its gradient is rounding noise, which the RMS makes as large as any
            change = recorded - official_layout(before[names[official]])
            # a difference of two float32 numbers cannot be nearer than their rounding
            allowed = 2e-7 * recorded.abs().max() + 1e-3 * change.abs().max()
            assert (got - official_layout(before[names[official]]) - change).abs().max() <= allowed, official


def official_rate(options: dict[str, Any], count: int) -> float:
    """The official learning-rate schedule before update ``count``, in float32 as optax computes it."""
    lr = torch.tensor(options["lr"], dtype=torch.float32)
    warmup = options["warmup"]
    if count < warmup:
        return float((0 - lr) * (1 - torch.tensor(count / warmup, dtype=torch.float32)) + lr)
    if options["schedule"] == "cosine":
        done = min(1.0, (count - warmup) / (options["anneal"] - warmup))
        floor = 0.1 * options["lr"]  # passed where a factor is expected
        cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done, dtype=torch.float32)))
        return float(lr * ((1 - floor) * cosine + floor))
    return float(lr)


@pytest.mark.parametrize("name", ["official", "warmup2", "nowarmup_wd", "cosine"])
def test_five_optimizer_steps(cases, agrees, name):
    case = cases("proprio_cont")
    options, noisy = case.meta["opttest_cases"][name], case.meta["noisy"]
    params = {
        key: torch.nn.Parameter(case[f"opttest/in/params/{key}"].clone()) for key in case.names("opttest/in/params/")
    }
    groups = [
        {"params": [p for key, p in params.items() if key.endswith("kernel")], "weight_decay": options["wd"]},
        {"params": [p for key, p in params.items() if not key.endswith("kernel")], "weight_decay": 0.0},
    ]
    optimizer = LaProp(groups, agc=options["agc"], eps=options["eps"], betas=(options["beta1"], options["beta2"]))
    for step in range(1, 6):
        before = {key: p.detach().clone() for key, p in params.items()}
        for key, p in params.items():
            p.grad = case[f"opttest/in/grads/{key}"][step - 1].clone()
        for group in optimizer.param_groups:
            group["lr"] = official_rate(options, step - 1)
        optimizer.step()
        for key, p in params.items():
            agrees(p, case[f"opttest/{name}/params{step}/{key}"])
            update = case[f"opttest/{name}/update{step}/{key}"]
            slack = 1e-3 if f"io/opttest/{name}/update{step}/{key}" in noisy else 1e-4
            rounding = 2e-7 * before[key].abs().max()
            assert (p.detach() - before[key] - update).abs().max() <= rounding + slack * update.abs().max()


def test_clipping_is_per_tensor_and_relative_to_the_tensor(cases, agrees):
    from worldflux_dreamer.dreamerv3.optim import clip_by_agc_

    case = cases("proprio_cont")
    for key in case.names("opttest/agc_step1grads/"):
        grad = case[f"opttest/in/grads/{key}"][1].clone()  # what was recorded
        clip_by_agc_([grad], [case[f"opttest/in/params/{key}"]], 0.3)
        agrees(grad, case[f"opttest/agc_step1grads/{key}"])
