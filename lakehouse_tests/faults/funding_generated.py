"""One to three faults of funding at random places of both sources, built by the product and judged as a
reader would: what `generated`, `told` and `oracle` are to candles, for rows that space themselves.

`python -m lakehouse_tests.faults.funding_generated SEED …` runs some alone.
"""

import random
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.market import Market
from lakehouse.model.result import Asked, GapRun, Problem
from lakehouse.ops.quality import quality_report
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.simulator import SimulatedMarket
from lakehouse.simulator.exchange_info import exchange_info
from lakehouse.simulator.faults import FaultPlan
from lakehouse.simulator.funding import HEADER, folder_of, settlements
from lakehouse.simulator.keys import KlineFolder
from lakehouse.simulator.rest import Rest, refusal
from lakehouse.simulator.server import ExchangeServer
from lakehouse.simulator.zips import damaged_zip
from lakehouse_tests.faults.generated import Bench, bench
from lakehouse_tests.faults.told import Shelf, Stand, _sha256, _zip
from lakehouse_tests.making import HEADER as CANDLES
from lakehouse_tests.making import at

FILE, REST = "file", "REST"
BOTH = (FILE, REST)
PREVIOUS, MONTH = "2024-01", "2024-02"
EPOCH, START, END = at("1970-01-01"), at("2024-02-01"), at("2024-03-01")
OPEN_MONTH, CLOSED, LATER = at("2024-02-20T10:30:20"), at("2024-03-02T12:30:20"), at("2024-03-04T13:30:20")
UNTIL_ENDED = timedelta(days=45)  # until a market without files is taken to have ended
ALWAYS, AT_FIRST, LATELY = "always", "at first", "lately"
PERP = Market("binance", "linear", "COINUSDT")
LISTED = SimulatedMarket(
    "linear", "COINUSDT", "COIN", "USDT", Decimal(100), 100, listed=at("2024-01-31T20:30")
)
OTHER = replace(LISTED, symbol="ELSEUSDT", base="ELSE")
CADENCES: dict[str, tuple[tuple[datetime, int], ...]] = {
    "8": (),
    "8 4": ((at("2024-02-05"), 4),),
    "8 4 1 8": ((at("2024-02-05"), 4), (at("2024-02-06T04:00"), 1), (at("2024-02-06T16:00"), 8)),
    "4 2": ((at("2024-01-01"), 4), (at("2024-02-12T08:00"), 2)),
    "1 8 at the end": ((at("2024-01-01"), 1), (at("2024-02-29T16:00"), 8)),
    "8 1 at the start": ((at("2024-02-01T08:00"), 1), (at("2024-02-03"), 8)),
    "8 1 at the end": ((at("2024-02-29T16:00"), 1),),
}
ENDED = at("2024-02-15T06:00")
HOUR = timedelta(hours=1)
TABLES = (
    *("bronze/funding_rate_archive", "bronze/funding_rate_api", "silver/funding_rate"),
    *("silver/funding_rate_conflict", "gold/funding_carry"),
)


class Row(NamedTuple):
    """One settlement as a source states it."""

    stamp: int
    hours: int
    rate: str
    price: str

    @property
    def time(self) -> datetime:
        """The minute that it is of."""
        return EPOCH + timedelta(minutes=(self.stamp + 30_000) // 60_000)


@cache
def settled(market: SimulatedMarket) -> tuple[Row, ...]:
    """What the exchange settled from January to March, in order."""
    return tuple(
        Row(row.stamp, row.hours, row.text, f"{row.price:.8f}")
        for month in (PREVIOUS, MONTH, "2024-03")
        for row in settlements(market, month)
    )


@dataclass
class Told:
    """What an exchange tells of a market at a time.

    Attributes:
        market: The market.
        now: The exchange's clock.
        books: The rows of each source, in its order.
        file: What is wrong with the file of the month.
        rest: What is wrong with REST: `down`, or an error's code.
        glitches: What is wrong with one answer, by its number.
    """

    market: SimulatedMarket
    now: datetime
    books: dict[str, list[Row]]
    file: str = ""
    rest: str = ""
    glitches: dict[int, str] = field(default_factory=dict)

    @property
    def has_file(self) -> bool:
        """Whether the month's file can be read."""
        is_read = all(_is_finite(row.rate) for row in self.books[FILE] if _in_file(row))
        return is_read and self.now >= END + timedelta(hours=9) and self.file in ("", "blank line")

    @cached_property
    def states(self) -> dict[str, dict[datetime, list[Row]]]:
        """What each source states of the month, by minute; asked for once all is told."""
        found: dict[str, dict[datetime, list[Row]]] = {source: {} for source in BOTH}
        for source, book in self.books.items():
            for row in book:
                if START <= row.time < END and (source == REST or _in_file(row)):
                    found[source].setdefault(row.time, []).append(row)
        return found


def _in_file(row: Row) -> bool:
    return START <= EPOCH + timedelta(milliseconds=row.stamp) < END


# --- faults ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        kind: A name in `KINDS`.
        where: The sources that it befalls.
        at: The settlement of the month from which on, counted from its first.
        count: How many settlements, or which answer.
        text: What is stated instead.
        during: As of candles' faults.
    """

    kind: str
    where: tuple[str, ...] = BOTH
    at: int = 0
    count: int = 1
    text: str = ""
    during: str = ALWAYS


@dataclass(frozen=True)
class Case:
    """Faults, the market they befall, and what is done with them.

    Attributes:
        faults: The faults.
        cadence: A name in `CADENCES`.
        has_ended: The market is delisted in the middle of the month.
        is_open: The month is built while it is open, too.
        is_verified: REST is asked for every row before the last build.
    """

    faults: tuple[Fault, ...]
    cadence: str = "8"
    has_ended: bool = False
    is_open: bool = False
    is_verified: bool = False

    @property
    def market(self) -> SimulatedMarket:
        """The market."""
        ended = ENDED if self.has_ended else None
        return replace(LISTED, funding=CADENCES[self.cadence], delisted=ended)


Befall = Callable[[Told, Fault], None]
KINDS: dict[str, tuple[Befall, tuple[tuple[str, ...], ...], tuple[int, ...], tuple[str, ...], int]] = {}
_EACH = ((FILE,), (FILE,), (REST,), BOTH)


def kind(
    name: str,
    where: tuple[tuple[str, ...], ...] = _EACH,
    counts: tuple[int, ...] = (1,),
    texts: tuple[str, ...] = ("",),
    weight: int = 2,
) -> Callable[[Befall], Befall]:
    """Add a kind: where it may happen, for how long, with which text, and how often it is drawn."""

    def add(befall: Befall) -> Befall:
        KINDS[name] = befall, where, counts, texts, weight
        return befall

    return add


def _change(told: Told, fault: Fault, change: Callable[[Row], list[Row]]) -> None:
    """Replace `count` rows of the month, from `at` on."""
    for source in fault.where:
        book = told.books[source]
        inside = [n for n, row in enumerate(book) if START <= row.time < END]
        meant = set(inside[fault.at % len(inside) :][: fault.count]) if inside else set()
        told.books[source] = [
            new for n, row in enumerate(book) for new in (change(row) if n in meant else [row])
        ]


def _rate(row: Row, plus: str) -> Row:
    return row._replace(rate=f"{Decimal(row.rate) + Decimal(plus):.8f}")


@kind("lost", counts=(1, 1, 2, 3, 10, 30), weight=5)
def _lost(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [])


@kind("lost at a change", (BOTH, (FILE,)))
def _lost_at_change(told: Told, fault: Fault) -> None:
    changes = [since for since, _ in told.market.funding]
    for source in fault.where:
        told.books[source] = [row for row in told.books[source] if row.time not in changes]


@kind("other rate", counts=(1, 1, 3), weight=4)
def _other_rate(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [_rate(row, "0.00000777")])


@kind("twice equal", counts=(1, 3))
def _twice(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [row, row])


@kind("twice different", counts=(1, 2), weight=3)
def _twice_different(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [row, _rate(row, "0.00000555")])


@kind("no number", texts=("NaN", "", "1e400"))
def _no_number(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [row._replace(rate=fault.text)])


@kind("beyond all", texts=("-1.5",))
def _beyond(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [row._replace(rate=fault.text)])


@kind("other interval", ((FILE,),), (1, 2), ("1", "4", "8"))
def _other_interval(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [row._replace(hours=int(fault.text))])


@kind("row between", ((FILE,), (REST,)))
def _row_between(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [row, _rate(row, "0.00000333")._replace(stamp=row.stamp + 3_600_000)])


def _due(row: Row) -> int:
    return (row.stamp + 30_000) // 60_000 * 60_000


@kind("early stamp", (BOTH, BOTH, (FILE,)), (1, 100))
def _early(told: Told, fault: Fault) -> None:
    """Stamped some milliseconds before it was due, the first of a month in the file of the month before."""
    for_all = replace(fault, at=0) if fault.count > 1 else fault
    _change(told, for_all, lambda row: [row._replace(stamp=_due(row) - 3)])


@kind("late stamp", (BOTH,), (1, 3))
def _late(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [row._replace(stamp=_due(row) + 29_000)])


@kind("out of order", ((FILE,), BOTH))
def _out_of_order(told: Told, fault: Fault) -> None:
    for source in fault.where:
        told.books[source] = [*told.books[source][1::2], *told.books[source][::2]]


@kind("other market", ((FILE,), (REST,)))
def _other_market(told: Told, fault: Fault) -> None:
    elsewhere = settled(replace(OTHER, funding=told.market.funding, delisted=told.market.delisted))
    told.books |= {source: list(elsewhere) for source in fault.where}


@kind("no price", ((REST,),), (1, 100))
def _no_price(told: Told, fault: Fault) -> None:
    _change(told, fault, lambda row: [row._replace(price="")])


@kind(
    "file", ((FILE,),), texts=("absent", "stale CHECKSUM", "damaged", "header only", "blank line"), weight=4
)
def _file(told: Told, fault: Fault) -> None:
    told.file = fault.text


@kind("answer", ((REST,),), (1, 2), ("empty", "object", "first row"))
def _answer(told: Told, fault: Fault) -> None:
    told.glitches[fault.count] = fault.text


@kind("REST", ((REST,),), texts=("down", "-1121", "-1122"), weight=3)
def _rest(told: Told, fault: Fault) -> None:
    told.rest = fault.text


def told_at(case: Case, now: datetime, is_last: bool) -> Told:
    """What both sources tell at an instant."""
    told = Told(case.market, now, {source: list(settled(case.market)) for source in BOTH})
    for fault in case.faults:
        if fault.during == ALWAYS or (fault.during == LATELY) == is_last:
            KINDS[fault.kind][0](told, fault)
    return told


def draw(seed: int) -> Case:
    """The case of a seed."""
    dice = random.Random(f"funding {seed}")
    faults = []
    for name in dice.choices(list(KINDS), [of[-1] for of in KINDS.values()], k=dice.choice((1, 2, 2, 3))):
        _, where, counts, texts, _ = KINDS[name]
        during = dice.choices((ALWAYS, AT_FIRST, LATELY), (8, 1, 1))[0]
        place, count = dice.randrange(80), dice.choice(counts)
        faults.append(Fault(name, dice.choice(where), place, count, dice.choice(texts), during))
    cadence, has_ended = dice.choice(list(CADENCES)), dice.random() < 0.15
    is_open = not has_ended and dice.random() < 0.2
    return Case(tuple(faults), cadence, has_ended, is_open, dice.random() < 0.4)


# --- serving --------------------------------------------------------------------------------------


def files_of(told: Told) -> dict[str, bytes]:
    """The archive's objects: the file of funding rates, and candles that tell both ends of the market's
    life.
    """
    bodies = dict[str, tuple[Any, bytes]]()
    for month, minute in ((PREVIOUS, told.market.listed), (MONTH, told.market.delisted)):
        if minute is not None:
            opens = int((minute - timedelta(minutes=month == MONTH)).timestamp()) * 1000
            line = f"{opens},1,1,1,1,1,{opens + 59_999},1,1,1,1,0\n"
            file = KlineFolder(told.market, "monthly", "1m").file(month)
            bodies[file.key] = file, f"{CANDLES}\n{line}".encode()
    if told.now >= END + timedelta(hours=9) and told.file != "absent":
        rows = [row for row in told.books[FILE] if _in_file(row)]
        lines = [f"{row.stamp},{row.hours},{row.rate}" for row in rows if told.file != "header only"]
        file = folder_of(told.market).file(MONTH)
        bodies[file.key] = (
            file,
            "".join(f"{line}\n" for line in (HEADER, *lines)).encode() + b"\n" * (told.file == "blank line"),
        )
    found: dict[str, bytes] = {}
    for key, (file, csv) in bodies.items():
        is_wrong = told.file if "fundingRate" in key else ""
        body = _zip(file.csv_name, csv)
        body = damaged_zip(body) if is_wrong == "damaged" else body
        digest = _sha256(b"an earlier version" if is_wrong == "stale CHECKSUM" else body)
        found |= {key: body, f"{key}.CHECKSUM": file.checksum_text(digest)}
    return found


class FundingDesk:
    """A REST API of what is told."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.asked: list[str] = []
        self._answers = 0

    refusals = Rest.refusals

    def owns(self, path: str) -> bool:
        """Every one."""
        return True

    def open(self, told: list[Told]) -> None:
        """Answer with this from now on."""
        self.told, self._answers = told, 0

    @property
    def now(self) -> datetime:
        """The exchange's clock."""
        return self.told[0].now

    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], ahead: timedelta
    ) -> tuple[Any, dict[str, str]]:
        """As the simulated exchange's."""
        (told,), endpoint, now = self.told, path.rpartition("/")[2], int(self.now.timestamp() * 1000)
        if told.rest == "down":
            raise refusal(-1001, "Internal error; unable to process your request.", 503)
        if endpoint == "time":
            return {"serverTime": now}, {}
        is_known = told.rest != "-1121" and told.market.delisted is None
        if endpoint == "exchangeInfo":
            return exchange_info("linear", [told.market] if is_known else [], now), {}
        if endpoint == "fundingInfo":
            return [], {}
        if told.rest or endpoint != "fundingRate":
            raise refusal(int(told.rest or -1121), "Invalid symbol.")
        self.asked += [str(query)]
        return self._rates(told, query, now), {}

    def _rates(self, told: Told, query: Mapping[str, str], now: int) -> Any:
        start, end = (int(query[name]) if name in query else None for name in ("startTime", "endTime"))
        last = min(now, end if end is not None else now)
        rows = [
            row for row in told.books[REST] if (start is None or start <= row.stamp) and row.stamp <= last
        ]
        most = int(query.get("limit", 100))
        page = rows[-most:] if start is None else rows[:most]
        if start is not None and end is not None:
            self._answers += 1
            glitch = told.glitches.get(self._answers)
            if glitch == "object":
                return {}
            page = page if glitch is None else [] if glitch == "empty" else page[1:]
        return [
            {
                "symbol": told.market.symbol,
                "fundingTime": row.stamp,
                "fundingRate": row.rate,
                "markPrice": row.price,
            }
            for row in page
        ]


@contextmanager
def stand() -> Iterator[Stand]:
    """An exchange that stands still and has one perpetual."""
    shelf, desk = Shelf(), FundingDesk()
    server = ExchangeServer(0, shelf, (desk,), FaultPlan())  # type: ignore[arg-type]
    threading.Thread(target=server.serve_forever, args=(0.02,), name="funding stand", daemon=True).start()
    try:
        yield Stand(server, shelf, desk)  # type: ignore[arg-type]
    finally:
        server.shutdown()
        server.server_close()
        server.close_connections()


def serve(exchange: Stand, told: Told) -> None:
    """Serve this from now on."""
    exchange.desk.open([told])  # type: ignore[list-item]
    exchange.shelf.fill(files_of(told), told.now)


# --- what a reader sees, and whether it is so -----------------------------------------------------


@dataclass(frozen=True)
class View:
    """One cell as its readers see it; see `oracle.View`."""

    rows: pl.DataFrame
    carry: pl.DataFrame
    runs: tuple[GapRun, ...]
    told_slots: int
    conflicts: pl.DataFrame
    evidence: str | None
    problems: tuple[Problem, ...]
    asked_until: datetime
    state: str
    archive: pl.DataFrame
    api: pl.DataFrame
    asked: tuple[Asked, ...]

    @property
    def slots(self) -> dict[datetime, GapRun]:
        """The settlements that are told as absent, with the run of each."""
        return {
            run.start + n * (run.end - run.start) / run.slot_count: run
            for run in self.runs
            for n in range(run.slot_count)
        }

    @property
    def was_unanswered(self) -> bool:
        """Whether REST was silent about something, so that it may be asked again at once."""
        return any(asking.outcome == "unreachable" for asking in self.asked)


def look(lake: LakeServices) -> View | None:
    """What readers see of the month; None if nothing of it is stored."""
    cell, reader, now = Cell(MONTH, PERP), Lake(lake.objects.root), lake.clock()
    record = lake.ledger(TABLES[2]).get(cell)
    if record is None:
        return None
    span, table = (START, END), TABLES[2]
    archive, api = (lake.tables.get(lake.registry.table(name), cell) for name in TABLES[:2])
    empty = lake.registry.table(TABLES[0]).empty()
    assert record.facts.asked_until is not None
    return View(
        rows=reader.funding_rates(PERP, *span),
        carry=reader.funding_carry(PERP, *span) if record.rows else pl.DataFrame(),
        runs=record.facts.gaps,
        told_slots=sum(reader.gaps(PERP, *span, now=now, table=table)["slot_count"]),
        conflicts=reader.conflicts(PERP, *span, table=table)
        if record.facts.conflict_count
        else lake.registry.table(TABLES[3]).empty(),
        evidence=record.facts.evidence,
        problems=record.facts.problems,
        asked_until=record.facts.asked_until,
        state=quality_report({cell: record}, {}, now)[0].state,
        archive=archive.rows if archive else empty,
        api=api.rows if api else empty,
        asked=api.record.facts.asked if api else (),
    )


def _newest(rows: pl.DataFrame) -> dict[datetime, set[float | None]]:
    """The rates that a source states by its newest word of each settlement."""
    found: dict[datetime, set[float | None]] = {}
    last = rows.filter(pl.col("fetched_at") == pl.col("fetched_at").max().over("funding_time"))
    for time, rate in last.filter(~pl.col("is_removed")).select("funding_time", "rate").iter_rows():
        found.setdefault(time, set()).add(rate)
    return found


def judge(view: View | None, case: Case, heard: list[Told]) -> list[str]:
    """Every lie in what a reader sees, as `kind: what`; empty where the promise holds. The kinds are those of
    the oracle of candles, and `interval`: an interval that is not the settlement's, said to be known.
    """
    now = heard[-1]
    if view is None:
        return ["withheld: nothing is stored, though a file can be read"] if now.has_file else []
    return [
        *_wrong(view, case, heard),
        *_levels(view),
        *_absences(view, case, now),
        *_rest_of_it(view, case, now),
    ]


def _truth(case: Case) -> dict[datetime, Row]:
    return {row.time: row for row in settled(case.market) if START <= row.time < END}


def _wrong(view: View, case: Case, heard: list[Told]) -> Iterator[str]:
    truth, stated = _truth(case), [_newest(view.archive), _newest(view.api)]
    open_ones = set(view.conflicts.filter(~pl.col("is_settled"))["funding_time"])
    for time, rate in view.rows.select("funding_time", "rate").iter_rows():
        said = {
            float(row.rate)
            for told in heard
            for source in BOTH
            for row in told.states[source].get(time, ())
            if _is_finite(row.rate)
        }
        if rate not in said:
            yield f"made up: {rate} at {time} is stated by nobody"
        if (time in truth and float(truth[time].rate) == rate) or view.evidence == "contradicted":
            continue
        if time not in open_ones and any(time in of and of[time] - {rate} for of in stated):
            yield f"wrong row: {rate} at {time} under {view.evidence}, and a source says otherwise"
        if view.evidence == "rows_both" and any(of.get(time) != {rate} for of in stated):
            yield f"wrong row: {rate} at {time} under rows_both"


def _is_finite(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _levels(view: View) -> Iterator[str]:
    archive, api = _newest(view.archive), _newest(view.api)
    open_ones = set(view.conflicts.filter(~pl.col("is_settled"))["funding_time"])
    settled_ones = set(view.conflicts["funding_time"]) - open_ones
    for time, rate in view.rows.select("funding_time", "rate").iter_rows():
        if view.evidence in ("archive", "rows_both") and rate not in archive.get(time, ()):
            yield f"level: {view.evidence}, and {time} is in no file"
        if view.evidence == "rows_both" and rate not in api.get(time, ()):
            yield f"level: rows_both, and REST does not state {time}"
        denied = (
            any(asking.is_of_rows and asking.start <= time < asking.end for asking in view.asked)
            and time not in api
        )
        differs = any(of.get(time, {rate}) != {rate} for of in (archive, api)) and time not in settled_ones
        # an answer that names too few others denies nothing, and the reader is told
        is_told = denied and not differs and any(one.kind == "unanswered" for one in view.problems)
        if (denied or differs) and view.evidence != "contradicted" and not is_told:
            yield f"contradiction: a source denies {time}, and the level is {view.evidence}"
    if view.evidence == "contradicted" and view.state == "good":
        yield "contradiction: the level is contradicted, and the quality report says good"


def _absences(view: View, case: Case, now: Told) -> Iterator[str]:
    truth, served, slots = _truth(case), set(view.rows["funding_time"]), view.slots
    changes = [since for since, _ in case.market.funding]
    is_told = any(problem.kind == "interval" for problem in view.problems)
    if view.told_slots != len(slots) or sum(run.slot_count for run in view.runs) != len(slots):
        yield f"slots: {len(slots)} are told twice, or by the reader's list as {view.told_slots}"
    if both := sorted(served & slots.keys()):
        yield f"slots: {both[0]} is served and in a gap"
    if beyond := [slot for slot in slots if not START <= slot < min(END, view.asked_until)]:
        yield f"slots: {beyond[0]} is in a gap that nobody was asked about"
    place = sorted({START - 8 * HOUR, *served, END})
    around = {
        time: (max(t for t in place if t < time), min(t for t in place if t > time))
        for time in (*truth, *slots)
    }

    def may_change(time: datetime) -> bool:
        """Whether the interval changes between the rows around, so that nobody can tell how many lack."""
        before, after = around[time]
        return any(before <= change <= after for change in changes)

    for time in truth.keys() - served - slots.keys():
        covered = any(run.start <= time < run.end for run in view.runs)
        if time < view.asked_until and not covered and not may_change(time):
            yield f"slots: {time} was settled, and is neither served nor in a gap"
    for slot, run in slots.items():
        if run.gap_class == "not_listed" and slot in truth:
            yield f"not listed: {slot} was settled"
        # beside a row that was never settled, with nobody to deny it, nobody can know better
        is_misled = not now.has_file and any(each in served and each not in truth for each in around[slot])
        is_known = view.evidence != "contradicted" and not (may_change(slot) and is_told)
        if run.gap_class == "absent" and slot not in truth and is_known and not is_misled:
            yield f"absent: nothing was due at {slot}"
        if run.gap_class == "conflict" and not view.conflicts.filter(funding_time=slot).height:
            yield f"conflict: {slot} is in no dispute"
        values = _newest(view.archive).get(slot, set()) | _newest(view.api).get(slot, set())
        if run.gap_class == "absent" and slot in truth and values == {float(truth[slot].rate)}:
            yield f"withheld: {slot} is in the lake, true, and told as absent"


def _rest_of_it(view: View, case: Case, now: Told) -> Iterator[str]:
    truth, served = _truth(case), dict(view.rows.select("funding_time", "rate").iter_rows())
    stated = now.states
    answers = not now.rest and not now.glitches
    for time, row in truth.items() if now.has_file and answers else ():
        agree = all([one.rate for one in of.get(time, ())] == [row.rate] for of in stated.values())
        if agree and served.get(time) != float(row.rate):
            yield f"withheld: {time} is not served as all sources have it"
    near = {
        time: (before, after)
        for before, time, after in zip(
            sorted(truth)[:-2], sorted(truth)[1:-1], sorted(truth)[2:], strict=True
        )
    }
    for time, hours, said_by, price in view.rows.select(
        "funding_time", "interval_hours", "interval_source", "mark_price"
    ).iter_rows():
        if time not in truth or hours == truth[time].hours or view.evidence == "contradicted":
            continue
        is_stated = any(row.hours == hours for row in stated[FILE].get(time, ()))
        if said_by == "stated" and not is_stated:
            yield f"interval: {hours} hours at {time} are stated by nobody"
        # the first of a month has nobody before it, and what follows may have another interval
        if said_by == "before" and time in near and near[time][0] in served:
            yield f"interval: {hours} hours at {time} by the settlement before, and these are served"
        if price is not None and not any(
            row.price and float(row.price) == price for row in stated[REST].get(time, ())
        ):
            yield f"made up: the mark price at {time}"
    lacking = {slot for slot, run in view.slots.items() if run.gap_class in ("absent", "conflict")}
    for problem in view.problems:
        if problem.healed_by and problem.day and any(f"{slot:%Y-%m-%d}" == problem.day for slot in lacking):
            said = f"{problem.kind} of {problem.day} by {problem.healed_by}"
            yield f"healed: {said}, and a settlement is absent"
    rates = dict(view.carry.select("funding_time", "rate").iter_rows()) if view.carry.width else {}
    if rates != served:
        yield "made up: gold/funding_carry has other payments than silver/funding_rate"
    for earlier, later in pairwise(view.carry["knowable_at"].to_list() if rates else ()):
        if later < earlier:
            yield f"made up: {later} is knowable before {earlier}"


# --- running --------------------------------------------------------------------------------------


def lies(case: Case, exchange: Stand, root: Path) -> list[str]:
    """What a reader is told that is not so, at any time of a case; empty where the promise holds."""
    try:
        return list(_lies(case, exchange, root))
    except LakehouseError as error:
        return [f"refused: the whole command ended with {type(error).__name__}: {error}"]


def _lies(case: Case, exchange: Stand, root: Path) -> Iterator[str]:
    heard = list[Told]()
    with bench(exchange, root) as it:
        it.tables = TABLES

        def serve_at(now: datetime, is_last: bool) -> None:
            heard.append(told_at(case, now, is_last))
            serve(exchange, heard[-1])

        def build(what: str, is_first: bool = True) -> Iterator[str]:
            it.build(PERP, is_first=is_first)
            yield from said(what)

        def said(what: str) -> Iterator[str]:
            yield from _crashes(it, what)
            yield from (f"{what}: {lie}" for lie in judge(look(it.lake), case, heard))

        if case.is_open:
            serve_at(OPEN_MONTH, False)
            yield from build("open month")
        waits = UNTIL_ENDED if case.has_ended else timedelta(0)
        serve_at(CLOSED + waits, False)
        yield from build("first build")
        before, view, desk = it.stamps(), look(it.lake), exchange.desk
        desk.asked.clear()  # type: ignore[attr-defined]
        heard[-1].now += timedelta(minutes=10)
        it.build(PERP, is_first=False)
        if it.stamps() != before:
            yield "again: unstable: built again within the hour, cells changed"
        if desk.asked and not (view and view.was_unanswered):  # type: ignore[attr-defined]
            yield "again: asked: within the hour REST was asked again"
        if not case.is_verified and all(fault.during == ALWAYS for fault in case.faults):
            return
        serve_at(LATER + waits, True)
        if case.is_verified and view is not None:
            it.verify(PERP, "silver/funding_rate")
            yield from said("verified")
        yield from build("last build")


def _crashes(it: Bench, what: str) -> Iterator[str]:
    """Failures that are no lie of a file's: by an error that is not the product's, or of another table."""
    for name, error in it.failed.items():
        if not isinstance(error, LakehouseError) or not name.startswith(TABLES[0]):
            yield f"{what}: crash: {name}: {type(error).__name__}: {str(error)[:200]}"


def run(seed_or_case: int | Case, exchange: Stand) -> list[str]:
    """The lies of one case, in a lake of its own."""
    case = draw(seed_or_case) if isinstance(seed_or_case, int) else seed_or_case
    with tempfile.TemporaryDirectory(prefix="funding-") as folder:
        return lies(case, exchange, Path(folder))


def main() -> None:
    """Run the seeds that are named."""
    with stand() as exchange:
        for seed in map(int, sys.argv[1:]):
            print(seed, draw(seed))
            print("\n".join(f"    {lie}" for lie in run(seed, exchange)) or "    nothing is wrong")


if __name__ == "__main__":
    main()
