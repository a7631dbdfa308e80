"""Instants by name, kept in one sealed object of the lake: a memory, without which nothing is wrong."""

import contextlib
from collections.abc import Mapping
from datetime import datetime

from lakehouse.model.errors import StoreError
from lakehouse.model.result import read_instant
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.seal import read_sealed_json, sealed_json


def read_instants(objects: LakeObjects, path: str) -> dict[str, datetime]:
    """What is kept; nothing where it is not as it was written."""
    body = objects.get(path)
    try:
        return {name: read_instant(at) for name, at in read_sealed_json(body).items()} if body else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def note_instants(objects: LakeObjects, path: str, new: Mapping[str, datetime]) -> None:
    """Keep instants beside those that are kept. Who may not write goes on without.

    Args:
        objects: The lake's objects.
        path: Where they are kept.
        new: Replace those of the same names.
    """
    said = {name: at.isoformat() for name, at in sorted((read_instants(objects, path) | dict(new)).items())}
    with contextlib.suppress(StoreError):
        objects.put(path, sealed_json(said, indent=0))
