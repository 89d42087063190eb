"""How a policy is called, said to those who call it as a function of observations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from worldflux.core.errors import ConfigurationError

CallT = TypeVar("CallT", bound=Callable[..., Any])


def policy_call(call: CallT) -> CallT:
    """Decorate the ``__call__`` of a policy: without a carry, ``is_first`` and ``explore`` it says what it wants.

    The decorated method raises ConfigurationError for such a call; any other reaches it as it is.
    """

    @functools.wraps(call)
    def told(self: Any, obs: Any = None, carry: Any = None, **how: Any) -> Any:
        if obs is None or carry is None or how.keys() != {"is_first", "explore"}:
            raise ConfigurationError(
                f"{type(self).__name__} keeps nothing of its own: call policy(obs, carry, is_first=..., explore=...), "
                "which returns the actions and the next carry, the first one from policy.initial(N). To act in an "
                "environment, agent = model.agent(env) remembers for you: action = agent.act(obs)"
            )
        return call(self, obs, carry, **how)

    return cast(CallT, told)
