"""Defective families, likewise: what comes in, parts that are put in place, and the steps of an update."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("worldflux_kit_mutant", Path(__file__).with_name("mutant.py"))
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)
Mutant, method = make.Mutant, make.method
BUILT = make.BUILT
MADE = make.MADE
REPLACE = make.REPLACE
TOKENS = make.TOKENS
VALIDATED = make.VALIDATED

# the mutants of what comes in see dicts alone
OBSERVATIONS = """    def observations(self, obs):
        if not isinstance(obs, dict):
            return super().observations(obs)
"""
CALM = "{n: v.nan_to_num() if v.is_floating_point() else v for n, v in batch.obs.items()}"

MUTANTS: dict[str, tuple[Mutant, ...]] = {
    # --- overrides
    "check_encoder_override_is_used": (
        Mutant(
            (BUILT, f"{BUILT}        self.kept = [self.observation_encoder]\n"),
            (
                TOKENS,
                "        obs, actions = batch.obs, batch.actions\n"
                '        tokens = self.kept[0].encode(obs)["tokens"]\n',
            ),
        ),
    ),
    "check_conditioner_override_is_used": (
        Mutant(("self.condition(state, rows(done))", '{"action": rows(done)}')),
        Mutant(("{**conditioned, **noise}", '{"action": action, **noise}')),
        Mutant(("transition(state, conditioned, deterministic=True)", 'transition(state, {"action": action})')),
    ),
    "check_dynamics_override_is_used": (
        Mutant(
            (BUILT, f"{BUILT}        self.kept = [self.dynamics_model]\n"),
            (
                "self.dynamics_model.transition(state, self.condition(state, rows(done))",
                "self.kept[0].transition(state, self.condition(state, rows(done))",
            ),
        ),
        Mutant(
            (BUILT, f"{BUILT}        self.kept = [self.dynamics_model]\n"),
            (
                "        tokens = self.tokens(obs)\n        ahead = self.dynamics_model.",
                "        tokens = self.tokens(obs)\n        ahead = self.kept[0].",
            ),
        ),
    ),
    "check_decoder_override_is_used": (
        Mutant(
            (BUILT, f"{BUILT}        self.kept = [self.decoder]\n"),
            ("decoder_losses(self.decoder,", "decoder_losses(self.kept[0],"),
        ),
    ),
    "check_executor_override_is_used": (
        Mutant(
            method(
                "    def rollout(self, state, actions, conditions=None, deterministic=False, mode='autoregressive'):\n"
                "        actions = self.action_sequence(actions, batch_size=state.batch_size)\n"
                "        return OpenLoop().rollout_open_loop(self, state, actions, conditions, deterministic)\n"
            )
        ),
    ),
    "check_own_slots_are_used": (
        Mutant(
            (BUILT, f"{BUILT}        self.objective = Objective()\n"),
            ('"actor": "wish"}', '"actor": "wish", "objective": "measure"}'),
            ("class Actor(", "class Objective:\n    def measure(self, error):\n        return error\n\n\nclass Actor("),
            manifest=(('slots = ["actor"]', 'slots = ["actor", "objective"]'),),
        ),
    ),
    "check_equal_components_change_nothing": (
        Mutant(
            method(
                "    def decode(self, state, conditions=None):\n"
                "        output = super().decode(state, conditions)\n"
                "        if type(self.decoder) is not Decoder:\n"
                '            output.preds["reward"] = 2 * output.preds["reward"]\n'
                "        return output\n"
            )
        ),
        Mutant(  # only in the loss, and only wrapped
            (
                "decoder_losses(self.decoder,",
                "decoder_losses(self.decoder if isinstance(self.decoder, Decoder) else OnlyDecodes(self.decoder),",
            ),
            (
                "class Actor(",
                "class OnlyDecodes:\n    def __init__(self, decoder):\n        self.decode = decoder.decode\n\n\n"
                "class Actor(",
            ),
        ),
        Mutant(  # only in training, and only of a subclass
            (
                "self.actor.wish(latent.detach())",
                "self.actor.wish(latent.detach() * (0.5 if self.training and type(self.actor) is not Actor else 1))",
            ),
        ),
        Mutant(  # a part of a slot of its own, in the policy
            ('model.actor.wish(state["latent"])', 'model.actor.wish(state["latent"] * (type(model.actor) is Actor))')
        ),
        Mutant(  # at another rate
            method(
                "    def parameter_groups(self):\n"
                "        own = list(self.decoder.parameters()) if type(self.decoder) is Decoder else []\n"
                "        known = {id(p) for p in own}\n"
                "        rest = [p for p in self.parameters() if id(p) not in known]\n"
                '        return [{"params": own, "lr": 2e-2}, {"params": rest, "lr": 1e-2}]\n'
            )
        ),
    ),
    "check_class_overrides_start_as_the_familys_own": (
        Mutant(  # what the layers draw is kept
            (
                "            self.build(config)\n",
                "            torch.default_generator.manual_seed(config.seed)\n            self.build(config)\n",
            ),
            (
                "        generator = torch.Generator().manual_seed(self.config.seed)\n        for _, value",
                "        for _, value",
            ),
            (
                "            bound = value[0].numel() ** -0.5 if value.ndim > 1 else 0.0\n"
                "            nn.init.uniform_(value, -bound, bound, generator=generator)\n",
                "            value.data.mul_(1)\n",
            ),
        ),
        Mutant(  # other numbers at the second call
            (MADE, f"        self.dice = torch.Generator().manual_seed(config.seed)\n{MADE}"),
            ("generator = torch.Generator().manual_seed(self.config.seed)", "generator = self.dice"),
        ),
        Mutant(("in sorted(self.named_parameters())", "in self.named_parameters()")),
        Mutant(
            (
                "            bound = value[0].numel() ** -0.5 if value.ndim > 1 else 0.0\n",
                "            bound = value[0].numel() ** -0.5 if value.ndim > 1 else 0.0\n"
                "            bound *= type(self.decoder) is Decoder or 0.5\n",
            )
        ),
    ),
    # --- refusals
    "check_wrong_action_size_is_refused": (
        Mutant(
            method(
                "    def actions(self, action, **how):\n"
                "        narrow = action[..., : self.config.actions.dim] if action.is_floating_point() else action\n"
                "        return super().actions(narrow, **how)\n"
            )
        ),
    ),
    "check_wrong_observation_shape_is_refused": (
        Mutant(
            method(
                OBSERVATIONS + "        specs = self.config.modalities\n"
                "        cut = {n: v[..., : specs[n].shape[-1]] if n in specs else v for n, v in obs.items()}\n"
                "        return super().observations(cut)\n"
            )
        ),
    ),
    "check_missing_modality_is_refused": (
        Mutant(
            method(
                OBSERVATIONS
                + "        blank = {n: torch.zeros(1, *spec.shape) for n, spec in self.config.modalities.items()}\n"
                "        return super().observations({**blank, **obs})\n"
            )
        ),
    ),
    "check_extra_modality_is_refused": (
        Mutant(
            method(
                OBSERVATIONS
                + "        return super().observations({n: v for n, v in obs.items() if n in self.config.modalities})\n"
            )
        ),
    ),
    "check_channels_last_image_is_refused": (
        Mutant(
            method(
                OBSERVATIONS + "        last = {n: v.ndim == 4 and v.shape[-1] == 3 for n, v in obs.items()}\n"
                "        return super().observations({n: v.movedim(-1, 1) if last[n] else v for n, v in obs.items()})\n"
            )
        ),
    ),
    "check_wrong_dtype_is_refused": (
        Mutant(method(OBSERVATIONS + "        return super().observations({n: v.float() for n, v in obs.items()})\n")),
    ),
    "check_incomplete_batch_is_refused": (
        Mutant(
            REPLACE,
            (
                VALIDATED,
                "        if batch.is_first is None:\n"
                f"            batch = replace(batch, is_first=torch.zeros_like(batch.is_terminal))\n{VALIDATED}",
            ),
        ),
    ),
    "check_broken_rewards_are_refused": (
        Mutant(
            REPLACE,
            (
                VALIDATED,
                "        if batch.rewards is not None:\n"
                f"            batch = replace(batch, rewards=batch.rewards.nan_to_num())\n{VALIDATED}",
            ),
        ),
    ),
    "check_broken_observations_are_refused": (
        Mutant(
            method(OBSERVATIONS + "        return super().observations({n: v.nan_to_num() for n, v in obs.items()})\n")
        ),
        Mutant(
            REPLACE,
            (
                VALIDATED,
                f"        if isinstance(batch.obs, dict):\n            batch = replace(batch, obs={CALM})\n{VALIDATED}",
            ),
        ),
    ),
    "check_broken_actions_are_refused": (
        Mutant(
            method(
                "    def actions(self, action, **how):\n        return super().actions(action, **how).nan_to_num()\n"
            ),
        ),
        Mutant(
            REPLACE,
            (
                VALIDATED,
                "        if batch.actions is not None:\n"
                f"            batch = replace(batch, actions=batch.actions.nan_to_num())\n{VALIDATED}",
            ),
        ),
    ),
    "check_foreign_states_are_refused": (
        Mutant(method("    def check_state(self, state):\n        pass\n")),
        Mutant(method("    def check_state(self, state):\n        self.validate_state_contract(state)\n")),
        Mutant(
            method(
                "    def check_state(self, state):\n"
                "        super().check_state(state.map(lambda value: value.nan_to_num()))\n"
            )
        ),
    ),
    "check_unread_conditions_are_refused": (
        Mutant(method("    def check_conditions(self, conditions):\n        pass\n")),
        Mutant(
            method(
                "    def decode(self, state, conditions=None):\n        return super().decode(state)\n",
            )
        ),
    ),
    # --- steps
    "check_steps_add_up_to_the_loss": (
        Mutant(
            method(
                "    def steps(self, batch):\n"
                "        out = self.loss(batch)\n"
                '        yield LossOutput(out.loss, {f"world/{n}": value for n, value in out.components.items()})\n'
            )
        ),
    ),
    "check_steps_move_what_they_name": (
        Mutant(
            method(
                "    def steps(self, batch):\n"
                "        out = self.loss(batch)\n"
                '        yield LossOutput(out.loss, out.components, group="wrld")\n\n'
                "    def parameter_groups(self):\n"
                '        return [{"params": list(self.parameters()), "lr": 1e-2, "group": "world"}]\n'
            )
        ),
        Mutant(
            method(
                "    def steps(self, batch):\n"
                "        out = self.loss(batch)\n"
                '        yield LossOutput(out.loss, out.components, group="world")\n\n'
                "    def parameter_groups(self):\n"
                '        whole = {"params": list(self.parameters()), "lr": 1e-2, "group": "world"}\n'
                '        return [whole, {"params": [nn.Parameter(torch.zeros(1))], "group": "critic"}]\n'
            )
        ),
    ),
    "check_nothing_waits_between_loss_and_step": (
        Mutant(
            (BUILT, f"{BUILT}        self.phase = 0\n"),
            ("return LossOutput(total,", "return LossOutput(total + 1e-3 * self.phase,"),
            method("    def configure_optimizer(self, config):\n        return Phased(self)\n"),
            (
                "class Model(WorldModel)",
                "class Phased(torch.optim.AdamW):\n"
                "    def __init__(self, model):\n"
                "        super().__init__(model.parameter_groups())\n"
                "        self.model = model\n\n"
                "    def zero_grad(self, set_to_none=True):\n"
                "        super().zero_grad(set_to_none)\n"
                "        self.model.phase = 1 - self.model.phase\n\n\n"
                "class Model(WorldModel)",
            ),
        ),
    ),
}
