"""The lake that settings describe. Dagster is not needed for it."""

from collections.abc import Mapping
from typing import Any

from lakehouse.exchanges import EXCHANGES
from lakehouse.exchanges.exchange import Exchange
from lakehouse.pipeline.services import LakeServices
from lakehouse.registry import REGISTRY, Registry
from lakehouse.settings import Settings
from lakehouse.sources.rest.clock import ExchangeClock
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
    if settings.workers:
        more = {"workers": settings.workers} | more
    lake = LakeServices(
        objects, exchanges, registry, settings.start, catalog, end=settings.end or None, **more
    )
    if settings.clock == "exchange" and "clock" not in more:
        known = [own for own in exchanges.values() if own.has_rest]
        asked = next((own for own in known if own.rest_url), known[0])  # the one that was moved is simulated
        lake.clock = ExchangeClock(lake.clients.of_api(asked.name, asked.rest_types[0]))
    return lake
