"""When exchanges were last asked about markets, so that a build does not ask about all of them every time."""

import contextlib
from collections.abc import Iterable, Mapping
from datetime import datetime

from lakehouse.model.errors import StoreError
from lakehouse.model.market import Market
from lakehouse.model.result import read_instant
from lakehouse.storage.layout import MARKETS_ASKED
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.seal import read_sealed_json, sealed_json


def asked_at(objects: LakeObjects) -> dict[str, datetime]:
    """When an exchange last answered about a market, by its key; empty where that is not known."""
    body = objects.get(MARKETS_ASKED)
    try:
        return {key: read_instant(at) for key, at in read_sealed_json(body).items()} if body else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # only a memory: without it all are asked about


def note_asked(objects: LakeObjects, markets: Iterable[Market], at: datetime) -> None:
    """Take note that markets were answered about. Who may not write asks again the next time."""
    new = {market.key: at for market in markets}
    if not new:
        return
    known: Mapping[str, datetime] = asked_at(objects) | new
    said = {key: instant.isoformat() for key, instant in sorted(known.items())}
    with contextlib.suppress(StoreError):
        objects.put(MARKETS_ASKED, sealed_json(said, indent=0))
