"""A family learns: every parameter, any batch, and the toy world in which what is done is what is seen and paid."""

from __future__ import annotations

import torch
from torch import Tensor

from worldflux.core.model import WorldModel
from worldflux.core.state import State

from ..calls import few
from ..check import CheckSkipped, check, expect
from ..echo import EchoWorld
from ..learner import EARLY, STEPS
from ..subject import Subject

FALL = 0.1  # of the first loss, in STEPS updates on one batch
JUDGED = 256  # pairs of actions
FOLLOWS, STRAY = 0.8, 0.4  # correlation with the action just done, and with the one before


@check()
def check_every_parameter_learns(subject: Subject) -> None:
    """Every trainable parameter moves within ten updates."""
    names = subject.fit.idle
    hint = "use it in the loss, or freeze it with requires_grad_(False)"
    expect(not names, f"after {EARLY} updates {few(names)}: where they started; {hint}")


@check()
def check_frozen_parameters_stay(subject: Subject) -> None:
    """The loss and the optimizer move no frozen parameter; only ``on_after_optimizer_step`` may."""
    names = subject.fit.restless
    expect(
        not names, f"{few(names)}: frozen (requires_grad=False), but an update moves them; use on_after_optimizer_step"
    )


@check()
def check_loss_falls_on_one_batch(subject: Subject) -> None:
    """Thirty updates on one batch, with the same noise at each, lower its loss by a tenth of its size."""
    losses = subject.fit.losses
    first, last = losses[0], sum(losses[-3:]) / 3
    expect(
        last <= first - FALL * abs(first),
        f"{STEPS} updates on one batch took the loss from {first:.4g} to {last:.4g}, expected at most "
        f"{first - FALL * abs(first):.4g}; is its gradient right, and the preset's learning rate large enough?",
    )


@check(requires=("latent_dynamics",))
def check_alignment(subject: Subject) -> None:
    """Arriving by an action shows and pays what that action brings, not the one before; a first row pays 0."""
    world = subject.echo
    if world.dim < 1 or (world.dim == 1 and world.spec.kind == "discrete"):
        raise CheckSkipped("the family takes no actions that differ")
    if subject.declares("reward_pred"):
        subject.pupil.until(lambda model: _judge_reward(world, model))
    elif subject.declares("obs_decoder"):
        subject.pupil.until(lambda model: _judge_observation(world, model))
    else:
        subject.pupil.until(lambda model: _judge_latents(world, model))


@check(requires=("latent_dynamics", "continue_pred"))
def check_continue_follows_terminals(subject: Subject) -> None:
    """``continue`` falls where an episode ended in truth (``is_terminal``), not where only watching it ended."""
    world = subject.echo
    if world.dim < 1 or (world.spec.leaves()[0].kind == "discrete" and world.spec.leaves()[0].dim < 2):
        raise CheckSkipped("the family takes no actions that differ")
    subject.pupil.until(lambda model: _judge_continue(world, model))


def _arrivals(world: EchoWorld, model: WorldModel) -> tuple[Tensor, Tensor, State]:
    """The actions before ``[N, A]``, the actions just done, and the states they are predicted to lead to."""
    generator = torch.Generator().manual_seed(0)
    before, done = (world.actions(JUDGED, generator=generator) for _ in range(2))
    state = model.encode(world.start(JUDGED), deterministic=True)
    state = model.update(state, before, world.show(before), deterministic=True)
    return before, done, model.transition(state, done, deterministic=True)


def _judge_reward(world: EchoWorld, model: WorldModel) -> str:
    before, done, state = _arrivals(world, model)
    paid = model.decode(state).preds["reward"].float()
    now, past = (_correlation(paid, world.reward(action)) for action in (done, before))
    if now < FOLLOWS or abs(past) > STRAY:
        return (
            f"the reward predicted for arriving in transition(s_t, a_t) correlates {now:.2f} with what a_t pays and "
            f"{past:.2f} with what a_(t-1) pays; in a batch, rewards[t] came on arriving at row t, after actions[t-1]"
        )
    start = model.decode(model.encode(world.start(JUDGED), deterministic=True)).preds["reward"]
    if abs(float(start.mean())) > 0.5:
        return (
            f"the reward decoded from an episode's first state is {float(start.mean()):.2f}: rows with is_first pay 0 "
            "(others 1 on average); learn rewards there, too, from a state that starts afresh"
        )
    return ""


def _judge_observation(world: EchoWorld, model: WorldModel) -> str:
    before, done, state = _arrivals(world, model)
    preds = model.decode(state).preds
    errors = [0.0, 0.0]
    for name, shown in world.show(done).items():
        scale = 255.0 if shown.dtype == torch.uint8 else 1.0
        for index, target in enumerate((shown, world.show(before)[name])):
            target = target.float() / scale
            variance = (target - target.mean(0)).square().mean()
            errors[index] += float((preds[name] - target).square().mean() / variance) / len(world.modalities)
    if errors[0] > 0.5 or errors[1] < errors[0]:
        return (
            f"what is decoded from transition(s_t, a_t) misses what a_t shows by {errors[0]:.2f} of its variance, what "
            f"a_(t-1) showed by {errors[1]:.2f}; in a batch, obs[t] was seen on arriving at row t, after actions[t-1]"
        )
    return ""


def _judge_latents(world: EchoWorld, model: WorldModel) -> str:
    before, done, predicted = _arrivals(world, model)
    now, past = (_likeness(predicted, model.encode(world.show(a), deterministic=True)) for a in (done, before))
    if now < 0.5 or past > now:
        return (
            f"transition(s_t, a_t) correlates {now:.2f} with the latents of what a_t shows and {past:.2f} with those "
            "of what a_(t-1) showed; in a batch, obs[t] was seen on arriving at row t, after actions[t-1]"
        )
    return ""


def _likeness(first: State, second: State) -> float:
    """Mean correlation of the latents' entries over the rows, those that hardly vary left out."""
    found = []
    for name in first.tensors:
        a, b = (state[name].float().reshape(JUDGED, -1) for state in (first, second))
        a, b = a - a.mean(0), b - b.mean(0)
        varies = b.square().mean(0) > 1e-3 * b.square().mean(0).max()
        found.append(torch.nn.functional.cosine_similarity(a, b, dim=0)[varies])
    return float(torch.cat(found).mean())


def _judge_continue(world: EchoWorld, model: WorldModel) -> str:
    _, done, state = _arrivals(world, model)
    probability = model.decode(state).preds["continue"].float()
    ends, stops = world.ends(done)
    ended, stopped = (
        float(probability[ends].mean()),
        float(probability[~ends if not bool(stops.any()) else stops].mean()),
    )
    if ended > 0.75 or stopped < 0.75:
        return (
            f"continue is {ended:.2f} where 6 of 10 episodes end in truth and {stopped:.2f} where they go on or are "
            "only watched no longer; learn it from is_terminal, not from is_last"
        )
    return ""


def _correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's; 0 where one of the two does not vary."""
    if float(first.std()) < 1e-6 or float(second.std()) < 1e-6:
        return 0.0
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])
