"""Which REST APIs have banned this address, and until when: told by whoever was banned, for all others."""

import contextlib
from datetime import datetime

from lakehouse.model.errors import RestBannedError, StoreError
from lakehouse.model.result import read_instant
from lakehouse.storage.layout import BANS
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.seal import read_sealed_json, sealed_json


def bans(objects: LakeObjects) -> dict[str, datetime]:
    """Until when an API has banned this address, by its address; also bans that are over."""
    body = objects.get(BANS)
    try:
        return {url: read_instant(until) for url, until in read_sealed_json(body).items()} if body else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # only a memory: who is banned again says so again


def note_ban(objects: LakeObjects, ban: RestBannedError) -> None:
    """Take note of a ban, where there is a lake. Who may not write is banned all the same."""
    with contextlib.suppress(StoreError):
        if objects.exists():
            said = bans(objects) | {ban.url: ban.until}
            objects.put(BANS, sealed_json({url: until.isoformat() for url, until in sorted(said.items())}))
