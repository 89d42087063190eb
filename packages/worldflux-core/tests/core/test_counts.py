"""How many there are of something, in words."""

from __future__ import annotations

import pytest

from worldflux.words.counts import counted


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1024, "1,024 rows")],
)
def test_one_is_counted_in_the_singular_and_every_other_number_in_the_plural(count, said):
    assert counted(count, "row") == said


def test_what_agrees_with_the_noun_goes_with_it():
    words = "episode begins", "episodes begin"
    assert [counted(n, *words) for n in (1, 3)] == ["1 episode begins", "3 episodes begin"]
