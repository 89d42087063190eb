"""Training in an environment, and the one-liner over everything here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..core.errors import ConfigurationError, did_you_mean
from ..core.fields import Amount, Count, Positive
from ..core.model import WorldModel
from ..core.policy import Policy
from ..data import EnvironmentSource, Replay
from ..data.memory import parse_bytes
from ..data.replay.storing import check_storage
from ..envs import VectorEnv, make_env
from ..envs.closing import closing
from ..envs.identity import already_made
from .any_module import asked
from .callbacks import Callback
from .checks import check_arguments
from .config import TrainingConfig
from .options import Options
from .progress import ProgressCallback
from .trainer import Trainer

_ACTED = ("continuous", "discrete", "multi")


@dataclass(frozen=True, kw_only=True)
class CollectConfig(Options):
    """Options of collecting experience; those not given are as in the model's recipe, then as here.

    ``replay_ratio`` is the number of replayed rows per environment step (DreamerV3's train ratio). The replay keeps
    ``replay_capacity`` rows in all; ``min_rows`` sequence starts are there before the first update (default: one
    batch's rows). The first ``random_steps`` environment steps act at random. ``boundary`` "cross" lets a sequence run
    into the next episode, "within" does not; ``online`` gives
    each fresh sequence once before it draws; ``catch_up`` makes up at once for the steps before the first update.
    ``image_size`` makes the images that are observed so many pixels a side, ``render_size`` observes the rendered
    picture of that size instead; ``frame_stack`` the last so many images of the episode (the replay keeps each image
    once). ``replay_bytes`` ("8GB") is what the replay may take: as many rows as that holds, and at most
    ``replay_capacity`` where that is given, too. ``replay_storage`` is a Replay's ``storage``; "mmap" has its files in
    the run's directory.
    """

    num_envs: Count = 1
    replay_ratio: Positive = 32.0
    replay_capacity: Count = 1_000_000
    min_rows: Count | None = None
    random_steps: Amount = 0
    boundary: Literal["cross", "within"] = "cross"
    online: bool = False
    catch_up: bool = False
    image_size: Count | None = None
    render_size: Count | None = None
    frame_stack: Count = 1
    replay_bytes: str | None = None
    replay_storage: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replay_bytes is not None:
            parse_bytes(self.replay_bytes, name="replay_bytes")
        check_storage(self.replay_storage, name="replay_storage")


def environment_source(
    model: WorldModel,
    env: VectorEnv,
    *,
    training: TrainingConfig,
    collect: CollectConfig | None = None,
    policy: Policy | None = None,
    patience: int = 10_000,
    step_limit: int | None = None,
) -> EnvironmentSource:
    """Return a source in which the model's policy (or another one) acts in ``env`` while its replay is sampled.

    ``patience`` and ``step_limit`` are those of ``EnvironmentSource``.

    Raises ConfigurationError if the model was built for other observations or actions, CapabilityError if it has no
    policy.
    """
    if not isinstance(model, WorldModel):
        what = "only a WorldModel acts in an environment: train a plain module on batches"
        raise ConfigurationError(f"{type(model).__name__} is a plain module, {what}")
    check_environment(model, env)
    training = training.with_defaults(model.recipe())
    collect = (collect or CollectConfig()).with_defaults(model.recipe())
    policy = model.policy() if policy is None else policy
    row: dict[str, Any] = {
        "obs_spec": env.obs_spec,
        "action_spec": env.action_spec,
        "num_streams": env.num_envs,
        "latent_spec": policy.latent_spec,
        "frame_stacks": getattr(env, "frame_stacks", None),
    }
    replay = Replay(
        _capacity(collect, row),
        **row,
        storage=collect.replay_storage,
        directory=training.output_dir,
        sequence_length=training.sequence_length + model.context_rows,
        boundary=collect.boundary,
        online=collect.online,
        seed=training.seed,
    )
    return EnvironmentSource(
        env,
        policy,
        replay,
        replay_ratio=collect.replay_ratio,
        min_rows=collect.min_rows,
        random_steps=collect.random_steps,
        context_rows=model.context_rows,
        catch_up=collect.catch_up,
        patience=patience,
        step_limit=step_limit,
        seed=training.seed,
    )


def _capacity(collect: CollectConfig, row: Mapping[str, Any]) -> int:
    """Rows of the replay: those that the bytes hold, where they are told, and no more than are asked for."""
    if collect.replay_bytes is None:
        return collect.replay_capacity
    rows = Replay.rows_within(collect.replay_bytes, **row)
    return min(rows, collect.replay_capacity) if "replay_capacity" in collect.given else rows


def check_environment(model: WorldModel, env: VectorEnv) -> None:
    """Raise ConfigurationError if the model was not built for what the environment shows and takes."""
    contract = model.io_contract()
    wanted = {name: spec.shape for name, spec in contract.effective_input_spec.modalities.items()}
    shown = {name: spec.shape for name, spec in env.obs_spec.items()}
    if wanted and wanted != shown:
        differ = sorted(name for name in wanted.keys() | shown.keys() if wanted.get(name) != shown.get(name))
        raise ConfigurationError(
            f"the model observes {wanted}, the environment shows {shown}; they differ in {differ}: have the "
            "environment show it (in a Dict space), or build the model for observation_modalities=env.obs_spec"
        )
    acted = {(spec.kind, spec.dim) for spec in contract.effective_action_specs if spec.kind in _ACTED}
    taken = env.action_spec.kind, env.action_spec.dim
    if acted and taken not in acted:
        raise ConfigurationError(
            f"the model acts with {sorted(acted)} (kind, dimensions), the environment takes {taken}: build the model "
            "for action_spec=env.action_spec"
        )


def train(
    model: WorldModel,
    data: Any,
    total_steps: int | None = None,
    *,
    callbacks: Sequence[Callback] | None = None,
    resume_from: str | Path | None = None,
    **options: Any,
) -> WorldModel:
    """Train a model on any source of batches, or in an environment, and return it.

    ``data`` is what ``as_provider`` takes, or what ``make_env`` takes (an environment's id, a factory, environments).
    ``options`` are fields of TrainingConfig and, with an environment, of CollectConfig. Without ``callbacks`` progress
    is shown on stderr. Raises ConfigurationError for options that do not exist or do not apply; see ``Trainer.train``.
    """
    if total_steps is not None:
        options["total_steps"] = total_steps
    check_arguments(model, None, None, None, None)
    collecting = _is_environment(data)
    settings, collect = _split(options, collecting=collecting)
    info: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        if collecting:
            collect = collect.with_defaults(asked(model).recipe())
            # An environment that is already there is as many as it is: the model's defaults do not apply to it.
            wanted = collect if not already_made(data) else CollectConfig(**_among(CollectConfig, options))
            env = make_env(
                data,
                num_envs=wanted.num_envs,
                seed=settings.seed,
                image_size=wanted.image_size,
                render_size=wanted.render_size,
                frame_stack=wanted.frame_stack,
            )
            if not already_made(data):  # those are their caller's
                stack.enter_context(closing(env))
            about = {**collect.to_dict(), "num_envs": env.num_envs}
            info = {"env": data if isinstance(data, str) else repr(data), "collect": about}
            data = environment_source(model, env, training=settings, collect=collect)
        shown = [ProgressCallback()] if callbacks is None else callbacks
        return Trainer(model, settings, shown, run_info=info).train(data, resume_from=resume_from)


def _is_environment(data: Any) -> bool:
    if isinstance(data, str) or (hasattr(data, "reset") and hasattr(data, "step")):
        return True
    return isinstance(data, Callable) and not isinstance(data, Iterable) and not hasattr(data, "sample")  # type: ignore[arg-type]


def _split(options: Mapping[str, Any], *, collecting: bool) -> tuple[TrainingConfig, CollectConfig]:
    ours = _among(CollectConfig, options)
    if ours and not collecting:
        message = f"{next(iter(ours))!r} is about collecting from an environment, but the data given is no environment"
        raise ConfigurationError(message)
    known = (*TrainingConfig.names(), *CollectConfig.names(), *TrainingConfig.gone)
    for name in options:
        if name not in (*known, "given"):  # of a config's to_dict: all of it is given here
            raise ConfigurationError(f"unknown option {name!r}.{did_you_mean(name, known)}", config_name="train")
    others = {name: value for name, value in options.items() if name not in ours and name != "given"}
    return TrainingConfig(**others), CollectConfig(**ours)


def _among(kind: type[Options], options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in kind.names()}
