"""Recorded data and runs, opened as several verbs name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldflux.core.errors import ConfigurationError

from .assignments import assignments

if TYPE_CHECKING:
    from worldflux.data import Dataset
    from worldflux.experiment import Run


def open_recorded(data: str | None, data_set: list[str] | None) -> Dataset | None:
    """Return the data that ``--data`` and ``--data-set`` name, None if they name none."""
    options = assignments(data_set or [], option="--data-set")
    if data is None:
        if options:
            raise ConfigurationError("--data-set needs --data DIR, the data it is about")
        return None
    from worldflux.data import open_dataset

    return open_dataset(data, **options)


def open_source(source: str, format: str | None, options: Mapping[str, Any]) -> Dataset:
    """Return the dataset that a verb of ``data`` names; ``options`` are those of its format (``--set``)."""
    from worldflux.data import open_dataset

    if "format" in options:
        raise ConfigurationError(f"--set format={options['format']} is no option of a format: say --format NAME")
    return open_dataset(source, format=format, **options)


def load_run(run: Path, recorded: Dataset | None, told: Mapping[str, Any]) -> Run:
    """Open a run, or a saved model to be judged on recorded data; ``told`` is what was said of its environment."""
    from worldflux.experiment import Run
    from worldflux.experiment.settings import saved_model
    from worldflux.files import expanded

    saved = saved_model(expanded(run)) is not None
    return Run.load(run, data=recorded if saved else None, **told)
