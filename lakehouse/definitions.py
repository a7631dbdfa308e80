"""What Dagster loads: every declared table as an asset, its checks, the sensor that carries news downstream,
and those that fetch it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

import lakehouse
from lakehouse.defs.alerting import Alerts, alert_sensor
from lakehouse.defs.assets import market_asset, table_asset
from lakehouse.defs.automation import automation_sensor
from lakehouse.defs.catalog import catalog_asset
from lakehouse.defs.checks import checks_of
from lakehouse.defs.io_manager import LakeIOManager
from lakehouse.defs.jobs import named_jobs
from lakehouse.defs.quality import quality_asset, quality_schedule
from lakehouse.defs.resources import fixed, fixed_io_manager
from lakehouse.defs.sensors import Refresh, refresh_sensors
from lakehouse.defs.sources import source_specs
from lakehouse.logs import hush_idle_looks, log_as
from lakehouse.opening import open_lake
from lakehouse.pipeline.alert_facts import Watch
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.privacy import keep_private
from lakehouse.settings import Settings


@dataclass(frozen=True, slots=True)
class Repository:
    """Where the code of assets can be read.

    Attributes:
        url: Of the repository.
        commit: The branch or commit that is deployed.
    """

    url: str
    commit: str


def build_definitions(
    lake: LakeServices,
    refresh: Refresh | None = None,
    source: Repository | None = None,
    alerts: Alerts | None = None,
) -> dg.Definitions:
    """All assets, checks, sensors and resources of a lake.

    Args:
        lake: The lake.
        refresh: How it is kept current; by default by sensors that wait to be switched on.
        source: Where the UI finds the code; by default in local files.
        alerts: Whom alerts go to; by default nobody.
    """
    registry, manager = lake.registry, LakeIOManager(lake)
    assets = [
        market_asset(lake),
        quality_asset(registry),
        *(table_asset(recipe, lake) for recipe in recipes(registry).values()),
    ]
    if lake.catalog is not None:
        assets += [catalog_asset(table, lake) for table in registry.tables if table.zone() != "bronze"]
    return dg.Definitions(
        assets=[*_linked(assets, source), *source_specs(lake)],
        schedules=[quality_schedule()],
        asset_checks=[checks_of(table) for table in registry.tables],
        jobs=named_jobs(lake),
        sensors=[
            automation_sensor(),
            *refresh_sensors(lake, refresh or Refresh()),
            alert_sensor(lake, alerts or Alerts()),
        ],
        executor=_executor(),
        resources={
            "lake": fixed(lake),
            "io_manager": fixed_io_manager(lambda _: manager),
            "duckdb": fixed(DuckDBResource(database=":memory:")),
        },
    )


def _linked(assets: list[dg.AssetsDefinition], source: Repository | None) -> list[Any]:
    """Assets whose code is found in a repository, if there is one."""
    if source is None:
        return list(assets)
    package = Path(lakehouse.__file__)
    anchor = dg.AnchorBasedFilePathMapping(package, f"{package.parent.name}/{package.name}")
    return list(dg.link_code_references_to_git(assets, source.url, source.commit, anchor))


def _executor() -> dg.ExecutorDefinition:
    """One process for all steps of a run: a process each costs seconds of imports, and every check is a step.

    A step that fails for some of its cells has put out the others before it fails at its end, so those below
    run all the same: one bad cell stops only itself.
    """
    how = {"step_dependency_config": {"require_upstream_step_success": False}}
    return dg.in_process_executor.configured(how, config_schema={})


@dg.definitions
def defs() -> dg.Definitions:
    """The lake of this environment."""
    keep_private()
    settings = Settings()
    log_as(settings.log_format)
    hush_idle_looks()
    source = Repository(settings.git_url, settings.git_commit) if settings.git_url else None
    refresh = Refresh(settings.refresh, settings.candles_every, settings.add_markets)
    return build_definitions(open_lake(settings), refresh, source, alerts_of(settings))


def alerts_of(settings: Settings) -> Alerts:
    """Whom alerts go to, by settings."""
    addresses = settings.alert_urls.get_secret_value() if settings.alert_urls else ""
    return Alerts(addresses, Watch(settings.ui_url, settings.disk_quota * 1e9))
