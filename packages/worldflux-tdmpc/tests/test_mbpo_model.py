"""The ensemble, its rollouts and its learning: one rule a test."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import worldflux
from worldflux.core.batch import Batch
from worldflux.testing.learner import Learner
from worldflux_tdmpc.mbpo.steps import Steps, read_steps


def build(**options):
    return worldflux.create_world_model("mbpo:ci", **{"obs_shape": (4,), "action_dim": 2, **options})


def shaken(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for buffer in model.target_critics.buffers():
            buffer.add_(0.1 * torch.randn(buffer.shape, generator=generator))
    return model


def rows(model, size: int = 16, steps: int = 2, *, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        obs=torch.randn(size, steps, model.config.obs_size, generator=generator),
        actions=torch.rand(size, steps, model.config.actions.dim, generator=generator) * 2 - 1,
        rewards=torch.randn(size, steps, generator=generator),
        is_first=torch.zeros(size, steps, dtype=torch.bool),
        is_terminal=torch.rand(size, steps, generator=generator) < 0.2,
    )


def steps_of(model, batch: Batch) -> Steps:
    batch = model.checked(batch)
    return read_steps(batch, obs=batch.obs["obs"])


def network(model, net: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-variance of one network, layer by layer."""
    own = model.dynamics_model
    hidden = (x - own.standardise.mean) / own.standardise.variance.sqrt()
    for i, layer in enumerate(own.nets):
        hidden = F.linear(F.silu(hidden) if i else hidden, layer.weight[net], layer.bias[net])
    mean, raw = hidden.chunk(2, -1)
    high, low = own.max_log_variance, own.min_log_variance
    raw = high - F.softplus(high - raw)
    return mean, low + F.softplus(raw - low)


# --- what follows ---------------------------------------------------------------------------------------------------


def test_a_certain_transition_is_the_mean_of_the_elites():
    model = shaken(build())
    model.dynamics_model.elites.copy_(torch.tensor([3, 0, 2]))
    obs, action = torch.randn(5, 4), torch.rand(5, 2)
    ahead = model.transition(model.encode(obs), action, deterministic=True)
    means = torch.stack([network(model, net, torch.cat([obs, action], -1))[0] for net in (3, 0, 2)]).mean(0)
    assert torch.allclose(ahead["reward"], means[:, 0], atol=1e-5)
    assert torch.allclose(ahead["obs"], obs + means[:, 1:], atol=1e-5)


def test_a_rollouts_step_asks_one_elite_a_row_and_draws_its_outcome():
    model = shaken(build(component_overrides={"termination": "mbpo.never"})).eval()
    model.dynamics_model.elites.copy_(torch.tensor([3, 0, 2]))
    steps = steps_of(model, rows(model, 20))
    noise = model.draw(20, 2, torch.device("cpu"))
    first, second = model.imagine(steps.obs[:10], steps.weight[:10], noise)
    for row in range(10):
        obs = steps.obs[row : row + 1]
        for k, found in enumerate((first, second)):
            action = model.actor.act(obs, noise.behaviour[k, row : row + 1])
            net = [3, 0, 2][int(noise.member[k, row])]
            mean, log_variance = network(model, net, torch.cat([obs, action], -1))
            outcome = mean + torch.exp(0.5 * log_variance) * noise.outcome[k, row]
            assert torch.allclose(found.obs[row], obs[0], atol=1e-5)
            assert torch.allclose(found.action[row], action[0], atol=1e-5)
            assert torch.allclose(found.reward[row], outcome[0, 0], atol=1e-5)
            obs = obs + outcome[:, 1:]
            assert torch.allclose(found.next_obs[row], obs[0], atol=1e-5)


def test_every_elite_is_asked_and_no_other():
    model = shaken(build())
    asked = set()

    class Watched(torch.nn.Module):
        def transition(self, state, conditioned, deterministic=False):
            asked.update(conditioned["member"].tolist())
            return own.transition(state, conditioned, deterministic)

    own = model.dynamics_model
    model.set_component("dynamics_model", Watched())
    model.transition(model.encode(torch.zeros(300, 4)), torch.zeros(300, 2))
    assert asked == {0, 1, 2}  # of num_elites


def test_the_reward_of_a_step_is_carried_by_the_state_it_leads_to():
    model = shaken(build())
    state = model.encode(torch.randn(3, 4))
    assert model.decode(state).preds["reward"].tolist() == [0, 0, 0]
    ahead = model.transition(state, torch.zeros(3, 2), deterministic=True)
    assert torch.equal(model.decode(ahead).preds["reward"], ahead["reward"])
    seen = model.update(state, torch.zeros(3, 2), torch.ones(3, 4), deterministic=True)
    assert torch.equal(seen["reward"], ahead["reward"])
    assert torch.equal(seen["obs"], torch.ones(3, 4))


def test_several_vectors_are_joined_in_sorted_order_and_come_back_by_name():
    model = worldflux.create_world_model(
        "mbpo:ci", observation_modalities={"speed": {"shape": (2,)}, "arm": {"shape": (2, 3)}}, action_dim=1
    )
    obs = {"speed": torch.randn(5, 2), "arm": torch.randn(5, 2, 3)}
    state = model.encode(obs)
    assert torch.equal(state["obs"], torch.cat([obs["arm"].flatten(1), obs["speed"]], -1))
    preds = model.decode(state).preds
    assert all(torch.equal(preds[name], value) for name, value in obs.items())


# --- how a batch is read --------------------------------------------------------------------------------------------


def test_rows_become_steps_and_what_leaves_an_episode_counts_nothing():
    model = build()
    batch = rows(model, 2, 4)
    batch.is_first[0, 2] = True  # row 1 to row 2 is no step
    batch.mask = torch.ones(2, 4, dtype=torch.bool)
    batch.mask[1, 3] = False
    steps = steps_of(model, batch)
    assert steps.weight.tolist() == [1, 0, 1, 1, 1, 0]
    assert torch.equal(steps.reward.view(2, 3), batch.rewards[:, 1:])
    assert torch.equal(steps.terminal.view(2, 3).bool(), batch.is_terminal[:, 1:])
    assert torch.equal(steps.next_obs.view(2, 3, 4), batch.obs[:, 1:])
    assert torch.equal(steps.action.view(2, 3, 2), batch.actions[:, :-1])


def test_steps_that_count_nothing_change_no_loss():
    model = shaken(build(rollout_schedule=(0, 0, 2, 2)))
    batch = rows(model, 6, 3)
    batch.is_first[:, 2] = True
    changed = Batch(**{**batch.to_dict(), "obs": batch.obs.clone(), "rewards": batch.rewards.clone()})
    changed.obs[:, 2], changed.rewards[:, 2] = 9.0, 9.0
    found = []
    for given in (batch, changed):
        model.seed(0)
        found.append(model.eval().loss(given).components)
    for name, value in found[0].items():
        assert torch.allclose(value, found[1][name], atol=1e-5), name


def test_about_a_fifth_is_held_out_and_the_same_steps_always():
    model = build()
    steps = steps_of(model, rows(model, 4000))
    held = steps.held_out(0.2)
    assert 0.17 < float(held.mean()) < 0.23
    order = torch.randperm(4000)
    shuffled = Steps(*(value[order] for value in vars(steps).values()))
    assert torch.equal(shuffled.held_out(0.2), held[order])


def test_held_out_steps_do_not_teach_the_ensemble():
    model = shaken(build())
    steps = steps_of(model, rows(model, 64))
    held = steps.held_out(model.config.holdout).bool()
    assert 0 < int(held.sum()) < 64
    bootstrap = torch.ones(model.config.num_nets, 64)
    losses = []
    for shift in (0.0, 100.0):
        target = torch.where(held, steps.reward + shift, steps.reward)
        outputs = torch.cat([target[:, None], steps.next_obs - steps.obs], -1)
        state, read = model.arrived(steps.obs), {"action": steps.action}
        given = {"bootstrap": bootstrap, "held_out": held.float(), "weight": steps.weight}
        losses.append(model.eval().dynamics_model.losses(state, read, outputs, **given)[0]["model"])
    assert torch.equal(*losses)


# --- elites ---------------------------------------------------------------------------------------------------------


def test_the_elites_err_least_on_what_was_held_out():
    own = build(num_nets=4, num_elites=2).dynamics_model
    error = torch.tensor([[4.0, 100.0], [1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
    own.rank(error, torch.tensor([1.0, 0.0]))  # the second row was not held out
    assert own.errors.tolist() == [4, 1, 3, 2]
    assert own.elites.tolist() == [1, 3]


def test_errors_are_averaged_over_batches():
    own = build(num_nets=2, num_elites=1).dynamics_model
    for value in (1.0, 5.0):
        own.rank(torch.tensor([[value], [4.0]]), torch.ones(1))
    assert own.errors.tolist() == [3, 4]
    own.rank(torch.tensor([[900.0], [0.0]]), torch.zeros(1))  # nothing was held out
    assert own.errors.tolist() == [3, 4]
    assert own.elites.tolist() == [0]


def test_nothing_is_chosen_or_counted_in_evaluation():
    model = shaken(build()).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.loss(rows(model, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.train().loss(rows(model, 64))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"dynamics_model.errors", "dynamics_model.standardise.mean", "rows"} <= changed


# --- what is learnt from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "starts"), [(1, 95), (3, 32), (25, 4)])
def test_a_twentieth_is_real_and_rollouts_fill_up_the_rest(length, starts):
    model = shaken(build())
    steps = steps_of(model, rows(model, 100))
    noise = model.draw(100, length, torch.device("cpu"))
    mixed = model.mixed(steps, noise)
    assert noise.member.shape == (length, starts)
    assert len(mixed.reward) == 5 + starts * length
    real, begun = noise.order[:5], noise.order[5 : 5 + starts]
    assert torch.equal(mixed.reward[:5], steps.reward[real])
    assert torch.equal(mixed.obs[5 : 5 + starts], steps.obs[begun])


@pytest.mark.parametrize(("share", "rest"), [(0.0, 100), (1.0, 0)])
def test_all_may_be_imagined_or_real(share, rest):
    model = build(real_ratio=share)
    noise = model.draw(100, 1, torch.device("cpu"))
    mixed = model.mixed(steps_of(model, rows(model, 100)), noise)
    assert len(mixed.reward) == 100
    assert noise.member.shape == (1, rest)


def test_a_rollout_counts_nothing_after_its_end():
    def beyond(obs, action, next_obs):
        return next_obs[:, 0] > 0

    model = shaken(build(component_overrides={"termination": beyond}))
    noise = model.draw(100, 3, torch.device("cpu"))
    found = model.imagine(torch.randn(len(noise.member[0]), 4), torch.ones(len(noise.member[0])), noise)
    alive = torch.ones_like(found[0].weight)
    for step in found:
        assert torch.equal(step.weight, alive)
        assert torch.equal(step.terminal.bool(), step.next_obs[:, 0] > 0)
        alive = alive * (step.next_obs[:, 0] <= 0)
    assert 0 < float(alive.sum()) < len(alive)


def test_environment_steps_are_counted_by_what_was_learnt_from():
    model = build(rollout_schedule=(500, 700, 1, 5), batch_size=16, updates_per_step=0.25, seed_steps=500).train()
    lengths = []
    for update in range(60):  # 16 sequences of 2 rows are 4 environment steps
        lengths.append(model.rollout_length())
        model.loss(rows(model, seed=update))
    assert lengths == [model.config.rollout_length(500 + 4 * update) for update in range(60)]
    assert (lengths[0], lengths[-1]) == (1, 5)
    assert model.loss(rows(model)).metrics["rollout_length"] == 5.0


# --- learning -------------------------------------------------------------------------------------------------------

PARTS = {
    "model": {"dynamics_model"},
    "decay": {"dynamics_model"},
    "bounds": {"dynamics_model"},
    "termination": {"termination"},
    "critic": {"critics"},
    "actor": {"actor"},
    "temperature": {"log_alpha"},
}


@pytest.mark.parametrize("name", PARTS)
def test_each_loss_teaches_its_own_part_alone(name):
    model = shaken(build()).train()
    steps = steps_of(model, rows(model, 32))
    noise = model.draw(32, 2, torch.device("cpu"))
    found = model.dynamics_losses(steps, noise.bootstrap)[0] | {"termination": model.termination_loss(steps)}
    found |= model.actor_critic_losses(model.mixed(steps, noise), noise)[0]
    found[name].backward()
    reached = {key.split(".")[0] for key, value in model.named_parameters() if value.grad is not None}
    assert reached == PARTS[name]


def test_the_loss_is_the_sum_of_its_parts_and_reaches_every_parameter():
    model = shaken(build()).train()
    out = model.loss(rows(model, 64))
    assert set(out.components) == set(PARTS)
    assert float(out.loss.detach()) == pytest.approx(float(sum(out.components.values())), rel=1e-5)
    out.loss.backward()
    idle = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    assert idle == []


def test_actor_and_critics_learn_as_soft_actor_critic_says():
    model = shaken(build()).train()
    steps = steps_of(model, rows(model, 40))
    noise = model.draw(40, 1, torch.device("cpu"))
    found = {name: value.item() for name, value in model.actor_critic_losses(steps, noise)[0].items()}
    alpha = model.log_alpha.exp()

    def value(critics, head, obs, action):
        hidden = torch.cat([obs, action], -1)
        for i, layer in enumerate(critics):
            hidden = F.linear(F.relu(hidden) if i else hidden, layer.weight[head], layer.bias[head])
        return hidden[:, 0]

    action, entropy = model.actor.sample(steps.next_obs, noise.target)
    lower = torch.minimum(*(value(model.target_critics, head, steps.next_obs, action) for head in (0, 1)))
    target = (steps.reward + 0.99 * (1 - steps.terminal) * (lower + alpha * entropy)).detach()
    critic = sum(0.5 * (value(model.critics, h, steps.obs, steps.action) - target).square().mean() for h in (0, 1))
    assert found["critic"] == pytest.approx(critic.item(), rel=1e-4)
    action, entropy = model.actor.sample(steps.obs, noise.actor)
    lower = torch.minimum(*(value(model.critics, head, steps.obs, action) for head in (0, 1)))
    assert found["actor"] == pytest.approx(-(alpha * entropy + lower).mean().item(), rel=1e-4)
    expected = (model.log_alpha * (entropy + 2.0)).mean()  # two actions
    assert found["temperature"] == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def test_target_critics_follow_by_averages():
    model = shaken(build())
    own, target = model.critics[0].weight.detach().clone(), model.target_critics[0].weight.clone()
    model.on_after_optimizer_step()
    assert torch.allclose(model.target_critics[0].weight, target + 0.005 * (own - target), atol=1e-7)
    assert int(model.updates) == 1


def test_ensemble_and_agent_have_their_own_rates():
    model = build(learning_rate=3e-4)
    groups = Learner(model).optimizer.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([3e-4, 1e-3])
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    names = {id(value): name for name, value in model.named_parameters()}
    agent = {names[id(value)].split(".")[0] for value in groups[0]["params"]}
    assert agent == {"actor", "critics", "log_alpha"}


def test_weights_begin_as_in_the_paper():
    model = worldflux.create_world_model("mbpo:base")
    for layer in model.dynamics_model.nets:
        std = 0.5 / math.sqrt(layer.weight.shape[-1])
        assert float(layer.weight.detach().abs().max()) <= 2 * std + 1e-6
        assert float(layer.weight.detach().std()) == pytest.approx(0.88 * std, rel=0.03)  # of a normal cut at two
        assert not layer.bias.detach().any()
    assert model.dynamics_model.max_log_variance.unique().tolist() == [0.5]
    assert model.dynamics_model.min_log_variance.unique().tolist() == [-10.0]
    assert float(model.log_alpha.detach()) == 0.0
    assert all(torch.equal(a, b) for a, b in zip(model.critics.parameters(), model.target_critics.buffers()))


@pytest.mark.parametrize(("options", "entropy"), [({}, -2.0), ({"target_entropy": -0.05}, -0.05)])
def test_the_wanted_entropy_is_minus_the_number_of_actions_unless_told(options, entropy):
    assert build(**options).config.wanted_entropy == entropy


def test_the_ensemble_learns_what_an_action_brings_and_how_sure_that_is():
    model = build(obs_shape=(2,), action_dim=1).train()
    learner = Learner(model)
    for update in range(400):
        generator = torch.Generator().manual_seed(update)
        obs, action = (torch.rand(64, 2, n, generator=generator) * 2 - 1 for n in (2, 1))
        obs[:, 1, 0] = obs[:, 0, 0] + 0.5 * action[:, 0, 0]  # certain
        obs[:, 1, 1] = obs[:, 0, 1] + 0.3 * torch.randn(64, generator=generator)  # chance
        reward = torch.zeros(64, 2)
        reward[:, 1] = action[:, 0, 0]
        learner.step(Batch(obs=obs, actions=action, rewards=reward, is_terminal=torch.zeros(64, 2)))
    own = model.eval().dynamics_model
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        mean, log_variance = own.moments(x, own.elites)
    std = torch.exp(0.5 * log_variance).mean((0, 1))
    assert (mean[:, :, 0] - x[:, 2]).abs().mean() < 0.05
    assert (mean[:, :, 1] - 0.5 * x[:, 2]).abs().mean() < 0.05
    assert mean[:, :, 2].abs().mean() < 0.1
    assert float(std[2]) == pytest.approx(0.3, abs=0.06)
    assert float(std[1]) < 0.1
