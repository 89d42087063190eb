"""A faster path through observing and imagining, with the same numbers."""
