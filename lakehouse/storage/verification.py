"""What the last verification of stored bytes found: who reads a lake afterwards knows of it without looking
at every byte again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from lakehouse.model.result import read_count, read_instant
from lakehouse.model.words import count_of
from lakehouse.storage.layout import VERIFICATION
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.seal import read_sealed_json, sealed_json


@dataclass(frozen=True, slots=True)
class Damage:
    """An object that is not what was stored there.

    Attributes:
        path: Where it lies.
        etag: The store's tag of the object as it was looked at; one that was replaced since is another
            object.
        why: What is wrong with it.
        left: Why it was not made again; empty where that was not tried.
    """

    path: str
    etag: str
    why: str
    left: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification of stored bytes found.

    Attributes:
        at: When it ended.
        checked: Objects looked at, by what they are: a table's name, `quarantine`, `landing`, `ledger`,
            `catalog`.
        unsealed: How many of them carry no seal, so that of their bytes nothing was proven.
        damage: What is damaged, and was not made again.
    """

    at: datetime
    checked: Mapping[str, int]
    unsealed: int
    damage: tuple[Damage, ...]


def load_verification(objects: LakeObjects) -> Verification | None:
    """The last verification; None if there was none, or its record is not as it was written."""
    body = objects.get(VERIFICATION)
    if body is None:
        return None
    try:
        said = read_sealed_json(body)
        damage = tuple(
            Damage(**{name: str(told) for name, told in found.items()}) for found in said["damage"]
        )
        checked = {str(what): read_count(count) for what, count in said["checked"].items()}
        return Verification(read_instant(said["at"]), checked, read_count(said["unsealed"]), damage)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def save_verification(objects: LakeObjects, found: Verification) -> None:
    """Record a verification in place of the one before."""
    said = asdict(found) | {"at": found.at.isoformat()}
    objects.put(VERIFICATION, sealed_json(said, indent=1))


def known_damage(objects: LakeObjects) -> dict[str, Damage]:
    """What the last verification left damaged, by path. An entry counts while the object has the etag it
    names.
    """
    found = load_verification(objects)
    return {one.path: one for one in found.damage} if found else {}


def named(damage: Sequence[Damage]) -> str:
    """Some damaged objects in words, the first of them by name."""
    first = ", ".join(one.path for one in damage[:3]) + (", …" if len(damage) > 3 else "")
    return f"{count_of(len(damage), 'object')} damaged: {first}"
