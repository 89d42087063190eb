"""V-JEPA 2-AC as a world model: a frozen encoder of frames, and a predictor of what actions make of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from worldflux import (
    Batch,
    Capability,
    CapabilityError,
    ConfigurationError,
    LossOutput,
    Policy,
    Recipe,
    State,
    StateSpec,
    ValidationError,
    WorldModel,
    vector,
)
from worldflux.blocks import PlainActions, action_in, valid_steps

from ..layers.video import Encoder
from ..layers.weights import initialise
from .cache import CachedRollout
from .config import POSE, VECTORS, VJEPA2ACConfig
from .losses import missed, normed, unrolled
from .pose import moved
from .predictor import Predictor
from .window import Frames, begun, followed, fresh, state_of


class VJEPA2AC(WorldModel):
    """Predicts the next frame's tokens from those of the last ones, the actions done and, of an arm, its poses.

    States hold ``latent [B, N, D]``, the newest frame's tokens with mean 0 and deviation 1 each; where observed,
    ``pose [B, 7]`` and ``extrinsics [B, 6]``; and of the frames before ``past``, ``past_actions``, ``past_pose``,
    ``past_extrinsics`` ``[B, W - 1, ...]`` and ``length [B]``, how many of them there are. It decodes nothing and knows
    no reward: a goal is an observation.

    Source: Assran et al. 2025, "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning";
    facebookresearch/vjepa2 at c2963a4.
    """

    config_class = VJEPA2ACConfig
    config: VJEPA2ACConfig
    capabilities = frozenset({Capability.REPRESENTATION, Capability.LATENT_DYNAMICS, Capability.PLANNING})

    def __init__(self, config: VJEPA2ACConfig) -> None:
        super().__init__(config)
        self.rollout_executor = CachedRollout(self.rollout_executor)
        self.observation_encoder = Encoder(config)
        self.action_conditioner = PlainActions()
        self.dynamics_model = Predictor(config)
        self.decoder = None
        self.initialise()
        self._freeze()

    def initialise(self) -> None:
        """Set every weight from the config's seed."""
        generator = torch.Generator().manual_seed(self.config.seed)
        for part in (self.observation_encoder, self.dynamics_model):
            initialise(part, generator=generator)

    def set_component(self, slot: str, value: Any) -> None:
        """Replace a component; an encoder does not learn, whoever's it is."""
        super().set_component(slot, value)
        self._freeze()

    def _freeze(self) -> None:
        if isinstance(self.observation_encoder, nn.Module):
            self.observation_encoder.requires_grad_(False)

    # --- what it is -----------------------------------------------------------------------------------------------

    def state_spec(self) -> StateSpec:
        config, before = self.config, self.config.window - 1
        tokens = (config.grid[0] * config.grid[1], config.embed_dim)
        return StateSpec(
            {
                "latent": vector(*tokens),
                **{name: vector(VECTORS[name]) for name in config.vectors},
                "past": vector(before, *tokens),
                "past_actions": vector(before, config.action_dim),
                **{f"past_{name}": vector(before, VECTORS[name]) for name in config.vectors},
                "length": vector(dtype="int64"),
            }
        )

    @torch.no_grad()
    def latent(self, obs: dict[str, Tensor]) -> Tensor:
        """The tokens ``[..., N, D]`` of images ``[..., C, H, W]``, each encoded by itself, with mean 0 and deviation 1.

        Raises ConfigurationError for an encoder that gives others.
        """
        tokens = self.encoded(obs, "latent", self.config.embed_dim)
        rows, columns = self.config.grid
        if tokens.shape[-2] != rows * columns:
            raise ConfigurationError(
                f"the encoder must give a 'latent' of {rows * columns} tokens, got {tuple(tokens.shape)}"
            )
        return normed(tokens, eps=self.config.latent_eps)

    def vectors(self, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is observed beside the image."""
        return {name: obs[name] for name in self.config.vectors}

    # --- time -----------------------------------------------------------------------------------------------------

    def begin(self, obs: dict[str, Tensor], *, deterministic: bool) -> State:
        """What is seen, and no frame before it."""
        sizes = {"window": self.config.window, "action_dim": self.config.action_dim}
        return fresh(self.latent(obs), self.vectors(obs), **sizes)

    def advance(self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        """What is predicted; the pose is where the action takes it."""
        said = self.dynamics_model.transition(state, conditioned, deterministic=deterministic)
        wanted = state["latent"].shape
        if not isinstance(said, State) or "latent" not in said or said["latent"].shape != wanted:
            raise ConfigurationError(f"the dynamics model must predict a State with 'latent' {tuple(wanted)}")
        return self.arrived(state, self.read(action, conditioned), said["latent"])

    def arrived(self, state: State, action: Tensor, predicted: Tensor) -> State:
        """The state after an action ``[B, A]``, as it was read, led to ``predicted [B, N, D]``, not yet normed."""
        vectors = {name: state[name] for name in self.config.vectors}
        if POSE in vectors:
            vectors[POSE] = moved(state[POSE], action)
        return followed(state, action, normed(predicted, eps=self.config.latent_eps), vectors)

    def correct(
        self,
        state: State,
        action: Tensor,
        conditioned: dict[str, Tensor],
        obs: dict[str, Tensor],
        *,
        deterministic: bool,
    ) -> State:
        """What is seen; the frame before joins those that are looked back on."""
        seen, history = (self.latent(obs), self.vectors(obs)), self.config.history
        return followed(state, self.read(action, conditioned), *seen, history=history)

    def read(self, action: Tensor, conditioned: dict[str, Tensor]) -> Tensor:
        """What is read of an action ``[B, A]``."""
        return action_in(conditioned, like=action, size=self.config.action_dim)

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return what predictions of the next frame miss of clips ``[B, T, ...]``, of one step and of several on end.

        Raises ValidationError or ShapeMismatchError for a batch that breaks the contract, or is longer than the window.
        """
        batch = self.checked(batch)
        counts = valid_steps(batch)
        if (steps := counts.shape[1]) > self.config.window:
            raise ValidationError(
                f"clips of {steps + 1} rows need a window of {steps} frames, it is {self.config.window}: train on "
                f"sequences of {self.config.window} rows, or set window"
            )
        assert batch.actions is not None
        latents, actions = self.latent(batch.obs), batch.actions[:, :-1].flatten(0, 1)
        given = {name: value[:, :-1] for name, value in self.vectors(batch.obs).items()}
        before = fresh(latents[:, :-1].flatten(0, 1), {}, window=1, action_dim=self.config.action_dim)
        vectors = {name: value.flatten(0, 1) for name, value in given.items()}
        said = self.action_conditioner.condition(State({**before.tensors, **vectors}), actions)
        read = self.read(actions, said).unflatten(0, counts.shape)
        frames = Frames(latents[:, :-1], read, given, begun(batch.is_first, counts))
        return self.clip_loss(frames, latents[:, 1:], counts)

    def clip_loss(self, frames: Frames, seen: Tensor, counts: Tensor) -> LossOutput:
        """The loss of frames ``[B, T, N, D]``, each of which ``seen [B, T, N, D]`` followed; ``counts [B, T]``.

        A rollout begins at the first frame, and counts as long as nothing in it does not.
        """
        exponent, steps = self.config.loss_exponent, min(self.config.auto_steps, seen.shape[1])
        forced = self.predicted(frames)
        alone = missed(forced, seen, counts, exponent=exponent)
        rolled = unrolled(self.predicted, frames, forced, steps=steps)
        on_end = missed(rolled, seen[:, :steps], counts[:, :steps].cumprod(1), exponent=exponent)
        still = missed(frames.latents, seen, counts, exponent=exponent)  # what predicting no change would miss
        return LossOutput(
            alone + on_end,
            {"teacher_forced": alone.detach(), "rollout": on_end.detach()},
            {"no_change": still},
            latents={"latent": torch.cat([frames.latents, seen[:, -1:]], 1)},
        )

    def predicted(self, frames: Frames) -> Tensor:
        """What follows each frame, given those up to it, ``[B, T, N, D]``, normed."""
        dynamics = self.dynamics_model
        if callable(ahead := getattr(dynamics, "ahead", None)):
            return normed(ahead(frames), eps=self.config.latent_eps)
        found = []
        for count in range(1, frames.latents.shape[1] + 1):
            state, action = state_of(frames.first(count), window=self.config.window)
            found.append(dynamics.transition(state, {"action": action}, deterministic=True)["latent"])
        return normed(torch.stack(found, 1), eps=self.config.latent_eps)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return matrices, which decay, and biases and norms, which do not."""
        apart: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, value in self.named_parameters():
            if value.requires_grad:
                apart[value.ndim > 1 and "bias" not in name].append(value)
        rate = self.config.learning_rate
        return [{"params": apart[True], "lr": rate}, {"params": apart[False], "lr": rate, "weight_decay": 0.0}]

    def training_defaults(self) -> Recipe:
        return Recipe.of(self.config, optimizer="adamw", sequence_length=self.config.window, boundary="within")

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy(self, **options: Any) -> Policy:
        """Raise CapabilityError: a goal is missing."""
        raise CapabilityError(
            "V-JEPA 2-AC acts towards a goal: worldflux.planners.PlannerPolicy(model, planner, "
            "GoalObjective(model.encode(goal), key='latent')) with a planner such as vjepa2_ac.ArmPlanner"
        )
