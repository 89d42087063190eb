"""What the numbers of an evaluation show, from the least to the most: the claim is the highest level that is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worldflux.words.counts import counted

from ..bootstrap import Number, Resampler
from ..policy import EvalResult
from ..words import earns_more

LEAST = 4  # episodes: two that agree do so by chance one time in four
LEVELS = ("looks right", "predicts held-out", "obeys actions", "ranks decisions", "improves decisions")


@dataclass(frozen=True)
class Level:
    """Whether a level is shown, and why or why not."""

    level: str
    shown: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return the three."""
        return {"level": self.level, "shown": self.shown, "why": self.why}


def levels_shown(
    measures: Mapping[str, Any],
    resampler: Resampler,
    *,
    held_out: bool | None,
    returns: Mapping[str, EvalResult] | None = None,
) -> list[Level]:
    """Return every level that something is known of, lowest first. ``measures`` are sums, as they are measured.

    A number beats another where the 95 % interval of their difference, over the same resampled episodes and averaged
    over horizons, holds no 0; of fewer than four episodes none does.
    """
    found = [
        _looks_right(measures, resampler),
        _predicts(measures, resampler, held_out),
        _obeys(measures, resampler),
        _ranks(measures, resampler),
    ]
    if resampler.episodes < LEAST:
        why = f"it rests on {counted(resampler.episodes, 'episode')}, and fewer than {LEAST} show nothing"
        found = [level and Level(level.level, False, why if level.shown else level.why) for level in found]
    return [level for level in (*found, _improves(returns or {})) if level is not None]


def highest(levels: list[Level]) -> str | None:
    """Return the name of the highest level that is shown, None where none is."""
    return next((level.level for level in reversed(levels) if level.shown), None)


def _looks_right(measures: Mapping[str, Any], by: Resampler) -> Level | None:
    """Every observation is reconstructed better than its mean."""
    tests = [
        (f"the reconstruction of {name}", "the mean frame", by.difference(errors["mean_frame"], errors["model"]))
        for name, scores in measures.get("observations", {}).items()
        if "model" in (errors := scores.get("reconstruction_mse", {})) and "mean_frame" in errors
    ]
    return _all(LEVELS[0], tests)


def _predicts(measures: Mapping[str, Any], by: Resampler, held_out: bool | None) -> Level | None:
    """Every observation beats every baseline; without any, latents copy-last, and rewards their mean."""
    tests = []
    for name, scores in measures.get("observations", {}).items():
        for measure in ("mse", "moved_mse"):
            for base in ("copy_last", "mean_frame", "untrained"):
                tests += _beats(scores.get(measure, {}), base, f"{measure} of {name}", by)
    if not tests:
        for name, scores in measures.get("latents", {}).items():
            for base in ("copy_last", "untrained"):
                tests += _beats(scores.get("mse", {}), base, f"mse of latent {name}", by)
        for base in ("mean", "untrained"):
            tests += _beats(measures.get("reward", {}).get("mse", {}), base, "mse of the reward", by)
    level = _all(LEVELS[1], tests)
    if level is None or held_out:
        return level
    if held_out is None:
        return Level(level.level, False, "whether the model learned from this data is not known")
    return Level(level.level, False, "the model learned from this data")


def _obeys(measures: Mapping[str, Any], by: Resampler) -> Level | None:
    """Something that is predicted better than by copying and before training is predicted worse with another's actions.

    Without the first two, what reacts to its actions by chance, as fresh weights do, would pass. Latents count where
    no observation is decoded: those of a recurrent model follow from its actions, seen or imagined.
    """
    things = [(name, scores.get("mse", {})) for name, scores in measures.get("observations", {}).items()]
    if not things:
        things = [(name, scores.get("mse", {})) for name, scores in measures.get("latents", {}).items()]
    things.append(("the reward", measures.get("reward", {}).get("mse", {})))
    tests: list[list[Test]] = []
    for name, sources in things:
        shuffled = _beats(sources, "shuffled_actions", f"mse of {name}", by)
        others = [_beats(sources, base, f"mse of {name}", by) for base in ("copy_last", "untrained")]
        if shuffled:
            tests.append([test for found in (*others, shuffled) for test in found])
    if not tests:
        return None
    for several in tests:
        if all(_above(more) for _, _, more in several):
            return _all(LEVELS[2], several)
    why = "nothing beats copying and the untrained model and is predicted clearly worse with another episode's actions"
    return Level(LEVELS[2], False, why)


def _ranks(measures: Mapping[str, Any], by: Resampler) -> Level | None:
    """Imagined returns rank sequences as they were paid, and better than before training and with another's actions."""
    sources = measures.get("returns", {}).get("rank_correlation", {})
    curve = by.curve(sources["model"]) if "model" in sources else None
    if curve is None or "shuffled_actions" not in sources:
        return None
    tests: list[Test] = [("the rank correlation of imagined returns", "none", curve.mean)]
    for base, said in (("untrained", "the untrained model's"), ("shuffled_actions", "with another episode's actions")):
        if base in sources:
            tests.append(("that rank correlation", said, by.difference(sources["model"], sources[base])))
    return _all(LEVELS[3], tests)


def _improves(returns: Mapping[str, EvalResult]) -> Level | None:
    """A policy or a planner earns clearly more than acting at random."""
    random = returns.get("random")
    if random is None or not random.episodes:
        return None
    for name, own in returns.items():
        if name == "random" or not own.episodes:
            continue
        if earns_more(own, random):
            why = f"the {name} policy earns {own.mean:.4g}, acting at random {random.mean:.4g}"
            return Level(LEVELS[4], True, why)
    return Level(LEVELS[4], False, "no policy earns clearly more than acting at random")


Test = tuple[str, str, "Number | None"]  # what, than what, by how much


def _beats(sources: Mapping[str, Any], base: str, what: str, by: Resampler) -> list[Test]:
    """The test that an error is lower than a baseline's; none where one of the two is missing."""
    if "model" not in sources or base not in sources:
        return []
    return [(what, base.replace("_", " "), by.difference(sources[base], sources["model"]))]


def _all(level: str, tests: list[Test]) -> Level | None:
    known = [test for test in tests if test[2] is not None]
    if not known:
        return None
    for what, base, more in known:
        if not _above(more):
            return Level(level, False, f"{what} is not clearly better than {base} ({_told(more)})")
    told = "; ".join(f"{what} against {base}: better by {_told(more)}" for what, base, more in known)
    return Level(level, True, told)


def _above(number: Number | None) -> bool:
    return number is not None and number.low is not None and number.low > 0


def _told(number: Number | None) -> str:
    assert number is not None
    if number.low is None or number.high is None:
        return f"{number.value:.3g}, of too few episodes"
    return f"{number.value:.3g}, interval {number.low:.3g} to {number.high:.3g}"
