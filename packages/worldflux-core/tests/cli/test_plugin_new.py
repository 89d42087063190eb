"""``worldflux plugins new``, in fresh processes."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(scope="module")
def answers(worldflux):
    calls = {
        "text": ["plugins", "new", "acme"],
        "json": ["plugins", "new", "acme-two", "--directory", "there/acme", "--family", "two", "--json"],
        "again": ["plugins", "new", "acme"],
        "ours": ["plugins", "new", "dreamer"],
        "installed": ["plugins", "new", "toy-world"],
        "its family": ["plugins", "new", "mine", "--family", "toyworld"],
        "its alias": ["plugins", "new", "mine", "--family", "toy-world-model"],
        "its module": ["plugins", "new", "toy_world_", "--directory", "x"],
    }
    return dict(zip(calls, worldflux.several(*calls.values()), strict=True))


def test_it_says_what_to_do_next(answers, worldflux):
    assert answers["text"].code == 0, answers["text"].err
    assert 'pip install "./acme[test]"\n  pytest acme\n' in answers["text"].out
    assert (worldflux.cwd / "acme/src/acme/model.py").is_file()


def test_json_names_every_file_it_wrote(answers, worldflux):
    said = json.loads(answers["json"].out)
    assert (said["name"], said["module"], said["family"]) == ("acme-two", "acme_two", "two")
    folder = worldflux.cwd / "there/acme"
    assert said["directory"] == str(folder)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(said["files"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("again", "acme is not empty"),
        ("ours", "belongs to worldflux-dreamer"),
        ("installed", "is installed"),
        ("its family", "comes with toy-world"),
        ("its alias", "comes with toy-world"),
        ("its module", "lower-case words"),
    ],
)
def test_a_mistake_writes_nothing_and_is_one_line_with_exit_code_2(call, said, answers, worldflux):
    answer = answers[call]
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert said in answer.err
    assert not (worldflux.cwd / "mine").exists()
    assert not (worldflux.cwd / "x").exists()


def test_it_loads_no_torch(worldflux):
    probe = (
        "import sys; from worldflux.cli import main\ntry: main(['plugins', 'new', 'light'])\nexcept SystemExit: pass\n"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", probe + "assert not {'torch', 'numpy', 'toy_world'} & set(sys.modules)"],
        cwd=worldflux.cwd,
        env=worldflux.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (worldflux.cwd / "light/pyproject.toml").is_file()
