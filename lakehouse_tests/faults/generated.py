"""Two or three faults at random places of four sources, built by the product without Dagster's runs, and read
as a reader does.

A case is a list of faults and the instants at which it is built; a seed draws one. `python -m
lakehouse_tests.faults.generated SEED …` runs some alone and prints what they are and what
`lakehouse_tests.faults.oracle` says of them.
"""

import random
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.opening import open_lake
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.markets import refresh_markets
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.verifying import ask_in_full, change_by, plan
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket
from lakehouse.storage.footers import ENTRIES
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Failed, settle
from lakehouse_tests.faults.lab import Waits
from lakehouse_tests.faults.oracle import Known, judge, look
from lakehouse_tests.faults.told import (
    CLOSE,
    CLOSE_TIME,
    COUNT,
    DAILY,
    EARLY,
    HIGH,
    HOURS,
    LISTED,
    LOW,
    MINUTES,
    MONTH,
    MONTHLY,
    OPEN,
    OPEN_TIME,
    OTHER,
    OTHER_EARLY,
    QUOTE,
    SOURCES,
    TAKER,
    TAKER_QUOTE,
    VOLUME,
    Book,
    Row,
    Stand,
    Told,
    traded,
)
from lakehouse_tests.making import at

OPEN_MONTH, HOUR_LATER, CLOSED, LATER = (
    at("2024-02-29T10:30:20"),
    at("2024-02-29T11:30:20"),
    at("2024-03-02T12:30:20"),
    at("2024-03-04T13:30:20"),
)
ALWAYS, AT_FIRST, LATELY = "always", "at first", "lately"
ARCHIVE, REST = (MONTHLY, DAILY), (MINUTES, HOURS)
TABLES = (
    "bronze/candle_witness",
    "bronze/candle_archive",
    "bronze/candle_api",
    "silver/candle",
    "silver/conflict",
)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        kind: A name in `KINDS`.
        where: The sources that it befalls, or a file's period, or an interval.
        at: The minute of the market's life from which on.
        count: How many minutes, or which answer.
        text: What is stated instead.
        during: `always`, `at first` (it is lifted before the last build) or `lately` (it appears before the
            last build).
    """

    kind: str
    where: tuple[str, ...] = ()
    at: int = 0
    count: int = 1
    text: str = ""
    during: str = ALWAYS


@dataclass(frozen=True)
class Case:
    """Faults, and what is done with them.

    Attributes:
        faults: The faults.
        is_open: The month is built while it is open, too, twice within an hour.
        is_repeated: It is built again within the hour.
        is_revisited: It is built once more two days later.
        is_verified: REST is asked for every row before that.
        has_neighbour: Another market, of which nothing is wrong, is built beside it.
        is_early: The market lives thirteen days of the month instead of three.
    """

    faults: tuple[Fault, ...]
    is_open: bool = False
    is_repeated: bool = True
    is_revisited: bool = True
    is_verified: bool = False
    has_neighbour: bool = False
    is_early: bool = False


# --- faults ---------------------------------------------------------------------------------------

Befall = Callable[[Told, Fault], None]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        befall: What it does.
        where: Where it may happen, one of these.
        counts: For how long.
        texts: With which text.
        is_true: It is something that happens to the market itself: every source tells of it, so it comes
            first.
        weight: How often it is drawn.
    """

    befall: Befall
    where: tuple[tuple[str, ...], ...]
    counts: tuple[int, ...] = (1,)
    texts: tuple[str, ...] = ("",)
    is_true: bool = False
    weight: int = 2


KINDS: dict[str, Kind] = {}
_ANY = ((MONTHLY,), (DAILY,), ARCHIVE, ARCHIVE, (MINUTES,), (HOURS,), REST, SOURCES)
_FINE = ((MONTHLY,), (DAILY,), ARCHIVE, ARCHIVE, (MINUTES,), (*ARCHIVE, MINUTES))
_FEW, _MANY = (1, 1, 3, 12), (1, 5, 60, 70, 1440, 2880)


def kind(
    name: str,
    where: tuple[tuple[str, ...], ...],
    counts: tuple[int, ...] = (1,),
    texts: tuple[str, ...] = ("",),
    is_true: bool = False,
    weight: int = 2,
) -> Callable[[Befall], Befall]:
    """Add a kind."""

    def add(befall: Befall) -> Befall:
        KINDS[name] = Kind(befall, where, counts, texts, is_true, weight)
        return befall

    return add


def _minutes(told: Told, fault: Fault) -> range:
    first = told.market.first_minute + fault.at
    return range(first, first + fault.count)


def _change(told: Told, fault: Fault, change: Callable[[Row], Row]) -> None:
    """Replace `count` rows that have a range, from `at` on."""
    for source in fault.where:
        book, left, minute = told.books[source], fault.count, told.market.first_minute + fault.at
        while left and minute < told.market.first_minute + fault.at + 2 * fault.count + 60:
            rows = book.get(minute, [])
            if rows and _cents(rows[0][HIGH]) - _cents(rows[0][LOW]) > 2:
                book[minute], left = [change(rows[0]), *rows[1:]], left - 1
            minute += 1


def _cents(text: str) -> int:
    return int(text.partition(".")[0] + text.partition(".")[2][:2])


def _price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}000000"


def _with(row: Row, **texts: str) -> Row:
    changed = {globals()[name]: text for name, text in texts.items()}
    return tuple(changed.get(number, text) for number, text in enumerate(row))


def _scaled(text: str, factor: float) -> str:
    return f"{float(text) * factor:.8f}"


@kind("halt", (SOURCES,), (1, 17, 38, 90), ("", "ends early"), is_true=True)
def _halt(told: Told, fault: Fault) -> None:
    minutes = _minutes(told, fault)
    last = minutes[0] - 1
    if fault.text and last in told.truth:
        (row,) = told.truth[last]
        told.truth[last] = [_with(row, CLOSE_TIME=str(int(row[CLOSE_TIME]) - 31_234))]
    for minute in minutes:
        told.truth.lose(minute)
    told.copy_truth()


@kind("lost", _ANY, _MANY, weight=5)
def _lost(told: Told, fault: Fault) -> None:
    for source in fault.where:
        for minute in _minutes(told, fault):
            told.books[source].lose(minute)


@kind("other close", _FINE, _FEW, weight=3)
def _other_close(told: Told, fault: Fault) -> None:
    def change(row: Row) -> Row:
        close, low, high = _cents(row[CLOSE]), _cents(row[LOW]), _cents(row[HIGH])
        return _with(row, CLOSE=_price(close - 1 if close > low + 1 else min(close + 1, high)))

    _change(told, fault, change)


@kind("other high", _ANY, _FEW)
def _other_high(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: _with(row, HIGH=_price(_cents(row[HIGH]) + 9_000)))


@kind("other volume", _ANY, _FEW, weight=3)
def _other_volume(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: _with(row, VOLUME=_scaled(row[VOLUME], 2), QUOTE=_scaled(row[QUOTE], 2)))


@kind("other count", _ANY, _FEW)
def _other_count(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: _with(row, COUNT=str(int(row[COUNT]) + 3)))


@kind("swapped volumes", _FINE, (1, 60, 1439))
def _swapped(told: Told, fault: Fault) -> None:
    _change(
        told,
        fault,
        lambda row: _with(
            row, VOLUME=row[QUOTE], QUOTE=row[VOLUME], TAKER=row[TAKER_QUOTE], TAKER_QUOTE=row[TAKER]
        ),
    )


@kind("no trades", _FINE, (1, 12, 60))
def _no_trades(told: Told, fault: Fault) -> None:
    zero = dict.fromkeys(("VOLUME", "QUOTE", "TAKER", "TAKER_QUOTE"), "0.00000000")
    _change(told, fault, lambda row: _with(row, COUNT="0", **zero))


@kind("all zero", _FINE, (1, 12))
def _all_zero(told: Told, fault: Fault) -> None:
    zero = dict.fromkeys(
        ("OPEN", "HIGH", "LOW", "CLOSE", "VOLUME", "QUOTE", "TAKER", "TAKER_QUOTE"), "0.00000000"
    )
    _change(told, fault, lambda row: _with(row, COUNT="0", **zero))


@kind("shifted", _FINE, (5, 60, 600))
def _shifted(told: Told, fault: Fault) -> None:
    """Each row has the values of the minute before."""
    for source in fault.where:
        book = told.books[source]
        before = {
            minute: book[minute - 1][0]
            for minute in _minutes(told, fault)
            if book.get(minute) and book.get(minute - 1)
        }
        for minute, row in before.items():
            own = book[minute][0]
            book[minute] = [(own[OPEN_TIME], *row[OPEN : VOLUME + 1], own[CLOSE_TIME], *row[QUOTE:])]


def _between(row: Row) -> Row:
    """A row half a minute later, with trades of its own."""
    return _with(
        row, OPEN_TIME=str(int(row[OPEN_TIME]) + 30_000), CLOSE_TIME=str(int(row[CLOSE_TIME]) + 30_000)
    )


@kind("row between", ((MONTHLY,), (DAILY,), ARCHIVE, (MINUTES,)), (1, 1, 4))
def _row_between(told: Told, fault: Fault) -> None:
    for source in fault.where:
        for minute in _minutes(told, fault):
            if rows := told.books[source].get(minute):
                told.books[source][minute] = [*rows, _between(rows[0])]


@kind("invented in a halt", ((MONTHLY,), (DAILY,), ARCHIVE, (MINUTES,)), (3, 70), ("", "flat"), is_true=True)
def _invented(told: Told, fault: Fault) -> None:
    """Nothing was traded, and a source has rows all the same."""
    rows = {minute: told.truth[minute] for minute in _minutes(told, fault) if minute in told.truth}
    _halt(told, replace(fault, text=""))
    zero = dict.fromkeys(("VOLUME", "QUOTE", "TAKER", "TAKER_QUOTE"), "0.00000000")
    for minute, (row,) in rows.items():
        price = row[OPEN]
        flat = _with(row, HIGH=price, LOW=price, CLOSE=price, COUNT="0", **zero)
        told.invented |= {(source, minute): flat if fault.text else row for source in fault.where}
    told.copy_truth()


@kind("twice equal", _FINE, (1, 5))
def _twice(told: Told, fault: Fault) -> None:
    for source in fault.where:
        for minute in _minutes(told, fault):
            if rows := told.books[source].get(minute):
                told.books[source][minute] = [*rows, rows[0]]


@kind("twice different", _FINE, (1, 5))
def _twice_different(told: Told, fault: Fault) -> None:
    for source in fault.where:
        for minute in _minutes(told, fault):
            if rows := told.books[source].get(minute):
                other = _with(
                    rows[0],
                    VOLUME=_scaled(rows[0][VOLUME], 3),
                    QUOTE=_scaled(rows[0][QUOTE], 3),
                    COUNT=str(int(rows[0][COUNT]) + 2),
                )
                told.books[source][minute] = [*rows, other]


@kind("no number", _FINE, (1, 2), ("NaN", "inf", "1e400"))
def _no_number(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: _with(row, **{"VOLUME" if fault.at % 2 else "HIGH": fault.text}))


@kind("ends early", _FINE, (1, 3))
def _ends_early(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: _with(row, CLOSE_TIME=str(int(row[CLOSE_TIME]) - 10_000)))


@kind("ends late", ((MONTHLY,), (DAILY,), ARCHIVE, ARCHIVE, (MINUTES,)), (1, 3))
def _ends_late(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: _with(row, CLOSE_TIME=str(int(row[CLOSE_TIME]) + 1)))


@kind("other market", ((MONTHLY,), (DAILY,), ARCHIVE, (MINUTES,), (HOURS,), REST), (100_000,), weight=3)
def _other_market(told: Told, fault: Fault) -> None:
    for source in fault.where:
        told.books[source] = Book()
        for minute, rows in traded(OTHER_EARLY).items():
            if minute >= told.market.first_minute:
                told.books[source][minute] = rows


@kind("hour withheld", ((HOURS,),), (1, 24))
def _hour_withheld(told: Told, fault: Fault) -> None:
    first = (told.market.first_minute + fault.at) // 60
    told.hours |= {hour: [] for hour in range(first, first + fault.count)}


@kind(
    "file",
    (("2024-02",), ("2024-02-27",), ("2024-02-28",), ("2024-02-29",), ("2024-02", "2024-02-28")),
    texts=("absent", "stale CHECKSUM", "damaged", "header only", "blank line"),
    weight=6,
)
def _file(told: Told, fault: Fault) -> None:
    told.files |= dict.fromkeys(fault.where, fault.text)


@kind("answer", (("1m",), ("1m",), ("1h",)), (1, 2), ("empty", "object", "first row"), weight=5)
def _answer(told: Told, fault: Fault) -> None:
    told.glitches |= {(interval, fault.count): fault.text for interval in fault.where}


@kind("REST", (REST,), texts=("down", "-1121", "-1122"), weight=4)
def _rest(told: Told, fault: Fault) -> None:
    told.rest = fault.text


@kind("behind", ((MINUTES,),), (40, 95))
def _behind(told: Told, fault: Fault) -> None:
    told.behind = fault.count


def told_at(case: Case, now: datetime, is_last: bool) -> Told:
    """What every source tells at an instant."""
    return befallen(EARLY if case.is_early else LISTED, now, *in_force(case, is_last))


def in_force(case: Case, is_last: bool) -> list[Fault]:
    """The faults of a case that befall its last build, or the ones before."""
    return [fault for fault in case.faults if fault.during == ALWAYS or (fault.during == LATELY) == is_last]


def befallen(market: SimulatedMarket, now: datetime, *faults: Fault) -> Told:
    """What every source tells of a market at an instant, with faults."""
    return befall(Told.of(market, now), KINDS, faults)


def befall(told: Told, kinds: Mapping[str, Kind], faults: Iterable[Fault]) -> Told:
    """What is told, with faults."""
    for fault in sorted(faults, key=lambda fault: not kinds[fault.kind].is_true):
        kinds[fault.kind].befall(told, fault)
    return told


def draw(seed: int, kinds: Mapping[str, Kind] = MappingProxyType(KINDS)) -> Case:
    """The case of a seed."""
    dice = random.Random(seed)
    names, weights = list(kinds), [each.weight for each in kinds.values()]
    is_early = dice.random() < 0.04
    faults = []
    for name in dice.choices(names, weights, k=dice.choice((2, 2, 3))):
        of = kinds[name]
        days = 13 if is_early else 3
        where, count, text = dice.choice(of.where), dice.choice(of.counts), dice.choice(of.texts)
        if is_early and name == "lost" and count > 1000:
            count *= 4
        first = 61 + dice.randrange(days * 1440 - 90)
        during = ALWAYS if of.is_true else dice.choices((ALWAYS, AT_FIRST, LATELY), (8, 1, 1))[0]
        faults.append(Fault(name, where, first, count, text, during))
    is_revisited = any(fault.during != ALWAYS for fault in faults) or dice.random() < 0.15
    is_repeated, is_verified = dice.random() < 0.25, is_revisited and dice.random() < 0.25
    return Case(
        tuple(faults),
        dice.random() < 0.15,
        is_repeated,
        is_revisited,
        is_verified,
        dice.random() < 0.05,
        is_early,
    )


# --- building -------------------------------------------------------------------------------------


@dataclass
class Bench:
    """A lake beside a stand, built as `lakehouse build` does, one run less per table.

    Attributes:
        stand: The exchange.
        root: The lake's folder.
        lake: The lake, as the newest process opened it.
        tables: What is built, upstream first.
        failed: Cells that failed in the newest build, with the error.
    """

    stand: Stand
    root: Path
    tables: tuple[str, ...] = TABLES
    lake: LakeServices = field(init=False)
    failed: dict[str, Exception] = field(default_factory=dict)

    def reopen(self) -> None:
        """As a new process: nothing is remembered but what is stored."""
        settings = Settings(
            root=str(self.root),
            start="2023-12",
            binance_archive_url=self.stand.url,
            binance_rest_url=self.stand.url,
            bybit_rest_url=self.stand.url,
        )
        self.lake = open_lake(settings, clock=lambda: self.stand.desk.now)

    def build(self, *markets: Market, is_first: bool = True) -> None:
        """Build February of some markets; what is known of these is not asked again where it is not the first
        time in a while.
        """
        self.reopen()
        self.failed = {}
        if is_first:
            refresh_markets(self.lake, markets)
        self._tables([Cell(MONTH, market) for market in markets])

    def verify(self, market: Market, table: str = "silver/candle") -> None:
        """As `lakehouse verify`."""
        self.reopen()
        lake, dataset = self.lake, self.lake.registry.dataset(table)
        assert dataset.api is not None
        chosen = plan(lake, dataset, [market], None, budget=100)
        for cell, answers in ask_in_full(lake, dataset, chosen.wanted):
            if not answers.failed:
                witness = lake.tables.get(dataset.witness, cell) if dataset.witness else None
                lake.tables.update(dataset.api, cell, change_by(answers, witness))
        refresh_markets(lake, [market])
        self._tables([Cell(MONTH, market)])

    def _tables(self, cells: list[Cell]) -> None:
        lake = self.lake
        for name in self.tables:
            table, has = lake.registry.table(name), Inventory(lake)
            recipe = recipes(lake.registry)[table]
            covered = recipe.covered(has, cells)
            for cell, outcome in recipe.make(has, recipe.told(has, covered).among(covered)):
                if isinstance(outcome, Failed):
                    self.failed[f"{name} {cell}"] = outcome.error
                    continue
                try:
                    settle(lake.tables, table, cell, outcome)
                except LakehouseError as error:
                    self.failed[f"{name} {cell}"] = error

    def stamps(self) -> Mapping[str, str]:
        """Version and facts of every cell: what asking again must not change."""
        ledgers = {name: self.lake.ledger(name) for name in self.tables}
        return {
            f"{name} {cell}": f"{record.version} {record.facts.digest()}"
            for name, stored in ledgers.items()
            for cell, record in stored.items()
        }


@contextmanager
def bench(stand: Stand, root: Path) -> Iterator[Bench]:
    """A bench whose client never waits, and whose ledgers keep their cache in memory: a third of a small
    build is reading it from disk.
    """
    cache = dict[str, pl.DataFrame]()

    def save(objects: LakeObjects, table: type[Table], entries: pl.DataFrame) -> None:
        cache[table.name] = entries

    def load(
        objects: LakeObjects, table: type[Table], folders: Collection[str] | None = None
    ) -> pl.DataFrame:
        return cache.get(table.name, ENTRIES.to_frame())

    ledger = "lakehouse.storage.ledger"
    with (
        Waits(stand.advance).in_force(),
        patch(f"{ledger}.save_cache", save),
        patch(f"{ledger}.load_cache", load),
    ):
        yield Bench(stand, root)


BTC, ETH = Market("binance", "spot", LISTED.symbol), Market("binance", "spot", OTHER.symbol)


@dataclass(frozen=True)
class Scene:
    """Which markets cases are about, and how their exchange tells of them.

    Attributes:
        market: The market that faults befall.
        neighbour: Another one.
        told_at: What is told of the first, by case, instant and whether it is the last build.
        beside: What is told of the other at an instant.
        may_fail: The table whose cells may fail, by an error of the product's own: nobody answers for them.
    """

    market: Market
    neighbour: Market
    told_at: Callable[[Case, datetime, bool], Told]
    beside: Callable[[datetime], Told]
    may_fail: str


SPOT = Scene(BTC, ETH, told_at, lambda now: Told.of(OTHER, now), "bronze/candle_archive")


def lies(case: Case, stand: Stand, root: Path, scene: Scene = SPOT) -> list[str]:
    """What a reader is told that is not so, at any time of a case; empty where the promise holds."""
    try:
        return list(_lies(case, stand, root, scene))
    except LakehouseError as error:
        return [f"refused: the whole command ended with {type(error).__name__}: {error}"]
    except Exception as error:  # whatever it is, the product must not raise it
        where = error.__traceback__
        while where and where.tb_next:
            where = where.tb_next
        place = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else "?"
        return [
            f"crash: {type(error).__name__} at {place}: {str(error).splitlines()[0] if str(error) else ''}"
        ]


def _lies(case: Case, stand: Stand, root: Path, scene: Scene) -> Iterator[str]:
    heard, beside = list[Told](), list[Told]()
    markets = [scene.market, scene.neighbour] if case.has_neighbour else [scene.market]
    with bench(stand, root) as it:

        def serve(now: datetime, is_last: bool) -> None:
            heard.append(scene.told_at(case, now, is_last))
            beside.append(replace(scene.beside(now), rest="down" if heard[-1].rest == "down" else ""))
            stand.open(heard[-1], *(beside[-1:] if case.has_neighbour else ()))

        def build(what: str, is_first: bool = True) -> Iterator[str]:
            it.build(*markets, is_first=is_first)
            yield from said(what)

        def said(what: str) -> Iterator[str]:
            # A file that cannot be trusted may fail its cell; no answer of REST may, and nothing may fail by
            # an error that is not the product's own.
            fatal = {
                name: error
                for name, error in it.failed.items()
                if not isinstance(error, LakehouseError) or not name.startswith(scene.may_fail)
            }
            yield from (
                f"{what}: crash: {name}: {type(error).__name__}: {str(error)[:200]}"
                for name, error in fatal.items()
            )
            yield from (
                f"{what}: {lie}"
                for lie in judge(look(it.lake, Cell(MONTH, scene.market)), Known(tuple(heard)))
            )
            if case.has_neighbour:
                yield from (
                    f"{what}: neighbour: {lie}"
                    for lie in judge(look(it.lake, Cell(MONTH, scene.neighbour)), Known(tuple(beside)))
                )

        if case.is_open:
            for now in (OPEN_MONTH, HOUR_LATER):
                serve(now, False)
                yield from build(f"open month at {now:%H:%M}", is_first=now == OPEN_MONTH)
        serve(CLOSED, False)
        yield from build("first build")
        if case.is_repeated:
            seen = look(it.lake, Cell(MONTH, scene.market))
            # hours are fetched again where minutes were revised after them
            is_due = seen is not None and not seen.is_fresh and bool(seen.witness_asked)
            before = it.stamps()
            stand.klines_asked()
            heard[-1].now += timedelta(minutes=10)
            it.build(*markets, is_first=False)
            asked, after = stand.klines_asked(), it.stamps()
            if not is_due and (
                changed := [
                    name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
                ]
            ):
                yield f"again: unstable: built again within the hour, {', '.join(sorted(changed))} changed"
                yield from said("again")
            # an error's code is an answer
            is_silent = seen is not None and seen.is_unanswered and not heard[-1].rest.lstrip("-").isdigit()
            if asked and not is_due and not is_silent:
                yield f"again: asked: within the hour REST was asked again: {asked[0]}"
        if not case.is_revisited:
            return
        serve(LATER, True)
        if case.is_verified and look(it.lake, Cell(MONTH, scene.market)):
            it.verify(scene.market)
            yield from said("verified")
        yield from build("last build")


def run(case: Case, stand: Stand, scene: Scene = SPOT) -> list[str]:
    """The lies of one case, in a lake of its own."""
    with tempfile.TemporaryDirectory(prefix="generated-") as folder:
        return lies(case, stand, Path(folder), scene)


def described(case: Case) -> str:
    """A case as code that makes it."""
    faults = ", ".join(_code(fault) for fault in case.faults)
    plain = Case(())
    flags = "".join(
        f", {each.name}={getattr(case, each.name)}"
        for each in fields(Case)[1:]
        if getattr(case, each.name) != getattr(plain, each.name)
    )
    return f"Case(({faults},){flags})"


def _code(fault: Fault) -> str:
    plain = Fault(fault.kind)
    given = ", ".join(
        f"{name}={getattr(fault, name)!r}"
        for name in ("where", "at", "count", "text", "during")
        if getattr(fault, name) != getattr(plain, name)
    )
    return f"Fault({fault.kind!r}{', ' + given if given else ''})"


def main() -> None:
    """Run the seeds that are named."""
    from lakehouse_tests.faults.told import stand

    with stand() as exchange:
        for seed in map(int, sys.argv[1:]):
            print(seed, described(draw(seed)))
            print("\n".join(f"    {lie}" for lie in run(draw(seed), exchange)) or "    nothing is wrong")


if __name__ == "__main__":
    main()
