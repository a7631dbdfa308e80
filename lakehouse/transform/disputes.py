"""The rules by which one of several values of a key is chosen."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from math import prod

import polars as pl

from lakehouse.transform.witness import hold, owners

TWO_VALUES = "two_values_in_one_source"
WHOLESALE = "wholesale"
UNSETTLED = ("precedence", TWO_VALUES, WHOLESALE)
# per hour: four keys of two values; beyond that a sum could fit by chance and the search grows without bound
_MOST_COMBINATIONS = 16
_SNAPSHOT = ("open", "high", "low", "volume", "trade_count")

Choice = tuple[int, ...]  # one variant for each disputed key of an hour


def settle(
    variants: pl.DataFrame,
    common: pl.DataFrame,
    key: list[str],
    witness: pl.DataFrame | None,
    length: timedelta,
    precedence: Sequence[str],
    is_sound: pl.Expr | None = None,
    wholesale: Sequence[str] = (),
) -> pl.DataFrame:
    """Choose among the values of disputed keys.

    Rules are tried in order; each sees only the variants that the ones before it left, and decides a key when
    it leaves one:

    - `wholesale`: on days on which the API contradicts the archive in most candles, its values go: they may
      be another market's, and so may the archive's. Whatever rule chooses among the rest, the key counts as
      decided by none.
    - `row_rules`: variants that break a rule of rows go where others keep all of them.
    - `witness`: per disputed hour, the source with whose variants the hour equals the witness; in an hour
      with one disputed key, or where no source fits and combinations are few, any variants with which it
      does. Variants that fit nothing go if others fit.
    - `later_snapshot`: a candle that another one extends (same open, high not lower, low not higher, volume
      not less, more trades) goes, and so does an untraded one beside a traded one.
    - `both_families`: a variant that both the archive and the API state stays before those that one family
      states (monthly and daily are one).
    - `precedence`: the variant of the first source of the precedence that has one left; served, but proven by
      nothing.
    - `two_values_in_one_source`: that source has several left; none is served.

    Args:
        variants: One row per key and distinct value, numbered by `variant`, with `sources`, the list of all
            that state it.
        common: The undisputed rows of the other keys.
        key: The key columns; the first is the time.
        witness: Coarser candles stated independently, see `judge`; the rule is left out without them.
        length: Length of a witness candle.
        precedence: Sources by how far they are believed where nothing is proven, best first.
        is_sound: Whether a variant keeps the rules of rows; without it the rule is left out.
        wholesale: Days of the first rule.

    Returns:
        The variants in their order, with `rule` (the one that decided the key), `is_served` and `is_absent`
        (false).
    """
    by_api_alone = pl.col("sources").list.eval(pl.element() == "api").list.all()
    is_alien = pl.col(key[0]).dt.strftime("%Y-%m-%d").is_in(wholesale) & by_api_alone
    aliens = variants.filter(is_alien & ~is_alien.all().over(key)) if wholesale else variants.clear()
    rules: list[tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]]
    rules = [
        ("later_snapshot", partial(_without_earlier_snapshots, key=key)),
        ("both_families", partial(_of_both_families, key=key)),
    ]
    if witness is not None and witness.height:
        rules.insert(
            0, ("witness", partial(_fitting, common=common, key=key, witness=witness, length=length))
        )
    if is_sound is not None:
        rules.insert(0, ("row_rules", lambda left: left.filter(is_sound | ~is_sound.any().over(key))))
    left, decided = (
        variants.join(aliens.select("variant"), on="variant", how="anti", maintain_order="left"),
        [],
    )
    for name, narrow in rules:
        left = narrow(left)
        alone = pl.len().over(key) == 1
        decided.append(
            left.filter(alone).select(*key, pl.col("variant").alias("served"), pl.lit(name).alias("rule"))
        )
        left = left.filter(~alone)
    rank = (
        pl.col("sources")
        .list.eval(
            pl.element().replace_strict(list(precedence), range(len(precedence)), return_dtype=pl.Int64)
        )
        .list.min()
    )
    top = (
        left.filter(rank == rank.min().over(key))
        .group_by(key)
        .agg(pl.len().alias("count"), pl.col("variant").first().alias("served"))
    )
    one = pl.col("count") == 1
    decided.append(
        top.select(
            *key,
            pl.when(one).then("served"),
            pl.when(one).then(pl.lit("precedence")).otherwise(pl.lit(TWO_VALUES)).alias("rule"),
        )
    )
    ruled = variants.join(pl.concat(decided), on=key, how="left", maintain_order="left")
    ruled = ruled.join(
        aliens.select(key).unique().with_columns(has_aliens=True), on=key, how="left", maintain_order="left"
    )
    rule = (
        pl.when(pl.col("has_aliens").fill_null(False) & (pl.col("rule") != TWO_VALUES))
        .then(pl.lit(WHOLESALE))
        .otherwise("rule")
    )
    ruled = ruled.with_columns(
        rule.alias("rule"),
        pl.col("variant").eq_missing(pl.col("served")).alias("is_served"),
        pl.lit(False).alias("is_absent"),
    )
    return ruled.drop("served", "has_aliens")


def _without_earlier_snapshots(left: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    if not set(_SNAPSHOT) <= set(left.columns):
        return left
    pairs = left.join(left.select(*key, *_SNAPSHOT), on=key, suffix="_later")
    open_, high, low, volume, count = ((pl.col(name), pl.col(f"{name}_later")) for name in _SNAPSHOT)
    extended = (
        (open_[1] == open_[0])
        & (high[1] >= high[0])
        & (low[1] <= low[0])
        & (volume[1] >= volume[0])
        & (count[1] > count[0])
    )
    untraded = (count[0] == 0) & (count[1] > 0)
    return left.join(pairs.filter(extended | untraded), on="variant", how="anti", maintain_order="left")


def _of_both_families(left: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    shared = pl.col("sources").list.contains("api") & (pl.col("sources").list.len() > 1)
    return left.filter(shared | ~shared.any().over(key))


def _fitting(
    left: pl.DataFrame, common: pl.DataFrame, key: list[str], witness: pl.DataFrame, length: timedelta
) -> pl.DataFrame:
    """Leave the variants with which their hour equals the witness, in every hour in which some do."""
    disputed = left.with_columns(owners(left[key[0]], witness["open_time"], length).alias("hour"))
    disputed = disputed.join(witness, left_on="hour", right_on="open_time", how="semi", maintain_order="left")
    around = common.with_columns(owners(common[key[0]], witness["open_time"], length).alias("hour"))
    by_key: dict[datetime, dict[tuple[object, ...], dict[int, list[str]]]] = {}
    for hour, variant, names, *of_key in disputed.select("hour", "variant", "sources", *key).iter_rows():
        by_key.setdefault(hour, {}).setdefault(tuple(of_key), {})[variant] = names
    asked = {hour: list(keys.values()) for hour, keys in by_key.items()}

    def fits(choices: dict[datetime, set[Choice]]) -> dict[datetime, set[int]]:
        """The variants of all choices that fit, by hour."""
        tried = [
            (hour, number, variant)
            for hour, found in choices.items()
            for number, choice in enumerate(sorted(found))
            for variant in choice
        ]
        chosen = pl.DataFrame(
            tried,
            schema={"hour": disputed.schema["hour"], "choice": pl.Int64, "variant": left.schema["variant"]},
            orient="row",
        )
        rows = pl.concat(
            [
                chosen.join(disputed.drop("hour"), on="variant"),
                chosen.select("hour", "choice").unique().join(around, on="hour"),
            ],
            how="diagonal",
        )
        agreeing = hold(rows, ["hour", "choice"], witness).filter(pl.col("differs").list.len() == 0)
        fitting = chosen.join(agreeing, on=["hour", "choice"], how="semi").select("hour", "variant")
        of_hour = fitting.group_by("hour").agg("variant")
        return {hour: set(variants) for hour, variants in of_hour.iter_rows()}

    fitting = fits({hour: _by_source(keys) for hour, keys in asked.items() if len(keys) > 1})
    few = {
        hour: keys
        for hour, keys in asked.items()
        if hour not in fitting and (len(keys) == 1 or prod(map(len, keys)) <= _MOST_COMBINATIONS)
    }
    fitting |= fits({hour: set(product(*keys)) for hour, keys in few.items()})
    outcast = {
        variant
        for hour, keep in fitting.items()
        for variants in asked[hour]
        for variant in variants
        if variant not in keep
    }
    return left.filter(~pl.col("variant").is_in(outcast))


def _by_source(keys: Collection[dict[int, list[str]]]) -> set[Choice]:
    """For each source that has exactly one variant of every key: these."""
    sources = {name for of_key in keys for names in of_key.values() for name in names}
    stated = {
        source: [[variant for variant, names in of_key.items() if source in names] for of_key in keys]
        for source in sources
    }
    return {
        tuple(found[0] for found in per_key)
        for per_key in stated.values()
        if all(len(found) == 1 for found in per_key)
    }
