"""Bronze keeps every value ever seen: the newest statement of a source is served, earlier ones can be
told.
"""

from datetime import timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.datasets.candle import CandleArchive
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.history import append_news, newest, restatements
from lakehouse_tests.making import MINUTE, NOW, at, bronze

KEY, TIME = ("open_time",), "open_time"
START = at("2024-02-05")
COVERS = TimeRange(START, START + timedelta(days=1))
# What one file says: for some minutes one value, or two variants; None stands for a value that is not
# published.
Statement = dict[int, tuple[float | None, ...]]
values = st.sampled_from([None, 100.5, 101.0, 101.5])
statements = st.dictionaries(
    st.integers(0, 3),
    st.lists(values, min_size=1, max_size=2, unique=True).map(tuple),
    min_size=1,
    max_size=4,
)


def file(statement: Statement, number: int, source: str = "daily", sha: str | None = None) -> pl.DataFrame:
    stated = [
        bronze(
            [START + minute * MINUTE],
            source,
            NOW + timedelta(hours=number),
            sha or f"sha{number}",
            close=value,
        )
        for minute, variants in statement.items()
        for value in variants
    ]
    return pl.concat(stated)


def told(history: pl.DataFrame, source: str = "daily") -> dict[int, set[float | None]]:
    found: dict[int, set[float | None]] = {}
    for minute, close in (
        newest(history, KEY)
        .filter(source=source)
        .select((pl.col("open_time") - START).dt.total_minutes(), "close")
        .iter_rows()
    ):
        found.setdefault(minute, set()).add(close)
    return found


def meant(statement: Statement) -> dict[int, set[float | None]]:
    return {minute: set(variants) for minute, variants in statement.items()}


@settings(max_examples=25)
@given(st.lists(statements, min_size=1, max_size=5))
def test_the_newest_statement_is_served_and_every_earlier_one_can_be_told(files: list[Statement]) -> None:
    history = CandleArchive.empty()
    for number, statement in enumerate(files):
        history = append_news(history, file(statement, number), KEY, TIME, COVERS)
        assert told(history) == meant(statement)
        for before, earlier in enumerate(files[: number + 1]):
            assert told(history.filter(pl.col("fetched_at") <= NOW + timedelta(hours=before))) == meant(
                earlier
            )
    assert CandleArchive.split(CandleArchive.conform(history, None))[1].height == 0, (
        "a history is a valid bronze cell"
    )


@settings(max_examples=20)
@given(st.lists(statements, min_size=1, max_size=3))
def test_a_statement_that_says_nothing_new_adds_nothing(files: list[Statement]) -> None:
    history = CandleArchive.empty()
    for number, statement in enumerate(files):
        history = append_news(history, file(statement, number), KEY, TIME, COVERS)
    again = append_news(history, file(files[-1], 90), KEY, TIME, COVERS)
    assert again.equals(history)
    shuffled = append_news(
        history.sample(fraction=1, shuffle=True, seed=1),
        file(files[-1], 90).sample(fraction=1, shuffle=True, seed=2),
        KEY,
        TIME,
        COVERS,
    )
    assert shuffled.height == history.height


@given(statements, statements, statements)
def test_sources_are_told_apart(one: Statement, other: Statement, later: Statement) -> None:
    history = append_news(
        append_news(CandleArchive.empty(), file(one, 0), KEY, TIME, COVERS),
        file(other, 1, "monthly"),
        KEY,
        TIME,
        COVERS,
    )
    history = append_news(history, file(later, 2), KEY, TIME, COVERS)
    assert (told(history), told(history, "monthly")) == (meant(later), meant(other))


def test_a_value_that_comes_back_is_a_statement_of_its_own() -> None:
    history = CandleArchive.empty()
    for number, (close, sha) in enumerate([(101.0, "a"), (101.5, "b"), (101.0, "a")]):
        history = append_news(history, file({0: (close,)}, number, sha=sha), KEY, TIME, COVERS)
    assert history["close"].to_list() == [101.0, 101.5, 101.0]
    assert told(history) == {0: {101.0}}


def test_a_key_that_a_file_no_longer_has_gets_one_tombstone_without_values() -> None:
    history = append_news(CandleArchive.empty(), file({0: (101.0, 101.5), 1: (101.0,)}, 0), KEY, TIME, COVERS)
    history = append_news(history, file({1: (101.0,)}, 1, sha="b"), KEY, TIME, COVERS)
    tomb = history.filter("is_removed")
    assert tomb.select("open_time", "source", "source_sha256", "fetched_at", "close", "volume").rows() == [
        (START, "daily", "b", NOW + timedelta(hours=1), None, None)
    ]
    assert append_news(history, file({1: (101.0,)}, 2), KEY, TIME, COVERS).equals(history), (
        "said once is enough"
    )


def test_a_key_outside_the_period_of_a_file_is_not_removed_by_its_absence() -> None:
    history = append_news(CandleArchive.empty(), file({0: (101.0,), 3: (101.0,)}, 0), KEY, TIME, COVERS)
    narrow = TimeRange(START, START + 2 * MINUTE)
    assert told(append_news(history, file({0: (101.5,)}, 1), KEY, TIME, narrow)) == {0: {101.5}, 3: {101.0}}


def test_two_variants_in_one_file_stay_two_until_the_file_settles_them() -> None:
    history = append_news(CandleArchive.empty(), file({0: (101.0, 101.5)}, 0), KEY, TIME, COVERS)
    assert told(history) == {0: {101.0, 101.5}}
    assert told(append_news(history, file({0: (101.5,)}, 1), KEY, TIME, COVERS)) == {0: {101.5}}


def test_the_same_file_read_again_by_a_better_parser_replaces_its_rows() -> None:
    """One file's two readings are not two values of one source: the first was a mistake of ours."""
    history = append_news(
        append_news(CandleArchive.empty(), file({0: (100.5,), 1: (101.0,)}, 0, "monthly"), KEY, TIME, COVERS),
        file({0: (100.5,), 1: (101.0,)}, 0),
        KEY,
        TIME,
        COVERS,
    )
    history = append_news(history, file({0: (101.5,), 1: (101.0,)}, 0), KEY, TIME, COVERS)
    assert (told(history), told(history, "monthly")) == ({0: {101.5}, 1: {101.0}}, {0: {100.5}, 1: {101.0}})
    assert history.height == 4


@settings(max_examples=20)
@given(st.lists(statements, min_size=1, max_size=3))
def test_reading_the_newest_file_again_changes_nothing(files: list[Statement]) -> None:
    history = CandleArchive.empty()
    for number, statement in enumerate(files):
        history = append_news(history, file(statement, number), KEY, TIME, COVERS)
    again = append_news(history, file(files[-1], len(files) - 1), KEY, TIME, COVERS)
    assert CandleArchive.conform(again, None).equals(CandleArchive.conform(history, None))


def test_an_empty_file_says_nothing() -> None:
    history = file({0: (101.0,)}, 0)
    assert append_news(history, history.clear(), KEY, TIME, COVERS).equals(history)
    assert newest(history.clear(), KEY).height == 0


# --- restatements ---------------------------------------------------------------------------------


def replaced(history: pl.DataFrame) -> list[tuple[object, ...]]:
    found = restatements(history, KEY)
    minute = (pl.col("open_time") - START).dt.total_minutes()
    hours = ((pl.col(f"fetched_at_{side}") - NOW).dt.total_hours() for side in ("before", "after"))
    return found.select(minute, "source", "change", "close_before", "close_after", *hours).rows()


@settings(max_examples=25)
@given(st.lists(statements, min_size=1, max_size=5))
def test_restatements_lead_from_every_statement_to_the_next(files: list[Statement]) -> None:
    """Told by brute force: per key, each set that differs from the one before it, value by value."""
    history, expected, last = CandleArchive.empty(), [], dict[int, tuple[set[float | None], int]]()
    for number, statement in enumerate(files):
        history = append_news(history, file(statement, number), KEY, TIME, COVERS)
        for minute in range(4):
            said = set(statement.get(minute, ()))
            before, since = last.get(minute, (set(), -1))
            if since >= 0 and said != before:
                gone, come = (sorted(some, key=str) for some in (before - said, said - before))
                expected.append((minute, since, number, gone, come))
            if said != before:
                last[minute] = (said, number)
    found = replaced(history.sample(fraction=1, shuffle=True, seed=1))
    assert [(minute, hour_before, hour) for minute, _, _, _, _, hour_before, hour in found] == sorted(
        (minute, since, number)
        for minute, since, number, gone, come in expected
        for _ in range(max(len(gone), len(come)))
    )
    for minute, since, number, gone, come in expected:
        rows = [row for row in found if (row[0], *row[5:]) == (minute, since, number)]
        assert sorted((row[3] for row in rows if row[2] != "added"), key=str) == gone
        assert sorted((row[4] for row in rows if row[2] != "removed"), key=str) == come


def test_a_restatement_names_both_files_and_every_value() -> None:
    history = append_news(
        file({0: (101.0,), 1: (101.0,)}, 0, "monthly"),
        file({0: (101.5,), 1: (101.0,)}, 1, "monthly"),
        KEY,
        TIME,
        COVERS,
    )
    (told,) = restatements(history, KEY).to_dicts()
    assert (
        told["change"],
        told["close_before"],
        told["close_after"],
        told["open_before"],
        told["open_after"],
    ) == ("changed", 101.0, 101.5, 100.0, 100.0)
    assert (told["source_file_before"], told["source_file_after"]) == ("monthly.zip", "monthly.zip")


def test_what_goes_and_what_comes_back_is_told_as_such() -> None:
    history = CandleArchive.empty()
    for number, statement in enumerate(
        [{0: (101.0,), 1: (100.5,)}, {1: (100.5,)}, {0: (101.0,), 1: (100.5, 101.5)}]
    ):
        history = append_news(history, file(statement, number), KEY, TIME, COVERS)
    assert replaced(history) == [
        (0, "daily", "removed", 101.0, None, 0, 1),
        (0, "daily", "added", None, 101.0, 1, 2),
        (1, "daily", "added", None, 101.5, 0, 2),
    ]


def test_two_sources_that_disagree_restate_nothing() -> None:
    history = append_news(
        file({0: (101.0,)}, 0, "monthly"), file({0: (101.5,), 1: (100.5, 101.0)}, 1), KEY, TIME, COVERS
    )
    assert replaced(history) == []
    assert restatements(history.clear(), KEY).height == 0
