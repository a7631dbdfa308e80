"""An incident is told once, and once when it has ended: whatever flaps, whoever restarts, whoever is out of
reach.
"""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.ops.alerts import (
    BANNED,
    CHECK_FAILED,
    EVERY,
    QUARANTINE,
    QUIET,
    RUN_FAILED,
    STALE,
    Fact,
    Look,
    Message,
    State,
    decide,
    delivered,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def fact(
    kind: str, cell: str = "2025-12|binance-spot:BTCUSDT", of: str = "silver/candle", **more: object
) -> Fact:
    subject = f"{of} {cell}" if kind == CHECK_FAILED else cell
    link = "http://127.0.0.1:3000/overview"
    said = ("1,440 rows absent", "lakehouse status", link)
    return Fact(kind, subject, of, cell, *said, **more)  # type: ignore[arg-type]


class World:
    """Looks, one after another, with a restart after each: what is remembered is stored and read."""

    def __init__(self) -> None:
        self.state = State()
        self.sent: list[tuple[datetime, Message]] = []

    def look(
        self, at: datetime, *facts: Fact, blind: frozenset[str] = frozenset(), takes: bool = True
    ) -> list[Message]:
        before = State.from_json(json.loads(json.dumps(self.state.to_json())))
        assert before == self.state
        messages, self.state = decide(Look(at, facts, blind), before)
        if takes:
            for message in messages:
                self.state = delivered(self.state, message, at)
                self.sent.append((at, message))
        return messages

    def phases(self, key: str) -> list[str]:
        return [message.phase for _, message in self.sent if key in message.keys]


def test_a_message_has_the_cell_the_cause_the_command_and_the_link() -> None:
    (message,) = World().look(NOW, fact(CHECK_FAILED))
    assert message.title == "lakehouse: check failed: silver/candle 2025-12|binance-spot:BTCUSDT"
    assert message.body.splitlines() == [
        "silver/candle 2025-12|binance-spot:BTCUSDT",
        "cause: 1,440 rows absent",
        "command: lakehouse status",
        "link: http://127.0.0.1:3000/overview",
    ]


def test_an_incident_is_told_once_and_once_when_it_has_ended() -> None:
    world, one = World(), fact(RUN_FAILED)
    for minute in range(120):
        world.look(NOW + minute * MINUTE, *([one] if minute < 60 else []))
    (_, begins), (at, ends) = world.sent
    assert (begins.phase, ends.phase) == ("begins", "ends")
    assert at == NOW + 60 * MINUTE + QUIET[RUN_FAILED]
    assert "fine since 2026-01-01 01:00 UTC" in ends.body


@given(
    kind=st.sampled_from(sorted(QUIET)),
    spells=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 170)), min_size=2, max_size=30),
)
def test_what_flaps_within_its_quiet_time_gives_one_message(kind: str, spells: list[tuple[int, int]]) -> None:
    world, one, at = World(), fact(kind), NOW
    longest = int(QUIET[kind] / MINUTE) - 1
    for bad, fine in spells:
        world.look(at, one)
        at += bad * MINUTE
        world.look(at, one)
        world.look(at + MINUTE / 2)
        at += min(fine, longest) * MINUTE
    assert world.phases(one.key) == ["begins"]


@given(
    steps=st.lists(st.tuples(st.integers(1, 600), st.booleans(), st.booleans(), st.booleans()), max_size=60)
)
def test_beginnings_and_ends_take_turns_whatever_happens(steps: list[tuple[int, bool, bool, bool]]) -> None:
    """Also where nobody takes a message, or nobody can look; and what is wrong at the end was told, or will
    be at the next look that somebody takes.
    """
    world, one, at, was_blind = World(), fact(BANNED), NOW, frozenset({BANNED})
    for minutes, holds, sees, takes in steps:
        at += minutes * MINUTE
        world.look(
            at, *([one] if holds and sees else []), blind=frozenset() if sees else was_blind, takes=takes
        )
    phases = world.phases(one.key)
    assert phases == [("begins", "ends")[number % 2] for number in range(len(phases))]
    world.look(at + EVERY, one)
    assert world.phases(one.key)[-1:] == ["begins"]


@given(steps=st.lists(st.sets(st.integers(0, 40)), max_size=60))
@settings(max_examples=15)
def test_a_kind_sends_one_message_in_its_time_with_all_that_began_meanwhile(steps: list[set[int]]) -> None:
    world = World()
    for minute, wrong in enumerate(steps):
        world.look(
            NOW + minute * MINUTE, *(fact(STALE, f"2025-12|binance-spot:C{number}") for number in wrong)
        )
    begins = [at for at, message in world.sent if message.phase == "begins"]
    assert all(later - earlier >= EVERY for earlier, later in pairwise(begins))
    assert max(Counter(key for _, message in world.sent for key in message.keys).values(), default=1) == 1
    assert all(len(message.body) < 2000 for _, message in world.sent), "the most that Discord takes"


def test_many_incidents_are_one_message_that_counts_what_it_does_not_show() -> None:
    (message,) = World().look(NOW, *(fact(STALE, f"2025-12|binance-spot:C{number}") for number in range(300)))
    assert message.title == "lakehouse: stale data: 300 incidents"
    shown = message.body.count("cause: ")
    assert message.body.endswith(f"and {300 - shown} more: lakehouse status")


def test_a_check_that_repeats_a_runs_failure_says_nothing_also_once_that_is_mended() -> None:
    world = World()
    failed, absent = fact(RUN_FAILED), fact(CHECK_FAILED, of="silver/candle gaps", at=NOW)
    other = fact(CHECK_FAILED, "2025-11|binance-spot:BTCUSDT", "silver/candle gaps", at=NOW)
    world.look(NOW, failed, absent, other)
    assert world.phases(failed.key) == world.phases(other.key) == ["begins"]
    world.look(NOW + HOUR, absent, other)  # the cell is mended, the check has not looked again
    assert world.phases(absent.key) == []
    world.look(NOW + 2 * HOUR, replace(absent, at=NOW + 2 * HOUR), other)
    assert world.phases(absent.key) == ["begins"], "it has looked, and the cell is still bad"
    world.look(NOW + 3 * HOUR, failed, replace(absent, at=NOW + 2 * HOUR), other)
    world.look(NOW + 9 * HOUR, failed, replace(absent, at=NOW + 2 * HOUR), other)
    assert world.phases(absent.key) == ["begins"], "what was told has not ended because a run fails, too"


def test_a_check_of_a_table_that_no_run_failed_to_make_is_told_beside_one_that_failed() -> None:
    """A perpetual's month of candles fails, and its month of funding is made and bad."""
    world = World()
    failed = fact(RUN_FAILED, tables=("bronze/candle_archive", "silver/candle"))
    below, beside = (
        fact(CHECK_FAILED, of=f"silver/{name} gaps", at=NOW) for name in ("candle", "funding_rate")
    )
    world.look(NOW, failed, below, beside)
    assert world.phases(failed.key) == world.phases(beside.key) == ["begins"]
    assert world.phases(below.key) == []


def test_a_quarantine_is_told_of_when_it_grows_and_not_of_what_was_there_before() -> None:
    world, day = World(), 24 * HOUR
    old = fact(QUARANTINE, level=5)
    new = fact(QUARANTINE, "2026-01|binance-spot:BTCUSDT", level=1)
    assert world.look(NOW, old) == []
    assert world.look(NOW + HOUR, old) == []
    (message,) = world.look(NOW + 2 * HOUR, old, new)
    assert message.keys == (new.key,)
    assert world.look(NOW + 3 * HOUR, replace(old, level=6), new)[0].keys == (old.key,)
    for hour in range(4, 60):
        world.look(NOW + hour * HOUR, replace(old, level=6), new)
    assert world.phases(new.key) == world.phases(old.key) == ["begins", "ends"]
    assert day < world.sent[-1][0] - NOW < 2 * day


def test_a_clock_that_is_set_back_keeps_nobody_silent() -> None:
    world = World()
    world.look(NOW + 1000 * HOUR, fact(STALE, "2025-12|binance-spot:A"))
    assert world.look(NOW, fact(STALE, "2025-12|binance-spot:B"))
