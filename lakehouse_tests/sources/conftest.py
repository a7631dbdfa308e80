"""Reading an archive into a lake, as the assets do it, one cell at a time."""

from datetime import datetime
from pathlib import Path

import pytest

from lakehouse.datasets.candle import CANDLE, Candle, CandleArchive
from lakehouse.datasets.dataset import BronzeCell
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.simulator import Simulator
from lakehouse.sources.files.ingest import ingest
from lakehouse.sources.files.listing import MarketListing, list_market
from lakehouse.sources.files.reader import ArchiveReader
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.storage.due import inputs_now, is_due
from lakehouse.storage.landing import Landing, Receipt
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Failed, settle
from lakehouse.storage.tables import CellRecord, StoredCell, TableStore
from lakehouse_tests.making import FEBRUARY, NOW, ArchiveFolder, facts

BRONZE = CandleArchive.name


class Reading:
    """One lake that reads cells from simulated exchanges."""

    def __init__(self, objects: LakeObjects) -> None:
        self.objects = objects
        self.tables = TableStore(objects)
        self.landing = Landing(objects, "binance")

    def listing(self, sim: Simulator, cell: Cell = FEBRUARY, at: datetime = NOW) -> MarketListing:
        return list_market(
            ArchiveClient(sim.url, Binance.bucket), Binance(sim.url), BRONZE, cell.own_market, cell.window, at
        )

    def reader(self, sim: Simulator, at: datetime = NOW) -> ArchiveReader:
        return ArchiveReader(Binance(sim.url), CandleArchive, self.landing, lambda: at)

    def ingest(
        self, sim: Simulator, cell: Cell = FEBRUARY, at: datetime = NOW, market: MarketFacts | None = None
    ) -> CellRecord | None:
        """Read one cell and store it; errors are raised."""
        known = {market.market: market} if market else {}
        ((found, outcome),) = ingest(
            CANDLE,
            Binance(sim.url),
            [cell],
            {cell.own_market: self.listing(sim, cell, at)},
            known,
            ledger(self.objects, CandleArchive),
            self.objects,
            lambda: at,
        )
        assert found == cell
        if isinstance(outcome, Failed):
            raise outcome.error
        return settle(self.tables, CandleArchive, cell, outcome)[0]

    def is_due(self, sim: Simulator, cell: Cell = FEBRUARY, at: datetime = NOW) -> bool:
        return self.listing(sim, cell, at).is_due(cell, ledger(self.objects, CandleArchive).get(cell))

    def refine(self, cell: Cell = FEBRUARY, market: MarketFacts | None = None) -> StoredCell:
        """Make the silver cell of a stored bronze cell."""
        known = market or facts(cell.own_market)
        bronze = self.tables.get(CandleArchive, cell)
        assert bronze is not None
        self.tables.put(
            Candle,
            cell,
            CANDLE.refine(
                {CandleArchive.name: BronzeCell(bronze.rows, bronze.record.version, bronze.record.facts)},
                cell,
                known,
            ),
        )
        held = {table.name: ledger(self.objects, table) for table in CANDLE.bronze}
        record = ledger(self.objects, Candle)[cell]
        assert not is_due(
            Candle, record, inputs_now(Candle, cell, held, {cell.own_market: known.version_for(cell)})
        )
        stored = self.tables.get(Candle, cell)
        assert stored is not None
        return stored

    def receipts(self) -> list[Receipt]:
        """All receipts, by key."""
        found = self.landing.receipts("data")
        return [receipt for key in sorted(found) for receipt in self.landing.history(found[key])]

    def paths(self, zone: str) -> list[str]:
        return sorted(found.path for found in self.objects.list(zone))


def fetched(sim: Simulator) -> list[str]:
    """Names of the files that were asked for since the last reset."""
    paths = [path.split("?")[0] for method, path in sim.requests if method == "GET"]
    return sorted({path.rsplit("/", 1)[-1] for path in paths if path.endswith((".zip", ".CHECKSUM"))})


@pytest.fixture
def reading(objects: LakeObjects) -> Reading:
    return Reading(objects)


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveFolder:
    """An empty archive."""
    return ArchiveFolder(tmp_path / "archive")


def serve(folder: ArchiveFolder, at: datetime = NOW) -> Simulator:
    """An exchange that has the folder's files and nothing else."""
    return Simulator(markets=(), now=at, files=folder.root)
