"""Which REST APIs have banned this address, and until when: told by whoever was banned, for all others."""

import contextlib
from datetime import datetime

from lakehouse.model.errors import RestBannedError, StoreError
from lakehouse.storage.instants import note_instants, read_instants
from lakehouse.storage.layout import BANS
from lakehouse.storage.objects import LakeObjects


def bans(objects: LakeObjects) -> dict[str, datetime]:
    """Until when an API has banned this address, by its address; also bans that are over."""
    return read_instants(objects, BANS)


def note_ban(objects: LakeObjects, ban: RestBannedError) -> None:
    """Take note of a ban, where there is a lake. Who may not write, or not even look, is banned all the
    same.
    """
    with contextlib.suppress(StoreError):
        if objects.exists():
            note_instants(objects, BANS, {ban.url: ban.until})
