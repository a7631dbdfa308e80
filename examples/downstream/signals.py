"""A code location of your own below the lake: a signal, made again when its month of gold/vwap changes."""

import dagster as dg
import pandera.polars as pa
import polars as pl

from lakehouse.dagster import ON_CHANGE, LakeAssets

lake = LakeAssets()
vwap = dg.AssetIn(["gold", "vwap"])
cells = lake.partitions("gold/vwap")
sane = pa.DataFrameSchema({"day": pa.Column(), "tilt": pa.Column(float, pa.Check.in_range(-0.5, 0.5))})


@dg.asset(ins={"vwap": vwap}, partitions_def=cells, automation_condition=ON_CHANGE, group_name="research")
def signal(vwap: pl.LazyFrame) -> pl.DataFrame:
    """How far the average price of a day's last hour lies above that of the day."""
    day, tilt = pl.col("open_time").dt.truncate("1d").alias("day"), pl.col("vwap_1h") / pl.col("vwap_1d") - 1
    return vwap.group_by(day).agg(tilt.sort_by("open_time").last().alias("tilt")).sort("day").collect()


@dg.asset_check(asset=signal)
def is_sane(signal: pl.DataFrame) -> dg.AssetCheckResult:
    """Columns, types and range of all that is stored."""
    try:
        return dg.AssetCheckResult(passed=True, metadata={"rows": sane.validate(signal, lazy=True).height})
    except pa.errors.SchemaErrors as found:
        return dg.AssetCheckResult(passed=False, metadata={"found": str(found)})


defs = lake.definitions([signal], asset_checks=[is_sane])
