"""TD-MPC2 as a world model with a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.core.model import Action, Observations, WorldModel
from worldflux.core.output import LossOutput
from worldflux.core.payloads import ConditionPayload, WorldModelInput
from worldflux.core.policy import Policy
from worldflux.core.spec import Capability, ModelIOContract
from worldflux.core.state import State

from . import objective, twohot
from .config import TASK, TDMPC2Config
from .contract import contract_of
from .dynamics import ActionConditioner, Decoder, Dynamics
from .encoder import Encoder, draw_shift, shifted
from .networks import Ensemble, TaskEmbedding, initialise
from .optim import PolicyPhase, TwoPhaseAdam
from .policy import make_policy
from .prior import CategoricalPrior, GaussianPrior
from .scale import RunningScale


class TDMPC2(WorldModel):
    """Encoder, latent dynamics, reward, critics and a policy prior, for planning at every step; no decoder of pixels.

    States hold ``latent [B, D]`` (groups of simplices), ``reward_logits [B, bins]``, the reward of arriving in them
    as two bins (zeros, which mean 0, where nothing led to them), and with several tasks ``task [B]``.
    ``decode(state).preds`` holds ``reward`` and, of episodic models, ``continue`` (a probability).

    Source: Hansen et al. 2024, "TD-MPC2: Scalable, Robust World Models for Continuous Control"; nicklashansen/tdmpc2 at
    e9f5932.
    """

    config_class = TDMPC2Config
    config: TDMPC2Config
    # slots, each replaceable by anything with the slot's method
    observation_encoder: Any
    action_conditioner: Any
    dynamics_model: Any
    decoder: Any
    action_masks: Tensor
    updates: Tensor

    def __init__(self, config: TDMPC2Config) -> None:
        super().__init__(config)
        self.observation_encoder = Encoder(config)
        self.action_conditioner = ActionConditioner()
        self.dynamics_model = Dynamics(config)
        self.decoder = Decoder(config)
        self.prior = (CategoricalPrior if config.prior == "categorical" else GaussianPrior)(config)
        inputs = config.latent_dim + config.embedding_dim + config.actions.dim
        sizes = (config.num_q, inputs, config.mlp_dim, config.num_bins)
        self.critics = Ensemble(*sizes)
        self.target_critics = Ensemble(*sizes, frozen=True)
        self.value_scale = RunningScale(config.tau)
        self.task_embedding = TaskEmbedding(config.num_tasks, config.task_dim) if config.num_tasks > 1 else None
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._register_tasks()
        known = {
            Capability.LATENT_DYNAMICS, Capability.REPRESENTATION, Capability.REWARD_PRED, Capability.PLANNING,
            Capability.VALUE, Capability.POLICY,
        }  # fmt: skip
        self.capabilities = frozenset(known | ({Capability.CONTINUE_PRED} if config.episodic else set()))
        zeros = (self.dynamics_model.reward[-1], self.critics[-1])
        initialise(self, zeros=zeros, generator=torch.Generator().manual_seed(config.seed))
        self.target_critics.load_state_dict(self.critics.state_dict())
        self.policy_phase = PolicyPhase()

    def _register_tasks(self) -> None:
        config = self.config
        dims = torch.tensor(config.action_dims or (config.action_dim,) * config.num_tasks)
        masks = torch.arange(config.action_dim) < dims.unsqueeze(-1)
        self.register_buffer("action_masks", masks.float(), persistent=False)

    # --- the contract ---------------------------------------------------------------------------------------------

    def io_contract(self) -> ModelIOContract:
        return self._contract

    @cached_property
    def _contract(self) -> ModelIOContract:
        """Asked for several times a step, and the same for life."""
        return contract_of(self.config)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros: the state before anything was observed."""
        state = super().initial_state(batch_size, device)
        if TASK in state:
            state.tensors[TASK] = state[TASK].long()
        return state

    def observations(self, obs: Observations) -> dict[str, Tensor]:
        """Return the checked modalities; with several tasks also ``task``, below ``num_tasks``."""
        given = obs.observations if isinstance(obs, WorldModelInput) else obs
        if self.config.num_tasks > 1 and isinstance(given, Mapping):
            if TASK not in given:
                raise ValidationError(
                    f"missing required modalities ['task']: this model serves {self.config.num_tasks} tasks, so say "
                    f"which one each row is of (integers [B]) beside {sorted(given)}"
                )
            if isinstance(given[TASK], Tensor) and given[TASK].dtype != torch.int64:
                got = given[TASK].dtype
                raise ValidationError(f"observation 'task' must hold the numbers of tasks as int64, got {got}")
        seen = super().observations(obs)
        task = seen.get(TASK)
        if task is not None and task.numel() and not 0 <= int(task.min()) <= int(task.max()) < self.config.num_tasks:
            raise ValidationError(
                f"observation 'task' must lie below num_tasks = {self.config.num_tasks}, got {int(task.min())} to "
                f"{int(task.max())}"
            )
        return seen

    def encode(self, obs: Observations, deterministic: bool = False) -> State:
        """Return the state of a fresh episode that starts with ``obs`` (each modality ``[B, ...]``).

        Images are shifted at random by up to 3 pixels unless ``deterministic``.
        """
        seen = self.observations(obs)
        return self.start(seen, seen.get(TASK), self._shift(seen, deterministic))

    def transition(
        self,
        state: State,
        action: Action,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the imagined next state after ``action [B, A]``; there is nothing random in the family's own."""
        conditioned = self.conditioned(state, self.condition(state, action, conditions))
        return self.advance(state, conditioned, deterministic=deterministic)

    def update(
        self,
        state: State,
        action: Action,
        obs: Observations,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the state in which ``obs`` is seen; the reward it carries is that predicted for ``action [B, A]``."""
        seen = self.observations(obs)
        latent = self.latent(seen, seen.get(TASK), self._shift(seen, deterministic))
        if latent.shape[0] != state.batch_size:
            raise ShapeMismatchError("observations of the update", expected=state.batch_size, got=latent.shape[0])
        ahead = self.transition(state, action, conditions, deterministic)
        task = {TASK: seen[TASK].long()} if TASK in seen else {}
        return State({**ahead.tensors, "latent": latent, **task})

    # --- the parts, with shapes already checked -------------------------------------------------------------------

    def start(self, obs: dict[str, Tensor], task: Tensor | None, shift: Tensor | None) -> State:
        """The state of observations ``[B, ...]`` that nothing led to."""
        latent = self.latent(obs, task, shift)
        state = {"latent": latent, "reward_logits": latent.new_zeros(*latent.shape[:-1], self.config.num_bins)}
        return State(state if task is None else {**state, TASK: task.long()})

    def latent(self, obs: dict[str, Tensor], task: Tensor | None, shift: Tensor | None) -> Tensor:
        """Latents ``[..., B, D]`` of observations ``[..., B, *shape]``, of which images are moved by ``shift``."""
        seen = {name: value for name, value in obs.items() if name != TASK}
        if shift is not None:
            seen |= {name: shifted(seen[name], shift) for name in self.config.image_names}
        if (embedding := self.embed(task)) is not None:
            lead = next(value.shape[: value.ndim - len(self.config.modalities[n].shape)] for n, value in seen.items())
            seen[TASK] = embedding.expand(*lead, -1)
        encoded = self.observation_encoder.encode(seen).get("latent")
        if encoded is None or encoded.shape[-1] != self.config.latent_dim:
            got = "no 'latent'" if encoded is None else f"one of width {encoded.shape[-1]}"
            raise ConfigurationError(
                f"the observation encoder must return State({{'latent': [..., {self.config.latent_dim}]}}), got {got}"
            )
        return encoded

    def conditioned(self, state: State, read: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the conditioner read of an action, and the embedding ``[B, E]`` of the task."""
        embedding = self.embed(state.get(TASK))
        return read if embedding is None else {**read, TASK: embedding}

    def advance(self, state: State, conditioned: dict[str, Tensor], *, deterministic: bool = True) -> State:
        """The next state. Raises ConfigurationError for dynamics that predict something else."""
        following = self.dynamics_model.transition(state, conditioned, deterministic=deterministic)
        for name, size in (("latent", self.config.latent_dim), ("reward_logits", self.config.num_bins)):
            if name not in following or following[name].shape[-1] != size:
                raise ConfigurationError(f"the dynamics model must predict {name!r} [B, {size}], a tensor of the state")
        return following if TASK not in state else State({**following.tensors, TASK: state[TASK]})

    def _shift(self, seen: dict[str, Tensor], deterministic: bool) -> Tensor | None:
        if deterministic or not self.config.image_names:
            return None
        image = seen[self.config.image_names[0]]
        return draw_shift(*image.shape[:-3], generator=self.generator(image.device), device=image.device)

    def embed(self, task: Tensor | None) -> Tensor | None:
        """Embeddings ``[B, E]`` of tasks ``[B]``; None where there is one task."""
        return None if self.task_embedding is None or task is None else self.task_embedding(task)

    def mask_of(self, task: Tensor | None) -> Tensor | None:
        """Which actions tasks ``[B]`` have, ``[B, A]``; None where there is one task."""
        return None if self.task_embedding is None or task is None else self.action_masks[task]

    def discount_of(self, task: Tensor | None) -> Tensor | float:
        """Discounts ``[B]`` of tasks, or the one there is."""
        discounts = self.config.discounts
        return discounts[0] if task is None else torch.tensor(discounts, device=task.device)[task]

    def discounts(self, state: State) -> Tensor:
        """The discounts ``[B]`` of the tasks of states."""
        return torch.as_tensor(self.discount_of(state[TASK]))

    def draw_heads(self, generator: torch.Generator, device: torch.device) -> Tensor:
        """Two critics ``[2]`` of the ensemble."""
        return torch.randperm(self.config.num_q, generator=generator, device=device)[:2]

    def two_heads(
        self,
        critics: Ensemble,
        x: Tensor,
        heads: Tensor,
        *,
        detach: bool = False,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Logits ``[2, ..., bins]`` of two critics; the others are computed only as a reference."""
        if not self.config.reference:
            return critics(x, heads, detach=detach, keep=keep)
        if keep is not None:
            keep = keep.new_ones(critics.heads, *keep.shape[1:]).index_copy(0, heads, keep)
        return critics(x, detach=detach, keep=keep)[heads]

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return the sum of all scaled losses over a batch ``[B, T, ...]`` of T - 1 steps.

        The policy's is among them, with the critics as they are now. In an update by this model's own optimizer it is
        left out, and taken when the critics have stepped: the official order. Raises ValidationError or
        ShapeMismatchError for a batch that breaks the contract.
        """
        if self.config.episodic and batch.is_terminal is None:
            raise ValidationError(
                "the batch has no 'terminations' (is_terminal), from which episodic=True learns where episodes end: "
                "record them, or build the model with episodic=False"
            )
        self.validate_batch_contract(batch)
        window = objective.read_window(batch, obs=self.observations(batch.obs), actions=self.actions(batch.actions))
        return self.compute_loss(window, objective.draw_noise(self, window))

    def compute_loss(self, window: objective.Window, noise: objective.Noise) -> LossOutput:
        """The loss of a window under given noise."""
        if self.training and self.task_embedding is not None and window.task is not None:
            self.task_embedding.renormalise(window.task)
        found = self._run(objective.world_model_losses)(self, window, noise)
        components = {name: value.detach() for name, value in found.components.items()}
        metrics: dict[str, Any] = dict(found.metrics)
        if self.policy_phase.open and self.training and torch.is_grad_enabled():
            self.policy_phase.postponed.append((found.policy, components, metrics))
            return LossOutput(found.total, components, metrics)
        value, logged = self.policy_loss(found.policy)
        return LossOutput(found.total + value, {**components, "policy": value.detach()}, {**metrics, **logged})

    def policy_loss(self, inputs: objective.PolicyInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The policy's loss by the critics of now, and what to log."""
        return self._run(objective.policy_losses)(self, inputs)  # type: ignore[no-any-return]

    def _run(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return objective.compiled(function) if self.config.compiled else function

    @torch.no_grad()
    def on_after_optimizer_step(self) -> None:
        """Move the target critics towards the critics."""
        own: list[Tensor] = list(self.critics.parameters())
        torch._foreach_lerp_(list(self.target_critics.buffers()), own, self.config.tau)
        self.updates += 1
        if self.policy_phase.postponed:  # another optimizer stepped: that which opened the phase is gone
            self.policy_phase.close()

    def training_defaults(self) -> dict[str, Any]:
        config = self.config
        return {
            "batch_size": config.batch_size,
            "sequence_length": config.horizon + 1,
            "learning_rate": config.learning_rate,
            "grad_clip": config.grad_clip,
            "replay_ratio": config.batch_size * (config.horizon + 1) * config.updates_per_step,
            "num_envs": config.num_envs,
            "min_rows": config.seed_rows or None,
            "boundary": "within",
            "catch_up": True,
            "env_steps": config.env_steps,
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the encoder (a lower rate), the rest of the world model, and the policy (its own Adam and clip)."""
        config = self.config
        encoder = [p for p in _parameters(self.observation_encoder) if p.requires_grad]
        policy = [p for p in self.prior.parameters() if p.requires_grad]
        apart = {id(p) for p in (*encoder, *policy)}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in apart]
        rate = config.learning_rate
        groups: list[dict[str, Any]] = [
            {"params": encoder, "lr": rate * config.enc_lr_scale},
            {"params": others, "lr": rate},
            {"params": policy, "lr": rate, "eps": 1e-5, "grad_clip": config.grad_clip},
        ]
        return [group for group in groups if group["params"]]

    def configure_optimizer(self, config: Any) -> TwoPhaseAdam:
        """Return Adam in the official order; ``config`` gives ``learning_rate``, ``weight_decay``, ``grad_clip``."""
        groups = [
            {**group, "lr": group["lr"] / self.config.learning_rate * config.learning_rate}
            for group in self.parameter_groups()
        ]
        return TwoPhaseAdam(
            groups,
            model=self,
            policy_clip=config.grad_clip,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy(self, *, generator: torch.Generator | None = None) -> Policy:  # type: ignore[override]
        """Return the planner as a policy, or the policy prior alone (``mpc=False``); ``generator`` replaces the
        model's own."""
        return make_policy(self, generator=generator)

    def act(self, state: State, noise: Tensor | None) -> Tensor:
        """The policy prior's action ``[B, A]``; without noise its best guess."""
        task = state.get(TASK)
        return self.prior.act(objective.joined(state["latent"], self.embed(task)), noise, self.mask_of(task))

    # What a planner finds here (worldflux.planners.offers):

    def value_noise(self, batch_size: int, *, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Draw the policy's noise ``action [B, A]`` and the critics ``heads [2]`` that judge."""
        return {
            "action": self.prior.noise(batch_size, generator=generator, device=device),
            "heads": self.draw_heads(generator, device),
        }

    def terminal_value(self, state: State, noise: dict[str, Tensor]) -> Tensor:
        """The value ``[B]``: the mean of two critics for an action the policy samples."""
        action = self.act(state, noise["action"])
        x = objective.joined(state["latent"], self.embed(state.get(TASK)), action)
        return twohot.decode(self.two_heads(self.critics, x, noise["heads"]), limit=self.config.vmax).mean(0)

    def proposal_noise(
        self, horizon: int, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """Draw the policy's noise ``action [H, B, A]``."""
        return {"action": self.prior.noise(horizon, batch_size, generator=generator, device=device)}

    def propose(self, state: State, horizon: int, noise: dict[str, Tensor]) -> Tensor:
        """Plans ``[H, B, A]`` of the policy in imagination."""
        actions = []
        for step in range(horizon):
            actions.append(self.act(state, noise["action"][step]))
            if step + 1 < horizon:
                state = self.transition(state, actions[-1], deterministic=True)
        return torch.stack(actions)

    def action_mask(self, state: State) -> Tensor:
        """1 where the state's task has an action, ``[B, A]``."""
        mask = self.mask_of(state.get(TASK))
        return self.action_masks.expand(state.batch_size, -1) if mask is None else mask


def _parameters(part: Any) -> list[torch.nn.Parameter]:
    return list(part.parameters()) if isinstance(part, torch.nn.Module) else []
