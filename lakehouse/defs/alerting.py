"""The sensor `alerts`: looks every minute at what is wrong, and tells whom `LAKEHOUSE_ALERT_URLS` names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse.defs.alert_facts import DagsterFacts, Seen
from lakehouse.defs.partitions import MARKETS, parse_keys
from lakehouse.model.errors import LakehouseError
from lakehouse.model.secrets import hide
from lakehouse.model.text import plain
from lakehouse.model.words import count_of
from lakehouse.ops import alerts
from lakehouse.ops.alerts import Fact, Look, Message
from lakehouse.ops.telling import Book, Services, tell
from lakehouse.pipeline import alert_facts
from lakehouse.pipeline.alert_facts import Watch
from lakehouse.pipeline.services import LakeServices

_EVERY = 60  # seconds
_TABLES_EVERY = timedelta(hours=1)  # the lake's tables, which costs listings
_CAUSE = 1000  # characters of a cause, which is foreign


@dataclass(frozen=True, slots=True)
class Alerts:
    """Whom alerts go to, and what they are about.

    Attributes:
        addresses: Apprise's addresses; empty for nobody.
        watch: What is looked at.
    """

    addresses: str = field(default="", repr=False)
    watch: Watch = field(default_factory=Watch)


def look_around(
    lake: LakeServices,
    instance: dg.DagsterInstance,
    watch: Watch,
    now: datetime,
    with_lake: bool = True,
    seen: Seen | None = None,
) -> Look:
    """What is wrong now.

    Args:
        lake: The lake.
        instance: Dagster's instance.
        watch: What is looked at.
        now: The current instant.
        with_lake: Whether the lake's tables are listed, too.
        seen: What earlier looks of this process have read; it is brought up to date.
    """
    logged = DagsterFacts(lake, instance, now, seen)
    universe = set(parse_keys(instance.get_dynamic_partitions(str(MARKETS.name)))[0])
    kinds: dict[str, Callable[[], Iterator[Fact | str]]] = {
        alerts.RUN_FAILED: logged.runs,
        alerts.CHECK_FAILED: logged.checks,
        alerts.SENSOR_FAILED: logged.sensors,
        alerts.SENSOR_SILENT: logged.silence,
        alerts.BANNED: lambda: alert_facts.banned(lake, now),
        alerts.DISK: lambda: alert_facts.disk(lake, instance.root_directory, watch, with_lake),
    }
    tables: dict[str, Callable[[], Iterator[Fact | str]]] = {
        alerts.STALE: lambda: alert_facts.stale(lake, universe),
        alerts.QUARANTINE: lambda: alert_facts.quarantine(lake),
    }
    facts, blind, notes = list[Fact](), set[str](), list[str]()
    if with_lake:
        kinds |= tables
    else:
        blind |= tables.keys()
    unreachable = None
    for kind, looks in kinds.items():
        try:
            found = list(looks())
        except LakehouseError as error:
            blind.add(kind)
            notes.append(f"{kind}: {error}")
            unreachable = unreachable or str(error)
            continue
        facts += [one for one in found if isinstance(one, Fact)]
        blind |= {one for one in found if isinstance(one, str)}
    if unreachable:
        root = lake.objects.root
        facts.append(Fact(alerts.LAKE, root, "", root, unreachable, "lakehouse doctor", "/overview"))
    return Look(now, [_readable(fact, watch) for fact in facts], frozenset(blind), notes)


def _readable(fact: Fact, watch: Watch) -> Fact:
    """A fact as people may read it: foreign words without control characters or secrets."""
    said = plain(hide(fact.cause), _CAUSE)
    return replace(fact, cell=plain(fact.cell), cause=said, link=f"{watch.ui_url}{fact.link}")


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
