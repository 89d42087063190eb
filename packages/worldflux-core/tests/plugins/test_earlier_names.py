"""Programs for WorldFlux 0.1.1: each of its names leads on with a warning, or the documentation says why it is gone."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("torch")

import worldflux
from worldflux.core.registry import ModelEntry, WorldModelRegistry

#: Everything 0.1.1 had at the top, its deprecated names included.
PUBLIC = """
ACTION_COMPONENTS_KEY ActionConditioner ActionPayload ActionSequence ActionSpec AsyncDecoder AsyncDynamicsModel
AsyncObservationEncoder AsyncRolloutExecutor AutoConfig AutoWorldModel Batch BatchProvider BatchProviderV2 BatchRequest
Capability CategoricalLatentSpace ComponentSpec ConditionPayload ConditionSpec Decoder DiffusionWorldModel
DiffusionWorldModelConfig DreamerV3Config DreamerV3WorldModel DynamicsModel DynamicsType GaussianLatentSpace
JEPABaseConfig JEPABaseWorldModel LatentSpace LatentType LossOutput MODEL_ALIASES MODEL_CATALOG ModalityKind
ModalitySpec ModelIOContract ModelMaturity ModelOutput ObservationSpec OfficialBackendHandle PLANNER_HORIZON_KEY
PLANNER_SEQUENCE_KEY Planner PlannerObjective PredictionSpec RewardObjective RolloutExecutor SequenceFieldSpec
SequenceLayout SequenceProvider SimNormLatentSpace State StateSpec TDMPC2Config TDMPC2WorldModel TokenProvider
TokenSpec TokenWorldModel TokenWorldModelConfig Trajectory TransitionProvider VJEPA2Config VJEPA2WorldModel
VideoProvider WorldModel WorldModelBuilder WorldModelConfig WorldModelInput WorldModelOutput WorldModelRegistry
create_world_model execution get_config get_model_info list_models normalize_planned_action resolve_backend_execution
set_seed
PluginManifest RolloutEngine first_action is_namespaced_extra_key DiTSkeletonConfig SSMSkeletonConfig
Renderer3DSkeletonConfig PhysicsSkeletonConfig GANSkeletonConfig DiTSkeletonWorldModel SSMSkeletonWorldModel
Renderer3DSkeletonWorldModel PhysicsSkeletonWorldModel GANSkeletonWorldModel
""".split()
PAGE = Path(__file__).parents[4] / "docs/api-compat.md"


@pytest.fixture
def earlier(monkeypatch):
    entry = ModelEntry("the model class", "the config class")
    families = ("dreamer", "tdmpc2", "vjepa2")
    monkeypatch.setattr(WorldModelRegistry, "_entries", {("model", name): entry for name in families})
    return importlib.import_module("worldflux.earlier")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_leads_on_or_is_gone_with_a_reason(earlier, name):
    if name in worldflux.__all__:
        return
    if name in earlier.GONE:
        with pytest.raises(AttributeError, match=f"has no attribute '{name}': it is gone, "):
            earlier.find(name)
        return
    with pytest.warns(DeprecationWarning, match=f"worldflux.{name} is of an earlier version. Use '") as seen:
        assert earlier.find(name) is not None
    assert len(seen) == 1


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not beside an installed package")
def test_every_name_that_is_gone_stands_on_the_page_with_its_reason(earlier):
    table = [line.split("|")[1:3] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    told = {name.strip("` "): reason.strip() for names, reason in table for name in names.split(",")}
    assert (earlier.GONE | earlier.GONE_BELOW).items() <= told.items()
    assert set(earlier.GONE) <= set(PUBLIC)


def test_a_name_that_a_room_had_and_has_no_more_says_why(earlier):
    with pytest.raises(AttributeError, match=r"has no attribute 'DDPTrainer': it is gone, a Trainer trains in one"):
        earlier.find("DDPTrainer", "worldflux.training")


def test_the_front_door_watches_the_modules_that_had_more_names(earlier):
    assert {*worldflux._HAD_MORE} == {*earlier.NAMES}


def run(code: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr


MODULES = """
import sys, warnings, worldflux
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    {statement}
assert [w.category for w in seen] == [DeprecationWarning] and "{place}" in str(seen[0].message), list(map(str, seen))
assert seen[0].filename == "<string>"
"""


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("from worldflux.core.exceptions import ConfigurationError, StateError", "worldflux.core.errors"),
        ("from worldflux.core.interfaces import ActionConditioner, ComponentSpec", "worldflux.core.components"),
        ("from worldflux.core import ComponentSpec", "worldflux.ComponentSpec"),
        ("from worldflux.core.batch import BatchRequest", "worldflux.BatchRequest"),
        ("from worldflux.training import ReplayBuffer", "worldflux.ReplayBuffer"),
        ("from worldflux.training.data import create_random_buffer, ReplayBuffer", "worldflux.data"),
        ("from worldflux.training.callbacks import EarlyStoppingCallback", "worldflux.training.EarlyStopping"),
        ("import worldflux.models.dreamer", "worldflux_dreamer.dreamerv3"),
        ("worldflux.WorldModelRegistry.list_catalog()", "worldflux.list_models"),
    ],
)
def test_an_earlier_home_of_names_leads_on_with_one_warning(statement, place, tmp_path):
    run(MODULES.format(statement=statement, place=place), tmp_path)


def test_nothing_of_it_is_loaded_before_it_is_asked_for(tmp_path):
    code = "import sys, worldflux; worldflux.list_models(); from worldflux.core import legacy, registry\n"
    code += "assert 'worldflux.earlier' not in sys.modules\nimport worldflux.models.tdmpc2\n"
    run(code + "assert not {'torch', 'worldflux_tdmpc'} & set(sys.modules)", tmp_path)


def test_a_module_that_never_was_is_not_found():
    assert importlib.util.find_spec("worldflux.nonexistent") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("worldflux.core.nonexistent")
    with pytest.raises(AttributeError, match=r"module 'worldflux.core' has no attribute 'Nonexistent'"):
        _ = worldflux.core.Nonexistent


def test_a_random_buffer_is_filled(earlier):
    buffer = earlier.create_random_buffer(capacity=200, obs_shape=(3,), action_dim=2, num_episodes=3, episode_length=8)
    assert buffer.num_episodes == 3
    assert buffer.sample(4, 3).obs.shape == (4, 3, 3)


def test_a_star_gives_the_names_of_today(tmp_path):
    run("from worldflux.core.exceptions import *; assert issubclass(ConfigurationError, ValueError)", tmp_path)


def test_where_the_family_is_absent_the_import_says_how_to_install_it(tmp_path):
    code = "import sys, worldflux; sys.modules['worldflux_dreamer'] = None\n"
    code += "try:\n    import worldflux.models.dreamer\nexcept ImportError as error:\n"
    run(
        code + "    assert 'pip install worldflux-dreamer' in str(error), error\nelse:\n    raise SystemExit(1)",
        tmp_path,
    )


def test_a_name_of_a_family_that_has_gone_is_an_attribute_error(tmp_path):
    code = "import sys, types, importlib.machinery, worldflux.earlier\n"
    code += "package = sys.modules['worldflux_dreamer'] = types.ModuleType('worldflux_dreamer')\n"
    code += "package.__spec__ = importlib.machinery.ModuleSpec('worldflux_dreamer', None)\n"
    code += "import worldflux.models.dreamer as old\nsys.modules['worldflux_dreamer'] = None\n"
    run(code + "assert not hasattr(old, 'X') and not hasattr(old, '__all__')", tmp_path)


def test_a_fault_of_a_module_that_is_loaded_late_is_not_taken_for_a_name_that_is_absent(monkeypatch):
    training = importlib.import_module("worldflux.training")
    monkeypatch.setitem(training._HOME, "Trainer", "broken")
    monkeypatch.setitem(sys.modules, "worldflux.training.broken", Broken("broken"))
    with pytest.raises(AttributeError, match="a fault within"):
        _ = training.Trainer


class Broken(types.ModuleType):
    def __getattr__(self, name):
        raise AttributeError("a fault within")


def test_the_front_door_may_be_loaded_again(tmp_path):
    code = "import importlib, sys, worldflux, worldflux.factory\nfrom worldflux.core import events\n"
    code += "before = [len(sys.meta_path), len(events.listeners)]\n"
    code += "for module in (worldflux, worldflux, worldflux.factory, worldflux): importlib.reload(module)\n"
    code += "assert [len(sys.meta_path), len(events.listeners)] == before\n"
    run(code + "assert worldflux.factory.MODEL_ALIASES and worldflux.core.ComponentSpec", tmp_path)


FINDER = """
import sys, importlib.abc, importlib.util
seen = []
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        seen.append(name)
sys.meta_path.insert(0, Finder())
import worldflux, worldflux.factory
assert "worldflux.factory" in seen
assert worldflux.factory.MODEL_ALIASES
loaders = [worldflux.factory.__loader__, worldflux.factory.__spec__.loader, importlib.util.find_spec("json").loader]
assert len({type(loader) for loader in loaders}) == 1
"""


def test_other_finders_are_asked_for_our_modules_and_their_loaders_stay_as_they_are(tmp_path):
    run(FINDER, tmp_path)


def test_in_a_zip_whose_modules_share_a_loader_the_names_are_there(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        root = Path(worldflux.__file__).parent
        for file in root.rglob("*.py"):
            archive.write(file, f"worldflux/{file.relative_to(root)}")
    code = "import sys; sys.path.insert(0, 'all.zip')\nimport worldflux.factory, worldflux.hub\n"
    code += "assert 'all.zip' in worldflux.__file__ and worldflux.factory.MODEL_ALIASES\n"
    run(code + "assert not hasattr(worldflux.hub, 'nonexistent')", tmp_path)
