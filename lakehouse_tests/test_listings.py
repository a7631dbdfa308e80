"""What every command, query and tick lists of the store: no table twice, and one market's folders where one
is named.
"""

from collections.abc import Callable, Iterator

import pytest

from benchmarks.scale import NOW, OPEN, make_lake, simulated
from lakehouse.cli.planning import Plan, meant
from lakehouse.cli.status import look
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.ops.attempts import Attempts
from lakehouse.ops.quality import lake_quality
from lakehouse.pipeline import refresh
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.layout import market_prefix
from lakehouse.storage.objects import LakeObjects

COUNT, MONTHS = 3, 3
ONE = Market("binance", "spot", "C001USDT")
CELLS = [table for table in REGISTRY.tables if table.spread != "one"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeServices]:
    """A lake of three markets by three months in which nothing is due."""
    root = str(tmp_path_factory.mktemp("listings") / "lake")
    markets = simulated(COUNT, MONTHS)
    make_lake(root, markets, MONTHS)
    with Simulator(markets=markets, now=NOW) as exchange:
        urls = {"binance_archive_url": exchange.url, "binance_rest_url": exchange.url}
        yield open_lake(Settings(root=root, **urls), clock=lambda: NOW)  # type: ignore[arg-type]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of tables that are listed."""
    found, listing = list[str](), LakeObjects.list

    def counted(self: LakeObjects, prefix: str):  # type: ignore[no-untyped-def]
        if not prefix.startswith(("landing", "quarantine")):
            found.append(prefix)
        return listing(self, prefix)

    monkeypatch.setattr(LakeObjects, "list", counted)
    return found


UNIVERSE = [Market("binance", "spot", f"C{number:03}USDT") for number in range(COUNT)]
AT_NO_HOME = Settings(dagster_home="/nowhere")  # type: ignore[arg-type]
WHOLE: dict[str, Callable[[LakeServices], object]] = {
    "status": lambda lake: [row["due"] for row in look(lake, AT_NO_HOME).tables if row["due"]],
    "failed_cells": lambda lake: refresh.failed_cells(lake, UNIVERSE, {}, Attempts()).wanted,
    "candles_closed": lambda lake: refresh.candles_closed(lake, UNIVERSE, {}, Attempts()).wanted,
    "archive_published": lambda lake: (
        refresh.archive_published(lake, UNIVERSE, {}, Attempts(), refresh.Round(full_at=NOW)).wanted
    ),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_look_at_the_whole_lake_lists_no_table_twice(
    lake: LakeServices, listed: list[str], what: str
) -> None:
    assert not WHOLE[what](lake), "nothing is due"
    assert sorted(listed) == sorted(set(listed))
    folders = {market_prefix(table, market) for table in CELLS for market in UNIVERSE}
    assert set(listed) <= {table.name for table in REGISTRY.tables} | folders


OF_ONE: dict[str, tuple[Callable[[Lake], object], int]] = {
    "gaps": (lambda lake: lake.gaps(ONE), 1),
    "dataset_id": (lambda lake: lake.dataset_id("gold/vwap", ONE), 1),
    "scan": (lambda lake: lake.scan("silver/candle", ONE), 1),
    "scan, collected": (lambda lake: lake.scan("silver/candle", ONE).collect(), 4),
    "quality": (lambda lake: lake_quality(lake, REGISTRY.table("silver/candle"), [ONE], NOW), 4),
    "candles": (lambda lake: lake.candles(ONE, OPEN), 4),
    "sql by arguments": (lambda lake: lake.sql("SELECT count(*) FROM silver.candle", markets=ONE), 4),
    "sql by its WHERE": (
        lambda lake: lake.sql(
            f"SELECT count(*) FROM silver.candle WHERE symbol = '{ONE.symbol}' AND month = '{OPEN}' AND "
            "market_type = 'spot' AND exchange = 'binance'"
        ),
        4,
    ),
}


@pytest.mark.parametrize("what", OF_ONE)
def test_what_names_a_market_lists_its_folders_alone(
    lake: LakeServices, listed: list[str], what: str
) -> None:
    ask, most = OF_ONE[what]
    ask(Lake(lake.objects.root))
    assert 1 <= len(listed) <= most
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) <= {market_prefix(table, ONE) for table in CELLS}


def test_a_plan_lists_no_table_twice(lake: LakeServices, listed: list[str]) -> None:
    plan = Plan(lake, [ONE], TimeRange.parse("2024-08-01", "2024-11-01"))
    for table in CELLS:
        assert meant(plan.has, table, plan.cells[0])[1] == []
    assert sorted(listed) == sorted(set(listed))
