"""Distributions, losses and their gradients give the official numbers."""

from __future__ import annotations

import pytest
import torch

from worldflux_dreamer.dreamerv3 import losses
from worldflux_dreamer.dreamerv3.actor import BoundedNormal, Categorical, ReturnNormalizer
from worldflux_dreamer.dreamerv3.distributions import TwoHot, sample_latent, symexp_bins, two_hot


@pytest.fixture
def case(cases):
    return cases("proprio_cont")


def test_bins(case, agrees):
    agrees(symexp_bins(255), case["twohot/bins255"])
    agrees(symexp_bins(254), case["twohot/bins254"])


def test_uniform_two_hot_predicts_exactly_zero(case):
    assert case["twohot/uniform/pred"].eq(0).all()
    assert TwoHot(torch.zeros(2, 255)).pred().eq(0).all()
    assert TwoHot(torch.full((2, 254), 3.0)).pred().eq(0).all()


def test_two_hot_targets(case, agrees):
    index, weight = two_hot(case["twohot/in/target"], symexp_bins(255))
    probs = torch.zeros(len(index), 255).scatter_add_(-1, index, weight)
    # the recording was recovered as softmax minus gradient, which leaves 1e-7 of noise
    agrees(probs, case["twohot/target_probs"], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", ["logits_small", "logits_bump"])
def test_two_hot_predictions_losses_and_gradients(case, agrees, kind):
    logits = case[f"twohot/in/{kind}"].requires_grad_()
    dist = TwoHot(logits)
    agrees(dist.pred(), case[f"twohot/{kind}/pred"])
    loss = dist.loss(case["twohot/in/target"])
    agrees(loss, case[f"twohot/{kind}/loss"])
    loss.sum().backward()
    agrees(logits.grad, case[f"twohot/{kind}/grad_logits"], rtol=1e-3)


@pytest.mark.parametrize("unimix", [0.0, 0.01])
def test_categorical(case, agrees, unimix):
    dist = Categorical(case["categorical/in/logits_p"], unimix)
    recorded = f"categorical/unimix{unimix}"
    agrees(dist.logits, torch.log_softmax(case[f"{recorded}/logits"], -1))  # unmixed ones were not normalised
    agrees(dist.logits.exp(), case[f"{recorded}/probs"])
    agrees(dist.entropy(), case[f"{recorded}/entropy"])
    event = torch.nn.functional.one_hot(case["categorical/in/event"].long(), 9).float()
    agrees(dist.log_prob(event), case[f"{recorded}/logp"])
    assert torch.equal(dist.mode.argmax(-1), case[f"{recorded}/mode"].long())
    post, prior = (case[f"categorical/in/logits_{x}"].unsqueeze(-2) for x in "pq")
    agrees(losses.kl_divergence(post, prior, unimix), case[f"{recorded}/kl_pq"])


def test_straight_through_gradient(case, agrees):
    logits = case["categorical/in/logits_p"].requires_grad_()
    mode = sample_latent(logits, 0.01, None)
    agrees(mode, case["categorical/onehot_mode"])
    (mode * case["categorical/straight_through_cotangent"]).sum().backward()
    agrees(logits.grad, case["categorical/straight_through_grad"])


def test_bounded_normal(case, agrees):
    given = {name: case[f"bounded_normal/in/{name}"] for name in ("mean_raw", "stddev_raw", "action")}
    dist = BoundedNormal(given["mean_raw"], given["stddev_raw"])
    agrees(dist.mean, case["bounded_normal/mean"])
    agrees(dist.stddev, case["bounded_normal/stddev"])
    agrees(dist.log_prob(given["action"]), case["bounded_normal/logp"])
    agrees(dist.entropy(), case["bounded_normal/entropy"])


def test_binary(case, agrees):
    agrees(losses.binary_loss(case["binary/in/logit"], case["binary/in/target"]), case["binary/loss"])


def test_percentile_normaliser(case, agrees):
    normaliser = ReturnNormalizer()
    for step, x in enumerate(case["normalize/in/x"]):
        normaliser.update(x)
        agrees(normaliser.offset, case["normalize/perc/offset"][step])
        agrees(normaliser.scale, case["normalize/perc/scale"][step])


@pytest.mark.parametrize("free", [0.0, 1.0])
def test_kl_losses_and_their_gradients(case, agrees, free):
    post, prior = (case[f"kltest/in/{x}"].requires_grad_() for x in ("post", "prior"))
    dyn, rep = losses.kl_losses(post, prior, unimix=0.01, free_nats=free)
    recorded = f"kltest/free{free:.0f}"
    agrees(dyn, case[f"{recorded}/dyn"])
    agrees(rep, case[f"{recorded}/rep"])
    (grad,) = torch.autograd.grad(dyn.sum(), prior, retain_graph=True)
    agrees(grad, case[f"{recorded}/grad_dyn_prior"])
    (grad,) = torch.autograd.grad(rep.sum(), post, retain_graph=True)
    agrees(grad, case[f"{recorded}/grad_rep_post"])
    assert torch.autograd.grad(dyn.sum() + 0 * post.sum(), post, retain_graph=True)[0].abs().max() == 0
    assert torch.autograd.grad(rep.sum() + 0 * prior.sum(), prior)[0].abs().max() == 0


def test_kl_along_a_trace(cases, agrees):
    for name in ("proprio_cont", "image_disc"):
        case = cases(name)
        post, prior = case["observe/out/logit"], case["observe/out/prior_logit"]
        agrees(losses.kl_divergence(post, prior, 0.01), case["kl/raw"])
        agrees(losses.entropy(prior, 0.01).mean(), case["kl/dyn_ent"])
        agrees(losses.entropy(post, 0.01).mean(), case["kl/rep_ent"])


@pytest.mark.parametrize(
    ("name", "soft", "disc", "lam"),
    [("hard", False, 1 - 1 / 333, 0.95), ("soft", True, 1.0, 0.95), ("lam08", False, 0.97, 0.8)],
)
def test_lambda_returns(case, agrees, name, soft, disc, lam):
    given = {key: case[f"lambda_return/in/{key}"].float() for key in ("last", "term", "term_soft", "rew", "boot")}
    last = torch.zeros_like(given["last"]) if soft else given["last"]
    term = given["term_soft"] if soft else given["term"]
    returns = losses.lambda_return(last=last, term=term, rew=given["rew"], boot=given["boot"], disc=disc, lam=lam)
    agrees(returns, case[f"lambda_return/{name}/ret"])


VARIANTS = ("default_freshnorm", "default", "noupdate_slowtar", "nocontdisc")


@pytest.mark.parametrize(
    ("recording", "variant"),
    [*(("proprio_cont", variant) for variant in VARIANTS), *(("proprio_disc", variant) for variant in VARIANTS[:2])],
)
def test_actor_and_critic_losses_in_imagination(cases, agrees, recording, variant):
    case, given = cases(recording), f"imagtest/{variant}"
    logits = case["imagtest/in/value_logits"].requires_grad_()
    value, slow = TwoHot(logits), TwoHot(case["imagtest/in/slowvalue_logits"]).pred()
    agrees(value.pred(), case[f"{given}/val"])
    agrees(slow, case[f"{given}/slowval"])
    target = slow if "slowtar" in variant else value.pred().detach()
    returns, weight = losses.imagined_returns(
        rew=case["imagtest/in/rew"], con=case["imagtest/in/con"], value=target,
        contdisc="nocontdisc" not in variant, horizon=333, lam=0.95,
    )  # fmt: skip
    agrees(returns, case[f"{given}/ret"])
    agrees(weight, case[f"{given}/weight"])
    normaliser = ReturnNormalizer()
    if "freshnorm" not in variant:
        normaliser.lo.fill_(-0.6)
        normaliser.hi.fill_(1.9)
    if "noupdate" not in variant:
        normaliser.update(returns)
    agrees(normaliser.lo, case[f"{given}/retnorm_lo_after"])
    agrees(normaliser.hi, case[f"{given}/retnorm_hi_after"])
    agrees(normaliser.scale, case[f"{given}/rscale"])
    advantage = (returns - target[:, :-1]) / normaliser.scale
    agrees(advantage, case[f"{given}/adv"])

    raw = {name: case[f"imagtest/in/policy_{name}"].requires_grad_() for name in policy_outputs(case)}
    dist = Categorical(*raw.values()) if case.discrete else BoundedNormal(*raw.values())
    log_prob = dist.log_prob(case.action("imagtest/in/action"))[:, :-1]
    agrees(log_prob, case[f"{given}/logpi"])
    policy = losses.policy_loss(
        log_prob=log_prob,
        entropy=dist.entropy()[:, :-1],
        advantage=advantage,
        weight=weight[:, :-1],
        entropy_scale=3e-4,
    )
    critic = losses.value_loss(value[:, :-1], slow[:, :-1], returns=returns, weight=weight[:, :-1], slow_scale=1.0)
    agrees(policy, case[f"{given}/policy_loss"])
    agrees(critic, case[f"{given}/value_loss"])
    (policy.mean() + critic.mean()).backward()
    agrees(logits.grad, case[f"{given}/grad_value_logits"], rtol=1e-3)
    for name, tensor in raw.items():
        agrees(tensor.grad, case[f"{given}/grad_policy_{name}"])


def policy_outputs(case) -> tuple[str, ...]:
    return ("logits",) if case.discrete else ("mean_raw", "stddev_raw")


@pytest.mark.parametrize("variant", ["default", "slowtar"])
def test_critic_loss_on_replay(case, agrees, variant):
    logits = case["repltest/in/value_logits"].requires_grad_()
    slow = TwoHot(case["repltest/in/slowvalue_logits"]).pred()
    returns = losses.replay_returns(
        last=case["repltest/in/last"], term=case["repltest/in/term"], rew=case["repltest/in/rew"],
        boot=case["repltest/in/boot"], horizon=333, lam=0.95,
    )  # fmt: skip
    agrees(returns, case[f"repltest/{variant}/ret"])
    weight = (~case["repltest/in/last"]).float()
    agrees(weight, case[f"repltest/{variant}/weight"])
    loss = losses.value_loss(
        TwoHot(logits)[:, :-1], slow[:, :-1], returns=returns, weight=weight[:, :-1], slow_scale=1.0
    )
    agrees(loss, case[f"repltest/{variant}/repval_loss"])
    loss.mean().backward()
    agrees(logits.grad, case[f"repltest/{variant}/grad_value_logits"], rtol=1e-3)
