"""Foreign text as it may be shown."""

import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.errors import (
    ChecksumNameError,
    CsvHeaderError,
    FetchError,
    LakehouseError,
    ListingUnreachableError,
    NotTheFileError,
    RestQuestionError,
    RestUnreachableError,
    StoreDeniedError,
    UnknownMarketError,
    ZipMemberNameError,
    ZipMembersError,
)
from lakehouse.model.result import Problem
from lakehouse.model.text import plain, plain_message


@pytest.mark.parametrize(
    "sound",
    [
        "",
        "BTCUSDT-1m-2024-01.zip",
        'a b\'s "c" \\x1b',
        "币安人生USDT",
        "naïve – “quoted” …",
        "12,345 rows | 3 days",
        "हिन्दी",
        "שלום",
    ],
)
def test_sound_text_of_any_script_comes_out_unchanged(sound):
    assert plain(sound) == sound


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),  # C1: CSI in one character
        ("a\rb\nc\td\x00", r"a\x0db\x0ac\x09d\x00"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("BTC\u200bUSDT\ufeff", r"BTC\u200bUSDT\ufeff"),
        ("\u2028line\x85", r"\u2028line\x85"),
        ("\ud800", r"\ud800"),  # a lone surrogate, which no UTF-8 file and no terminal takes
        ("\U000e0041", r"\U000e0041"),  # a tag: text that nobody sees
    ],
)
def test_what_a_terminal_obeys_or_a_reader_does_not_see_stands_as_its_escape(hostile, shown):
    assert plain(hostile) == shown
    shown.encode()


def test_long_text_is_cut_at_a_cost_that_does_not_grow():
    long = "\x1b" * 50_000_000
    began = time.process_time()
    assert plain(long) == (r"\x1b" * 50)[:199] + "…"
    assert time.process_time() - began < 0.1
    assert plain("x" * 200) == "x" * 200
    assert plain("x" * 201, 200) == "x" * 199 + "…"


def test_a_message_keeps_its_lines_and_nothing_else():
    assert plain_message("refused:\n\tLINE 1\x1b[31m") == "refused:\n\tLINE 1\\x1b[31m"
    assert len(plain_message("x" * 10**6)) == 20_000


def test_what_is_no_text_stands_for_its_str():
    assert plain(ValueError("\x1bodd")) == r"\x1bodd"


@given(
    st.text(st.characters(max_codepoint=sys.maxunicode, exclude_categories=()), max_size=300),
    st.integers(1, 250),
)
def test_whatever_comes_is_printable_short_and_made_plain_once(text, most):
    shown = plain(text, most)
    assert shown.isprintable()
    assert len(shown) <= most
    assert plain(shown, most) == shown
    shown.encode()


HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e" + "x" * 50_000_000
TOLD = [
    lambda: FetchError("a.zip", HOSTILE),
    lambda: FetchError(HOSTILE, "why"),
    lambda: NotTheFileError("a.zip", "a zip", HOSTILE.encode()),
    lambda: ListingUnreachableError("http://x", HOSTILE, HOSTILE),
    lambda: RestUnreachableError("http://x", HOSTILE, "Do."),
    lambda: RestQuestionError("http://x", "BTC", -1, HOSTILE),
    lambda: StoreDeniedError("reading", "s3://x", HOSTILE, {}),
    lambda: ChecksumNameError("a.zip", "a.zip", HOSTILE),
    lambda: ZipMembersError("a.zip", [HOSTILE] * 16),
    lambda: ZipMemberNameError("a.zip", "a.csv", HOSTILE),
    lambda: CsvHeaderError("a.zip", ["a"], HOSTILE),
]


@pytest.mark.parametrize("make", TOLD)
def test_an_error_tells_of_foreign_text_in_a_few_lines_and_nothing_that_a_terminal_obeys(
    make: Callable[[], LakehouseError],
) -> None:
    said = str(make())
    assert said.isprintable()
    assert len(said) < 2_000


def test_no_error_of_ours_lets_a_control_character_through_whoever_wrote_its_class() -> None:
    class Careless(LakehouseError):
        def __init__(self, name: str) -> None:
            super().__init__(f"{name} is odd.\nLook at it.")

    said = str(Careless(HOSTILE))
    assert (said[:12], len(said), "\x1b" in said) == ("\\x1b]0;owned", 20_000, False)
    assert str(Careless("币安人生USDT")) == "币安人生USDT is odd.\nLook at it."
    assert r"\x1b" in str(UnknownMarketError("\x1b", "data/"))


def test_what_goes_into_a_footer_is_plain_and_what_is_sound_stays_as_it_is() -> None:
    problem = Problem(HOSTILE, "foreign", HOSTILE, HOSTILE)
    assert all(
        said.isprintable() and len(said) <= 2_000
        for said in (problem.subject, problem.detail, problem.healed_by)
    )
    assert (
        Problem("a.zip on 2024-02-05", "short", "12 rows – 币安", "29 daily files").detail == "12 rows – 币安"
    )
