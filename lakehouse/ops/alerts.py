"""Who is told of what: facts of one look and what earlier looks left become messages and what the next look
begins with. Pure: it reads no clock, asks nobody and sends nothing.

An incident is one fact for as long as it holds, with its pauses: what comes back before it has been fine for
its quiet time is the same incident, and each relapse doubles that time. It is told once when it begins and
once when it has ended. Where nobody could look, nothing is said to have ended.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from lakehouse.model.result import read_instant
from lakehouse.model.words import count_of

RUN_FAILED, CHECK_FAILED, STALE, SENSOR_FAILED, SENSOR_SILENT, BANNED, QUARANTINE, DISK, LAKE = (
    "run failed",
    "check failed",
    "stale data",
    "sensor failed",
    "sensor silent",
    "exchange ban",
    "quarantine growth",
    "disk quota",
    "lake out of reach",
)
_HOUR = timedelta(hours=1)
QUIET: Mapping[str, timedelta] = {
    RUN_FAILED: _HOUR / 2,
    CHECK_FAILED: 3 * _HOUR,  # checks run when something was written, hourly as a rule
    STALE: _HOUR / 2,
    SENSOR_FAILED: 3 * _HOUR,  # a sensor looks hourly
    SENSOR_SILENT: _HOUR / 2,
    BANNED: _HOUR / 2,
    QUARANTINE: _HOUR / 2,
    DISK: _HOUR / 2,
    LAKE: _HOUR / 2,
}
"""The kinds of alert, each with how long it must have been fine before it is said to have ended."""

EVERY = timedelta(minutes=15)
"""Between two messages of a kind; what begins meanwhile is in the next one."""

STEADY = timedelta(days=1)
"""How long a quarantine must not have grown until it no longer grows."""

_LONGEST_QUIET = timedelta(days=1)
_REMEMBERED = timedelta(days=2)  # an incident that has ended: one that returns has relapsed
_LONGEST = 1700  # characters of a message, for Discord takes 2,000; incidents beyond it are counted
_CAUSE = 500  # characters of a cause
Phase = Literal["begins", "ends"]


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is wrong at one look.

    Attributes:
        kind: One of `QUIET`.
        subject: What it is wrong with, the same for as long as it is the same incident.
        of: The table, or the table with the check; empty where the cell says enough.
        cell: The cell, market, sensor, address or folder.
        cause: Why.
        command: What to type.
        link: Where the UI shows it.
        at: When it was found out, where that was before the look.
        level: Of what may only not grow: how many there are.
        tables: Of a run: all tables of the cell that it has not made, and what is made from them; none where
            that is not told.
    """

    kind: str
    subject: str
    of: str
    cell: str
    cause: str
    command: str
    link: str
    at: datetime | None = None
    level: int | None = None
    tables: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of its incident."""
        return f"{self.kind}: {self.subject}"

    @property
    def what(self) -> str:
        """What it is wrong with, for people."""
        return f"{self.of} {self.cell}".strip()


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found.

    Attributes:
        at: Its instant.
        facts: What is wrong.
        blind: Kinds, and keys of facts or their beginnings up to a space, of which it could not tell: what
            they said before still holds.
        notes: Why, in words.
    """

    at: datetime
    facts: Sequence[Fact] = ()
    blind: frozenset[str] = frozenset()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """A fact over time.

    Attributes:
        fact: As it was seen last.
        since: When it was seen first.
        told: Whether its beginning was told.
        fine_since: Since when it does not hold; None while it does.
        relapses: How often it came back.
        ended: When its end was told, or was nobody's concern any more.
    """

    fact: Fact
    since: datetime
    told: bool = False
    fine_since: datetime | None = None
    relapses: int = 0
    ended: datetime | None = None

    @property
    def quiet(self) -> timedelta:
        """How long it must have been fine before it has ended."""
        return min(QUIET[self.fact.kind] * int(2 ** min(self.relapses, 10)), _LONGEST_QUIET)


@dataclass(frozen=True, slots=True)
class Level:
    """A number that should not grow: what it is, and when it last grew."""

    count: int
    grew: datetime | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered between looks.

    Attributes:
        incidents: By key.
        sent: When the last message of a kind and phase went out.
        levels: By key; None before the first look.
        looked: When the lake was last looked at, which costs listings.
    """

    incidents: Mapping[str, Incident] = field(default_factory=dict)
    sent: Mapping[str, datetime] = field(default_factory=dict)
    levels: Mapping[str, Level] | None = None
    looked: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "incidents": {key: _plain(asdict(one)) for key, one in sorted(self.incidents.items())},
            "sent": _plain(dict(sorted(self.sent.items()))),
            "levels": None
            if self.levels is None
            else {key: _plain(asdict(one)) for key, one in sorted(self.levels.items())},
            "looked": self.looked and self.looked.isoformat(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "State":
        """Read what `to_json` wrote; an incident of a kind that is no longer one is left out.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: It is something else.
        """
        incidents = {
            key: Incident(**_instants(one) | {"fact": _fact(one["fact"])})
            for key, one in data["incidents"].items()
            if one["fact"]["kind"] in QUIET
        }
        levels = data["levels"]
        return cls(
            incidents,
            _instants(data["sent"], *data["sent"]),
            None if levels is None else {key: Level(**_instants(one)) for key, one in levels.items()},
            _instants(data)["looked"],
        )


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent at once: incidents of one kind that begin, or have ended.

    Attributes:
        kind: Their kind.
        phase: Whether they begin or have ended.
        keys: The incidents.
        title: One line.
        body: For each its cell, cause, command and link.
    """

    kind: str
    phase: Phase
    keys: tuple[str, ...]
    title: str
    body: str


def decide(look: Look, before: State) -> tuple[list[Message], State]:
    """What is to be said after a look, and what to remember.

    What is said counts as said only by `delivered`: a message that nobody took is said again by the next
    look.
    """
    levels, facts = _grown(look, before)
    incidents = _followed(replace(look, facts=_unrepeated(facts, before, look.at)), before)
    state = State(incidents, before.sent, levels, before.looked if STALE in look.blind else look.at)
    messages = [
        _message(kind, phase, found)
        for phase in ("begins", "ends")
        for kind in QUIET
        if _may_send(state, kind, phase, look.at)
        and (
            found := [
                one for one in incidents.values() if one.fact.kind == kind and _is_due(one, phase, look.at)
            ]
        )
    ]
    return messages, state


def delivered(state: State, message: Message, at: datetime) -> State:
    """What to remember once somebody has taken a message."""
    change: dict[str, Any] = {"told": True} if message.phase == "begins" else {"ended": at}
    told = {key: replace(state.incidents[key], **change) for key in message.keys}
    return replace(
        state,
        incidents={**state.incidents, **told},
        sent={**state.sent, f"{message.kind} {message.phase}": at},
    )


def _grown(look: Look, before: State) -> tuple[Mapping[str, Level] | None, list[Fact]]:
    """What is remembered of levels, and the facts without those whose level does not grow."""
    if QUARANTINE in look.blind:
        return before.levels, [fact for fact in look.facts if fact.level is None]
    known, levels, facts = before.levels, dict[str, Level](), []
    for fact in look.facts:
        if fact.level is None:
            facts.append(fact)
            continue
        # at the first look all there is was there before
        was = Level(fact.level) if known is None else known.get(fact.key, Level(0))
        level = levels[fact.key] = Level(fact.level, look.at if fact.level > was.count else was.grew)
        if level.grew is not None and look.at - level.grew < STEADY:
            facts.append(fact)
    return levels, facts


def _unrepeated(facts: Iterable[Fact], before: State, now: datetime) -> list[Fact]:
    """Facts without checks that repeat a run's failure: of a table at a cell that it has not made, or has not
    since the check looked. One that was told already goes on.
    """
    facts = list(facts)
    failing = {place for fact in facts if fact.kind == RUN_FAILED for place in _places(fact)}
    mended = {
        place: one.fine_since or now  # it is fine at this look for the first time
        for one in before.incidents.values()
        if one.fact.kind == RUN_FAILED
        for place in _places(one.fact)
    }

    def repeats(fact: Fact) -> bool:
        if fact.kind != CHECK_FAILED or ((known := before.incidents.get(fact.key)) and known.told):
            return False
        places = {(fact.cell, ""), (fact.cell, fact.of.partition(" ")[0])}
        since = max((mended[place] for place in places if place in mended), default=None)
        return bool(places & failing) or (since is not None and fact.at is not None and fact.at <= since)

    return [fact for fact in facts if not repeats(fact)]


def _places(failed: Fact) -> set[tuple[str, str]]:
    """The cell of a run that failed with each table that it has not made, or with none where that is not
    told.
    """
    return {(failed.cell, table) for table in failed.tables or ("",)}


def _followed(look: Look, before: State) -> dict[str, Incident]:
    """All incidents after a look; those that ended long ago, or before they were told, are forgotten."""
    found, now = dict[str, Incident](), look.at
    facts = {fact.key: fact for fact in look.facts}
    for key, fact in facts.items():
        known = before.incidents.get(key)
        if known is None:
            found[key] = Incident(fact, now)
        elif known.ended is not None:
            found[key] = Incident(fact, now, relapses=known.relapses + 1)
        else:
            has_relapsed = known.fine_since is not None
            found[key] = replace(known, fact=fact, fine_since=None, relapses=known.relapses + has_relapsed)
    for key, known in before.incidents.items():
        if key in facts:
            continue
        if known.ended is not None:
            if now - known.ended < _REMEMBERED:
                found[key] = known
        elif known.fact.kind in look.blind or any(f"{key} ".startswith(f"{one} ") for one in look.blind):
            found[key] = known
        elif known.told or known.fine_since is None or now - known.fine_since < known.quiet:
            found[key] = replace(known, fine_since=known.fine_since or now)
    return found


def _is_due(one: Incident, phase: Phase, now: datetime) -> bool:
    if one.ended is not None:
        return False
    if phase == "begins":
        return not one.told and one.fine_since is None
    return one.told and one.fine_since is not None and now - one.fine_since >= one.quiet


def _may_send(state: State, kind: str, phase: Phase, now: datetime) -> bool:
    last = state.sent.get(f"{kind} {phase}")
    return last is None or not timedelta(0) <= now - last < EVERY  # a clock may be set back


def _message(kind: str, phase: Phase, incidents: Sequence[Incident]) -> Message:
    keys = tuple(one.fact.key for one in incidents)
    shown: list[str] = []
    for number, one in enumerate(incidents):
        said = _told(one, phase)
        if shown and len("\n\n".join([*shown, said])) > _LONGEST:
            shown.append(f"and {len(incidents) - number:,} more: lakehouse status")
            break
        shown.append(said)
    first = incidents[0].fact.what if len(incidents) == 1 else count_of(len(incidents), "incident")
    title = f"lakehouse: {kind}{'' if phase == 'begins' else ' ended'}: {first}"
    return Message(kind, phase, keys, title, "\n\n".join(shown))


def _told(one: Incident, phase: Phase) -> str:
    fact = one.fact
    cause = fact.cause if len(fact.cause) <= _CAUSE else f"{fact.cause[: _CAUSE - 1]}…"
    if phase == "ends":
        assert one.fine_since is not None, "what has ended is fine"
        since = f"fine since {one.fine_since:%Y-%m-%d %H:%M} UTC, began {one.since:%Y-%m-%d %H:%M} UTC"
        return f"{fact.what}\nended: {since}\nit was: {cause}\ncommand: {fact.command}\nlink: {fact.link}"
    return f"{fact.what}\ncause: {cause}\ncommand: {fact.command}\nlink: {fact.link}"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat()
        if isinstance(value, datetime)
        else _plain(value)
        if isinstance(value, Mapping)
        else value
        for name, value in values.items()
    }


def _fact(values: Mapping[str, Any]) -> Fact:
    return Fact(**_instants(values) | {"tables": tuple(values.get("tables", ()))})


def _instants(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Values with those that are instants read."""
    wanted = names or ("since", "fine_since", "ended", "at", "grew", "looked")
    return {
        name: read_instant(value) if name in wanted and value is not None else value
        for name, value in values.items()
    }
