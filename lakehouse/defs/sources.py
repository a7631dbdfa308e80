"""Sources as nodes above bronze: the archive and the REST API of each exchange, and what was seen of them.

A source is observed where somebody looks at it anyway, in steps and in ticks. It is a plain spec: an
observable asset, or an event that says that it was written, would be news, and request every cell below.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import dagster as dg

from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.errors import LakehouseError
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.pipeline.services import LakeServices
from lakehouse.sources.files.listing import MarketListing

_SHOWN = 20
Listings = Mapping[Market, MarketListing]
Unlisted = Mapping[Market, LakehouseError]


def archive_key(exchange: Exchange) -> dg.AssetKey:
    """The node of an exchange's archive."""
    return dg.AssetKey(["source", f"{exchange.name}_archive"])


def rest_key(exchange: Exchange) -> dg.AssetKey:
    """The node of an exchange's REST API."""
    return dg.AssetKey(["source", f"{exchange.name}_rest"])


def source_specs(lake: LakeServices) -> list[dg.AssetSpec]:
    """The sources of a lake."""
    return [
        *(
            _spec(
                archive_key(one), f"Files that {one.name} publishes by month and day.", one.archive_url, one
            )
            for one in lake.exchanges.values()
            if one.files
        ),
        *(
            _spec(rest_key(one), f"What {one.name} answers by REST.", one.rest_url, one)
            for one in lake.exchanges.values()
            if one.pages or one.has_rest
        ),
    ]


def _spec(key: dg.AssetKey, says: str, url: str | None, exchange: Exchange) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        description=says,
        group_name="source",
        kinds={"source", exchange.name},
        tags={"zone": "source"},
        metadata={"dagster/uri": url} if url else {},
    )


def above(table: type[Table], lake: LakeServices) -> list[dg.AssetKey]:
    """The sources that a table is read from."""
    exchanges = lake.exchanges.values()
    return [
        *(archive_key(one) for one in exchanges if table.name in one.files),
        *(rest_key(one) for one in exchanges if table.name in one.pages),
    ]


def archives_seen(
    lake: LakeServices, listings: Listings, unlisted: Unlisted
) -> Iterator[dg.AssetObservation]:
    """What was seen of archives: the newest file, how many keys, and the markets that are out of reach.

    Args:
        lake: The lake.
        listings: What they have, by market.
        unlisted: Why a market could not be listed.
    """
    for exchange in lake.exchanges.values():
        seen = {market: one for market, one in listings.items() if market.exchange == exchange.name}
        refused = {market: one for market, one in unlisted.items() if market.exchange == exchange.name}
        if not seen and not refused:
            continue
        files = [file for one in seen.values() for file in one.files.values()]
        metadata: dict[str, Any] = {
            "markets": len(seen),
            "keys": len(files),
            "out of reach": len(refused),
        }
        if files:
            newest = max(files, key=lambda file: (file.last_modified, file.key))
            metadata |= {
                "newest file": newest.key.rpartition("/")[2],
                "published": dg.MetadataValue.timestamp(newest.last_modified),
            }
        if refused:
            metadata["markets out of reach"] = _table(refused)
        yield dg.AssetObservation(archive_key(exchange), metadata=metadata)


def rest_seen(lake: LakeServices, exchanges: Collection[str]) -> Iterator[dg.AssetObservation]:
    """What REST APIs last said of their time, of exchanges that were asked."""
    for name in exchanges:
        exchange = lake.exchanges.get(name)
        told = lake.clients.told_time(name) if exchange else None
        if exchange and told and (exchange.pages or exchange.has_rest):
            yield dg.AssetObservation(
                rest_key(exchange), metadata={"time there": dg.MetadataValue.timestamp(told)}
            )


def _table(refused: Unlisted) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"market": market.key, "why": str(error)})
            for market, error in list(refused.items())[:_SHOWN]
        ]
    )
