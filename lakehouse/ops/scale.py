"""What a lake of many markets would take, reckoned from measured figures, prices and stated assumptions.

Nothing here was run at that size: every figure says where it comes from, and what follows is arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lakehouse.model.market import MarketType
from lakehouse.model.table import MOST_ROWS, Table
from lakehouse.registry import Registry
from lakehouse.sources.files.batch import MOST_ZIPPED

MARKETS: Mapping[MarketType, int] = {"spot": 1_200, "linear": 700, "inverse": 100}
MONTHS, FIRST, END = 100, datetime(2018, 1, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
DAYS = (END - FIRST).days
HOURS_A_MONTH = 730

TICKS = ("bronze/trade_archive", "silver/trade")
"""Tables of ticks, a cell a day and market; no lake has them yet."""


@dataclass(frozen=True)
class Figure:
    """A number and where it comes from.

    Attributes:
        value: The number.
        unit: Of what.
        meaning: What it says.
        source: Who measured, charges or assumes it.
        quote: Words of docs/performance.md that state it, where it was measured; a test finds them there.
    """

    value: float
    unit: str
    meaning: str
    source: str
    quote: str = ""


_GROWTH, _SCALE, _CELLS = "benchmarks.growth", "benchmarks.scale", "benchmarks.cells"
_PRICES = "AWS's price list, ap-northeast-1, as of 2026, without tax"
FIGURES: Mapping[str, Figure] = {
    "cell seconds": Figure(
        0.128, "s", "a cell, of ticks too, by a process on two cores", _GROWTH, "| 62.8 s (128 ms) |"
    ),
    "event bytes": Figure(12_000, "bytes", "a cell in Dagster's instance", _GROWTH, "| 58 MB (12 kB) |"),
    "tick seconds": Figure(3.0, "s", "a tick of closed candles over all ledgers", _SCALE, "| 3.0 / 2.8 s |"),
    "tick memory": Figure(540, "MB", "a tick of what failed over all ledgers", _SCALE, "| 540 MB |"),
    "tick objects": Figure(287_760, "objects", "the lake of those ticks", _SCALE, "287,760 objects"),
    "listings": Figure(214, "an hour", "listings of whole tables, idle", _SCALE, "`archive_published`: 214"),
    "listed tables": Figure(
        17, "tables", "among which those listings are", _SCALE, "`failed_cells` 17 a look"
    ),
    "puts": Figure(2.4, "a cell", "PUT and LIST of a build", "benchmarks.backfill_s3", "2.4 PUT and LIST"),
    "gets": Figure(2.2, "a cell", "GET of a build", "benchmarks.backfill_s3", "2.2 GET"),
    "zip bytes": Figure(3_495_424, "bytes", "a fetched file of candles", _CELLS, "| 3,495,424 |"),
    "trade bytes": Figure(
        5.6, "bytes", "a trade of a contract, in whole numbers", _CELLS, "5.6 bytes a trade"
    ),
    "trade factor": Figure(2, "times", "what volumes with decimals add to a trade", "an assumption"),
    "trades": Figure(
        100_000,
        "a day",
        "trades of a market, aggregated, over all markets",
        "an assumption: three recorded months of two perpetuals have 408,000 to 486,000 a day, not "
        "aggregated",
    ),
    "zip factor": Figure(1.5, "times", "a zip of trades against its cell", "an assumption"),
    "partition limit": Figure(
        10_000_000, "partitions", "of a table in Glue", "AWS's quotas of Glue, before an increase"
    ),
    "tick limit": Figure(60, "s", "of a sensor's tick", "Dagster: the timeout of its gRPC"),
    "key limit": Figure(100_000, "keys", "partitions of an asset", "Dagster's advice (ADR 1)"),
    "memory limit": Figure(8_000, "MB", "of the task in which sensors run", "an assumption"),
    "put rate": Figure(3_500, "a second", "PUT, LIST and DELETE below a prefix", "AWS's guide to S3"),
    "s3 gb": Figure(0.025, "USD a GB month", "S3 Standard, the first 50 TB", _PRICES),
    "s3 puts": Figure(4.7, "USD a million", "PUT and LIST", _PRICES),
    "s3 gets": Figure(0.37, "USD a million", "GET and HEAD", _PRICES),
    "glue objects": Figure(
        10, "USD a million and month", "objects in Glue beyond the first million", _PRICES
    ),
    "vcpu": Figure(0.05056, "USD an hour", "a vCPU of Fargate", _PRICES),
    "memory": Figure(0.00553, "USD an hour", "a GB of memory of Fargate", _PRICES),
    "database gb": Figure(0.138, "USD a GB month", "disk of the event log in RDS", _PRICES),
}

# mean bytes of a cell, as benchmarks.cells printed them into docs/performance.md; a test compares the two
CELL_BYTES: Mapping[str, int] = {
    "bronze/candle_witness": 37_430,
    "bronze/candle_archive": 1_571_291,
    "silver/candle": 1_568_774,
    "bronze/funding_rate_archive": 5_494,
    "silver/funding_rate": 4_057,
    "silver/gap": 2_111,
    "silver/conflict": 3_752,
    "silver/funding_rate_conflict": 2_830,
    "gold/candle_5m": 337_826,
    "gold/candle_15m": 119_652,
    "gold/candle_1h": 35_538,
    "gold/candle_4h": 13_573,
    "gold/candle_1d": 6_691,
    "gold/vwap": 885_886,
    "gold/return": 1_906_377,
    "gold/volatility": 69_390,
    "gold/indicator_1h": 106_218,
    "gold/indicator_1d": 9_272,
    "gold/microstructure_1m": 1_809_968,
    "gold/microstructure_1h": 39_511,
    "gold/funding_carry": 4_360,
}


@dataclass(frozen=True)
class Part:
    """What a table takes.

    Attributes:
        name: The table.
        cells: How many cells it has; each is an object.
        size: Bytes of them all.
        landed: Objects of landing that its cells were read from, a zip and its receipt each.
        landed_size: Their bytes.
        is_measured: Whether its bytes a cell were measured.
        is_registered: Whether each of its cells is a partition in the catalog.
        new: Cells that each further month adds.
    """

    name: str
    cells: int
    size: float
    landed: int = 0
    landed_size: float = 0
    is_measured: bool = True
    is_registered: bool = False
    new: int = 0


@dataclass(frozen=True)
class Break:
    """A limit that a growing lake meets.

    Attributes:
        what: What meets it.
        limit: The limit, in words.
        share: At what share of this lake that is: 1 is this lake.
        instead: What replaces it.
    """

    what: str
    limit: str
    share: float
    instead: str


def value(name: str) -> float:
    """A figure."""
    return FIGURES[name].value


def markets_of(table: type[Table]) -> int:
    """Markets that can have a table."""
    return sum(MARKETS[market_type] for market_type in table.market_types)


def cells_of(table: type[Table]) -> int:
    """Cells of a table over all months."""
    windows = MONTHS if table.grain == "month" else DAYS
    return 1 if table.spread == "one" else windows * (markets_of(table) if table.spread == "market" else 1)


def part_of(registry: Registry, table: type[Table]) -> Part:
    """What a declared table takes. One that REST fills in doubt alone counts as if no cell had any."""
    is_doubtful = any(dataset.api is table for dataset in registry.datasets)
    cells = 0 if is_doubtful else cells_of(table)
    typical = [CELL_BYTES[name] for name in CELL_BYTES if name.startswith(f"{table.zone()}/")]
    size = CELL_BYTES.get(table.name, sum(typical) / len(typical))
    has_files = any(dataset.archive is table for dataset in registry.datasets)
    a_file = value("zip bytes") if table.name == "bronze/candle_archive" else size
    return Part(
        table.name,
        cells,
        cells * size,
        2 * cells if has_files else 0,
        cells * a_file if has_files else 0,
        table.name in CELL_BYTES or not cells or table.spread == "one",
        table.zone() != "bronze" and table.spread != "one",
        cells // MONTHS,
    )


def tables(registry: Registry) -> list[Part]:
    """What the declared tables take."""
    return [part_of(registry, table) for table in registry.tables]


def ticks() -> list[Part]:
    """What tables of ticks would take: a cell a day and market, each from a zip of its own."""
    cells = sum(MARKETS.values()) * DAYS
    size = cells * value("trades") * value("trade bytes") * value("trade factor")
    bronze, silver = TICKS
    return [
        Part(bronze, cells, size, 2 * cells, size * value("zip factor"), False, False, cells // MONTHS),
        Part(silver, cells, size, 0, 0, False, True, cells // MONTHS),
    ]


@dataclass(frozen=True)
class Total:
    """What some tables take together.

    Attributes:
        parts: The tables.
    """

    parts: list[Part]

    @property
    def cells(self) -> int:
        """Cells of all tables."""
        return sum(part.cells for part in self.parts)

    @property
    def objects(self) -> int:
        """Objects, with those of landing."""
        return self.cells + sum(part.landed for part in self.parts)

    @property
    def size(self) -> float:
        """Bytes, with those of landing."""
        return sum(part.size + part.landed_size for part in self.parts)

    @property
    def partitions(self) -> int:
        """Partitions in the catalog."""
        return sum(part.cells for part in self.parts if part.is_registered)

    @property
    def new(self) -> int:
        """Cells that a further month adds."""
        return sum(part.new for part in self.parts)

    @property
    def pages(self) -> float:
        """LISTs of one look at every table, a thousand keys each."""
        return self.cells / 1000

    def build_hours(self, cells: int) -> float:
        """Hours that cells take one process on two cores."""
        return cells * value("cell seconds") / 3600

    def compute(self, cells: int) -> float:
        """USD of building cells on Fargate tasks of two vCPU and 8 GB."""
        return self.build_hours(cells) * (2 * value("vcpu") + 8 * value("memory"))

    def requests(self, cells: int) -> float:
        """USD of the requests of building cells."""
        return cells * (value("puts") * value("s3 puts") + value("gets") * value("s3 gets")) / 1e6

    @property
    def event_bytes(self) -> float:
        """Bytes of the event log."""
        return self.cells * value("event bytes")

    def monthly(self) -> dict[str, float]:
        """USD a month, by what for."""
        listings = value("listings") / value("listed tables") * HOURS_A_MONTH * self.pages
        return {
            "storage in S3": self.size / 1e9 * value("s3 gb"),
            "LISTs of an idle lake": listings * value("s3 puts") / 1e6,
            "requests of the month's cells": self.requests(self.new),
            "tasks that build the month's cells": self.compute(self.new),
            "objects in Glue": max(self.partitions / 1e6 - 1, 0) * value("glue objects"),
            "disk of the event log": self.event_bytes / 1e9 * value("database gb"),
        }

    def once(self) -> dict[str, float]:
        """USD of the first build, by what for."""
        return {"requests": self.requests(self.cells), "tasks": self.compute(self.cells)}


def breaks(total: Total) -> list[Break]:
    """The limits that a lake meets, the one that it meets first before the others."""
    largest = max((part.cells for part in total.parts), default=1)
    registered = max((part.cells for part in total.parts if part.is_registered), default=0)
    of_ticks = any(part.name in TICKS for part in total.parts)
    tick = total.cells * value("tick seconds") / value("tick objects")
    memory = total.cells * value("tick memory") / value("tick objects")
    writes = value("puts") / value("cell seconds")  # a second
    needed = max(total.build_hours(total.cells) / 24, 1)
    found = [
        Break(
            "a tick of a sensor looks at every ledger",
            f"{value('tick limit'):.0f} s; it would take {tick:,.0f} s",
            value("tick limit") / tick,
            "ticks over some tables and markets in turn, with a deadline; events of the bucket in "
            "place of listings",
        ),
        Break(
            "a tick holds every ledger in memory",
            f"{value('memory limit'):,.0f} MB; it would take {memory:,.0f} MB",
            value("memory limit") / memory,
            "ledgers by exchange and market type, read one after another",
        ),
        Break(
            "partitions of an asset in Dagster",
            f"{value('key limit'):,.0f}; the largest table has {largest:,}",
            value("key limit") / largest,
            "an asset for each exchange and market type, or cells of a year where a table is coarse",
        ),
    ]
    if registered:
        found.append(
            Break(
                "partitions of a table in Glue",
                f"{value('partition limit'):,.0f}; the largest has {registered:,}",
                value("partition limit") / registered,
                "partition projection, which needs no entry a partition",
            )
        )
    if of_ticks:
        most, largest_day = MOST_ROWS >> 3, 20 * value("trades")
        found += [
            Break(
                "rows of a cell of one market",
                f"{most:,}; a market of twenty times the mean has {largest_day:,.0f} a day",
                most / largest_day,
                "cells of an hour for the largest markets, parsed and written in chunks",
            ),
            Break(
                "bytes of a fetched zip",
                f"{MOST_ZIPPED:,}; the same market's has "
                f"{largest_day * value('trade bytes') * value('trade factor') * value('zip factor'):,.0f}",
                MOST_ZIPPED
                / (largest_day * value("trade bytes") * value("trade factor") * value("zip factor")),
                "a bound by table, and reading the zip as a stream",
            ),
        ]
    found.append(
        Break(
            "the store's rate, by tasks that build it all in a day",
            f"{value('put rate'):,.0f} writes a second; {needed:,.0f} tasks make {needed * writes:,.0f}",
            value("put rate") / (needed * writes),
            "nothing: S3 parts a prefix by itself as it is used, and SlowDown is waited for",
        )
    )
    return sorted(found, key=lambda each: each.share)
