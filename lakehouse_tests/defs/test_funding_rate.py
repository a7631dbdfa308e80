"""Funding rates in Dagster: of the one set of markets, those without the table have no cell and no event."""

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.verifying import verify
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse_tests.defs.conftest import Shell
from lakehouse_tests.making import at

NOW = at("2024-04-10T12:00")
TABLES = ("bronze/funding_rate_archive", "bronze/funding_rate_api", "silver/funding_rate")
SPOT, PERP, COIN, DELIVERY = (
    Market("binance", "spot", "AAAUSDT"),
    Market("binance", "linear", "AAAUSDT"),
    Market("binance", "inverse", "AAAUSD_PERP"),
    Market("binance", "linear", "AAAUSDT_240329"),
)
SPAN = TimeRange.parse("2024-02", "2024-05")


def listed(market: Market, until: datetime | None = None) -> SimulatedMarket:
    quote, digits = ("USD", 0) if market.market_type == "inverse" else ("USDT", 3)
    since = at("2024-02-25")
    return SimulatedMarket(
        market.market_type, market.symbol, "AAA", quote, Decimal(100), 5000, 2, digits, since, until
    )


LISTED = (listed(SPOT), listed(PERP), listed(COIN), listed(DELIVERY, at("2024-03-29T08:00")))
MARKETS = [SPOT, PERP, COIN, DELIVERY]


def opened(folder: Path, sim: Simulator) -> LakeServices:
    settings = Settings(
        root=str(folder), start="2024-02", binance_archive_url=sim.url, binance_rest_url=sim.url
    )
    return open_lake(settings, clock=lambda: sim.now)


@pytest.mark.slow
def test_markets_without_funding_log_nothing_and_a_second_run_finds_the_work_done(tmp_path: Path) -> None:
    with Simulator(LISTED, now=NOW) as sim, dg.DagsterInstance.ephemeral() as instance:
        shell = Shell(opened(tmp_path / "lake", sim), instance)
        reports = shell.build("gold/funding_carry", MARKETS, SPAN)
        assert {name: report.failed for name, report in reports.items() if report.failed} == {}
        for name in (*TABLES, "gold/funding_carry"):
            assert {cell.market for cell in shell.lake.ledger(name)} == {PERP, COIN}, name
            keys = instance.get_materialized_partitions(dg.AssetKey(name.split("/")))
            assert {key.split("|")[1] for key in keys} == {PERP.key, COIN.key}, name
        assert {cell.date for cell in shell.lake.ledger(TABLES[2])} == {"2024-02", "2024-03", "2024-04"}
        again = shell.build("gold/funding_carry", MARKETS, SPAN)
        assert {name: report.built for name, report in again.items() if report.built} == {}
        levels = {str(cell): found.facts.evidence for cell, found in shell.lake.ledger(TABLES[2]).items()}
        assert levels[f"2024-02|{PERP.key}"] == "archive"
        assert levels[f"2024-04|{PERP.key}"] == "api"
        for market, why in ((SPOT, "linear and inverse markets alone"), (DELIVERY, "contracts such as this")):
            assert all(result.success for result in shell.run(TABLES[2], [Cell("2024-03", market)]))
            note = shell.events(TABLES[2])[-1].metadata["note"].value
            assert str(note).startswith(f"There is no {TABLES[2]} of {market.key}: {why}"), note
        found = verify(shell.lake, instance, [PERP], None, 100, table=TABLES[2])
        assert (found.failed, {one.evidence for one in found.verified}) == ({}, {"rows_both"})


@pytest.mark.slow
def test_what_days_of_builds_leave_is_what_one_build_makes(tmp_path: Path) -> None:
    """With the file of a month appearing in between: REST has told of that month before, so its evidence is
    better, and its mark prices are known.
    """
    with (
        Simulator(LISTED[1:3], now=at("2024-02-29T23:30")) as sim,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        for day in range(4):  # of a process a day, whose clients ask for the time anew
            daily = Shell(opened(tmp_path / "daily", sim), instance)
            daily.build("gold/funding_carry", [PERP, COIN], SPAN)
            if day < 3:
                sim.advance(timedelta(hours=20))
        silver = daily.lake.registry.table(TABLES[2])
        with dg.DagsterInstance.ephemeral() as other:
            fresh = Shell(opened(tmp_path / "fresh", sim), other)
            fresh.build("gold/funding_carry", [PERP, COIN], SPAN)
            values = ["funding_time", "rate", "published_time"]
            for cell in (Cell(month, market) for month in ("2024-02", "2024-03") for market in (PERP, COIN)):
                grown, made = daily.lake.tables.get(silver, cell), fresh.lake.tables.get(silver, cell)
                assert grown is not None
                assert made is not None
                assert grown.rows.select(values).equals(made.rows.select(values))
            march = {
                str(cell): record.version
                for cell, record in daily.lake.ledger(TABLES[2]).items()
                if cell.date == "2024-03"
            }
            assert march == {
                str(cell): fresh.lake.ledger(TABLES[2])[cell].version
                for cell in daily.lake.ledger(TABLES[2])
                if cell.date == "2024-03"
            }
