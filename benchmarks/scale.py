"""400 markets by 80 months: what planning and reading one market cost in a lake of 290,000 objects.

    python -m benchmarks.scale [--markets 400] [--months 80] [--before WORKTREE] [--keep FOLDER] [--only NAME]

The lake is made in about a minute: one small cell of each table is written by the lake's own writer, and
copied with its footer renewed (cell, times, inputs, version, seal), so that nothing is due. The archive is a
simulated one in a process of its own. Each measurement is a process of its own too: wall time and CPU of what
it names without the import of the lake, or of a whole command; memory is the process's peak. With `--before`,
every measurement is made of the code in another worktree as well, with the ledger caches that code wrote.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse.datasets.candle import Candle, CandleApi, CandleArchive
from lakehouse.datasets.market import MarketFacts, MarketTable, market_frame
from lakehouse.model.cell import Cell
from lakehouse.model.feature import Feature
from lakehouse.model.market import Market
from lakehouse.model.result import NONE, Asked, CellFacts, CellResult
from lakehouse.model.table import UTC_TIME, Table
from lakehouse.model.timerange import shift_month
from lakehouse.pipeline.by_month import told_facts, version_of_facts
from lakehouse.registry import REGISTRY
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.simulator.archive import Archive
from lakehouse.simulator.faults import FaultPlan
from lakehouse.simulator.files import RealFiles
from lakehouse.simulator.keys import KlineFile, KlineFolder
from lakehouse.sources.files.listing import version_state
from lakehouse.storage.layout import cell_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.parquet import WRITER, encode
from lakehouse.storage.seal import HOLE, seal
from lakehouse.storage.tables import TableStore

NOW = datetime(2024, 10, 1, 8, 20, tzinfo=UTC)  # September's files are out, and October has begun
LATER = datetime(2024, 11, 1, 8, 20, tzinfo=UTC)
OPEN = f"{NOW:%Y-%m}"
_HOUR = NOW.replace(minute=0)
_PAD = 1800  # bytes of a footer's facts: those of every cell fit, so that all cells of a table are alike
_ROWS = 3


# --- the lake -------------------------------------------------------------------------------------


def symbols(count: int) -> list[str]:
    """Names of so many markets."""
    return [f"C{number:03}USDT" for number in range(count)]


def simulated(count: int, months: int) -> tuple[SimulatedMarket, ...]:
    """The markets as the exchange lists them, from the first of the months on."""
    listed = Cell(shift_month(OPEN, 1 - months)).window.start
    return tuple(
        SimulatedMarket("spot", symbol, symbol[:4], "USDT", Decimal(100), 40, 2, 3, listed)
        for symbol in symbols(count)
    )


class Template:
    """A cell of a table whose footer is replaced by that of another cell.

    Args:
        table: The table.
    """

    def __init__(self, table: type[Table]) -> None:
        self.table = table
        start = Cell(OPEN).window.start
        times = [start + timedelta(hours=number) for number in range(_ROWS)]
        values: dict[str, Any] = {}
        for name, column in table.columns.items():
            if isinstance(column.dtype, pl.Datetime):
                values[name] = pl.Series(times, dtype=UTC_TIME)
            elif column.dtype == pl.String:
                values[name] = pl.Series(["archive"] * _ROWS)
            elif column.dtype == pl.Boolean:
                values[name] = pl.Series([False] * _ROWS)
            else:
                values[name] = pl.Series([100.0] * _ROWS).cast(column.dtype)
        footer = {"~": "~" * _PAD}
        rows = pl.DataFrame(values).select(table.names()).cast(dict(table.polars_schema()))
        body, version = encode(table, rows, footer)
        text = json.dumps(footer | {"version": version, "writer": WRITER}, sort_keys=True).encode()
        self.length = len(text)
        sealed = body.rindex(b"\x18\x10") + 2
        body = body[:sealed] + HOLE.encode() + body[sealed + len(HOLE) :]
        at = body.index(text)
        self.head, self.tail = body[:at], body[at + len(text) :]

    def body(self, cell: Cell, inputs: dict[str, str], facts: CellFacts) -> bytes:
        """The object of a cell."""
        window = cell.window
        last = min(window.end, _HOUR) - timedelta(minutes=1)
        footer = {
            "table": self.table.name,
            "cell": str(cell),
            "rows": _ROWS,
            "first_time": str(window.start),
            "last_time": str(last),
            "inputs": inputs,
            "code_version": self.table.code_version,
            "reject_count": 0,
            "facts": facts.to_json(),
            "version": version(self.table, cell),
            "writer": WRITER,
        }
        text = json.dumps(footer, sort_keys=True).encode()
        assert len(text) <= self.length, (self.table.name, len(text))
        return seal(self.head + text.ljust(self.length) + self.tail)


def version(table: type[Table], cell: Cell) -> str:
    """A version of a cell's own, though all have equal rows."""
    return hashlib.sha256(f"{table.name} {cell}".encode()).hexdigest()[:32]


def tables_of(spread: str) -> list[type[Table]]:
    """The tables that spot markets have."""
    return [table for table in REGISTRY.tables if table.spread == spread and "spot" in table.market_types]


def is_stored(table: type[Table], date: str, months: int) -> bool:
    """Whether a table has a cell of a month: REST gave the open month alone, the archive all others."""
    if not shift_month(OPEN, 1 - months) <= date <= OPEN:
        return False
    if table.zone() == "bronze":
        return (date == OPEN) == (table is CandleApi)
    return True


def facts_of(table: type[Table], cell: Cell) -> CellFacts:
    """What a cell says of itself when all is well."""
    window = cell.window
    until = min(window.end, _HOUR)
    asked = Asked(window.start, until, NOW, "rows", after=until)
    match table.zone():
        case "bronze" if table is CandleArchive:
            return CellFacts(asked_until=until, restatement_count=0)
        case "bronze":
            return CellFacts(asked_until=until, asked=(asked,), answered_at=(NOW,), restatement_count=0)
        case "silver":
            return CellFacts(asked_until=until, evidence="totals" if cell.date != OPEN else "unconfirmed")
    return CellFacts()


def market_facts(market: SimulatedMarket) -> MarketFacts:
    """What the exchange says of a market."""
    own = Market("binance", market.market_type, market.symbol)
    return MarketFacts(own, market.base, market.quote, None, None, market.listed, None, "exchange_info")


def write_market(root: str, months: int, market: SimulatedMarket) -> dict[str, str]:
    """Write all cells of a market.

    Returns:
        The digests of its silver cells' facts, by cell: what tables by month are made from.
    """
    known = market_facts(market)
    archive = Archive((market,), lambda: NOW, RealFiles(None), FaultPlan(()))
    folder = KlineFolder(market, "monthly", "1m")
    digests = {}
    for table in tables_of("market"):
        template = _template(table)
        for number in range(months):
            cell = Cell(shift_month(OPEN, -number), known.market)
            if not is_stored(table, cell.date, months):
                continue
            inputs = {}
            for each in table.inputs:
                for of in each.cells(cell):
                    is_there = is_stored(each.table, of.date, months)
                    inputs[f"{each.name}@{of.date}"] = version(each.table, of) if is_there else NONE
            if table is CandleArchive:
                key = KlineFile(folder, cell.date).key
                file, checksum = archive.find(key), archive.find(f"{key}.CHECKSUM")
                assert file, key
                assert checksum, key
                inputs[cell.date] = version_state(file.etag, file.size, checksum.etag)
            if table is Candle:
                inputs["silver/market"] = known.version_for(cell)
                digests[str(cell)] = facts_of(table, cell).digest()
            path = Path(root) / cell_path(table, cell)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(template.body(cell, inputs, facts_of(table, cell)))
    return digests


_FEW = 16  # markets that one process writes sooner than others have started
_TEMPLATES: dict[str, Template] = {}


def _template(table: type[Table]) -> Template:
    if table.name not in _TEMPLATES:
        _TEMPLATES[table.name] = Template(table)
    return _TEMPLATES[table.name]


def make_lake(root: str, markets: Iterable[SimulatedMarket], months: int) -> None:
    """Write a lake in which nothing is due."""
    listed = list(markets)
    write = partial(write_market, root, months)
    if len(listed) <= _FEW:
        digests = list(map(write, listed))
    else:  # spawned: a fork of a process in which Polars has threads may wait for one of them for ever
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
            digests = list(pool.map(write, listed, chunksize=8))
    store = TableStore(LakeObjects(root))
    store.put(MarketTable, None, CellResult(market_frame([market_facts(market) for market in listed]), {}))
    for table in tables_of("all"):
        for number in range(months):
            date = shift_month(OPEN, -number)
            inputs = {
                f"{each.name}@{cell}": digest
                if table.reads_footers
                else version(each.table, Cell(date, Market.parse(cell.partition("|")[2])))
                for each in table.inputs
                if "spot" in each.table.market_types
                for of_market in digests
                for cell, digest in of_market.items()
                if cell.startswith(date)
            }
            if issubclass(table, Feature) and table.facts:
                known = [market_facts(market) for market in listed]
                keys = [facts.market.key for facts in known]
                inputs[MarketTable.name] = version_of_facts(told_facts(table, known), keys)
            store.put(table, Cell(date), CellResult(table.empty(), inputs))


# --- measurements ---------------------------------------------------------------------------------

_PREAMBLE = """
import json, sys, time
from datetime import datetime
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.ops.attempts import Attempts
from lakehouse.pipeline import refresh
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
import lakehouse.cli.planning as planning, lakehouse.cli.report as report, lakehouse.ops.quality as quality
lists, listed, original = 0, 0, LakeObjects.list
def counted(self, prefix):
    global lists, listed
    lists += 1
    for found in original(self, prefix):
        listed += 1
        yield found
LakeObjects.list = counted
lake = open_lake(Settings())
keys = json.loads(sys.argv[1])
universe = [Market.parse(key) for key in keys]
reader, one, months = Lake(lake.objects.root), keys[len(keys) // 2], json.loads(sys.argv[2])
now = datetime.fromisoformat(json.loads(sys.argv[3]))
lake.clock = lambda: now
def due(markets, span):
    plan = planning.Plan(lake, markets, TimeRange.parse(*span))
    for table in REGISTRY.upstream(REGISTRY.named("gold")):
        if table.name != "silver/market":
            if hasattr(planning, "meant"):
                planning.meant(plan.has, table, plan.cells[0])
            else:
                planning.due_cells(lake, table, plan.cells[0])
owed = ()
started, used = time.perf_counter(), time.process_time()
{code}
seconds, cpu = time.perf_counter() - started, time.process_time() - used
assert json.loads(sys.argv[4]) or not owed, owed
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak / 1024, "lists": lists, "listed": listed}))
"""
_LEDGERS = "for table in REGISTRY.tables:\n    if table.name != 'silver/market': ledger(lake.objects, table)"
_SPAN = "[months[0] + '-01', months[1] + '-01']"
CODES = {
    "ledgers, cold": _LEDGERS,
    "ledgers, warm": _LEDGERS,
    "status": "owed = [row['table'] for row in report.status_rows(lake) if row['due']]",
    "tick failed_cells": "owed = refresh.failed_cells(lake, universe, {}, Attempts()).wanted",
    "tick candles_closed": "owed = refresh.candles_closed(lake, universe, {}, Attempts()).wanted",
    "tick archive_published": (
        "round = refresh.Round(full_at=now)\n"
        "owed = refresh.archive_published(lake, universe, {}, Attempts(), round).wanted"
    ),
    "gaps of one": "reader.gaps(one)",
    "scan of one, a month": "assert reader.scan('silver/candle', one, months[0], months[1]).collect().width",
    "dataset_id of one": "reader.dataset_id('gold/vwap', one)",
    "quality of one": "quality.lake_quality(reader, REGISTRY.table('silver/candle'), [Market.parse(one)], now)",
    "candles of one, a month": "reader.candles(one, months[0], months[1])",
    "sql, symbol and month": (
        "symbol = one.split(':')[1]\n"
        "sql = f\"SELECT count(*) FROM silver.candle WHERE symbol = '{symbol}' AND month = '{months[0]}'\"\n"
        "assert reader.sql(sql).item() == 3"
    ),
    "sql, count(*)": "assert reader.sql('SELECT count(*) FROM silver.candle').item()",
    "plan of one": f"due([Market.parse(one)], {_SPAN})",
    "plan of all": f"due(universe, {_SPAN})",
    "plan a new month of all": "due(universe, ['2024-10-01', '2024-11-01'])",
}
COMMANDS = {
    "lakehouse status": ["status", "--json"],
    "lakehouse quality of one": ["quality", "--markets", "ONE", "--json"],
    "lakehouse quality": ["quality"],
    "lakehouse quality --html": ["quality", "--html", "PAGE"],
    "lakehouse build gold of one": [
        "build",
        "gold",
        "--markets",
        "ONE",
        "--from",
        "FIRST",
        "--to",
        "LAST",
        "--json",
    ],
    "lakehouse build gold of all": [
        "build",
        "gold",
        "--markets",
        "ALL",
        "--from",
        "FIRST",
        "--to",
        "LAST",
        "--json",
    ],
}
SIMULATED: list[float] = []
"""CPU seconds of the simulated exchanges, each of which ran beside one measurement."""
LATER_ONES = ("plan a new month of all",)
_HOME = """
import sys, json
from lakehouse.cli.instance import open_instance
from lakehouse.settings import Settings
with open_instance(Settings()) as instance:
    instance.add_dynamic_partitions("market", json.loads(sys.argv[1]))
"""


def run(command: list[str], environment: dict[str, str], may_fail: bool = False) -> str:
    """What a process says; nothing where it fails and may. It runs in the folder of its code, for Python
    looks there before anywhere else.
    """
    done = subprocess.run(
        command, check=False, env=environment, cwd=environment["PYTHONPATH"], capture_output=True, text=True
    )
    if done.returncode and may_fail:
        print(done.stderr[-300:], file=sys.stderr)
        return "null"
    if done.returncode:
        raise SystemExit(f"{command[:2]} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _serve(markets: tuple[SimulatedMarket, ...], now: datetime, told: Any) -> None:
    with Simulator(markets=markets, now=now) as simulator:
        told.send(simulator.url)
        told.recv()
        told.send(time.process_time())


@contextmanager
def exchange(markets: tuple[SimulatedMarket, ...], now: datetime) -> Iterator[str]:
    """A simulated exchange whose clock stands still, in a process of its own; its address.

    Spawned: a fork of a process in which Polars has threads may wait for one of them for ever.
    """
    context = get_context("spawn")
    own, its = context.Pipe()
    process = context.Process(target=_serve, args=(markets, now, its), daemon=True)
    process.start()
    try:
        yield own.recv()
        own.send(None)
        SIMULATED.append(own.recv())
    finally:
        process.terminate()
        process.join()


def measure(
    tree: Path,
    lake: Path | str,
    home: Path,
    names: Iterable[str],
    count: int,
    months: int,
    is_older: bool = False,
) -> dict[str, dict[str, float]]:
    """Make every measurement with the code of a worktree; of an older one, those that can be made. To that,
    `silver/gap` is due, for it was another version's: no build is asked of it, which would make it anew.
    """
    keys = [f"binance-spot:{symbol}" for symbol in symbols(count)]
    found: dict[str, dict[str, float]] = {}
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "PYTHONWARNINGS": "ignore",
        "LAKEHOUSE_ROOT": str(lake),
        "DAGSTER_HOME": str(home),
        "LAKEHOUSE_CLOCK": "exchange",
        "LAKEHOUSE_MARKETS": "",
    }
    words = {
        "ONE": keys[len(keys) // 2],
        "ALL": ",".join(keys),
        "FIRST": f"{shift_month(OPEN, 1 - months)}-01",
        "LAST": f"{shift_month(OPEN, 1)}-01",
        "PAGE": str(home / "quality.html"),
    }

    def at(url: str) -> dict[str, str]:
        return environment | {"LAKEHOUSE_BINANCE_ARCHIVE_URL": url, "LAKEHOUSE_BINANCE_REST_URL": url}

    run([sys.executable, "-c", _HOME, json.dumps(keys)], at("http://127.0.0.1"))
    markets = simulated(count, months)
    for name in names:
        if is_older and name.startswith("lakehouse build"):
            continue
        if name == "ledgers, cold":
            objects = LakeObjects(lake)
            for cached in list(objects.list("ledger")):
                objects.delete(cached.path)
        now = LATER if name in LATER_ONES else NOW
        if name in CODES:
            span = [OPEN, shift_month(OPEN, 1)]
            if name.startswith("plan of"):
                span[0] = shift_month(OPEN, 1 - months)
            code = _PREAMBLE.replace("{code}", CODES[name])
            command = ["-c", code, *map(json.dumps, (keys, span, str(now), is_older))]
        else:
            command = ["-c", _WATCHED, *(words.get(word, word) for word in COMMANDS[name])]
        # one for each: of a clock that stands still, the budget of requests is never renewed
        with exchange(markets, now) as url:
            said = json.loads(run([sys.executable, *command], at(url), is_older).strip().splitlines()[-1])
        if said is None:
            continue
        found[name] = said | {"simulator": SIMULATED[-1]}
        print(f"  {tree.name} {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


_WATCHED = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen([sys.executable, "-m", "lakehouse", *sys.argv[1:]], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
assert not status, status
cpu = used.ru_utime + used.ru_stime
print(json.dumps({"seconds": time.perf_counter() - started, "cpu": cpu, "peak": used.ru_maxrss / 1024}))
"""


def _folder(text: str) -> Path:
    return Path(text).absolute()


def main() -> None:
    """Make the lake, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--markets", type=int, default=400)
    parser.add_argument("--months", type=int, default=80)
    parser.add_argument("--before", type=_folder, help="a worktree of an older commit")
    parser.add_argument("--keep", type=_folder, help="where the lake is made, and found again")
    parser.add_argument("--only", nargs="+", default=[*CODES, *COMMANDS], help="names of measurements")
    arguments = parser.parse_args()
    markets = simulated(arguments.markets, arguments.months)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        lake = folder / "lake"
        if not lake.exists():
            started = time.perf_counter()
            make_lake(str(lake), markets, arguments.months)
            print(f"The lake was made in {time.perf_counter() - started:.0f} s.", flush=True)
        trees = [tree for tree in (arguments.before, Path(__file__).parents[1]) if tree]
        results = []
        for tree in trees:
            kept = folder / f"ledger-{tree.name}"
            shutil.rmtree(lake / "ledger", ignore_errors=True)
            if kept.exists():
                shutil.copytree(kept, lake / "ledger")
            home = folder / f"home-{tree.name}"
            size = arguments.markets, arguments.months
            is_older = tree == arguments.before
            results.append(measure(tree, lake, home, arguments.only, *size, is_older))
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(lake / "ledger", kept)
    print("| | " + " | ".join(tree.name for tree in trees) + " |\n|---|" + "---|" * len(trees))
    for name in arguments.only:
        print(f"| {name} | " + " | ".join(_said(result.get(name)) for result in results) + " |")


def _said(found: dict[str, float] | None) -> str:
    if found is None:
        return "not measured"
    lists = f", {found['lists']:.0f} lists of {found['listed']:,.0f}" if "lists" in found else ""
    times = f"{found['seconds']:.2f} s, {found['cpu']:.2f} s of CPU"
    beside = f", the simulator {found['simulator']:.2f} s" if found["simulator"] > 1 else ""
    return f"{times}{beside}, {found['peak']:.0f} MB{lists}"


if __name__ == "__main__":
    main()
