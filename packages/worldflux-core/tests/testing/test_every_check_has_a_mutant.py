"""A check without a mutant is not accepted. Each table is ``MUTANTS``: the name of the check → what it must catch."""

from __future__ import annotations

import pytest

from worldflux.testing.checks import all_checks

pytest.importorskip("torch", reason="what a model is held to is not defined without torch")
TABLES = ("mutants_static", "mutants_full", "mutants_doors")


def test_every_check_has_a_mutant_and_every_mutant_a_check(beside):
    tables = [set(beside(table).MUTANTS) for table in TABLES]
    assert set.union(*tables) == {check.name for check in all_checks()}


def test_no_check_has_its_mutant_in_two_places(beside):
    tables = [set(beside(table).MUTANTS) for table in TABLES]
    assert not set.intersection(*tables)


def test_every_check_says_its_rule_in_a_sentence():
    wrong = [check.name for check in all_checks() if check.rule == check.name or not check.rule.endswith((".", ":"))]
    assert not wrong


def test_names_of_checks_are_their_own():
    names = [check.name for check in all_checks()]
    assert len(set(names)) == len(names)
    assert all(name.startswith("check_") for name in names)
