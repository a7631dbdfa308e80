"""`lakehouse markets remove`: the universe gets smaller; nothing that is stored goes."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import dagster as dg

from lakehouse.defs.partitions import MARKETS
from lakehouse.model.errors import NotInUniverseError
from lakehouse.settings import Settings


def remove_markets(
    instance: dg.DagsterInstance, settings: Settings, keys: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Take markets out of the universe.

    Args:
        instance: Dagster's instance, which holds it.
        settings: Of the lake.
        keys: Market keys, several of them with commas between; also such as name no market.

    Returns:
        The keys that were removed, and what there is to say about it.

    Raises:
        NotInUniverseError: One of them is not in it; nothing was removed.
    """
    wanted = list(dict.fromkeys(key for given in keys for key in given.split(",") if key))
    universe = instance.get_dynamic_partitions(str(MARKETS.name))
    if unknown := [key for key in wanted if key not in universe]:
        raise NotInUniverseError(unknown, universe)
    for key in wanted:
        instance.delete_dynamic_partition(str(MARKETS.name), key)
    again = [key for key in wanted if any(fnmatchcase(key, glob) for glob in settings.add_markets)]
    notes = [
        f"{key} matches LAKEHOUSE_ADD_MARKETS, so the sensor market_listing adds it again while its exchange "
        "lists it: change that as well."
        for key in again
    ]
    return wanted, notes
