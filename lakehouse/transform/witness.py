"""Whether candles agree with an independent statement about the same trades."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from lakehouse.model.table import UTC_TIME
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.resample import PRICES, SUMS, exact

HOUR = timedelta(hours=1)
TOTALS = (*SUMS, "taker_buy_contracts")
# How far a total may be off: half of the last decimal that is published (writers that add floats leave dust
# below it), or what Float64 and texts of sixteen digits round off, if that is more. Up to 2**50 units of the
# last decimal neither hides a single one; above, Float64 hardly holds it.
HALF_UNIT = 0.5e-8
ROUNDING = 2.0**-50
# Below these, whole units of the last decimal are exact in Float64, and a day of minutes sums up in Int64.
_TEN_DECIMALS_BELOW, _EIGHT_DECIMALS_BELOW = 1e5, 2e7
_MICRO = timedelta(microseconds=1)


def judge(
    rows: pl.DataFrame, witness: pl.DataFrame, length: timedelta = HOUR, answered: Sequence[TimeRange] = ()
) -> pl.DataFrame:
    """Hold candles against coarser candles that were stated independently of them.

    A witness candle owns the rows that open in its own `[open_time, open_time + length)`, also when it is
    misaligned; where two overlap, the later one owns the overlap. Trade counts and prices must be equal, the
    prices over rows with trades (or the flat price if none has any: a quiet minute repeats an earlier price).
    Other totals may differ by what is rounded off when they are printed and read. A column that is null in
    the witness or in every row is not compared; a missing trade shows in the count, also where its size is
    below the rounding. What the witness cannot see: a changed open, high, low or close that is not its
    hour's.

    Args:
        rows: Candles of one source, one per key.
        witness: Coarser candles, one per key.
        length: Length of a witness candle.
        answered: Ranges that the witness was asked for and answered: where it has no candle in them, it
            states that there was none.

    Returns:
        One row per witness candle, and per `length` from 00:00 UTC with rows but without one, in order:
        `open_time`, `row_count`, `agrees` (null where nobody says anything: where the witness has no candle,
        outside what it answered, or where no answers are told before the first and after the last candle) and
        `differs` (names of the columns that differ; `open_time` where the witness has no candle).
    """
    owned = rows.with_columns(owners(rows["open_time"], witness["open_time"], length))
    totals = hold(owned.rename({"owner": "hour"}), ["hour"], witness)
    among = [(pl.col("hour") >= span.start) & (pl.col("hour") + length <= span.end) for span in answered]
    inside = (
        pl.col("hour").is_between(witness["open_time"].min(), witness["open_time"].max()).fill_null(False)
    )
    # between two answers an hour may be open
    speaks = pl.any_horizontal("is_witnessed", *(among or [inside]))
    return totals.sort("hour").select(
        pl.col("hour").alias("open_time"),
        "row_count",
        pl.when(speaks).then(pl.col("differs").list.len() == 0).alias("agrees"),
        "differs",
    )


def confirmed_hours(
    judged: pl.DataFrame, answered: Sequence[TimeRange], length: timedelta = HOUR
) -> pl.Series:
    """The hours (of `length`, from 00:00 UTC) that a witness answered and that equal the rows that are there.

    Args:
        judged: The outcome of `judge`.
        answered: Ranges that the witness was asked for and answered.
        length: Length of a witness candle.
    """
    spans = [
        pl.datetime_range(span.start, span.end - length, length, time_unit="us", eager=True).cast(UTC_TIME)
        for span in answered
        if span.start + length <= span.end
    ]
    hours = pl.concat([pl.Series([], dtype=UTC_TIME), *spans]).unique()
    hours = hours.filter(hours.dt.truncate(length) == hours)
    wrong = _touched(judged.filter(~pl.col("agrees").fill_null(False)), length)
    return hours.filter(~hours.is_in(wrong.implode())).sort()


def denied_hours(judged: pl.DataFrame, length: timedelta = HOUR) -> pl.Series:
    """The hours (of `length`, from 00:00 UTC) of which a witness says otherwise than the rows that are there.

    Args:
        judged: The outcome of `judge`.
        length: Length of a witness candle.
    """
    return _touched(judged.filter(~pl.col("agrees")), length).unique()


def _touched(judged: pl.DataFrame, length: timedelta) -> pl.Series:
    """The hours that some candles of a witness lie in: one that is misaligned reaches into two."""
    opens = judged["open_time"]
    return pl.concat([opens.dt.truncate(length), (opens + length - _MICRO).dt.truncate(length)])


def owners(times: pl.Series, witness_times: pl.Series, length: timedelta = HOUR) -> pl.Series:
    """`open_time` of the witness candle that owns each instant, or the instant's floor where none does."""
    if (witness_times.dt.truncate(length) == witness_times).all():
        return times.dt.truncate(length).alias("owner")
    asked = times.to_frame("time").with_row_index()
    known = witness_times.sort().to_frame("owner")
    found = asked.sort("time").join_asof(
        known,
        left_on="time",
        right_on="owner",
        tolerance=length - _MICRO,
        coalesce=False,
        check_sortedness=False,
    )
    return found.sort("index").select(pl.col("owner").fill_null(pl.col("time").dt.truncate(length)))["owner"]


def hold(owned: pl.DataFrame, group: list[str], witness: pl.DataFrame) -> pl.DataFrame:
    """Compare groups of rows with witness candles.

    Args:
        owned: Rows with the column `hour`, their owner.
        group: Columns that tell groups apart; the first is `hour`. With `hour` alone, witness candles that
            own no row are groups too.
        witness: Witness candles.

    Returns:
        Per group: its columns, `row_count`, `is_witnessed` and `differs`.
    """
    compared = [
        name
        for name in (*PRICES, *TOTALS)
        if name in owned.columns and name in witness.columns and witness[name].null_count() < witness.height
    ]
    traded = (pl.col("trade_count") > 0).fill_null(pl.col("volume") > 0).fill_null(True)
    scales = {name: _scale(owned[name]) for name in compared if name in TOTALS and name != "trade_count"}
    ordered = owned if owned["open_time"].is_sorted() else owned.sort("open_time")
    ready = ordered.select(
        *group,
        traded.alias("traded"),
        *(_in_units(name, scales[name]) if name in scales else pl.col(name) for name in compared),
    )
    said = ready.group_by(group, maintain_order=True).agg(
        pl.len().alias("row_count"), *(_whole(name, scales.get(name)) for name in compared)
    )
    stated = witness.select(pl.col("open_time").alias("hour"), *compared, pl.lit(True).alias("is_witnessed"))
    both = said.join(
        stated, on="hour", how="full" if group == ["hour"] else "left", coalesce=True, suffix="_stated"
    )
    both = both.with_columns(pl.col("row_count").fill_null(0), pl.col("is_witnessed").fill_null(False))
    different = [pl.when(_differs(name, "contracts" in compared)).then(pl.lit(name)) for name in compared]
    absent = pl.when(~pl.col("is_witnessed")).then(pl.lit("open_time"))
    return both.select(
        *group,
        "row_count",
        "is_witnessed",
        pl.concat_list(absent, *different).list.drop_nulls().alias("differs"),
    )


def _scale(values: pl.Series) -> float | None:
    """Units of the last decimal in one: sums of whole units are exact and cost a quarter of Decimal ones;
    None where they would not fit, or not be exact.
    """
    largest = float(values.abs().max() or 0)  # type: ignore[arg-type]
    return 1e10 if largest < _TEN_DECIMALS_BELOW else 1e8 if largest < _EIGHT_DECIMALS_BELOW else None


def _in_units(name: str, scale: float | None) -> pl.Expr:
    return (
        (pl.col(name) * scale).round().cast(pl.Int64).alias(name)
        if scale
        else exact(pl.col(name)).alias(name)
    )


def _whole(name: str, scale: float | None) -> pl.Expr:
    """What all rows of a group say together; sums of units are scaled back."""
    value = pl.col(name)
    if name in PRICES:
        over_trades, over_all = (
            {
                "open": price.first(ignore_nulls=True),
                "high": price.max(),
                "low": price.min(),
                "close": price.last(ignore_nulls=True),
            }[name]
            for price in (pl.when("traded").then(value), value)
        )
        return over_trades.fill_null(over_all)
    total = (
        pl.when(value.count() > 0).then(value.sum()).cast(pl.Int64 if name == "trade_count" else pl.Float64)
    )
    return total / scale if scale else total


def _differs(name: str, has_contracts: bool) -> pl.Expr:
    """Whether a group's value is not the witness's; null (as good as false) where either does not say."""
    ours, theirs = pl.col(name), pl.col(f"{name}_stated")
    if name in PRICES:
        return ours != theirs
    # no row at all states that nothing was traded
    ours = pl.when(pl.col("row_count") == 0).then(0).otherwise(ours)
    if name == "trade_count":
        return ours != theirs
    # Inverse markets: base volumes are contracts / price, rounded in every row. A contract is worth far more
    # than all of that.
    rounded = (
        pl.when(pl.col("contracts_stated").is_not_null()).then(pl.col("row_count") + 1).otherwise(1)
        if has_contracts and name in ("volume", "taker_buy_volume")
        else 1
    )
    slack = pl.max_horizontal(theirs.abs() * ROUNDING, rounded * pl.lit(HALF_UNIT))
    return (ours - theirs).abs() > slack
