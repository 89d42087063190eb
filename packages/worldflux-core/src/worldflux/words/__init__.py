"""Refusals in words: what was given, what was expected, the next step. Asked for only once something is refused."""
