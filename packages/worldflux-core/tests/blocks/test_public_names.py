from __future__ import annotations

from worldflux import blocks


def test_every_public_name_is_there_once_and_says_what_it_is():
    assert blocks.__all__ == sorted(set(blocks.__all__))
    assert all(getattr(blocks, name).__doc__ for name in blocks.__all__)
