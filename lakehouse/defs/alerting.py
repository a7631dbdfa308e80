"""The sensor `alerts`: looks every minute at what is wrong, and tells whom `LAKEHOUSE_ALERT_URLS` names."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse.defs.alert_facts import Seen, Watch, look_around
from lakehouse.model.words import count_of
from lakehouse.ops.alerts import Message
from lakehouse.ops.telling import Book, Services, tell
from lakehouse.pipeline.services import LakeServices

_EVERY = 60  # seconds
_TABLES_EVERY = timedelta(hours=1)  # the lake's tables, which costs listings


@dataclass(frozen=True, slots=True)
class Alerts:
    """Whom alerts go to, and what they are about.

    Attributes:
        addresses: Apprise's addresses; empty for nobody.
        watch: What is looked at.
    """

    addresses: str = field(default="", repr=False)
    watch: Watch = field(default_factory=Watch)


def alert_once(
    lake: LakeServices,
    instance: dg.DagsterInstance,
    how: Alerts,
    book: Book,
    in_full: bool = False,
    seen: Seen | None = None,
) -> tuple[list[Message], list[str]]:
    """Look, and send what is new; returns what was sent, and what went wrong.

    Args:
        lake: The lake.
        instance: Dagster's instance.
        how: Whom it is sent to.
        book: What is remembered.
        in_full: Whether the lake's tables are looked at although they were an hour ago or less.
        seen: What earlier looks of this process have read.
    """
    now = datetime.now(UTC)
    looked = book.remembered().looked
    with_lake = in_full or looked is None or not timedelta(0) <= now - looked < _TABLES_EVERY
    look = look_around(lake, instance, how.watch, now, with_lake, seen)
    sent, problems = tell(look, book, Services(how.addresses))
    return sent, [*look.notes, *problems]


def alert_sensor(lake: LakeServices, how: Alerts) -> dg.SensorDefinition:
    """The sensor of a lake. It runs where somebody is to be told, unless switched off in the UI."""
    book, seen = Book(lake.objects), Seen()

    def tick(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if not how.addresses:
            return dg.SkipReason("LAKEHOUSE_ALERT_URLS names nobody.")
        sent, problems = alert_once(lake, context.instance, how, book, seen=seen)
        for message in sent:
            context.log.info(message.title)
        for problem in problems:
            context.log.warning(problem)
        said = f"{count_of(len(sent), 'message')} sent." if sent else "Nothing new."
        return dg.SkipReason(" ".join([said, *problems]))

    return dg.SensorDefinition(
        "alerts",
        evaluation_fn=tick,
        minimum_interval_seconds=_EVERY,
        description="Tells of what is wrong, once, and when it has ended: docs/runbook.md.",
        default_status=dg.DefaultSensorStatus.RUNNING if how.addresses else dg.DefaultSensorStatus.STOPPED,
    )
