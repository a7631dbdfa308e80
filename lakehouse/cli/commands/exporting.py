"""`lakehouse export`: candles and funding rates as files for a backtester."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.options import End, Markets, Start
from lakehouse.cli.reporting import Report, frame_of, reporting
from lakehouse.model.errors import ExportNamesError, NoMarketError, NotExportedError
from lakehouse.model.words import count_of

if TYPE_CHECKING:
    from lakehouse.export import Exported

commands = typer.Typer()

_SHOWN = ("market", "interval", "candles", "filled", "absent", "funding", "evidence")


class TargetName(StrEnum):
    """Whose layout an export has."""

    csv = "csv"
    freqtrade = "freqtrade"
    lean = "lean"
    nautilus = "nautilus"


@commands.command()
@reporting
def export(
    target: Annotated[TargetName, typer.Argument(help="Whose layout the files have.")],
    markets: Markets,
    folder: Annotated[
        Path,
        typer.Option(
            "--folder",
            help="Where to: freqtrade's user_data/data, LEAN's data folder, the catalog of nautilus, any "
            "other for csv.",
        ),
    ],
    start: Start = None,
    end: End = None,
    interval: Annotated[
        str,
        typer.Option(
            "--interval",
            help="Intervals of candles, comma-separated, all that are wanted at once: an export of a market "
            "replaces its earlier one in the folder.",
        ),
    ] = "1m",
    fill: Annotated[
        bool,
        typer.Option(
            "--fill",
            help="Add a flat candle in every slot without one. The sidecar names each; without it nothing is "
            "added.",
        ),
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="KEY=SYMBOL",
            help="The unified symbol of a market whose currencies nobody stated: "
            "binance-linear:LUNAUSDT=LUNA/USDT:USDT. Several times for several.",
        ),
    ] = None,
    mark_from_candles: Annotated[
        bool,
        typer.Option(
            "--mark-from-candles",
            help="For freqtrade: let candles of trades stand in for mark prices, without which it backtests "
            "no perpetual.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that no export left there as they are.")
    ] = False,
    *,
    report: Report,
) -> None:
    """Write candles and funding rates for freqtrade, nautilus_trader or LEAN, or as CSV.

    Beside the files, in `lakehouse/`, each market has a sidecar in JSON: which data it is (`dataset_id`), its
    evidence, every gap with its class, and what was added. Nothing is added in silence.
    """
    from lakehouse.export import export as exported_by
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    wanted = [one.strip() for one in markets.split(",") if one.strip()]
    if not wanted:
        raise NoMarketError
    intervals = [one.strip() for one in interval.split(",") if one.strip()]
    done: list[Exported] = []
    try:
        exported_by(
            Lake(Settings().root),
            target.value,
            wanted,
            folder,
            start,
            end,
            intervals,
            fill,
            _names(name or []),
            mark_from_candles,
            overwrite,
            done.append,
        )
    except NotExportedError:
        _say(done, folder, report)
        raise
    _say(done, folder, report)


def _names(given: list[str]) -> dict[str, str]:
    """The names that an option gives, by market key."""
    found = {}
    for one in given:
        key, equals, symbol = one.partition("=")
        if not equals:
            raise ExportNamesError(one)
        found[key.strip()] = symbol.strip()
    return found


def _say(done: "list[Exported]", folder: Path, report: Report) -> None:
    """What was exported, a row for each market and interval, and what has to be known of it."""
    if report.document([_document(one) for one in done]):
        return
    rows = [_row(one, interval) for one in done for interval in one.document["candles"]["intervals"]]
    frame = frame_of(rows, _SHOWN)
    report.table(
        _title(done, folder),
        frame.select(_SHOWN),
        spare=("funding",),
        empty="Nothing was exported.",
        whole=frame,
    )
    said: dict[str, list[str]] = {}
    for one in done:
        for statement in one.document["statements"]:
            said.setdefault(statement, []).append(one.market.key)
    for statement, keys in said.items():
        every = len(keys) == len(done) and len(done) > 1
        report.say(f"{'All' if every else ', '.join(keys)}: {statement}")


def _title(done: "list[Exported]", folder: Path) -> str:
    placed = [one.placed for one in done]
    written, unchanged, removed = (
        sum(getattr(each, what) for each in placed) for what in ("written", "unchanged", "removed")
    )
    return (
        f"{count_of(written, 'file')} written to {folder}"
        + (f", {unchanged:,} there already as they are" if unchanged else "")
        + (f", {removed:,} of earlier exports removed" if removed else "")
    )


def _row(one: "Exported", interval: str) -> dict[str, object]:
    part = one.document["candles"]
    candles = part["intervals"][interval]
    paid = one.document["funding"]
    return {
        "market": one.market.key,
        "symbol": one.document["symbol"],
        "interval": interval,
        "candles": candles["rows"],
        "filled": candles["filled"]["slot_count"],
        "absent": candles["absent"]["slot_count"],
        "funding": paid["rows"] if paid else None,
        "evidence": part["worst_evidence"],
        "first_time": candles["first_time"],
        "last_time": candles["last_time"],
        "written": one.placed.written,
        "unchanged": one.placed.unchanged,
        "removed": one.placed.removed,
    }


def _document(one: "Exported") -> dict[str, object]:
    placed = one.placed
    counts = {"written": placed.written, "unchanged": placed.unchanged, "removed": placed.removed}
    return one.document | {"sidecar_path": str(placed.sidecar), **counts}
