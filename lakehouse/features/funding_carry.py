"""`gold/funding_carry`: what a position in a perpetual pays or earns by funding, settlement by settlement."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

import polars as pl

from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.result import GapRun
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.resample import exact

_HOURS_OF_A_YEAR = 365 * 24


class FundingCarry(Feature):
    """Funding payments of perpetuals, as shares of the position's value, and what they come to in a year.

    The rate is what one who is short earns, and one who is long pays, at the settlement: in the settlement
    currency, per unit of value at the mark price. Of a linear contract that is quote (rate x size x mark
    price), of an inverse one base (rate x contracts x contract size / mark price). The year is reckoned with
    the interval that the settlement really has, without compounding. `Lake.funding_carry` sums from any
    instant on.
    """

    name = "gold/funding_carry"
    key = ("funding_time",)
    time = "funding_time"
    market_types = FundingRate.market_types
    most_per_minute = 1
    inputs = (Input(FundingRate),)

    funding_time = Column(UTC_TIME, "Minute of the settlement", "UTC")
    rate = Column(pl.Float64, "Share of the position's value that shorts earn from longs", at_least=-1)
    interval_hours = Column(
        pl.Int32, "Hours between settlements; null where nobody tells", "h", nullable=True, above=0
    )
    annual_rate = Column(
        pl.Float64,
        "The rate times the intervals of 365 days, without compounding; null where the interval is",
        "a year",
        nullable=True,
    )
    mark_price = Column(
        pl.Float64, "Mark price of the payment; null where not published", "quote", nullable=True, above=0
    )
    knowable_at = Column(
        UTC_TIME,
        "From when on the row could have been known: the settlement as published; that of the next one where "
        "only it tells the interval",
        "UTC",
    )

    @classmethod
    def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        stated = pl.max_horizontal("funding_time", "published_time")
        told_later = pl.when(pl.col("interval_source") == "after").then(stated.shift(-1))
        return inputs[FundingRate.name].select(
            "funding_time",
            "rate",
            "interval_hours",
            annual_rate=pl.col("rate") * _HOURS_OF_A_YEAR / pl.col("interval_hours"),
            mark_price=pl.col("mark_price"),
            knowable_at=pl.coalesce(told_later, stated),
        )


def summed_since(
    rows: pl.DataFrame, since: datetime, gaps: Iterable[GapRun], months: Collection[str]
) -> pl.DataFrame:
    """Rows of carry with what they add up to from an instant on.

    Args:
        rows: Rows of `gold/funding_carry`, in order, none left out since the instant.
        since: The instant.
        gaps: What is absent of the funding rates from then on.
        months: The months of which funding rates are stored.

    Returns:
        The rows with `rate_since`, `payment_count` and `absent_count`, null before the instant; the last null
        as well behind a month that is not stored. Sums are exact, so no other row changes one.
    """
    is_since = pl.col("funding_time") >= since
    absent = [
        slot
        for run in gaps
        if run.gap_class != "not_listed"
        for n in range(run.slot_count)
        if (slot := run.start + n * (run.end - run.start) / run.slot_count) >= since
    ]
    lacking = pl.DataFrame({"absent": sorted(absent)}, {"absent": UTC_TIME}).with_row_index("absent_count", 1)
    summed = rows.with_columns(
        rate_since=exact(pl.when(is_since).then("rate").otherwise(0.0)).cum_sum().cast(pl.Float64),
        payment_count=is_since.cast(pl.Int64).cum_sum(),
    ).join_asof(lacking, left_on="funding_time", right_on="absent", check_sortedness=False)
    last = rows["funding_time"].max()
    known = pl.lit(True)
    if isinstance(last, datetime) and last >= since:
        asked = TimeRange(since, last + timedelta(microseconds=1)).months()
        if unstored := next((month for month in asked if month not in months), None):
            known = pl.col("funding_time").dt.strftime("%Y-%m") < unstored
    return summed.with_columns(
        rate_since=pl.when(is_since).then("rate_since"),
        payment_count=pl.when(is_since).then("payment_count"),
        absent_count=pl.when(is_since & known).then(pl.col("absent_count").fill_null(0).cast(pl.Int64)),
    ).drop("absent")
