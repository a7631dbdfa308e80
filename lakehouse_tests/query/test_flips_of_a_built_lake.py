"""As `test_flips`, of every object of a lake that the product built, damaged in place: the store tells
nothing of it, neither by tag nor by size.

`FLIPS` says how many flips there are per object; 40 unless told.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.market import Market
from lakehouse.ops.anomalies import known_anomalies, search_anomalies
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.storage.outcome import Built, Failed
from lakehouse.storage.verification import Damage, Verification, load_verification, save_verification
from lakehouse_tests.faults.generated import OTHER
from lakehouse_tests.faults.lab import BTC, FEBRUARY, LISTED, NOW, lab, lake_at

FLIPS = int(os.environ.get("FLIPS", "40"))
EVERY = 24  # of so many damages one is read every way there is, also by what computes cells again
ETH = Market("binance", "spot", OTHER.symbol)
MONTHLY = "*monthly*-1m-2024-02.zip"
CELL, MONTH = Cell("2024-02", BTC), Cell("2024-02")
Read = Callable[[LakeServices, Lake], object]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeServices]:
    """A lake with rows in every table: of each market three candles have two values; of one REST knows which,
    of the other nobody.
    """
    root = tmp_path_factory.mktemp("built") / "lake"
    with lab(
        root,
        f"conflicting_rows={MONTHLY}",
        "daily_absent=*",
        "rest_forgotten=*monthly*ETHUSDT*",
        markets=(LISTED, OTHER),
    ) as made:
        for table in ("silver/candle", "gold/candle_1h", "gold/vwap", "silver/conflict", "silver/gap"):
            for market in (BTC, ETH):
                made.build(market=market, table=table)
        lake = lake_at(root, made.sim.url, lambda: NOW)
        search_anomalies(lake.objects, lake.registry.table("silver/candle"), lake.ledger("silver/candle"))
        save_verification(
            lake.objects,
            Verification(
                NOW,
                {"silver/candle": 2},
                0,
                (Damage("silver/candle/gone/data.parquet", '"1"', "it is empty"),),
            ),
        )
        yield lake


def scan(table: str, *columns: str) -> Read:
    return lambda lake, reader: reader.scan(table).select(*columns or [pl.all()]).collect()


def sql(query: str) -> Read:
    return lambda lake, reader: reader.sql(query)


def filtered(lake: LakeServices, reader: Lake) -> pl.DataFrame:
    return (
        reader.scan("silver/candle", BTC)
        .filter(pl.col("close") > 100, pl.col("month") == "2024-02")
        .select("close", "symbol")
        .collect(engine="streaming")
    )


def refined(lake: LakeServices, reader: Lake) -> pl.DataFrame:
    """The rows of silver, made again of bronze as a build makes them."""
    dataset = lake.registry.dataset("silver/candle")
    has = Inventory(lake)
    return dataset.refine(has.bronze(dataset, CELL), CELL, has.known[BTC]).rows


def hourly(lake: LakeServices, reader: Lake) -> pl.DataFrame:
    """The rows of gold, made again of silver as a build makes them."""
    feature = next(one for one in lake.registry.features if one.name == "gold/candle_1h")
    stored = lake.tables.get(lake.registry.table("silver/candle"), CELL)
    assert stored is not None
    return feature.compute({"silver/candle": stored.rows}, CELL.window)


def collected(lake: LakeServices, reader: Lake, table: str) -> pl.DataFrame:
    """The rows of a month's object, made again where they are due, else those that are stored."""
    declared = lake.registry.table(table)
    ((_, outcome),) = recipes(lake.registry)[declared].make(Inventory(lake), [MONTH])
    if isinstance(outcome, Failed):
        raise outcome.error
    return (
        declared.conform(outcome.result.rows, MONTH)
        if isinstance(outcome, Built)
        else reader.scan(table).collect().drop("month")
    )


def quarantined(lake: LakeServices, reader: Lake) -> pl.DataFrame | None:
    return lake.tables.quarantined(lake.registry.table("silver/candle"), Cell("2024-02", ETH))


CHEAP: dict[str, Read] = {
    "gaps": lambda lake, reader: reader.gaps(now=NOW),
    "conflicts": lambda lake, reader: reader.conflicts(),
    "markets": lambda lake, reader: reader.markets(),
    "restatements": lambda lake, reader: reader.restatements(BTC),
    "1h": lambda lake, reader: reader.candles(BTC, *FEBRUARY, "1h"),
    "count": sql("SELECT count(*) AS n FROM silver.candle"),
}
SILVER: dict[str, Read] = {
    "candles": lambda lake, reader: reader.candles(BTC, *FEBRUARY),
    "scan": scan("silver/candle"),
    "two columns": scan("silver/candle", "volume", "symbol"),
    "filtered": filtered,
    "aggregate": sql(
        "SELECT symbol, bit_xor(hash(close)) AS s, count(DISTINCT source) AS n, max(is_misaligned) AS m FROM "
        "silver.candle GROUP BY ALL ORDER BY ALL"
    ),
    "where": sql(
        "SELECT open_time, close FROM silver.candle WHERE symbol = 'BTCUSDT' AND month = '2024-02' AND "
        "volume > 1 ORDER BY ALL"
    ),
}
BRONZE: dict[str, Read] = {
    f"{way} {name}": read
    for name in ("candle_archive", "candle_api", "candle_witness")
    for way, read in {
        "scan": scan(f"bronze/{name}"),
        "sql": sql(
            f"SELECT bit_xor(hash(close)) AS s, min(fetched_at) AS f, count(*) AS n FROM bronze.{name}"
        ),
    }.items()
}
OTHERS: dict[str, Read] = {
    "scan of 1h": scan("gold/candle_1h"),
    "scan of vwap": scan("gold/vwap"),
    "sql of vwap": sql("SELECT count(*) AS n, max(open_time) AS t FROM gold.vwap"),
    "scan of gaps": scan("silver/gap"),
    "sql of gaps": sql("SELECT sum(slot_count) AS s, min(start_time) AS t FROM silver.gap"),
    "sql of conflicts": sql("SELECT count(*) AS n, min(open_time) AS t FROM silver.conflict"),
    "sql of markets": sql("SELECT * FROM silver.market ORDER BY symbol"),
    "quarantine": quarantined,
    "anomalies": lambda lake, reader: (
        len(known_anomalies(lake.objects, lake.registry.table("silver/candle"), lake.ledger("silver/candle")))
        in (0, 2)
    ),
    "verification": lambda lake, reader: (
        (found := load_verification(lake.objects)) is None or (found.at, len(found.damage)) == (NOW, 1)
    ),
}
COMPUTED: dict[str, Read] = {
    "as of": lambda lake, reader: reader.candles(BTC, *FEBRUARY, as_of="2024-03-10T13:00"),
    "silver made again": refined,
    "gold made again": hourly,
    "gaps made again": lambda lake, reader: collected(lake, reader, "silver/gap"),
    "conflicts made again": lambda lake, reader: collected(lake, reader, "silver/conflict"),
}
READS = CHEAP | SILVER | BRONZE | OTHERS | COMPUTED
PLACES = {
    "bronze/candle_archive": ["scan candle_archive", "sql candle_archive"],
    "bronze/candle_api": ["scan candle_api", "sql candle_api"],
    "bronze/candle_witness": ["scan candle_witness", "sql candle_witness"],
    "silver/candle": ["candles", "two columns", "aggregate"],
    "silver/market": ["markets", "sql of markets"],
    "silver/conflict": ["conflicts", "sql of conflicts"],
    "silver/gap": ["scan of gaps", "sql of gaps"],
    "gold/candle_1h": ["1h", "scan of 1h"],
    "gold/vwap": ["scan of vwap", "sql of vwap"],
    "quarantine/silver/candle": ["quarantine"],
    "ledger/silver/candle.parquet": ["gaps", "two columns", "count"],
    "ledger/silver/conflict.parquet": ["conflicts", "sql of conflicts"],
    "ledger/silver/gap.parquet": ["scan of gaps", "sql of gaps"],
    "ledger/gold/vwap.parquet": ["scan of vwap", "sql of vwap"],
    "ledger/bronze/candle_archive.parquet": ["restatements", "sql candle_archive"],
    "ledger/silver/candle.anomalies.json": ["anomalies"],
    "ledger/verification.json": ["verification", "gaps"],
}
"""What reads an object, and so is asked of every damage to it."""
CACHES = tuple(place for place in PLACES if place.startswith("ledger/"))


def object_of(root: Path, place: str) -> Path:
    """A file: of a table the first market's, but of quarantine the one that there is."""
    return root / place if (root / place).is_file() else min((root / place).rglob("data.parquet"))


def damages(body: bytes, seed: str) -> Iterator[bytes]:
    """Bodies of the same size: bits flipped, half of them near the end; then a byte and 4 kB zeroed, two
    bytes exchanged, in the body and in the footer.
    """
    draw = random.Random(seed)
    for number in range(FLIPS):
        changed = bytearray(body)
        changed[
            draw.randrange(len(body)) if number % 2 else len(body) - 1 - draw.randrange(min(len(body), 4000))
        ] ^= 1 << draw.randrange(8)
        yield bytes(changed)
    for start in (len(body) // 3, max(0, len(body) - 2500)):
        for length in (1, 4096):
            yield (body[:start] + bytes(length) + body[start + length :])[: len(body)]
        yield body[:start] + body[start : start + 2][::-1] + body[start + 2 :]
        yield body[:start] + bytes([body[start] ^ 0xFF]) + body[start + 1 :]


def equal(one: object, other: object) -> bool:
    return (
        one.equals(other)
        if isinstance(one, pl.DataFrame) and isinstance(other, pl.DataFrame)
        else type(one) is type(other) and one == other
    )


def put_in_place(path: Path, body: bytes) -> None:
    """Other bytes in the same file: its tag stays as it was."""
    told = path.stat()
    with path.open("r+b") as opened:
        opened.write(body)
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert path.stat().st_size == len(body)


@pytest.fixture(scope="module")
def right(built: LakeServices) -> dict[str, object]:
    found = {name: read(built, Lake(built.objects.root)) for name, read in READS.items()}
    for name, rows in found.items():
        assert rows is True if name in ("anomalies", "verification") else isinstance(rows, pl.DataFrame), name
        assert not isinstance(rows, pl.DataFrame) or rows.height or name == "restatements", (
            f"{name}: of nothing, nothing can be lost"
        )
    return found


@pytest.mark.parametrize("place", PLACES)
def test_a_bit_that_changed_where_it_lies_is_never_a_value(
    built: LakeServices, right: dict[str, object], place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = object_of(Path(built.objects.root), place)
    sound = path.read_bytes()
    outcomes: Counter[str] = Counter()
    noticed, count = 0, 0
    try:
        for number, body in enumerate(damages(sound, place)):
            if body == sound:
                continue
            count += 1
            put_in_place(path, body)
            refused = 0
            for name in READS if number % EVERY == 1 else PLACES[place]:
                try:
                    found = READS[name](built, Lake(built.objects.root))
                except LakehouseError:
                    refused += 1
                    continue
                assert equal(found, right[name]), f"{name}, damage {number} of {place}"
                outcomes["right"] += 1
            outcomes["refused"] += refused
            noticed += refused > 0
            if path.read_bytes() != body:  # a cache was written anew; on with the object as it was
                path.write_bytes(sound)
    finally:
        path.write_bytes(sound)
    with capsys.disabled():
        print(
            f"\n{place}: {count} damages, {noticed} noticed; reads: {outcomes['right']} right, "
            f"{outcomes['refused']} refused"
        )
    assert noticed == (0 if place in CACHES else count), (
        "a cache is only a cache; everything else is refused by who reads all of it"
    )
    for name in PLACES[place]:
        assert equal(READS[name](built, Lake(built.objects.root)), right[name]), f"{name}, afterwards"
