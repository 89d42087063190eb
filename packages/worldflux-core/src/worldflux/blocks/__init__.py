"""What families share because it is common *and* complicated; what makes a family itself stays in its folder.

Nothing here initialises weights, draws from the process's generator or knows a family. Shapes are in each docstring.
"""

from __future__ import annotations

from .acting import ActingModel, MemorylessPolicy, check_acting
from .actors import CategoricalActor, SquashedNormal, log_slope
from .averages import Standardiser, ema_
from .collapse import Collapse, CollapseLimits, collapse_measures, representation_of
from .conditioners import KnownActions, PlainActions, action_in
from .ensemble import Ensemble, EnsembleLayer, EnsembleNorm
from .judging import decoder_losses
from .latent_space import class_softmax, gaussian_kl, simnorm, unimix_probs
from .layers import Conv, KernelConv, KernelDeconv, KernelLinear, Linear, dense
from .modalities import folded, joined_vectors, split_modalities, unfit, unusable
from .numeric import one_hot, percentiles, symexp, symlog
from .official import ImportReport, load_official, plain_file, read_torch
from .policies import policy_call
from .presets import preset_values
from .rows import Arrivals, arrivals, forget, valid_steps
from .states import compare_states

__all__ = [
    "ActingModel",
    "Arrivals",
    "CategoricalActor",
    "Collapse",
    "CollapseLimits",
    "Conv",
    "Ensemble",
    "EnsembleLayer",
    "EnsembleNorm",
    "ImportReport",
    "KernelConv",
    "KernelDeconv",
    "KernelLinear",
    "KnownActions",
    "Linear",
    "MemorylessPolicy",
    "PlainActions",
    "SquashedNormal",
    "Standardiser",
    "action_in",
    "arrivals",
    "check_acting",
    "class_softmax",
    "collapse_measures",
    "compare_states",
    "decoder_losses",
    "dense",
    "ema_",
    "folded",
    "forget",
    "gaussian_kl",
    "joined_vectors",
    "load_official",
    "log_slope",
    "one_hot",
    "percentiles",
    "plain_file",
    "policy_call",
    "preset_values",
    "read_torch",
    "representation_of",
    "simnorm",
    "split_modalities",
    "symexp",
    "symlog",
    "unfit",
    "unimix_probs",
    "unusable",
    "valid_steps",
]
