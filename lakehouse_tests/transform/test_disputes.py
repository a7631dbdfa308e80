"""Each rule by which one of several values is chosen, by example."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import polars as pl

from lakehouse.datasets.candle import PRECEDENCE
from lakehouse.model.interval import Interval
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.absences import Answered
from lakehouse.transform.reconcile import Reconciled
from lakehouse.transform.reconcile import reconcile as reconcile_by
from lakehouse.transform.resample import resample
from lakehouse_tests.making import MICRO, MINUTE, NOW, at, bronze, minutes

reconcile = partial(reconcile_by, precedence=PRECEDENCE)

KEY = ("open_time",)
START = at("2024-02-05")
TIMES = minutes("2024-02-05", 120)
WHOLE = TimeRange(START, START + timedelta(hours=2))
# what was traded in a minute that another source has otherwise
TRUE = {"trade_count": 9, "volume": 12.0, "quote_volume": 1210.0}


def hours(rows: pl.DataFrame) -> pl.DataFrame:
    return resample(rows, Interval.parse("1h"))


def rows_of(
    source: str, at_minutes: dict[int, dict[str, Any]], times: list[datetime] = TIMES, sha: str = "a"
) -> pl.DataFrame:
    """All minutes as one source states them, those named with other values."""
    stated = bronze(times, source, sha=sha)
    for minute, values in at_minutes.items():
        here = pl.col("open_time") == times[minute]
        stated = stated.with_columns(
            pl.when(here).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
            for name, value in values.items()
        )
    return stated


def ruled(settled: Reconciled, minute: int = 5, column: str = "trade_count") -> tuple[str, float | None]:
    """The rule that decided a minute, and the value served."""
    (rule,) = settled.conflicts.filter(open_time=TIMES[minute])["rule"].unique()
    served = settled.rows.filter(open_time=TIMES[minute])[column].to_list()
    return rule, served[0] if served else None


# --- witness --------------------------------------------------------------------------------------


def test_the_source_whose_rows_make_the_hour_of_the_witness_is_served_whatever_its_rank() -> None:
    monthly, daily = rows_of("monthly", {5: TRUE, 6: TRUE}), rows_of("daily", {})
    settled = reconcile({"monthly": monthly, "daily": daily}, KEY, hours(monthly))
    assert [ruled(settled, minute) for minute in (5, 6)] == [("witness", 9)] * 2
    assert (settled.conflict_count, settled.unsettled_count) == (2, 0)
    assert ruled(reconcile({"monthly": monthly, "daily": daily}, KEY, hours(daily))) == ("witness", 7)


def test_each_hour_is_judged_by_itself() -> None:
    monthly, daily = rows_of("monthly", {5: TRUE, 65: TRUE}), rows_of("daily", {})
    witness = pl.concat([hours(monthly).head(1), hours(daily).tail(1)])
    settled = reconcile({"monthly": monthly, "daily": daily}, KEY, witness)
    assert [ruled(settled, minute) for minute in (5, 65)] == [("witness", 9), ("witness", 7)]
    without = reconcile({"monthly": monthly, "daily": daily}, KEY, witness.tail(1))
    assert [ruled(without, minute) for minute in (5, 65)] == [("later_snapshot", 9), ("witness", 7)], (
        "an hour without a witness is left to the next rule"
    )


def test_a_witness_that_fits_several_decides_between_those_that_do_not() -> None:
    """An inner close is nothing the hour shows: daily and API fit it, so monthly is out and the next rules
    choose.
    """
    held = {
        "monthly": rows_of("monthly", {5: TRUE}),
        "daily": rows_of("daily", {5: {"close": 101.5}}),
        "api": rows_of("api", {}),
    }
    assert ruled(reconcile(held, KEY, hours(held["api"])), column="close") == ("precedence", 101.5)
    assert ruled(reconcile(held, KEY)) == ("later_snapshot", 9), (
        "without it, monthly would have looked like the later snapshot"
    )


def test_a_witness_that_fits_nothing_leaves_all_to_the_next_rule() -> None:
    held = {"monthly": rows_of("monthly", {5: TRUE}), "daily": rows_of("daily", {5: {"open": 100.5}})}
    assert ruled(reconcile(held, KEY, hours(rows_of("api", {5: {"trade_count": 20}})))) == ("precedence", 7)


def test_a_single_disputed_minute_is_decided_even_between_two_values_of_one_source() -> None:
    both = pl.concat([rows_of("daily", {}), rows_of("daily", {5: TRUE}).slice(5, 1)])
    assert ruled(reconcile({"daily": both}, KEY, hours(rows_of("api", {5: TRUE})))) == ("witness", 9)
    assert ruled(reconcile({"daily": both}, KEY, hours(rows_of("api", {})))) == ("witness", 7)
    fitting = pl.concat([rows_of("daily", {5: {"close": 101.5}}), rows_of("daily", {5: TRUE}).slice(5, 1)])
    several = reconcile({"daily": fitting, "monthly": rows_of("monthly", {})}, KEY, hours(rows_of("api", {})))
    assert ruled(several, column="close") == ("precedence", 101.5), (
        "exactly one must fit: here one of daily's does, and monthly's"
    )
    neither = reconcile({"daily": both}, KEY, hours(rows_of("api", {5: {"trade_count": 20}})))
    assert ruled(neither)[0] == "later_snapshot"


def test_two_values_at_several_minutes_of_one_source_are_told_apart_while_combinations_are_few() -> None:
    """As when rows of another year were filed under four minutes of this one; beyond that a sum could fit by
    chance.
    """
    wrong = {"open": 200.0, "high": 203.0, "low": 199.0, "close": 202.0}

    def served(count: int) -> Reconciled:
        both = pl.concat(
            [
                rows_of("daily", {}),
                rows_of("daily", {n: wrong | {"trade_count": 7 + 2**n} for n in range(count)}).head(count),
            ]
        )
        return reconcile({"daily": both}, KEY, hours(rows_of("api", {})))

    assert [ruled(served(4), minute, "open") for minute in range(4)] == [("witness", 100.0)] * 4
    assert served(5).unserved.height == 10
    assert set(served(5).conflicts["rule"]) == {"two_values_in_one_source"}


def without(frame: pl.DataFrame, *minutes: int) -> pl.DataFrame:
    return frame.filter(~pl.col("open_time").is_in([TIMES[minute] for minute in minutes]))


def test_absence_disputes_presence_only_where_a_source_was_asked_and_the_hour_fits_only_without_the_row() -> (
    None
):
    whole, short = rows_of("monthly", {}), without(rows_of("daily", {}), 5)
    settled = reconcile({"monthly": whole, "daily": short}, KEY, hours(short))
    assert (settled.rows.height, settled.conflict_count, settled.unsettled_count) == (119, 1, 0)
    told = settled.conflicts.select(
        "open_time", "source", "trade_count", "rule", "is_served", "is_settled", "is_absent"
    ).rows()
    assert told == [
        (TIMES[5], "monthly", 7, "witness", False, True, False),
        (TIMES[5], "daily", None, "witness", True, True, True),
    ]
    for kept in (
        {"monthly": whole, "daily": short},
        {"monthly": short, "daily": whole.with_columns(source=pl.lit("daily"))},
    ):
        assert reconcile(kept, KEY).conflict_count == 0, "nobody can tell without a witness"
        assert reconcile(kept, KEY, hours(whole)).conflict_count == 0, "the hour fits with the row"
    assert (
        reconcile(
            {"daily": whole.with_columns(source=pl.lit("daily")), "monthly": short}, KEY, hours(short)
        ).rows.height
        == 120
    ), "monthly files are known to lose rows"
    unread = {"monthly": whole, "daily": short.with_columns(pl.col("open_time") + timedelta(days=1))}
    assert reconcile(unread, KEY, hours(short)).rows.height == 239, "no daily file of that day"


def test_rows_in_both_files_go_where_the_api_answered_without_them_and_its_hours_do_too() -> None:
    """Fifty traded rows in a true halt; an hour wholly without a candle; a late row beside a good one."""
    halted = range(40, 90)
    monthly, daily, api = rows_of("monthly", {}), rows_of("daily", {}), without(rows_of("api", {}), *halted)
    asked = [Answered(WHOLE, NOW)]

    def rows(witness: pl.DataFrame, asked: list[Answered] = asked, **held: pl.DataFrame) -> int:
        return reconcile(held, KEY, witness, answered=[WHOLE], asked=asked).rows.height

    assert rows(hours(api), monthly=monthly, daily=daily, api=api) == 70
    assert (
        rows(
            hours(api).head(1), monthly=monthly, daily=daily, api=without(rows_of("api", {}), *range(60, 120))
        )
        == 60
    ), "an hour without a candle equals no row"
    assert rows(hours(monthly), monthly=monthly, daily=daily, api=api) == 120, (
        "the hours trade: the answer was short"
    )
    assert rows(hours(api), [], monthly=monthly, daily=daily, api=api) == 120, (
        "the API was not asked about them"
    )
    late = [START + timedelta(seconds=30) + 5 * MINUTE]
    extra = pl.concat([monthly, bronze(late, "monthly")]).sort("open_time")
    assert (
        rows(hours(daily), monthly=extra, daily=daily)
        == rows(hours(daily), monthly=extra, api=daily.with_columns(source=pl.lit("api")))
        == 120
    )
    assert rows(hours(extra), monthly=extra, daily=daily) == 121, (
        "a misaligned row that the witness confirms stays"
    )


def test_a_row_that_was_published_after_a_silence_is_not_denied_by_it() -> None:
    """A file that was replaced has a row more; neither the daily file nor the API nor its hours were read
    since.
    """
    short, later = without(rows_of("daily", {}), 5), NOW + timedelta(days=2)
    whole = rows_of("monthly", {}).with_columns(
        pl.when(pl.col("open_time") == TIMES[5])
        .then(pl.lit(later))
        .otherwise("fetched_at")
        .alias("fetched_at")
        .cast(pl.Datetime("us", "UTC"))
    )
    api = short.with_columns(source=pl.lit("api"))

    def height(at: datetime, said_at: datetime, daily: pl.DataFrame = short) -> int:
        held = {"monthly": whole, "daily": daily, "api": api}
        return reconcile(
            held, KEY, hours(short), answered=[WHOLE], asked=[Answered(WHOLE, at)], said_at=said_at
        ).rows.height

    assert height(NOW, NOW) == height(later, NOW) == height(NOW, later) == 120
    assert (
        height(later, later)
        == height(NOW, later, short.with_columns(fetched_at=pl.lit(later).cast(pl.Datetime("us", "UTC"))))
        == 119
    )


def test_values_and_absences_of_one_hour_are_decided_together() -> None:
    monthly, daily = rows_of("monthly", {4: TRUE}), without(rows_of("daily", {}), 7)
    settled = reconcile({"monthly": monthly, "daily": daily}, KEY, hours(daily))
    assert settled.rows.equals(daily)
    assert settled.conflicts.filter("is_served").select("open_time", "rule", "is_absent").rows() == [
        (TIMES[4], "witness", False),
        (TIMES[7], "witness", True),
    ]
    mixed = reconcile({"monthly": monthly, "daily": daily}, KEY, hours(without(monthly, 7)))
    assert mixed.rows["trade_count"].sum() == 118 * 7 + 9, (
        "the row that daily lacks goes, the value of monthly stays"
    )


def test_an_hour_that_the_witness_left_open_denies_no_row() -> None:
    """Its candle could not be read: answered is what lies before and behind, and that no source but one has
    the rows proves nothing.
    """
    times = minutes("2024-02-05", 180)
    whole, stated = rows_of("monthly", {}, times), hours(rows_of("monthly", {}, times))
    middle = pl.col("open_time").is_between(times[60], times[119])
    answered = [TimeRange(times[0], times[60]), TimeRange(times[120], times[179] + MINUTE)]
    for others in ({}, {"daily": rows_of("daily", {}, times)}):
        held = {"monthly": whole, "api": rows_of("api", {}, times).filter(~middle), **others}
        asked = [Answered(TimeRange(times[0], times[179] + MINUTE), NOW)]
        settled = reconcile(held, KEY, stated.filter(~middle), answered=answered, asked=asked)
        assert (settled.rows.height, settled.conflict_count) == (180, 0)
        assert settled.judged is not None
        assert settled.judged["agrees"].to_list() == [True, None, True]


def test_absences_that_decide_an_hour_leave_a_key_with_two_values_in_one_source_undecided() -> None:
    """The daily file, which the hour equals, lacks the key, too: there is no value to serve, and none is said
    to be settled.
    """
    daily, other = (
        without(rows_of("daily", {}), 5, 6),
        rows_of("monthly", {5: {"close": 100.5}}).filter(open_time=TIMES[5]),
    )
    settled = reconcile(
        {"monthly": pl.concat([rows_of("monthly", {}), other]), "daily": daily}, KEY, hours(daily)
    )
    assert settled.conflicts.select("open_time", "rule", "is_served", "is_absent").rows() == [
        *[(TIMES[5], "two_values_in_one_source", False, False)] * 2,
        (TIMES[6], "witness", False, False),
        (TIMES[6], "witness", True, True),
    ]
    assert (settled.rows.height, settled.unsettled_count, settled.unserved["open_time"].to_list()) == (
        118,
        1,
        [TIMES[5]] * 2,
    )


# --- one family against another -------------------------------------------------------------------


def test_an_api_that_contradicts_most_candles_of_a_day_settles_nothing() -> None:
    other = {
        n: {"open": 50.0, "high": 51.0, "low": 49.0, "close": 50.5, "trade_count": 3} for n in range(120)
    }
    monthly, alien = rows_of("monthly", {}), rows_of("api", other)
    settled = reconcile({"monthly": monthly, "api": alien}, KEY, hours(alien))
    assert settled.rows.equals(monthly)
    assert settled.wholesale == ("2024-02-05",)
    assert (settled.conflict_count, settled.unsettled_count, set(settled.conflicts["rule"])) == (
        120,
        120,
        {"wholesale"},
    )
    missing = reconcile({"monthly": without(monthly, 3), "api": alien}, KEY, hours(alien))
    assert (missing.rows.height, missing.unserved.select("open_time", "rule").rows()) == (
        119,
        [(TIMES[3], "wholesale")],
    ), "nor does it fill a hole"
    denied = reconcile(
        {"monthly": monthly, "daily": rows_of("daily", {})},
        KEY,
        hours(monthly).clear(),
        answered=[WHOLE],
        asked=[Answered(WHOLE, NOW)],
    )
    assert (denied.rows.height, denied.wholesale, denied.conflict_count) == (120, ("2024-02-05",), 0), (
        "an API that has nothing at all denies nothing"
    )
    few = reconcile({"monthly": monthly, "api": rows_of("api", {n: other[n] for n in range(60)})}, KEY)
    assert few.wholesale == (), "half of the candles are not most"
    confirmed = reconcile(
        {"monthly": monthly, "daily": alien.with_columns(source=pl.lit("daily")), "api": alien},
        KEY,
        hours(alien),
    )
    assert (confirmed.wholesale, confirmed.unsettled_count, confirmed.rows["source"].unique().to_list()) == (
        (),
        0,
        ["daily"],
    ), "a daily file says the same: both families"
    unsound = reconcile(
        {"monthly": monthly.with_columns(high=pl.lit(1.0)), "api": alien},
        KEY,
        is_sound=pl.col("high") >= pl.col("low"),
    )
    assert (unsound.wholesale, set(unsound.conflicts["rule"])) == ((), {"row_rules"}), (
        "candles that break a rule are wrong by themselves"
    )


def test_misaligned_rows_are_weighed_in_the_hour_of_the_witness_that_owns_them() -> None:
    """Rows off the grid up to 01:00:14, the first aligned candle at 01:00 overlapping the last of them."""
    odd = [START + timedelta(seconds=14, milliseconds=789) + n * MINUTE for n in range(60)]
    aligned = [START + timedelta(hours=1) + n * MINUTE for n in range(60)]
    times = [*odd, *aligned]
    monthly, daily = rows_of("monthly", {59: TRUE, 60: TRUE}, times), rows_of("daily", {}, times)
    stated = [
        hours(frame).with_columns(open_time=pl.Series([odd[0], aligned[0]], dtype=pl.Datetime("us", "UTC")))
        for frame in (monthly, daily)
    ]
    settled = reconcile(
        {"monthly": monthly, "daily": daily}, KEY, pl.concat([stated[0].head(1), stated[1].tail(1)])
    )
    assert settled.rows.height == 120
    assert settled.conflicts.filter("is_served").select("open_time", "trade_count", "rule").rows() == [
        (odd[59], 9, "witness"),
        (aligned[0], 7, "witness"),
    ]


def test_two_misaligned_rows_in_one_slot_are_two_keys() -> None:
    one, other = START + timedelta(seconds=4), START + timedelta(seconds=40)
    held = {"monthly": bronze([one, other], "monthly"), "daily": bronze([one, other])}
    assert reconcile(held, KEY).rows["open_time"].to_list() == [one, other]
    assert reconcile(held | {"monthly": bronze([other], "monthly", close=100.5)}, KEY).conflicts[
        "open_time"
    ].unique().to_list() == [other]


# --- the rules without a witness ------------------------------------------------------------------


def disputed(daily: dict[str, Any], **others: dict[str, Any]) -> tuple[str, float | None]:
    held = {"daily": rows_of("daily", {5: daily})} | {
        name: rows_of(name, {5: values}) for name, values in others.items()
    }
    return ruled(reconcile(held, KEY))


def test_a_candle_that_another_one_extends_is_an_earlier_snapshot_of_it() -> None:
    later = {"high": 103.0, "low": 98.0, "close": 98.5, "volume": 12.0, "trade_count": 9}
    assert disputed({}, monthly=later) == ("later_snapshot", 9)
    assert disputed(later, monthly={}) == ("later_snapshot", 9)
    for contradiction in (
        {"open": 100.5},
        {"high": 101.5},
        {"low": 99.5},
        {"volume": 9.0},
        {"trade_count": 7},
    ):
        assert disputed({}, monthly=later | contradiction)[0] == "precedence", contradiction
    both = pl.concat([rows_of("daily", {}), rows_of("daily", {5: later}).slice(5, 1)])
    assert ruled(reconcile({"daily": both}, KEY)) == ("later_snapshot", 9), "also within one source"


def test_a_traded_candle_stays_before_an_untraded_one() -> None:
    untraded = {
        "open": 90.0,
        "high": 90.0,
        "low": 90.0,
        "close": 90.0,
        "volume": 0.0,
        "quote_volume": 0.0,
        "trade_count": 0,
    }
    assert disputed(untraded, monthly={}) == ("later_snapshot", 7)
    assert disputed(untraded, monthly={}, api={"close": 100.5}) == ("precedence", 7), (
        "of the two that traded, the API's"
    )
    assert disputed(untraded | {"close": 91.0}, monthly=untraded)[0] == "precedence"


def test_archive_and_api_together_outvote_the_other_archive_file() -> None:
    assert disputed({"close": 101.5}, monthly={}, api={}) == ("both_families", 7)
    held = {
        "daily": rows_of("daily", {5: {"close": 101.5}}),
        "monthly": rows_of("monthly", {}),
        "api": rows_of("api", {}),
    }
    settled = reconcile(held, KEY)
    assert settled.conflicts.select(
        "source", "source_file", "close", "rule", "is_served", "is_settled"
    ).rows() == [
        ("daily", "daily.zip", 101.5, "both_families", False, True),
        ("api+monthly", "monthly.zip", 101.0, "both_families", True, True),
    ]
    assert settled.rows["source"].to_list() == ["daily"] * 5 + ["monthly"] + ["daily"] * 114


def test_monthly_and_daily_are_one_family_with_one_vote() -> None:
    held = {
        "daily": rows_of("daily", {}),
        "monthly": rows_of("monthly", {}),
        "api": rows_of("api", {5: {"close": 101.5}}),
    }
    settled = reconcile(held, KEY)
    assert ruled(settled, column="close") == ("precedence", 101.0)
    assert settled.unsettled_count == 1


def test_precedence_is_the_last_resort_and_never_settles() -> None:
    assert disputed({"close": 100.5}, monthly={"close": 101.5}, api={})[0] == "precedence"
    assert ruled(
        reconcile({"monthly": rows_of("monthly", {5: {"close": 101.5}}), "api": rows_of("api", {})}, KEY),
        column="close",
    ) == ("precedence", 101.0)


def test_two_values_in_the_source_that_would_decide_are_both_left_out() -> None:
    both = pl.concat([rows_of("daily", {}), rows_of("daily", {5: {"close": 101.5}}).slice(5, 1)])
    settled = reconcile({"daily": both, "monthly": rows_of("monthly", {5: {"close": 100.5}})}, KEY)
    assert ruled(settled) == ("two_values_in_one_source", None)
    assert settled.unserved.select("source", "close", "rule").rows() == [
        (name, close, "two_values_in_one_source")
        for name, close in (("daily", 101.0), ("daily", 101.5), ("monthly", 100.5))
    ]
    assert (settled.rows.height, settled.conflict_count, settled.unsettled_count) == (119, 1, 1)
    assert ruled(reconcile({"daily": both, "api": rows_of("api", {})}, KEY), column="close") == (
        "both_families",
        101.0,
    ), "the API confirms one of them"


def test_other_columns_than_those_of_candles_are_ruled_by_what_applies() -> None:
    """Funding rates have no trades to extend and no witness: families and precedence decide."""
    lineage = {
        name: bronze([START])[name] for name in ("source_file", "source_sha256", "fetched_at", "is_removed")
    }

    def funding(source: str, rate: float) -> pl.DataFrame:
        return pl.DataFrame({"funding_time": [START + MICRO], "rate": [rate], "source": [source], **lineage})

    def rule(*stated: tuple[str, float]) -> tuple[str, float]:
        settled = reconcile({source: funding(source, rate) for source, rate in stated}, ("funding_time",))
        return settled.conflicts["rule"][0], settled.rows["rate"][0]

    assert rule(("monthly", 0.1), ("api", 0.2)) == ("precedence", 0.2)
    assert rule(("monthly", 0.1), ("api", 0.1), ("daily", 0.3)) == ("both_families", 0.1)
