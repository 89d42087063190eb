"""Which objectives a constant representation minimises: those are refused before anything is trained."""

from __future__ import annotations


def must_collapse(
    target: str,
    regulariser: str,
    *,
    sigreg_weight: float = 1.0,
    std_weight: float = 1.0,
    std_over_time: float = 0.0,
    time_similarity: float = 0.0,
    inverse_dynamics: float = 0.0,
) -> str | None:
    """Why an objective must collapse, and what to do; None where it need not.

    ``target`` is ``ema``, ``stopgrad``, ``online`` or ``frozen``, ``regulariser`` ``none``, ``vicreg`` or ``sigreg``.
    """
    weights = {"sigreg": ("sigreg_weight", sigreg_weight), "vicreg": ("std_weight", std_weight), "none": ("", 0.0)}
    option, weight = weights[regulariser]
    if weight > 0 or std_over_time > 0 or target == "frozen":
        return None
    unregularised = f"regulariser={regulariser!r}" + (f" with {option}=0" if option else "")
    if target == "online":
        return (
            f"target='online' with {unregularised} must collapse: a representation that is the same for everything "
            "is predicted without error; use target='ema' or 'stopgrad', or a regulariser ('vicreg', 'sigreg') with a "
            "weight, or std_over_time"
        )
    if time_similarity > 0 and inverse_dynamics == 0:
        return (
            f"time_similarity={time_similarity:g} with {unregularised} must collapse: it pulls all rows of an episode "
            "together and nothing holds them apart; use a regulariser with a weight, or inverse_dynamics"
        )
    return None
