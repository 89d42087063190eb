"""Functions that act: ``module:function`` as a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError
from worldflux.core.policy import Policy
from worldflux.core.spec import ActionSpec
from worldflux.envs.code import from_file, from_module, names_file


class FunctionPolicy:
    """A function of the observations, arrays ``[N, ...]`` by name, that returns flat actions ``[N, A]``."""

    latent_spec: dict[str, tuple[tuple[int, ...], str]] = {}

    def __init__(self, act: Callable[..., Any], action_spec: ActionSpec, *, name: str) -> None:
        self._act, self._spec, self._name = act, action_spec, name

    def initial(self, batch_size: int) -> dict[str, Tensor]:
        """Return an empty carry."""
        return {}

    def __call__(
        self, obs: dict[str, Tensor], carry: dict[str, Tensor], *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the function does. Raises ConfigurationError if that is no action."""
        given = np.asarray(self._act({name: value.numpy() for name, value in obs.items()}), np.float32)
        expected = (len(is_first), self._spec.dim)
        if given.shape != expected or not np.isfinite(given).all():
            raise ConfigurationError(
                f"policy {self._name!r} returned {given.shape}, expected flat actions {expected}, finite numbers: "
                "one-hot for what is discrete, in [-1, 1] for what is continuous"
            )
        return torch.from_numpy(given), carry

    def latents(self, carry: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return nothing: there are none."""
        return {}


def function_policy(name: str, action_spec: ActionSpec) -> Policy:
    """Return the policy that ``module:function`` or ``file.py:function`` names; of a class an object is made first.

    Raises:
        ConfigurationError: there is none.
    """
    if ":" not in name and not names_file(name):
        raise ConfigurationError(
            f"policy is {name!r}, expected random, the directory of a run, module:function or file.py:function"
        )
    found = from_file(name, what="policy") if names_file(name) else from_module(name, {}, what="policy")
    if found is None:
        raise ConfigurationError(f"policy {name!r}: the module has no such function")
    act = found() if isinstance(found, type) else found
    return act if isinstance(act, Policy) else FunctionPolicy(act, action_spec, name=name)
