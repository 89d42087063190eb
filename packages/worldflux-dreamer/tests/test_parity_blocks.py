"""Each block gives the official numbers with the official weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from worldflux import State
from worldflux.blocks import KernelConv, symexp, symlog
from worldflux_dreamer.dreamerv3 import networks, rssm
from worldflux_dreamer.dreamerv3.distributions import (
    TwoHot,
    sample_latent,
    unimix_log_probs,
)
from worldflux_dreamer.dreamerv3.fast import fast
from worldflux_dreamer.dreamerv3.losses import binary_loss, image_loss, vector_loss
from worldflux_dreamer.dreamerv3.rssm import Noise, Trace, features


def test_single_layers(cases, agrees):
    case = cases("proprio_cont")
    x, scale = case["layer/rms/in/x"], case["layer/rms/in/scale"]
    agrees(x * networks.rms_inverse(x) * scale, case["layer/rms/out"])
    linear = networks.Linear(12, 6)
    block = networks.BlockLinear(12, 6, 3)
    conv = KernelConv(3, 4, 5)
    with torch.no_grad():
        for name, layer in (("linear", linear), ("blocklinear", block), ("conv", conv)):
            kernel = case[f"layer/{name}/in/kernel"]
            layer.kernel.copy_(kernel.permute(3, 2, 0, 1) if name == "conv" else kernel)
            layer.bias.copy_(case[f"layer/{name}/in/bias"])
    agrees(linear(case["layer/linear/in/x"]), case["layer/linear/out"])
    agrees(block(case["layer/blocklinear/in/x"]), case["layer/blocklinear/out"])
    agrees(conv(case["layer/conv/in/x"].movedim(-1, 1)).movedim(1, -1), case["layer/conv/out"])


def test_scalar_functions(cases, agrees):
    case = cases("proprio_cont")
    agrees(symlog(case["fn/in/symlog"]), case["fn/symlog"])
    agrees(symexp(case["fn/in/symexp"]), case["fn/symexp"])


def test_the_fused_norm_has_the_gradient_of_the_plain_one():
    generator = torch.Generator().manual_seed(0)
    u, cotangent = (torch.randn(7, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    scale = torch.rand(12, generator=generator, dtype=torch.float64) + 0.5
    pairs = []
    for function in (
        networks.rms_silu,
        lambda u, scale: F.silu(u / (u.square().mean(-1, keepdim=True) + networks.NORM_EPS).sqrt() * scale),
    ):
        inputs = u.clone().requires_grad_(), scale.clone().requires_grad_()
        value = function(*inputs)
        pairs.append((value, *torch.autograd.grad((value * cotangent).sum(), inputs)))
    for fused, plain in zip(*pairs):
        torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-12)


def test_encoder(case, agrees):
    model, obs = case.model(), case.observations("obs")
    if model.observation_encoder.vectors:
        agrees(model.observation_encoder.vector_input(obs), case["enc/vecin"])
    agrees(model.tokens(obs), case["enc/tokens"])


def test_recurrent_step_with_a_masked_action(case, agrees):
    model = case.model()
    action = model.action_conditioner.condition(State(), case.action("core/in/action"))["action"]
    agrees(action, case["core/out/actemb"])
    agrees(model.dynamics_model.core(case["core/in/deter"], case["core/in/stoch"], action), case["core/out/deter"])


def test_prior_and_posterior(case, agrees):
    model = case.model()
    logits = {
        "prior": model.dynamics_model.prior(case["core/out/deter"]),
        "post": model.posterior(case["core/in/deter"], case["core/in/tokens"]),
    }
    for name, raw in logits.items():
        agrees(raw, case[f"core/out/{name}_logit_raw"])
        agrees(unimix_log_probs(raw, 0.01), case[f"core/out/{name}_logit_unimix"])
        agrees(sample_latent(raw, 0.01, None), case[f"core/out/{name}_mode"])


def observe(implementation, model, seq, carry) -> Trace:
    return implementation.observe(
        model.dynamics_model, model.action_conditioner, model.posterior,
        carry=carry, action=seq.action, is_first=seq.is_first, tokens=model.tokens(seq.obs), noise=None,
    )  # fmt: skip


@pytest.mark.parametrize("implementation", [rssm, fast])
def test_observing(case, agrees, implementation):
    trace = observe(implementation, case.model(), *case.sequence())
    agrees(trace.state["deter"], case["observe/out/deter"])
    agrees(trace.state["stoch"], case["observe/out/stoch"])
    agrees(trace.post, case["observe/out/logit"])
    agrees(trace.prior, case["observe/out/prior_logit"])


def test_imagining_given_actions(case, agrees):
    model = case.model()
    start = State({name: case[f"imagine/in/start/{name}"] for name in ("deter", "stoch")})
    actions = case.action("imagine/in/action").transpose(0, 1)
    with torch.no_grad():
        imagined = model.rollout(start, actions, deterministic=True)
    agrees(imagined.to_tensor("deter")[1:].transpose(0, 1), case["imagine/out/deter"])
    agrees(imagined.to_tensor("stoch")[1:].transpose(0, 1), case["imagine/out/stoch"])


def test_acting(case, agrees):
    policy = case.model().policy()
    obs, first = case.observations("obs"), case["obs/is_first"]
    carry = policy.initial(len(first))
    if case.discrete:  # where the recording starts amid an episode, its previous action was class 0
        carry["action"][:, 0] = 1.0
    for t in range(first.shape[1]):
        now = {name: value[:, t] for name, value in obs.items()}
        action, carry = policy(now, carry, is_first=first[:, t], explore=False)
        agrees(action, case.action("policytrace/out/act")[:, t])
        agrees(carry["deter"], case["policytrace/out/deter"][:, t])
        agrees(carry["stoch"], case["policytrace/out/stoch"][:, t])


def test_decoder(case, agrees):
    model, obs = case.model(), case.observations("obs")
    deter, stoch = case["observe/out/deter"], case["observe/out/stoch"]
    means = model.decoder.observations(State({"deter": deter, "stoch": stoch}))
    for name, mean in means.items():
        image = name == "image"
        recorded = case[f"dec/{name}/mean"]
        shown = mean.movedim(-3, -1) if image else mean
        agrees(shown if recorded.ndim == shown.ndim else shown[:2, 0], recorded)  # two frames travel with the tests
        rank = len(model.config.modalities[name].shape)
        loss = image_loss(mean, obs[name]) if image else vector_loss(mean, obs[name], rank=rank)
        agrees(loss, case[f"dec/{name}/loss"])
    decoded = model.decode(State({"deter": deter[:, 0], "stoch": stoch[:, 0]})).preds
    for name, mean in means.items():
        torch.testing.assert_close(decoded[name], (mean if name == "image" else symexp(mean))[:, 0])


def test_heads(case, agrees):
    model, feat = case.model(), case["heads/in/feat"]
    agrees(features(State({name: case[f"observe/out/{name}"] for name in ("deter", "stoch")})), feat)
    agrees(model.decoder.reward(feat), case["rew/logits"])
    reward = TwoHot(model.decoder.reward(feat))
    agrees(reward.pred(), case["rew/pred"])
    agrees(reward.loss(case["obs/reward"]), case["rew/loss"])
    logit = model.decoder.cont(feat)[..., 0]
    agrees(logit, case["con/logit"])
    agrees(torch.sigmoid(logit), case["con/prob"])
    target = (~case["obs/is_terminal"]).float() * model.config.discount
    agrees(target, case["con/target"])
    agrees(binary_loss(logit, target), case["con/loss"])
    for name, head in (("val", model.critic), ("slowval", model.slow_critic)):
        agrees(head(feat), case[f"{name}/logits"])
        agrees(TwoHot(head(feat)).pred(), case[f"{name}/pred"])


def test_actor(case, agrees):
    model = case.model()
    dist = model.actor(case["heads/in/feat"])
    agrees(dist.mode, case.action("pol/mode"))
    agrees(dist.log_prob(case.action("pol/in/action")), case["pol/logp"])
    agrees(dist.entropies()["action"], case["pol/entropy"])
    if not case.discrete:
        agrees(dist.parts["action"].mean, case["pol/mean"])
        agrees(dist.parts["action"].stddev, case["pol/stddev"])


@pytest.mark.parametrize("reference", [True, False])
def test_imagining_with_the_actor(case, agrees, reference):
    model = case.model()
    model.config.reference = reference
    trace = observe(rssm, model, *case.sequence())
    (imagined,) = model._imagine(trace.state.map(lambda x: x.detach().flatten(0, 1)), Noise())
    agrees(imagined.reward.T, case["total/imag/rew"])
    agrees(imagined.cont.T, case["total/imag/con"])
    agrees(imagined.value.T, case["total/imag/val"])
    agrees(imagined.slow.T, case["total/imag/slowval"])
