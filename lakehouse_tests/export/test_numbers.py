"""Digits: what reads as the same float, and has no exponent that a reader would take for digits."""

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.export.numbers import decimal_places, digit_count, plain_digits

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, min_size=1))
def test_digits_read_as_the_float_that_they_were_made_from(values: list[float]) -> None:
    texts = plain_digits(pl.Series(values)).to_list()
    assert [float(text) for text in texts] == values
    assert all(set(text) <= set("-.0123456789") for text in texts)
    assert all(Decimal(text) == Decimal(repr(value)) for text, value in zip(texts, values, strict=True)), (
        "the shortest digits, none made up"
    )


@given(st.lists(FINITE, min_size=1))
def test_places_and_digits_are_counted_as_they_stand(values: list[float]) -> None:
    texts = plain_digits(pl.Series(values))
    told = [Decimal(text).as_tuple() for text in texts]
    assert decimal_places(texts) == max(max(0, -int(each.exponent)) for each in told)
    whole = [int("".join(map(str, each.digits))) for each in told]
    assert digit_count(texts) == max(len(str(number)) if number else 0 for number in whole)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-8, "0.00000001"),
        (1.5e-7, "0.00000015"),
        (1e16, "10000000000000000"),
        (274004.0, "274004"),
        (0.1, "0.1"),
        (-0.0, "0"),
        (-0.0001, "-0.0001"),
        (1e22, "10000000000000000000000"),
    ],
)
def test_numbers_have_no_exponent(value: float, text: str) -> None:
    assert plain_digits(pl.Series([value])).to_list() == [text]


def test_null_stays_null_and_no_values_have_no_places() -> None:
    assert plain_digits(pl.Series([None, 1.0], dtype=pl.Float64)).to_list() == [None, "1"]
    nothing = plain_digits(pl.Series([], dtype=pl.Float64))
    assert (decimal_places(nothing), digit_count(nothing)) == (0, 0)
