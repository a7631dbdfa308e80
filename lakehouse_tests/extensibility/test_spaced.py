"""A dataset that is keyed by another time than a candle's, spaces itself, and is published by months and REST
alone: funding rates, every eight hours and then every four.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse.datasets.dataset import ApiTable, ArchiveTable, BronzeCells, Dataset, input_versions
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.api import (
    Budget,
    ExchangeInfo,
    InfoCall,
    PageRules,
    Pages,
    Refusal,
    RestApi,
    RestCall,
)
from lakehouse.model.cell import Cell
from lakehouse.model.input import Input
from lakehouse.model.market import Market, MarketType
from lakehouse.model.period import Period
from lakehouse.model.result import CellFacts, CellResult
from lakehouse.model.table import UTC_TIME, Column, Table
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.transform.history import newest
from lakehouse_tests.extensibility.toys import (
    answering,
    build,
    from_milliseconds,
    milliseconds,
    put,
    require_shown,
    seconds,
    toy_lake,
)
from lakehouse_tests.making import at
from lakehouse_tests.test_extensibility import COINS, Kiosk, KioskFiles

NOW = at("2024-02-03T13:30")
EIGHT, FOUR = timedelta(hours=8), timedelta(hours=4)
TIMES = [at("2024-01-30") + n * EIGHT for n in range(6)] + [at("2024-02-01") + n * FOUR for n in range(60)]
TABLES = ("bronze/funding_archive", "bronze/funding_api", "silver/funding")


class FundingArchive(ArchiveTable):
    """Funding rates, as published by month."""

    name = "bronze/funding_archive"
    key = ("funding_time", "source", "fetched_at", "source_sha256")
    time = "funding_time"

    funding_time = Column(UTC_TIME, "When it is paid", "UTC")
    rate = Column(pl.Float64, "Paid by longs to shorts, of the value", nullable=True)


class FundingApi(ApiTable):
    """Funding rates by REST."""

    name = "bronze/funding_api"
    key = ("funding_time", "source", "fetched_at", "source_sha256")
    time = "funding_time"
    inputs = (Input(FundingArchive, required=False),)

    funding_time = Column(UTC_TIME, "When it is paid", "UTC")
    rate = Column(pl.Float64, "Paid by longs to shorts, of the value", nullable=True)


class Funding(Table):
    """Funding rates."""

    name = "silver/funding"
    key = ("funding_time",)
    time = "funding_time"
    inputs = (Input(FundingArchive, role="archive"), Input(FundingApi, role="api"))

    funding_time = Column(UTC_TIME, "When it is paid", "UTC")
    rate = Column(pl.Float64, "Paid by longs to shorts, of the value")


def refine(bronze: BronzeCells, cell: Cell, market: MarketFacts) -> CellResult:
    parts = [
        bronze[name].rows.select(FundingArchive.names()) for name in Funding.input_names() if name in bronze
    ]
    rows = newest(pl.concat(parts), Funding.key).unique(Funding.key, keep="first", maintain_order=True)
    return CellResult(
        rows.select(Funding.names()), input_versions(Funding, bronze, cell, market), CellFacts()
    )


FUNDING = Dataset(Funding, refine, lambda rows, cell, market, witness: {})


class FundingPages(Pages):
    """Funding rates as the API answers them."""

    def rules(self, market_type: MarketType) -> PageRules:
        return PageRules(((1000, 1),))

    def call(self, market: Market, start: datetime | None, end: datetime | None, limit: int) -> RestCall:
        bounds = {"startTime": milliseconds(start)} if start else {}
        bounds |= {"endTime": milliseconds(end) - 1} if end else {}
        return RestCall("fapiPublicGetFundingRate", {"symbol": market.symbol, "limit": limit, **bounds}, 1)

    def read(self, market: Market, answer: Any) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "funding_time": [from_milliseconds(row["fundingTime"]) for row in answer],
                "rate": [float(row["fundingRate"]) for row in answer],
            },
            schema={"funding_time": UTC_TIME, "rate": pl.Float64},
        )


class Payer(RestApi):
    """Where the API is, and its clock."""

    exchange, setting = "binance", "LAKEHOUSE_PAYER_REST_URL"
    budget = Budget(1000, "X-Weight")
    began = at("2020-01-01")

    def __init__(self, url: str) -> None:
        self.url = f"{url}/fapi/v1"
        self.ccxt_urls = {"fapiPublic": self.url}

    def time_call(self) -> RestCall:
        return RestCall("fapiPublicGetTime", {}, 1)

    def read_time(self, answer: Any) -> datetime:
        return from_milliseconds(answer["serverTime"])

    def budget_call(self) -> RestCall:
        return self.time_call()

    def read_budget(self, answer: Any) -> int | None:
        return self.budget.weight

    def info_call(self) -> InfoCall:
        return InfoCall(f"{self.url}/time", {})

    def read_info(self, answer: Any) -> ExchangeInfo:
        return ExchangeInfo({}, {})

    def refusal(self, code: int) -> Refusal:
        return "refused"


class FundingFiles(KioskFiles):
    """Months of funding rates."""

    kinds = ("month",)

    def parse(self, market: Market, key: str, csv: bytes) -> pl.DataFrame:
        raw = pl.read_csv(csv, has_header=False, new_columns=["funding_time", "rate"])
        return raw.with_columns((pl.col("funding_time") * 1_000_000).cast(UTC_TIME))


class Bourse(Kiosk):
    """Publishes months of funding rates, and answers with them."""

    name = "bourse"
    files = {FundingArchive.name: FundingFiles(FundingArchive.name)}
    pages = {FundingApi.name: FundingPages()}

    def rest_api(self, market_type: MarketType) -> RestApi:
        assert self.rest_url is not None
        return Payer(self.rest_url)


MARKET = Market("bourse", COINS.market_type, COINS.symbol)


def rates(query: Mapping[str, str]) -> list[dict[str, object]]:
    """What the API answers: oldest first, at most a limit."""
    first = from_milliseconds(query["startTime"]) if "startTime" in query else TIMES[0]
    last = from_milliseconds(query["endTime"]) if "endTime" in query else NOW
    found = [time for time in TIMES if first <= time <= min(last, NOW)][: int(query["limit"])]
    return [{"symbol": "COIN", "fundingTime": milliseconds(time), "fundingRate": "0.0001"} for time in found]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeServices]:
    """A lake beside an archive with January, and an API that has February as well."""
    january = [f"{seconds(time)},0.0001" for time in TIMES if time < at("2024-02-01")]
    put(tmp_path, Bourse.files[FundingArchive.name].key(MARKET, Period.parse("2024-01")), january)
    api = {"/time": lambda query: {"serverTime": milliseconds(NOW)}, "/fundingRate": rates}
    with answering(api) as url, toy_lake(tmp_path, Bourse, NOW, (FUNDING,), rest_url=url) as opened:
        yield opened


@pytest.mark.parametrize("name", TABLES)
def test_a_table_with_a_time_of_its_own_appears_wherever_tables_are_shown(
    lake: LakeServices, name: str
) -> None:
    require_shown(lake, name, ["exchange", "market_type", "symbol", "month"])


@pytest.mark.slow
def test_it_builds_from_months_and_rest_whatever_its_steps(lake: LakeServices) -> None:
    versions = build(lake, "silver/funding", [MARKET], "2024-01", "2024-03")
    stored = lake.ledger("silver/funding")
    assert versions["silver/funding"] == {str(cell): record.version for cell, record in stored.items()}
    assert set(versions["silver/funding"]) == {"2024-01|bourse-spot:COIN", "2024-02|bourse-spot:COIN"}
    reader = Lake(lake.objects.root, lake.registry)
    rows = reader.sql("SELECT funding_time, rate FROM silver.funding WHERE symbol = 'COIN' ORDER BY 1")
    assert rows["funding_time"].to_list() == [time for time in TIMES if time < NOW]
    assert set(rows["rate"]) == {0.0001}
    part = reader.scan("funding", MARKET.key, "2024-01-31", "2024-02-01T05:00").collect()
    assert part["funding_time"].to_list() == [
        time for time in TIMES if at("2024-01-31") <= time < at("2024-02-01T05:00")
    ]
    sources = reader.sql("SELECT DISTINCT source FROM bronze.funding_api")
    assert sources.rows() == [("api",)]
