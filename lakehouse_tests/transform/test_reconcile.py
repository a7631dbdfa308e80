"""One row per key from sources that disagree, whatever order they come in."""

from collections import defaultdict
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.transform.reconcile import PRECEDENCE, Reconciled, reconcile
from lakehouse_tests.making import MINUTE, NOW, at, bronze, minutes

KEY = ("open_time",)
START = at("2024-02-05")
# A row: its source, its minute, its value, the file it stands in.
rows = st.lists(st.tuples(st.sampled_from(PRECEDENCE), st.integers(0, 4), st.integers(0, 2), st.integers(0, 1)), max_size=24)


def sources(stated: list[tuple[str, int, int, int]], order: tuple[str, ...] = PRECEDENCE) -> dict[str, pl.DataFrame]:
    frames: dict[str, pl.DataFrame] = {}
    for name in order:
        made = [bronze([START + minute * MINUTE], name, sha=f"s{file}", close=100.0 + value) for source, minute, value, file in stated if source == name]
        if made:
            frames[name] = pl.concat(made)
    return frames


def same(one: Reconciled, other: Reconciled) -> bool:
    return one.rows.equals(other.rows) and one.unserved.equals(other.unserved) and (one.conflict_count, one.confirmed) == (other.conflict_count, other.confirmed)


@given(rows.filter(bool), st.randoms(use_true_random=False))
def test_the_outcome_does_not_depend_on_the_order_of_sources_or_rows(stated: list[tuple[str, int, int, int]], random: object) -> None:
    settled = reconcile(sources(stated), KEY)
    random.shuffle(stated)  # type: ignore[attr-defined]
    order = list(PRECEDENCE)
    random.shuffle(order)  # type: ignore[attr-defined]
    assert same(settled, reconcile(sources(stated, tuple(order)), KEY))


@given(rows.filter(bool))
def test_applied_to_its_own_outcome_it_changes_nothing(stated: list[tuple[str, int, int, int]]) -> None:
    settled = reconcile(sources(stated), KEY)
    if settled.rows.height:
        again = reconcile({str(name): frame for (name,), frame in settled.rows.partition_by("source", as_dict=True).items()}, KEY)
        assert again.rows.equals(settled.rows)
        assert (again.unserved.height, again.conflict_count, again.confirmed) == (0, 0, settled.confirmed)


@given(rows.filter(bool))
def test_the_finest_source_decides_and_two_values_in_it_decide_nothing(stated: list[tuple[str, int, int, int]]) -> None:
    said: dict[int, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for source, minute, value, _ in stated:
        said[minute][source].add(value)
    served, unserved, disputed = {}, set(), 0
    for minute, by_source in said.items():
        top = next(source for source in PRECEDENCE if source in by_source)
        if len(by_source[top]) == 1:
            served[minute] = (top, next(iter(by_source[top])))
        else:
            unserved |= {(minute, source, value) for source, values in by_source.items() for value in values}
        disputed += len(set.union(*by_source.values())) > 1

    settled = reconcile(sources(stated), KEY)
    minute = (pl.col("open_time") - START).dt.total_minutes().alias("minute")
    value = (pl.col("close") - 100).cast(pl.Int64).alias("value")
    assert settled.rows["open_time"].is_sorted()
    assert {m: (source, v) for m, source, v in settled.rows.select(minute, "source", value).iter_rows()} == served
    assert settled.rows.height == len(served)
    assert set(settled.unserved.select(minute, "source", value).iter_rows()) == unserved
    assert set(settled.unserved["rule"]) <= {"two_values_in_one_source"}
    assert settled.conflict_count == disputed
    assert settled.confirmed == (bool(served) and all(source == "daily" for source, _ in served.values()))


def test_two_values_in_one_source_are_not_served_though_another_source_has_one() -> None:
    monthly, (first, second) = bronze(minutes("2024-02-05", 2), "monthly"), minutes("2024-02-05", 2)
    daily = pl.concat([bronze([first], close=100.5), bronze([first], close=101.0), bronze([second])])
    settled = reconcile({"monthly": monthly, "daily": daily}, KEY)
    assert settled.rows["open_time"].to_list() == [second]
    assert settled.unserved.select("open_time", "source", "close").rows() == [(first, "daily", 100.5), (first, "daily", 101.0), (first, "monthly", 101.0)]


def test_equal_rows_of_one_source_are_one_row_with_the_same_lineage_in_any_order() -> None:
    times = minutes("2024-02-05", 2)
    one, other = bronze(times, sha="a"), bronze(times, sha="b")
    settled = [reconcile({"daily": pl.concat(frames)}, KEY).rows for frames in ([one, other], [other, one])]
    assert settled[0].equals(settled[1])
    assert settled[0]["source_sha256"].to_list() == ["a", "a"]


def test_values_that_are_not_published_are_equal_to_each_other() -> None:
    times = minutes("2024-02-05", 3)
    settled = reconcile({"daily": bronze(times, quote_volume=None), "monthly": bronze(times, "monthly", quote_volume=None)}, KEY)
    assert (settled.rows.height, settled.conflict_count, settled.confirmed) == (3, 0, True)


def test_no_rows_at_all_are_no_rows_and_no_proof() -> None:
    empty = bronze([])
    settled = reconcile({"daily": empty, "monthly": empty}, KEY)
    assert (settled.rows.height, settled.unserved.height, settled.conflict_count, settled.confirmed) == (0, 0, 0, False)
    assert settled.unserved.schema == {**empty.schema, "rule": pl.String}


def test_an_unknown_source_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="hearsay"):
        reconcile({"hearsay": bronze(minutes("2024-02-05", 1), fetched=NOW + timedelta(days=1))}, KEY)
