"""Worlds whose best plans are known on paper, as world models that know themselves exactly."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from torch import Tensor, nn

from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.output import ModelOutput
from worldflux.core.spec import Capability, StateSpec, vector
from worldflux.core.state import State


class World(WorldModel):
    """State ``x`` and the ``reward`` of having arrived in it; what is observed is ``x``."""

    capabilities = frozenset({Capability.REWARD_PRED})

    def __init__(self, size: int, **action) -> None:
        super().__init__(WorldModelConfig(obs_shape=(size,), **action))
        self.weight = nn.Parameter(torch.ones(()))  # something to learn, which planning must leave alone
        self.size = size

    def state_spec(self) -> StateSpec:
        return StateSpec({"x": vector(self.size), "reward": vector()})

    def encode(self, obs, deterministic=False):
        x = self.observations(obs)["obs"]
        return State({"x": x, "reward": x.new_zeros(x.shape[0])})

    def transition(self, state, action, conditions=None, deterministic=False):
        x, reward = self.step(state["x"], self.actions(action) * self.weight)
        return State({"x": x, "reward": reward})

    def decode(self, state, conditions=None):
        return ModelOutput({"reward": state["reward"]}, state=state)

    def loss(self, batch):
        raise AssertionError("nothing is learnt here")

    def step(self, x: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Next ``x [B, D]`` and reward ``[B]``."""
        raise AssertionError("each world has its own")

    def cost(self, x: Tensor, actions: Tensor) -> Tensor:
        """What ``actions [H, B, A]`` cost ``[B]`` from ``x [B, D]``: minus the undiscounted rewards."""
        total = torch.zeros(x.shape[0])
        for action in actions:
            x, reward = self.step(x, action)
            total = total - reward
        return total


class LQR(World):
    """Two double integrators, quadratic costs; the Riccati recursion knows the least cost."""

    def __init__(self, axes: int = 2) -> None:
        super().__init__(2 * axes, action_dim=axes)
        eye = torch.eye(axes)
        self.A = torch.kron(torch.tensor([[1.0, 0.3], [0.0, 1.0]]), eye)
        self.B = torch.kron(torch.tensor([[0.05], [0.5]]), eye)
        self.Q, self.R = torch.eye(2 * axes), 0.2 * eye

    def step(self, x, action):
        ahead = x @ self.A.T + action @ self.B.T
        cost = torch.einsum("bi,ij,bj->b", ahead, self.Q, ahead) + torch.einsum("bi,ij,bj->b", action, self.R, action)
        return ahead, -cost

    def best(self, x: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        """Least cost ``[B]`` and the actions ``[H, B, A]`` that reach it, by the Riccati recursion."""
        P, gains = self.Q, []
        for _ in range(horizon):
            gains.append(torch.linalg.solve(self.R + self.B.T @ P @ self.B, self.B.T @ P @ self.A))
            P = self.Q + self.A.T @ P @ (self.A - self.B @ gains[-1])
        cost = torch.einsum("bi,ij,bj->b", x, P - self.Q, x)
        actions = []
        for gain in reversed(gains):
            actions.append(-x @ gain.T)
            x = x @ self.A.T + actions[-1] @ self.B.T
        return cost, torch.stack(actions)

    def starts(self, count: int) -> Tensor:
        """States from which the best actions stay within the bounds."""
        x = torch.rand(count, self.size, generator=torch.Generator().manual_seed(1)) + 0.3
        return x * torch.tensor([0.5] * (self.size // 2) + [-0.3] * (self.size // 2))


class PointMass(World):
    """A mass that moves at most ``SPEED`` a step along each axis; away from the origin costs the squared distance.

    At full speed to the origin, then stay: no plan is nearer on any axis at any step.
    """

    SPEED = 0.25

    def __init__(self, axes: int = 2, **action) -> None:
        super().__init__(axes, **(action or {"action_dim": axes}))

    def move(self, action: Tensor) -> Tensor:
        """The velocity ``[B, D]`` in units of the greatest."""
        return action

    def step(self, x, action):
        ahead = x + self.SPEED * self.move(action)
        return ahead, -ahead.square().sum(-1)

    def best(self, x: Tensor, horizon: int) -> Tensor:
        """Least cost ``[B]``."""
        steps = torch.arange(1, horizon + 1)[:, None, None]
        return (x.abs() - self.SPEED * steps).clamp_min(0).square().sum((0, 2))

    def starts(self, count: int) -> Tensor:
        """States at some distance from the origin."""
        drawn = torch.rand(count, self.size, 2, generator=torch.Generator().manual_seed(2))
        return (drawn[..., 0] + 0.6) * torch.where(drawn[..., 1] > 0.5, 1.0, -1.0)


class SteppingMass(PointMass):
    """The point mass on a line with three actions: left, stay, right."""

    def __init__(self) -> None:
        super().__init__(1, action_dim=3, action_type="discrete")

    def move(self, action):
        return action[:, 2:] - action[:, :1]

    def brute_force(self, x: Tensor, horizon: int) -> Tensor:
        """Least cost ``[B]`` of all plans."""
        choices = torch.eye(3)[torch.tensor(list(itertools.product(range(3), repeat=horizon)))]
        costs = [self.cost(x, plan[:, None].expand(-1, len(x), -1)) for plan in choices]
        return torch.stack(costs).amin(0)


class GearedMass(PointMass):
    """The point mass on a line with a gear (backward, forward) and a throttle of which only the positive half pulls."""

    def __init__(self) -> None:
        parts = ({"name": "gear", "kind": "discrete", "dim": 2}, {"name": "throttle", "kind": "continuous", "dim": 1})
        super().__init__(1, action_spec={"kind": "multi", "parts": parts})

    def move(self, action):
        return (action[:, 1:2] - action[:, :1]) * action[:, 2:].clamp_min(0)


class Valued(PointMass):
    """A point mass that offers a value and proposals, both with noise of their own, and predicts continues."""

    capabilities = frozenset({Capability.REWARD_PRED, Capability.CONTINUE_PRED})

    def decode(self, state, conditions=None):
        return ModelOutput({"reward": state["reward"], "continue": torch.exp(-state["x"].square().sum(-1))})

    def value_noise(self, batch_size, *, generator, device):
        return {"eps": torch.randn(batch_size, generator=generator, device=device)}

    def terminal_value(self, state, noise):
        return -3.0 * state["x"].square().sum(-1) + 0.1 * noise["eps"]

    def proposal_noise(self, horizon, batch_size, *, generator, device):
        return {"eps": torch.randn(horizon, batch_size, self.size, generator=generator, device=device)}

    def propose(self, state, horizon, noise):
        plan = []
        for t in range(horizon):
            plan.append((-state["x"] / self.SPEED + 0.3 * noise["eps"][t]).clamp(-1, 1))
            state = self.transition(state, plan[-1])
        return torch.stack(plan)


def rows(noise, which: list[int], envs: int):
    """The noise of some of ``envs`` environments."""

    def pick(value):
        return None if value is None else value[which]

    def pick_candidates(named):
        return {name: value.unflatten(0, (envs, -1))[which].flatten(0, 1) for name, value in named.items()}

    own = {n: v.unflatten(1, (envs, -1))[:, which].flatten(1, 2) for n, v in noise.proposals.items()}
    return replace(
        noise,
        samples=[pick(samples) for samples in noise.samples],
        explore=pick(noise.explore),
        objective=[pick_candidates(named) for named in noise.objective],
        choice=pick(noise.choice),
        shift=pick(noise.shift),
        proposals=own,
    )
