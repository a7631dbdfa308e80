"""What monitoring reads, as Prometheus's text: the figures of `lakehouse status`, and open incidents."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from lakehouse.cli.status import Status, look
from lakehouse.model.errors import LakehouseError
from lakehouse.opening import open_lake
from lakehouse.ops.alerts import QUIET, State
from lakehouse.ops.telling import Book
from lakehouse.settings import Settings
from lakehouse.storage.bans import bans

_KEPT = 30.0  # seconds: a look lists the lake

_TABLE = {
    "cells": "Stored cells.",
    "rows": "Stored rows.",
    "due": "Cells that are due.",
    "behind": "Cells whose inputs have another version today.",
    "absent": "Expected rows that are absent.",
    "rejected": "Rows in quarantine.",
    "damaged": "Objects that the last verification found damaged.",
}


class Metrics:
    """The metrics of a lake, looked at anew where the last look is half a minute old.

    Args:
        settings: Of the lake.
        clock: Seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._kept: tuple[float, bytes] | None = None

    def __call__(self) -> bytes:
        """The metrics as text; of a lake that cannot be looked at `lakehouse_up` alone, which is 0."""
        with self._lock:
            if self._kept is None or self._clock() - self._kept[0] >= _KEPT:
                text = self._look()
                self._kept = self._clock(), text
            return self._kept[1]

    def _look(self) -> bytes:
        lake = open_lake(self._settings)
        try:
            found = families(look(lake, self._settings), Book(lake.objects).remembered(), bans(lake.objects))
        except LakehouseError:
            found = [_gauge("up", "Whether the lake could be looked at.", (), [((), 0.0)])]
        registry = CollectorRegistry()
        registry.register(_Collected(found))
        return generate_latest(registry)


class _Collected:
    def __init__(self, found: Iterable[GaugeMetricFamily]) -> None:
        self._found = list(found)

    def collect(self) -> list[GaugeMetricFamily]:
        return self._found


def families(status: Status, state: State, banned: Mapping[str, datetime]) -> list[GaugeMetricFamily]:
    """All metrics.

    Args:
        status: How the lake is.
        state: What is remembered of incidents.
        banned: Until when REST APIs have banned this address.
    """
    markets, dagster = status.markets, status.dagster
    newest = {
        (one.market, table): at.timestamp() for one in markets for table, at in one.newest.items() if at
    }
    of_market = [(one, (one.market, one.table)) for one in markets]  # of each silver table that it has
    absent = [((*key, name), count) for one, key in of_market for name, count in one.absent.items()]
    is_open = [
        one.fact.kind for one in state.incidents.values() if one.ended is None and one.fine_since is None
    ]
    found = [
        _gauge("up", "Whether the lake could be looked at.", (), [((), 1)]),
        *(
            _gauge(
                f"table_{name}",
                said,
                ("table",),
                [((row["table"],), _number(row[name])) for row in status.tables if row[name] is not None],
            )
            for name, said in _TABLE.items()
        ),
        _gauge(
            "newest_row_timestamp_seconds", "Time of the newest row.", ("market", "table"), newest.items()
        ),
        _gauge("absent_rows", "Absent rows by class.", ("market", "table", "class"), absent),
        _gauge(
            "late",
            "Whether the newest row is too old.",
            ("market", "table"),
            [(key, one.is_late) for one, key in of_market],
        ),
        _gauge(
            "unsettled",
            "Disputes without proof.",
            ("market", "table"),
            [(key, one.unsettled) for one, key in of_market],
        ),
        _gauge("incidents", "Open incidents.", ("kind",), [((kind,), is_open.count(kind)) for kind in QUIET]),
        _gauge(
            "ban_end_timestamp_seconds",
            "Until when an API has banned this address.",
            ("api",),
            [((url,), until.timestamp()) for url, until in banned.items() if until > datetime.now(UTC)],
        ),
        _gauge(
            "rest_budget_weight",
            "Weight a minute that an API allows.",
            ("exchange", "market_type"),
            [((one.exchange, one.market_type), one.budget) for one in status.rest],
        ),
    ]
    if dagster is None:
        return found
    ticked = [((one.name,), one.last_tick.timestamp()) for one in dagster.sensors if one.last_tick]
    runs = [(("queued",), dagster.queued), (("running",), dagster.running)]
    return [
        *found,
        _gauge("daemon_up", "Whether Dagster's daemon gave a sign of life.", (), [((), dagster.is_alive)]),
        _gauge("runs", "Runs by state.", ("state",), runs),
        _gauge("backfills", "Backfills under way.", (), [((), dagster.backfills)]),
        _gauge(
            "failing_check",
            "Checks that fail.",
            ("table", "check", "severity"),
            [((one.table, one.check, one.severity), 1) for one in dagster.checks],
        ),
        _gauge(
            "sensor_on",
            "Whether it runs.",
            ("sensor",),
            [((one.name,), one.is_on) for one in dagster.sensors],
        ),
        _gauge("last_tick_timestamp_seconds", "When a sensor ticked last.", ("sensor",), ticked),
    ]


def _number(value: float | list[str]) -> float:
    """A figure of a table: a number, or how many there are."""
    return float(len(value) if isinstance(value, list) else value)


def _gauge(
    name: str, said: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"lakehouse_{name}", said, labels=labels)
    for of, value in values:
        family.add_metric(of, float(value))
    return family
