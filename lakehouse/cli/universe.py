"""`lakehouse markets remove`: the universe gets smaller; nothing that is stored goes."""

import contextlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import dagster as dg

from lakehouse.defs.partitions import MARKETS
from lakehouse.model.errors import LakehouseError, NotInUniverseError
from lakehouse.model.market import is_key, is_pattern
from lakehouse.settings import Settings


def remove_markets(
    instance: dg.DagsterInstance, settings: Settings, keys: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Take markets out of the universe.

    Args:
        instance: Dagster's instance, which holds it.
        settings: Of the lake.
        keys: Market keys, unified symbols and patterns, several of them with commas between; keys also such
            as name no market.

    Returns:
        The keys that were removed, and what there is to say about it.

    Raises:
        NotInUniverseError: One of them is not in it; nothing was removed.
    """
    named = list(dict.fromkeys(key for given in keys for key in given.split(",") if key))
    universe = instance.get_dynamic_partitions(str(MARKETS.name))
    wanted = list(dict.fromkeys(key for name in named for key in _meant(name, universe, settings)))
    if unknown := [key for key in wanted if key not in universe]:
        raise NotInUniverseError(unknown, universe)
    for key in wanted:
        instance.delete_dynamic_partition(str(MARKETS.name), key)
    again = set[str]()
    for name in settings.add_markets:
        with contextlib.suppress(LakehouseError):  # it names none that the lake knows
            again |= {*_meant(name, wanted, settings)}
    notes = [
        f"{key} matches LAKEHOUSE_ADD_MARKETS, so the sensor market_listing adds it again while its exchange "
        "lists it: change that as well."
        for key in wanted
        if key in again
    ]
    return wanted, notes


def _meant(name: str, universe: Sequence[str], settings: Settings) -> list[str]:
    """The keys of the universe that a name means; the name itself where it is none of the universe's."""
    if name in universe or is_key(name.strip()):
        return [name]
    if is_pattern(name) and "/" not in name:  # of keys, which the universe alone has to know
        return [key for key in universe if fnmatchcase(key, name.strip())] or [name]
    from lakehouse.query.lake import Lake

    lake = Lake(settings.root)
    meant = [market.key for market in lake.among(lake.markets(), [name])]
    return ([key for key in meant if key in universe] or [name]) if is_pattern(name) else meant
