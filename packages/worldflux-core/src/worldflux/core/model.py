"""The world model: what every family is.

What is public here is a door: it checks what comes in (``doors``), once, and calls what a family writes behind it,
``begin``, ``advance`` and ``correct``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast, final

import torch
from torch import Tensor

from . import components, legacy
from .batch import Batch
from .components import SLOTS, canonical_slot
from .config import WorldModelConfig
from .doors import Doors, checked_device, precision
from .errors import CapabilityError, ConfigurationError, ShapeMismatchError
from .output import LossOutput, ModelOutput
from .payloads import Action, ActionPayload, ActionSequence, ConditionPayload, Observations
from .registry import WorldModelRegistry
from .rollout import OpenLoop
from .spec import Capability, ConditionSpec, ModelIOContract, PredictionSpec, StateSpec, stated
from .state import State
from .trajectory import Trajectory

if TYPE_CHECKING:
    from .policy import Policy


class WorldModel(Doors, ABC):
    """Base of every family: a latent state, a transition, what can be decoded from it, and what it learns from.

    A family sets ``capabilities``, states ``state_spec``, ``prediction_spec`` and ``batch_keys``, fills the slots it
    uses (``observation_encoder``, ``action_conditioner``, ``dynamics_model``, ``decoder``, ``rollout_executor``), and
    writes ``begin``, ``advance``, ``correct`` and ``loss``. Letters: B batch, T time, H horizon, A action.
    """

    config_class: ClassVar[type[WorldModelConfig]] = WorldModelConfig
    capabilities: frozenset[Capability] = frozenset()
    slots: ClassVar[Mapping[str, str]] = SLOTS  # slot -> required method; a family may add its own
    batch_keys: tuple[str, ...] = ("obs", "actions")  # what ``loss`` needs of a batch
    optional_state: tuple[str, ...] = ()  # tensors a state may go without
    context_rows: int = 0  # leading rows of a training sequence that only supply the initial state
    # the five slots, each replaceable by anything with the slot's method
    observation_encoder: Any
    action_conditioner: Any
    dynamics_model: Any
    decoder: Any
    rollout_executor: Any

    def __init__(self, config: WorldModelConfig | None = None) -> None:
        super().__init__()
        precision()
        if not isinstance(config, WorldModelConfig | None):
            raise ConfigurationError(f"config is {config!r}, expected a {self.config_class.__name__}(...)")
        self.config = config = config or self.config_class()
        self.api_version = "v3"
        self.component_ids: dict[str, str | None] = {}
        self._generators: dict[str, torch.Generator] = {}
        self._seed = config.seed
        self._stated: ModelIOContract | None = None
        self.rollout_executor = OpenLoop()

    # --- what a family states -------------------------------------------------------------------------------------

    def state_spec(self) -> StateSpec:
        """The tensors of a state, each without its batch axis."""
        return StateSpec()

    def prediction_spec(self) -> PredictionSpec:
        """What ``decode`` predicts."""
        return PredictionSpec()

    def condition_spec(self) -> ConditionSpec:
        """The conditions the model reads, by field of ConditionPayload or namespaced extra; others are refused."""
        return ConditionSpec()

    def initialise(self) -> None:
        """Set every weight from ``config.seed``, the same ones at every call; a family's one place for it."""

    def training_defaults(self) -> Any:
        """A ``worldflux.Recipe``: the family's choices for options of training and collecting that a user left open."""
        return WorldModelRegistry.reach("integration", "recipe").Recipe()

    # --- what a family writes: past the door, with everything checked ---------------------------------------------

    def begin(self, obs: dict[str, Tensor], *, deterministic: bool) -> State:
        """The state of episodes that start with ``obs`` (each modality ``[B, ...]``); here what the encoder returns."""
        return cast(State, self.component("observation_encoder").encode(obs))

    def advance(self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        """The prior: the state after ``action [B, A]``, which the conditioner made ``conditioned`` of."""
        return cast(State, self.component("dynamics_model").transition(state, conditioned, deterministic=deterministic))

    def correct(
        self,
        state: State,
        action: Tensor,
        conditioned: dict[str, Tensor],
        obs: dict[str, Tensor],
        *,
        deterministic: bool,
    ) -> State:
        """The posterior: the state after ``action [B, A]`` led to ``obs``; here, without memory, as in ``begin``."""
        return self.begin(obs, deterministic=deterministic)

    def before_anything(self, obs: dict[str, Tensor]) -> tuple[State, Tensor, dict[str, Tensor]]:
        """What ``correct`` gets first where an episode starts: the initial state, no action, what is read of that."""
        first = next(iter(obs.values()))
        state = self.initial_state(first.shape[0], first.device)
        nothing = torch.zeros(first.shape[0], self.io_contract().action_spec.dim).to(self._like())
        return state, nothing, self._conditioned(state, nothing, None)

    @abstractmethod
    def loss(self, batch: Batch) -> LossOutput:
        """Return one scalar whose gradient is right for every parameter group; ``checked(batch)`` is its door."""

    def steps(self, batch: Batch) -> Iterator[LossOutput]:
        """The steps of one update, in order; the trainer moves the parameters of a step's ``group`` before the next.

        What follows a ``yield`` sees the moved weights. The base makes one step of ``loss``.
        """
        yield self.loss(batch)

    def on_after_optimizer_step(self) -> None:
        """Run what follows each update, such as moving averages."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return optimizer parameter groups with their own options; ``group`` names the step that moves them."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": self.config.learning_rate}]

    def configure_optimizer(self, config: Any) -> torch.optim.Optimizer | None:
        """Return the family's own optimizer for a training config, or None to let the trainer build a common one."""
        return None

    def policy(self, **options: Any) -> Policy:
        """Return the family's policy. Raises CapabilityError if it has none."""
        raise CapabilityError(f"{type(self).__name__} has no policy of its own; it declares {self._declared()}")

    def agent(self, env: Any = None, **options: Any) -> Any:
        """Return what acts in an environment's own terms: ``agent.act(obs)`` is the action ``env.step`` takes.

        ``env`` is an environment, its id, a factory, or its two spaces; without it discrete actions are whole numbers,
        continuous ones in [-1, 1], several parts a dict. Options: ``image_size`` and ``frame_stack`` as ``make_env``
        takes them, ``explore``, ``seed``, ``policy``; see ``worldflux.agent.Agent``. Raises ConfigurationError.
        """
        return WorldModelRegistry.reach("integration", "agent").agent_of(self, env, **options)

    # --- the contract ---------------------------------------------------------------------------------------------

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the state before anything was observed: zeros ``[B, ...]`` as the contract's state spec says."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or not 0 <= batch_size < 2**40:
            raise ConfigurationError(f"batch_size is {batch_size!r}, expected a whole number of rows")
        like, zeros = self._like(), {}
        where = like.device if device is None else checked_device(device)
        for name, spec in self.io_contract().state_spec.tensors.items():
            dtype = like.dtype if spec.dtype.startswith("float") else getattr(torch, spec.dtype)
            zeros[name] = torch.zeros(batch_size, *spec.shape, dtype=dtype, device=where)
        return State(zeros)

    def encode(self, obs: Observations, deterministic: bool = False) -> State:
        """Return the state of a fresh episode that starts with ``obs`` (each modality ``[B, ...]``)."""
        return self.begin(self._seen(obs, "B"), deterministic=deterministic)

    def transition(
        self,
        state: State,
        action: Action,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the imagined next state (the prior) after ``action [B, A]``."""
        self.check_state(state)
        self.check_conditions(conditions)
        flat = self._step_action(state, action)
        return self.advance(state, flat, self._conditioned(state, flat, conditions), deterministic=deterministic)

    def update(
        self,
        state: State,
        action: Action,
        obs: Observations,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the state after ``action [B, A]`` led to ``obs`` (the posterior)."""
        self.check_state(state)
        self.check_conditions(conditions)
        seen = self._seen(obs, "B")
        if (size := next(iter(seen.values())).shape[0]) != state.batch_size:
            raise ShapeMismatchError("observations of the update", expected=state.batch_size, got=size)
        flat = self._step_action(state, action)
        if type(self).correct is WorldModel.correct:  # no memory: what was done before tells nothing
            own = type(self).encode is not WorldModel.encode
            return self.encode(obs, deterministic) if own else self.begin(seen, deterministic=deterministic)
        conditioned = self._conditioned(state, flat, conditions)
        return self.correct(state, flat, conditioned, seen, deterministic=deterministic)

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> ModelOutput:
        """Return predictions ``[B, ...]`` of what arriving in ``state`` shows and pays, in the data's units.

        There are none of a model with dynamics that states none and leaves its ``decoder`` empty.
        """
        self.check_state(state)
        self.check_conditions(conditions)
        if self._decodes_nothing():
            return ModelOutput({}, state=state)
        return ModelOutput(self.component("decoder").decode(state, conditions), state=state)

    def _decodes_nothing(self) -> bool:
        """Whether states are imagined, and nothing is predicted of them."""
        empty = getattr(self, "decoder", None) is None and not self.io_contract().prediction_spec.tensors
        own = type(self).decode is not WorldModel.decode
        return empty and not own and self.supports(Capability.LATENT_DYNAMICS)

    def rollout(
        self,
        initial_state: State,
        action_sequence: Tensor | ActionSequence | ActionPayload | None,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
        mode: str = "autoregressive",
    ) -> Trajectory:
        """Imagine ``H + 1`` states from ``initial_state`` under actions ``[H, B, A]`` (None: horizon 0)."""
        if mode != "autoregressive":
            legacy.refuse(self.api_version, f"rollout mode {mode!r} is not supported, only 'autoregressive'")
        self.check_state(initial_state)
        self.check_conditions(conditions)
        actions = self.action_sequence(action_sequence, batch_size=initial_state.batch_size)
        executor = self.component("rollout_executor")
        return cast(Trajectory, executor.rollout_open_loop(self, initial_state, actions, conditions, deterministic))

    def imagined(
        self, state: State, action: Tensor, conditions: ConditionPayload | None = None, deterministic: bool = False
    ) -> State:
        """One transition of a rollout, past the door: everything was checked before its first step."""
        if type(self).transition is not WorldModel.transition:
            return self.transition(state, action, conditions, deterministic)
        return self.advance(state, action, self._conditioned(state, action, conditions), deterministic=deterministic)

    def arrival(self, states: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """What arriving in states ``[H, B, ...]`` pays: ``reward`` and ``continue`` ``[H, B]``, as far as predicted.

        Nothing else is decoded where the decoder can do without (``components.arrival``).
        """
        if self._decodes_nothing():
            return {}
        if type(self).decode is WorldModel.decode and conditions is None:
            return components.arrival(self.component("decoder"), states)
        rows = range(next(iter(states.tensors.values())).shape[0])
        preds = [self.decode(states.map(lambda value, h=h: value[h]), conditions).preds for h in rows]  # type: ignore[misc]
        names = [name for name in ("reward", "continue") if name in preds[0]]
        return {name: torch.stack([step[name].flatten() for step in preds]) for name in names}

    # --- what goes in ---------------------------------------------------------------------------------------------

    @final
    def io_contract(self) -> ModelIOContract:
        """Return what the model takes and gives: what the family states, put together once."""
        if self._stated is None:
            self._stated = stated(self)
        return self._stated

    def condition(self, state: State, action: Action, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Return what the dynamics reads of an action ``[B, A]`` and the conditions."""
        self.check_conditions(conditions)
        return self._conditioned(state, self._step_action(state, action), conditions)

    def _conditioned(self, state: State, action: Tensor, conditions: ConditionPayload | None) -> dict[str, Tensor]:
        part = getattr(self, "action_conditioner", None)  # the one part that a model with dynamics may go without
        return {"action": action} if part is None else part.condition(state, action, conditions)

    def encoded(self, obs: dict[str, Tensor], name: str, width: int) -> Tensor:
        """What the encoder returns as ``name`` ``[..., width]``. Raises ConfigurationError for anything else."""
        given = self.component("observation_encoder").encode(obs)
        value: Tensor | None = given.get(name) if isinstance(given, State) else None
        if value is None or value.shape[-1:] != (width,):
            raise WorldModelRegistry.reach("integration", "words.inputs").other_encoding(given, name, width)
        return value

    # --- components -----------------------------------------------------------------------------------------------

    def component(self, slot: str) -> Any:
        """Return what fills a slot. Raises CapabilityError if the family leaves it empty."""
        part = getattr(self, canonical_slot(slot, self.slots), None)
        if part is None:
            raise CapabilityError(f"{type(self).__name__} has no {slot}; it declares {self._declared()}")
        return part

    def set_component(self, slot: str, value: Any) -> None:
        """Replace a component by a registered id, a class or an instance.

        A part that is made here is initialised as the family initialises its own; an instance keeps its weights.
        Raises ConfigurationError.
        """
        WorldModelRegistry.reach("integration", "overrides").put(self, slot, value)

    # --- what it can do -------------------------------------------------------------------------------------------

    def _declared(self) -> list[str]:
        return sorted(Capability(c).value for c in self.capabilities)

    def supports(self, capability: Capability | str) -> bool:
        """Whether the model declares a capability. Raises ConfigurationError for an unknown one."""
        known = [c.value for c in Capability]
        if not isinstance(capability, str) or capability not in known:
            raise ConfigurationError(f"unknown capability {capability!r}, expected one of {known}")
        return Capability(capability) in self.capabilities

    def require(self, capability: Capability | str) -> None:
        """Raise CapabilityError if the model does not declare a capability."""
        if not self.supports(capability):
            name = Capability(capability).value
            raise CapabilityError(f"{type(self).__name__} does not support {name!r}; it declares {self._declared()}")

    @property
    def supports_reward(self) -> bool:
        """Whether ``decode`` predicts rewards."""
        return self.supports(Capability.REWARD_PRED)

    @property
    def supports_continue(self) -> bool:
        """Whether ``decode`` predicts the probability that the episode goes on."""
        return self.supports(Capability.CONTINUE_PRED)

    @property
    def supports_planning(self) -> bool:
        """Whether a planner can score imagined steps: the model declares planning or predicts rewards."""
        return self.supports(Capability.PLANNING) or self.supports_reward

    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def recipe(self) -> Any:
        """How this model is trained where nobody says otherwise: a ``worldflux.Recipe`` of ``training_defaults``."""
        return WorldModelRegistry.reach("integration", "recipe").Recipe.of_model(self)

    # --- randomness -----------------------------------------------------------------------------------------------

    def seed(self, seed: int) -> None:
        """Restart the model's own generators from ``seed``."""
        self._seed = seed
        self._generators.clear()

    def generator(self, device: torch.device | str | None = None) -> torch.Generator:
        """The model's own generator on a device; nothing else in the process draws from it."""
        where = torch.device(device if device is not None else "cpu")
        # "cuda" and "cuda:0" may be one device, which must not have two generators
        name = f"cuda:{torch.cuda.current_device()}" if where.type == "cuda" and where.index is None else str(where)
        if name not in self._generators:
            self._generators[name] = torch.Generator(name).manual_seed(self._seed)
        return self._generators[name]

    def rng_state(self) -> dict[str, Tensor]:
        """The state of every generator in use, by device, as uint8 tensors."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def set_rng_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state returned by ``rng_state``; devices that are absent here are left out."""
        for name, value in state.items():
            if torch.device(name).type != "cuda" or torch.cuda.is_available():
                self.generator(name).set_state(value)
