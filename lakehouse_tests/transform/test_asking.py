"""What stays open though it was answered, and when it is asked again."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.result import Asked, CellFacts
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.asking import again_at, left_open, merged, to_ask, unanswered, with_answers, without
from lakehouse_tests.making import MINUTE, NOW, at

START = at("2024-02-05")
HOUR = timedelta(hours=1)


def span(first: int, end: int) -> TimeRange:
    return TimeRange(START + first * MINUTE, START + end * MINUTE)


def asked(first: int, end: int, outcome: str = "rows", when: datetime = NOW, tries: int = 0) -> Asked:
    return Asked(START + first * MINUTE, START + end * MINUTE, when, outcome, tries=tries)  # type: ignore[arg-type]


ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 30)).map(lambda part: span(part[0], part[0] + part[1])),
    max_size=5,
)


def minutes(spans: list[TimeRange]) -> set[datetime]:
    return {one.start + n * MINUTE for one in spans for n in range((one.end - one.start) // MINUTE)}


@given(ranges, ranges)
def test_ranges_less_others_hold_what_is_in_no_other(wanted: list[TimeRange], taken: list[TimeRange]) -> None:
    left = without(wanted, taken)
    assert minutes(left) == minutes(wanted) - minutes(taken)
    assert left == merged(left)


@pytest.mark.parametrize(
    ("tries", "pause"),
    [
        (0, HOUR),
        (1, HOUR),
        (2, 2 * HOUR),
        (5, 16 * HOUR),
        (8, 128 * HOUR),
        (9, timedelta(days=7)),
        (400, timedelta(days=7)),
    ],
)
def test_what_was_asked_in_vain_rests_ever_longer_up_to_a_week(tries: int, pause: timedelta) -> None:
    assert again_at(asked(0, 1, "short", tries=tries)) == NOW + pause


def test_an_open_part_is_asked_again_when_it_has_rested_and_nothing_else_is() -> None:
    told = [asked(0, 60), asked(20, 30, "short", tries=2)]
    assert unanswered([span(0, 60)], told) == [], "it was answered; that it is open is beside that"
    assert to_ask([span(0, 60)], told, NOW + 2 * HOUR - MINUTE) == []
    assert to_ask([span(0, 60)], told, NOW + 2 * HOUR) == [span(20, 30)]
    assert to_ask([span(0, 90)], told, NOW) == [span(60, 90)]
    assert to_ask([], told, NOW + 2 * HOUR) == [span(20, 30)], "also where nobody wants it any more"


def test_what_could_not_be_used_is_no_answer_and_rests_all_the_same() -> None:
    told = [asked(0, 20), asked(20, 21, "short", tries=1), asked(21, 60)]
    assert unanswered([span(0, 60)], told) == [span(20, 21)]
    assert to_ask([span(0, 60)], told, NOW) == []
    assert to_ask([span(0, 60)], told, NOW + HOUR) == [span(20, 21)]


def test_what_is_gone_is_settled_and_joins_no_answers_on_its_sides() -> None:
    told = with_answers([asked(0, 20)], [asked(19, 50, "gone"), asked(50, 60)])
    assert [(one.outcome, one.span) for one in told] == [
        ("rows", span(0, 20)),
        ("gone", span(19, 50)),
        ("rows", span(50, 60)),
    ]
    assert to_ask([span(0, 60)], told, NOW) == []
    facts = CellFacts(asked=told, quiet_count=3, silent_count=4)
    assert CellFacts.from_json(facts.to_json()) == facts
    assert facts.digest() != CellFacts(asked=told, quiet_count=3, silent_count=5).digest()


def test_a_refused_question_rests_as_long_as_it_is_remembered() -> None:
    assert to_ask([span(0, 60)], [asked(0, 60, "refused")], NOW) == []
    assert to_ask([span(0, 60)], [asked(0, 60, "unreachable")], NOW) == [span(0, 60)], (
        "silence is asked again at once"
    )


def test_tries_grow_with_every_vain_asking_and_are_forgotten_when_it_is_over() -> None:
    first = left_open([asked(0, 60)], [span(20, 30)], [asked(0, 60)])
    assert first == (asked(0, 60), asked(20, 30, "short", tries=1))
    judged = left_open(first, [span(20, 30)], [])
    assert judged == first, "judged again without being asked, nothing changes"
    later = NOW + HOUR
    second = left_open(
        with_answers(first, [asked(20, 30, when=later)]), [span(20, 30)], [asked(20, 30, when=later)]
    )
    assert [(part.outcome, part.at, part.tries) for part in second] == [
        ("rows", later, 0),
        ("short", later, 2),
    ]
    assert left_open(second, [], [asked(20, 30, when=later)]) == (asked(0, 60, when=later),)


def test_what_contradicts_since_the_witness_came_was_answered_when_it_was_asked() -> None:
    assert left_open([asked(0, 60)], [span(0, 60)], [])[1] == asked(0, 60, "short", tries=1)


def test_what_no_answer_covers_stays_open_until_one_does() -> None:
    told = [asked(0, 20), asked(20, 21, "short"), asked(21, 60)]
    once = left_open(told, [], told)
    assert once == (asked(0, 20), asked(20, 21, "short", tries=1), asked(21, 60))
    assert (
        left_open(with_answers(once, [asked(20, 21, when=NOW + HOUR)]), [], [asked(20, 21, when=NOW + HOUR)])[
            1
        ].outcome
        == "rows"
    )


def test_what_is_open_is_in_no_version_and_survives_being_stored() -> None:
    plain, open_ = (
        CellFacts(asked=(asked(0, 60),)),
        CellFacts(asked=(asked(0, 60), asked(20, 30, "short", tries=3))),
    )
    assert (open_.answers(), open_.digest()) == (plain.answers(), plain.digest())
    assert CellFacts.from_json(open_.to_json()) == open_
    earlier = plain.to_json()
    del earlier["contradictions"], earlier["asked"][0]["tries"]
    assert CellFacts.from_json(earlier) == plain, "as an earlier release wrote it"
