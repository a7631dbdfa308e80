"""An operator's night: looks at a lake as time passes, and what a webhook was told."""

import shlex
from datetime import UTC, datetime, timedelta

import polars as pl
import time_machine
import typer

from lakehouse.cli.app import app
from lakehouse.datasets.candle import Candle
from lakehouse.defs.alert_facts import Seen
from lakehouse.defs.alerting import Alerts, alert_once
from lakehouse.defs.partitions import MARKETS
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.ops.telling import Book
from lakehouse.pipeline.alert_facts import Watch
from lakehouse.pipeline.services import LakeServices
from lakehouse_tests.making import candles, minutes
from lakehouse_tests.webhook import Webhook

from .conftest import BTC, ETH, Shell

NEVER_FULL = Watch("http://ui.example:3000", full=1.1)
MINUTE = timedelta(minutes=1)


class Night:
    """An operator's night: looks at a lake, as time passes."""

    def __init__(self, shell: Shell, webhook: Webhook, watch: Watch = NEVER_FULL) -> None:
        self.shell, self.webhook = shell, webhook
        self.how = Alerts(webhook.url, watch)
        self.now = datetime.now(UTC)
        shell.instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key, ETH.key])

    def look(self, after: timedelta = MINUTE, in_full: bool = True, seen: Seen | None = None) -> None:
        """Look once, in a process that has just started, or has seen something before."""
        self.now += after
        with time_machine.travel(self.now, tick=False):
            _, problems = alert_once(
                self.shell.lake, self.shell.instance, self.how, Book(self.shell.lake.objects), in_full, seen
            )
        assert not problems

    def told(self, kind: str) -> dict[str, str]:
        """The one message of a kind, by its lines."""
        (message,) = self.webhook.of(kind)
        what, *lines = message["message"].splitlines()
        found = {"what": what} | dict(line.split(": ", 1) for line in lines)
        assert found["link"].startswith("http://ui.example:3000/")
        assert_it_is_a_command(found["command"])
        return found


def assert_it_is_a_command(text: str) -> None:
    """Its words are a command of ours with options that it has."""
    program, *words = shlex.split(text)
    assert program == "lakehouse"
    command = typer.main.get_command(app)
    context = command.make_context("lakehouse", list(words), resilient_parsing=True)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    command.make_context(command.name or "", words, parent=context)


def put(lake: LakeServices, cell: Cell, *gaps: GapRun, rejects: int = 0) -> None:
    """Store a silver cell."""
    rows = candles(minutes("2024-02-01", 5))
    rejected = rows.head(rejects).with_columns(rule=pl.lit("high_low")) if rejects else None
    lake.tables.put(Candle, cell, CellResult(rows, {}, CellFacts(gaps=gaps), rejected))
