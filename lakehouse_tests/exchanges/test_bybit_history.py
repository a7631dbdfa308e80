"""A history by REST alone: what it costs is said before it begins, and the newest of it comes first."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from lakehouse.cli.building import Builder
from lakehouse.cli.instance import open_instance
from lakehouse.cli.planning import Plan
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.storage.layout import cell_path
from lakehouse_tests.commands import Run, environment, in_process
from lakehouse_tests.making import at

pytestmark = pytest.mark.slow

NOW = at("2024-01-02T12:30")
KEY = "bybit-linear:BTCUSDT"
TRADED = SimulatedMarket(
    "linear",
    "BTCUSDT",
    "BTC",
    "USDT",
    Decimal(45_000),
    150,
    1,
    3,
    listed=at("2023-10-30"),
    exchange="bybit",
)
MARKET = Market.parse(KEY)
RANGE = ("--markets", KEY, "--from", "2023-01", "--to", "2024-02")
MINUTES, SILVER = "bronze/candle_api", "silver/candle"
# pages of minutes of three months, a side of each and the other of those that are over; a page of hours each
MINUTE_REQUESTS, HOUR_REQUESTS = 44 + 45 + 3 + 3 + 2, 3


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator([TRADED], now=NOW) as running:
        yield running


@pytest.fixture
def command(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    settings = environment(tmp_path, sim.url) | {"LAKEHOUSE_CLOCK": "exchange", "LAKEHOUSE_START": "2023-11"}
    return in_process(tmp_path, settings, monkeypatch, capsys)


def asked_months(sim: Simulator) -> list[str]:
    """The months of which candles were asked for, in order, once for each page."""
    queries = [parse_qs(urlsplit(path).query) for _, path in sim.requests if "/kline?" in path]
    ends = (int(query["end"][0]) / 1000 for query in queries)
    return [f"{datetime.fromtimestamp(end, UTC):%Y-%m}" for end in ends]


def test_what_it_costs_is_said_before_and_is_what_it_costs(command: Run, sim: Simulator) -> None:
    said = command("build", SILVER, *RANGE, "--dry-run", "--format", "json").json
    cost = {
        "exchange": "bybit",
        "cells": 6,
        "requests": MINUTE_REQUESTS + HOUR_REQUESTS,
        "seconds": 0.0,
        "megabytes": pytest.approx(7.3, abs=0.1),
    }
    assert said["rest"] == [cost], "of the lake's months alone, though the market is older"
    due = {row["table"]: row["due"] for row in said["tables"] if row["due"]}
    assert due == {"bronze/candle_witness": 3, MINUTES: 3}
    backfill = command("backfill", SILVER, *RANGE, "--dry-run", "--format", "json").json
    assert backfill["rest"] == [cost]
    assert [(run["first"][:7], run["last"][:7]) for run in backfill["runs"]] == [
        ("2024-01", "2024-01"),
        ("2023-11", "2023-12"),
    ]

    sim.advance(timedelta(minutes=1))  # the time is reckoned on between two answers: what was learnt is past
    sim.reset_requests()
    done = command("build", SILVER, *RANGE)
    assert done.code == 0, done.said
    sentence = "bybit: 6 cells by REST, about 100 requests and 7 MB, which take 0 s at least by the budget."
    assert sentence in done.said
    asked = asked_months(sim)
    assert len(asked) == MINUTE_REQUESTS + HOUR_REQUESTS
    assert command("build", SILVER, *RANGE, "--dry-run", "--format", "json").json["rest"] == []

    lake = open_lake(Settings())
    assert command("status", "--format", "json").json["to_ask"] == []
    for month in ("2023-12", "2023-11"):  # the first of them is looked at each hour, and is no history
        lake.objects.delete(cell_path(lake.registry.table(MINUTES), Cell(month, MARKET)))
    (lacking,) = command("status", "--format", "json").json["to_ask"]
    assert (lacking["cells"], lacking["requests"]) == (1, 44 + 2)
    assert "Not asked for yet of what was begun: bybit: 1 cell by REST" in command("status").said


def test_the_newest_year_can_be_read_while_the_others_come(command: Run, sim: Simulator) -> None:
    lake = open_lake(Settings())
    made: list[tuple[str, str]] = []
    lake.progress = lambda table, cell, outcome: made.append((table, cell.date))
    with open_instance(Settings()) as instance:
        plan = Plan(lake, [MARKET], TimeRange.parse("2023-01", "2024-02"))
        sim.reset_requests()
        Builder(lake, instance).carry_out(plan, lake.registry.named("gold/volatility"))
        logged = [
            entry.user_message
            for run in instance.get_runs()
            for entry in instance.all_logs(run.run_id)
            if "by REST, about" in entry.user_message
        ]
    minutes = [date for table, date in made if table == MINUTES]
    assert minutes == ["2024-01", "2023-12", "2023-11"]
    assert made.index((SILVER, "2024-01")) < made.index((MINUTES, "2023-12"))
    assert sorted(re.findall(r"(\d+) cells? by REST, about (\d+) request", " ".join(logged))) == [
        ("1", "1"),
        ("1", "4"),
        ("2", "2"),
        ("2", "93"),
    ], "hours and minutes, by year"
    again = Plan(lake, [MARKET], TimeRange.parse("2023-01", "2024-02"))
    assert not any(again.outlook(lake.registry.named("gold/volatility")).values()), "across years, too"
    found = {str(cell): record.inputs for cell, record in lake.ledger("gold/volatility").items()}
    assert "silver/candle@2023-12" in found[f"2024-01|{KEY}"]
