"""Sources as nodes: what was seen of them is told where it is seen, and requests nothing."""

from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest

from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.defs.assets import market_event
from lakehouse.defs.describe import asset_key
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellResult
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.simulator import Simulator

from .conftest import BRONZE, BTC, ETH, SILVER, WITNESS, Shell, grid
from .test_propagation import Ticks
from .test_refresh import evaluate

ARCHIVE, REST = dg.AssetKey(["source", "binance_archive"]), dg.AssetKey(["source", "binance_rest"])


def seen(shell: Shell, key: dg.AssetKey) -> list[dict[str, object]]:
    """What was observed of a source, newest first."""
    records = shell.instance.fetch_observations(key, limit=100).records
    found = [record.asset_observation for record in records]
    return [{name: value.value for name, value in one.metadata.items()} for one in found if one]


@pytest.mark.slow
def test_what_is_seen_of_sources_is_told_and_requests_no_cell_and_no_check(
    shell: Shell, sim: Simulator
) -> None:
    shell.build(SILVER, [BTC, ETH])
    ticks = Ticks(shell)
    assert ticks() == {}
    before = len(seen(shell, ARCHIVE))
    assert all(result.success for result in shell.run(BRONZE, grid([BTC, ETH])))
    assert all(result.success for result in shell.run(WITNESS, grid([BTC, ETH])))
    files, rest = seen(shell, ARCHIVE), seen(shell, REST)
    assert len(files) == before + 1
    assert (files[0]["markets"], files[0]["out of reach"]) == (2, 0)
    assert str(files[0]["newest file"]).startswith(("BTCUSDT-1m-2024-03", "ETHUSDT-1m-2024-03"))
    assert abs(float(str(rest[0]["time there"])) - sim.now.timestamp()) < timedelta(hours=1).total_seconds()
    for key in (ARCHIVE, REST):
        shell.instance.report_runless_asset_event(dg.AssetObservation(key, metadata={"newest file": "x"}))
    assert ticks() == {}
    assert ticks.checks() == set()


@pytest.mark.slow
def test_a_tick_tells_of_the_markets_it_could_not_list(
    shell: Shell, lake: LakeServices, sim: Simulator
) -> None:
    shell.build(BRONZE, [BTC, ETH])
    (told,) = evaluate(lake, shell.instance, "archive_published").asset_events
    assert isinstance(told, dg.AssetObservation)
    assert told.asset_key == ARCHIVE
    assert told.metadata["markets"].value == 2


@pytest.mark.slow
def test_news_of_a_market_reach_the_cells_that_are_made_of_it_and_no_others(
    shell: Shell, lake: LakeServices
) -> None:
    shell.build(SILVER, [BTC, ETH])
    ticks = Ticks(shell)
    assert ticks() == {}
    facts = known_markets(lake)
    ended = facts | {ETH: replace(facts[ETH], delisted=facts[ETH].delisted - timedelta(hours=1))}  # type: ignore[operator]

    def publish(known: dict) -> None:  # type: ignore[type-arg]
        record = lake.tables.put(MarketTable, None, CellResult(market_frame(list(known.values())), {}))
        shell.instance.report_runless_asset_event(market_event(lake, record))

    publish(facts)
    assert ticks() == {}, "written again, and the same"
    publish(ended)
    assert ticks() == {SILVER: {Cell("2024-03", ETH)}}
    assert all(result.success for result in shell.run(SILVER, [Cell("2024-03", ETH)]))
    assert (
        asset_key(MarketTable) in shell.definitions.resolve_asset_graph().get(asset_key(SILVER)).parent_keys
    )
