"""Where weights come from, and what is refused: by name, with what to do."""

from __future__ import annotations

import sys

import pytest

from worldflux import CheckpointError, ConfigurationError
from worldflux_jepa.external import pretrained, weights_at
from worldflux_jepa.external.kinds import KINDS


def test_a_folder_says_its_kind_sizes_and_which_files_it_holds(folder):
    weights = weights_at(folder())
    assert (weights.kind, weights.width, weights.patch) == (KINDS["dinov2"], 12, 8)
    assert len(weights.digest) == 64


def test_other_bytes_have_another_digest(folder):
    place = folder()
    before = weights_at(place).digest
    (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes() + b" ")
    assert weights_at(place).digest != before


def test_a_class_saved_with_a_head_is_the_encoder_below_it(folder):
    assert weights_at(folder(architectures=["Dinov2ForImageClassification"])).kind is KINDS["dinov2"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model_type": "clip"}, "'clip'"),
        ({"architectures": ["BertModel"]}, "BertModel"),
        ({"model_type": None}, "None"),
        ({"auto_map": {"AutoModel": "own.Model"}}, "trust_remote_code"),
    ],
)
def test_a_class_that_is_not_on_the_list_is_refused(folder, change, word):
    with pytest.raises(ConfigurationError, match=word) as refused:
        weights_at(folder(**change))
    assert "Dinov2Model" in str(refused.value)


def test_a_config_without_sizes_is_refused(folder):
    with pytest.raises(CheckpointError, match="hidden_size"):
        weights_at(folder(hidden_size=None))


def test_a_missing_file_is_named(folder):
    place = folder()
    (place / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model\.safetensors"):
        weights_at(place)
    (place / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"lacks config\.json"):
        weights_at(place)


def test_pickled_weights_are_not_read(folder):
    place = folder()
    (place / "model.safetensors").rename(place / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickles"):
        weights_at(place)


def test_all_files_that_an_index_names_must_be_there(folder):
    place = folder()
    (place / "model.safetensors").rename(place / "model-1-of-2.safetensors")
    index = place / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}')
    with pytest.raises(CheckpointError, match="model-2-of-2"):
        weights_at(place)
    index.write_text('{"weight_map": {"a": "model-1-of-2.safetensors"}}')
    assert weights_at(place).width == 12
    index.write_text('{"weight_map": {"a": "../elsewhere.safetensors"}}')
    with pytest.raises(CheckpointError, match="names no files"):
        weights_at(place)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="does not exist"):
        weights_at(tmp_path / "nowhere")


def test_a_revision_of_a_folder_is_refused(folder):
    with pytest.raises(ConfigurationError, match="revision"):
        weights_at(folder(), revision="main")


def test_a_hub_id_while_offline_says_what_to_do(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")

    def unreachable(name, **options):
        raise hub.errors.LocalEntryNotFoundError("cannot find the requested files in the local cache")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(ConfigurationError, match="hf download owner/name"):
        weights_at("owner/name")


def test_a_missing_package_is_named_with_its_extra(folder, monkeypatch):
    weights = weights_at(folder())
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigurationError, match=r"worldflux-jepa\[hf\]"):
        weights.network()
    with pytest.raises(ConfigurationError, match=r"worldflux-jepa\[hf\]"):
        weights_at("owner/name")


def test_code_of_strangers_is_refused():
    with pytest.raises(ConfigurationError, match="never run"):
        pretrained("somewhere", trust_remote_code=True)


def test_an_unknown_pool_is_refused():
    with pytest.raises(ConfigurationError, match="'patches'"):
        pretrained("somewhere", pool="max")
