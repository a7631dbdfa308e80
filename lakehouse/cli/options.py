"""The options that several commands share."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.model.errors import NoMarketError
from lakehouse.model.market import Market, is_key

if TYPE_CHECKING:
    from lakehouse.model.table import Table

Markets = Annotated[
    str,
    typer.Option(
        "--markets",
        "-m",
        help="Market keys, comma-separated: binance-spot:BTCUSDT,binance-linear:ETHUSDT. Also patterns "
        "over the markets of the lake, binance-linear:*USDT, and unified symbols, binance:BTC/USDT:USDT.",
    ),
]
SomeMarkets = Annotated[
    str | None,
    typer.Option(
        "--markets", "-m", help="Market keys, patterns or unified symbols, comma-separated; all if left out."
    ),
]
From = Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD or YYYY-MM (UTC).")]
To = Annotated[str, typer.Option("--to", help="End, exclusive.")]
Start = Annotated[
    str | None,
    typer.Option("--from", help="First day, YYYY-MM-DD or YYYY-MM (UTC); from the beginning if left out."),
]
End = Annotated[str | None, typer.Option("--to", help="End, exclusive; without end if left out.")]
SilverTable = Annotated[str, typer.Option("--table", help="The silver table whose rows are meant.")]


def wanted_markets(markets: str | None, tables: "Collection[type[Table]] | None" = None) -> list[Market]:
    """The markets that an option names; none if it is left out, which stands for all where a command
    reads.

    Args:
        markets: The option.
        tables: As for `Lake.named`.
    """
    if markets is None:
        return []
    names = [name.strip() for name in markets.split(",") if name.strip()]
    if not names:
        raise NoMarketError  # such as an empty variable of a shell, which is not all
    if all(is_key(name) for name in names):
        return [Market.parse(name) for name in names]
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    return Lake(Settings().root).named(names, tables)
