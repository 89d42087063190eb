"""One door for every format: what is named, what is told from the files, what a plugin brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError, PluginError
from worldflux.core.registry import WorldModelRegistry
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import DatasetError, DatasetWriter, EpisodeTable, Recording, open_dataset
from worldflux.data.formats import FORMATS


class Acme:
    """Rows as text, a line an episode."""

    name = "acme"

    def detect(self, path: Path) -> bool:
        raise AssertionError("nothing of a plugin runs before its format is the one")

    def open(self, path: Path, *, scale: float = 1) -> Recording:
        lines = [np.array(line.split(), np.float32) * scale for line in path.read_text().splitlines()]
        columns = {"obs/x": np.concatenate(lines)[:, None], "action": np.zeros((sum(map(len, lines)), 1), np.float32)}
        table = EpisodeTable.of(range(len(lines)), [len(line) for line in lines])
        spec = {"x": ModalitySpec("vector", (1,))}
        return Recording("acme", path, spec, ActionSpec("continuous", 1), table, columns, files=(path,))


@pytest.fixture
def plugin(monkeypatch):
    """A plugin that declares the format ``acme``; what its factory makes can be changed."""
    made = {"format": Acme()}
    told = SimpleNamespace(description="Acme's rows", suffixes=(".acme",), markers=("meta/acme.json",))

    own = WorldModelRegistry.reach

    def reach(kind: str, name: str):
        if (kind, name) == ("declared", "formats"):
            return {"acme": (SimpleNamespace(name="acme-rows"), told), "worldflux": (None, told)}
        return (lambda: made["format"]) if (kind, name) == ("format", "acme") else own(kind, name)

    monkeypatch.setattr(WorldModelRegistry, "reach", reach)
    return made


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.acme"
    file.write_text("1 2 3\n4 5\n")
    return file


def test_a_plugins_format_is_told_by_its_suffix_or_marker_and_read_as_ours_are(plugin, rows, tmp_path) -> None:
    dataset = open_dataset(rows)
    assert len(dataset) == 5 and dataset.windows(2).sample(4).obs["x"].shape == (4, 2, 1)
    assert open_dataset(f"acme:{rows}", scale=2).episode(1)["obs/x"].ravel().tolist() == [8, 10]
    (tmp_path / "folder/meta").mkdir(parents=True)
    (tmp_path / "folder/meta/acme.json").write_text("{}")
    with pytest.raises(IsADirectoryError):  # so it was this format that was asked
        open_dataset(tmp_path / "folder")


def test_a_plugin_does_not_take_our_formats(plugin, tmp_path) -> None:
    with DatasetWriter(tmp_path / "set", {"x": ModalitySpec("vector", (1,))}, ActionSpec("continuous", 1)) as writer:
        writer.append({"obs/x": np.zeros((2, 1)), "action": np.zeros((2, 1)), "reward": np.zeros(2)})
    assert open_dataset(f"worldflux:{tmp_path / 'set'}").recording.format == "worldflux"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (SimpleNamespace(name="acme", detect=bool, open=lambda path: "rows"), "gave a str, expected a worldflux.data"),
        (SimpleNamespace(name="acme"), "gave a SimpleNamespace, expected a worldflux.data.Recording"),
        (SimpleNamespace(name="acme", detect=bool, open=lambda path: 1 / 0), "failed at .*ZeroDivisionError"),
    ],
)
def test_a_plugin_that_does_something_else_is_named(plugin, rows, made, message) -> None:
    plugin["format"] = made
    with pytest.raises(PluginError, match=f"the format 'acme' {message}"):
        open_dataset(rows)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"obs/x": np.zeros((5, 1))},
            r"'obs/x' gave float64\(1, 1\) for row 0 of episode '0', expected float32\(1, 1\)",
        ),
        ({"obs/x": np.zeros((5, 2), np.float32)}, r"'obs/x' gave float32\(1, 2\)"),
        ({"obs/x": None}, r"states 'obs/x', but cannot read row 0 of episode '0'.*it has \['action'\]"),
        ({"action": None}, r"states 'action', but cannot read"),
        ({"reward": np.zeros((5, 1), np.float32)}, r"'reward' gave float32\(1, 1\) for .*, expected float32\(1,\)"),
        ({"reward": np.zeros(3, np.float32)}, "column 'reward' has 3 rows, its episodes 5"),
        ({"reward": [0.0] * 5}, "'reward' gave a list"),
    ],
)
def test_columns_that_are_not_as_stated_are_the_formats_fault_and_named(plugin, rows, changed, message) -> None:
    class Wrong(Acme):
        def open(self, path: Path) -> Recording:
            recording = super().open(path)
            columns = {**recording.columns, **changed}
            recording.columns = {name: column for name, column in columns.items() if column is not None}
            return recording

    plugin["format"] = Wrong()
    with pytest.raises(PluginError, match=f"the format 'acme':? {message}"):
        open_dataset(rows)


@pytest.mark.parametrize("specs", [{}, {"x": (1,)}])
def test_a_recording_states_what_it_shows(plugin, rows, specs) -> None:
    class Wrong(Acme):
        def open(self, path: Path) -> Recording:
            return replace(super().open(path), obs_spec=specs)

    plugin["format"] = Wrong()
    with pytest.raises(PluginError, match="states at least one observation, each as a ModalitySpec"):
        open_dataset(rows)


def test_an_episode_without_rows_is_refused(plugin, rows) -> None:
    rows.write_text("1 2 3\n\n4 5\n")
    with pytest.raises(PluginError, match="each episode needs a row"):
        open_dataset(rows)


def test_an_unknown_format_names_the_nearest(plugin, rows) -> None:
    with pytest.raises(ConfigurationError, match="unknown format 'acmee', known are worldflux.*Did you mean 'acme'"):
        open_dataset(f"acmee:{rows}")
    with pytest.raises(ConfigurationError, match="unknown format 'acne'"):
        open_dataset(rows, format="acne")


def test_what_is_not_there_or_nothing_known_is_said(tmp_path) -> None:
    with pytest.raises(DatasetError, match="nowhere is not there"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="of no format that is known"):
        open_dataset(tmp_path / "empty")


def test_an_unknown_option_names_those_there_are(tmp_path) -> None:
    with DatasetWriter(tmp_path / "set", {"x": ModalitySpec("vector", (1,))}, ActionSpec("continuous", 1)) as writer:
        writer.append({"obs/x": np.zeros((2, 1)), "action": np.zeros((2, 1)), "reward": np.zeros(2)})
    with pytest.raises(ConfigurationError, match="has no option 'verfy', it has verify"):
        open_dataset(tmp_path / "set", verfy=True)


@pytest.mark.parametrize("option", ["scael", "colour", "path"])
def test_an_unknown_option_of_a_plugins_format_names_the_nearest_and_those_there_are(plugin, rows, option) -> None:
    near = ".*Did you mean 'scale'" if option == "scael" else ""
    with pytest.raises(ConfigurationError, match=f"the format 'acme' has no option '{option}', it has scale{near}"):
        open_dataset(rows, **{option: 2})


def test_a_plugins_format_that_takes_any_option_and_hands_it_on_is_named_too(plugin, rows) -> None:
    class Any(Acme):
        def open(self, path: Path, **options: object) -> Recording:
            return super().open(path, **options)

    plugin["format"] = Any()
    assert open_dataset(rows, scale=2).episode(1)["obs/x"].ravel().tolist() == [8, 10]
    with pytest.raises(ConfigurationError, match="the format 'acme' has no option 'colour'"):
        open_dataset(rows, colour=1)
    with pytest.raises(ConfigurationError, match="the format 'acme' has no option 'path'"):
        open_dataset(rows, path=1)


def test_a_wrong_call_within_a_plugins_format_stays_its_own_fault(plugin, rows) -> None:
    class Wrong(Acme):
        def open(self, path: Path, *, colour: int = 0) -> Recording:
            return super().open(path, shade=colour)

    plugin["format"] = Wrong()
    with pytest.raises(PluginError, match="failed at .*shade"):
        open_dataset(rows, colour=1)


@pytest.mark.parametrize("option", ["path", "colour"])
@pytest.mark.parametrize("name", FORMATS)
def test_no_reader_of_ours_takes_an_option_that_it_does_not_have(tmp_path, name, option) -> None:
    with pytest.raises(ConfigurationError, match=f"the format '{name}' has no option '{option}'"):
        open_dataset(tmp_path, format=name, **{option: 1})
