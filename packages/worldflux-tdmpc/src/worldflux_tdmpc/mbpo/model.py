"""MBPO as a world model with a policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux import (
    SLOTS,
    Batch,
    Capability,
    ConfigurationError,
    LossOutput,
    PredictionSpec,
    Recipe,
    State,
    StateSpec,
    decoder_losses,
    vector,
)
from worldflux.blocks import ActingModel, PlainActions, arrivals, ema_, valid_steps

from . import losses
from .codec import Decoder, Encoder
from .config import MBPOConfig
from .dynamics import Dynamics
from .networks import Critics, initialise, make_actor
from .steps import Noise, Steps, read_steps
from .termination import LearnedTermination

SEQUENCE = 2  # rows that make one step
Found = tuple[dict[str, Tensor], dict[str, Tensor]]  # losses, and what to log


class MBPO(ActingModel):
    """An ensemble of probabilistic networks predicts observations; actor and critics learn from short rollouts in it.

    States hold ``obs [B, O]`` (all modalities, flat), ``reward [B]``, that of arriving in them, and ``continue [B]``,
    the chance that the episode did not end there. ``decode(state).preds`` holds each modality, ``reward`` and
    ``continue``. The slot ``termination`` says where episodes end: ``(obs, action, next_obs) -> [B]``.

    Source: Janner et al. 2019, "When to Trust Your Model: Model-Based Policy Optimization"; jannerm/mbpo.
    """

    config_class = MBPOConfig
    config: MBPOConfig
    capabilities = frozenset(
        {
            Capability.LATENT_DYNAMICS, Capability.OBS_DECODER, Capability.REWARD_PRED, Capability.CONTINUE_PRED,
            Capability.VALUE, Capability.POLICY,
        }
    )  # fmt: skip
    batch_keys = ("obs", "actions", "rewards", "terminations")
    slots: ClassVar[Mapping[str, str]] = {**SLOTS, "termination": "__call__"}
    termination: Any
    updates: Tensor
    rows: Tensor

    def __init__(self, config: MBPOConfig) -> None:
        super().__init__(config)
        self.obs_size = config.obs_size  # asked for at every step, and made of all modalities
        self.observation_encoder, self.decoder = Encoder(config), Decoder(config)
        self.action_conditioner, self.dynamics_model = PlainActions(), Dynamics(config)
        self.termination = LearnedTermination(config)
        self.actor, self.critics = make_actor(config), Critics(config)
        self.target_critics = Critics(config, frozen=True)
        self.log_alpha = nn.Parameter(torch.full((), math.log(config.initial_alpha)))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))  # learnt from so far
        self.initialise()

    def initialise(self) -> None:
        """Set every weight from the config's seed; targets as the critics are."""
        generator = torch.Generator().manual_seed(self.config.seed)
        initialise(self.dynamics_model, generator, dynamics=True)
        own = (self.termination, self.actor, self.critics)
        for part in (*own, self.observation_encoder, self.action_conditioner, self.decoder):
            initialise(part, generator)
        self.target_critics.load_state_dict(self.critics.state_dict())

    # --- what it is -----------------------------------------------------------------------------------------------

    def state_spec(self) -> StateSpec:
        return StateSpec({"obs": vector(self.obs_size), "reward": vector(), "continue": vector()})

    def prediction_spec(self) -> PredictionSpec:
        shown = {name: vector(*spec.shape) for name, spec in self.config.modalities.items()}
        return PredictionSpec({**shown, "reward": vector(), "continue": vector()})

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros, in an episode that goes on."""
        return self.arrived(super().initial_state(batch_size, device)["obs"])

    # --- time -----------------------------------------------------------------------------------------------------

    def begin(self, obs: dict[str, Tensor], *, deterministic: bool) -> State:
        """What is seen; nothing led here."""
        return self.arrived(self.encoded(obs, "obs", self.obs_size))

    def arrived(self, obs: Tensor) -> State:
        """The state of observations ``[B, O]`` that nothing led to."""
        return State({"obs": obs, "reward": obs.new_zeros(len(obs)), "continue": obs.new_ones(len(obs))})

    def advance(self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        """``deterministic`` takes the mean of the elites; otherwise each row asks one of them and draws."""
        if not deterministic:
            size, device = state.batch_size, state.device
            generator, outputs = self.generator(device), 1 + self.obs_size
            member = torch.randint(self.config.num_elites, (size,), generator=generator, device=device)
            noise = torch.randn(size, outputs, generator=generator, device=device)
            conditioned = {**conditioned, "member": member, "noise": noise}
        return self.predicted(state, action, conditioned, deterministic=deterministic)

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
        seen = self.begin(obs, deterministic=deterministic)["obs"]
        ahead = self.advance(state, action, conditioned, deterministic=deterministic)
        return State({"obs": seen, "reward": ahead["reward"], "continue": 1 - self.ended(state["obs"], action, seen)})

    def predicted(self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        """What the dynamics say, and whether the episode goes on. Raises ConfigurationError if they do not say it."""
        ahead: State = self.dynamics_model.transition(state, conditioned, deterministic=deterministic)
        for name in ("obs", "reward"):
            if name not in ahead or ahead[name].shape != state[name].shape:
                raise ConfigurationError(f"the dynamics model must predict {name!r} {list(state[name].shape)}")
        going_on = 1 - self.ended(state["obs"], action, ahead["obs"])
        return State({"obs": ahead["obs"], "reward": ahead["reward"], "continue": going_on})

    def ended(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        """The chance ``[B]`` that an episode ended. Raises ConfigurationError if it is not ``[B]`` that comes back."""
        found = self.termination(obs, action, next_obs)
        if not isinstance(found, Tensor) or found.shape != obs.shape[:1]:
            got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ConfigurationError(f"the termination must return a tensor {list(obs.shape[:1])}, got {got}")
        return found.to(obs.dtype)

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return the sum of all losses over the steps of a batch ``[B, T, ...]``.

        Actor and critics learn from rollouts made in this very call. Raises ValidationError or ShapeMismatchError for a
        batch that breaks the contract.
        """
        batch = self.checked(batch)
        obs = self.encoded(batch.obs, "obs", self.obs_size)
        steps = read_steps(batch, obs=obs)
        noise = self.draw(len(steps.reward), self.rollout_length(), obs.device)
        if self.training:
            self.rows += obs.shape[0] * obs.shape[1]
        found, logged = self.dynamics_losses(steps, noise.bootstrap)
        if _learns(self.decoder):
            found["decoder"] = self.decoder_loss(batch, obs)
        if _learns(self.termination):
            found["termination"] = self.termination_loss(steps)
        taught, more = self.actor_critic_losses(self.mixed(steps, noise), noise)
        found |= taught
        metrics: dict[str, Tensor | float] = {**logged, **more, "rollout_length": float(len(noise.member))}
        return LossOutput(
            torch.stack(list(found.values())).sum(), {name: value.detach() for name, value in found.items()}, metrics
        )

    def draw(self, steps: int, length: int, device: torch.device) -> Noise:
        """All randomness of one update on N steps, with rollouts of K, from the model's own generator.

        R of the N are learnt from as they are; S rollouts fill up the rest.
        """
        config, generator = self.config, self.generator(device)
        real = int(steps * config.real_ratio)
        starts = math.ceil((steps - real) / length)
        total = real + starts * length

        def actions(*shape: int) -> Tensor:
            return self.action_noise(*shape, generator=generator, device=device)

        return Noise(
            bootstrap=torch.poisson(torch.ones(config.num_nets, steps, device=device), generator=generator),
            order=torch.randperm(steps, generator=generator, device=device),
            member=torch.randint(config.num_elites, (length, starts), generator=generator, device=device),
            outcome=torch.randn(length, starts, 1 + self.obs_size, generator=generator, device=device),
            behaviour=actions(length, starts),
            target=actions(total),
            actor=actions(total),
        )

    def dynamics_losses(self, steps: Steps, bootstrap: Tensor) -> Found:
        """The ensemble's own; of dynamics that only predict, squared errors of what they predict without noise."""
        state = self.arrived(steps.obs)
        conditioned = self.action_conditioner.condition(state, steps.action)
        target = torch.cat([steps.reward.unsqueeze(-1), steps.next_obs - steps.obs], -1).detach()
        if face := getattr(self.dynamics_model, "losses", None):
            held_out = steps.held_out(self.config.holdout)
            own: Found = face(state, conditioned, target, bootstrap=bootstrap, held_out=held_out, weight=steps.weight)
            return own
        ahead = self.predicted(state, steps.action, conditioned, deterministic=True)
        outputs = torch.cat([ahead["reward"].unsqueeze(-1), ahead["obs"] - state["obs"]], -1)
        return {"model": losses.averaged((outputs - target).square().mean(-1), steps.weight)}, {}

    def decoder_loss(self, batch: Batch, obs: Tensor) -> Tensor:
        """Of a decoder that learns: how it errs in the states ``obs [B, T, O]`` that were arrived in."""
        arrived = arrivals(batch)
        paid = {"reward": arrived.reward, "continue": 1 - arrived.is_terminal.float()}
        state, targets = State({"obs": obs[:, 1:], **paid}), {**arrived.obs, **paid}
        errors = decoder_losses(self.decoder, state, targets, modalities=self.config.modalities)
        return losses.averaged(torch.stack([*errors.values()]).sum(0), valid_steps(batch))

    def termination_loss(self, steps: Steps) -> Tensor:
        """Of a termination that learns: its own; of one that only predicts, the cross entropy of its probabilities."""
        given = (steps.obs.detach(), steps.action, steps.next_obs.detach())
        if face := getattr(self.termination, "losses", None):
            error = face(*given, steps.terminal, weight=steps.weight)
        else:
            chance = self.ended(*given).clamp(1e-6, 1 - 1e-6)
            error = F.binary_cross_entropy(chance, steps.terminal, reduction="none")
        return losses.averaged(error, steps.weight)

    def mixed(self, steps: Steps, noise: Noise) -> Steps:
        """What actor and critics learn from: R real steps, then those of S rollouts that begin where others began."""
        real = len(noise.actor) - noise.member.numel()
        first, begun = noise.order[:real], noise.order[real : real + noise.member.shape[1]]
        parts = [steps.map(lambda value: value[first].detach())]
        if len(begun):
            parts += self.imagine(steps.obs[begun].detach(), steps.weight[begun], noise)
        return Steps(*(torch.cat(values) for values in zip(*(vars(part).values() for part in parts))))

    @torch.no_grad()
    def imagine(self, obs: Tensor, weight: Tensor, noise: Noise) -> list[Steps]:
        """K steps of rollouts from ``obs [S, O]`` under the policy of now. After its episode's end one weighs 0."""
        state, found = self.arrived(obs), []
        for behaviour, member, outcome in zip(noise.behaviour, noise.member, noise.outcome):
            seen = state["obs"]
            action = self.actor.act(seen, behaviour)
            read = self.action_conditioner.condition(state, action)
            conditioned = {**read, "member": member, "noise": outcome}
            state = self.predicted(state, action, conditioned, deterministic=False)
            paid = self.arrival(state.map(lambda value: value.unsqueeze(0)))
            if missing := sorted({"reward", "continue"} - set(paid)):
                raise ConfigurationError(f"the decoder predicts {sorted(paid)}; training needs {missing}, too")
            terminal = (paid["continue"][0] < 0.5).float()
            found.append(Steps(seen, action, paid["reward"][0], terminal, state["obs"], weight))
            weight = weight * (1 - terminal)
        return found

    def actor_critic_losses(self, steps: Steps, noise: Noise) -> Found:
        """Soft actor-critic on M steps; each loss teaches one of critics, actor and temperature."""
        weight, alpha = steps.weight, self.log_alpha.exp().detach()
        with torch.no_grad():
            action, entropy = self.actor.sample(steps.next_obs, noise.target)
            ahead, discount = self.target_critics.values(steps.next_obs, action), self.config.discount
            target = losses.td_target(steps.reward, steps.terminal, ahead, entropy, alpha=alpha, discount=discount)
        value = self.critics.values(steps.obs, steps.action)
        action, entropy = self.actor.sample(steps.obs, noise.actor)
        judged = self.critics.values(steps.obs, action, detach=True)
        wanted = self.config.wanted_entropy
        found = {
            "critic": losses.critic_loss(value, target, weight),
            "actor": losses.actor_loss(judged, entropy, weight, alpha=alpha),
            "temperature": losses.temperature_loss(self.log_alpha, entropy, weight, wanted=wanted),
        }
        logged = {
            "value": losses.averaged(value.detach().mean(0), weight),
            "entropy": losses.averaged(entropy.detach(), weight),
            "alpha": alpha,
            "imagined_reward": losses.averaged(steps.reward, weight),
            "ended": losses.averaged(steps.terminal, weight),
        }
        return found, logged

    def rollout_length(self) -> int:
        """Steps of a rollout now: the schedule's, at the environment steps that updates so far make."""
        config = self.config
        if config.rollout_schedule[2] == config.rollout_schedule[3]:
            return config.rollout_schedule[2]  # nothing to wait for the device for
        rows_per_step = SEQUENCE * config.batch_size * config.updates_per_step
        return config.rollout_length(config.seed_steps + int(self.rows) / rows_per_step)

    def on_after_optimizer_step(self) -> None:
        """Move the target critics towards the critics."""
        ema_(self.target_critics.buffers(), self.critics.parameters(), self.config.tau)
        self.updates += 1

    def training_defaults(self) -> Recipe:
        config = self.config
        return Recipe.of(
            config,
            sequence_length=SEQUENCE,
            replay_ratio=SEQUENCE * config.batch_size * config.updates_per_step,
            min_rows=config.seed_steps or None,
            random_steps=0 if self.updates else config.seed_steps,
            boundary="within",
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return actor, critics and temperature, and the ensemble with all other predictors, each at its rate."""
        agent = [*self.actor.parameters(), *self.critics.parameters(), self.log_alpha]
        apart = {id(p) for p in agent}
        others = [p for p in self.parameters() if id(p) not in apart]
        groups: list[dict[str, Any]] = []
        for params, rate in ((agent, self.config.learning_rate), (others, self.config.model_learning_rate)):
            if learnt := [p for p in params if p.requires_grad]:  # fused: one call instead of hundreds
                groups.append({"params": learnt, "lr": rate, "fused": True})
        return groups

    # --- acting ---------------------------------------------------------------------------------------------------

    def action_noise(self, *shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Draw the actor's noise ``[*shape, A]``."""
        return self.actor.noise(*shape, generator=generator, device=device)

    def act(self, state: State, noise: Tensor | None) -> Tensor:
        """The actor's action ``[B, A]``; without noise its best guess."""
        return self.actor.act(state["obs"], noise)

    def terminal_value(self, state: State, noise: dict[str, Tensor]) -> Tensor:
        """The value ``[B]``: the lower critic's, for an action the policy samples (worldflux.planners.OffersValue)."""
        return self.critics.values(state["obs"], self.act(state, noise["action"])).amin(0)


def _learns(part: object) -> bool:
    return isinstance(part, nn.Module) and any(p.requires_grad for p in part.parameters())
