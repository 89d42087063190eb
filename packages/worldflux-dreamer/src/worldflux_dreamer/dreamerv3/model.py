"""DreamerV3 as a world model with a policy. ``loss_given`` is the algorithm, from top to bottom."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from worldflux import (
    Batch,
    Capability,
    CapabilityError,
    LossOutput,
    PredictionSpec,
    Recipe,
    ShapeMismatchError,
    State,
    StateSpec,
    ValidationError,
    arrival,
    decoded,
    decoder_losses,
    vector,
)
from worldflux.blocks import Arrivals, arrivals, ema_, one_hot

from ..recurrent import RecurrentModel, predict
from . import losses
from .actor import Actor, ReturnNormalizer
from .codec import Decoder, Encoder
from .config import DreamerV3Config
from .distributions import TwoHot
from .fast import fast
from .fast.piecewise import known_first_layer, piecewise
from .networks import Head, init_kernels
from .optim import LaProp
from .policy import DreamerPolicy, stored_classes
from .rssm import Dynamics, Imagined, Noise, Posterior, Trace, features, imagine, observe


class DreamerV3(RecurrentModel):
    """Recurrent state-space model, actor and critic, learnt together from one loss.

    States hold ``deter [B, D]`` and ``stoch [B, S, C]`` (one-hot). ``decode(state).preds`` holds ``reward``,
    ``continue`` (a probability that already carries the discount), where the config has heads for them, and each
    observation in the data's units.

    Source: Hafner et al. 2023, "Mastering Diverse Domains through World Models"; danijar/dreamerv3 at e3f0224.
    """

    config_class = DreamerV3Config
    config: DreamerV3Config
    missing_is_neginf = True
    context_rows = 1

    def __init__(self, config: DreamerV3Config) -> None:
        super().__init__(config)
        self.build(Encoder, Dynamics, Decoder, Posterior)
        known = {Capability.LATENT_DYNAMICS, Capability.REPRESENTATION, Capability.OBS_DECODER}
        for wanted, key, capability in (
            (config.reward_head, "rewards", Capability.REWARD_PRED),
            (config.continue_head, "terminations", Capability.CONTINUE_PRED),
        ):
            if wanted:
                self.batch_keys, known = (*self.batch_keys, key), known | {capability}
        if config.actor_critic:
            latent = config.deter_dim + config.stoch_dim
            self.actor = Actor(config)
            self.critic, self.slow_critic = (
                Head(latent, config.units, config.value_layers, config.bins, outscale=0.0) for _ in range(2)
            )
            self.slow_critic.requires_grad_(False)
            self.return_normalizer = ReturnNormalizer(
                rate=config.return_rate, limit=config.return_limit, low=config.return_low, high=config.return_high
            )
            known |= {Capability.VALUE, Capability.POLICY}
        self.capabilities = frozenset(known)
        self.initialise()

    def initialise(self) -> None:
        """Set every weight from ``config.seed``; the slow critic begins as a copy of the critic."""
        more = [self.actor, self.critic, self.slow_critic] if self.config.actor_critic else []
        init_kernels([*self.parts(), *more], torch.Generator().manual_seed(self.config.seed))
        if more:
            self.slow_critic.load_state_dict(self.critic.state_dict())

    # --- the contract ---------------------------------------------------------------------------------------------

    def state_spec(self) -> StateSpec:
        config = self.config
        return StateSpec({"deter": vector(config.deter_dim), "stoch": vector(config.stoch, config.classes)})

    def prediction_spec(self) -> PredictionSpec:
        return PredictionSpec({**decoded(self.config.modalities), **{name: vector() for name in self.config.told}})

    def correct(
        self,
        state: State,
        action: Tensor,
        conditioned: dict[str, Tensor],
        obs: dict[str, Tensor],
        *,
        deterministic: bool,
    ) -> State:
        noise = None if deterministic else self.noise(state.batch_size, device=state.device)
        return self.filtered(state, conditioned, obs, noise)

    def filtered(
        self, state: State, conditioned: dict[str, Tensor], obs: dict[str, Tensor], noise: Tensor | None
    ) -> State:
        """The posterior, its latents drawn by uniform ``noise [B, S]``; their mode where it is None."""
        deter = predict(self.dynamics_model, state, conditioned, None)["deter"]
        return State({"deter": deter, "stoch": self.posterior.draw(self.posterior(deter, self.tokens(obs)), noise)})

    def noise(self, *shape: int, device: torch.device) -> Tensor:
        return torch.rand(*shape, self.config.stoch, generator=self.generator(device), device=device)

    # --- learning -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> LossOutput:
        """Return the sum of all scaled losses over a batch ``[B, T + 1, ...]``; its first row only starts the sequence.

        Without ``context`` nobody knows what led on from there: the second row is then as the first of an episode,
        which is what ``encode`` takes a row for. ``latents`` (``deter [B, T, D]``, ``stoch`` as classes ``[B, T, S]``)
        are for the replay's last T rows. Raises ValidationError or ShapeMismatchError for a batch that breaks the
        contract.
        """
        batch = self.checked(batch)
        seq = arrivals(batch, rewards=self.config.reward_head)
        if not batch.context:
            seq.is_first[:, 0] = True
        return self.loss_given(seq, self.stored_state(batch), self._draw_noise(seq.reward.shape, seq.reward.device))

    def loss_given(self, seq: Arrivals, carry: State, noise: Noise) -> LossOutput:
        """The loss of rows ``[B, T, ...]`` that follow the state ``carry``, under given noise."""
        config = self.config
        weight = None if seq.mask is None else seq.mask / seq.mask.mean().clamp(min=1e-8)
        # what was seen, and what it is predicted from
        trace = self._observe(seq, carry, noise.posterior)
        going_on = (~seq.is_terminal).float() * (config.discount if config.discounted_continue else 1.0)
        told = {"reward": seq.reward, "continue": going_on}
        targets = {**seq.obs, **{name: told[name] for name in config.told}}
        dyn, rep = losses.kl_losses(trace.post, trace.prior, unimix=config.unimix, free_nats=config.free_nats)
        found = {"dyn": dyn, "rep": rep}
        found |= decoder_losses(self.decoder, trace.state, targets, modalities=config.modalities)
        components = {name: losses.averaged(value, weight) for name, value in found.items()}
        metrics = {
            "dyn_ent": losses.entropy(trace.prior.detach(), config.unimix).mean(),
            "rep_ent": losses.entropy(trace.post.detach(), config.unimix).mean(),
        }
        # what the actor would do from there, and what that would pay
        if config.actor_critic:
            rows = self._starts(seq.reward.shape[1])
            seq, state = seq.map(lambda x: x[:, -rows:]), trace.state.map(lambda x: x[:, -rows:])
            weight = None if weight is None else weight[:, -rows:]
            pieces = self._imagine(state.map(lambda x: x.detach().flatten(0, 1)), noise)
            more, logged = self._actor_critic_losses(seq, state, weight, pieces)
            components, metrics = components | more, metrics | logged
        total = torch.stack([config.loss_scale(name) * value for name, value in components.items()]).sum()
        latents = {
            "deter": trace.state["deter"].detach(),
            "stoch": trace.state["stoch"].detach().argmax(-1).to(stored_classes(config.classes)),
        }
        return LossOutput(total, {n: v.detach() for n, v in components.items()}, metrics, latents)

    def _observe(self, seq: Arrivals, carry: State, noise: Tensor | None) -> Trace:
        follow = fast.observe if self._swift() else observe
        return follow(
            self.dynamics_model, self.action_conditioner, self.posterior,
            carry=carry, action=seq.action, is_first=seq.is_first, tokens=self.tokens(seq.obs), noise=noise,
        )  # fmt: skip

    @torch.no_grad()
    def _imagine(self, start: State, noise: Noise) -> list[Imagined]:
        parts, steps = (self.dynamics_model, self.action_conditioner), self.config.imagination
        if self._swift():
            heads = fast.Heads(self.actor, self.critic, self.slow_critic, self.decoder)
            return fast.imagine(*parts, self.posterior, heads, start=start, steps=steps, noise=noise)
        states, action = imagine(*parts, self.actor, start=start, steps=steps, noise=noise)
        feat, paid = features(states), arrival(self.decoder, states)
        value, slow = (TwoHot(critic(feat)).pred() for critic in (self.critic, self.slow_critic))
        return [Imagined(feat, action, paid["reward"], paid["continue"], value, slow)]

    def _swift(self) -> bool:
        """Whether the fast implementation applies: to the family's own parts, unless the plain one is asked for."""
        parts = self.dynamics_model, self.action_conditioner, self.decoder, self.posterior
        return not self.config.reference and fast.applicable(*parts)

    def _actor_critic_losses(
        self, seq: Arrivals, state: State, weight: Tensor | None, pieces: list[Imagined]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Scalar losses policy, value and repval, and metrics; imagination started from every row of ``seq``."""
        config, shape, normalizer = self.config, seq.reward.shape, self.return_normalizer
        with torch.no_grad():
            reward, cont, own, slow = (
                torch.cat([getattr(piece, name) for piece in pieces], 1) for name in ("reward", "cont", "value", "slow")
            )
            target = slow if config.slow_target else own
            returns, running = losses.imagined_returns(
                rew=reward.T, con=cont.T, value=target.T,
                contdisc=config.discounted_continue, horizon=config.horizon, lam=config.return_lambda,
            )  # [N, H], [N, L] # fmt: skip
            if self.training:
                normalizer.update(returns)
            mean_weight, returns, running = running.mean(), returns.T, running.T[:-1]  # [H, N] from here on
            advantage = (returns - target[:-1]) / normalizer.scale
            share = running / running.numel()  # of each imagined state in the mean
            if weight is not None:
                share = share * weight.flatten()
        policy, value, entropies = self._imagined_losses(pieces, returns, advantage, share)
        found = {"policy": policy, "value": value}
        if shape[1] > 1:
            replayed = self._replay_value_loss(seq, state, boot=returns[0].reshape(shape))
            found["repval"] = losses.averaged(replayed, None if weight is None else weight[:, :-1])
        normed = (returns - normalizer.offset) / normalizer.scale
        metrics = {
            "adv": advantage.mean(), "adv_std": advantage.std(unbiased=False), "adv_mag": advantage.abs().mean(),
            "rew": reward.mean(), "con": cont.mean(), "ret": normed.mean(), "val": own.mean(), "slowval": slow.mean(),
            "tar": returns.mean(), "weight": mean_weight, "ret_min": normed.min(), "ret_max": normed.max(),
            "ret_rate": (normed.abs() >= 1).float().mean(), **entropies,
        }  # fmt: skip
        return found, metrics

    def _imagined_losses(
        self, pieces: list[Imagined], returns: Tensor, advantage: Tensor, share: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Policy and value loss, sums over ``[H, N]`` by ``share``, and the mean entropy of each part of the action.

        Nothing here depends on the rest of the model, so the sums are taken, and differentiated, piece by piece: no
        temporary outgrows the processor's cache or strains the device's memory.
        """
        config, logged = self.config, dict[str, Tensor]()

        def policy(piece: Imagined, at: slice) -> Tensor:
            dist = self.actor.distribution(known_first_layer(self.actor.mlp, *piece.acted_from(0)))
            entropies = dist.entropies()
            for name, value in entropies.items():
                logged[f"ent/{name}"] = logged.get(f"ent/{name}", 0.0) + value.detach().sum() / returns.numel()
            return losses.policy_loss(
                log_prob=dist.log_prob(piece.action.flatten(0, 1)),
                entropy=torch.stack(list(entropies.values())).sum(0), advantage=advantage[:, at].flatten(),
                weight=share[:, at].flatten(), entropy_scale=config.entropy_scale,
            ).sum()  # fmt: skip

        def value(piece: Imagined, at: slice) -> Tensor:
            logits = self.critic.out(known_first_layer(self.critic.mlp, *piece.acted_from(1)))
            return losses.value_loss(
                TwoHot(logits), piece.slow[:-1].flatten(), returns=returns[:, at].flatten(),
                weight=share[:, at].flatten(), slow_scale=config.slow_scale,
            ).sum()  # fmt: skip

        ends = list(accumulate(piece.feat.shape[1] for piece in pieces))
        parts = [(piece, slice(end - piece.feat.shape[1], end)) for piece, end in zip(pieces, ends)]
        actor_loss = piecewise(policy, parts, self.actor.parameters())
        return actor_loss, piecewise(value, parts, self.critic.parameters()), logged

    def _replay_value_loss(self, seq: Arrivals, state: State, boot: Tensor) -> Tensor:
        """Critic loss ``[B, T-1]`` on replayed states; its gradient reaches the world model."""
        config, feat = self.config, features(state)
        value = TwoHot(self.critic(feat))
        with torch.no_grad():
            slow = TwoHot(self.slow_critic(feat)).pred()
            returns = losses.replay_returns(
                last=seq.is_last, term=seq.is_terminal, rew=seq.reward, boot=boot,
                horizon=config.horizon, lam=config.return_lambda,
            )  # fmt: skip
            weight = (~seq.is_last[:, :-1]).float()
        return losses.value_loss(
            value[:, :-1], slow[:, :-1], returns=returns, weight=weight, slow_scale=config.slow_scale
        )

    def state_value(self, state: State) -> Tensor:
        """The value ``[B]`` of each state, by the critic; evaluations rank it against returns."""
        return TwoHot(self.critic(features(state))).pred()

    def stored_state(self, batch: Batch) -> State:
        """The state that a sequence starts from: that of its first row in ``batch.context``, or zeros.

        Raises ValidationError if one of the latents is missing, ShapeMismatchError if it has another size.
        """
        size, rows = batch.actions.shape[:2]  # type: ignore[union-attr]
        zeros = self.initial_state(size, batch.actions.device)  # type: ignore[union-attr]
        if not batch.context:
            return zeros
        missing = sorted({"deter", "stoch"} - set(batch.context))
        if missing:
            raise ValidationError(
                f"batch.context lacks {missing}: give both latents, or no context for a start from zeros"
            )
        found = {name: batch.context[name] for name in ("deter", "stoch")}
        if found["stoch"].ndim == 3:  # as classes
            found["stoch"] = one_hot(found["stoch"][:, :1].long(), self.config.classes)
        for name, value in found.items():
            if value.shape[2:] != zeros[name].shape[1:]:
                expected = (size, rows, *zeros[name].shape[1:])
                raise ShapeMismatchError(f"context {name!r}", expected=expected, got=tuple(batch.context[name].shape))
        return State({name: value[:, 0].to(zeros[name]) for name, value in found.items()})

    def _starts(self, steps: int) -> int:
        """How many of a sequence's rows imagination starts from."""
        return min(self.config.imagine_last or steps, steps)

    def _draw_noise(self, rows: torch.Size, device: torch.device) -> Noise:
        size, steps = rows
        noise = Noise(self.noise(size, steps, device=device))
        if self.config.actor_critic:
            shape = self.config.imagination, size * self._starts(steps)
            noise.action = self.actor.noise(*shape, generator=self.generator(device), device=device)
            noise.prior = self.noise(*shape, device=device)
        return noise

    def on_after_optimizer_step(self) -> None:
        """Move the slow critic towards the critic."""
        if self.config.actor_critic:
            ema_(self.slow_critic.parameters(), self.critic.parameters(), self.config.slow_rate)

    def training_defaults(self) -> Recipe:
        return Recipe.of(
            self.config,
            warmup_steps=self.config.warmup,
            eval_explore=True,  # officially, evaluation samples actions as training does
            online=True,  # each fresh sequence is learnt from once, before sampling is uniform
        )

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
