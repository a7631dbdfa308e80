"""Funding rates: the files and answers that were recorded, every column; what sources say against each other;
settlements that are absent, by the market's own intervals.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zipfile import ZipFile

import polars as pl
import pytest

from lakehouse.datasets.dataset import BronzeCell
from lakehouse.datasets.funding_rate import (
    FUNDING_RATE,
    FundingRate,
    FundingRateApi,
    FundingRateArchive,
    contradicted,
    doubt,
)
from lakehouse.exchanges.binance.funding import FundingFiles, FundingPages, parse_rates
from lakehouse.model.cell import Cell
from lakehouse.model.errors import ArchiveFileError, CsvHeaderError
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.result import Asked, CellFacts, CellResult
from lakehouse.model.table import UTC_TIME
from lakehouse_tests.making import MINUTE, at, facts

PERP, COIN = Market("binance", "linear", "BTCUSDT"), Market("binance", "inverse", "BTCUSD_PERP")
CELL = Cell("2024-02", PERP)
HOUR, EIGHT = timedelta(hours=1), timedelta(hours=8)
FEBRUARY = [at("2024-02-01") + n * EIGHT for n in range(29 * 3)]
NOW = at("2024-03-10T12:00")


def rows(
    times: Sequence[datetime],
    rates: Sequence[float] | None = None,
    source: str = "monthly",
    hours: int | None = 8,
    price: float | None = None,
    late: int = 3,
    fetched: datetime = NOW,
    sha: str = "a",
) -> pl.DataFrame:
    """Rows of a bronze table, all of one reading."""
    values = {
        "funding_time": list(times),
        "published_time": [time + timedelta(milliseconds=late) for time in times],
        "rate": list(rates) if rates is not None else [0.0001 + n * 1e-8 for n in range(len(times))],
        "interval_hours": [hours if source == "monthly" else None] * len(times),
        "mark_price": [price] * len(times),
        "source": [source] * len(times),
        "source_file": [f"{source}.zip"] * len(times),
        "source_sha256": [sha] * len(times),
        "fetched_at": [fetched] * len(times),
        "is_removed": [False] * len(times),
    }
    return pl.DataFrame(values, schema_overrides=dict(FundingRateArchive.polars_schema())).select(
        FundingRateArchive.names()
    )


def refined(
    archive: pl.DataFrame | None,
    api: pl.DataFrame | None = None,
    asked: Sequence[Asked] = (),
    asked_until: datetime | None = None,
    cell: Cell = CELL,
    **life: str,
) -> CellResult:
    """A silver cell out of rows of its sources."""
    bronze = {}
    if archive is not None:
        end = asked_until or cell.window.end
        bronze[FundingRateArchive.name] = BronzeCell(archive, "1", CellFacts(asked_until=end))
    if api is not None:
        bronze[FundingRateApi.name] = BronzeCell(
            api.select(FundingRateApi.names()), "2", CellFacts(asked=tuple(asked))
        )
    return FUNDING_RATE.refine(bronze, cell, facts(cell.own_market, **life))


def told(result: CellResult) -> list[tuple[str, datetime, int, timedelta]]:
    """Gaps: class, start, how many and how far apart."""
    return [
        (run.gap_class, run.start, run.slot_count, (run.end - run.start) / run.slot_count)
        for run in result.facts.gaps
    ]


def asking(start: datetime = CELL.window.start, end: datetime = CELL.window.end) -> Asked:
    return Asked(start, end, NOW, "rows")


# --- recorded -------------------------------------------------------------------------------------


def test_the_recorded_month_of_a_linear_market_is_served_in_every_column(real_data: Path) -> None:
    cell = Cell("2026-04", PERP)
    key = FundingFiles().key(PERP, Period.parse("2026-04"))
    with ZipFile(real_data / "binance_archive" / key) as archive:
        csv = archive.read(archive.namelist()[0])
    lines = [line.split(",") for line in csv.decode().split()[1:]]
    parsed = FundingFiles().parse(PERP, key, csv)
    assert parsed.rows() == [
        (
            at("2026-04-01") + n * EIGHT,
            datetime.fromtimestamp(0, NOW.tzinfo) + timedelta(milliseconds=int(time)),
            float(rate),
            int(hours),
            None,
        )
        for n, (time, hours, rate) in enumerate(lines)
    ]
    assert (parsed["published_time"] != parsed["funding_time"]).sum() == 49
    lineage = rows(parsed["funding_time"].to_list()).select(
        "source", "source_file", "source_sha256", "fetched_at", "is_removed"
    )
    stored = pl.concat([parsed, lineage], how="horizontal").select(FundingRateArchive.names())
    result = refined(stored, cell=cell)
    assert (told(result), result.facts.evidence, result.facts.problems) == ([], "archive", ())
    assert doubt(stored, cell, facts(PERP), None) == {}
    assert result.rows.select(
        "funding_time", "published_time", "rate", "interval_hours", "mark_price"
    ).equals(parsed)
    assert result.rows.select(pl.col("interval_source", "source").unique()).rows() == [("stated", "archive")]


def test_the_recorded_rows_of_an_inverse_market_are_read_in_every_column(real_data: Path) -> None:
    path = real_data / "archive_rows_transcribed" / "cm_fundingRate_BTCUSD_PERP_2023-06.csv"
    assert parse_rates("cm", path.read_bytes()).rows() == [
        (at("2023-06-01"), at("2023-06-01T00:00:00.011"), 0.0001, 8, None),
        (at("2023-06-01T08:00"), at("2023-06-01T08:00"), 0.0001, 8, None),
        (at("2023-06-01T16:00"), at("2023-06-01T16:00:00.001"), 0.0001, 8, None),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "1775001600000,8",
        "1775001600000,8,nan",
        "1775001600000,8,inf",
        "1775001600000,0,0.1",
        "1775001600000,-8,0.1",
        "1775001600,8,0.1",
        "1775001600000000000,8,0.1",
        "1775001600000,8,0.1,7",
        ",8,0.1",
        "1775001600000.5,8,0.1",
        "x" * 9,
    ],
)
def test_a_line_that_is_no_settlement_refuses_the_file(line: str) -> None:
    good = "calc_time,funding_interval_hours,last_funding_rate\n1774972800000,8,0.0001\n"
    assert parse_rates("k", good.encode()).height == 1
    with pytest.raises(ArchiveFileError):
        parse_rates("k", f"{good}{line}\n".encode())
    with pytest.raises(CsvHeaderError):
        parse_rates("k", f"calc_time,rate\n{good}".encode())


def test_a_settlement_stamped_just_before_its_month_is_left_to_its_month() -> None:
    key = FundingFiles().key(PERP, Period.parse("2024-02"))
    stamps = [int(time.timestamp() * 1000) - 2 for time in (at("2024-02-29T16:00"), at("2024-03-01"))]
    csv = "".join(f"{stamp},8,0.0001\n" for stamp in stamps).encode()
    assert FundingFiles().parse(PERP, key, csv)["funding_time"].to_list() == [at("2024-02-29T16:00")]


def test_rest_is_asked_for_what_is_nearest_to_the_range_and_its_price_is_kept() -> None:
    pages = FundingPages()
    call = pages.call(PERP, at("2024-02-01") + timedelta(microseconds=1), at("2024-02-02"), 1000)
    first, last = (
        int(at(text).timestamp() * 1000) for text in ("2024-02-01T00:00:30", "2024-02-01T23:59:30")
    )
    assert call.params == {"symbol": "BTCUSDT", "limit": 1000, "startTime": first, "endTime": last - 1}
    assert (call.method, call.limit and call.limit.requests) == ("fapipublic_get_fundingrate", 500)
    assert pages.call(COIN, None, None, 1).limit is None
    stamp = int(at("2024-02-01T08:00:00.007").timestamp() * 1000)
    row = {"symbol": "BTCUSDT", "fundingTime": stamp, "fundingRate": "-0.0375", "markPrice": "34287.5"}
    odd = row | {"fundingTime": stamp + 1, "fundingRate": "NaN"}
    assert pages.read(PERP, [row, odd, row | {"markPrice": ""}]).rows() == [
        (at("2024-02-01T08:00"), at("2024-02-01T08:00:00.007"), -0.0375, None, 34287.5),
        (at("2024-02-01T08:00"), None, None, None, None),
        (at("2024-02-01T08:00"), at("2024-02-01T08:00:00.007"), -0.0375, None, None),
    ]
    for answer in ({"code": 0}, [row | {"symbol": "ETHUSDT"}], [row | {"fundingTime": None}], ["x"]):
        with pytest.raises(ValueError, match="funding rate"):
            pages.read(PERP, answer)


# --- evidence -------------------------------------------------------------------------------------


def test_evidence_is_no_better_than_its_worst_row() -> None:
    both = rows(FEBRUARY), rows(FEBRUARY, source="api", price=40_000.0, late=9)
    assert refined(both[0]).facts.evidence == "archive"
    result = refined(*both, [asking()])
    assert (result.facts.evidence, result.facts.conflict_count) == ("rows_both", 0)
    assert result.rows["mark_price"].unique().to_list() == [40_000.0], "REST's, of the same rate"
    assert result.rows["published_time"][0] == FEBRUARY[0] + timedelta(milliseconds=3), "the archive's"
    part = refined(both[0], both[1].head(80), [asking(end=FEBRUARY[80])])
    assert part.facts.evidence == "archive"
    assert refined(both[0].head(80), both[1], [asking()]).facts.evidence == "api"
    assert refined(None, both[1], [asking()]).facts.evidence == "api"


def test_what_a_source_denies_is_served_as_contradicted() -> None:
    other = [0.0001 + n * 1e-8 + (n == 40) * 1e-4 for n in range(87)]
    result = refined(rows(FEBRUARY), rows(FEBRUARY, other, "api"), [asking()])
    assert (result.facts.evidence, result.facts.unsettled_count) == ("contradicted", 1)
    assert [(found.start, found.columns) for found in result.facts.contradictions] == [
        (FEBRUARY[40], ("rate",))
    ]
    assert result.rows.filter(funding_time=FEBRUARY[40])["source"].item() == "archive"
    lacking = rows(FEBRUARY[:40] + FEBRUARY[41:], source="api")
    result = refined(
        rows(FEBRUARY), lacking.with_columns(rate=rows(FEBRUARY[:40] + FEBRUARY[41:])["rate"]), [asking()]
    )
    assert (FEBRUARY[40], ("funding_time",)) in [
        (found.start, found.columns) for found in result.facts.contradictions
    ]


BEFORE, AFTER = FEBRUARY[0] - EIGHT, CELL.window.end
DAY = timedelta(days=1)


def silence(kept: Sequence[int], *asked: Asked) -> tuple[list[datetime], str | None, list[str], list[str]]:
    """What becomes of a month that the archive has whole, of which REST states some settlements: those that
    it denies, the evidence, problems, and the days that it is asked about again.
    """
    archive = rows(FEBRUARY)
    api = rows([FEBRUARY[n] for n in kept], [archive["rate"][n] for n in kept], source="api")
    result = refined(archive, api, asked)
    parts = {
        FundingRateArchive.name: BronzeCell(archive, "1", CellFacts()),
        FundingRateApi.name: BronzeCell(api.select(FundingRateApi.names()), "2", CellFacts(asked=asked)),
    }
    again = [day for span in contradicted(parts) for day in span.days()]
    assert {found.columns for found in result.facts.contradictions} <= {("funding_time",)}
    denied = [found.start for found in result.facts.contradictions]
    return denied, result.facts.evidence, [problem.kind for problem in result.facts.problems], again


def named(start: datetime = FEBRUARY[0], end: datetime = CELL.window.end, **beside: datetime) -> Asked:
    """A range that was answered, with the settlements that the answer names beside it."""
    return Asked(start, end, NOW, "rows", **beside)


ALL, WHOLE = range(87), {"before": BEFORE, "after": AFTER}


@pytest.mark.parametrize(
    ("kept", "asked", "denied", "again"),
    [
        # none of a month, with settlements named on both sides or not: the answer may be at fault
        ([], named(**WHOLE), [], 29),
        ([], named(), [], 29),
        # a page that ends in the middle, and one that begins there
        (ALL[:45], named(before=BEFORE), [], 14),
        (ALL[45:], named(after=AFTER), [], 15),
        # one that lacks most of what it was asked for
        (ALL[::4], named(**WHOLE), [], 29),
        # a day that is answered within a month that is not
        (ALL[30:33], named(**WHOLE), [], 29),
        # one settlement, and a day, between others; the first and the last of a month where both are named
        ([*ALL[:40], *ALL[41:]], named(), [40], 1),
        ([*ALL[:39], *ALL[42:]], named(), [39, 40, 41], 1),
        (ALL[1:], named(before=BEFORE), [0], 1),
        (ALL[:86], named(after=AFTER), [86], 1),
        (ALL[1:], named(), [], 1),
        (ALL[:86], named(), [], 1),
        # all but one, of a day alone
        ([39, 41], named(FEBRUARY[39], FEBRUARY[42]), [40], 1),
        ([39], named(FEBRUARY[39], FEBRUARY[42], before=FEBRUARY[38], after=FEBRUARY[42]), [40, 41], 1),
        ([], named(FEBRUARY[39], FEBRUARY[42], before=FEBRUARY[38], after=FEBRUARY[42]), [], 1),
    ],
)
def test_rest_denies_by_an_answer_with_settlements_on_both_sides_and_is_asked_again(
    kept: Sequence[int], asked: Asked, denied: list[int], again: int
) -> None:
    found, evidence, problems, days = silence(kept, asked)
    assert found == [FEBRUARY[n] for n in denied]
    assert evidence == ("contradicted" if denied else "archive"), "never as confirmed by both"
    assert problems == ([] if denied else ["unanswered"])
    assert len(days) == again


def test_what_rest_was_not_asked_about_or_does_not_know_is_neither_denied_nor_open() -> None:
    unknown = Asked(FEBRUARY[0], AFTER, NOW, "unknown")
    refused = Asked(FEBRUARY[0], AFTER, NOW, "refused")
    for asked in ([], [unknown], [refused], [named(FEBRUARY[0], FEBRUARY[30])]):
        assert silence(ALL[:30], *asked) == ([], "archive", [], [])


def test_rates_that_no_proof_decides_are_asked_for_again() -> None:
    archive, api = rows(FEBRUARY), rows(FEBRUARY, [0.5] * 87, source="api")
    parts = {
        FundingRateArchive.name: BronzeCell(archive, "1", CellFacts()),
        FundingRateApi.name: BronzeCell(
            api.select(FundingRateApi.names()), "2", CellFacts(asked=(asking(),))
        ),
    }
    assert contradicted(parts) == [CELL.window], "it may have been another market's page"


def test_two_rates_of_one_file_are_a_gap_and_not_a_choice() -> None:
    twice = pl.concat([rows(FEBRUARY), rows(FEBRUARY[5:6], [0.5])])
    result = refined(twice)
    assert told(result) == [("conflict", FEBRUARY[5], 1, EIGHT)]
    assert result.rows.height == 86
    assert result.rejected is not None
    assert result.rejected["rule"].to_list() == ["two_values_in_one_source"] * 2
    assert doubt(twice, CELL, facts(PERP), None)["2024-02-02"].kind == "variants"
    settled = refined(twice, rows(FEBRUARY, source="api"), [asking()])
    assert (settled.rows.height, settled.facts.unsettled_count, settled.facts.gaps) == (87, 0, ())


def test_order_of_rows_and_sources_changes_nothing() -> None:
    one = refined(rows(FEBRUARY), rows(FEBRUARY, source="api", price=1.0), [asking()])
    other = refined(rows(FEBRUARY).reverse(), rows(FEBRUARY, source="api", price=1.0).reverse(), [asking()])
    assert (one.rows.rows(), one.facts) == (other.rows.rows(), other.facts)


# --- absence --------------------------------------------------------------------------------------


def spaced(*changes: tuple[str, int], end: str = "2024-03-01") -> list[datetime]:
    """Settlements whose interval changes at instants."""
    found, time = [], at(changes[0][0])
    while time < at(end):
        hours = next(hours for since, hours in reversed(changes) if at(since) <= time)
        found.append(time)
        time += hours * HOUR
    return found


CHANGING = spaced(("2024-02-01", 8), ("2024-02-10", 4), ("2024-02-11", 1), ("2024-02-12", 8))


def without(times: Sequence[datetime], *absent: str) -> list[datetime]:
    gone = {at(text) for text in absent}
    assert gone <= set(times)
    return [time for time in times if time not in gone]


def test_intervals_may_change_within_a_month_and_nothing_is_absent() -> None:
    result = refined(None, rows(CHANGING, source="api"), [asking()])
    assert (told(result), result.facts.problems) == ([], ())
    hours = dict(result.rows.select("funding_time", "interval_hours").iter_rows())
    seen = ("09T16:00", "10", "10T04:00", "11T01:00", "12T08:00")
    assert [hours[at(f"2024-02-{text}")] for text in seen] == [8, 8, 4, 1, 8]
    assert result.rows["interval_source"].to_list() == ["after", *["before"] * (len(CHANGING) - 1)]


@pytest.mark.parametrize(
    ("absent", "gap", "says"),
    [
        (("2024-02-05T08:00",), ("2024-02-05T08:00", 1, 8), False),
        (("2024-02-10T08:00", "2024-02-10T12:00"), ("2024-02-10T08:00", 2, 4), False),
        (("2024-02-11T05:00",), ("2024-02-11T05:00", 1, 1), False),
        (("2024-02-10",), ("2024-02-10", 1, 4), True),  # twelve hours: eight and four, not thrice four
    ],
)
def test_an_absent_settlement_is_told_by_the_markets_own_interval(
    absent: tuple[str, ...], gap: tuple[str, int, int], says: bool
) -> None:
    result = refined(None, rows(without(CHANGING, *absent), source="api"), [asking()])
    start, count, hours = gap
    assert told(result) == [("absent", at(start), count, hours * HOUR)]
    assert result.facts.gaps[0].asked_at == NOW
    assert [problem.kind for problem in result.facts.problems] == ["interval"] * says
    if says:
        assert "from 8 to 4 hours" in result.facts.problems[0].detail
    later = result.rows.filter(pl.col("funding_time") > at(start))["interval_source"][0]
    assert later in ("before", "after", "unknown")
    sixteen = result.rows.filter(interval_source="unknown")
    assert sixteen["interval_hours"].null_count() == sixteen.height


def test_the_first_of_a_month_by_rest_has_the_interval_that_ends_with_it() -> None:
    """Every eight hours until the month ends, and every four from its first settlement on."""
    times = [at("2024-02-01") + n * 4 * HOUR for n in range(20)]
    asked = replace(asking(end=at("2024-02-04")), before=at("2024-01-31T16:00"))
    found = refined(None, rows(times, source="api"), [asked]).rows.head(2)
    assert found["interval_hours"].to_list() == [8, 4]
    assert found["interval_source"].to_list() == ["before", "before"]


@pytest.mark.parametrize("lost", [1, 3])
def test_a_settlement_behind_absent_ones_has_no_interval_of_their_length(lost: int) -> None:
    times = [at("2024-02-01") + n * HOUR for n in range(48)]
    told = [time for n, time in enumerate(times) if not 20 <= n < 20 + lost]
    result = refined(None, rows(told, source="api"), [asking(end=at("2024-02-03"))])
    assert [run.slot_count for run in result.facts.gaps] == [lost]
    assert result.rows["interval_hours"].unique().to_list() == [1]
    behind = result.rows.filter(pl.col("funding_time") > times[19]).row(0, named=True)
    assert behind["interval_source"] == "after"


def test_a_distance_that_no_interval_has_is_no_interval() -> None:
    result = refined(None, rows(without(CHANGING, "2024-02-05T08:00"), source="api"), [asking()])
    row = result.rows.row(by_predicate=pl.col("funding_time") == at("2024-02-05T16:00"), named=True)
    assert (row["interval_hours"], row["interval_source"]) == (8, "after"), "the next one tells, not 16 hours"


def test_a_files_own_statement_of_the_interval_is_held_against_its_rows() -> None:
    wrong = rows(FEBRUARY, hours=4)
    result = refined(wrong)
    assert result.facts.evidence == "contradicted"
    assert {found.columns for found in result.facts.contradictions} == {("interval_hours",)}
    assert doubt(wrong, CELL, facts(PERP), None)["2024-02-10"].kind == "interval"


def test_lives_bound_what_is_expected() -> None:
    listed = refined(rows(FEBRUARY[30:]), listed=f"{FEBRUARY[30] - HOUR:%Y-%m-%dT%H:%M}")
    assert {run.gap_class for run in listed.facts.gaps} == {"not_listed"}
    at_once = refined(rows(FEBRUARY[31:]), listed=f"{FEBRUARY[30]:%Y-%m-%dT%H:%M}")
    assert {run.gap_class for run in at_once.facts.gaps} == {"not_listed"}, "nobody held a position then"
    ended = refined(rows(FEBRUARY[:50]), delisted=f"{FEBRUARY[50]:%Y-%m-%dT%H:%M}")
    assert {run.gap_class for run in ended.facts.gaps} == {"not_listed"}
    assert ended.facts.gaps[-1].end == CELL.window.end
    four = [FEBRUARY[0] + n * 4 * HOUR for n in range(20)]
    short = refined(rows(four, hours=4), delisted=f"{four[-1] + 4 * HOUR:%Y-%m-%dT%H:%M}")
    assert ({run.gap_class for run in short.facts.gaps}, short.facts.problems) == ({"not_listed"}, ()), (
        "no interval can be longer where nothing was due"
    )
    late = refined(rows(four[8:], hours=4), asked_until=four[-1] + HOUR, listed="2024-02-02T07:00")
    assert ({run.gap_class for run in late.facts.gaps}, late.facts.problems) == ({"not_listed"}, ())
    after = refined(rows(FEBRUARY), delisted=f"{FEBRUARY[50]:%Y-%m-%dT%H:%M}")
    assert after.rows.height == 51, "the settlement at the end itself is paid"
    assert after.rejected is not None
    assert set(after.rejected["rule"]) == {"after_delisting"}


def broken(
    gone: int = 30,
    back: int = 60,
    by_rest: Sequence[int] | None = None,
    archive_until: datetime | None = None,
    hours: int = 8,
    **asked: datetime,
) -> list[tuple[str, datetime, int, timedelta]]:
    """The gaps of a month without the settlements from one to before another: REST was asked about them."""
    archive = rows(FEBRUARY[:gone] + FEBRUARY[back:], hours=hours)
    start, end = FEBRUARY[gone], FEBRUARY[min(back, 86)]
    beside = {"before": FEBRUARY[max(gone - 1, 0)], "after": end}
    told_ = [Asked(start, end, NOW, "empty", **(beside | asked))]
    api = rows([FEBRUARY[n] for n in by_rest or []], source="api")
    result = refined(archive, api, told_, archive_until)
    return told(result)


def test_a_break_of_the_listing_is_told_where_archive_and_rest_have_none_between() -> None:
    assert broken() == [("not_listed", FEBRUARY[30], 30, EIGHT)]
    assert broken(30, 49) == [("absent", FEBRUARY[30], 19, EIGHT)], "less than a week is no break"
    assert broken(30, 50)[0][0] == "not_listed", "seven days from one settlement to the next"
    first, *_ = broken(before=None)  # type: ignore[arg-type]
    assert first[0] == "absent", "nobody names the settlement before"
    assert broken(after=None)[0][0] == "absent"  # type: ignore[arg-type]
    assert broken(archive_until=FEBRUARY[50])[0][0] == "absent", "the archive has not answered yet"
    assert [found[0] for found in broken(by_rest=[45])] == ["absent", "absent"], "REST has one of them"


def test_a_break_that_reaches_beyond_the_month_is_told_by_what_rest_names_there() -> None:
    earlier, later = at("2024-01-20"), at("2024-03-09T16:00")
    assert broken(0, 12, before=earlier) == [("not_listed", FEBRUARY[0], 12, EIGHT)]
    beside = {"before": earlier, "after": later}
    whole = refined(FundingRateArchive.empty(), FundingRateApi.empty(), [named(**beside)])
    assert told(whole) == [("not_listed", FEBRUARY[0], 87, EIGHT)], "no file of the month was published"
    assert whole.facts.problems == ()
    alone = refined(None, rows(FEBRUARY[:3], source="api"), [named(before=BEFORE, after=later)])
    assert told(alone) == [("absent", FEBRUARY[3], 84, EIGHT)], "of an archive that failed nothing is known"


def test_two_breaks_are_two_and_the_interval_behind_one_is_no_change() -> None:
    times = [*FEBRUARY[:10], *FEBRUARY[35:40], *(FEBRUARY[63] + n * 4 * HOUR for n in range(48))]
    api = rows(times, source="api")
    stated = rows(times, hours=None)
    both = refined(stated, api.with_columns(rate=stated["rate"]), [named(**WHOLE)])
    assert [(kind, start) for kind, start, _, _ in told(both)] == [
        ("not_listed", FEBRUARY[10]),
        ("not_listed", FEBRUARY[40]),
    ]
    assert (both.facts.problems, both.facts.evidence) == ((), "rows_both")
    assert both.rows.filter(funding_time=FEBRUARY[63])["interval_source"].item() == "after"


def test_a_cell_of_nothing_says_so() -> None:
    result = refined(FundingRateArchive.empty())
    assert (result.rows.height, result.facts.evidence) == (0, "api")
    assert told(result) == [("absent", CELL.window.start, 87, EIGHT)]
    assert refined(FundingRateArchive.empty(), asked_until=CELL.window.start).facts.gaps == ()


def test_a_rate_beyond_all_reason_is_not_served_and_its_settlement_is_absent() -> None:
    result = refined(rows(FEBRUARY, [0.0001 + (n == 7) * 3.0 for n in range(87)]))
    assert told(result) == [("absent", FEBRUARY[7], 1, EIGHT)]
    assert result.rejected is not None
    assert result.rejected["rule"].to_list() == ["rate_at_most_1"]


def test_every_row_keeps_the_tables_declaration() -> None:
    result = refined(rows(CHANGING), rows(CHANGING, source="api"), [asking()])
    FundingRate.pandera_schema().validate(result.rows)
    assert result.rows["published_time"].dtype == UTC_TIME
    assert result.rows.filter(pl.col("published_time") - pl.col("funding_time") > MINUTE).is_empty()
