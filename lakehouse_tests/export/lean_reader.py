"""LEAN's reader of crypto data, said again in Python from its source: `TradeBar.ParseCrypto`,
`MarginInterestRate.Reader`, `StreamReaderExtensions`, `LeanData.GenerateZipEntryName`, at commit 24863901
(2026-08-21).

It takes digits as they come: an exponent or a digit too many gives another number, and no error.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

_WORD = 1 << 64


def decimal_of(text: str) -> Decimal:
    """`GetDecimal`: a whole number of 64 bits, and how many digits stood behind the point."""
    value, places, body = 0, None, text.removeprefix("-")
    for char in body:
        if char == ".":
            places = 0
        else:
            value = (value * 10 + ord(char) - ord("0")) % _WORD
            places = None if places is None else places + 1
    assert (places or 0) <= 28, "a .NET decimal takes no more: ArgumentOutOfRangeException"
    number = Decimal(value).scaleb(-(places or 0))
    return -number if text.startswith("-") else number


def integer_of(text: str) -> int:
    """`GetInt32`."""
    assert re.fullmatch("[0-9]+", text), text
    return int(text)


def bars(body: bytes, day: date | None = None) -> list[tuple[datetime, tuple[Decimal, ...]]]:
    """`StreamParseNoScale`: each line's time and its open, high, low, close and volume; by milliseconds of a
    day where one is given (minutes), else by `yyyyMMdd HH:mm`.
    """
    found = []
    for line in body.decode("ascii").split("\n"):
        first, *values = line.split(",")
        if day is not None:
            midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
            at = midnight + timedelta(milliseconds=integer_of(first))
        else:
            at = datetime.strptime(first, "%Y%m%d %H:%M").replace(tzinfo=UTC)
        assert len(values) == 5, line
        found.append((at, tuple(map(decimal_of, values))))
    return found


def interest(body: bytes) -> list[tuple[datetime, Decimal]]:
    """`MarginInterestRate.Reader`."""
    lines = [line.split(",") for line in body.decode("ascii").splitlines()]
    return [
        (datetime.strptime(at, "%Y%m%d %H:%M:%S").replace(tzinfo=UTC), decimal_of(rate)) for at, rate in lines
    ]


def place_of(is_spot: bool, exchange: str, ticker: str, length: str, day: date | None) -> tuple[str, str]:
    """`GenerateRelativeZipFilePath` and `GenerateZipEntryName` of trades, for crypto and perpetuals."""
    home = f"{'crypto' if is_spot else 'cryptofuture'}/{exchange}/{length}"
    if day is not None:
        stamp = f"{day:%Y%m%d}"
        member = f"{stamp}_{ticker}_{length}_trade{'' if is_spot else '_perp'}.csv"
        return f"{home}/{ticker}/{stamp}_trade.zip", member
    return f"{home}/{ticker}_trade.zip", f"{ticker}.csv" if is_spot else f"{ticker}_trade_perp.csv"
