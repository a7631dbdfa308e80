"""A market's life is what any dataset says of it, whatever their order, by files or by REST alone."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from lakehouse.datasets.candle import CANDLE, Candle, CandleApi, PublishedCandle
from lakehouse.datasets.dataset import ArchiveTable, Dataset
from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.binance.klines import KlineFiles
from lakehouse.model.cell import Cell
from lakehouse.model.errors import UnknownMarketError
from lakehouse.model.input import Input
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.opening import open_lake
from lakehouse.pipeline.files import FromFiles
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.markets import known_markets, refresh_markets
from lakehouse.pipeline.pages import FromRows
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.sources.markets import discover
from lakehouse.sources.rest.clients import RestClients
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Nothing
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.making import BTC, COIN, NOW, ArchiveFolder, at, klines, text, zipped

from .conftest import serve

SOL, GONE = Market("binance", "spot", "SOLUSDT"), Market("binance", "spot", "NOBODY")


class HourArchive(ArchiveTable, PublishedCandle):
    """Hours that an archive publishes beside the minutes."""

    name = "bronze/hour_archive"
    time = "open_time"
    key = ("open_time", "source", "fetched_at")


class HourCandle(Candle):
    """1h candles."""

    name = "silver/hour"
    inputs = (Input(HourArchive, role="archive"),)


HOURS: Dataset = replace(CANDLE, silver=HourCandle)


class WithHours(Binance):
    """An exchange that publishes both."""

    files = {**Binance.files, HourArchive.name: KlineFiles(Interval.parse("1h"))}


class RestOnly(Binance):
    """An exchange without an archive."""

    files = {}


def put_hours(folder: ArchiveFolder, market: Market, start: str, count: int) -> None:
    """The daily file of hours that a market's day begins with."""
    key = WithHours.files[HourArchive.name].key(market, Period.parse(start[:10]))
    name = key.rsplit("/", 1)[-1]
    folder.put_bytes(key, zipped((name.replace(".zip", ".csv"), text(klines(start, count)))))


@pytest.mark.slow
@pytest.mark.parametrize("datasets", list(permutations([CANDLE, HOURS])), ids=["candle first", "hours first"])
def test_the_order_of_the_registry_does_not_matter(
    datasets: tuple[Dataset, ...], objects: LakeObjects, folder: ArchiveFolder
) -> None:
    folder.put("2022-02-05", text(klines("2022-02-05T10:00", 90)))
    put_hours(folder, BTC, "2022-01-10T04:00", 30)
    put_hours(folder, COIN, "2022-03-01T00:00", 60)
    with serve(folder) as sim:
        exchange = WithHours(sim.url, CLOSED)
        known, failed = discover(
            exchange, datasets, [BTC, COIN, GONE], objects, RestClients(exchange), lambda: NOW
        )
    assert {market: (facts.listed, facts.delisted) for market, facts in known.items()} == {
        BTC: (at("2022-01-10T04:00"), at("2022-02-05T11:30")),  # the hours begin it, the minutes end it
        COIN: (at("2022-03-01"), at("2022-03-01T01:00")),  # nothing but hours
    }
    assert list(failed) == [GONE]
    assert isinstance(failed[GONE], UnknownMarketError)


# --- REST alone -----------------------------------------------------------------------------------


@pytest.fixture
def lake(tmp_path: Path, exchange: Simulator) -> LakeServices:
    """A lake whose exchange has no archive."""
    here = {"binance": RestOnly(CLOSED, exchange.url)}
    return open_lake(
        Settings(root=str(tmp_path / "lake"), start="2024-01"), exchanges=here, clock=lambda: NOW
    )


def test_a_market_with_rest_alone_is_added_and_dated_by_its_first_row(lake: LakeServices) -> None:
    _, changed, failed = refresh_markets(lake, [BTC, SOL, GONE])
    assert changed
    assert {market: facts.listed for market, facts in known_markets(lake).items()} == {
        BTC: at("2021-01-01"),
        SOL: at("2023-05-17T09:30"),
    }
    assert list(failed) == [GONE]
    assert "nothing is published under its REST API" in str(failed[GONE])


def test_an_archive_that_there_is_not_has_nothing_and_rest_is_asked_for_all(lake: LakeServices) -> None:
    cell = Cell("2024-02", BTC)
    refresh_markets(lake, [BTC])
    assert dict(FromFiles(CANDLE).make(Inventory(lake), [cell])) == {cell: Nothing()}
    (question,) = FromRows(CANDLE, CandleApi).due(Inventory(lake), [cell]).reasons[cell]  # type: ignore[misc]
    assert question.span == cell.window


def test_a_market_whose_files_are_not_published_yet_is_found_by_rest(
    exchange: Simulator, objects: LakeObjects, folder: ArchiveFolder
) -> None:
    with serve(folder) as empty:
        here = Binance(empty.url, exchange.url)
        known, failed = discover(here, [CANDLE], [SOL, GONE], objects, RestClients(here), lambda: NOW)
    assert (known[SOL].listed, list(failed)) == (at("2023-05-17T09:30"), [GONE])
