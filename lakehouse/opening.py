"""The lake that settings describe. Dagster is not needed for it."""

import contextlib
from collections.abc import Mapping
from typing import Any

from lakehouse.exchanges import EXCHANGES
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.errors import LakehouseError
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.registry import REGISTRY, Registry
from lakehouse.settings import Settings
from lakehouse.sources.rest.clock import ExchangesClock
from lakehouse.storage.catalog import GlueCatalog
from lakehouse.storage.objects import LakeObjects


def open_lake(
    settings: Settings,
    registry: Registry = REGISTRY,
    exchanges: Mapping[str, Exchange] | None = None,
    **more: Any,
) -> LakeServices:
    """The lake that settings describe.

    Args:
        settings: Where it lies and where its sources are.
        registry: The declared tables.
        exchanges: Exchanges by name; those of `exchanges/` if left out.
        more: Further fields of `LakeServices`.
    """
    if exchanges is None:
        exchanges = {
            own.name: own(settings.address(own.name, "archive"), settings.address(own.name, "rest"))
            for own in EXCHANGES
        }
    objects = LakeObjects(settings.root)
    catalog = GlueCatalog(settings.glue_database, objects) if settings.glue_database else None
    more = {"home": settings.dagster_home.expanduser().absolute(), "machines": settings.machines} | more
    if settings.workers:
        more = {"workers": settings.workers} | more
    lake = LakeServices(
        objects, exchanges, registry, settings.start, catalog, end=settings.end or None, **more
    )
    if settings.clock == "exchange" and "clock" not in more:
        with_time = {name: own for name, own in exchanges.items() if own.has_rest}
        moved = [name for name, own in with_time.items() if own.rest_url]  # those that are simulated

        def concerned() -> list[str]:
            """The exchanges that something is asked about; before that, those of the lake's markets."""
            used = set(lake.clients.concerned)
            with contextlib.suppress(LakehouseError):  # damaged, or out of reach, which others say
                used = used or {market.exchange for market in known_markets(lake)}
            return [name for name in with_time if name in used] or (moved or list(with_time))[:1]

        lake.clock = ExchangesClock(
            concerned, lambda name: lake.clients.of_api(name, with_time[name].rest_types[0])
        )
    return lake
