"""What is known of markets, and gaps of all markets in one table."""

import dataclasses

import pytest

from lakehouse.datasets.candle import CANDLE, Candle
from lakehouse.datasets.gap import Gap, gap_frame
from lakehouse.datasets.market import MarketFacts, MarketTable, market_frame
from lakehouse.model.cell import Cell
from lakehouse.model.result import GapRun
from lakehouse.registry import REGISTRY
from lakehouse_tests.making import BTC, COIN, FEBRUARY, at, facts


def test_facts_read_back_from_their_rows() -> None:
    known = [
        facts(),
        dataclasses.replace(
            facts(COIN, "2021-03-01T09:30", "2024-02-02", 100.0), settle="BTC", origin="exchange_info"
        ),
    ]
    frame = MarketTable.conform(market_frame(known), None)
    assert MarketTable.split(frame)[1].height == 0
    assert {MarketFacts.from_row(row) for row in frame.iter_rows(named=True)} == set(known)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (facts(), facts(listed="2021-05-05"), True),
        (facts(), facts(listed="2024-02-01"), True),
        (facts(), facts(listed="2024-02-01T00:01"), False),
        (facts(listed="2024-02-05"), facts(listed="2024-02-06"), False),
        (facts(listed="2024-03-01"), facts(listed="2025-01-01"), True),
        (facts(), facts(delisted="2024-03-01"), True),
        (facts(), facts(delisted="2024-05-01T06:00"), True),
        (facts(), facts(delisted="2024-02-29T23:59"), False),
        (facts(delisted="2024-01-01"), facts(delisted="2024-02-01"), True),
        (facts(), facts(delisted="2024-01-01"), False),
        (facts(), facts(contract_size=100.0), False),
        (facts(), dataclasses.replace(facts(), base="XBT", origin="exchange_info"), True),
    ],
)
def test_facts_that_a_cell_does_not_use_leave_its_inputs_as_they_are(
    one: MarketFacts, other: MarketFacts, equal: bool
) -> None:
    """A market that ends today must not make every cell of its past due."""
    assert (one.version_for(FEBRUARY) == other.version_for(FEBRUARY)) == equal


def test_what_the_exchange_said_outlives_a_time_in_which_it_is_silent() -> None:
    asked = dataclasses.replace(
        facts(COIN, "2021-03-01", "2024-02-02", 100.0), settle="BTC", origin="exchange_info"
    )
    derived = facts(COIN, "2021-02-01")
    assert derived.kept_from(asked) == dataclasses.replace(asked, listed=at("2021-02-01"))
    assert derived.kept_from(None) == derived.kept_from(derived) == derived
    assert asked.kept_from(derived) == asked, "news from the exchange stands"


def test_gaps_of_many_markets_make_one_valid_frame() -> None:
    run, other = (
        GapRun("absent", at("2024-02-05"), at("2024-02-05T00:10"), 10),
        GapRun("conflict", at("2024-02-07"), at("2024-02-07T00:01"), 1),
    )
    frame = Gap.conform(
        gap_frame([(market, "silver/candle", of) for market, of in ((COIN, run), (BTC, other), (BTC, run))]),
        Cell("2024-02"),
    )
    assert Gap.split(frame)[1].height == 0
    assert frame.select("market_type", "symbol", "start_time", "slot_count", "gap_class").rows() == [
        ("inverse", "BTCUSD_PERP", at("2024-02-05"), 10, "absent"),
        ("spot", "BTCUSDT", at("2024-02-05"), 10, "absent"),
        ("spot", "BTCUSDT", at("2024-02-07"), 1, "conflict"),
    ]
    assert gap_frame([]).schema == Gap.polars_schema()


def test_gaps_are_made_from_every_silver_table_with_a_cadence() -> None:
    assert REGISTRY.gap.input_names() == ["silver/candle", "silver/funding_rate"]
    assert REGISTRY.gap is dataclasses.replace(REGISTRY).gap

    class Timed(Candle):
        """Candles under another name."""

        name = "silver/timed"

    class Untimed(Candle):
        """Candles that nobody can tell the absence of."""

        name = "silver/untimed"
        cadence = None  # type: ignore[assignment]

    more = (dataclasses.replace(CANDLE, silver=Timed), dataclasses.replace(CANDLE, silver=Untimed))
    registry = dataclasses.replace(REGISTRY, datasets=(*REGISTRY.datasets, *more))
    assert registry.gap.input_names() == [*REGISTRY.gap.input_names(), "silver/timed"]
    assert (registry.gap.description(), registry.gap.columns) == (Gap.description(), Gap.columns)
    assert registry.gap in registry.upstream([Timed]), "its gaps are told with it"
