"""DreamerV3 as a world model with a policy."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import CapabilityError, ConfigurationError, ShapeMismatchError
from worldflux.core.model import Action, Observations, WorldModel
from worldflux.core.output import LossOutput
from worldflux.core.payloads import ConditionPayload
from worldflux.core.spec import (
    Capability,
    ModalityKind,
    ModalitySpec,
    ModelIOContract,
    ObservationSpec,
    PredictionSpec,
    SequenceLayout,
    StateSpec,
)
from worldflux.core.state import State

from . import fast, objective
from .actor import Actor
from .config import DreamerV3Config
from .decoder import Decoder
from .distributions import sample_latent
from .encoder import Encoder
from .losses import entropy
from .networks import Head, initialise
from .normalize import ReturnNormalizer
from .objective import Noise
from .optim import LaProp
from .policy import DreamerPolicy
from .rollout import OpenLoop
from .rssm import ActionConditioner, Dynamics, Posterior
from .sequences import Sequence, read_sequence


class DreamerV3(WorldModel):
    """Recurrent state-space model, actor and critic, learnt together from one loss.

    States hold ``deter [B, D]`` and ``stoch [B, S, C]`` (one-hot). ``decode(state).preds`` holds ``reward``,
    ``continue`` (a probability that already carries the discount) and each observation in the data's units.

    Source: Hafner et al. 2023, "Mastering Diverse Domains through World Models"; danijar/dreamerv3 at e3f0224.
    """

    config_class = DreamerV3Config
    config: DreamerV3Config
    context_rows = 1
    # slots, each replaceable by anything with the slot's method
    observation_encoder: Any
    action_conditioner: Any
    dynamics_model: Any
    decoder: Any
    rollout_executor: Any

    def __init__(self, config: DreamerV3Config) -> None:
        super().__init__(config)
        self.observation_encoder = Encoder(config)
        self.action_conditioner = ActionConditioner(config)
        self.dynamics_model = Dynamics(config)
        self.decoder = Decoder(config)
        self.rollout_executor = OpenLoop()
        self.posterior = Posterior(config, self.observation_encoder.token_dim)
        known = {
            Capability.LATENT_DYNAMICS, Capability.REPRESENTATION, Capability.OBS_DECODER,
            Capability.REWARD_PRED, Capability.CONTINUE_PRED,
        }  # fmt: skip
        if config.actor_critic:
            latent = config.deter_dim + config.stoch_dim
            self.actor = Actor(config)
            self.critic, self.slow_critic = (
                Head(latent, config.units, config.value_layers, config.bins, outscale=0.0) for _ in range(2)
            )
            self.return_normalizer = ReturnNormalizer(
                rate=config.return_rate, limit=config.return_limit, low=config.return_low, high=config.return_high
            )
            known |= {Capability.VALUE, Capability.POLICY}
        self.capabilities = frozenset(known)
        initialise(self, torch.Generator().manual_seed(config.seed))
        if config.actor_critic:
            self.slow_critic.load_state_dict(self.critic.state_dict())
            self.slow_critic.requires_grad_(False)

    # --- the contract ---------------------------------------------------------------------------------------------

    def io_contract(self) -> ModelIOContract:
        return self._contract

    @cached_property
    def _contract(self) -> ModelIOContract:
        """Asked for several times a step, and the same for life."""
        config, vector = self.config, ModalityKind.VECTOR
        latent = {
            "deter": ModalitySpec(vector, (config.deter_dim,)),
            "stoch": ModalitySpec(vector, (config.stoch, config.classes)),
        }
        scalars = {name: ModalitySpec(vector, ()) for name in ("reward", "continue")}
        decoded = {n: ModalitySpec(spec.kind, spec.shape) for n, spec in config.modalities.items()}
        fields = ("obs", "actions", "rewards", "terminations")
        return ModelIOContract(
            observation_spec=ObservationSpec(config.modalities),
            action_spec=config.actions,
            state_spec=StateSpec(latent),
            prediction_spec=PredictionSpec({**decoded, **scalars}),
            sequence_layout=SequenceLayout(dict.fromkeys(fields, "BT...")),
            required_batch_keys=fields,
            required_state_keys=tuple(latent),
        )

    def encode(self, obs: Observations, deterministic: bool = False) -> State:
        """Return the state of a fresh episode that starts with ``obs`` (each modality ``[B, ...]``)."""
        tokens = self.tokens(self.observations(obs))
        start = self.initial_state(tokens.shape[0], tokens.device)
        nothing = tokens.new_zeros(tokens.shape[0], self.config.actions.dim)
        return self._correct(start, nothing, tokens, None, deterministic)

    def update(
        self,
        state: State,
        action: Action,
        obs: Observations,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the state after ``action [B, A]`` led to ``obs`` (the posterior)."""
        tokens = self.tokens(self.observations(obs))
        if tokens.shape[0] != state.batch_size:
            raise ShapeMismatchError("observations of the update", expected=state.batch_size, got=tokens.shape[0])
        return self._correct(state, action, tokens, conditions, deterministic)

    def transition(
        self,
        state: State,
        action: Action,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> State:
        """Return the imagined next state (the prior) after ``action [B, A]``."""
        conditioned = self.condition(state, action, conditions)
        noise = None if deterministic else self._uniform(state["deter"].shape[0], state["deter"].device)
        return self._advance(state, conditioned, noise)

    def _correct(
        self, state: State, action: Action, tokens: Tensor, conditions: ConditionPayload | None, deterministic: bool
    ) -> State:
        conditioned = self.condition(state, action, conditions)
        deter = self._advance(state, conditioned, None)["deter"]
        noise = None if deterministic else self._uniform(deter.shape[0], deter.device)
        return State({"deter": deter, "stoch": sample_latent(self.posterior(deter, tokens), self.config.unimix, noise)})

    def _advance(self, state: State, conditioned: dict[str, Tensor], noise: Tensor | None) -> State:
        if noise is not None:
            conditioned = {**conditioned, "noise": noise}
        ahead = self.dynamics_model.transition(state, conditioned, deterministic=noise is None)
        return State({name: ahead[name] for name in ("deter", "stoch")}, ahead.meta)

    def imagine_step(self, state: State, action: Tensor, noise: Tensor | None) -> State:
        """One step of the imagination that the actor learns from, through whatever components are in place."""
        if type(self.rollout_executor) is not OpenLoop:
            imagined = self.rollout_executor.rollout_open_loop(self, state, action[None], None, noise is None)
            return State({name: imagined.states[-1][name] for name in ("deter", "stoch")})
        return self._advance(state, self.action_conditioner.condition(state, action), noise)

    def tokens(self, observations: dict[str, Tensor]) -> Tensor:
        """Embedding ``[..., E]`` of checked observations. Raises ConfigurationError for an encoder of another width."""
        encoded = self.observation_encoder.encode(observations)
        width = self.posterior.mlp[0].kernel.shape[0] - self.config.deter_dim
        tokens = encoded.get("tokens")
        if tokens is None or tokens.shape[-1] != width:
            got = sorted(encoded.tensors) if tokens is None else f"tokens of width {tokens.shape[-1]}"
            raise ConfigurationError(
                f"the observation encoder must return State({{'tokens': [..., {width}]}}), got {got}"
            )
        return tokens

    def _uniform(self, size: int, device: torch.device) -> Tensor:
        return torch.rand(size, self.config.stoch, generator=self.generator(device), device=device)

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return the sum of all scaled losses over a batch ``[B, T + 1, ...]``; its first row only starts the sequence.

        ``latents`` (``deter [B, T, D]``, ``stoch`` as classes ``[B, T, S]``) are for the replay's last T rows.
        Raises ValidationError or ShapeMismatchError for a batch that breaks the contract.
        """
        self.validate_batch_contract(batch)
        seq = read_sequence(
            batch, obs=self.observations(batch.obs), actions=self.actions(batch.actions), config=self.config
        )
        return self.compute_loss(seq, self._draw_noise(seq))

    def compute_loss(self, seq: Sequence, noise: Noise) -> LossOutput:
        """The loss of a sequence under given noise."""
        swift = fast.applicable(self)
        tokens = self.tokens(seq.obs)
        trace = (fast if swift else objective).observe(self, seq, tokens, noise.posterior)
        found = objective.world_model_losses(self, seq, trace)
        if seq.weight is not None:
            found = {name: value * seq.weight for name, value in found.items()}
        components = {name: value.mean() for name, value in found.items()}
        metrics = {
            "dyn_ent": entropy(trace.prior.detach(), self.config.unimix).mean(),
            "rep_ent": entropy(trace.post.detach(), self.config.unimix).mean(),
        }
        if self.config.actor_critic:
            starts = self._starts(seq.reward.shape[1])
            start = State({n: value[:, -starts:].detach().flatten(0, 1) for n, value in trace.state.tensors.items()})
            imagined = (fast if swift else objective).imagine(self, start, noise)
            more, logged = objective.actor_critic_losses(self, seq.last(starts), trace.last(starts), imagined)
            components, metrics = components | more, metrics | logged
        total = torch.stack([self.config.loss_scale(name) * value for name, value in components.items()]).sum()
        classes = torch.uint8 if self.config.classes <= 256 else torch.int16
        latents = {"deter": trace.deter.detach(), "stoch": trace.stoch.detach().argmax(-1).to(classes)}
        return LossOutput(total, {n: v.detach() for n, v in components.items()}, metrics, latents)

    def _starts(self, steps: int) -> int:
        """How many of a sequence's rows imagination starts from."""
        return min(self.config.imagine_last or steps, steps)

    def _draw_noise(self, seq: Sequence) -> Noise:
        device, (size, steps), config = seq.reward.device, seq.reward.shape, self.config
        generator = self.generator(device)
        noise = Noise(torch.rand(size, steps, config.stoch, generator=generator, device=device))
        if config.actor_critic:
            shape = config.imagination, size * self._starts(steps)
            noise.action = self.actor.noise(*shape, generator=generator, device=device)
            noise.prior = torch.rand(*shape, config.stoch, generator=generator, device=device)
        return noise

    @torch.no_grad()
    def on_after_optimizer_step(self) -> None:
        """Move the slow critic towards the critic."""
        if self.config.actor_critic:
            slow: list[Tensor] = list(self.slow_critic.parameters())
            own: list[Tensor] = list(self.critic.parameters())
            torch._foreach_lerp_(slow, own, self.config.slow_rate)

    def training_defaults(self) -> dict[str, Any]:
        config = self.config
        return {
            "batch_size": config.batch_size,
            "sequence_length": config.sequence_length,
            "learning_rate": config.learning_rate,
            "warmup_steps": config.warmup,
            "scheduler": config.scheduler,
            "grad_clip": config.grad_clip,
            "replay_ratio": config.replay_ratio,
            "num_envs": config.num_envs,
            "env_steps": config.env_steps,
            "eval_explore": True,  # officially, evaluation samples actions as training does
            "online": True,  # each fresh sequence is learnt from once, before sampling is uniform
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return one group with the kernels, which weight decay may shrink, and one with the rest, which it may not."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        kernels = [p for name, p in named if name.endswith("kernel")]
        others = [p for name, p in named if not name.endswith("kernel")]
        rate = self.config.learning_rate
        return [{"params": kernels, "lr": rate}, {"params": others, "lr": rate, "weight_decay": 0.0}]

    def configure_optimizer(self, config: Any) -> torch.optim.Optimizer:
        """Return LaProp with clipping per tensor; ``config`` gives ``learning_rate`` and ``weight_decay``."""
        own = self.config
        groups = [
            {**group, "lr": group["lr"] / own.learning_rate * config.learning_rate} for group in self.parameter_groups()
        ]
        return LaProp(
            groups,
            lr=config.learning_rate,
            agc=own.agc,
            betas=(own.beta1, own.beta2),
            eps=own.eps,
            weight_decay=config.weight_decay,
        )

    def policy(self, *, generator: torch.Generator | None = None) -> DreamerPolicy:  # type: ignore[override]
        """Return the actor as a policy that remembers; ``generator`` replaces the model's own for sampling.

        Raises CapabilityError for a model built with ``actor_critic=False``.
        """
        if not self.config.actor_critic:
            raise CapabilityError("this DreamerV3 was built with actor_critic=False: it has no policy")
        return DreamerPolicy(self, generator=generator)
