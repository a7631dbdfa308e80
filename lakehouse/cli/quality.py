"""The quality report for a terminal, and as one HTML page that needs nothing else, no script either: what is
not good in words, and a map of markets and months whose squares open.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

import polars as pl

from lakehouse.cli.reporting import Report, frame_of
from lakehouse.model.cell import Cell
from lakehouse.model.timerange import TimeRange, is_month
from lakehouse.model.words import count_of
from lakehouse.ops.quality import STATES, CellQuality, State, Stretch, stretches, summary

_STYLE = Path(__file__).with_name("quality.css")
_LISTED_AT_MOST = 100
_OPENED_AT_MOST = 4000  # squares that open though all is good with them: a page of more is slow to load
_RUNS_SHOWN = 8
_MEANING: dict[State, str] = {
    "good": "every expected row is there, or known not to exist",
    "pending": "rows absent whose files may still appear",
    "warn": "known and said: a proven halt, a dispute no proof decided, a candle that looks wrong …",
    "error": "rows absent, damaged or not served",
}
_MARK: dict[State, str] = {"good": "", "pending": "…", "warn": "!", "error": "✕"}  # not by colour alone


def print_quality(found: Sequence[CellQuality], report: Report, table: str = "silver/candle") -> None:
    """Print a quality report: a line per market and month, the worst of them where there are many, with the
    columns that say something, and how many are in each state.

    Args:
        found: A record per market and month.
        report: Where to.
        table: The silver table that it is of.
    """
    lines = [
        {
            "market": one.cell.own_market.key,
            "month": one.cell.date,
            "state": one.state,
            "rows": one.rows,
            "newest": one.newest,
            "evidence": one.evidence,
            "not listed": one.gaps.get("not_listed"),
            "settled": one.settled or None,
            "healed": one.healed or None,
            "anomalies": "unknown"
            if one.anomalies is None
            else f"{one.anomalies:,}"
            if one.anomalies
            else "",
            "what is not good": "; ".join(why for _, why in one.reasons),
        }
        for one in _worst(found)
    ]
    told = frame_of(lines)
    silent = [
        name
        for name in told.columns
        if told[name].null_count() == told.height
        or (told[name].dtype == pl.String and (told[name] == "").all())
    ]
    report.table(
        f"Quality of {table}"
        + (f": the worst {_LISTED_AT_MOST} of {len(found):,}" if len(found) > len(lines) else ""),
        told.drop(silent),
        spare=("settled", "healed", "not listed", "newest", "rows", "anomalies", "evidence"),
        prose="what is not good",
        empty=f"Nothing is stored of {table} yet.",
        whole=frame_of([one.to_json() for one in found]),
    )
    if found:
        report.say(", ".join(f"{count:,} {state}" for state, count in summary(found).items() if count))


def _worst(report: Sequence[CellQuality]) -> Sequence[CellQuality]:
    """All of a short report, in order; of a long one those that are worst, in order of how bad they are."""
    if len(report) <= _LISTED_AT_MOST:
        return report
    return sorted(report, key=lambda found: -STATES.index(found.state))[:_LISTED_AT_MOST]


def quality_page(
    report: Sequence[CellQuality],
    root: str,
    now: datetime,
    files: Mapping[Cell, Sequence[str]] | None = None,
    table: str = "silver/candle",
) -> str:
    """Render a report.

    Args:
        report: A record per market and month, in order.
        root: Where the lake is.
        now: The instant of the report.
        files: The months and days whose files a cell is made from, by cell.
        table: The silver table that it is of.
    """
    counts = summary(report)
    legend = "".join(
        f"<li>{_chip(state)}{state} ({counts[state]:,}): {escape(_MEANING[state])}</li>" for state in STATES
    )
    opened = [found for found in report if found.state != "good" or len(report) <= _OPENED_AT_MOST]
    places = {found.cell: f"c{number}" for number, found in enumerate(opened)}
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>Quality of {escape(root)}</title>",
            f"<style>{_STYLE.read_text('utf-8')}</style></head><body><h1>Quality of {escape(table)}</h1>",
            f"<p>{escape(root)} · {len(report):,} months of "
            f"{len({found.cell.own_market for found in report}):,} markets · as of {now:%Y-%m-%d %H:%M} "
            "UTC</p>",
            f'<ul class="legend">{legend}<li><span class="chip none"></span>nothing is stored</li></ul>',
            _words(stretches(report)),
            f'<h2>Markets and months</h2><div class="wide">{_heat_map(report, places)}</div>'
            if report
            else "<p>Nothing is stored yet.</p>",
            *(_opened(found, places[found.cell], (files or {}).get(found.cell, ())) for found in opened),
            "</body></html>\n",
        ]
    )


def _words(found: Sequence[Stretch]) -> str:
    if not found:
        return ""
    rows = "".join(f"<li>{_chip(one.state)}{_stretch(one)}</li>" for one in found[:_LISTED_AT_MOST])
    more = f"<p>and {len(found) - _LISTED_AT_MOST:,} more</p>" if len(found) > _LISTED_AT_MOST else ""
    return f'<h2>What is not good</h2><ul class="words">{rows}</ul>{more}'


def _stretch(one: Stretch) -> str:
    """A stretch in words; several markets are named when they are asked for."""
    if len(one.markets) == 1:
        return f"<span>{escape(str(one))}</span>"
    names = "".join(f"<li>{escape(market)}</li>" for market in one.markets)
    return f"<details><summary>{escape(str(one))}</summary><ul>{names}</ul></details>"


def _heat_map(report: Sequence[CellQuality], places: Mapping[Cell, str]) -> str:
    dates = [found.cell.date for found in report]
    months = TimeRange.parse(min(dates), max(dates) + "-02").months()
    by_market: dict[str, dict[str, CellQuality]] = {}
    for found in report:
        by_market.setdefault(found.cell.own_market.key, {})[found.cell.date] = found
    years = [f"{year}" for year in dict.fromkeys(month[:4] for month in months)]
    head = "".join(
        f'<th colspan="{sum(month.startswith(year) for month in months)}">{year}</th>' for year in years
    )
    below = "".join(f"<th>{month[5:]}</th>" for month in months)
    rows = "".join(
        f"<tr><th>{_market(key)}</th>{''.join(_square(cells.get(month), places) for month in months)}</tr>"
        for key, cells in by_market.items()
    )
    heads = f"<tr><th></th>{head}</tr><tr><th></th>{below}</tr>"
    return f'<table class="map"><thead>{heads}</thead><tbody>{rows}</tbody></table>'


def _market(key: str) -> str:
    """A market's key, which may go on in a second line where the screen is narrow."""
    place, _, symbol = escape(key).partition(":")
    return f"<span>{place}:</span><wbr><span>{symbol}</span>"


def _square(found: CellQuality | None, places: Mapping[Cell, str]) -> str:
    if found is None:
        return '<td class="none"></td>'
    mark, place = _MARK[found.state], places.get(found.cell)
    name = f"{found.cell.date} {found.cell.own_market.key}: {found.state}"
    inside = f'<button popovertarget="{place}" aria-label="{escape(name)}">{mark}</button>' if place else mark
    return f'<td class="{found.state}" title="{escape(_title(found))}">{inside}</td>'


def _title(found: CellQuality) -> str:
    """What the square says when it is pointed at."""
    return "\n".join(
        [f"{found.cell.date} {found.cell.own_market.key}: {found.state}", *_known(found)]
        + [why for _, why in found.reasons]
        + _also(found)
    )


def _known(found: CellQuality) -> list[str]:
    if found.rows is None:
        return []
    newest = f"{found.newest:%Y-%m-%d %H:%M}" if found.newest else "none"
    return [f"{found.rows:,} rows, evidence {found.evidence or 'none'}, newest {newest}"]


def _also(found: CellQuality) -> list[str]:
    """What is known and is not bad."""
    unlisted = found.gaps.get("not_listed")
    lines = [f"{unlisted:,} rows before listing or after delisting"] if unlisted else []
    lines += [
        f"{count_of(count, what)}{rest}"
        for count, what, rest in (
            (found.settled, "disputed key", ", settled by proof"),
            (found.healed, "problem", " with sources, healed"),
        )
        if count
    ]
    return lines + (["not searched for anomalies yet"] if found.rows and found.anomalies is None else [])


def _opened(found: CellQuality, place: str, files: Sequence[str]) -> str:
    """What a square opens: evidence, gaps, disputes, problems and files of its cell."""
    gaps = [
        f"{run.start:%Y-%m-%d %H:%M} to {run.end:%Y-%m-%d %H:%M}: {count_of(run.slot_count, 'row')} absent "
        f"({gap_class})"
        for gap_class, run in found.runs
        if gap_class != "not_listed"
    ]
    problems = [
        f"{one.subject.rsplit('/', 1)[-1]}: {one.kind}, {one.detail}; "
        + (f"healed by {one.healed_by.rsplit('/', 1)[-1]}" if one.healed_by else "not healed")
        for one in found.problems
    ]
    disputes = [f"{found.settled + found.unsettled:,} keys, {found.settled:,} settled by a proof"]
    monthly, daily = ([name for name in files if is_month(name) == wanted] for wanted in (True, False))
    made = [f"month {name}" for name in monthly]
    made += [f"{count_of(len(daily), 'day')}, {daily[0]} to {daily[-1]}"] if daily else []
    parts = (
        ("Known", _known(found) + [why for _, why in found.reasons] + _also(found)),
        ("Gaps", gaps),
        ("Disputes", disputes if found.settled + found.unsettled else []),
        ("Contradictions", [str(one) for one in found.contradictions]),
        ("Problems with sources", problems),
        ("Files", made),
    )
    said = "".join(
        f"<h3>{name}</h3><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines[:_RUNS_SHOWN])}"
        + (f"<li>and {len(lines) - _RUNS_SHOWN:,} more</li>" if len(lines) > _RUNS_SHOWN else "")
        + "</ul>"
        for name, lines in parts
        if lines
    )
    head = f"<h2>{_chip(found.state)}{found.cell.date} {_market(found.cell.own_market.key)}</h2>"
    return f'<div popover id="{place}">{head}{said}</div>'


def _chip(state: State) -> str:
    return f'<span class="chip {state}">{_MARK[state]}</span>'
