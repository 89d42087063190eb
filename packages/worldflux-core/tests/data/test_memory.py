from __future__ import annotations

import pytest

from worldflux.data.memory import in_bytes


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (64, "64 bytes"), (17_500, "17.5 KB"), (999_999, "1 MB"), (3.69e9, "3.69 GB"), (5e15, "5e+03 TB")],
)
def test_a_size_is_said_in_the_unit_that_suits_it(size, words):
    assert in_bytes(size) == words
