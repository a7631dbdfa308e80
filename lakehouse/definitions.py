"""What Dagster loads: every declared table as an asset, its checks, the sensor that carries news downstream, and those that fetch it."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from lakehouse.defs.automation import automation_sensor
from lakehouse.defs.bronze import bronze_assets, market_asset
from lakehouse.defs.catalog import catalog_asset
from lakehouse.defs.checks import checks_of
from lakehouse.defs.gold import feature_asset
from lakehouse.defs.io_manager import LakeIOManager
from lakehouse.defs.sensors import Refresh, refresh_sensors
from lakehouse.defs.services import LakeServices
from lakehouse.defs.silver import conflict_asset, gap_asset, silver_asset
from lakehouse.exchanges import EXCHANGES
from lakehouse.exchanges.clock import ExchangeClock
from lakehouse.exchanges.exchange import Exchange
from lakehouse.privacy import keep_private
from lakehouse.registry import REGISTRY, Registry
from lakehouse.settings import Settings
from lakehouse.storage.catalog import GlueCatalog
from lakehouse.storage.objects import LakeObjects


def open_lake(settings: Settings, registry: Registry = REGISTRY, exchanges: Mapping[str, Exchange] | None = None, **more: Any) -> LakeServices:
    """The lake that settings describe.

    Args:
        settings: Where it lies and where its sources are.
        registry: The declared tables.
        exchanges: Exchanges by name; those of `exchanges/` if left out.
        more: Further fields of `LakeServices`.
    """
    if exchanges is None:
        elsewhere = {"binance": (settings.binance_archive_url, settings.binance_rest_url)}
        exchanges = {exchange.name: exchange(*elsewhere.get(exchange.name, ())) for exchange in EXCHANGES}
    objects = LakeObjects(settings.root)
    catalog = GlueCatalog(settings.glue_database, objects) if settings.glue_database else None
    if settings.clock == "exchange":
        more = {"clock": ExchangeClock(exchanges["binance"])} | more
    return LakeServices(objects, exchanges, registry, settings.start, catalog, **more)


def build_definitions(lake: LakeServices, refresh: Refresh | None = None) -> dg.Definitions:
    """All assets, checks, sensors and resources of a lake.

    Args:
        lake: The lake.
        refresh: How it is kept current; by default by sensors that wait to be switched on.
    """
    registry = lake.registry
    assets = [market_asset(lake)]
    for dataset in registry.datasets:
        assets += [*bronze_assets(dataset, lake), silver_asset(dataset, lake)]
    assets += [gap_asset(lake), conflict_asset(lake), *(feature_asset(feature, lake) for feature in registry.features)]
    if lake.catalog is not None:
        assets += [catalog_asset(table, lake) for table in registry.tables if table.zone() != "bronze"]
    return dg.Definitions(
        assets=assets,
        asset_checks=[checks_of(table) for table in registry.tables],
        sensors=[automation_sensor(), *refresh_sensors(lake, refresh or Refresh())],
        executor=dg.in_process_executor,  # a process per step costs seconds of imports each, and every check is a step
        resources={"lake": lake, "io_manager": LakeIOManager(lake), "duckdb": DuckDBResource(database=":memory:")},
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The lake of this environment."""
    keep_private()
    settings = Settings()
    return build_definitions(open_lake(settings), Refresh(settings.refresh, settings.candles_every, settings.add_markets))
