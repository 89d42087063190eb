"""A saved model comes back as it was, and its files are safe to read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open

from worldflux.core.errors import CheckpointError
from worldflux.core.model import WorldModel
from worldflux.core.persistence import WEIGHTS
from worldflux.saved import refuse_pickle

from ..calls import calls, differences, few, global_randomness
from ..check import CheckFailed, check, expect
from ..learner import Learner
from ..subject import Subject

SEED = 11


@contextmanager
def _saved(subject: Subject) -> Iterator[tuple[WorldModel, Path]]:
    """A model that has learnt a little, and the folder it was saved in."""
    learner = Learner(subject.build())
    learner.model.seed(0)
    with torch.random.fork_rng(devices=[]):
        for _ in range(2):
            learner.step(subject.batch(2, 4))
    with tempfile.TemporaryDirectory(prefix="worldflux-") as folder:
        model = learner.model.eval()
        model.save_pretrained(folder)
        yield model, Path(folder)


@check()
def check_saved_model_comes_back(subject: Subject) -> None:
    """A saved model is loaded with an equal config and with weights and buffers equal bit for bit."""
    with _saved(subject) as (model, folder):
        loaded = type(model).from_pretrained(folder)
    changed = [name for name, value in vars(model.config).items() if vars(loaded.config).get(name) != value]
    expect(not changed, f"after loading {changed} of the config differ; do not change the config after it is built")
    own, other = model.state_dict(), loaded.state_dict()
    expect(set(own) == set(other), f"the loaded model has other tensors: {few(set(own) ^ set(other))}")
    wrong = [name for name in own if own[name].dtype != other[name].dtype or not torch.equal(own[name], other[name])]
    expect(not wrong, f"after loading these are not what was saved: {few(wrong)}")


@check()
def check_loaded_model_acts_the_same(subject: Subject) -> None:
    """A loaded model gives the numbers of the saved one bit for bit, sampled ones after the same seed."""
    inputs = subject.inputs()
    with _saved(subject) as (model, folder):
        loaded = type(model).from_pretrained(folder).eval()
    own, other = (calls(subject, m, loss=False) for m in (model, loaded))
    hint = "what they depend on must be in the config, a parameter or a persistent buffer"
    for name, certain in (("encode", True), ("decode", True), ("rollout", True), ("rollout", False)):
        if name in own:
            model.seed(SEED)
            loaded.seed(SEED)
            with torch.no_grad():
                wrong = differences(own[name](inputs, certain), other[name](inputs, certain), tolerance=0)
            expect(not wrong, f"{name}(deterministic={certain}): {wrong} of the loaded model differ; {hint}")


@check()
def check_saved_files_are_safe(subject: Subject) -> None:
    """The weights are safetensors, and no saved file is a pickle."""
    with _saved(subject) as (_, folder):
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            try:
                refuse_pickle(file)
            except CheckpointError as error:
                message = f"{file.name} is a pickle, which can run code when it is read; save tensors as safetensors"
                raise CheckFailed(message) from error
        with safe_open(folder / WEIGHTS, "pt") as tensors:
            expect(bool(list(tensors.keys())), f"{WEIGHTS} holds no tensors")


@check()
def check_saving_draws_nothing(subject: Subject) -> None:
    """Saving and loading draw from no generator, neither the process's nor the model's."""
    model = subject.build()
    model.generator()
    with tempfile.TemporaryDirectory(prefix="worldflux-") as folder:
        for what, step in (
            ("saving", lambda: model.save_pretrained(folder)),
            ("loading", lambda: type(model).from_pretrained(folder)),
        ):
            before = {**global_randomness(), "the model": model.rng_state()["cpu"].tolist()}
            step()
            after = {**global_randomness(), "the model": model.rng_state()["cpu"].tolist()}
            drawn = [name for name in before if before[name] != after[name]]
            hint = "initialise weights from torch.Generator().manual_seed(config.seed), or in torch.random.fork_rng()"
            expect(not drawn, f"{what} draws from the generator of {drawn}; {hint}")


@check()
def check_seed_decides_the_weights(subject: Subject) -> None:
    """Two models of one config start with equal weights: ``config.seed`` decides them, nothing else."""
    built = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            built.append(subject.build().state_dict())
    wrong = differences(*built, tolerance=0)
    expect(not wrong, f"two models of one config differ in {few(wrong)}; initialise them from config.seed")
