"""TD-MPC2 as a world model with a policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from worldflux import (
    Batch,
    Capability,
    ConfigurationError,
    LossOutput,
    ModalityKind,
    ModalitySpec,
    Policy,
    PredictionSpec,
    Recipe,
    State,
    StateSpec,
    ValidationError,
    decoder_losses,
    vector,
)
from worldflux.blocks import ActingModel, Ensemble, PlainActions, ema_

from . import losses, twohot
from .compiling import compilable
from .config import TASK, TDMPC2Config
from .dynamics import Decoder, Dynamics
from .encoder import Encoder, draw_shift, shifted
from .networks import RunningScale, TaskEmbedding, initialise, joined, mish
from .policy import PlanningPolicy, PriorPolicy
from .prior import make_prior
from .window import Noise, Window, draw_heads, draw_noise, read_window, with_task


class TDMPC2(ActingModel):
    """Encoder, latent dynamics, reward, critics and a policy prior, for planning at every step; no decoder of pixels.

    States hold ``latent [B, D]`` (groups of simplices), ``reward_logits [B, bins]``, the reward of arriving in them
    as two bins (zeros, which mean 0, where nothing led to them), and with several tasks ``task [B]``.
    ``decode(state).preds`` holds ``reward`` and, of episodic models, ``continue`` (a probability).

    Source: Hansen et al. 2024, "TD-MPC2: Scalable, Robust World Models for Continuous Control"; nicklashansen/tdmpc2 at
    e9f5932.
    """

    config_class = TDMPC2Config
    config: TDMPC2Config
    optional_state = ("reward_logits",)
    action_masks: Tensor
    updates: Tensor

    def __init__(self, config: TDMPC2Config) -> None:
        super().__init__(config)
        self.observation_encoder = Encoder(config)
        self.action_conditioner = PlainActions()
        self.dynamics_model = Dynamics(config)
        self.decoder = Decoder(config)
        self.prior = make_prior(config)
        inputs = config.latent_dim + config.embedding_dim + config.actions.dim
        sizes = (inputs, config.mlp_dim, config.mlp_dim, config.num_bins)
        self.critics = Ensemble(config.num_q, sizes, mish, normed=True)
        self.target_critics = Ensemble(config.num_q, sizes, mish, normed=True, frozen=True)
        self.value_scale = RunningScale(config.tau)
        self.task_embedding = TaskEmbedding(config.num_tasks, config.task_dim) if config.num_tasks > 1 else None
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        dims = torch.tensor(config.action_dims or (config.action_dim,) * config.num_tasks)
        masks = torch.arange(config.action_dim) < dims.unsqueeze(-1)
        self.register_buffer("action_masks", masks.float(), persistent=False)
        known = {
            Capability.LATENT_DYNAMICS, Capability.REPRESENTATION, Capability.REWARD_PRED, Capability.PLANNING,
            Capability.VALUE, Capability.POLICY,
        }  # fmt: skip
        self.capabilities = frozenset(known | ({Capability.CONTINUE_PRED} if config.episodic else set()))
        self.batch_keys = ("obs", "actions", "rewards", *(["terminations"] if config.episodic else []))
        self.initialise()

    def initialise(self) -> None:
        """Set every weight from the config's seed; rewards and values start at 0, targets as the critics are."""
        parts = (
            self.observation_encoder, self.dynamics_model, self.decoder, self.prior, self.critics, self.target_critics,
            self.task_embedding, self.action_conditioner,
        )  # fmt: skip
        zeros = [self.critics[-1]]
        if isinstance(self.dynamics_model, Dynamics):
            zeros.append(self.dynamics_model.reward[-1])
        layers = (layer for part in parts if isinstance(part, nn.Module) for layer in part.modules())
        initialise(layers, zeros=zeros, generator=torch.Generator().manual_seed(self.config.seed))
        self.target_critics.load_state_dict(self.critics.state_dict())

    # --- what it is -----------------------------------------------------------------------------------------------

    def state_spec(self) -> StateSpec:
        tensors = {"latent": vector(self.config.latent_dim), "reward_logits": vector(self.config.num_bins)}
        if self.config.num_tasks > 1:
            tensors[TASK] = ModalitySpec(ModalityKind.OTHER, (), "int64")
        return StateSpec(tensors)

    def prediction_spec(self) -> PredictionSpec:
        return PredictionSpec({name: vector() for name in ("reward", "continue")[: 1 + self.config.episodic]})

    # --- time -----------------------------------------------------------------------------------------------------

    def begin(self, obs: dict[str, Tensor], *, deterministic: bool) -> State:
        """Nothing led here, so it pays nothing. Images are shifted at random by up to 3 pixels unless certain."""
        shift = None
        if self.config.image_names and not deterministic:
            image = obs[self.config.image_names[0]]
            shift = draw_shift(len(image), generator=self.generator(image.device), device=image.device)
        self._check_task(obs)
        return self.start(obs, obs.get(TASK), shift)

    def start(self, obs: dict[str, Tensor], task: Tensor | None, shift: Tensor | None) -> State:
        """The state of observations ``[B, ...]`` that nothing led to; images are moved by ``shift [B, 2]``."""
        latent = self.latent(obs, task, shift)
        state = {"latent": latent, "reward_logits": latent.new_zeros(*latent.shape[:-1], self.config.num_bins)}
        return State(state if task is None else {**state, TASK: task})

    def advance(self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        """What the dynamics say of the latent, of the task and of what the conditioner read.

        Raises ConfigurationError for dynamics that predict something else.
        """
        if (embedding := self.embed(state.get(TASK))) is not None:
            conditioned = {**conditioned, TASK: embedding}
        ahead = super().advance(state, action, conditioned, deterministic=deterministic)
        for name, size in (("latent", self.config.latent_dim), ("reward_logits", self.config.num_bins)):
            if name not in ahead or ahead[name].shape[-1] != size:
                raise ConfigurationError(f"the dynamics model must predict {name!r} [B, {size}], a tensor of the state")
        return ahead if embedding is None else State({**ahead.tensors, TASK: state[TASK]})

    def correct(
        self,
        state: State,
        action: Tensor,
        conditioned: dict[str, Tensor],
        obs: dict[str, Tensor],
        *,
        deterministic: bool,
    ) -> State:
        """What is seen; the reward is that predicted for the action."""
        seen = self.begin(obs, deterministic=deterministic)
        ahead = self.advance(state, action, conditioned, deterministic=deterministic)
        return State({**seen.tensors, "reward_logits": ahead["reward_logits"]})

    def latent(self, obs: dict[str, Tensor], task: Tensor | None, shift: Tensor | None) -> Tensor:
        """Latents ``[..., B, D]`` of observations ``[..., B, *shape]``, of which images are moved by ``shift``."""
        if shift is not None:
            obs = {**obs, **{name: shifted(obs[name], shift) for name in self.config.image_names}}
        if (embedding := self.embed(task)) is not None:
            obs = {**obs, TASK: embedding}
        return self.encoded(obs, "latent", self.config.latent_dim)

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return the sum of all scaled losses over a batch ``[B, T, ...]`` of T - 1 steps; the policy's is by the
        critics as they are now. Raises ValidationError or ShapeMismatchError for a batch that breaks the contract."""
        window, noise = self.drawn(batch)
        self._renormalise(window.task)
        world, latents = self.world_model_loss(window, noise)
        policy = self.policy_loss(latents, window, noise)
        components = {**world.components, **policy.components}
        return LossOutput(world.loss + policy.loss, components, {**world.metrics, **policy.metrics})

    def steps(self, batch: Batch) -> Iterator[LossOutput]:
        """The official order: the world model steps, then the policy, judged by the critics of then."""
        yield from self.steps_of(*self.drawn(batch))

    def steps_of(self, window: Window, noise: Noise) -> Iterator[LossOutput]:
        """The steps of an update under given noise. A frozen policy takes none."""
        self._renormalise(window.task)
        world, latents = self.world_model_loss(window, noise)
        yield world
        if any(parameter.requires_grad for parameter in self.prior.parameters()):
            self._renormalise(window.task)
            yield self.policy_loss(latents, window, noise)

    def drawn(self, batch: Batch) -> tuple[Window, Noise]:
        """What an update learns from, checked, and all of its randomness, from the model's own generator."""
        if self.config.episodic and isinstance(batch, Batch) and batch.is_terminal is None:
            raise ValidationError(
                "the batch has no 'terminations' (is_terminal), from which episodic=True learns where episodes end: "
                "record them, or build the model with episodic=False"
            )
        batch = self.checked(with_task(batch) if self.config.num_tasks > 1 else batch)
        self._check_task(batch.obs)
        window = read_window(batch)
        generator = self.generator(window.reward.device)
        return window, draw_noise(window, self.prior, self.config, training=self.training, generator=generator)

    @compilable
    def world_model_loss(self, window: Window, noise: Noise) -> tuple[LossOutput, Tensor]:
        """Follow the window from its first row, and compare with what was seen and paid.

        Returns the loss, and the latents ``[T, B, D]`` passed, without gradients, from which the policy learns.
        """
        config = self.config
        seen, target = self.targets(window, noise)
        embedding = self.embed(window.task)
        first = {name: value[0] for name, value in window.obs.items()}
        states = [self.start(first, window.task, None if noise.shift is None else noise.shift[0])]
        for action in window.action:
            conditioned = self.action_conditioner.condition(states[-1], action)
            states.append(self.advance(states[-1], action, conditioned, deterministic=True))
        latents = torch.stack([state["latent"] for state in states])
        logits = self.critics(joined(latents[:-1], embedding, window.action), keep=noise.value_keep)
        weight = losses.step_weight(window.valid, rho=config.rho)
        arrived = State({name: torch.stack([state[name] for state in states[1:]]) for name in states[1].tensors})
        wanted = {"reward": window.reward, "continue": 1 - window.terminal}
        if not config.episodic:
            del wanted["continue"]
        decoded = decoder_losses(self.decoder, arrived, wanted, modalities={})
        found = {
            "consistency": losses.consistency_loss(latents[1:], seen, weight),
            "value": losses.value_loss(logits, target, weight, limit=config.vmax),
            "reward": (decoded["rew"] * weight).mean(),
        }
        scales = [config.consistency_coef, config.value_coef, config.reward_coef]
        if config.episodic:
            found["termination"] = (decoded["con"] * window.valid).mean()
            scales.append(config.termination_coef)
        total = torch.stack([scale * value for scale, value in zip(scales, found.values())]).sum()
        return LossOutput(
            total,
            {name: value.detach() for name, value in found.items()},
            {"target": target.mean(), "target_max": target.max()},
            group="model",
        ), latents.detach()

    @torch.no_grad()
    def targets(self, window: Window, noise: Noise) -> tuple[Tensor, Tensor]:
        """The latents ``[H, B, D]`` of the rows arrived in, and the TD targets ``[H, B]`` of the steps that led there.

        Nothing learns from them.
        """
        later = {name: value[1:] for name, value in window.obs.items()}
        seen = self.latent(later, window.task, None if noise.shift is None else noise.shift[1:])
        embedding = self.embed(window.task)
        action = self.prior.act(joined(seen, embedding), noise.target_action, self.mask_of(window.task))
        logits = self.two_heads(self.target_critics, joined(seen, embedding, action), noise.target_heads)
        value = twohot.decode(logits, limit=self.config.vmax).amin(0)
        return seen, losses.td_target(window.reward, window.terminal, value, self.discount_of(window.task))

    @compilable
    def policy_loss(self, latents: Tensor, window: Window, noise: Noise) -> LossOutput:
        """Prefer what two critics value, without being too sure; only the policy learns from it."""
        config, embedding, mask = self.config, self.fixed_embedding(window.task), self.mask_of(window.task)
        action, entropy = self.prior.sample(joined(latents, embedding), noise.policy_action, mask)
        x = joined(latents, embedding, action)
        logits = self.two_heads(self.critics, x, noise.policy_heads, detach=True, keep=noise.policy_keep)
        value = twohot.decode(logits, limit=config.vmax).mean(0)
        if self.training:
            self.value_scale.update(value[0])
        scale = self.value_scale.value
        valid = torch.cat([torch.ones_like(window.valid[:1]), window.valid])  # the first latent is the episode's own
        weight = losses.step_weight(valid, rho=config.rho)
        loss = losses.policy_loss(value / scale, entropy, weight, entropy_coef=config.entropy_coef)
        logged = {"entropy": entropy.detach().mean(), "scale": scale.clone()}
        components = {"policy": loss.detach()}
        if config.behaviour_coef:
            steps = losses.step_weight(window.valid, rho=config.rho)
            behaviour = losses.behaviour_loss(action[:-1], window.action, steps)
            components["behaviour"], loss = behaviour.detach(), loss + config.behaviour_coef * behaviour
        return LossOutput(loss, components, logged, group="policy")

    def on_after_optimizer_step(self) -> None:
        """Move the target critics towards the critics."""
        ema_(self.target_critics.buffers(), self.critics.parameters(), self.config.tau)
        self.updates += 1

    def training_defaults(self) -> Recipe:
        config, rows = self.config, self.config.horizon + 1
        return Recipe.of(
            config,
            sequence_length=rows,
            replay_ratio=config.batch_size * rows * config.updates_per_step,
            min_rows=config.seed_rows or None,
            random_steps=0 if self.updates else config.seed_rows,
            boundary="within",
            catch_up=True,
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the encoder (a lower rate) and the rest of the world model, which step together; and the policy."""
        encoder, rate = self.observation_encoder, self.config.learning_rate
        parts: list[list[nn.Parameter]] = [
            list(encoder.parameters()) if isinstance(encoder, nn.Module) else [],
            list(self.prior.parameters()),
        ]
        apart = {id(p) for part in parts for p in part}
        groups: list[dict[str, Any]] = [
            {"params": parts[0], "lr": rate * self.config.enc_lr_scale, "group": "model"},
            {"params": [p for p in self.parameters() if id(p) not in apart], "lr": rate, "group": "model"},
            {"params": parts[1], "lr": rate, "eps": 1e-5, "group": "policy"},
        ]
        for group in groups:
            group["params"] = [p for p in group["params"] if p.requires_grad]
        return [group for group in groups if group["params"]]

    def configure_optimizer(self, config: Any) -> torch.optim.Adam:
        """Return Adam at the groups' rates; ``config`` gives ``learning_rate`` and ``weight_decay``."""
        groups = self.parameter_groups()
        for group in groups:
            group["lr"] = group["lr"] / self.config.learning_rate * config.learning_rate
        return torch.optim.Adam(groups, lr=config.learning_rate, weight_decay=config.weight_decay)

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy(self, *, generator: torch.Generator | None = None) -> Policy:  # type: ignore[override]
        """Return the planner as a policy, or the policy prior alone (``mpc=False``); ``generator`` replaces the
        model's own."""
        return (PlanningPolicy if self.config.mpc else PriorPolicy)(self, generator=generator)

    def action_noise(self, *shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Draw the policy prior's noise ``[*shape, A]``."""
        return self.prior.noise(*shape, generator=generator, device=device)

    def act(self, state: State, noise: Tensor | None) -> Tensor:
        """The policy prior's action ``[B, A]``; without noise its best guess."""
        task = state.get(TASK)
        return self.prior.act(joined(state["latent"], self.embed(task)), noise, self.mask_of(task))

    # What a planner finds here beside that (worldflux.planners.offers):

    def value_noise(self, batch_size: int, *, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Draw the policy's noise ``action [B, A]`` and the critics ``heads [2]`` that judge."""
        drawn = super().value_noise(batch_size, generator=generator, device=device)
        return {**drawn, "heads": draw_heads(self.config, generator)}

    def terminal_value(self, state: State, noise: dict[str, Tensor]) -> Tensor:
        """The value ``[B]``: the mean of two critics for an action the policy samples."""
        x = joined(state["latent"], self.embed(state.get(TASK)), self.act(state, noise["action"]))
        return twohot.decode(self.two_heads(self.critics, x, noise["heads"]), limit=self.config.vmax).mean(0)

    def action_mask(self, state: State) -> Tensor:
        """1 where the state's task has an action, ``[B, A]``."""
        mask = self.mask_of(state.get(TASK))
        return self.action_masks.expand(state.batch_size, -1) if mask is None else mask

    # --- parts ----------------------------------------------------------------------------------------------------

    def two_heads(
        self, critics: Ensemble, x: Tensor, heads: Tensor, *, detach: bool = False, keep: Tensor | None = None
    ) -> Tensor:
        """Logits ``[2, ..., bins]`` of two critics; the others are computed only as a reference."""
        if not self.config.reference:
            return critics(x, heads, detach=detach, keep=keep)
        if keep is not None:
            keep = keep.new_ones(critics.heads, *keep.shape[1:]).index_copy(0, heads, keep)
        return critics(x, detach=detach, keep=keep)[heads]

    def embed(self, task: Tensor | None) -> Tensor | None:
        """Embeddings ``[B, E]`` of tasks ``[B]``; None where there is one task."""
        return None if self.task_embedding is None or task is None else self.task_embedding(task)

    def fixed_embedding(self, task: Tensor | None) -> Tensor | None:
        """The same, for what must not teach it."""
        embedding = self.embed(task)
        return None if embedding is None else embedding.detach()

    def mask_of(self, task: Tensor | None) -> Tensor | None:
        """Which actions tasks ``[B]`` have, ``[B, A]``; None where there is one task."""
        return None if self.task_embedding is None or task is None else self.action_masks[task]

    def discount_of(self, task: Tensor | None) -> Tensor | float:
        """Discounts ``[B]`` of tasks, or the one there is."""
        discounts = self.config.discounts
        return discounts[0] if task is None else torch.tensor(discounts, device=task.device)[task]

    def _renormalise(self, task: Tensor | None) -> None:
        """In training, shrink the embeddings of tasks that have grown too long in their last step."""
        if self.training and self.task_embedding is not None and task is not None:
            self.task_embedding.renormalise(task)

    def _check_task(self, obs: dict[str, Tensor]) -> None:
        """Raise ValidationError for tasks that there are not."""
        count, task = self.config.num_tasks, obs.get(TASK)
        if task is not None and task.is_floating_point():
            raise ValidationError(f"observation 'task' must hold the numbers of tasks as int64, got {task.dtype}")
        if task is not None and task.numel() and not 0 <= int(task.min()) <= int(task.max()) < count:
            raise ValidationError(
                f"observation 'task' must lie below num_tasks = {count}, got {int(task.min())} to {int(task.max())}"
            )
