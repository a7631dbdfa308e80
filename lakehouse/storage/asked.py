"""When exchanges were last asked about markets, so that a build does not ask about all of them every time."""

from collections.abc import Iterable
from datetime import datetime

from lakehouse.model.market import Market
from lakehouse.storage.instants import note_instants, read_instants
from lakehouse.storage.layout import MARKETS_ASKED
from lakehouse.storage.objects import LakeObjects

_SCAN = "all of "  # no market key begins so


def asked_at(objects: LakeObjects) -> dict[str, datetime]:
    """When an exchange last answered about a market, by its key; without it all are asked about."""
    return read_instants(objects, MARKETS_ASKED)


def note_asked(objects: LakeObjects, markets: Iterable[Market], at: datetime) -> None:
    """Take note that markets were answered about. Who may not write asks again the next time."""
    if new := {market.key: at for market in markets}:
        note_instants(objects, MARKETS_ASKED, new)


def scanned_at(objects: LakeObjects) -> dict[str, datetime]:
    """When exchanges were last asked for all they list, by their names."""
    told = read_instants(objects, MARKETS_ASKED)
    return {key.removeprefix(_SCAN): at for key, at in told.items() if key.startswith(_SCAN)}


def note_scanned(objects: LakeObjects, exchanges: Iterable[str], at: datetime) -> None:
    """Take note that exchanges were asked for all they list."""
    if new := {f"{_SCAN}{name}": at for name in exchanges}:
        note_instants(objects, MARKETS_ASKED, new)
