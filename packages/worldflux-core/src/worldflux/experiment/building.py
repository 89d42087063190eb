"""The model of a run: built for what it learns from, or gone on with from another one's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.fields import option_names
from worldflux.core.model import WorldModel
from worldflux.core.persistence import META, WEIGHTS
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.factory import create_world_model, get_config
from worldflux.files import expanded
from worldflux.saved import load_weights
from worldflux.training import find_checkpoint

from .experience import Experience
from .from_data import recorded_options, unrewarded_options
from .settings import Settings, read_json, read_settings, saved_model
from .tasks import TASK_OPTIONS, task_options


class Shown(Protocol):
    """What observations and actions can be built for: environments, or recorded data."""

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]: ...
    @property
    def action_spec(self) -> ActionSpec: ...


def create_model(settings: Settings, shown: Shown, *, before: Mapping[str, Any] | None = None) -> WorldModel:
    """Build the model of a run for an environment or data: a preset's weights are drawn from the run's seed.

    ``before`` are the options of the model of a run that goes on, which stays what it is (see ``options_before``).
    """
    for name in ("model", "observation_modalities", "action_spec"):
        if name in settings.model_options:
            raise ConfigurationError(
                f"model_options cannot set {name}: it follows from the run's model and environment or data"
            )
    saved = expanded(settings.model).is_dir()
    options: dict[str, Any] = {}
    if not saved:  # a saved model is as it is; whether what is shown suits it, is checked where it is shown
        specs = {"observation_modalities": dict(shown.obs_spec), "action_spec": shown.action_spec}
        options |= {"seed": settings.seed, **specs}
    if not saved and isinstance(shown, Experience):
        sets = [one.whole for one in shown.sets]
        config, given = type(get_config(settings.model)), settings.model_options
        if before is not None:
            options |= {name: before[name] for name in _chosen_for_data(config) if name in before}
        else:
            options |= recorded_options(sets, config, given, frame_skip=shown.frame_skip)
            options |= task_options(sets, config, given, frame_skip=shown.frame_skip)
        if before is None and settings.acts_in is None:  # a policy needs what is paid
            options |= unrewarded_options(sets, config, given)
    model = create_world_model(
        settings.model, component_overrides=settings.component_overrides, **{**options, **settings.model_options}
    )
    if not isinstance(model, WorldModel):
        raise ConfigurationError(f"{settings.model!r} runs in a backend of its own and cannot be trained here")
    return model


def options_before(directory: Path) -> Mapping[str, Any] | None:
    """Return the options that the model of the run in a directory has; None where its file does not say."""
    if not (directory / "config.json").is_file():
        return None
    told = read_json(directory / "config.json").get("resolved")
    options = told.get("model_options") if isinstance(told, Mapping) else None
    return options if isinstance(options, Mapping) else None


def _chosen_for_data(config: type[WorldModelConfig]) -> set[str]:
    """The options that a family may choose for recorded data."""
    recorded, unrewarded = getattr(config, "recorded", None), getattr(config, "unrewarded", None)
    chosen = {*TASK_OPTIONS}
    chosen |= set() if recorded is None else {*recorded(episode_length=1)}
    chosen |= set() if unrewarded is None else {*unrewarded(ends=True), *unrewarded(ends=False)}
    return chosen & {*option_names(config)}


def starting_point(place: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder that holds the newest weights of a run or saved model, and the settings that build its model.

    Raises:
        CheckpointError: there are none.
    """
    folder = expanded(place).absolute()
    if (saved := saved_model(folder)) is not None:
        return saved, {"model": str(saved)}
    stored = read_settings(folder)
    finished = read_json(folder / "run_manifest.json").get("status") == "finished"
    if finished and (folder / "model" / META).is_file():
        return folder / "model", {"model": str(folder / "model")}
    options = {"model_options": stored.model_options, "component_overrides": stored.component_overrides}
    return find_checkpoint(folder), {"model": stored.model, **options}


def take_weights(model: WorldModel, settings: Settings) -> None:
    """Give a model that was just built the weights that its run starts from, where it starts from any.

    Raises:
        ConfigurationError: they are another model's.
    """
    if settings.start_from is None:
        return
    folder, _ = starting_point(settings.start_from)
    if str(folder) == settings.model:  # they are there already
        return
    try:
        load_weights(model, folder / WEIGHTS)
    except CheckpointError as error:
        raise ConfigurationError(
            f"{settings.model} as built for {settings.about} cannot start from the weights of {settings.start_from}: "
            f"{error}; leave the model out to take that run's, whose observations and actions must be there"
        ) from error
