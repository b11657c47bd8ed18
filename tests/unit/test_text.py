import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retentiond.model.text import printable

UNHURRIED = settings(deadline=None)
ANY_TEXT = st.text(st.characters(exclude_categories=[]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünï漢", "plain ünï漢"),
        ("\x1b[2J", "\\u{1B}[2J"),
        ("a\nb\tc\0", "a\\u{0A}b\\u{09}c\\u{00}"),
        ("\u202etxt.exe", "\\u{202E}txt.exe"),
        ("\u2028\u2029", "\\u{2028}\\u{2029}"),
        ("\udcff", "\\u{DCFF}"),
        ("\ue000", "\\u{E000}"),
    ],
)
def test_what_moves_hides_or_turns_round_is_shown_by_its_number(text: str, shown: str) -> None:
    assert printable(text) == shown


@UNHURRIED
@given(ANY_TEXT, st.integers(1, 60))
def test_any_text_becomes_harmless_and_no_longer_than_asked(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert shown.encode().decode() == shown


def test_a_text_of_just_the_limit_is_not_cut() -> None:
    assert printable("a" * 10, 10) == "a" * 10


def test_a_cut_is_marked_and_never_goes_through_an_escape() -> None:
    assert printable("a" * 11, 10) == "a" * 9 + "…"
    assert printable("abc\x1bdef", 6) == "abc…"
