"""Methods that are compiled where a model's config asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, compiled for each model and each shape it is called with."""
    return torch.compile(function, dynamic=False)


def compilable(method: MethodT) -> MethodT:
    """The same method, which the models whose ``config.compiled`` is true compile."""

    @wraps(method)
    def call(model: Any, *given: Any) -> Any:
        return (compiled(method) if model.config.compiled else method)(model, *given)

    return cast(MethodT, call)
