"""A JEPA as a world model: latents of observations, and what actions make of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from worldflux import (
    SLOTS,
    Batch,
    Capability,
    CapabilityError,
    ConfigurationError,
    LossOutput,
    ModalitySpec,
    Policy,
    Recipe,
    State,
    StateSpec,
    WorldModel,
    vector,
)
from worldflux.blocks import action_in, decoder_losses, ema_

from .actions import Actions
from .config import JEPAConfig
from .encoders import Encoder, External
from .inverse import AmortisedInverse, asked
from .networks import initialise, settled
from .objective import LatentObjective
from .transformers import KINDS
from .window import followed, fresh, read_clip, spread, states_of


class JEPA(WorldModel):
    """An encoder and a predictor of what it will see; no decoder, no reward: a goal is an observation.

    States hold ``latent [B, D]``, or ``[B, N, D]`` of several latents a row; and where the predictor looks back
    (``history`` W > 1) ``past [B, W - 1, ...]``, ``past_actions [B, W - 1, A]`` as they were conditioned, and
    ``length [B]``, how many of them there are. Slots beside the common ones: ``objective`` (``losses``).

    Sources: LeCun 2022, "A Path Towards Autonomous Machine Intelligence", §4; those of ``JEPAConfig``.
    """

    config_class = JEPAConfig
    config: JEPAConfig
    capabilities = frozenset({Capability.LATENT_DYNAMICS, Capability.REPRESENTATION, Capability.PLANNING})
    batch_keys = ("obs", "actions")
    representation = ("latent",)
    slots: ClassVar[Mapping[str, str]] = {**SLOTS, "objective": "losses"}
    objective: Any

    def __init__(self, config: JEPAConfig) -> None:
        super().__init__(config)
        self.context_rows = config.clip_rows - 2
        self.observation_encoder = External() if config.encoder == "external" else Encoder(config)
        self.action_conditioner, self.dynamics_model = Actions(config), KINDS[config.predictor](config)
        self.objective, self.decoder = LatentObjective(config), None
        self.amortised = AmortisedInverse(config) if config.amortised else None
        self.target_encoder: nn.Module | None = None
        self.initialise()

    def initialise(self) -> None:
        """Set every weight from the config's seed; the target encoder is a copy of the encoder."""
        generator = torch.Generator().manual_seed(self.config.seed)
        parts = (self.dynamics_model, self.objective, self.action_conditioner, self.observation_encoder)
        for part in (*parts, self.amortised):
            initialise(part, generator)
        self.target_encoder = self._copied()
        self._freeze()

    def set_component(self, slot: str, value: Any) -> None:
        """See ``WorldModel.set_component``. A target encoder of other shapes than a new encoder becomes its copy."""
        before, self.target_encoder = self.target_encoder, None
        super().set_component(slot, value)
        now = self._copied()
        self.target_encoder = before if _shapes(before) == _shapes(now) else now
        self._freeze()

    def _copied(self) -> nn.Module | None:
        """What an average of the encoder starts from, where there is to be one."""
        encoder = self.observation_encoder
        if self.config.target != "ema" or not isinstance(encoder, nn.Module):
            return None
        return copy.deepcopy(encoder).requires_grad_(False)

    def _freeze(self) -> None:
        """An encoder that predictions of a frozen target start from does not learn, but for what reads vectors."""
        encoder = self.observation_encoder
        if self.config.target == "frozen" and isinstance(encoder, nn.Module):
            encoder.requires_grad_(False)
            if isinstance(encoder, Encoder) and encoder.several and encoder.vectors is not None:
                encoder.vectors.requires_grad_(True)
            self.train(self.training)

    def train(self, mode: bool = True) -> JEPA:
        """Set the mode; of a frozen encoder it is always that of evaluation."""
        super().train(mode)
        if self.config.target == "frozen" and isinstance(self.observation_encoder, nn.Module):
            self.observation_encoder.eval()
        return self

    # --- what it is -----------------------------------------------------------------------------------------------

    def state_spec(self) -> StateSpec:
        config = self.config
        latent = (config.latent_dim,) if config.num_tokens == 1 else (config.num_tokens, config.latent_dim)
        tensors: dict[str, ModalitySpec] = {"latent": vector(*latent)}
        if before := config.history - 1:
            tensors |= {
                "past": vector(before, *latent),
                "past_actions": vector(before, config.action_dim),
                "length": vector(dtype="int64"),
            }
        return StateSpec(tensors)

    # --- time -----------------------------------------------------------------------------------------------------

    def begin(self, obs: dict[str, Tensor], *, deterministic: bool) -> State:
        """What is seen, and nothing before it."""
        with settled(self):
            latent = self.latent(obs)
        return fresh(latent, history=self.config.history, action_dim=self.config.action_dim)

    def advance(self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        """The predicted latent, which the window then ends with."""
        with settled(self):
            ahead = self.predicted(state, conditioned, deterministic=deterministic)
        return followed(state, self._read(action, conditioned), ahead)

    def correct(
        self,
        state: State,
        action: Tensor,
        conditioned: dict[str, Tensor],
        obs: dict[str, Tensor],
        *,
        deterministic: bool,
    ) -> State:
        """What is seen, which the window then ends with: the next prediction starts from observations alone."""
        with settled(self):
            return followed(state, self._read(action, conditioned), self.latent(obs))

    def latent(self, obs: dict[str, Tensor]) -> Tensor:
        """Latents ``[..., D]``, or ``[..., N, D]``, of observations ``[..., *shape]``."""
        latent = self.encoded(obs, "latent", self.config.latent_dim)
        first, contract = next(iter(obs)), self.io_contract()
        lead = obs[first].shape[: obs[first].ndim - len(contract.effective_input_spec.modalities[first].shape)]
        wanted = (*lead, *contract.state_spec.tensors["latent"].shape)
        if latent.shape != wanted:
            raise ConfigurationError(f"the encoder must give a 'latent' {wanted}, got {tuple(latent.shape)}")
        return latent

    def predicted(self, state: State, conditioned: dict[str, Tensor], *, deterministic: bool) -> Tensor:
        """The next latent. Raises ConfigurationError if the predictor gives none of that shape."""
        ahead = self.dynamics_model.transition(state, conditioned, deterministic=deterministic)
        latent = ahead.get("latent") if isinstance(ahead, State) else None
        if latent is None or latent.shape != state["latent"].shape:
            got = type(ahead).__name__ if latent is None else tuple(latent.shape)
            raise ConfigurationError(f"the predictor must give a 'latent' {tuple(state['latent'].shape)}, got {got}")
        return latent

    def _read(self, action: Tensor, conditioned: dict[str, Tensor]) -> Tensor:
        """What the window remembers of an action ``[B, A]``."""
        return action_in(conditioned, like=action, size=self.config.action_dim)

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return the weighed losses of clips ``[B, T, ...]``, T at least ``history + rollout_steps``.

        Raises ValidationError or ShapeMismatchError for a batch that breaks the contract, is too short for the window,
        or too small for the regulariser.
        """
        batch, config = self.checked(batch), self.config
        assert batch.actions is not None
        furthest = max(config.rollout_steps, config.amortised_steps if config.amortised else 0)
        clip = read_clip(batch, steps=furthest, rows=config.clip_rows)
        latents = self.latent(batch.obs)
        if isinstance(self.action_conditioner, Actions):
            self.action_conditioner.observe(batch.actions[:, :-1].flatten(0, 1), clip.valid[0].flatten())
        predictions = [
            spread(ahead, config.num_tokens) for ahead in self.rolled_out(latents, batch.actions, clip.begun)
        ]
        seen, targets = (spread(x, config.num_tokens) for x in (latents, self.targets(batch.obs, latents)))
        noise = self.objective.noise(seen.shape, generator=self.generator(seen.device), device=seen.device)
        terms, metrics = self.objective.losses(
            seen, targets, predictions, batch.actions, clip.valid[: config.rollout_steps], noise
        )
        terms |= self.decoded(batch.obs, latents)
        if self.amortised is not None:
            terms["amortised"] = self.amortised.loss(seen, batch.actions, clip.valid[: config.amortised_steps])
        return LossOutput(
            torch.stack(list(terms.values())).sum(),
            {name: value.detach() for name, value in terms.items()},
            metrics,
            latents={"latent": latents.detach()},
        )

    def decoded(self, obs: dict[str, Tensor], latents: Tensor) -> dict[str, Tensor]:
        """The error of a part in the slot ``decoder`` that learns, of latents that do not learn from it."""
        if not isinstance(self.decoder, nn.Module) or not any(p.requires_grad for p in self.decoder.parameters()):
            return {}
        state = State({"latent": latents.detach()})
        errors = decoder_losses(self.decoder, state, obs, modalities=self.config.modalities)
        return {"decoder": torch.stack([error.mean() for error in errors.values()]).sum()}

    def rolled_out(self, latents: Tensor, actions: Tensor, begun: Tensor) -> list[Tensor]:
        """What is predicted k = 1 to K rows ahead, each ``[B, T - k, ...]``, of latents ``[B, T, ...]``."""
        size, rows = begun.shape
        history, steps = self.config.history, self.config.rollout_steps
        flat = self.action_conditioner.condition(State({"latent": latents.flatten(0, 1)}), actions.flatten(0, 1))
        conditioned = {name: value.unflatten(0, (size, rows)) for name, value in flat.items()}
        read = self._read(actions, conditioned)
        face, found = getattr(self.dynamics_model, "sequence", None), list[Tensor]()
        if face is not None and steps == 1 and rows - 1 <= history:  # each row's whole window is in the clip: one pass
            before = {name: value[:, :-1] for name, value in conditioned.items()} | self._drop(latents.device)
            return [face(latents[:, :-1], before, begun[:, :-1])]
        state = states_of(latents, read, begun, history=history)
        for ahead in range(1, steps + 1):
            left = rows - ahead
            state = state.map(lambda value, n=left: value.unflatten(0, (size, -1))[:, :n].flatten(0, 1))  # type: ignore[misc]
            here = {n: value[:, ahead - 1 : ahead - 1 + left].flatten(0, 1) for n, value in conditioned.items()}
            latent = self.predicted(state, here | self._drop(latents.device), deterministic=True)
            state = followed(state, self._read(actions[:, :left].flatten(0, 1), here), latent)
            found.append(latent.unflatten(0, (size, left)))
        return found

    def _drop(self, device: torch.device) -> dict[str, Tensor]:
        """In training a seed for what drops out of one prediction, from the model's own generator."""
        if not self.training or not self.config.dropout:
            return {}
        return {"drop": torch.randint(2**62, (1,), generator=self.generator(device), device=device)}

    def targets(self, obs: dict[str, Tensor], latents: Tensor) -> Tensor:
        """What predictions are compared with, ``[B, T, ...]``."""
        if self.config.target == "online":
            return latents
        if self.target_encoder is None:
            return latents.detach()
        with torch.no_grad():
            given: Tensor = self.target_encoder.encode(obs)["latent"]  # type: ignore[operator]
        return given

    def on_after_optimizer_step(self) -> None:
        """Move the target encoder towards the encoder."""
        if self.target_encoder is not None:
            now = self.observation_encoder.parameters()
            ema_(self.target_encoder.parameters(), now, 1 - self.config.ema_decay)

    def training_defaults(self) -> Recipe:
        return Recipe.of(self.config, optimizer="adamw", sequence_length=2, boundary="within")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All that learns together, and by itself what reads actions out of latents: the others' clipping spares it."""
        group, *_ = groups = super().parameter_groups()
        if self.amortised is not None:
            head = list(self.amortised.parameters())
            group["params"] = [value for value in group["params"] if not any(value is own for own in head)]
            groups.append({"params": head, "lr": self.config.learning_rate, "grad_clip": self.config.grad_clip})
        return groups

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy(self, **options: Any) -> Policy:
        """Raise CapabilityError: a goal is missing."""
        raise CapabilityError(
            "a JEPA knows no reward, so it has no policy without a goal: plan towards one with "
            "worldflux.planners.PlannerPolicy(model, planner, GoalObjective(model.encode(goal), key='latent')), or "
            "`worldflux plan RUN --goal ...`"
        )

    def actions_to_goal(self, state: State, goal: State, horizon: int) -> Tensor:
        """Plans ``[H, B, A]`` that lead from states towards goals; see ``worldflux.planners.OffersActions``."""
        head = asked(self.amortised, horizon)
        before, after = (x["latent"] if self.config.num_tokens == 1 else x["latent"].mean(-2) for x in (state, goal))
        return head(before, after, steps=horizon).transpose(0, 1)


def _shapes(part: nn.Module | None) -> list[torch.Size]:
    return [] if part is None else [value.shape for value in part.state_dict().values()]
