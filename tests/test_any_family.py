"""The families behind one interface: a script that works for one works for all, with only the name changed."""

from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "any_family.py"


@pytest.mark.parametrize("model", ["dreamer:ci", "tdmpc2:ci", "planet:ci", "mbpo:ci"])
def test_one_script_trains_evaluates_plans_and_saves_every_family(model, fresh_python, tmp_path):
    result = fresh_python(str(SCRIPT), model, "--smoke", "--run", str(tmp_path / "run"))
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    assert "saved and loaded" in result.stdout
    assert (tmp_path / "run" / "learning_curve.png").is_file()
    assert (tmp_path / "run" / "final" / "model.safetensors").is_file()
