"""What is wrong in the lake, on its disk and at its exchanges, as facts for alerts."""

import os
import shlex
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from lakehouse.model.market import Market
from lakehouse.model.words import count_of
from lakehouse.ops import alerts, findings
from lakehouse.ops.alerts import Fact
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.registry import Registry
from lakehouse.storage import bans

STATUS = "lakehouse status"
"""The command where no other says more."""

_GIGA = 1e9


@dataclass(frozen=True, slots=True)
class Watch:
    """What is looked at, and how.

    Attributes:
        ui_url: Where people reach the UI.
        quota: Bytes that the lake is to take at most; 0 for no such limit.
        full: Share of the quota, or of the disk, from which on it is nearly full.
    """

    ui_url: str = "http://127.0.0.1:3000"
    quota: float = 0
    full: float = 0.9


def banned(lake: LakeServices, now: datetime) -> Iterator[Fact]:
    """REST APIs that have banned this address."""
    for url, until in bans.bans(lake.objects).items():
        if until > now:
            cause = f"It has banned this address until {until:%Y-%m-%d %H:%M:%S} UTC; nothing asks it before."
            yield Fact(alerts.BANNED, url, "", url, cause, STATUS, "/automation")


def stale(lake: LakeServices, universe: Collection[Market]) -> Iterator[Fact]:
    """Markets of the universe whose newest row is old, by the checks of freshness."""
    ended = {market for market, facts in known_markets(lake).items() if facts.delisted}
    now = min(lake.clock(), lake.until)
    for table in lake.registry.tables:
        for check in table.checks:
            if check.family != "freshness":
                continue
            stored = lake.ledger(table.name)
            cells = {str(cell): cell for cell in stored}
            for found in findings.check_freshness(stored, ended, now, **check.parameters).findings:
                cell = cells[found.cell]
                if cell.own_market in universe:
                    key = cell.own_market.key
                    span = f"--from {cell.date} --to {now + timedelta(days=1):%Y-%m-%d}"
                    yield Fact(
                        alerts.STALE,
                        f"{table.name} {key}",
                        table.name,
                        found.cell,
                        found.what,
                        f"lakehouse build {table.name} --markets {shlex.quote(key)} {span}",
                        _page(table.name, found.cell),
                    )


def quarantine(lake: LakeServices) -> Iterator[Fact]:
    """Cells with rejected rows, each with their number."""
    for table in lake.registry.tables:
        if table.spread != "market":
            continue
        for cell, record in lake.ledger(table.name).items():
            if record.reject_count:
                said = (
                    f"{count_of(record.reject_count, 'row')} in quarantine, more than before: "
                    f"quarantine/{record.path} has them with the rule each breaks"
                )
                yield Fact(
                    alerts.QUARANTINE,
                    f"{table.name} {cell}",
                    table.name,
                    str(cell),
                    said,
                    f"lakehouse quality{of_silver(lake.registry, table.name)} "
                    f"--markets {shlex.quote(cell.own_market.key)}",
                    _page(table.name, str(cell)),
                    level=record.reject_count,
                )


def disk(lake: LakeServices, home: str, watch: Watch, with_lake: bool) -> Iterator[Fact | str]:
    """File systems that are nearly full, and a lake that nearly has its quota.

    Args:
        lake: The lake.
        home: Dagster's home.
        watch: What is looked at.
        with_lake: Whether the lake is listed, as its quota needs.
    """
    folders = {"the lake": lake.objects.root if lake.objects.is_local else "", "Dagster's home": home}
    seen = set[int]()
    for what, folder in folders.items():
        place = Path(folder).expanduser() if folder else None
        if place is None or not place.exists() or (device := os.stat(place).st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(place)
        if usage.used / (usage.used + usage.free or 1) >= watch.full:
            left = f"{usage.free / _GIGA:,.1f} GB left, of {usage.total / _GIGA:,.1f} GB"
            cause = f"The file system of {what} has {left}."
            yield Fact(alerts.DISK, str(place), "", str(place), cause, STATUS, "/overview")
    if watch.quota and not with_lake:
        yield f"{alerts.DISK}: quota"
    elif watch.quota:
        size = sum(stored.size for stored in lake.objects.list(""))
        if size >= watch.full * watch.quota:
            quota = f"{watch.quota / _GIGA:,.3f} GB of LAKEHOUSE_DISK_QUOTA"
            cause = f"The lake takes {size / _GIGA:,.3f} GB of the {quota}."
            yield Fact(alerts.DISK, "quota", "", lake.objects.root, cause, STATUS, "/overview")


def of_silver(registry: Registry, table: str) -> str:
    """The option by which commands about silver rows mean those that a table is of; empty where it is of no
    dataset.
    """
    names = (one.silver.name for one in registry.datasets if table in {each.name for each in one.tables})
    return "".join(f" --table {name}" for name in names)


def _page(table: str, cell: str) -> str:
    return f"/assets/{table}?view=partitions&partition={quote(cell)}"
