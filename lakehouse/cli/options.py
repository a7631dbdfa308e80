"""The options that several commands share."""

from typing import Annotated

import typer

from lakehouse.model.errors import NoMarketError
from lakehouse.model.market import Market

Markets = Annotated[
    str,
    typer.Option(
        "--markets", "-m", help="Market keys, comma-separated: binance-spot:BTCUSDT,binance-linear:ETHUSDT"
    ),
]
SomeMarkets = Annotated[
    str | None, typer.Option("--markets", "-m", help="Market keys, comma-separated; all if left out.")
]
From = Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD or YYYY-MM (UTC).")]
To = Annotated[str, typer.Option("--to", help="End, exclusive.")]
Start = Annotated[
    str | None,
    typer.Option("--from", help="First day, YYYY-MM-DD or YYYY-MM (UTC); from the beginning if left out."),
]
End = Annotated[str | None, typer.Option("--to", help="End, exclusive; without end if left out.")]
SilverTable = Annotated[str, typer.Option("--table", help="The silver table whose rows are meant.")]


def wanted_markets(markets: str | None) -> list[Market]:
    """The markets that an option names; none if it is left out, which stands for all where a command
    reads.
    """
    if markets is None:
        return []
    wanted = [Market.parse(key) for key in markets.split(",") if key.strip()]
    if not wanted:
        raise NoMarketError  # such as an empty variable of a shell, which is not all
    return wanted
