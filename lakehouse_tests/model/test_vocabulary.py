"""Markets, intervals, cells, facts and errors."""

import json
import pickle
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    ArchiveFileError,
    ChecksumMismatchError,
    LakehouseError,
    MarketKeyError,
    UnknownIntervalError,
)
from lakehouse.model.interval import COARSE, INTERVALS, Interval
from lakehouse.model.market import MARKET_TYPES, Market, symbol_fault
from lakehouse.model.result import Asked, CellFacts, GapRun, Problem
from lakehouse_tests.making import BTC, FEBRUARY, NOW, at

symbols = st.text(
    st.characters(whitelist_categories=("L",), whitelist_characters="0123456789_-."), min_size=1, max_size=12
).filter(lambda text: not symbol_fault(text))


@given(st.sampled_from(MARKET_TYPES), symbols)
def test_a_market_key_reads_back(market_type: str, symbol: str) -> None:
    market = Market("binance", market_type, symbol)  # type: ignore[arg-type]
    assert Market.parse(market.key) == Market.parse(f"  {market} ") == market


@pytest.mark.parametrize(
    "key",
    [
        "",
        "BTCUSDT",
        "binance:BTCUSDT",
        "binance-spot",
        "binance-spot:",
        "binance-um:BTCUSDT",
        "Binance-spot:BTC",
        "binance-spot:A,B",
        "binance-spot:A|B",
        "a-spot:B C",
        None,
        ["binance-spot:BTCUSDT"],
    ],
)
def test_other_market_keys_are_refused_with_an_example(key: str) -> None:
    with pytest.raises(MarketKeyError, match=r"spot, linear, inverse, such as binance-spot:BTCUSDT"):
        Market.parse(key)


@pytest.mark.parametrize(
    "symbol",
    ["..", ".", "a/b", "../BTCUSDT", "a\\b", 'a"b', "a%2Fb", "a%2fb", "%2e%2E", "a\0b", "a\x1bb", "a\u202eb"],
)
def test_a_symbol_that_would_be_no_single_name_in_a_path_is_refused(symbol: str) -> None:
    with pytest.raises(MarketKeyError, match=r"its symbol .*\. Expected .*, such as binance-spot:BTCUSDT"):
        Market.parse(f"binance-spot:{symbol}")


@pytest.mark.parametrize("symbol", ["", "a\nb", "a\r\nb", "a b", "a\u2028b"])
def test_a_symbol_with_a_space_a_line_end_or_nothing_is_refused(symbol: str) -> None:
    with pytest.raises(MarketKeyError, match=r"such as binance-spot:BTCUSDT"):
        Market.parse(f"binance-spot:{symbol}")


@pytest.mark.parametrize(
    "symbol",
    [
        "币安人生USDT",
        "1000SATSUSDT",
        "BTCUSDT_240329",
        "BTCUSD_PERP",
        "A.B",
        "X-Y",
        "NULL",
        "__X__",
        "Ñandú",
        "日本語",
        "إختبار",
        "2024-01",
        "a" * 64,
    ],
)
def test_odd_symbols_that_are_names_are_taken(symbol: str) -> None:
    assert Market.parse(f"binance-spot:{symbol}").symbol == symbol


def test_intervals_are_known_by_name_and_divide_a_day() -> None:
    assert [str(interval) for interval in INTERVALS] == ["1m", "5m", "15m", "1h", "4h", "1d"]
    for interval in INTERVALS:
        assert Interval.parse(interval.name) is interval
        assert timedelta(days=1) % interval.delta == timedelta(0)
    assert all(interval.minutes > 1 for interval in COARSE)
    with pytest.raises(UnknownIntervalError, match="1m, 5m, 15m, 1h, 4h, 1d"):
        Interval.parse("1M")


def test_a_cell_knows_its_window() -> None:
    day = Cell("2024-02-29", BTC)
    assert (FEBRUARY.grain, FEBRUARY.window.start, FEBRUARY.window.end) == (
        "month",
        at("2024-02-01"),
        at("2024-03-01"),
    )
    assert (day.grain, day.window.start, day.window.end) == ("day", at("2024-02-29"), at("2024-03-01"))
    assert (FEBRUARY.shift(-2), FEBRUARY.shift(11)) == (Cell("2023-12", BTC), Cell("2025-01", BTC))
    assert (str(FEBRUARY), str(Cell("2024-02"))) == ("2024-02|binance-spot:BTCUSDT", "2024-02")
    assert sorted([FEBRUARY, Cell("2024-01"), Cell("2024-01", BTC)], key=lambda cell: cell.sort_key) == [
        Cell("2024-01"),
        Cell("2024-01", BTC),
        FEBRUARY,
    ]
    with pytest.raises(TypeError, match="all markets"):
        Cell("2024-02").own_market  # noqa: B018


instants = st.none() | st.sampled_from([NOW, NOW + timedelta(seconds=1)])
runs = st.builds(
    GapRun,
    st.sampled_from(["not_listed", "halt", "conflict", "absent"]),
    st.just(NOW),
    st.just(NOW + timedelta(hours=1)),
    st.integers(1, 60),
    instants,
    instants,
)
problems = st.builds(
    Problem,
    st.text(max_size=5),
    st.sampled_from(["short", "corrupt"]),
    st.text(max_size=5),
    st.text(max_size=5),
)
askings = st.builds(
    Asked,
    st.just(NOW),
    st.just(NOW + timedelta(hours=1)),
    st.just(NOW),
    st.sampled_from(["rows", "empty", "unreachable"]),
    instants,
    instants,
)
cell_facts = st.builds(
    CellFacts,
    st.lists(runs, max_size=3).map(tuple),
    st.integers(0, 5),
    st.sampled_from([None, "unconfirmed", "rows_daily"]),
    st.sampled_from([None, NOW]),
    st.lists(problems, max_size=2).map(tuple),
    st.lists(askings, max_size=2).map(tuple),
    st.integers(0, 5),
    st.lists(st.just("2024-02-05"), max_size=1).map(tuple),
    instants,
    st.none() | st.integers(0, 5),
    st.lists(st.just(NOW), max_size=2).map(tuple),
    st.sampled_from(["", "a", "b"]),
)


@given(cell_facts)
def test_facts_read_back_from_json(facts: CellFacts) -> None:
    assert CellFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_facts_of_an_earlier_release_still_read() -> None:
    run = {
        "gap_class": "absent",
        "start": "2024-02-05T00:00:00+00:00",
        "end": "2024-02-05T00:10:00+00:00",
        "slot_count": 10,
    }
    old = {
        "gaps": [run],
        "conflict_count": 2,
        "evidence": "rows_daily",
        "asked_until": None,
        "problems": [{"subject": "a", "kind": "short", "detail": "b", "healed_by": ""}],
    }
    expected = GapRun("absent", at("2024-02-05"), at("2024-02-05T00:10"), 10)
    assert CellFacts.from_json(old) == CellFacts(
        (expected,), 2, "rows_daily", None, (Problem("a", "short", "b"),)
    )


@given(cell_facts, cell_facts)
def test_the_digest_of_facts_is_of_what_readers_are_told_about_gaps_and_proof(
    one: CellFacts, other: CellFacts
) -> None:
    said = [
        (
            [replace(run, asked_at=None) for run in facts.gaps],
            facts.conflict_count,
            facts.unsettled_count,
            facts.conflict_digest,
            facts.evidence,
            facts.asked_until,
        )
        for facts in (one, other)
    ]
    assert (one.digest() == other.digest()) == (said[0] == said[1])


@given(cell_facts, instants, askings)
def test_asking_again_and_being_told_the_same_is_no_news(
    facts: CellFacts, asked_at: datetime | None, asking: Asked
) -> None:
    again = replace(
        facts, gaps=tuple(replace(run, asked_at=asked_at) for run in facts.gaps), asked=(*facts.asked, asking)
    )
    assert again.digest() == facts.digest()
    halted = replace(facts, gaps=(*facts.gaps, GapRun("halt", NOW, NOW + timedelta(hours=1), 60)))
    assert (
        halted.digest()
        != replace(halted, gaps=(*facts.gaps, replace(halted.gaps[-1], halted_at=NOW))).digest()
    )


def test_an_error_about_a_file_names_it_and_crosses_processes() -> None:
    error = ChecksumMismatchError("data/x.zip", "a" * 64, "b" * 64)
    assert (error.key, error.outcome, ArchiveFileError("k", "m").outcome) == (
        "data/x.zip",
        "mismatch",
        "corrupt",
    )
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, LakehouseError)
    assert str(copy) == str(error)
    assert str(error).startswith("data/x.zip: sha256 is bbbbbbbbbbbb…, published is aaaaaaaaaaaa…")
