"""The world model: what every family is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from . import checks, legacy, persistence
from .batch import Batch
from .components import SLOTS, build_component, canonical_slot
from .config import WorldModelConfig
from .errors import CapabilityError, ConfigurationError
from .output import LossOutput, ModelOutput
from .payloads import (
    ActionPayload,
    ActionSequence,
    ConditionPayload,
    WorldModelInput,
    action_tensor,
    normalize_planned_action,
)
from .spec import Capability, ModelIOContract, ObservationSpec, SequenceLayout
from .state import State
from .trajectory import Trajectory

if TYPE_CHECKING:
    from .policy import Policy

Observations = Tensor | Mapping[str, Tensor] | WorldModelInput
Action = Tensor | ActionPayload | None


class WorldModel(nn.Module, ABC):
    """Base of every family: a latent state, a transition, what can be decoded from it, and one loss.

    A family sets ``capabilities``, fills the five slots it uses (``observation_encoder``, ``action_conditioner``,
    ``dynamics_model``, ``decoder``, ``rollout_executor``) and writes ``loss``. Letters: B batch, T time, H horizon,
    A action.
    """

    config_class: ClassVar[type[WorldModelConfig]] = WorldModelConfig
    capabilities: frozenset[Capability] = frozenset()
    slots: ClassVar[Mapping[str, str]] = SLOTS  # slot -> required method; a family may add its own
    context_rows: int = 0  # leading rows of a training sequence that only supply the initial state

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.api_version = "v3"
        self.component_ids: dict[str, str | None] = {}
        self._generators: dict[str, torch.Generator] = {}
        self._seed = config.seed

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

    # --- the contract ---------------------------------------------------------------------------------------------

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the state before anything was observed: zeros ``[B, ...]`` as the contract's state spec says."""
        like = next(self.parameters(), torch.empty(0))
        specs = self.io_contract().state_spec.tensors
        options: dict[str, Any] = {"device": device or like.device, "dtype": like.dtype}
        return State({name: torch.zeros(batch_size, *spec.shape, **options) for name, spec in specs.items()})

    def encode(self, obs: Observations, deterministic: bool = False) -> State:
        """Return the state of a fresh episode that starts with ``obs`` (each modality ``[B, ...]``)."""
        state: State = self.component("observation_encoder").encode(self.observations(obs))
        return state

    def transition(
        self,
        state: State,
        action: Action,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the imagined next state (the prior) after ``action [B, A]``."""
        conditioned = self.condition(state, action, conditions)
        following: State = self.component("dynamics_model").transition(state, conditioned, deterministic=deterministic)
        return following

    def update(
        self,
        state: State,
        action: Action,
        obs: Observations,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the state after ``action [B, A]`` led to ``obs`` (the posterior).

        The base is right for models without memory, whose state depends on the observation alone.
        """
        return self.encode(obs, deterministic=deterministic)

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> ModelOutput:
        """Return predictions ``[B, ...]`` of what arriving in ``state`` shows and pays, in the data's units."""
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
        self.check_conditions(conditions)
        actions = self.action_sequence(action_sequence, batch_size=initial_state.batch_size)
        executor = self._slot("rollout_executor") or _OpenLoop()
        imagined: Trajectory = executor.rollout_open_loop(self, initial_state, actions, conditions, deterministic)
        return imagined

    @abstractmethod
    def loss(self, batch: Batch) -> LossOutput:
        """Return one scalar whose gradient is right for every parameter group."""

    def policy(self, **options: Any) -> Policy:
        """Return the family's policy. Raises CapabilityError if it has none."""
        raise CapabilityError(f"{type(self).__name__} has no policy of its own; it declares {self._declared()}")

    # --- training -------------------------------------------------------------------------------------------------

    def training_defaults(self) -> dict[str, Any]:
        """The family's defaults for training options a user did not set."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return optimizer parameter groups with their own learning rates and options."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": self.config.learning_rate}]

    def configure_optimizer(self, config: Any) -> torch.optim.Optimizer | None:
        """Return the family's own optimizer for a training config, or None to let the trainer build a common one."""
        return None

    def on_after_optimizer_step(self) -> None:
        """Run what follows each update, such as moving averages."""

    # --- what goes in ---------------------------------------------------------------------------------------------

    def io_contract(self) -> ModelIOContract:
        """Return what the model takes and gives."""
        return ModelIOContract(
            observation_spec=ObservationSpec(self.config.modalities),
            action_spec=self.config.actions,
            required_batch_keys=("obs", "actions"),
            sequence_layout=SequenceLayout({"obs": "BT...", "actions": "BT..."}),
        )

    def contract_fingerprint(self) -> str:
        """SHA-256 of the contract; a saved model must meet the same one."""
        return self.io_contract().fingerprint()

    def observations(self, obs: Observations) -> dict[str, Tensor]:
        """Return the named modalities ``[..., *shape]``; tensors, dicts and WorldModelInput all come through here.

        Raises ValidationError for missing or extra modalities or a wrong dtype, ShapeMismatchError for a shape.
        """
        return checks.observations(obs, self.io_contract().effective_input_spec)

    def actions(self, action: Action) -> Tensor:
        """Return an action as the flat tensor ``[..., A]`` in the weights' dtype.

        Raises ValidationError or ShapeMismatchError.
        """
        flat = action_tensor(action, self.io_contract().effective_action_specs, api_version=self.api_version)
        return flat.to(next(self.parameters(), flat).dtype)

    def action_sequence(self, plan: Tensor | ActionSequence | ActionPayload | None, *, batch_size: int) -> Tensor:
        """Return a plan in any form as actions ``[H, B, A]``."""
        spec = self.io_contract().action_spec
        if plan is None or (isinstance(plan, ActionSequence) and not len(plan)):
            like = next(self.parameters(), torch.empty(0))
            return torch.zeros(0, batch_size, spec.dim, device=like.device, dtype=like.dtype)
        if isinstance(plan, ActionPayload):
            if plan.primary() is not None:  # its kind is checked, and class indices get their axis, before H and B
                plan = ActionPayload("continuous", self.actions(plan), extras=plan.extras)
            plan = normalize_planned_action(plan, api_version=self.api_version)
        if isinstance(plan, ActionSequence):
            steps = plan.payloads or ()
            plan = plan.tensor if plan.tensor is not None else torch.stack([self.actions(step) for step in steps])
        actions = self.actions(plan)
        if actions.ndim != 3 or actions.shape[1] not in (1, batch_size):
            shape = tuple(actions.shape)
            raise checks.ShapeMismatchError("rollout actions", expected=("H", batch_size, spec.dim), got=shape)
        return actions.expand(-1, batch_size, -1)

    def condition(self, state: State, action: Action, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Return what the dynamics reads of an action ``[B, A]`` and the conditions."""
        self.check_conditions(conditions)
        conditioner, actions = self.component("action_conditioner"), self.actions(action)
        if actions.shape == (0,):  # a model without actions was given none
            actions = actions.to(state.device).expand(state.batch_size, 0)
        if actions.ndim != 2 or actions.shape[0] != state.batch_size:
            expected = (state.batch_size, self.io_contract().action_spec.dim)
            raise checks.ShapeMismatchError("action for this state", expected=expected, got=tuple(actions.shape))
        conditioned: dict[str, Tensor] = conditioner.condition(state, actions, conditions)
        return conditioned

    def check_conditions(self, conditions: ConditionPayload | None) -> None:
        """Raise ValidationError if the conditions' extras do not fit the contract."""
        if conditions is not None and (conditions.extras or self.api_version != "v3"):
            contract = self.io_contract()
            conditions.validate(
                allowed_extra_keys=contract.effective_condition_extra_keys,
                extra_schema=contract.condition_extras_schema,
                api_version=self.api_version,
            )

    def validate_batch_contract(self, batch: Batch) -> None:
        """Raise ValidationError or ShapeMismatchError if a batch lacks a key or has other shapes than declared."""
        checks.batch(batch, self.io_contract())

    def validate_state_contract(self, state: State) -> None:
        """Raise StateError or ShapeMismatchError if a state lacks a tensor or has other shapes than declared."""
        checks.state(state, self.io_contract())

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
        """Replace a component by a registered id, a class or an instance. Raises ConfigurationError."""
        name = canonical_slot(slot, self.slots)
        part, component_id = build_component(name, value, self.config, self.slots)
        if hasattr(self, name):
            delattr(self, name)  # a module may be replaced by a plain object, which nn.Module would refuse
        setattr(self, name, part)
        self.component_ids[name] = component_id

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


class _OpenLoop:
    """The default rollout: transition step by step, decode what the model can decode."""

    def rollout_open_loop(
        self,
        model: WorldModel,
        initial_state: State,
        action_sequence: Tensor,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> Trajectory:
        states, decoded = [initial_state], []
        for action in action_sequence:
            states.append(model.transition(states[-1], action, conditions, deterministic))
        if model.supports_reward or model.supports_continue:
            decoded = [model.decode(state, conditions).preds for state in states[1:]]

        def series(name: str) -> Tensor | None:
            return torch.stack([d[name].reshape(initial_state.batch_size) for d in decoded]) if decoded else None

        return Trajectory(
            states,
            action_sequence,
            rewards=series("reward") if model.supports_reward else None,
            continues=series("continue") if model.supports_continue else None,
            state_spec=model.io_contract().state_spec,
        )
