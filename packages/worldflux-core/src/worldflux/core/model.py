"""The world model: what every family is.

What is public here is a door: it checks what comes in (``doors``), once, and calls what a family writes behind it,
``begin``, ``advance`` and ``correct``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast, final

import torch
from torch import Tensor, nn

from . import components, doors, legacy, persistence
from .batch import Batch
from .components import SLOTS, build_component, canonical_slot
from .config import WorldModelConfig
from .errors import CapabilityError, ConfigurationError, ShapeMismatchError
from .output import LossOutput, ModelOutput
from .payloads import ActionPayload, ActionSequence, ConditionPayload, WorldModelInput, normalize_planned_action
from .recipe import Recipe
from .rollout import OpenLoop
from .spec import (
    Capability,
    ConditionSpec,
    ModelIOContract,
    ObservationSpec,
    PredictionSpec,
    SequenceLayout,
    StateSpec,
    namespaced,
)
from .state import State
from .trajectory import Trajectory

if TYPE_CHECKING:
    from .policy import Policy

Observations = Tensor | Mapping[str, Tensor] | WorldModelInput
Action = Tensor | ActionPayload | None


class WorldModel(nn.Module, ABC):
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
    missing_is_neginf: bool = False  # whether minus infinity in observations and actions marks what is missing
    context_rows: int = 0  # leading rows of a training sequence that only supply the initial state
    # the five slots, each replaceable by anything with the slot's method
    observation_encoder: Any
    action_conditioner: Any
    dynamics_model: Any
    decoder: Any
    rollout_executor: Any

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        doors.precision()
        self.config = config
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

    def training_defaults(self) -> Recipe:
        """The family's choices for options of training and collecting that a user left open."""
        return Recipe()

    # --- what a family writes: past the door, with everything checked ---------------------------------------------

    def begin(self, obs: dict[str, Tensor], *, deterministic: bool) -> State:
        """The state of episodes that start with ``obs`` (each modality ``[B, ...]``); here what the encoder returns."""
        return cast(State, self.component("observation_encoder").encode(obs))

    def advance(self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        """The prior: the state after ``action [B, A]``, which the conditioner made ``conditioned`` of."""
        ahead: State = self.component("dynamics_model").transition(state, conditioned, deterministic=deterministic)
        return ahead

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
        return state, nothing, self.component("action_conditioner").condition(state, nothing, None)

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

    # --- the contract ---------------------------------------------------------------------------------------------

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the state before anything was observed: zeros ``[B, ...]`` as the contract's state spec says."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 0:
            raise ConfigurationError(f"batch_size is {batch_size!r}, expected a whole number of rows")
        like = self._like()
        zeros = {}
        for name, spec in self.io_contract().state_spec.tensors.items():
            dtype = like.dtype if spec.dtype.startswith("float") else getattr(torch, spec.dtype)
            zeros[name] = torch.zeros(batch_size, *spec.shape, dtype=dtype, device=device or like.device)
        return State(zeros)

    def encode(self, obs: Observations, deterministic: bool = False) -> State:
        """Return the state of a fresh episode that starts with ``obs`` (each modality ``[B, ...]``)."""
        return self.begin(self._rows(obs), deterministic=deterministic)

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
        return self._imagined(state, self._step_action(state, action), conditions, deterministic)

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
        seen = self._rows(obs)
        if (size := next(iter(seen.values())).shape[0]) != state.batch_size:
            raise ShapeMismatchError("observations of the update", expected=state.batch_size, got=size)
        flat = self._step_action(state, action)
        if type(self).correct is WorldModel.correct:  # no memory: what was done before tells nothing
            return self.encode(obs, deterministic=deterministic)
        conditioned = self.component("action_conditioner").condition(state, flat, conditions)
        return self.correct(state, flat, conditioned, seen, deterministic=deterministic)

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> ModelOutput:
        """Return predictions ``[B, ...]`` of what arriving in ``state`` shows and pays, in the data's units."""
        self.check_state(state)
        self.check_conditions(conditions)
        return ModelOutput(self.component("decoder").decode(state, conditions), state=state)

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
        imagined: Trajectory = executor.rollout_open_loop(self, initial_state, actions, conditions, deterministic)
        return imagined

    def imagined(
        self, state: State, action: Tensor, conditions: ConditionPayload | None = None, deterministic: bool = False
    ) -> State:
        """One transition of a rollout, past the door: everything was checked before its first step."""
        if type(self).transition is not WorldModel.transition:
            return self.transition(state, action, conditions, deterministic)
        return self._imagined(state, action, conditions, deterministic)

    def _imagined(self, state: State, action: Tensor, conditions: ConditionPayload | None, certain: bool) -> State:
        conditioned = self.component("action_conditioner").condition(state, action, conditions)
        return self.advance(state, action, conditioned, deterministic=certain)

    def arrival(self, states: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """What arriving in states ``[H, B, ...]`` pays: ``reward`` and ``continue`` ``[H, B]``, as far as predicted.

        Nothing else is decoded where the decoder can do without (``components.arrival``).
        """
        if type(self).decode is WorldModel.decode and conditions is None:
            return components.arrival(self.component("decoder"), states)
        horizon, preds = next(iter(states.tensors.values())).shape[0], []
        for h in range(horizon):
            preds.append(self.decode(states.map(lambda value, h=h: value[h]), conditions).preds)  # type: ignore[misc]
        names = [name for name in ("reward", "continue") if name in preds[0]]
        return {name: torch.stack([step[name].flatten() for step in preds]) for name in names}

    # --- what goes in ---------------------------------------------------------------------------------------------

    @final
    def io_contract(self) -> ModelIOContract:
        """Return what the model takes and gives: what the family states, put together once."""
        if self._stated is None:
            state, conditions = self.state_spec(), self.condition_spec()
            extras = {name: spec for name, spec in conditions.modalities.items() if namespaced(name)}
            fields = {name: spec for name, spec in conditions.modalities.items() if name not in extras}
            self._stated = ModelIOContract(
                observation_spec=ObservationSpec(self.config.modalities),
                action_spec=self.config.actions,
                state_spec=state,
                prediction_spec=self.prediction_spec(),
                sequence_layout=SequenceLayout(dict.fromkeys(self.batch_keys, "BT...")),
                required_batch_keys=tuple(self.batch_keys),
                required_state_keys=tuple(name for name in state.tensors if name not in self.optional_state),
                condition_spec=ConditionSpec(fields, conditions.allowed_extra_keys),
                condition_extras_schema=extras,
            )
        return self._stated

    def contract_fingerprint(self) -> str:
        """SHA-256 of the contract; a saved model must meet the same one."""
        return self.io_contract().fingerprint()

    def observations(self, obs: Observations) -> dict[str, Tensor]:
        """Return the named modalities ``[..., *shape]``; tensors, dicts and WorldModelInput all come through here.

        What comes out is on the weights' device. Raises ValidationError for missing or extra modalities, a wrong dtype
        or a number that is none, ShapeMismatchError for a shape.
        """
        spec = self.io_contract().effective_input_spec
        return doors.observations(obs, spec, missing=self.missing_is_neginf, like=self._like())

    def _rows(self, obs: Observations) -> dict[str, Tensor]:
        """Observations ``[B, *shape]``."""
        seen = self.observations(obs)
        doors.refuse_other_axes(seen, self.io_contract().effective_input_spec, "B")
        return seen

    def actions(self, action: Action, *, axes: int = 3) -> Tensor:
        """Return an action as the flat tensor ``[..., A]``, with the weights' dtype and device.

        Integers with ``axes`` axes, the last of size A, are one-hot, others indices of classes. Raises ValidationError
        or ShapeMismatchError.
        """
        specs = self.io_contract().effective_action_specs
        return doors.action_tensor(action, specs, axes=axes, api_version=self.api_version).to(self._like())

    def action_sequence(self, plan: Tensor | ActionSequence | ActionPayload | None, *, batch_size: int) -> Tensor:
        """Return a plan in any form as actions ``[H, B, A]``."""
        spec = self.io_contract().action_spec
        if plan is None or (isinstance(plan, ActionSequence) and not len(plan)):
            return self._like().new_zeros(0, batch_size, spec.dim)
        if isinstance(plan, ActionPayload):
            if plan.primary() is not None:  # its kind is checked, and class indices get their axis, before H and B
                plan = ActionPayload("continuous", self.actions(plan), extras=plan.extras)
            plan = normalize_planned_action(plan, api_version=self.api_version)
        if isinstance(plan, ActionSequence):
            steps = [self.actions(step, axes=2) for step in plan.payloads or ()]
            plan = torch.stack(steps) if plan.tensor is None else plan.tensor
        actions = self.actions(plan)
        if actions.ndim != 3 or actions.shape[1] not in (1, batch_size):
            expected = ("H", batch_size, spec.dim)
            raise ShapeMismatchError("rollout actions", expected=expected, got=tuple(actions.shape))
        doors.refuse_non_finite("rollout actions", actions, missing=self.missing_is_neginf)
        return actions.expand(-1, batch_size, -1)

    def condition(self, state: State, action: Action, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Return what the dynamics reads of an action ``[B, A]`` and the conditions."""
        self.check_conditions(conditions)
        flat = self._step_action(state, action)
        return cast("dict[str, Tensor]", self.component("action_conditioner").condition(state, flat, conditions))

    def _step_action(self, state: State, action: Action) -> Tensor:
        flat = self.actions(action, axes=2)
        if flat.shape == (0,):  # a model without actions was given none
            flat = flat.expand(state.batch_size, 0)
        if flat.ndim != 2 or flat.shape[0] != state.batch_size:
            expected = (state.batch_size, self.io_contract().action_spec.dim)
            raise ShapeMismatchError("action for this state", expected=expected, got=tuple(flat.shape))
        doors.refuse_non_finite("action", flat, missing=self.missing_is_neginf)
        return flat

    def check_state(self, state: State) -> None:
        """Raise StateError, ShapeMismatchError or ValidationError for a state that is another model's or not finite."""
        doors.state(state, self.io_contract(), dtype=self._like().dtype)

    def check_conditions(self, conditions: ConditionPayload | None) -> None:
        """Raise ValidationError for conditions that neither the model nor one of its parts (``reads``) reads."""
        if conditions is not None:
            read = {name for slot in self.slots for name in getattr(self._slot(slot), "reads", ())}
            doors.conditions(conditions, self.io_contract(), read=read, api_version=self.api_version)

    def checked(self, batch: Batch) -> Batch:
        """Return a batch to learn from: observations by name ``[B, T, ...]``, actions flat ``[B, T, A]``.

        Raises ValidationError or ShapeMismatchError if it lacks a key, has other shapes or dtypes than declared, or
        holds a number that is none.
        """
        return doors.batch(batch, self.io_contract(), missing=self.missing_is_neginf, like=self._like())

    def validate_batch_contract(self, batch: Batch) -> None:
        """Raise what ``checked`` raises."""
        self.checked(batch)

    def validate_state_contract(self, state: State) -> None:
        """Raise StateError or ShapeMismatchError if a state lacks a tensor or has other shapes than declared."""
        doors.state(state, self.io_contract())

    def encoded(self, obs: dict[str, Tensor], name: str, width: int) -> Tensor:
        """What the encoder returns as ``name`` ``[..., width]``. Raises ConfigurationError for anything else."""
        return doors.encoded(self.component("observation_encoder").encode(obs), name, width)

    def _like(self) -> Tensor:
        """A weight: what comes in gets its dtype and device."""
        return next(self.parameters(), _NO_WEIGHT)

    # --- components -----------------------------------------------------------------------------------------------

    def _slot(self, slot: str) -> Any:
        return getattr(self, slot, None)

    def component(self, slot: str) -> Any:
        """Return what fills a slot. Raises CapabilityError if the family leaves it empty."""
        part = self._slot(canonical_slot(slot, self.slots))
        if part is None:
            raise CapabilityError(f"{type(self).__name__} has no {slot}; it declares {self._declared()}")
        return part

    def set_component(self, slot: str, value: Any) -> None:
        """Replace a component by a registered id, a class or an instance.

        A part that is made here is initialised as the family initialises its own; an instance keeps its weights.
        Raises ConfigurationError.
        """
        name = canonical_slot(slot, self.slots)
        like = self._like()
        with torch.random.fork_rng(devices=[]):  # what a part's own layers draw is drawn from nobody's generator
            torch.default_generator.manual_seed(self.config.seed)
            part, component_id, made = build_component(name, value, self.config, self.slots)
            if hasattr(self, name):
                delattr(self, name)  # a module may be replaced by a plain object, which nn.Module would refuse
            setattr(self, name, part)
            self.component_ids[name] = component_id
            if isinstance(part, nn.Module) and made:
                others = {key: v.clone() for key, v in self.state_dict().items() if not key.startswith(f"{name}.")}
                self.initialise()
                self.load_state_dict(others, strict=False)
                part.to(like)
        if isinstance(part, nn.Module):
            part.to(like.device).train(self.training)

    # --- what it can do -------------------------------------------------------------------------------------------

    def _declared(self) -> list[str]:
        return sorted(Capability(c).value for c in self.capabilities)

    def supports(self, capability: Capability | str) -> bool:
        """Whether the model declares a capability. Raises ConfigurationError for an unknown one."""
        try:
            return Capability(capability) in self.capabilities
        except ValueError as error:
            known = [c.value for c in Capability]
            raise ConfigurationError(f"unknown capability {capability!r}, expected one of {known}") from error

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

    def recipe(self) -> Recipe:
        """How this model is trained where nobody says otherwise: ``training_defaults``, and the config's own two."""
        given = self.training_defaults()
        chosen: dict[str, Any] = given.chosen() if isinstance(given, Recipe) else dict(given)
        return Recipe(**{"learning_rate": self.config.learning_rate, "grad_clip": self.config.grad_clip, **chosen})

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

    # --- saving ---------------------------------------------------------------------------------------------------

    def save_pretrained(self, path: str | Path) -> Path:
        """Write config.json, model.safetensors and worldflux_meta.json into a folder and return it."""
        return persistence.save_pretrained(self, path)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, device: str | torch.device = "cpu") -> WorldModel:
        """Load a saved model from a folder or the Hub. Raises CheckpointError or ConfigurationError."""
        model = persistence.load_pretrained(name_or_path, device=device)
        if not isinstance(model, cls):
            raise ConfigurationError(f"{name_or_path} holds a {type(model).__name__}, not a {cls.__name__}")
        return model

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool = False,
        commit_message: str = "Upload model",
    ) -> str:
        """Upload the saved model to the Hub and return its URL."""
        from . import hub

        return hub.push(self, repo_id, token=token, private=private, commit_message=commit_message)


_NO_WEIGHT = torch.empty(0)
