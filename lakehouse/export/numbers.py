"""Numbers as texts that lose nothing: the shortest digits of a float, without an exponent."""

from decimal import Decimal

import polars as pl


def plain_digits(values: pl.Series) -> pl.Series:
    """Floats as decimal texts without an exponent: `0.00000001`, never `1e-8`; whole ones without a point.

    Args:
        values: Finite floats; null stays null.

    Returns:
        Texts, each of which reads as the very float it was made from.
    """
    texts = values.cast(pl.String).str.strip_suffix(".0")
    if texts.str.contains("e", literal=True).any():
        odd = texts.filter(texts.str.contains("e", literal=True)).unique()
        texts = texts.replace({text: format(Decimal(text), "f") for text in odd})
    return texts.replace({"-0": "0"})


def decimal_places(texts: pl.Series) -> int:
    """The most digits behind the point of any text of `plain_digits`."""
    behind = texts.str.split_exact(".", 1).struct.field("field_1").str.len_chars()
    return int(behind.max() or 0)  # type: ignore[arg-type]


def digit_count(texts: pl.Series) -> int:
    """The most digits of any text of `plain_digits`, leading zeros left out."""
    bare = texts.str.replace_all(r"[-.]", "").str.strip_chars_start("0").str.len_chars()
    return int(bare.max() or 0)  # type: ignore[arg-type]
