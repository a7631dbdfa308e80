"""What is due according to ledgers: which cells there should be, and which of them were made from other
inputs than today's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.input import Input, touched_dates
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.result import NONE
from lakehouse.model.table import Table
from lakehouse.storage.ledger import PLACE, CellLedger, Ledger, cells_of, places_of
from lakehouse.storage.tables import CellRecord


def inputs_now(
    table: type[Table], cell: Cell, ledgers: Mapping[str, Ledger], facts: Mapping[Market, str]
) -> dict[str, str]:
    """The versions a cell would record if it were built now.

    Args:
        table: A silver or gold table.
        cell: One of its cells.
        ledgers: Ledger per input table, by name.
        facts: Version of the facts each market contributes to this cell; empty for tables that use none.
    """
    if table.spread == "all":  # one object for all markets
        return {
            f"{each.name}@{record.key}": record.news if table.reads_footers else record.version
            for each in table.inputs
            for record in ledgers[each.name].values()
            if record.key.date in touched_dates(cell.date, each.table.grain, each.lookback)
        }
    inputs = {}
    for each in table.inputs:
        for source in each.cells(cell):
            inputs[f"{each.name}@{source.date}"] = _version_of(ledgers[each.name], source)
    if cell.market is not None and cell.market in facts:
        inputs["silver/market"] = facts[cell.market]
    return inputs


def _version_of(stored: Ledger, cell: Cell) -> str:
    if isinstance(stored, CellLedger):  # without making a record of it
        return stored.version_of(cell)
    record = stored.get(cell)
    return record.version if record else NONE


def expected(table: type[Table], ledgers: Mapping[str, Ledger]) -> list[Cell]:
    """Cells of a silver or gold table that should exist: those for which an own-window input is stored that
    makes one, of markets that have the table.
    """
    own = {
        own
        for each in table.inputs
        for cell, record in ledgers[each.name].items()
        if each.makes(record.rows) and (cell.market is None or cell.market.market_type in table.market_types)
        for own in _own_windows(table, cell, record)
    }
    if table.spread == "all":
        return [Cell(date) for date in sorted({cell.date for cell in own})]
    return sorted(own, key=lambda cell: cell.sort_key)


def expected_of(table: type[Table], ledgers: Mapping[str, CellLedger], sources: Iterable[Cell]) -> list[Cell]:
    """As `expected`, of the cells that touch the months of some sources, or look back on them.

    Args:
        table: A silver or gold table.
        ledgers: Ledger per input table, by name.
        sources: Months of markets.
    """
    cells = _expected_frame(table, ledgers)
    reach = max((each.lookback for each in table.inputs), default=timedelta())
    touched = [(date, of) for date in cells["date"].unique() for of in touched_dates(date, "month", reach)]
    windows = pl.DataFrame(touched, {"date": pl.String, "of": pl.String}, orient="row")
    asked = places_of(sources).rename({"date": "of"})
    on = ["of"] if table.spread == "all" else ["key", "of"]
    meant = cells.join(windows, on="date").join(asked, on=on, how="semi").select(PLACE).unique()
    return cells_of(meant.sort(PLACE))


def _own_windows(table: type[Table], cell: Cell, record: CellRecord) -> Sequence[Cell]:
    """The cells of a table that an input's cell has rows of: the month of a day, the days of a month between
    its first and its last row.
    """
    if cell.grain == table.grain:
        return (cell,)
    if table.grain == "month":
        return (Cell(cell.month, cell.market),)
    if record.first_time is None or record.last_time is None:
        return ()
    first, last = (Period.of(time, table.grain).text for time in (record.first_time, record.last_time))
    return [
        Cell(date, cell.market) for date in touched_dates(cell.date, table.grain) if first <= date <= last
    ]


def needs_build(table: type[Table], stored: Ledger, cell: Cell, inputs: Mapping[str, str]) -> bool:
    """As `is_due`, of a cell of a ledger.

    Args:
        table: The cell's table.
        stored: The ledger of the table.
        cell: The cell.
        inputs: The versions it would be made from now.
    """
    if isinstance(stored, CellLedger):  # without making a record of it
        return not stored.is_made_from(cell, table.code_version, inputs)
    return is_due(table, stored.get(cell), inputs)


def is_due(table: type[Table], record: CellRecord | None, inputs: Mapping[str, str]) -> bool:
    """Whether a cell must be built: absent, made from other inputs than today's, or by an older meaning of
    the table.
    """
    return record is None or record.code_version != table.code_version or dict(record.inputs) != dict(inputs)


class Standing:
    """How the stored cells of a table stand to those there should be.

    Args:
        wanted: The cells there should be, by `key` and `date`, and whether they are `fresh`: plainly made
            from today's inputs by today's meaning of the table.
        strays: The stored cells that there should not be.
    """

    def __init__(self, wanted: pl.DataFrame, strays: pl.DataFrame) -> None:
        self._wanted, self._strays = wanted, strays

    @classmethod
    def told(cls, cells: Iterable[Cell], fresh: pl.DataFrame) -> "Standing":
        """Which of the cells there should be need no other look.

        Args:
            cells: The cells there should be.
            fresh: Cells that are as they should be, by `key` and `date`.
        """
        fresh = fresh.select(*PLACE, fresh=pl.lit(True))
        wanted = places_of(cells).join(fresh, on=PLACE, how="left", maintain_order="left")
        return cls(wanted.with_columns(pl.col("fresh").fill_null(False)), wanted.clear())

    @property
    def fresh(self) -> list[Cell]:
        """The cells that need no other look."""
        return cells_of(self._wanted.filter("fresh"))

    @property
    def suspects(self) -> list[Cell]:
        """The other cells there should be."""
        return cells_of(self._wanted.filter(~pl.col("fresh")))

    @property
    def strays(self) -> list[Cell]:
        """The stored cells that there should not be."""
        return cells_of(self._strays)


def standing(
    table: type[Table],
    stored: CellLedger,
    ledgers: Mapping[str, CellLedger],
    facts: Callable[[Cell], str | None] | None = None,
    among: Iterable[Cell] | None = None,
) -> Standing:
    """Tell in columns how a table stands: what footers say that cells were made from is compared, as text,
    with what they would say if they were made now. Other texts make a suspect, and no more.

    Args:
        table: A silver or gold table that has cells.
        stored: Its ledger.
        ledgers: Those of its inputs, by name.
        facts: Version of the facts that a market contributes to a cell; None where nothing is known of it.
        among: The cells that are asked about, whether or not there should be such; None for all there should
            be.
    """
    wanted = _expected_frame(table, ledgers) if among is None else places_of(among).unique().sort(PLACE)
    parts = {f"{each.name}@": _versions(table, wanted, each, ledgers[each.name]) for each in table.inputs}
    if facts is not None:
        versions = pl.Series("version", [facts(cell) for cell in cells_of(wanted)], pl.String)
        parts["silver/market"] = wanted.with_columns(versions, name=pl.lit("silver/market")).drop_nulls()
    pairs = pl.concat(
        parts[name].select(*PLACE, pair=pl.format('"{}": "{}"', "name", "version")) for name in sorted(parts)
    )
    texts = pairs.group_by(PLACE, maintain_order=True).agg(
        now=pl.lit("{") + pl.col("pair").str.join(", ") + pl.lit("}")
    )
    is_fresh = (pl.col("code_version") == table.code_version) & (pl.col("inputs") == pl.col("now"))
    told = wanted.join(texts, on=PLACE, how="left").join(stored.frame, on=PLACE, how="left")
    return Standing(
        told.select(*PLACE, fresh=is_fresh.fill_null(False)).sort(PLACE),
        stored.frame.join(wanted, on=PLACE, how="anti"),
    )


def _versions(table: type[Table], wanted: pl.DataFrame, source: Input, stored: CellLedger) -> pl.DataFrame:
    """What cells would record of an input: `name` and `version`, in order of the names of each cell."""
    touched = [
        (date, of)
        for date in wanted["date"].unique()
        for of in touched_dates(date, source.table.grain, source.lookback)
    ]
    windows = pl.DataFrame(touched, {"date": pl.String, "of": pl.String}, orient="row")
    version = pl.col("news" if table.reads_footers else "version")
    held = stored.frame.select(market="key", of="date", version=version)
    asked = wanted.join(windows, on="date", how="left", maintain_order="left_right")
    name = pl.format(f"{source.name}@{{}}", "of")
    if table.spread == "all":  # one object for all markets
        found = asked.join(held, on="of", how="inner", maintain_order="left_right")
        name = pl.when(pl.col("market") == "").then(name).otherwise(pl.format("{}|{}", name, "market"))
    else:
        found = asked.join(
            held, left_on=("key", "of"), right_on=("market", "of"), how="left", maintain_order="left"
        )
    return found.select(*PLACE, name=name, version=pl.col("version").fill_null(NONE))


def _expected_frame(table: type[Table], ledgers: Mapping[str, CellLedger]) -> pl.DataFrame:
    """As `expected`, by `key` and `date`."""
    making = [each for each in table.inputs if each.makes(1)]
    if any(each.table.grain != table.grain for each in making):
        return places_of(expected(table, ledgers))
    own = pl.concat(
        ledgers[each.name].frame.filter(pl.lit(each.makes(0)) | (pl.col("rows") > 0)).select(PLACE)
        for each in making
    ).unique()
    keys = [
        key for key in own["key"].unique() if not key or Market.parse(key).market_type in table.market_types
    ]
    own = own.filter(pl.col("key").is_in(keys))
    if table.spread == "all":
        own = own.select(key=pl.lit(""), date="date").unique()
    return own.sort(PLACE)
