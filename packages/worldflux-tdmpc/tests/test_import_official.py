"""Official weights load in every layout, or say why not."""

from __future__ import annotations

import zipfile

import pytest
import torch

import worldflux
from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux_tdmpc import load
from worldflux_tdmpc.tdmpc2.official import official_names, read_checkpoint

LAYOUTS = ("state", "flat"), ("state", "legacy"), ("state", "new"), ("multitask", "legacy"), ("multitask", "new")


@pytest.fixture
def case(cases):
    return cases("state")


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_every_layout_gives_the_same_model(cases, name, layout, tmp_path):
    case = cases(name)
    file = case.checkpoint(layout, tmp_path)
    model = worldflux.import_weights(file, importer="official-tdmpc2", config=case.settings)
    expected = case.model().state_dict()
    state = model.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
    assert model.config == case.model().config
    assert not model.training


def test_every_official_tensor_is_taken(cases):
    for name in ("state", "episodic", "rgb", "multitask"):
        case = cases(name)
        model = case.model()
        state, names = model.state_dict(), official_names(model)
        assert all(torch.equal(state[own], case.weights[official]) for official, own in names.items())
        assert set(case.weights) - set(names) <= {"log_std_min", "log_std_dif", "_action_masks"}


def test_sizes_are_told_by_the_weights(case):
    config = load(case.weights).config
    sizes = (config.enc_dim, config.mlp_dim, config.latent_dim, config.num_enc_layers, config.num_q, config.num_bins)
    assert sizes == (16, 24, 16, 2, 3, 31)
    assert (config.obs_shape, config.action_dim, config.episodic, config.num_tasks) == ((24,), 6, False, 1)


def test_images_and_tasks_are_told_by_the_weights(cases):
    rgb = load(cases("rgb").weights).config
    assert (rgb.obs_shape, rgb.num_channels, rgb.image_names) == ((9, 64, 64), 1, ["obs"])
    tasks = load(cases("multitask").weights, {"episode_lengths": [500, 100, 200]}).config
    assert (tasks.num_tasks, tasks.task_dim, tasks.obs_shape, tasks.action_dims) == (3, 16, (24,), (2, 6, 4))
    assert tasks.discounts == pytest.approx((0.99, 0.95, 0.975))
    assert load(cases("episodic").weights).config.episodic


def test_settings_that_the_official_program_fills_in_when_it_starts_say_nothing(case):
    open_ = dict.fromkeys(("obs_shape", "action_dim", "multitask", "tasks", "episode_length", "model_size"), "???")
    assert load(case.weights, {**case.settings, **open_}).config.obs_shape == (24,)


def test_an_imported_model_plans_at_once(case):
    model = load(case.weights, case.settings)
    policy = model.policy()
    first = torch.ones(1, dtype=torch.bool)
    _, carry = policy({"obs": case["plan_t0/obs"]}, policy.initial(1), is_first=first, explore=True)
    assert carry["plan.mean"].any()


def test_without_target_critics_the_critics_take_their_place(case):
    weights = {name: value for name, value in case.weights.items() if not name.startswith("_target_Qs_params.")}
    model = load(weights, case.settings)
    pairs = zip(model.critics.parameters(), model.target_critics.buffers(), strict=True)
    assert all(torch.equal(own, target) for own, target in pairs)


def test_arrays_of_numpy_are_taken_too(case):
    model = load({name: value.numpy() for name, value in case.weights.items()}, case.settings)
    assert torch.equal(model.critics[0].weight, case.weights["_Qs.params.0.weight"])


def test_a_missing_weight_is_named(case):
    weights = dict(case.weights)
    del weights["_pi.1.ln.bias"]
    with pytest.raises(ConfigurationError, match=r"_pi\.1\.ln\.bias"):
        load(weights, case.settings)
    del weights["_Qs.params.0.weight"]
    with pytest.raises(ConfigurationError, match=r"_Qs\.params\.0\.weight.*no TD-MPC2 checkpoint"):
        load(weights, case.settings)


def test_an_unknown_weight_is_named(case):
    with pytest.raises(ConfigurationError, match=r"_pi\.7\.weight"):
        load({**case.weights, "_pi.7.weight": torch.zeros(3)}, case.settings)


def test_a_weight_of_another_shape_is_named(case):
    with pytest.raises(ConfigurationError, match=r"_reward\.1\.weight.*\(5, 5\).*\(24, 24\)"):
        load({**case.weights, "_reward.1.weight": torch.zeros(5, 5)}, case.settings)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("latent_dim", 512, "latent_dim = 512, but the weights have 16: this is a checkpoint of another size"),
        ("num_q", 5, "checkpoint of another size"),
        ("model_size", 5, "model_size = 5, but the weights have 'another': this is a checkpoint of another size"),
        ("obs_shape", {"state": [99]}, r"obs_shape of state = \[99\], but the weights have \[24\]"),
        ("model_size", 6, r"model_size = 6, expected one of \(1, 5, 19, 48, 317\)"),
        ("obs_shape", [24], r"obs_shape = \[24\], expected one such as {'state': \[24\]}"),
        ("obs_shape", {"state": 24}, r"obs_shape = {'state': 24}, expected one such as"),
        ("multitask", True, "multitask = True, but the weights have False"),
        ("tasks", ["a", "b"], "number of tasks = 2, but the weights have 1"),
        ("discount", 0.5, "unknown official setting 'discount'"),
        ("vmin", -5, "vmin = -5 is not supported"),
        ("discount_denom", 3, "discount_denom"),
        ("entropy_ceof", 1e-4, "Did you mean 'entropy_coef'"),
        ("log_std_min", -5.0, "the weights have -10.0"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(case, setting, value, message):
    with pytest.raises(ConfigurationError, match=message):
        load(case.weights, {**case.settings, setting: value})


def test_what_files_of_2023_do_not_say_about_tasks_is_asked_for(cases, tmp_path):
    case = cases("multitask")
    file = case.checkpoint("legacy", tmp_path)
    with pytest.raises(ConfigurationError, match="3 tasks.*episode_lengths"):
        load(file)
    with pytest.raises(ConfigurationError, match="3 tasks.*action_dims"):
        load(file, {"episode_lengths": [500, 100, 200]})
    model = load(file, {"episode_lengths": [500, 100, 200], "action_dims": [2, 6, 4]})
    assert torch.equal(model.action_masks, case.weights["_action_masks"])


def test_a_missing_or_broken_file_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="is no file"):
        load(tmp_path / "dog-run-1.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "text.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="no official model"):
        load(tmp_path / "list.pt")


class Malicious:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_file_with_anything_but_tensors_is_refused_unrun(case, tmp_path, capsys):
    torch.save({"model": {**case.weights, "x": Malicious()}}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "bad.pt")
    assert capsys.readouterr().out == ""


def archive(path, damage=None, **changes):
    torch.save({"model": {"a.weight": torch.arange(64.0).reshape(8, 8), **changes}}, path)
    data = bytearray(path.read_bytes())
    if damage is not None:
        at = data.index(torch.arange(64.0).numpy().tobytes()) + damage
        data[at] ^= 1
    path.write_bytes(data)
    return path


DAMAGED = {
    "one number": lambda path: archive(path, damage=9),
    "an expanded tensor": lambda path: archive(path, b=torch.zeros(1).expand(2**20, 2**20)),
    "complex numbers": lambda path: archive(path, b=torch.zeros(2, dtype=torch.complex64)),
    "a sparse tensor": lambda path: archive(path, b=torch.eye(2).to_sparse()),
    "a compressed archive": lambda path: compressed(archive(path)),
    "a name that is none": lambda path: torch.save({"model": {1: torch.zeros(2)}}, path),
    "a pickle's end": lambda path: path.write_bytes(b"."),
    "a list as a key": lambda path: path.write_bytes(b"\x80\x02}]K\x01s."),
    "a call without arguments": lambda path: path.write_bytes(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R."),
    "nothing": lambda path: path.write_bytes(b""),
}


def compressed(path):
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for name, content in parts.items():
            small.writestr(name, content)


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_or_inflated_file_is_refused_in_our_own_words(tmp_path, what):
    assert set(read_checkpoint(archive(tmp_path / "good.pt"))) == {"a.weight"}
    DAMAGED[what](tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=r"bad\.pt cannot be read as an official checkpoint"):
        read_checkpoint(tmp_path / "bad.pt")
