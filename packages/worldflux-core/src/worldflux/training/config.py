"""What a training run is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from ..core.errors import ConfigurationError
from ..core.fields import Amount, Count, NonNegative
from .options import Options


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Options):
    """Options of a training run; those not given are as in the model's recipe (``training_defaults``), then as here.

    A step is one optimizer update. ``batch_size`` sequences of ``sequence_length`` rows make one loss;
    ``gradient_accumulation_steps`` of them make one update. ``grad_clip`` bounds the gradient's global norm (0: off).
    ``warmup_steps`` raises the learning rate linearly from 0; ``scheduler`` then lowers it towards 0 at
    ``total_steps``. ``mixed_precision`` computes the loss in bfloat16 where autocast deems it safe. Intervals count
    steps; 0 turns logging, evaluation or periodic saving off. ``save_replay`` stores the source with each checkpoint,
    which exact resuming needs. ``threads`` is how many threads compute on the CPU; "auto" tries one and all on the
    first updates of a training that takes more than seconds, and again where others slow it down. The number decides
    the last bits of sums: it stands in ``run_manifest.json``, and resuming keeps it.
    """

    total_steps: Count = 100_000
    batch_size: Count = 16
    sequence_length: Count = 50
    learning_rate: NonNegative = 3e-4
    weight_decay: NonNegative = 0.0
    grad_clip: NonNegative = 100.0
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    scheduler: Literal["none", "constant", "linear", "cosine"] = "none"
    warmup_steps: Amount = 0
    gradient_accumulation_steps: Count = 1
    mixed_precision: bool = False
    device: str = "auto"
    threads: Literal["auto"] | Count = "auto"
    seed: Amount = 42
    log_interval: Amount = 100
    eval_interval: Amount = 1_000
    save_interval: Amount = 10_000
    keep_checkpoints: Count = 3
    save_replay: bool = True
    output_dir: str = "./outputs"

    gone: ClassVar = {
        "dtype": "mixed_precision=True computes in bfloat16.",
        "instant_mode": "Choose a small preset such as 'dreamer:ci' and set total_steps.",
        "ema_decay": "Averaged weights belong to the family that uses them.",
        "model_overrides": "Give them to create_world_model.",
        "compile_model": "Compile the model's parts before training it.",
        "num_envs": "It belongs to CollectConfig.",
        "replay_ratio": "It belongs to CollectConfig.",
    }

    def resolve_device(self) -> torch.device:
        """Return the device to train on. Raises ConfigurationError if it is not a device, or absent here."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            message = f"device is {self.device!r}, expected 'auto', 'cpu', 'cuda' or 'cuda:N'"
            raise ConfigurationError(message, config_name="TrainingConfig") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            message = f"device is {self.device!r}, but this machine has no usable CUDA; use 'auto' or 'cpu'"
            raise ConfigurationError(message, config_name="TrainingConfig")
        try:
            if device.type == "meta":  # which holds no numbers
                raise RuntimeError("it computes nothing")
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            message = f"device is {self.device!r}, which this machine cannot use ({reason}); use 'auto' or 'cpu'"
            raise ConfigurationError(message, config_name="TrainingConfig") from error
        return device
