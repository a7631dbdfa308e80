"""Macros of SQL beside the views: `candles`, a range of one market at any interval, and `join_asof`, rows
joined by when they could have been known.

The same text serves `Lake.sql` and a file for other tools (`attachable`): both make the views in the schema
`cells` that the macros read. What a call says of its cells is read off the statement (`calls_of`), so that
views are made of no others.
"""

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from lakehouse.datasets.candle import Candle
from lakehouse.features.candle import OF_INTERVAL
from lakehouse.model.errors import MarketKeyError, RangeBackwardsError, TimeFormatError
from lakehouse.model.interval import COARSE, INTERVALS, MINUTE, Interval
from lakehouse.model.market import MARKET_COLUMNS, Market
from lakehouse.model.timerange import TimeRange
from lakehouse.query.parsing import Parser
from lakehouse.storage.ledger import Ledger
from lakehouse.transform.resample import SUMS, TEN_DECIMALS_BELOW

CANDLES, JOIN = "candles", "join_asof"
SCHEMA = "cells"
"""Where the views lie that macros read."""

_PATH = (*MARKET_COLUMNS, "month")
_COLUMNS = tuple(OF_INTERVAL[COARSE[0]].columns)  # the same at every interval
_ARGUMENTS = ("market", "start_time", "end_time", "step")
_MINUTE = 60_000_000  # microseconds
_COVERED = "epoch_us(close_time) + 1"
_KEY = "exchange || '-' || market_type || ':' || symbol"
_WORD = re.compile(r"\w+")
_PLAIN = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.]\d{1,6})?)?)?"
_OFFSET = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.]\d{1,6})?)?(Z|[+-]\d{2}(:\d{2})?)"

# The text of an instant as one in UTC. Offsets are left to TIMESTAMPTZ: a cast to TIMESTAMP drops them in
# silence, as one of a text without any to TIMESTAMPTZ takes the session's zone.
_INSTANT = f"""
CREATE MACRO {SCHEMA}.instant(said) AS CASE
  WHEN regexp_full_match(said::VARCHAR, '\\d{{4}}-\\d{{2}}') THEN CAST(said::VARCHAR || '-01' AS TIMESTAMP)
  WHEN regexp_full_match(said::VARCHAR, '{_PLAIN}') THEN CAST(said::VARCHAR AS TIMESTAMP)
  WHEN regexp_full_match(said::VARCHAR, '{_OFFSET}') THEN timezone('UTC', CAST(
    regexp_replace(said::VARCHAR, '[T ](\\d{{2}}:\\d{{2}})(Z|[+-])', ' \\1:00\\2') AS TIMESTAMPTZ))
  WHEN said IS NOT NULL THEN CAST(said::VARCHAR || ' is no instant' AS TIMESTAMP)
END
"""

# The newest row of the right side that could have been known; its columns behind `right_`, as
# `Lake.join_asof` has them, but for those that the join makes equal. Of rows that became known at once the
# engine takes any, so the last of them alone is left to it: a row begins with its time.
_JOIN = f"""
CREATE MACRO {JOIN}(left_rows, right_rows, within := NULL) AS TABLE
  SELECT l.*, CASE
    WHEN CAST(within AS INTERVAL) < INTERVAL 0 DAY THEN error('{JOIN}: within is less than nothing')
    WHEN within IS NULL OR l.knowable_at - CAST(within AS INTERVAL) <= r.knowable_at
    THEN COLUMNS(r.* EXCLUDE ({", ".join(MARKET_COLUMNS)})) END AS 'right_\\0'
  FROM query_table(left_rows) l ASOF LEFT JOIN (
    SELECT told.* FROM query_table(right_rows) told
    QUALIFY row_number() OVER (PARTITION BY {", ".join(MARKET_COLUMNS)}, knowable_at ORDER BY told DESC) = 1
  ) r
  ON {" AND ".join(f"l.{name} = r.{name}" for name in MARKET_COLUMNS)} AND l.knowable_at >= r.knowable_at
"""


class Call(NamedTuple):
    """What a call of `candles` plainly says; None of what it does not say as a text.

    Attributes:
        market: The market.
        span: The range.
        interval: The interval.
    """

    market: Market | None = None
    span: TimeRange | None = None
    interval: Interval | None = None


def statements(candles: Mapping[Interval, tuple[str, str]], held: Collection[str]) -> list[str]:
    """What creates the macros and the views that they read.

    Args:
        candles: Of every interval that may be asked for, at least one, a SELECT of rows of its own table, and
            one of rows of `silver/candle` to resample, which are of other cells.
        held: The keys of the markets of which any candle is stored.
    """
    views = {_view(interval): _of_interval(interval, *rows) for interval, rows in candles.items()}
    views[f"{SCHEMA}.markets"] = _markets(held)
    return [
        f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
        *(f"CREATE OR REPLACE VIEW {name} AS {rows}" for name, rows in views.items()),
        _INSTANT,
        _candles(candles),
        _JOIN,
    ]


def current(interval: Interval, fine: Ledger, made: Ledger) -> tuple[Ledger, Ledger]:
    """Which cells tell the candles of an interval: those of its gold table that were made by today's rules
    from today's minutes, and of the others the minutes.

    Args:
        interval: One that is coarser than a minute.
        fine: Cells of `silver/candle`.
        made: Cells of the interval's gold table.

    Returns:
        Cells of the gold table, and of `silver/candle`.
    """
    table = OF_INTERVAL[interval]
    kept = {
        cell: record
        for cell, record in made.items()
        if record.code_version == table.code_version
        and (cell not in fine or record.inputs.get(f"{Candle.name}@{cell.date}") == fine[cell].version)
    }
    return kept, {cell: record for cell, record in fine.items() if cell not in kept}


def are_called(query: str) -> bool:
    """Whether a text may call a macro: the name of one stands somewhere in it."""
    return bool({CANDLES, JOIN} & set(_WORD.findall(query.lower())))


def calls_of(parser: Parser, query: str) -> list[Call]:
    """What the calls of `candles` in a text of statements say of the cells that they read.

    Args:
        parser: Parses the text.
        query: One statement or several.

    Returns:
        A call of which nothing is known, where the text cannot be looked at.
    """
    said = json.loads(parser.tree(query))
    if said.get("error", True):
        return [Call()]
    return [_call(function["children"]) for function in _functions(said["statements"])]


def _functions(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        if node.get("type") == "FUNCTION" and str(node.get("function_name", "")).lower() == CANDLES:
            yield node
        for inner in node.values():
            yield from _functions(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _functions(inner)


def _call(children: list[Mapping[str, Any]]) -> Call:
    said: dict[str, Mapping[str, Any]] = {}
    for place, child in enumerate(children):
        said[str(child["alias"]).lower() or _ARGUMENTS[min(place, len(_ARGUMENTS) - 1)]] = child
    texts = {name: _text(child) for name, child in said.items()}
    market, span = None, None
    with contextlib.suppress(MarketKeyError):
        market = Market.parse(texts.get("market") or "")
    # what is no range is refused where the statement is carried out
    with contextlib.suppress(TimeFormatError, RangeBackwardsError):
        span = TimeRange.parse(texts.get("start_time"), texts.get("end_time"))
    named = texts.get("step") if "step" in said else MINUTE.name
    interval = next((each for each in INTERVALS if each.name == named), None)
    return Call(market, span, interval)


def _text(expression: Mapping[str, Any]) -> str | None:
    """The text of a constant, or of a text that is cast; None of anything else."""
    if expression["type"] == "OPERATOR_CAST" and expression["cast_type"]["id"] in ("DATE", "TIMESTAMP"):
        return _text(expression["child"])
    if expression["type"] != "VALUE_CONSTANT" or expression["value"]["type"]["id"] != "VARCHAR":
        return None
    value = expression["value"]
    return value["value"] if not value["is_null"] and isinstance(value["value"], str) else None


def _view(interval: Interval) -> str:
    return f"{SCHEMA}.candle_{interval}"


def _markets(held: Collection[str]) -> str:
    if not held:
        return "SELECT '' AS market WHERE false"
    listed = ", ".join("('" + key.replace("'", "''") + "')" for key in sorted(held))
    return f"SELECT market FROM (VALUES {listed}) AS held(market)"


def _of_interval(interval: Interval, own: str, minutes: str) -> str:
    """A SELECT of the candles of an interval, with the columns that all intervals have."""
    path = ", ".join(_PATH)
    if interval == MINUTE:
        ended = f"greatest({_bucket(MINUTE)} + {_MINUTE}, {_COVERED})"
        known = f"1::INTEGER AS candle_count, make_timestamptz({ended}) AS knowable_at"
        return f"SELECT {', '.join(_COLUMNS[:-2])}, {known}, {path} FROM ({own})"
    return f"SELECT {', '.join(_COLUMNS)}, {path} FROM ({own}) UNION ALL {_resampled(interval, minutes)}"


def _candles(intervals: Collection[Interval]) -> str:
    start, end = (f"{SCHEMA}.instant({name})" for name in ("start_time", "end_time"))
    columns = ", ".join((*_COLUMNS, *MARKET_COLUMNS))
    # one condition over all parts: the engine moves it into each, down to the names of files
    of_all = " UNION ALL ".join(
        f"SELECT * FROM {_view(interval)} WHERE step = '{interval}'" for interval in intervals
    )
    rows = f"""SELECT {columns} FROM ({of_all}) WHERE {_KEY} = market
      AND (start_time IS NULL OR month >= strftime({start}, '%Y-%m'))
      AND (end_time IS NULL OR month <= strftime({end} - INTERVAL 1 MICROSECOND, '%Y-%m'))
      AND (start_time IS NULL OR open_time >= timezone('UTC', {start}))
      AND (end_time IS NULL OR open_time < timezone('UTC', {end}))"""
    known = ", ".join(interval.name for interval in INTERVALS)
    refusals = f"""CASE
      WHEN step IS NULL OR step NOT IN ({", ".join(f"'{each}'" for each in INTERVALS)})
        THEN error('candles: ' || coalesce(step, 'NULL') || ' is no interval; known: {known}.')
      WHEN NOT coalesce({start} < {end}, true)
        THEN error('candles: the range ends at ' || {end} || ', which is not after its start ' || {start})
      WHEN market IS NULL OR market NOT IN (SELECT held.market FROM {SCHEMA}.markets held)
        THEN error('candles: nothing is stored here of ' || coalesce(market, 'NULL')
          || ': a market is named as binance-spot:BTCUSDT is') END"""
    # never a row: columns of the refusal, so that no filter decides of this part without asking for it
    casts = ", ".join(f"CAST(refused AS {_type(name)}) AS {name}" for name in (*_COLUMNS, *MARKET_COLUMNS))
    refused = f"SELECT {casts} FROM (SELECT CAST({refusals} AS VARCHAR) AS refused) WHERE refused IS NOT NULL"
    arguments = f"market, start_time := NULL, end_time := NULL, step := '{MINUTE}'"
    return f"CREATE MACRO {CANDLES}({arguments}) AS TABLE {rows} UNION ALL {refused}"


def _type(name: str) -> str:
    table = OF_INTERVAL[COARSE[0]]
    if name not in table.columns:
        return "VARCHAR"
    return {"timestamp": "TIMESTAMPTZ", "int": "INTEGER"}.get(table.sql_type(name), table.sql_type(name))


def _resampled(interval: Interval, minutes: str) -> str:
    """`transform.resample.resample` in SQL: sums are taken as decimals, from 00:00 UTC."""
    told = {
        "open": "arg_min(open, open_time)",
        "high": "max(high)",
        "low": "min(low)",
        "close": "arg_max(close, open_time)",
        "close_time": "arg_max(close_time, open_time)",
        "candle_count": f"count(DISTINCT {_bucket(MINUTE)})::INTEGER",
    }
    for name in SUMS:
        is_double = Candle.sql_type(name) == "double"
        total = _exact_sum(name) if is_double else f"sum({name})::BIGINT"
        told[name] = f"CASE WHEN count({name}) = count(*) THEN {total} END"
    told["open_time"] = "make_timestamptz(bucket)"
    ended = f"greatest(bucket + {interval.minutes * _MINUTE}, max({_COVERED}))"
    told["knowable_at"] = f"make_timestamptz({ended})"
    path = ", ".join(_PATH)
    return (
        f"SELECT {', '.join(f'{told[name]} AS {name}' for name in _COLUMNS)}, {path} "
        f"FROM (SELECT *, {_bucket(interval)} AS bucket FROM ({minutes})) GROUP BY bucket, {path}"
    )


def _bucket(interval: Interval) -> str:
    """When the bucket of a row begins, in microseconds: of instants and intervals the engine makes fields of
    a calendar, row by row, which takes ten times as long.
    """
    length = interval.minutes * _MINUTE
    return f"epoch_us(open_time) // {length} * {length}"


def _exact_sum(name: str) -> str:
    """`transform.resample.exact_sum` in SQL, as a DOUBLE. A cast to DECIMAL would not do: the engine's rounds
    a half away from zero, where a product of floats ends in a half that no file stated; Polars rounds it to
    even.
    """
    ten, eight = _to_even(f"{name} * 1e10"), _to_even(f"{name} * 1e8")
    units = f"CASE WHEN abs({name}) < {TEN_DECIMALS_BELOW} THEN {ten} ELSE 100 * {eight} END"
    return f"CAST(CAST(sum({units}) AS DECIMAL(27, 0)) * CAST('0.0000000001' AS DECIMAL(11, 10)) AS DOUBLE)"


def _to_even(value: str) -> str:
    whole, rest = f"floor({value})", f"{value} - floor({value})"
    is_up = f"{rest} > 0.5 OR ({rest} = 0.5 AND {whole} % 2 = 1)"
    return f"CAST({whole} + (CASE WHEN {is_up} THEN 1 ELSE 0 END) AS HUGEINT)"
