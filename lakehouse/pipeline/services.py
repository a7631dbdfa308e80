"""What asset bodies need, as one resource."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.cell import Cell
from lakehouse.model.errors import UnknownExchangeError
from lakehouse.model.market import Market
from lakehouse.model.timerange import LAST
from lakehouse.pipeline.workers import worker_count
from lakehouse.registry import REGISTRY, Registry
from lakehouse.sources.rest.clients import RestClients
from lakehouse.storage.bans import note_ban
from lakehouse.storage.catalog import GlueCatalog
from lakehouse.storage.ledger import Ledger, ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse.transform.resample import Totals

_IN_FLIGHT = 4  # whole cells, in memory

Progress = Callable[[str, Cell, str], None]


def utc_now() -> datetime:
    """The current instant."""
    return datetime.now(UTC)


@dataclass
class LakeServices:
    """One lake with its sources.

    Attributes:
        objects: The lake's objects.
        exchanges: Exchanges by name.
        registry: The declared tables.
        start: First month with partitions, `YYYY-MM`.
        end: Last month of the lake; None where that is the open one.
        catalog: Where tables are registered, if anywhere.
        clock: Tells the current instant.
        workers: Cells that are computed at once.
        progress: Told of every cell: table, cell, and `built`, `unchanged`, `nothing` or `failed`.
        home: Dagster's, which the processes of this machine share; None where there is none.
        machines: How many machines of one address ask at once.
        clients: Clients of the exchanges' REST APIs.
        summed: Totals of cells that a check has summed, by the version of their rows.
    """

    objects: LakeObjects
    exchanges: Mapping[str, Exchange]
    registry: Registry = REGISTRY
    start: str = "2017-08"
    catalog: GlueCatalog | None = None
    clock: Callable[[], datetime] = utc_now
    workers: int = field(default_factory=worker_count)
    progress: Progress = field(default=lambda table, cell, outcome: None)
    end: str | None = None
    home: Path | None = None
    machines: int = 1
    clients: RestClients = field(init=False)
    summed: dict[str, Totals] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        on_ban = partial(note_ban, self.objects)
        self.clients = RestClients(
            *self.exchanges.values(), on_ban=on_ban, home=self.home, machines=self.machines
        )

    @property
    def until(self) -> datetime:
        """The end of its last month; far away where it has none."""
        return Cell(self.end).window.end if self.end else LAST

    def has_month(self, month: str) -> bool:
        """Whether a month is among those that it has."""
        return self.start <= month and (self.end is None or month <= self.end)

    @property
    def in_flight(self) -> int:
        """Cells that are read, or stored, beside each other: one where nothing waits for a network."""
        return 1 if self.objects.is_local or self.workers == 1 else _IN_FLIGHT

    @property
    def tables(self) -> TableStore:
        """Cells of the lake."""
        return TableStore(self.objects)

    def exchange(self, market: Market) -> Exchange:
        """The exchange a market belongs to.

        Raises:
            UnknownExchangeError: It has no module.
        """
        if market.exchange not in self.exchanges:
            raise UnknownExchangeError(market.exchange, self.exchanges)
        return self.exchanges[market.exchange]

    def ledger(self, table: str) -> Ledger:
        """What is stored of a table."""
        return ledger(self.objects, self.registry.table(table))
