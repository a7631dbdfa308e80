"""Silver candles: bronze refined to one truth, with everything that is not served accounted for."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleApi, CandleArchive, conflicts, contradicted, doubt, refine
from lakehouse.datasets.dataset import BronzeCell
from lakehouse.datasets.market import MarketFacts
from lakehouse.model.cell import Cell
from lakehouse.model.result import Asked, CellFacts, CellResult, GapRun, Problem
from lakehouse.transform.doubt import Doubt
from lakehouse_tests.making import (
    BTC,
    COIN,
    FEBRUARY,
    MICRO,
    MINUTE,
    NOW,
    at,
    bronze,
    candles,
    facts,
    minutes,
)

DAY = minutes("2024-02-05", 1440)
PROBLEM = Problem("data/x.zip", "corrupt", "the zip is damaged", "29 daily files")


def refined(
    rows: pl.DataFrame,
    asked_until: str | None = "2024-02-06",
    market: MarketFacts | None = None,
    cell: Cell = FEBRUARY,
) -> CellResult:
    known = CellFacts(asked_until=at(asked_until) if asked_until else None, problems=(PROBLEM,))
    result = refine(
        {CandleArchive.name: BronzeCell(rows, "v1", known)}, cell, market or facts(listed="2024-02-05")
    )
    assert result.rejected is not None
    assert Candle.split(Candle.conform(result.rows, cell))[1].height == 0
    return result


def test_a_whole_day_is_served_as_it_is() -> None:
    result = refined(bronze(DAY))
    assert result.rows.equals(candles(DAY))
    assert result.rejected.height == 0  # type: ignore[union-attr]
    assert result.facts == CellFacts(
        (GapRun("not_listed", at("2024-02-01"), at("2024-02-05"), 4 * 1440),),
        0,
        "rows_daily",
        at("2024-02-06"),
        (PROBLEM,),
    )
    absent = {"bronze/candle_witness@2024-02": "none", "bronze/candle_api@2024-02": "none"}
    assert result.inputs == absent | {
        "bronze/candle_archive@2024-02": "v1",
        "silver/market": facts(listed="2024-02-05").version_for(FEBRUARY),
    }


def test_daily_wins_over_monthly_and_the_dispute_is_counted() -> None:
    rows = pl.concat([bronze(DAY, "monthly"), bronze(DAY[:10], close=101.5)])
    result = refined(rows)
    assert result.rows["close"].to_list() == [101.5] * 10 + [101.0] * 1430
    assert (result.facts.conflict_count, result.facts.evidence) == (10, "unconfirmed")


def test_a_row_that_stands_in_no_daily_file_leaves_the_cell_unproven() -> None:
    assert refined(pl.concat([bronze(DAY, "monthly"), bronze(DAY)])).facts.evidence == "rows_daily"
    assert refined(pl.concat([bronze(DAY, "monthly"), bronze(DAY[1:])])).facts.evidence == "unconfirmed"
    assert refined(bronze([])).facts.evidence == "unconfirmed"


def test_two_values_in_one_source_are_a_gap_and_stand_in_quarantine() -> None:
    rows = pl.concat([bronze(DAY), bronze(DAY[30:32], close=100.5)])
    result = refined(rows)
    assert result.rows["open_time"].to_list() == DAY[:30] + DAY[32:]
    assert result.rejected.select("open_time", "close", "rule").rows() == [
        (time, close, "two_values_in_one_source") for time in DAY[30:32] for close in (100.5, 101.0)
    ]  # type: ignore[union-attr]
    assert result.facts.gaps[1:] == (GapRun("conflict", DAY[30], DAY[32], 2),)


def test_a_row_that_breaks_a_rule_is_a_gap_and_stands_in_quarantine_with_the_rule() -> None:
    result = refined(pl.concat([bronze(DAY[:5]), bronze(DAY[5:6], high=100.5), bronze(DAY[6:])]))
    assert result.rejected.select("open_time", "rule").rows() == [(DAY[5], "high_is_highest")]  # type: ignore[union-attr]
    assert result.facts.gaps[1:] == (GapRun("absent", DAY[5], DAY[6], 1),)
    assert result.rows.height == 1439


@pytest.mark.parametrize(
    "broken",
    [{"close": 103.0}, {"open": 0.0}, {"open": None}],
    ids=["close above high", "open zero", "no open"],
)
def test_a_sound_row_by_rest_is_served_before_one_of_a_daily_file_that_breaks_a_rule(
    broken: dict[str, float | None],
) -> None:
    """By rank the daily file would have won, only to go to quarantine."""
    rows = pl.concat(
        [
            bronze(DAY[:5], "monthly"),
            bronze(DAY[5:6], "monthly", **broken),
            bronze(DAY[6:], "monthly"),
            bronze(DAY[5:6], "daily", **broken),
        ]
    )
    known = CellFacts(asked_until=at("2024-02-06"))
    parts = {
        CandleArchive.name: BronzeCell(rows, "v1", known),
        CandleApi.name: BronzeCell(bronze(DAY[5:6], "api"), "v2", CellFacts()),
    }
    result = refine(parts, FEBRUARY, facts(listed="2024-02-05"))
    assert result.rows.drop("source").equals(candles(DAY).drop("source"))
    assert (result.facts.gaps[1:], result.rejected.height, result.facts.unsettled_count) == ((), 0, 0)  # type: ignore[union-attr]
    told = (
        conflicts(parts, FEBRUARY, facts(listed="2024-02-05")).select("sources", "rule", "is_served").rows()
    )
    assert told == [("daily+monthly", "row_rules", False), ("api", "row_rules", True)]


def test_a_value_in_quarantine_is_not_said_to_be_served() -> None:
    parts = {
        CandleArchive.name: BronzeCell(
            pl.concat([bronze(DAY[:2]), bronze(DAY[:2], "monthly", close=[103.0, 100.5])]), "v1", CellFacts()
        )
    }
    ended = conflicts(parts, FEBRUARY, facts(listed="2024-02-05", delisted="2024-02-05T00:01"))
    assert ended.select("open_time", "close", "is_served").rows() == [
        (DAY[0], 101.0, True),
        (DAY[0], 103.0, False),
        (DAY[1], 101.0, False),
        (DAY[1], 100.5, False),
    ]


def test_a_removed_row_is_not_served_any_more() -> None:
    tomb = bronze(
        DAY[7:8],
        fetched=NOW + timedelta(hours=1),
        sha="b",
        removed=True,
        **dict.fromkeys(["open", "high", "low", "close", "volume", "quote_volume"]),
    )
    result = refined(pl.concat([bronze(DAY), tomb]))
    assert result.facts.gaps[1:] == (GapRun("absent", DAY[7], DAY[8], 1),)
    assert result.rows.height == 1439


def test_what_nobody_was_asked_about_is_no_gap() -> None:
    assert refined(bronze(DAY[:60]), "2024-02-05T01:00").facts.gaps[1:] == ()
    assert refined(bronze(DAY[:60]), "2024-02-05T01:30").facts.gaps[1:] == (
        GapRun("absent", DAY[60], DAY[90], 30),
    )
    unasked = refined(bronze([]), None)
    assert (unasked.facts.gaps, unasked.facts.asked_until, unasked.rows.height) == ((), at("2024-02-01"), 0)


def test_a_market_that_ended_is_not_expected_afterwards() -> None:
    result = refined(bronze(DAY[:600]), "2024-03-01", facts(listed="2024-02-05", delisted="2024-02-05T10:00"))
    assert [(run.gap_class, run.slot_count) for run in result.facts.gaps] == [
        ("not_listed", 4 * 1440),
        ("not_listed", 24 * 1440 + 840),
    ]


def test_truncated_and_misaligned_candles_are_flagged_and_kept_as_they_are() -> None:
    times = [*DAY[:3], DAY[4] + timedelta(seconds=9, milliseconds=789)]
    ends = [
        times[0] + MINUTE - MICRO,
        times[1] + MINUTE - MICRO,
        times[2] + timedelta(seconds=39),
        times[3] + MINUTE - MICRO,
    ]
    result = refined(bronze(times, close_time=ends), "2024-02-05T00:05")
    assert result.rows.select("open_time", "close_time", "is_truncated", "is_misaligned").rows() == [
        (times[0], ends[0], False, False),
        (times[1], ends[1], False, False),
        (times[2], ends[2], True, False),
        (times[3], ends[3], False, True),
    ]
    assert result.facts.gaps[1:] == (GapRun("absent", DAY[3], DAY[4], 1),), (
        "a misaligned row covers the minute it opens in"
    )


def test_inverse_quote_volume_is_contracts_times_their_size() -> None:
    rows = bronze(DAY, contracts=12.0, quote_volume=None, taker_buy_quote_volume=None).with_columns(
        taker_buy_contracts=pl.lit(5.0)
    )
    result = refined(rows, market=facts(COIN, "2024-02-05", contract_size=100.0), cell=Cell("2024-02", COIN))
    assert set(
        result.rows.select("quote_volume", "taker_buy_quote_volume", "contracts", "volume").rows()
    ) == {(1200.0, 500.0, 12.0, 10.0)}


def test_the_order_of_bronze_rows_does_not_matter() -> None:
    rows = pl.concat([bronze(DAY, "monthly"), bronze(DAY[:90], close=101.5), bronze(DAY[50:52], close=100.5)])
    one, other = refined(rows), refined(rows.sample(fraction=1, shuffle=True, seed=3))
    assert one.rows.equals(other.rows)
    assert one.rejected.equals(other.rejected)  # type: ignore[union-attr]
    assert (one.facts, one.inputs) == (other.facts, other.inputs)


def test_doubt_is_about_rows_that_are_absent_doubled_or_broken() -> None:
    cell, market = Cell("2024-02", BTC), facts(listed="2024-02-05", delisted="2024-02-08")
    whole = bronze(minutes("2024-02-05", 3 * 1440), "monthly")
    assert doubt(whole, cell, market) == {}
    assert set(doubt(whole, cell, None).values()) == {Doubt("short", "0 rows where 1440 are expected")}
    broken = pl.concat(
        [
            whole.slice(1, 1439),
            bronze(DAY[5:6], "monthly", close=101.5),
            whole.slice(1440, 5),
            bronze([at("2024-02-06T00:05")], "monthly", low=float("nan")),
            whole.slice(1446),
        ]
    )
    assert doubt(broken, cell, market) == {
        "2024-02-05": Doubt("variants", "1 key with two values"),
        "2024-02-06": Doubt("rules", "rows break a row rule"),
    }


@pytest.mark.parametrize(
    "name", [name for name in CandleArchive.names() if name not in ("open_time", "source_file", "is_removed")]
)
def test_bronze_can_hold_two_rows_that_differ_in_any_one_value(name: str) -> None:
    row = bronze(DAY[:1], contracts=1.0).with_columns(taker_buy_contracts=pl.lit(1.0))
    other = {pl.Float64: pl.lit(1.25), pl.Int64: pl.lit(3, pl.Int64), pl.String: pl.lit("other")}.get(
        row.schema[name], pl.col(name) + MICRO
    )  # type: ignore[call-overload]
    assert CandleArchive.conform(pl.concat([row, row.with_columns(other.alias(name))]), None).height == 2


def test_a_day_that_the_api_states_wholly_otherwise_is_asked_again_and_its_own_rows_are_absent() -> None:
    """It may have been a slip; no witness has to say so."""
    other = bronze(DAY, "api", open=50.0, high=51.0, low=49.0, close=50.5)
    asked = CellFacts(
        asked=(Asked(DAY[0], at("2024-02-06"), NOW, "rows", DAY[0] - MINUTE, at("2024-02-06")),)
    )
    bronze_of = {
        CandleArchive.name: BronzeCell(
            bronze([*DAY[:5], *DAY[6:]]), "v1", CellFacts(asked_until=at("2024-02-06"))
        ),
        CandleApi.name: BronzeCell(other, "v1", asked),
    }
    assert [(span.start, span.end) for span in contradicted(bronze_of)] == [(DAY[0], at("2024-02-06"))]
    found = refine(bronze_of, FEBRUARY, facts(listed="2024-02-05"))
    assert [(run.gap_class, run.start, run.slot_count) for run in found.facts.gaps[1:]] == [
        ("absent", DAY[5], 1)
    ], "of class conflict is what has two values"
    assert (found.facts.evidence, found.rows.height) == ("contradicted", 1439)
    assert [(one.source, one.columns, one.is_wholesale) for one in found.facts.contradictions] == [
        ("api", ("open", "high", "low", "close"), True)
    ]
    assert contradicted({**bronze_of, CandleApi.name: BronzeCell(bronze(DAY, "api"), "v1", asked)}) == []


def test_of_a_sparse_exchange_a_file_without_a_minute_leaves_neither_a_gap_nor_a_doubt() -> None:
    some = bronze([time for time in DAY if time.hour != 3 and time.minute % 7])
    sparse = replace(facts(listed="2024-02-05"), is_sparse=True)
    count = 1440 - some.height
    dense, result = refined(some), refined(some, market=sparse)
    assert (dense.facts.silent_count, result.facts.silent_count, result.facts.quiet_count) == (0, count, 0)
    assert [run.gap_class for run in result.facts.gaps] == ["not_listed"]
    assert sum(run.slot_count for run in dense.facts.gaps) - 4 * 1440 == count
    assert result.rows.equals(dense.rows)
    later = refined(some, "2024-02-07", sparse)
    assert [(run.gap_class, run.slot_count) for run in later.facts.gaps[1:]] == [("absent", 1440)], (
        "of the second day no file was read"
    )
    month = some.with_columns(source=pl.lit("monthly"))
    cell_of_a_day = [f"2024-02-{day:02}" for day in range(5, 30)]
    assert list(doubt(month, FEBRUARY, facts(listed="2024-02-05"))) == cell_of_a_day
    assert doubt(month, FEBRUARY, sparse) == {}
    assert sparse.version_for(FEBRUARY) != facts(listed="2024-02-05").version_for(FEBRUARY)
