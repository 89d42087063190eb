"""Text of strangers is shown with what is unseen escaped, and an exception is told whatever its class does."""

from __future__ import annotations

import unicodedata

import pytest

from worldflux.strangers.text import say, some, visible

CONTROLS = ["\x00", "\x07", "\x1b", "\x7f", "\x9b", "\r"]
TURNING = ["\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069"]
HIDDEN = ["\xad", "\u200b", "\u200d", "\u2060", "\ufeff", "\u3164", "\ufe0f", "\U000e0041"]
BREAKING = ["\n", "\u2028", "\u2029", "\x85", "\ud800"]


@pytest.mark.parametrize("char", [*CONTROLS, *TURNING, *HIDDEN, *BREAKING], ids=ascii)
def test_what_is_unseen_is_escaped_as_python_does(char):
    assert visible(f"a{char}b") == f"a{ascii(char)[1:-1]}b"


def test_ordinary_text_of_any_language_stays():
    text = "Größe, naïve, Ελληνικά, русский, עברית, العربية, हिन्दी, 日本語, a  b, 🎉 → ∞"
    assert visible(text) == text


def test_every_control_line_separator_and_surrogate_of_unicode_is_escaped():
    wrong = [
        n
        for n in range(0x110000)
        if unicodedata.category(chr(n)) in ("Cc", "Zl", "Zp", "Cs") and visible(chr(n)) == chr(n)
    ]
    assert wrong == []


def test_what_is_to_be_kept_is_kept():
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


class Silent(Exception):
    def __str__(self):
        raise SystemExit("no text")


class Text(str):
    def split(self, *args):
        return [3]


class Odd(Exception):
    def __str__(self):
        return Text("odd  text")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a\nb \x1b[2J"), r"ValueError: a b \x1b[2J"),
        (ValueError(), "ValueError"),
        (Silent(), "Silent: (its text cannot be read)"),
        (Odd(), "Odd: odd text"),
    ],
)
def test_an_exception_is_told_on_one_visible_line(error, words):
    assert say(error) == words
    assert say(error, kind=False) == words.partition(": ")[2]


def test_an_exception_is_told_up_to_a_length():
    assert len(say(ValueError("x" * 10_000))) < 600


def test_of_a_long_list_the_first_are_shown_and_how_many_more_there_are():
    assert some(["a", "b"]) == "['a', 'b']"
    assert some([str(n) for n in range(1234)], 2) == "['0', '1'] and 1,232 more"
