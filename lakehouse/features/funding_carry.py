"""`gold/funding_carry`: what a position in a perpetual pays or earns by funding, settlement by settlement."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

import polars as pl

from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.model.cell import Cell
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.result import CellFacts, GapRun
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange, month_range
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
        # the settlement that tells an interval may be one that is not served
        following = pl.col("funding_time") + pl.duration(hours="interval_hours")
        told_later = pl.when(pl.col("interval_source") == "after").then(
            pl.max_horizontal(following, stated.shift(-1))
        )
        return inputs[FundingRate.name].select(
            "funding_time",
            "rate",
            "interval_hours",
            annual_rate=pl.col("rate") * _HOURS_OF_A_YEAR / pl.col("interval_hours"),
            mark_price=pl.col("mark_price"),
            knowable_at=pl.coalesce(told_later, stated),
        )


def summed_since(
    rows: pl.DataFrame, since: datetime, gaps: Iterable[GapRun], known_until: datetime
) -> pl.DataFrame:
    """Rows of carry with what they add up to from an instant on.

    Args:
        rows: Rows of `gold/funding_carry`, in order, none left out since the instant.
        since: The instant.
        gaps: What is absent of the funding rates from then on.
        known_until: Until when from then on nothing else can be absent, as `known_until` tells it.

    Returns:
        The rows with `rate_since`, `payment_count` and `absent_count`, null before the instant; the last null
        as well from `known_until` on. Sums are exact, so no other row changes one.
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
    is_known = is_since & (pl.col("funding_time") < known_until)
    return summed.with_columns(
        rate_since=pl.when(is_since).then("rate_since"),
        payment_count=pl.when(is_since).then("payment_count"),
        absent_count=pl.when(is_known).then(pl.col("absent_count").fill_null(0).cast(pl.Int64)),
    ).drop("absent")


def known_until(
    since: datetime, end: datetime, rates: Mapping[Cell, CellFacts], carry: Collection[Cell]
) -> datetime:
    """Until when it is known of every settlement since an instant that it is paid or absent: to the first
    month of which a cell is not stored, or to where sources were asked in one that is built no further.

    Args:
        since: The instant.
        end: How far to look.
        rates: What the stored cells of one market's funding rates say of themselves.
        carry: The stored cells of its carry.
    """
    months = {cell.date: facts for cell, facts in rates.items() if cell in carry}
    first = min(rates, key=lambda cell: cell.sort_key, default=None)
    # the market was listed within the first month: there is nothing before it, as there is before a break,
    # which REST was asked about
    is_first = first is not None and any(
        run.gap_class == "not_listed" and run.start == first.window.start and run.asked_at is None
        for run in rates[first].gaps
    )
    for month in TimeRange(since, end).months() if since < end else ():
        window = month_range(month)
        if month in months:
            asked_until = months[month].asked_until or window.start
            if asked_until < window.end:
                return asked_until
        elif not (is_first and first and window.end <= first.window.start):
            return window.start
    return end
