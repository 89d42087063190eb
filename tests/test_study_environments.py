"""Environments for study, as families train in them and on what is recorded there."""

from __future__ import annotations

from pathlib import Path

import pytest

from worldflux.envs import make_env
from worldflux.experiment import Run, collect, fit

PAGE = Path(__file__).resolve().parents[1] / "docs" / "study-environments.md"


def test_the_infos_are_seen_by_a_model_only_where_they_are_asked_for(tmp_path: Path) -> None:
    collect(tmp_path / "set", env="study:point-goal", episodes=4, env_options={"limit": 20, "size": 16})
    common = {"data": tmp_path / "set", "updates": 1, "batch_size": 2, "sequence_length": 4}
    seen = fit("dreamer:ci", run=tmp_path / "run", obs=["agent"], **common).model.io_contract()
    assert list(seen.effective_input_spec.modalities) == ["agent"]


def test_a_run_in_an_environment_for_study_is_opened_with_its_options(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    options = {"limit": 6, "obs": "state", "show_goal": True}
    short = {"steps": 24, "num_envs": 2, "batch_size": 2, "sequence_length": 4, "replay_ratio": 1, "eval_episodes": 1}
    fit("dreamer:ci", env="study:point-goal", env_options=options, run=tmp_path / "run", **short)
    run = Run.load(tmp_path / "run")
    env = run.make_env()
    assert list(env.obs_spec) == ["state", "goal"] and env.max_episode_steps == 6
    shown = {name: values[0] for name, values in env.reset(0).obs.items()}
    assert run.agent().act(shown).shape == (2,)


def factors_table() -> list[str]:
    """The lines of the table of factors in docs/study-environments.md."""
    names = ("point-goal", "two-room", "push-block")
    known = {name: make_env(f"study:{name}").factors.known for name in names}
    lines = [f"| factor | | {' | '.join(f'`{name}`' for name in names)} |", "| --- | --- | --- | --- | --- |"]
    for factor in dict.fromkeys(factor for factors in known.values() for factor in factors):
        cells = [known[name].get(factor) for name in names]
        about = next(cell.about for cell in cells if cell is not None)
        lines.append(f"| `{factor}` | {about} | {' | '.join(map(factor_cell, cells))} |")
    return lines


def factor_cell(factor) -> str:
    """A factor's default and range."""
    if factor is None:
        return ""
    return f"{', '.join(f'{value:.3g}' for value in factor.default)} ({factor.low:.3g} to {factor.high:.3g})"


def test_the_table_of_factors_is_what_there_is():
    text = PAGE.read_text(encoding="utf-8").partition("<!-- factors: begin")[2].partition("<!-- factors: end -->")[0]
    lines = factors_table()
    assert [line for line in text.splitlines() if line.startswith("|")] == lines, "\n".join(lines)
