"""What is due is asked for once; what comes to nothing is repeated after growing waits; what changes counts
anew.
"""

import json
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ops.attempts import Attempts, read_cursor
from lakehouse_tests.making import NOW

HOUR = timedelta(hours=1)


def test_the_same_work_is_asked_for_again_after_twice_the_wait() -> None:
    attempts = Attempts()
    asked = [hour for hour in range(60) if attempts.sift({"x": "why"}, NOW + hour * HOUR)]
    assert asked == [0, 1, 2, 4, 8, 16, 32, 56]  # half an hour, one, two, four … at most a day


def test_another_reason_is_asked_for_at_once() -> None:
    attempts = Attempts()
    assert attempts.sift({"x": "a"}, NOW)
    assert not attempts.sift({"x": "a"}, NOW)
    assert attempts.sift({"x": "b"}, NOW)["x"].tries == 1


def test_what_must_be_due_twice_in_a_row_waits_for_the_second_time() -> None:
    attempts = Attempts()
    assert not attempts.sift({"x": "a"}, NOW, sightings=2)
    assert not attempts.sift({"x": "b"}, NOW, sightings=2)
    assert attempts.sift({"x": "b"}, NOW, sightings=2)
    attempts.forget({"x"}.__contains__)
    assert not attempts.sift({"x": "b"}, NOW + 9 * HOUR, sightings=2)


def test_those_beyond_the_most_keep_their_turn() -> None:
    attempts = Attempts()
    due = dict.fromkeys("abc", "why")
    assert [list(attempts.sift(due, NOW, most=2)) for _ in range(2)] == [["a", "b"], ["c"]]


@given(
    st.lists(
        st.tuples(st.dictionaries(st.sampled_from("abc"), st.sampled_from("12")), st.integers(0, 48)),
        max_size=8,
    )
)
def test_a_cursor_remembers_all_of_it(ticks: list[tuple[dict[str, str], int]]) -> None:
    kept, reread, now = Attempts(), Attempts(), NOW
    for due, hours in ticks:
        now += hours * HOUR
        reread = Attempts.from_json(read_cursor(json.dumps(reread.to_json())))
        assert kept.sift(due, now) == reread.sift(due, now)


def test_a_tick_evaluated_again_makes_the_same_marks() -> None:
    once, again = (Attempts().sift({"x": "a", "y": "b"}, NOW) for _ in range(2))
    assert {name: attempt.mark for name, attempt in once.items()} == {
        name: attempt.mark for name, attempt in again.items()
    }


def test_a_cursor_that_is_none_starts_anew() -> None:
    assert [read_cursor(text) for text in (None, "", "no json", "[1]")] == [{}] * 4
