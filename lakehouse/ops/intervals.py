"""Intervals of tables that space themselves, held against what exchanges state of their markets."""

from datetime import timedelta

from lakehouse.datasets.market import MarketTable, current_listings
from lakehouse.model.errors import NotALakeObjectError
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.ops.findings import Finding, Verdict, sort_findings
from lakehouse.storage.asked import scanned_at
from lakehouse.storage.ledger import Ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import CellRecord, TableStore

_RECENT = timedelta(days=1)  # a statement of today says nothing of an older row


def check_intervals(objects: LakeObjects, table: type[Table], stored: Ledger, column: str) -> Verdict:
    """Markets whose newest row has another interval than their exchange states.

    A statement is held against a row that was there when it was made, and not for longer than a day: the
    interval of a market changes.

    Args:
        objects: The lake's objects.
        table: A table that spaces itself.
        stored: Its ledger.
        column: Hours since the row before.

    Returns:
        The verdict over the newest cell of each market that could be held against a statement; `unstated`
        counts the others.
    """
    store = TableStore(objects)
    known = store.get(MarketTable, None)
    stated = {
        market: hours
        for market, listing in current_listings(known.rows if known else None).items()
        if (hours := listing.terms.funding_interval_hours)
    }
    asked = scanned_at(objects)
    newest: dict[Market, CellRecord] = {}
    for cell, record in stored.items():  # market by market, in order of time
        if record.last_time is not None:
            newest[cell.own_market] = record
    held, found = 0, []
    for market, record in newest.items():
        at, last = asked.get(market.exchange), record.last_time
        if market not in stated or at is None or last is None or not timedelta() <= at - last <= _RECENT:
            continue
        held += 1
        try:
            rows = store.get(table, record.key)
        except NotALakeObjectError as error:
            found.append(Finding(str(record.key), "error", str(error)))
            continue
        own = rows.rows.sort(table.time)[column].to_list()[-1:] if rows else []
        if own != [stated[market]]:
            told = f"is {own[0]} h" if own and own[0] is not None else "is not told"
            what = f"the interval of its newest row, {last:%Y-%m-%d %H:%M}, {told}; the exchange states "
            found.append(
                Finding(str(record.key), "warn", f"{what}{stated[market]:g} h ({at:%Y-%m-%d %H:%M})")
            )
    return Verdict(held, sort_findings(found), {"unstated": len(newest) - held})
