"""An agent: a model and its policy, which remembers the episodes it acts in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from worldflux.core.errors import CapabilityError, ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.core.model import WorldModel
from worldflux.core.policy import Policy
from worldflux.envs import make_env
from worldflux.envs.acting import acting
from worldflux.envs.dm import DmEnv, is_dm_env
from worldflux.envs.spaces import ActionAdapter
from worldflux.envs.stack import check_frames

from .actions import check_actions, own_space, plain, together
from .observing import Observing
from .spaces import Spaces, spaces_of


class Agent:
    """Acts in an environment's own terms, in one episode or in several at once.

    ``act`` takes an observation as the environment gives it and returns the action it takes: a number of its
    ``Discrete``, an array within its ``Box``, a dict for its ``Dict``. A batch of observations is as many episodes; its
    actions are arrays with one row for each, as Gymnasium's vector environments take them. The first observation
    after ``reset`` begins an episode. ``policy`` is the model's own unless another is given; ``seed`` seeds what it
    draws, so that the same observations are answered with the same actions. The model acts in eval mode, where it is.
    ``image_size``, ``render_size`` (of a model that was shown rendered pictures: give it those) and ``frame_stack``
    are as ``make_env`` takes them.
    ``model.agent(env)`` and ``Run.agent()`` make one.
    """

    def __init__(
        self,
        model: WorldModel,
        spaces: Spaces | None = None,
        *,
        image_size: int | None = None,
        render_size: int | None = None,
        frame_stack: int = 1,
        explore: bool = False,
        seed: int = 0,
        policy: Policy | None = None,
    ) -> None:
        check_frames(frame_stack)
        _check(image_size=image_size, render_size=render_size, explore=explore, seed=seed, policy=policy)
        contract = model.io_contract()
        specs, actions = contract.effective_input_spec.modalities, contract.action_spec
        observation, action = spaces or (None, own_space(actions))
        self.model, self.explore = model, explore
        self._seed, self._drawn = int(seed), dict[str, torch.Tensor]()  # where the model's own draws stand
        self.policy = _policy_of(model, seed) if policy is None else policy
        self._observing = Observing(
            specs, observation, image_size=image_size, render_size=render_size, frame_stack=frame_stack
        )
        self._action, self._space = ActionAdapter(action), action
        check_actions(self._action.spec, actions)
        self.reset()

    def reset(self, mask: Any = None) -> None:
        """Begin new episodes with the next observations: all of them, or those of a batch where ``mask [N]`` is true.

        Raises:
            ShapeMismatchError, ValidationError: the mask is not one truth value for each episode.
        """
        if mask is None:
            self._first: np.ndarray | None = None  # how many there are, the next observations tell
            self._carry: dict[str, torch.Tensor] = {}
            self._shown: dict[str, np.ndarray] = {}
            return
        begun = np.atleast_1d(np.asarray(mask))
        if begun.dtype != bool:
            raise ValidationError(f"reset takes one truth value for each episode, got {begun.dtype}: such as done == 1")
        if self._first is not None:  # before the first observation every episode is new anyway
            if begun.shape != self._first.shape:
                raise ShapeMismatchError("reset's mask", expected=self._first.shape, got=begun.shape)
            self._first = self._first | begun

    def act(self, obs: Any, *, explore: bool | None = None) -> Any:
        """Return the environment's action for one observation, or the actions for a batch.

        Args:
            obs: an observation as the environment gives it, or a batch ``[N, ...]``; arrays, tensors, lists or dicts.
            explore: act as in training; by default as the agent was made.

        Raises:
            ShapeMismatchError, ValidationError: it is not what the environment shows, or another number of
                observations than episodes under way. Nothing is remembered of it then.
        """
        rows, batch = self._observing.rows(obs)
        num = len(next(iter(rows.values())))
        first = np.ones(num, bool) if self._first is None else self._first
        if len(first) != num:
            raise ShapeMismatchError(
                "observations at once (reset() begins with another number of episodes)", expected=len(first), got=num
            )
        carry = self.policy.initial(num) if self._first is None else self._carry
        seen = self._observing.stack(rows, self._shown, first)
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in seen.items()}
        explore = self.explore if explore is None else explore
        with torch.no_grad(), acting(self), self._own_randomness(explore):
            flat, carry = self.policy(tensors, carry, is_first=torch.from_numpy(first), explore=explore)
        self._carry, self._shown, self._first = carry, seen, np.zeros(num, bool)
        actions = [self._action(row) for row in flat.detach().float().cpu().numpy()]
        return together(self._space, actions) if batch else plain(self._space, actions[0])

    @contextlib.contextmanager
    def _own_randomness(self, explore: bool) -> Iterator[None]:
        """Let what the model draws meanwhile follow the agent's seed, and nothing else that the model draws later."""
        if not explore:  # then nothing is drawn
            yield
            return
        self.model.generator(next(self.model.parameters()).device)  # it is there from now on
        before = self.model.rng_state()
        if not self._drawn:  # its own stream: the policy's starts from the seed itself
            seed = int(np.random.SeedSequence(self._seed).generate_state(1)[0])
            self._drawn = {name: torch.Generator(name).manual_seed(seed).get_state() for name in before}
        self.model.set_rng_state(self._drawn)
        try:
            yield
        finally:
            self._drawn = self.model.rng_state()
            self.model.set_rng_state(before)

    def __repr__(self) -> str:
        under_way = "none" if self._first is None else len(self._first)
        return f"Agent({type(self.model).__name__}, action {self._action.spec.kind}, episodes under way: {under_way})"


def agent_of(model: WorldModel, env: Any = None, **options: Any) -> Agent:
    """Return an agent for a model; see ``WorldModel.agent``."""
    return Agent(model, None if env is None else _spaces(env), **options)


def _spaces(env: Any) -> Spaces | None:
    """The spaces of an environment, of a pair that is given, or of what an id or a factory makes."""
    if isinstance(env, tuple) and len(env) == 2:
        return env
    if is_dm_env(env) and not isinstance(env, (type, DmEnv)):
        env = DmEnv(env)
    if (found := spaces_of(env)) is not None and not isinstance(env, type):
        return found
    if isinstance(env, str) or callable(env):
        with contextlib.closing(make_env(env)) as made:
            return spaces_of(made)
    if hasattr(env, "obs_spec") and hasattr(env, "action_spec"):  # a vector of worldflux that has no spaces to tell
        return None
    raise ConfigurationError(
        f"env is a {type(env).__name__}, expected an environment, its id, a factory, or its two spaces "
        "(observation_space, action_space)"
    )


def _check(*, image_size: Any, render_size: Any, explore: Any, seed: Any, policy: Any) -> None:
    """Raise ConfigurationError for an option of another kind."""
    given = {"image_size": (image_size, 1), "render_size": (render_size, 1), "seed": (seed, 0)}
    for name, (value, least) in given.items():
        if value is None and name != "seed":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ConfigurationError(f"{name} is {value!r}, expected a whole number of at least {least}")
    if not isinstance(explore, (bool, np.bool_)):
        raise ConfigurationError(f"explore is {explore!r}, expected True or False")
    if policy is not None and not (callable(policy) and hasattr(policy, "initial")):
        raise ConfigurationError(f"policy is a {type(policy).__name__}, expected one such as model.policy() returns")


def _policy_of(model: WorldModel, seed: int) -> Policy:
    generator = torch.Generator(next(model.parameters()).device).manual_seed(int(seed))
    try:
        return model.policy(generator=generator)
    except CapabilityError as error:
        raise CapabilityError(
            f"{error}: give one, such as policy=worldflux.planners.PlannerPolicy(model, CEMPlanner())"
        ) from error
