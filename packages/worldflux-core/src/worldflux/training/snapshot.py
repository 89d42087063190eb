"""What a checkpoint of a training run holds, and how it comes back; ``trainer`` is a Trainer throughout."""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..core.errors import CheckpointError
from ..data.replay.blocks import BlockFolder
from ..data.storage import load_arrays, save_arrays
from ..files import MAX_STATE, json_text, read_json
from ..saved import fill, read_tensors
from .checkpoint import read_manifest
from .packing import pack, unpack

logger = logging.getLogger(__name__)
BLOCKS = "replay/blocks"  # of a source that has some, in a checkpoint
FILES = ("model.safetensors", "optimizer.safetensors", "state.safetensors", "state.json")
#: Optimizers that are gone, and those that go on with their state.
EARLIER_OPTIMIZERS = {"TwoPhaseAdam": "Adam"}


def write_snapshot(folder: Path, trainer: Any) -> dict[str, Any]:
    """Write the model, the optimizer, every random state, the counters, the callbacks and the source to a folder.

    Returns the size and SHA-256 of the files that are the checkpoint's before, by name.
    """
    tensors: dict[str, Tensor] = {}
    model_state = {name: pack(value, tensors, name) for name, value in trainer.model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")

    optimizer_tensors: dict[str, Tensor] = {}
    optimizer = pack(trainer.optimizer.state_dict(), optimizer_tensors, "optimizer")
    save_file(optimizer_tensors, folder / "optimizer.safetensors")

    others: dict[str, Tensor] = {}
    blocks = _blocks_of(folder, trainer.last_checkpoint)
    state = {
        "step": trainer.step,
        "seconds": trainer.seconds,
        "eval_seconds": trainer.eval_seconds,
        "config": trainer.config.to_dict(),
        "threads": trainer.threads.state_dict(),
        "model": model_state,
        "optimizer": optimizer,
        "optimizer_type": type(trainer.optimizer).__name__,
        "scheduler": pack(trainer.scheduler.state_dict(), others, "scheduler") if trainer.scheduler else None,
        "rng": pack(trainer.rng_state(), others, "rng"),
        "meter": pack(trainer.meter.state_dict(), others, "meter"),
        "callbacks": [
            [type(callback).__name__, pack(callback.state_dict(), others, f"callbacks.{i}")]
            for i, callback in enumerate(trainer.callbacks)
        ],
        "source": _write_source(folder / "replay", trainer, blocks) if trainer.config.save_replay else False,
    }
    save_file(others, folder / "state.safetensors")
    try:
        (folder / "state.json").write_text(json_text(state, limit=MAX_STATE, indent=1), encoding="utf-8")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"cannot save the state of the training as JSON: {error}") from error
    return {f"{BLOCKS}/{name}": described for name, described in blocks.carried.items()}


def load_snapshot(folder: Path, trainer: Any) -> None:
    """Put everything a checkpoint holds back into a trainer and its source.

    Raises CheckpointError if it is damaged, or was written by another model or optimizer.
    """
    files = read_manifest(folder)["files"]
    missing = [name for name in FILES if name not in files]
    if missing:
        raise CheckpointError(f"{folder} is no checkpoint of a training: its manifest does not name {missing[0]}")
    state, others = read_json(folder / "state.json", limit=MAX_STATE), read_tensors(folder / "state.safetensors")
    try:
        _refuse_another_kind(folder, state, trainer)
        _load_model(folder, state, trainer)
        _load_rest(folder, state, others, trainer)
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{folder} is not what a checkpoint of this run holds: {error!r}") from error


def _load_model(folder: Path, state: Mapping[str, Any], trainer: Any) -> None:
    try:
        weights = unpack(state["model"], read_tensors(folder / "model.safetensors"))
        fill(trainer.model, weights, folder / "model.safetensors")
        optimizer = unpack(state["optimizer"], read_tensors(folder / "optimizer.safetensors"))
        _refuse_other_numbers(folder, optimizer, trainer)
        trainer.optimizer.load_state_dict(optimizer)
    except (RuntimeError, ValueError, KeyError) as error:
        first = "; ".join(line.strip() for line in str(error).splitlines()[:2])
        raise CheckpointError(
            f"{folder} belongs to another model or optimizer ({first}): resume with the settings its run began with, "
            "which its config.json names, or start a new run"
        ) from error


def _refuse_other_numbers(folder: Path, optimizer: Any, trainer: Any) -> None:
    """Raise CheckpointError for what an optimizer would cast without a word."""
    own = {parameter.dtype for parameter in trainer.model.parameters()} | {torch.float32}
    for values in optimizer["state"].values():
        for name, value in values.items():
            number = isinstance(value, Tensor) and (value.is_complex() or value.is_floating_point())
            if number and value.dtype not in own:
                raise CheckpointError(f"{folder}: the optimizer's {name!r} is {value.dtype}, which no weight is")


def _load_rest(folder: Path, state: Mapping[str, Any], others: Mapping[str, Tensor], trainer: Any) -> None:
    step, seconds = state["step"], state["seconds"]
    if type(step) is not int or step < 0 or type(seconds) not in (int, float) or not math.isfinite(seconds):
        raise CheckpointError(f"{folder}: step {step!r} after {seconds!r} seconds, expected a whole number of steps")
    if trainer.scheduler is not None and state["scheduler"] is not None:
        trainer.scheduler.load_state_dict(unpack(state["scheduler"], others))
    for name in ("learning_rate", "weight_decay"):
        if (before := state["config"].get(name)) != (asked := getattr(trainer.config, name)):
            logger.warning("%s goes on with %s, that of %s: %s is not taken", name, before, folder, asked)
    trainer.meter.load_state_dict(unpack(state["meter"], others))
    saved = [(name, unpack(tree, others)) for name, tree in state["callbacks"]]
    for callback in trainer.callbacks:
        match = next((item for item in saved if item[0] == type(callback).__name__), None)
        if match is not None:
            saved.remove(match)
            callback.load_state_dict(match[1])
    if state["source"] and trainer.source is not None:
        _load_source(folder / "replay", trainer)
    trainer.set_rng_state(unpack(state["rng"], others))  # last: a source that goes on may draw
    trainer.step, trainer.seconds = step, seconds
    trainer.eval_seconds = float(state.get("eval_seconds", 0.0))  # earlier versions did not count
    if "threads" in state:  # not in what earlier versions saved
        trainer.threads.load_state_dict(state["threads"])


def _kind(source: object) -> str:
    return str(getattr(source, "source_kind", type(source).__name__))


def _refuse_another_kind(folder: Path, state: Mapping[str, Any], trainer: Any) -> None:
    """Raise CheckpointError, before anything is loaded, for a source or an optimizer of another kind."""
    optimizer = EARLIER_OPTIMIZERS.get(str(state.get("optimizer_type")), state.get("optimizer_type"))
    kinds = {"optimizer": (optimizer, type(trainer.optimizer).__name__)}
    if trainer.source is not None and isinstance(state["source"], str):
        kinds["source"] = (state["source"], _kind(trainer.source))
    for what, (saved, given) in kinds.items():
        if saved not in (None, given):
            raise CheckpointError(
                f"{folder} holds the state of another {what}, {saved}, and cannot go on with {given}: resume with the "
                "same kind, or start a new run from the model it saved"
            )


def _blocks_of(folder: Path, before: Path | None) -> BlockFolder:
    """The folder of a checkpoint's blocks, which takes over those of the checkpoint before where they are the same."""
    known: dict[str, Any] = {}
    if before is not None:
        with contextlib.suppress(CheckpointError, KeyError, TypeError, ValueError, AttributeError):  # gone by now
            files = read_json(before / "manifest.json", limit=MAX_STATE)["files"]
            known = {Path(name).name: about for name, about in files.items() if name.startswith(f"{BLOCKS}/")}
    return BlockFolder(folder / BLOCKS, None if before is None else before / BLOCKS, known)


def _takes_blocks(method: Any) -> bool:
    """Whether a source hands its rows over in blocks."""
    try:
        return "blocks" in inspect.signature(method).parameters
    except (TypeError, ValueError):  # of what is not written in Python
        return False


def _write_source(folder: Path, trainer: Any, blocks: BlockFolder) -> str | bool:
    """Write what the source needs to go on, if it can say so, and return its kind."""
    state_dict = getattr(trainer.source, "state_dict", None)
    if state_dict is None:
        return False
    state = state_dict(blocks=blocks) if _takes_blocks(state_dict) else state_dict()
    try:
        arrays, rest = state if isinstance(state, tuple) else (None, state)
        save_arrays(folder, dict(arrays), rest, hashes=False)  # the checkpoint's manifest has them
    except (TypeError, ValueError) as error:
        what = f"cannot save the source: {type(trainer.source).__name__}.state_dict() must return a pair"
        raise CheckpointError(f"{what}, a dict of numpy arrays and a dict that JSON can hold ({error})") from error
    return _kind(trainer.source)


def _load_source(folder: Path, trainer: Any) -> None:
    if not hasattr(trainer.source, "load_state_dict"):
        kind = type(trainer.source).__name__
        raise CheckpointError(f"{folder} holds the state of a source, but a {kind} cannot take one back")
    load = trainer.source.load_state_dict
    more = {"blocks": _blocks_of(folder.parent, None)} if _takes_blocks(load) else {}
    try:
        load(*load_arrays(folder), **more)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is not what {_kind(trainer.source)} saves: {error!r}") from error


def torch_rng_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of torch's global generators that a model on ``device`` may draw from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_torch_rng_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore what ``torch_rng_state`` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
