"""What the assets do, cell by cell, in plain values: skip what is not due, compute the rest."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import chain, groupby

import polars as pl

from lakehouse.datasets.conflict import Conflict, conflict_frame
from lakehouse.datasets.dataset import ApiTable, BronzeCell, Dataset
from lakehouse.datasets.gap import Gap, gap_frame
from lakehouse.datasets.market import MarketFacts, MarketTable, facts_by_market, market_frame
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    ClockBehindError,
    FetchError,
    InputMissingError,
    LakehouseError,
    MarketFactsMissingError,
    NotALakeObjectError,
    RestUnreachableError,
    UnknownExchangeError,
)
from lakehouse.model.feature import Feature
from lakehouse.model.market import Market
from lakehouse.model.result import NONE, CellFacts, CellResult
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange
from lakehouse.pipeline.outcome import Outcome, StoredCells, each
from lakehouse.pipeline.services import LakeServices
from lakehouse.sources.files.ingest import ingest, outside_life
from lakehouse.sources.files.listing import MarketListing, list_market
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.sources.markets import discover
from lakehouse.sources.rest.asking import (
    Answers,
    Question,
    api_questions,
    ask,
    witness_is_due,
    witness_range,
)
from lakehouse.storage.ledger import Ledger, damaged_cells, inputs_now, is_due, survey
from lakehouse.storage.tables import CellRecord, StoredCell

_LISTED_AT_ONCE = 8
_BEHIND = timedelta(hours=1)  # by which a machine's clock may be off before it is said

# --- silver/market --------------------------------------------------------------------------------


def known_markets(lake: LakeServices) -> dict[Market, MarketFacts]:
    """Every market that `silver/market` has."""
    stored = lake.tables.get(MarketTable, None)
    return facts_by_market(stored.rows if stored else None)


def refresh_markets(
    lake: LakeServices, markets: Iterable[Market]
) -> tuple[CellRecord | None, bool, dict[Market, LakehouseError]]:
    """Ask about markets and store what is new; rows of other markets stay.

    Returns:
        The record of `silver/market`, whether it was written, and why nothing was found of some markets: not
        listed, of no supported exchange, or out of reach.

    Raises:
        ListingUnreachableError: An archive does not answer.
    """
    found: dict[Market, MarketFacts] = {}
    failed: dict[Market, LakehouseError] = {}
    for name, group in groupby(sorted(set(markets)), key=lambda market: market.exchange):
        members = list(group)
        if name not in lake.exchanges:
            failed |= dict.fromkeys(members, UnknownExchangeError(name, lake.exchanges))
            continue
        learned, refused = discover(
            lake.exchanges[name],
            lake.registry.datasets[0].archive.name,
            members,
            lake.objects,
            lake.clients,
            lake.clock,
        )
        found, failed = found | learned, failed | refused
    changed = False

    def merge(stored: StoredCell | None) -> CellResult | None:
        nonlocal changed
        known = facts_by_market(stored.rows if stored else None)
        merged = known | {market: facts.kept_from(known.get(market)) for market, facts in found.items()}
        changed = merged != known or (stored is not None and is_outdated(MarketTable, stored.record))
        return CellResult(market_frame(list(merged.values())), {}) if changed else None

    record = lake.tables.update(MarketTable, None, merge)
    return record, changed, failed


def _by_exchange(lake: LakeServices, markets: Iterable[Market]) -> Iterator[tuple[Exchange, list[Market]]]:
    ordered = sorted(dict.fromkeys(markets), key=lambda market: market.exchange)
    for _, group in groupby(ordered, key=lambda market: market.exchange):
        members = list(group)
        yield lake.exchange(members[0]), members


# --- bronze ---------------------------------------------------------------------------------------


def list_archive(
    lake: LakeServices, table: str, cells: Iterable[Cell], refused: dict[Market, LakehouseError] | None = None
) -> dict[Market, MarketListing]:
    """What the archives have for the markets and months of some cells.

    Args:
        lake: The lake.
        table: Name of the bronze table.
        cells: Which cells.
        refused: Takes the markets that cannot be asked about, which are left out; without it they are raised.

    Raises:
        ListingUnreachableError: An archive does not answer.
    """
    spans: dict[Market, TimeRange] = {}
    for cell in cells:
        market, span = cell.own_market, cell.window
        known = spans.get(market, span)
        spans[market] = TimeRange(min(known.start, span.start), max(known.end, span.end))
    listings: dict[Market, MarketListing] = {}
    for exchange, markets in _by_exchange(lake, spans):
        client = ArchiveClient(exchange.archive_url, exchange.bucket)

        def ask_for(
            market: Market, exchange: Exchange = exchange, client: ArchiveClient = client
        ) -> MarketListing | None:
            try:
                return list_market(client, exchange, table, market, spans[market], lake.clock())
            except FetchError as error:  # of this market's own folder
                if refused is None:
                    raise
                refused[market] = error
                return None

        with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:  # the time is the network's
            found = {
                market: listing
                for market, listing in zip(markets, pool.map(ask_for, markets), strict=True)
                if listing is not None
            }
        listings |= found
        lake.clients.note_files(
            exchange.name,
            (file.last_modified for listing in found.values() for file in listing.files.values()),
        )
    return listings


def begun_elsewhere(lake: LakeServices, cells: Iterable[Cell]) -> dict[Cell, ClockBehindError]:
    """Of cells that by this machine's clock have not begun, those that by their exchange's have.

    The exchange's time is that of its REST API, or, where that does not answer, of the newest file that the
    archive lists for these very cells.

    Raises:
        ListingUnreachableError: Neither answers.
    """
    found: dict[Cell, ClockBehindError] = {}
    ordered, now = (
        sorted(cells, key=lambda cell: (cell.own_market.exchange, cell.own_market.market_type)),
        lake.clock(),
    )
    for (name, market_type), group in groupby(
        ordered, key=lambda cell: (cell.own_market.exchange, cell.own_market.market_type)
    ):
        members = list(group)
        try:
            lake.clients.of_api(name, market_type).now()
        except RestUnreachableError:
            list_archive(lake, lake.registry.datasets[0].archive.name, members)
        told = lake.clients.told_time(name)
        if told and told - now > _BEHIND:
            found |= {
                cell: ClockBehindError(now, name, told, "So this month was not built.")
                for cell in members
                if cell.window.start <= told
            }
    return found


def clock_note(lake: LakeServices, exchange: Exchange) -> str | None:
    """That this machine's clock is behind an exchange's, as far as that has said its time; what has happened
    there since is not asked for.
    """
    told, now = lake.clients.told_time(exchange.name), lake.clock()
    return (
        str(ClockBehindError(now, exchange.name, told, "What came after that was not asked for."))
        if told and told - now > _BEHIND
        else None
    )


def bronze_due(lake: LakeServices, dataset: Dataset, table: type[Table], cells: list[Cell]) -> list[Cell]:
    """The bronze cells that must be read again or asked for, or that were written by an older meaning of the
    table.

    Raises:
        ListingUnreachableError: An archive does not answer.
    """
    stored = lake.ledger(table.name)
    if table is dataset.archive:
        refused: dict[Market, LakehouseError] = {}
        listings = list_archive(lake, table.name, cells, refused)
        due = set(
            archive_due(
                lake, dataset, [cell for cell in cells if cell.own_market not in refused], stored, listings
            )
        )
        due |= {cell for cell in cells if cell.own_market in refused}  # so that they are named
    elif table is dataset.witness:
        due = set(witness_wanted(lake, dataset, cells, stored, known_markets(lake)))
    else:
        due = set(api_wanted(lake, dataset, cells, stored, known_markets(lake)))
    return [cell for cell in cells if cell in due]


def is_outdated(table: type[Table], record: CellRecord | None) -> bool:
    """Whether a cell was written by another meaning of its table than today's."""
    return record is not None and record.code_version != table.code_version


def archive_due(
    lake: LakeServices,
    dataset: Dataset,
    cells: Iterable[Cell],
    stored: Ledger,
    listings: Mapping[Market, MarketListing],
) -> list[Cell]:
    """The cells of an archive table whose files or witness are not those they were made from."""
    behind = witness_behind(lake, dataset, stored)
    return [
        cell
        for cell in cells
        if cell in behind
        or is_outdated(dataset.archive, stored.get(cell))
        or listings[cell.own_market].is_due(cell, stored.get(cell))
    ]


def witness_behind(lake: LakeServices, dataset: Dataset, stored: Ledger) -> dict[Cell, str]:
    """The stored cells of an archive table that were judged by another witness than today's, with the version
    of that.
    """
    if dataset.witness is None:
        return {}
    said = lake.ledger(dataset.witness.name)
    today = {cell: said[cell].version if cell in said else NONE for cell in stored}
    return {
        cell: version
        for cell, version in today.items()
        if stored[cell].inputs.get(f"{dataset.witness.name}@{cell.date}", NONE) != version
    }


def archive_cells(
    lake: LakeServices, dataset: Dataset, cells: list[Cell], refused: Mapping[Market, LakehouseError]
) -> Iterator[tuple[Cell, Outcome]]:
    """Cells of a bronze table, from the archives.

    Args:
        lake: The lake.
        dataset: Whose bronze table.
        cells: Which cells.
        refused: Markets that no exchange lists: their cells fail, the others go on.
    """
    yield from ((cell, refused[cell.own_market]) for cell in cells if cell.own_market in refused)
    asked = [cell for cell in cells if cell.own_market not in refused]
    unlisted: dict[Market, LakehouseError] = {}
    listings = list_archive(lake, dataset.archive.name, asked, unlisted)
    yield from ((cell, unlisted[cell.own_market]) for cell in asked if cell.own_market in unlisted)
    asked = [cell for cell in asked if cell.own_market not in unlisted]
    stored = lake.ledger(dataset.archive.name)
    due = archive_due(lake, dataset, asked, stored, listings)
    facts, waiting = known_markets(lake), set(due)
    yield from ((cell, stored.get(cell)) for cell in asked if cell not in waiting)

    for exchange, markets in _by_exchange(lake, (cell.own_market for cell in due)):
        of_exchange = [cell for cell in due if cell.market in markets]
        yield from ingest(
            dataset,
            exchange,
            of_exchange,
            listings,
            facts,
            stored,
            lake.objects,
            lake.clock,
            lambda cell: witness_of(lake, dataset, cell),
        )


def witness_of(lake: LakeServices, dataset: Dataset, cell: Cell) -> BronzeCell | None:
    """The stored cell of a dataset's witness; None if there is none."""
    return _bronze_cell(lake.tables.get(dataset.witness, cell)) if dataset.witness else None


def _bronze_cell(stored: StoredCell | None) -> BronzeCell | None:
    return BronzeCell(stored.rows, stored.record.version, stored.record.facts) if stored else None


def _with_rest(lake: LakeServices, table: type[Table], cells: Iterable[Cell]) -> Iterator[Cell]:
    """The cells of exchanges whose REST API answers about a table."""
    answering = {name for name, exchange in lake.exchanges.items() if table.name in exchange.pages}
    return (cell for cell in cells if cell.own_market.exchange in answering)


def witness_wanted(
    lake: LakeServices,
    dataset: Dataset,
    cells: Iterable[Cell],
    stored: Ledger,
    known: Mapping[Market, MarketFacts],
) -> dict[Cell, TimeRange]:
    """The witnesses that have to be asked for, with the range that can be."""
    return _witness_wanted(
        lake, dataset, cells, stored, known, lake.ledger(dataset.api.name) if dataset.api else {}
    )


def _witness_wanted(
    lake: LakeServices,
    dataset: Dataset,
    cells: Iterable[Cell],
    stored: Ledger,
    known: Mapping[Market, MarketFacts],
    asked: Ledger,
) -> dict[Cell, TimeRange]:
    assert dataset.witness is not None, "asked of a dataset that has one"
    now = lake.clock()
    wanted = {}
    for cell in _with_rest(lake, dataset.witness, cells):
        record, market = stored.get(cell), known.get(cell.own_market)
        span = witness_range(cell, market, now)
        finer = asked[cell].facts if cell in asked else CellFacts()
        if span and (
            is_outdated(dataset.witness, record)
            or witness_is_due(cell, record, market, now, finer.revised_at, finer.asked)
        ):
            wanted[cell] = span
    return wanted


def api_wanted(
    lake: LakeServices,
    dataset: Dataset,
    cells: Iterable[Cell],
    stored: Ledger,
    known: Mapping[Market, MarketFacts],
) -> dict[Cell, list[Question]]:
    """What REST has still to be asked for, by cell; nothing of one whose answers have to be judged anew
    alone.
    """
    assert dataset.api is not None, "asked of a dataset that has one"
    now, archive = lake.clock(), lake.ledger(dataset.archive.name)
    judges = judged_by(lake, dataset)
    wanted = {}
    for cell in _with_rest(lake, dataset.api, cells):
        record = stored.get(cell)
        questions = api_questions(
            cell, archive.get(cell), record, known.get(cell.own_market), now, _slot(lake, dataset.api, cell)
        )
        if (
            questions
            or is_outdated(dataset.api, record)
            or (
                record
                and dict(record.inputs) != judges(cell)
                and any(asking.is_of_rows for asking in record.facts.asked)
            )
        ):
            wanted[cell] = questions
    return wanted


def _slot(lake: LakeServices, table: type[Table], cell: Cell) -> timedelta:
    """What one row of a bronze table made from REST stands for, by the cell's exchange."""
    return lake.clients.pages_of(cell.own_market, table.name).slot


def judged_by(lake: LakeServices, dataset: Dataset) -> Callable[[Cell], dict[str, str]]:
    """The versions of what the answers in a cell of REST candles are held against, as they are now."""
    api = dataset.api
    assert api is not None, "asked of a dataset that has one"
    ledgers = input_ledgers(lake, api)
    return lambda cell: inputs_now(api, cell, ledgers, {})


def rest_cells(
    lake: LakeServices, dataset: Dataset, table: type[ApiTable], cells: list[Cell]
) -> Iterator[tuple[Cell, Outcome]]:
    """Cells of a bronze table made from answers of REST APIs: those with nothing to ask as they are."""
    stored, known = lake.ledger(table.name), known_markets(lake)
    if table is dataset.witness:
        finer = lake.ledger(dataset.api.name) if dataset.api else {}
        questions = {
            cell: [Question(span)]
            for cell, span in _witness_wanted(lake, dataset, cells, stored, known, finer).items()
        }
        yield from ((cell, stored.get(cell)) for cell in cells if cell not in questions)
        for cell, answers in ask(table, lake.clients, questions, lake.clock):
            yield (
                cell,
                replace(
                    answers,
                    is_witness=True,
                    revised_at=finer[cell].facts.revised_at if cell in finer else None,
                ).change,
            )
        return
    wanted = api_wanted(lake, dataset, cells, stored, known)
    judges, archive = judged_by(lake, dataset), lake.ledger(dataset.archive.name)
    yield from ((cell, stored.get(cell)) for cell in cells if cell not in wanted)
    for cell in wanted:  # what was answered may be open again by what is stored of the others now
        if (record := stored.get(cell)) and dict(record.inputs) != judges(cell):
            changed = judged(lake, dataset, cell, judges(cell), Answers(table, [], [], [])).change(
                lake.tables.get(table, cell)
            )
            record = replace(record, facts=changed.facts)
            wanted[cell] = api_questions(
                cell,
                archive.get(cell),
                record,
                known.get(cell.own_market),
                lake.clock(),
                _slot(lake, table, cell),
            )
    settled = [cell for cell, questions in wanted.items() if not questions]
    for cell, answers in chain(
        ((cell, Answers(table, [], [], [])) for cell in settled),
        ask(
            table,
            lake.clients,
            {cell: asked for cell, asked in wanted.items() if asked},
            lake.clock,
        ),
    ):
        yield cell, judged(lake, dataset, cell, judges(cell), answers).change


def judged(
    lake: LakeServices, dataset: Dataset, cell: Cell, judges: Mapping[str, str], answers: Answers
) -> Answers:
    """Answers that are held against what is stored of the witness and the archive."""
    assert dataset.api is not None, "asked of a dataset that has one"
    name = dataset.api.name

    def contradicted(result: CellResult) -> list[TimeRange]:
        others = bronze_cells(
            {
                table.name: StoredCells(lake.tables, table)
                for table in dataset.bronze
                if table is not dataset.api
            },
            cell,
        )
        return dataset.contradicted({**others, name: BronzeCell(result.rows, "", result.facts)})

    return replace(answers, contradicted=contradicted, inputs=judges)


# --- silver and gold ------------------------------------------------------------------------------


def input_ledgers(lake: LakeServices, table: type[Table]) -> dict[str, Ledger]:
    """The ledgers of a table's inputs, by name."""
    return {name: lake.ledger(name) for name in table.inputs}


def facts_versions(
    lake: LakeServices, table: type[Table], cell: Cell, known: Mapping[Market, MarketFacts]
) -> dict[Market, str]:
    """The version of the market facts a cell is made with; only silver datasets use them."""
    uses = table in [dataset.silver for dataset in lake.registry.datasets]
    return (
        {cell.own_market: known[cell.own_market].version_for(cell)} if uses and cell.market in known else {}
    )


def derived_due(lake: LakeServices, table: type[Table], cells: Iterable[Cell], stored: Ledger) -> list[Cell]:
    """The silver or gold cells that are absent or made from other inputs than today's."""
    return list(derived_wanted(lake, table, cells, stored, known_markets(lake)))


def derived_wanted(
    lake: LakeServices,
    table: type[Table],
    cells: Iterable[Cell],
    stored: Ledger,
    known: Mapping[Market, MarketFacts],
) -> dict[Cell, Mapping[str, str]]:
    """As `derived_due`, with the inputs that each would be made from."""
    ledgers = input_ledgers(lake, table)
    of_month = _by_date(ledgers) if table.shape == "months" else {}
    inputs = {
        cell: inputs_now(
            table, cell, of_month.get(cell.date, ledgers), facts_versions(lake, table, cell, known)
        )
        for cell in cells
    }
    return {cell: now for cell, now in inputs.items() if is_due(table, stored.get(cell), now)}


def _by_date(ledgers: Mapping[str, Ledger]) -> dict[str, dict[str, dict[Cell, CellRecord]]]:
    """Ledgers, parted by date: what a table by month reads of them."""
    parted: dict[str, dict[str, dict[Cell, CellRecord]]] = {}
    for name, stored in ledgers.items():
        for cell, record in stored.items():
            parted.setdefault(cell.date, {other: {} for other in ledgers})[name][cell] = record
    return parted


def derived_cells(
    lake: LakeServices, table: type[Table], cells: list[Cell], compute: Callable[[Cell], Outcome]
) -> Iterator[tuple[Cell, Outcome]]:
    """Cells of a silver or gold table: those that are not due as they are, the others computed."""
    stored = lake.ledger(table.name)
    due = set(derived_due(lake, table, cells, stored))
    return each(cells, lambda cell: compute(cell) if cell in due else stored[cell])


def silver_cells(
    lake: LakeServices, dataset: Dataset, cells: list[Cell], bronze: Mapping[str, StoredCells]
) -> Iterator[tuple[Cell, Outcome]]:
    """Cells of a silver table.

    Args:
        lake: The lake.
        dataset: Whose silver table.
        cells: Which cells.
        bronze: The dataset's bronze tables by name.
    """
    known = known_markets(lake)

    def compute(cell: Cell) -> Outcome:
        parts, market = bronze_cells(bronze, cell), cell.own_market
        if not any(dataset.silver.is_made_by(name, part.rows.height) for name, part in parts.items()):
            return _absent(lake, cell, dataset.archive.name, known)
        if market not in known:
            raise MarketFactsMissingError(market.key)
        return dataset.refine(parts, cell, known[market])

    return derived_cells(lake, dataset.silver, cells, compute)


def bronze_cells(bronze: Mapping[str, StoredCells], cell: Cell) -> dict[str, BronzeCell]:
    """The bronze cells that a silver cell is made from, by table name."""
    read = {name: _bronze_cell(stored.get(cell)) for name, stored in bronze.items()}
    return {name: part for name, part in read.items() if part is not None}


def feature_cells(
    lake: LakeServices, feature: type[Feature], cells: list[Cell], inputs: Mapping[str, StoredCells]
) -> Iterator[tuple[Cell, Outcome]]:
    """Cells of a gold table."""
    known = known_markets(lake)

    def compute(cell: Cell) -> Outcome:
        frames: dict[str, pl.DataFrame] = {}
        versions: dict[str, str] = {}
        for name, lookback in feature.inputs.items():
            read = {back: inputs[name].get(cell.shift(-back)) for back in range(lookback, -1, -1)}
            if read[0] is None and any(read.values()):
                return None  # asked for because of a month it looks back on: its turn comes with its own
            if read[0] is None:
                return _absent(lake, cell, name, known)
            frames[name] = pl.concat([stored.rows for stored in read.values() if stored])
            versions |= {
                f"{name}@{cell.shift(-back).date}": stored.record.version if stored else NONE
                for back, stored in read.items()
            }
        return CellResult(feature.compute(frames, cell.window), versions)

    return derived_cells(lake, feature, cells, compute)


def _absent(lake: LakeServices, cell: Cell, source: str, known: Mapping[Market, MarketFacts]) -> Outcome:
    """What becomes of a cell whose input is not stored: nothing outside the market's life or in the future,
    else an error.
    """
    if outside_life(cell, known.get(cell.own_market)) or cell.window.end > lake.clock():
        return None  # of the open window nothing may be published yet
    raise InputMissingError(source, str(cell))


# --- silver/gap and silver/conflict ---------------------------------------------------------------


def gap_cells(lake: LakeServices, cells: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
    """Cells of `silver/gap`, collected from what the candle cells say about themselves."""
    return _month_cells(
        lake,
        Gap,
        cells,
        lambda ledgers: gap_frame(
            (cell.own_market, run)
            for stored in ledgers.values()
            for cell, record in stored.items()
            for run in record.facts.gaps
        ),
    )


def conflict_cells(lake: LakeServices, cells: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
    """Cells of `silver/conflict`, computed again from the bronze of the silver cells that count disputes."""
    known = known_markets(lake)

    def disputes(dataset: Dataset, cell: Cell) -> tuple[Market, str, pl.DataFrame]:
        bronze = bronze_cells({table.name: StoredCells(lake.tables, table) for table in dataset.bronze}, cell)
        if not bronze:
            raise InputMissingError(dataset.archive.name, str(cell))
        assert dataset.conflicts is not None, "only such a dataset counts disputes"
        if cell.own_market not in known:
            raise MarketFactsMissingError(cell.own_market.key)
        return cell.own_market, dataset.silver.name, dataset.conflicts(bronze, cell, known[cell.own_market])

    def collect(ledgers: Mapping[str, Ledger]) -> pl.DataFrame:
        of = [
            (dataset, cell)
            for dataset in lake.registry.datasets
            for cell, record in ledgers.get(dataset.silver.name, {}).items()
            if record.facts.conflict_count
        ]
        return conflict_frame(disputes(dataset, cell) for dataset, cell in of)

    return _month_cells(lake, Conflict, cells, collect)


def _month_cells(
    lake: LakeServices,
    table: type[Table],
    cells: list[Cell],
    collect: Callable[[Mapping[str, Ledger]], pl.DataFrame],
) -> Iterator[tuple[Cell, Outcome]]:
    """Cells of a table by month, collected from its inputs' records of that month; none without a cell that
    is damaged.
    """
    surveys = {name: survey(lake.objects, lake.registry.table(name)) for name in table.inputs}
    of_month = _by_date({name: stored for name, (stored, _) in surveys.items()})
    damaged = {
        cell.date: error
        for name, (_, foreign) in surveys.items()
        for error in foreign
        for cell in _cell_of(lake.registry.table(name), error)
    }

    def compute(cell: Cell) -> Outcome:
        if cell.date in damaged:
            # rows of the others alone would say that there is nothing to tell of this one
            raise damaged[cell.date]
        if cell.date not in of_month:
            return None
        ledgers = of_month[cell.date]
        return CellResult(collect(ledgers), inputs_now(table, cell, ledgers, {}))

    return derived_cells(lake, table, cells, compute)


def _cell_of(table: type[Table], error: NotALakeObjectError) -> list[Cell]:
    """The cell in whose place an object lies that does not read, if it is one's."""
    with contextlib.suppress(NotALakeObjectError):
        return damaged_cells(table, [error])
    return []
