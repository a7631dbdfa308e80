"""One row per key from sources that disagree, whatever order they come in."""

from collections import defaultdict
from datetime import timedelta
from functools import partial

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datasets.candle import PRECEDENCE
from lakehouse.model.interval import Interval
from lakehouse.transform.reconcile import STANDS_IN, Reconciled, evidence
from lakehouse.transform.reconcile import reconcile as reconcile_by
from lakehouse.transform.resample import resample
from lakehouse_tests.making import MINUTE, NOW, at, bronze, minutes

reconcile = partial(reconcile_by, precedence=PRECEDENCE)

KEY = ("open_time",)
START = at("2024-02-05")
SUMS = ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
# A row: its source, its minute, its value, the file it stands in.
rows = st.lists(
    st.tuples(st.sampled_from(PRECEDENCE), st.integers(0, 4), st.integers(0, 2), st.integers(0, 1)),
    max_size=24,
)


def sources(
    stated: list[tuple[str, int, int, int]], order: tuple[str, ...] = PRECEDENCE
) -> dict[str, pl.DataFrame]:
    frames: dict[str, pl.DataFrame] = {}
    for name in order:
        made = [
            bronze([START + minute * MINUTE], name, sha=f"s{file}", close=100.0 + value)
            for source, minute, value, file in stated
            if source == name
        ]
        if made:
            frames[name] = pl.concat(made)
    return frames


def witness(traded: int | None) -> pl.DataFrame | None:
    """An hour that may or may not be that of the rows: its last close is one of their values, its trades are
    so many times a row's.
    """
    return (
        None
        if traded is None
        else bronze(
            [START],
            "api",
            open=100.0,
            high=102.0,
            close=100.0 + traded % 3,
            trade_count=7 * (traded // 2 + 1),
            **dict.fromkeys(SUMS),
        )
    )


def same(one: Reconciled, other: Reconciled) -> bool:
    frames = all(
        getattr(one, name).equals(getattr(other, name)) for name in ("rows", "unserved", "conflicts")
    )
    return frames and (one.conflict_count, one.unsettled_count) == (
        other.conflict_count,
        other.unsettled_count,
    )


@given(rows.filter(bool), st.none() | st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_outcome_does_not_depend_on_the_order_of_sources_or_rows(
    stated: list[tuple[str, int, int, int]], traded: int | None, random: object
) -> None:
    settled = reconcile(sources(stated), KEY, witness(traded))
    random.shuffle(stated)  # type: ignore[attr-defined]
    order = list(PRECEDENCE)
    random.shuffle(order)  # type: ignore[attr-defined]
    assert same(settled, reconcile(sources(stated, tuple(order)), KEY, witness(traded)))


@given(rows.filter(bool), st.none() | st.integers(0, 9))
def test_applied_to_its_own_outcome_it_changes_nothing(
    stated: list[tuple[str, int, int, int]], traded: int | None
) -> None:
    settled = reconcile(sources(stated), KEY, witness(traded))
    if settled.rows.height:
        again = reconcile(
            {
                str(name): frame
                for (name,), frame in settled.rows.partition_by("source", as_dict=True).items()
            },
            KEY,
            witness(traded),
        )
        assert again.rows.equals(settled.rows)
        assert (again.unserved.height, again.conflicts.height, again.conflict_count) == (0, 0, 0)


@given(rows.filter(bool), st.none() | st.integers(0, 9))
def test_every_key_is_served_or_not_once_and_every_dispute_is_told(
    stated: list[tuple[str, int, int, int]], traded: int | None
) -> None:
    said: dict[int, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for source, minute, value, _ in stated:
        said[minute][value].add(source)
    settled = reconcile(sources(stated), KEY, witness(traded))
    minute = (pl.col("open_time") - START).dt.total_minutes().alias("minute")
    value = (pl.col("close") - 100).cast(pl.Int64).alias("value")
    served = {m: (source, v) for m, source, v in settled.rows.select(minute, "source", value).iter_rows()}
    unserved = set(settled.unserved.select(minute).to_series())
    assert settled.rows["open_time"].is_sorted()
    assert len(served) == settled.rows.height
    absent = set(settled.conflicts.filter("is_absent").select(minute).to_series())
    assert not served.keys() & unserved
    assert not absent & (served.keys() | unserved)
    assert served.keys() | unserved | absent == said.keys()
    stated_daily = {m for m in said if any("daily" in names for names in said[m].values())}
    assert stated_daily or not absent, (
        "only a daily file of the day disputes a row by its silence, where no API was asked"
    )
    assert not absent & stated_daily
    for m, (source, v) in served.items():
        assert source == next(name for name in STANDS_IN if name in said[m][v]), (
            "the row stands in the first source that states its value"
        )

    told = {
        (m, v): (source, rule, ok, settled_)
        for m, v, source, rule, ok, settled_ in settled.conflicts.filter(~pl.col("is_absent"))
        .select(minute, value, "source", "rule", "is_served", "is_settled")
        .iter_rows()
    }
    disputed = {m for m, values in said.items() if len(values) > 1} | absent
    assert told.keys() == {(m, v) for m in disputed for v in said[m]}
    assert settled.conflict_count == len(disputed)
    assert settled.unsettled_count == len({m for (m, _), (_, _, _, ok) in told.items() if not ok})
    for (m, v), (source, rule, is_served, is_settled) in told.items():
        assert source == "+".join(sorted(said[m][v]))
        assert is_served == (m in served and served[m][1] == v)
        assert is_settled == (rule in ("witness", "later_snapshot", "both_families"))
        assert (rule == "two_values_in_one_source") == (m in unserved)
    assert set(settled.unserved.select(minute, "source", value).iter_rows()) == {
        (m, source, v) for m in unserved for v, names in said[m].items() for source in names
    }
    assert set(settled.unserved["rule"]) <= {"two_values_in_one_source"}


@given(rows.filter(bool))
def test_without_a_witness_both_families_decide_then_the_finest_source(
    stated: list[tuple[str, int, int, int]],
) -> None:
    said: dict[int, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for source, minute, value, _ in stated:
        said[minute][source].add(value)
    expected: dict[int, tuple[str, int | None]] = {}
    for minute, by_source in said.items():
        shared = by_source["api"] & (by_source["daily"] | by_source["monthly"])
        left = {source: values & shared if shared else values for source, values in by_source.items()}
        top = next(left[source] for source in PRECEDENCE if left.get(source))
        if len(set.union(*by_source.values())) > 1:
            one = len(top) == 1
            rule = (
                "both_families" if len(shared) == 1 else "precedence" if one else "two_values_in_one_source"
            )
            expected[minute] = (rule, next(iter(top)) if one else None)
    settled = reconcile(sources(stated), KEY)
    minute = (pl.col("open_time") - START).dt.total_minutes().alias("minute")
    served = {m: round(close - 100) for m, close in settled.rows.select(minute, "close").iter_rows()}
    assert {
        m: (rule, served.get(m)) for m, rule in settled.conflicts.select(minute, "rule").iter_rows()
    } == expected


def test_two_values_in_one_source_are_not_served_though_another_source_has_one() -> None:
    monthly, (first, second) = bronze(minutes("2024-02-05", 2), "monthly"), minutes("2024-02-05", 2)
    daily = pl.concat([bronze([first], close=100.5), bronze([first], close=101.0), bronze([second])])
    settled = reconcile({"monthly": monthly, "daily": daily}, KEY)
    assert settled.rows["open_time"].to_list() == [second]
    assert settled.unserved.select("open_time", "source", "close").rows() == [
        (first, "daily", 100.5),
        (first, "daily", 101.0),
        (first, "monthly", 101.0),
    ]


def test_equal_rows_of_one_source_are_one_row_with_the_same_lineage_in_any_order() -> None:
    times = minutes("2024-02-05", 2)
    one, other = bronze(times, sha="a"), bronze(times, sha="b")
    settled = [reconcile({"daily": pl.concat(frames)}, KEY).rows for frames in ([one, other], [other, one])]
    assert settled[0].equals(settled[1])
    assert settled[0]["source_sha256"].to_list() == ["a", "a"]


def test_values_that_are_not_published_are_equal_to_each_other() -> None:
    times = minutes("2024-02-05", 3)
    settled = reconcile(
        {"daily": bronze(times, quote_volume=None), "monthly": bronze(times, "monthly", quote_volume=None)},
        KEY,
    )
    assert (settled.rows.height, settled.conflict_count, settled.rows["source"].unique().to_list()) == (
        3,
        0,
        ["daily"],
    )


def test_a_key_that_one_source_alone_has_is_served_and_the_witness_says_so_in_the_evidence() -> None:
    times = minutes("2024-02-05", 60)
    hour = resample(bronze(times[1:]), Interval.parse("1h"))
    held = {"monthly": bronze(times, "monthly"), "api": bronze(times[1:], "api")}
    settled = reconcile(held, KEY, hour)
    assert (settled.rows.height, settled.conflict_count) == (60, 0)
    assert evidence(settled.rows, held, KEY, settled.judged) == "unconfirmed"
    assert settled.judged is not None
    assert settled.judged["agrees"].to_list() == [False]


def test_no_rows_at_all_are_no_rows_and_no_proof() -> None:
    empty = bronze([])
    settled = reconcile({"daily": empty, "monthly": empty}, KEY)
    assert (
        settled.rows.height,
        settled.unserved.height,
        settled.conflict_count,
        settled.unsettled_count,
    ) == (0, 0, 0, 0)
    assert settled.unserved.schema == {**empty.schema, "rule": pl.String}
    disputed = reconcile({"daily": bronze([START]), "monthly": bronze([START], "monthly", close=100.5)}, KEY)
    assert disputed.conflicts.schema == settled.conflicts.schema
    assert evidence(settled.rows, {"daily": empty}, KEY) == "unconfirmed"


def test_evidence_is_the_best_that_holds_for_every_row() -> None:
    times = minutes("2024-02-05", 60)
    monthly, daily, api = bronze(times, "monthly"), bronze(times), bronze(times, "api")
    hour, other = (
        resample(monthly, Interval.parse("1h")),
        resample(bronze(times, trade_count=8), Interval.parse("1h")),
    )

    def of(witness: pl.DataFrame | None = None, **held: pl.DataFrame) -> str:
        settled = reconcile(held, KEY, witness)
        return evidence(settled.rows, held, KEY, settled.judged)

    assert (
        of(monthly=monthly)
        == of(monthly=monthly, daily=daily[:59])
        == of(other, monthly=monthly)
        == "unconfirmed"
    )
    assert of(hour, monthly=monthly) == of(hour, monthly=monthly, daily=daily[:59], api=api[1:]) == "totals"
    assert (
        of(hour.clear(), monthly=monthly)
        == of(hour, monthly=bronze(minutes("2024-02-05", 61), "monthly"))
        == "unconfirmed"
    ), "rows that nobody witnessed"
    assert (
        of(hour, monthly=monthly, daily=daily)
        == of(monthly=monthly, daily=daily, api=api[1:])
        == of(daily=daily)
        == "rows_daily"
    )
    assert of(hour, monthly=monthly, daily=daily, api=api) == of(monthly=monthly, api=api) == "rows_api"
    wrong = bronze(times, "api", close=[101.5, *[101.0] * 59])
    assert of(monthly=monthly, daily=daily, api=wrong) == "rows_daily"
    assert of(hour, monthly=monthly, api=wrong) == of(hour, api=api) == "totals", (
        "a level names another family than the rows stand in"
    )
    assert evidence(daily, {"daily": daily, "api": api}, KEY, None, is_contradicted=True) == "contradicted", (
        "whatever else holds"
    )
    assert of(hour, monthly=monthly, daily=bronze(times[:1], close=101.5)) == "totals", (
        "a changed close that is not the hour's cannot be seen by the witness"
    )


def test_an_unknown_source_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="hearsay"):
        reconcile({"hearsay": bronze(minutes("2024-02-05", 1), fetched=NOW + timedelta(days=1))}, KEY)
