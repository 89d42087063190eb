"""Official weights and settings as our model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from worldflux import ConfigurationError, did_you_mean
from worldflux.blocks import load_official

from .config import DreamerV3Config
from .model import DreamerV3
from .official_run import read_checkpoint, settings_of

# official setting -> our field
SETTINGS = {
    "dyn.rssm.deter": "deter_dim", "dyn.rssm.hidden": "hidden_dim", "dyn.rssm.stoch": "stoch",
    "dyn.rssm.classes": "classes", "dyn.rssm.blocks": "blocks", "dyn.rssm.unimix": "unimix",
    "dyn.rssm.free_nats": "free_nats", "dyn.rssm.imglayers": "prior_layers", "dyn.rssm.obslayers": "posterior_layers",
    "dyn.rssm.dynlayers": "dynamics_layers", "enc.simple.units": "units", "enc.simple.depth": "depth",
    "enc.simple.mults": "multipliers", "enc.simple.kernel": "kernel", "enc.simple.layers": "encoder_layers",
    "dec.simple.layers": "decoder_layers", "dec.simple.bspace": "decoder_blocks", "rewhead.layers": "reward_layers",
    "rewhead.bins": "bins", "conhead.layers": "continue_layers", "policy.layers": "policy_layers",
    "policy.minstd": "min_std", "policy.maxstd": "max_std", "policy.outscale": "policy_outscale",
    "value.layers": "value_layers", "imag_length": "imagination", "imag_last": "imagine_last", "horizon": "horizon",
    "contdisc": "discounted_continue", "imag_loss.lam": "return_lambda", "imag_loss.actent": "entropy_scale",
    "imag_loss.slowreg": "slow_scale", "imag_loss.slowtar": "slow_target", "slowvalue.rate": "slow_rate",
    "retnorm.rate": "return_rate", "retnorm.limit": "return_limit", "retnorm.perclo": "return_low",
    "retnorm.perchi": "return_high", "opt.lr": "learning_rate", "opt.agc": "agc", "opt.eps": "eps",
    "opt.beta1": "beta1", "opt.beta2": "beta2", "opt.warmup": "warmup",
}  # fmt: skip
# Settings that must have one value, because the code behind the others does not exist here.
_FIXED = {
    "ac_grads": False, "dyn.typ": "rssm", "dyn.rssm.act": "silu", "dyn.rssm.norm": "rms", "dyn.rssm.absolute": False,
    "enc.typ": "simple", "enc.simple.act": "silu", "enc.simple.norm": "rms",
    "enc.simple.symlog": True, "enc.simple.outer": False, "enc.simple.strided": False, "dec.typ": "simple",
    "dec.simple.act": "silu", "dec.simple.norm": "rms", "dec.simple.outer": False, "dec.simple.strided": False,
    "rewhead.output": "symexp_twohot", "conhead.output": "binary",
    "value.output": "symexp_twohot", "policy_dist_disc": "categorical", "policy_dist_cont": "bounded_normal",
    "slowvalue.every": 1, "retnorm.impl": "perc", "retnorm.debias": False, "valnorm.impl": "none",
    "advnorm.impl": "none", "reward_grad": True, "repval_loss": True, "repval_grad": True, "opt.momentum": True,
}  # fmt: skip
# Official settings that repeat a value we keep once.
SAME = {
    "dec.simple.units": "units", "dec.simple.depth": "depth", "dec.simple.mults": "multipliers",
    "dec.simple.kernel": "kernel", "rewhead.units": "units", "conhead.units": "units", "policy.units": "units",
    "value.units": "units", "value.bins": "bins", "repl_loss.lam": "return_lambda", "repl_loss.slowreg": "slow_scale",
    "repl_loss.slowtar": "slow_target",
}  # fmt: skip


_REQUIRED = ("deter_dim", "hidden_dim", "stoch", "classes", "blocks", "units")
# Settings of parts that are fixed above, of what initialises weights we overwrite, and of reporting.
_FREE_ENDINGS = (".winit", ".outscale", "policy.unimix", "opt.schedule", "opt.anneal", "opt.wd", "report", "_gradnorms")
_FREE_STARTS = ("valnorm.", "advnorm.", "loss_scales.")
# Counters and optimizer state: training by our optimizer starts afresh.
_OTHER_STATE = ("opt/", "slowval_count/")
_NOT_OBSERVED = ("reward", "is_first", "is_last", "is_terminal")


def load(source: Mapping[str, Any] | str | Path, config: Mapping[str, Any] | None = None) -> DreamerV3:
    """Build our model from official DreamerV3 weights.

    Args:
        source: a mapping of official parameter names to arrays; or a checkpoint: its folder, the folder of
            checkpoints (with ``latest``), or ``agent.pkl``, read by an unpickler that admits numpy arrays only.
        config: ``{"agent_config": flattened official settings, "obs_space": {name: shape}, "act_space": {name:
            {"discrete": bool, "n" or "dim": int}}}``. Official images are ``[H, W, C]``; ours are ``[C, H, W]``.
            A checkpoint in the run directory of a job of the official program needs none.

    Returns:
        The model in evaluation mode, return normaliser and slow critic included.

    Raises:
        ConfigurationError: settings are missing, unknown or not supported here; names or shapes of weights differ.
        CheckpointError: the checkpoint is missing or holds anything but arrays.
    """
    if config is None:
        config = settings_of(None if isinstance(source, Mapping) else Path(source))
    ours = official_config(config)
    arrays = dict(source) if isinstance(source, Mapping) else read_checkpoint(Path(source))
    model = DreamerV3(ours)
    names = official_names(model, sorted(set(config["act_space"]) - {"reset"}))
    load_official(model, arrays, names, convert=_convolutions, ignored=_OTHER_STATE)
    return model.eval()


def _convolutions(name: str, value: Tensor) -> Tensor:
    return value.permute(3, 2, 0, 1) if value.ndim == 4 else value  # HWIO to OIHW


def official_config(config: Mapping[str, Any]) -> DreamerV3Config:
    """Translate official settings and spaces. Raises ConfigurationError for what is missing, unknown or unsupported."""
    absent = [key for key in ("agent_config", "obs_space", "act_space") if key not in config]
    if absent:
        raise ConfigurationError(f"the official settings lack {absent}: give agent_config, obs_space and act_space")
    given, values = dict(config["agent_config"]), {}
    for key, value in given.items():
        if key in SETTINGS:
            values[SETTINGS[key]] = tuple(value) if isinstance(value, (list, tuple)) else value
        elif key in _FIXED or key.endswith((".act", ".norm")):
            wanted = _FIXED.get(key, "silu" if key.endswith(".act") else "rms")
            if value != wanted:
                raise ConfigurationError(f"official setting {key} = {value!r} is not supported, only {wanted!r}")
        elif key not in SAME and not key.endswith(_FREE_ENDINGS) and not key.startswith(_FREE_STARTS):
            known = [*SETTINGS, *_FIXED, *SAME]
            raise ConfigurationError(f"unknown official setting {key!r}.{did_you_mean(key, known)}")
    for key, field in SAME.items():
        value = given.get(key)
        if value is not None and (tuple(value) if isinstance(value, list) else value) != values.setdefault(
            field, value
        ):
            raise ConfigurationError(
                f"official setting {key} = {value!r} differs from {field} = {values[field]!r}; one model has one"
            )
    lacking = [official for official, own in SETTINGS.items() if own in _REQUIRED and own not in values]
    if lacking:
        raise ConfigurationError(f"the official settings lack {lacking}, which no weight tells")
    scales = {k.removeprefix("loss_scales."): v for k, v in given.items() if k.startswith("loss_scales.")}
    return DreamerV3Config.from_dict({
        **values, "model_name": "official", "loss_scales": scales,
        "observation_modalities": _observations(config["obs_space"]), "action_spec": _actions(config["act_space"]),
    })  # fmt: skip


def _observations(space: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in sorted(space):
        if name in _NOT_OBSERVED or name.startswith("log/"):
            continue
        shape = tuple(space[name]["shape"] if isinstance(space[name], Mapping) else space[name])
        if isinstance(space[name], Mapping) and space[name].get("classes"):
            raise ConfigurationError(
                f"official observation {name!r} is discrete, which is not supported: encode it one-hot"
            )
        if len(shape) == 3:
            found[name] = {"kind": "image", "shape": (shape[2], *shape[:2]), "dtype": "uint8"}
        else:
            found[name] = {"kind": "vector", "shape": shape or (1,)}
    return found


def _actions(space: Mapping[str, Any]) -> dict[str, Any]:
    parts = []
    for name in sorted(set(space) - {"reset"}):
        discrete = bool(space[name]["discrete"])
        size = int(space[name]["n"] if discrete else space[name]["dim"])
        parts.append({"name": name, "kind": "discrete" if discrete else "continuous", "dim": size})
    if len(parts) == 1:
        return {"kind": parts[0]["kind"], "dim": parts[0]["dim"]}
    return {"kind": "multi", "parts": parts}


def official_names(model: DreamerV3, actions: Iterable[str] = ()) -> dict[str, str]:
    """Official name -> our name, for everything in a model's state; ``actions`` are the official keys, sorted."""
    names = {"retnorm/lo/value": "return_normalizer.lo", "retnorm/hi/value": "return_normalizer.hi"}

    def add(official: str, own: str, norm: str | None = None) -> None:
        names.update({f"{official}/{leaf}": f"{own}.{leaf}" for leaf in ("kernel", "bias")})
        if norm is not None:
            names[f"{norm}/scale"] = f"{own}.scale"

    def stack(official: str, own: str, layers: Any) -> None:
        for i in range(len(layers)):
            add(f"{official}{i}", f"{own}.{i}", f"{official}{i}norm")

    def mlp(official: str, own: str, layers: Any) -> None:
        for i in range(len(layers)):
            add(f"{official}/mlp/linear{i}", f"{own}.mlp.layers.{i}", f"{official}/mlp/norm{i}")

    encoder, dyn, decoder = model.observation_encoder, model.dynamics_model, model.decoder
    for i, own in enumerate(("from_deter", "from_stoch", "from_action")):
        add(f"dyn/dynin{i}", f"dynamics_model.{own}", f"dyn/dynin{i}norm")
    stack("dyn/dynhid", "dynamics_model.hidden", dyn.hidden)
    add("dyn/dyngru", "dynamics_model.gru")
    stack("dyn/prior", "dynamics_model.prior_mlp.layers", dyn.prior_mlp.layers)
    add("dyn/priorlogit", "dynamics_model.prior_logits")
    stack("dyn/obs", "posterior.mlp.layers", model.posterior.mlp.layers)
    add("dyn/obslogit", "posterior.logits")
    if encoder.vectors:
        stack("enc/mlp", "observation_encoder.mlp.layers", encoder.mlp.layers)
        mlp("dec", "decoder", decoder.mlp.layers)
        for name in decoder.vectors:
            add(f"dec/vec/{name}/pred", f"decoder.vec.{name}")
    if encoder.images:
        stack("enc/cnn", "observation_encoder.cnn", encoder.cnn)
        add("dec/sp0", "decoder.image.from_deter")
        add("dec/sp1", "decoder.image.from_stoch", "dec/sp1norm")
        add("dec/sp2", "decoder.image.from_hidden")
        names["dec/spnorm/scale"] = "decoder.image.scale"
        last = len(decoder.image.convs) - 1
        for i in range(last + 1):  # the official ones count down
            add(f"dec/conv{last - i}", f"decoder.image.convs.{i}", f"dec/conv{last - i}norm")
        add("dec/imgout", "decoder.image.out")
    mlp("rew", "decoder.reward", decoder.reward.mlp.layers)
    add("rew/head/logits", "decoder.reward.out")
    mlp("con", "decoder.cont", decoder.cont.mlp.layers)
    add("con/head/logit", "decoder.cont.out")
    mlp("pol", "actor", model.actor.mlp.layers)
    parts = [part.name for part in model.actor.action_parts]
    for official, own in zip(list(actions) or parts, parts):
        outputs = model.actor.heads[own]
        assert isinstance(outputs, nn.ModuleDict)
        for output in outputs:
            add(f"pol/head/{official}/{output}", f"actor.heads.{own}.{output}")
    for official, own in (("val", "critic"), ("slowval", "slow_critic")):
        mlp(official, own, model.critic.mlp.layers)
        add(f"{official}/head/logits", f"{own}.out")
    return names
