"""Defective families for the checks that need a model. Each defect is one that people write.

The check that a defect is listed under must catch it, and no other check may.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("worldflux_kit_mutant", Path(__file__).with_name("mutant.py"))
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)
Mutant, method = make.Mutant, make.method
BUILT = make.BUILT
DISCRETE = make.DISCRETE
FIELDS = make.FIELDS
IMPORTS = make.IMPORTS
LOOP = make.LOOP
MADE = make.MADE
NOTHING_DECODED = make.NOTHING_DECODED
NO_REWARD = make.NO_REWARD
SEEN = make.SEEN
TOKENS = make.TOKENS
VALIDATED = make.VALIDATED

MUTANTS: dict[str, tuple[Mutant, ...]] = {
    # --- contract
    "check_presets_build": (Mutant(manifest=(("config = { width = 64 }", 'config = { width = "64" }'),)),),
    "check_config_survives_json": (
        Mutant(
            (
                FIELDS,
                f"{FIELDS}    sizes: object = None\n\n"
                "    def __post_init__(self):\n"
                "        super().__post_init__()\n"
                "        if self.width > 32 and self.sizes is None:\n"
                "            self.sizes = (1, 2)\n",
            )
        ),
    ),
    "check_config_refuses_unknown_options": (
        Mutant(
            (
                FIELDS,
                f"{FIELDS}\n    @classmethod\n    def from_dict(cls, data):\n"
                "        return super().from_dict({n: v for n, v in data.items() if n in cls.__dataclass_fields__})\n",
            )
        ),
    ),
    "check_labels_are_honest": (Mutant(manifest=(("~31K", "~0.1M"),)),),
    "check_capabilities_agree": (
        Mutant(("            Capability.POLICY,\n", "            Capability.POLICY,\n            Capability.VALUE,\n")),
    ),
    "check_declared_capabilities_are_there": (
        Mutant(
            ("**decoded(self.config.modalities), ", ""),
            method(
                "    def decode(self, state, conditions=None):\n"
                "        output = super().decode(state, conditions)\n"
                "        return type(output)({name: output.preds[name] for name in ('reward', 'continue')})\n"
            ),
        ),
    ),
    "check_io_contract_is_consistent": (
        Mutant(
            ("    Count,\n", "    ConditionSpec,\n    Count,\n"),
            method('    def condition_spec(self):\n        return ConditionSpec(allowed_extra_keys=("scale",))\n'),
        ),
    ),
    "check_states_are_as_declared": (
        Mutant((SEEN, 'return State({**self.see(ahead["memory"], tokens, deterministic).tensors, "tokens": tokens})')),
    ),
    "check_predictions_are_as_declared": (Mutant(("torch.sigmoid(goes_on.squeeze(-1))", "torch.sigmoid(goes_on)")),),
    "check_predictions_are_in_range": (
        Mutant(("torch.sigmoid(goes_on.squeeze(-1))", "goes_on.squeeze(-1)")),
        Mutant(("torch.sigmoid(part) if", "255 * torch.sigmoid(part) if")),
    ),
    "check_rollout_shapes": (Mutant(("rewards=rewards,", "rewards=rewards.unsqueeze(-1),")),),
    "check_loss_is_one_finite_scalar": (
        Mutant(("{name: part.detach() for", "{name: part.detach().expand(2) for")),
        Mutant(make.REFUSES, (VALIDATED, VALIDATED + make.SINGLE.format("too few"))),
    ),
    "check_policy_actions_are_valid": (
        Mutant(("action = torch.tanh(wish)", "action = 2 + torch.tanh(wish)")),
        Mutant(
            ("F.one_hot(wish[:, place].argmax(-1), part.dim).float()", "wish[:, place].softmax(-1)"), options=DISCRETE
        ),
    ),
    "check_policy_latents_are_as_declared": (Mutant(('carry["latent"].half()', 'carry["latent"]')),),
    # --- behaviour
    "check_rows_are_independent": (
        Mutant(
            (
                'return State({"tokens": torch.tanh(self.linear(flat(observations, self.specs)))})',
                "tokens = torch.tanh(self.linear(flat(observations, self.specs)))\n"
                '        return State({"tokens": tokens + 0.1 * tokens.mean(0, keepdim=True)})',
            )
        ),
        Mutant(
            (
                "        *parts, reward, goes_on = ",
                "        hidden = hidden + 0.1 * hidden.mean(0)\n        *parts, reward, goes_on = ",
            )
        ),
        Mutant(("action = torch.tanh(wish)", "action = torch.tanh(wish - wish.mean(0))")),
    ),
    "check_rollout_is_causal": (
        Mutant(
            (
                LOOP,
                "        if not deterministic and len(action_sequence):\n"
                f"            action_sequence = action_sequence + 0.05 * action_sequence[-1]\n{LOOP}",
            )
        ),
    ),
    "check_loss_is_causal": (
        Mutant((TOKENS, f"{TOKENS}        tokens = tokens + 0.02 * tokens.flip(1).cumsum(1).flip(1)\n")),
    ),
    "check_episodes_do_not_leak": (
        Mutant(("(~batch.is_first[:, 1:, None]).float()", "1 - 0.9 * batch.is_first[:, 1:, None].float()")),
    ),
    "check_actions_matter": (
        Mutant(('return {"action": action}', 'return {"action": action * torch.tensor([1.0, 0.0, 1.0])}')),
    ),
    "check_rollout_repeats_transition": (Mutant(("for state in states[1:]]", "for state in states[:-1]]")),),
    "check_update_uses_the_observation": (Mutant((SEEN, "return State({**ahead.tensors})")),),
    "check_deterministic_draws_nothing": (
        Mutant(
            (
                'noise = {} if deterministic else {"noise": self.draw(state["latent"])}',
                'drawn = self.draw(state["latent"])\n        noise = {} if deterministic else {"noise": drawn}',
            )
        ),
    ),
    "check_same_seed_same_numbers": (
        Mutant(
            ("NOISE = 0.05", "OWN = torch.Generator()\nNOISE = 0.05"),
            (
                "return self.see(torch.zeros_like(tokens), tokens, deterministic)",
                "blur = 0 if deterministic else 0.01 * torch.randn(tokens.shape, generator=OWN)\n"
                "        return self.see(torch.zeros_like(tokens), tokens + blur, deterministic)",
            ),
        ),
    ),
    "check_no_global_randomness": (
        Mutant(
            (
                'noise = {} if deterministic else {"noise": self.draw(state["latent"])}',
                'noise = {} if deterministic else {"noise": self.draw(state["latent"])}\n'
                "        torch.rand(0 if deterministic else 1)",
            )
        ),
    ),
    "check_inputs_are_not_changed": (Mutant((VALIDATED, f"{VALIDATED}        batch.actions[:, -1] = 0\n")),),
    "check_calls_leave_the_model_as_it_was": (
        Mutant(("        first = is_first[:, None]\n", "        first = is_first[:, None]\n        model.eval()\n")),
        Mutant(
            (BUILT, f'{BUILT}        self.register_buffer("seen", torch.zeros(1))\n'),
            (VALIDATED, f"{VALIDATED}        self.seen += batch.batch_size\n"),
        ),
    ),
    "check_policy_holds_no_state": (
        Mutant(
            ("        self.model = model\n", "        self.model, self.calls = model, 0\n"),
            ("        first = is_first[:, None]\n", "        first = is_first[:, None]\n        self.calls += 1\n"),
            ("action = torch.tanh(wish)", "action = torch.tanh(wish + 0.1 * self.calls)"),
        ),
    ),
    "check_policy_forgets_at_episode_starts": (
        Mutant(("        first = is_first[:, None]\n", "        first = torch.zeros_like(is_first)[:, None]\n")),
    ),
    "check_observations_mean_the_same_in_every_form": (
        Mutant(("        seen = model.observations(obs)\n", "        seen = {**obs}\n")),
        Mutant(
            (
                VALIDATED,
                f"        if isinstance(batch.obs, torch.Tensor):\n            batch.obs = batch.obs / 2\n{VALIDATED}",
            )
        ),
    ),
    "check_choices_mean_the_same_in_every_dtype": (
        Mutant(  # every integer is an index
            method(
                "    def actions(self, action, **how):\n"
                "        if isinstance(action, torch.Tensor) and action.dtype == torch.int64:\n"
                "            action = F.one_hot(action, self.config.actions.dim).float()\n"
                "        return super().actions(action, **how)\n"
            )
        ),
        Mutant(  # what came instead of what was checked
            (VALIDATED, f"        given = batch.actions\n{VALIDATED}"),
            ("obs, actions = batch.obs, batch.actions", "obs, actions = batch.obs, given.float()"),
        ),
    ),
    # --- persistence
    "check_saved_model_comes_back": (
        Mutant(
            method(
                "    def load_state_dict(self, tensors, **options):\n"
                '        tensors["actor.bias"] = self.actor.bias.detach()\n'
                "        return super().load_state_dict(tensors, **options)\n"
            )
        ),
        Mutant(
            (
                "            self.build(config)\n",
                "            self.build(config)\n        config.learning_rate *= 0.5\n",
            )
        ),
    ),
    "check_loaded_model_acts_the_same": (
        Mutant(
            (BUILT, f"{BUILT}        self.age = 0\n"),
            method("    def on_after_optimizer_step(self):\n        self.age += 1\n"),
            (
                "return self.dynamics_model.transition(state, {**conditioned, **noise}, deterministic=deterministic)",
                "ahead = self.dynamics_model.transition(state, {**conditioned, **noise}, deterministic=deterministic)\n"
                "        return ahead.map(lambda value: value + 1e-5 * self.age)",
            ),
        ),
    ),
    "check_saved_files_are_safe": (
        Mutant(
            method(
                "    def save_pretrained(self, path):\n"
                "        folder = super().save_pretrained(path)\n"
                '        torch.save({"seed": self.config.seed}, folder / "extra.pt")\n'
                "        return folder\n"
            )
        ),
    ),
    "check_saving_draws_nothing": (
        Mutant(
            method(
                "    def save_pretrained(self, path):\n"
                "        torch.rand(1)\n"
                "        return super().save_pretrained(path)\n"
            )
        ),
    ),
    "check_seed_decides_the_weights": (
        Mutant(
            (IMPORTS, f"{IMPORTS}from random import SystemRandom\n"),
            ("manual_seed(self.config.seed)", "manual_seed(self.chance)"),
            (MADE, f"        self.chance = SystemRandom().getrandbits(32)\n{MADE}"),
        ),
    ),
    # --- learning
    "check_every_parameter_learns": (Mutant((BUILT, f"{BUILT}        self.spare = nn.Linear(4, 4)\n")),),
    "check_frozen_parameters_stay": (
        Mutant(
            (MADE, f"{MADE}        self.scale = nn.Parameter(torch.ones(4), requires_grad=False)\n"),
            (VALIDATED, f"{VALIDATED}        self.scale.mul_(0.9 if self.training else 1)\n"),
        ),
    ),
    "check_loss_falls_on_one_batch": (
        Mutant(("return LossOutput(total,", "return LossOutput(total / total.detach(),")),
    ),
    "check_alignment": (
        Mutant(
            (  # the reward after the action is done, as Gymnasium stores it
                '"reward": batch.rewards,',
                '"reward": batch.rewards.roll(-1, 1),',
            )
        ),
        Mutant(
            (  # first rows given the mean reward
                '"reward": batch.rewards,',
                '"reward": batch.rewards + batch.is_first.float(),',
            )
        ),
        Mutant(
            ("{**obs, ", "{**{name: value.roll(-1, 1) for name, value in obs.items()}, "),
            *NO_REWARD["code"],
            manifest=NO_REWARD["manifest"],
        ),
        Mutant(
            ("self.condition(state, rows(done))", "self.condition(state, rows(actions))"),
            *NOTHING_DECODED["code"],
            manifest=NOTHING_DECODED["manifest"],
        ),
    ),
    "check_continue_follows_terminals": (Mutant(("(~batch.is_terminal).float()", "(~batch.is_last).float()")),),
}
