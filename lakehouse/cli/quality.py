"""The quality report for a terminal, and as one HTML page that needs nothing else: a map of markets and
months, and what is not good in words.
"""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

import polars as pl

from lakehouse.cli.reporting import Report, frame_of
from lakehouse.model.timerange import TimeRange
from lakehouse.ops.quality import STATES, CellQuality, State, summary

_STYLE = Path(__file__).with_name("quality.css")
_LISTED_AT_MOST = 100
_MEANING: dict[State, str] = {
    "good": "every expected row is there, or known not to exist",
    "pending": "rows absent whose files may still appear",
    "warn": "known and said: a proven halt, a dispute no proof decided, a candle that looks wrong …",
    "error": "rows absent, damaged or not served",
}
_MARK: dict[State, str] = {"good": "", "pending": "…", "warn": "!", "error": "✕"}  # not by colour alone


def print_quality(found: Sequence[CellQuality], report: Report) -> None:
    """Print a quality report: a line per market and month, the worst of them where there are many, with the
    columns that say something, and how many are in each state.
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
        "Quality of silver/candle"
        + (f": the worst {_LISTED_AT_MOST} of {len(found):,}" if len(found) > len(lines) else ""),
        told.drop(silent),
        spare=("settled", "healed", "not listed", "newest", "rows", "anomalies", "evidence"),
        prose="what is not good",
        empty="Nothing is stored of silver/candle yet.",
        whole=frame_of([one.to_json() for one in found]),
    )
    if found:
        report.say(", ".join(f"{count:,} {state}" for state, count in summary(found).items() if count))


def _worst(report: Sequence[CellQuality]) -> Sequence[CellQuality]:
    """All of a short report, in order; of a long one those that are worst, in order of how bad they are."""
    if len(report) <= _LISTED_AT_MOST:
        return report
    return sorted(report, key=lambda found: -STATES.index(found.state))[:_LISTED_AT_MOST]


def quality_page(report: Sequence[CellQuality], root: str, now: datetime) -> str:
    """Render a report.

    Args:
        report: A record per market and month, in order.
        root: Where the lake is.
        now: The instant of the report.
    """
    counts = summary(report)
    legend = "".join(
        f"<li>{_chip(state)}{state} ({counts[state]:,}): {escape(_MEANING[state])}</li>" for state in STATES
    )
    bad = sorted(
        (found for found in report if found.state != "good"),
        key=lambda found: (-STATES.index(found.state), found.cell.sort_key),
    )
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width"><title>Quality of {escape(root)}</title>',
            f"<style>{_STYLE.read_text('utf-8')}</style></head><body><h1>Quality of silver/candle</h1>",
            f"<p>{escape(root)} · {len(report):,} months of "
            f"{len({found.cell.own_market for found in report}):,} markets · as of {now:%Y-%m-%d %H:%M} "
            "UTC</p>",
            f'<ul class="legend">{legend}<li><span class="chip none"></span>nothing is stored</li></ul>',
            f'<div class="wide">{_heat_map(report)}</div>' if report else "<p>Nothing is stored yet.</p>",
            _words(bad) if bad else "",
            "</body></html>\n",
        ]
    )


def _heat_map(report: Sequence[CellQuality]) -> str:
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
        f"<tr><th>{escape(key)}</th>{''.join(_square(cells.get(month)) for month in months)}</tr>"
        for key, cells in by_market.items()
    )
    heads = f"<tr><th></th>{head}</tr><tr><th></th>{below}</tr>"
    return f'<table class="map"><thead>{heads}</thead><tbody>{rows}</tbody></table>'


def _square(found: CellQuality | None) -> str:
    if found is None:
        return '<td class="none"></td>'
    return f'<td class="{found.state}" title="{escape(_title(found))}">{_MARK[found.state]}</td>'


def _title(found: CellQuality) -> str:
    """What the square says when it is pointed at."""
    lines = [f"{found.cell.date} {found.cell.own_market.key}: {found.state}"]
    if found.rows is not None:
        lines.append(
            f"{found.rows:,} rows, evidence {found.evidence or 'none'}, newest "
            f"{f'{found.newest:%Y-%m-%d %H:%M}' if found.newest else 'none'}"
        )
    lines += [why for _, why in found.reasons]
    lines += (
        [f"{found.gaps['not_listed']:,} rows before listing or after delisting"]
        if found.gaps.get("not_listed")
        else []
    )
    lines += [
        f"{count:,} {what}"
        for count, what in (
            (found.settled, "disputed keys, settled by proof"),
            (found.healed, "problems with sources, healed"),
        )
        if count
    ]
    lines += ["not searched for anomalies yet"] if found.rows and found.anomalies is None else []
    return "\n".join(lines)


def _words(bad: Sequence[CellQuality]) -> str:
    rows = "".join(
        f"<tr><td>{_chip(found.state)}{found.state}</td>"
        f"<td>{escape(found.cell.own_market.key)}</td><td>{found.cell.date}</td>"
        f"<td>{escape('; '.join(why for _, why in found.reasons))}</td></tr>"
        for found in bad[:_LISTED_AT_MOST]
    )
    more = f"<p>and {len(bad) - _LISTED_AT_MOST:,} more</p>" if len(bad) > _LISTED_AT_MOST else ""
    table = f'<table class="words"><tbody>{rows}</tbody></table>'
    return f'<h2>What is not good</h2><div class="wide">{table}</div>{more}'


def _chip(state: State) -> str:
    return f'<span class="chip {state}">{_MARK[state]}</span>'
