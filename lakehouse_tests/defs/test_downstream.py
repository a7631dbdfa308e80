"""A code location of a user's own below the lake: its inputs are what they are annotated as, its frames lie
beside the lake, and news of the lake reach it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_polars import PolarsParquetIOManager

from lakehouse.cli.building import Builder
from lakehouse.dagster import ON_CHANGE, Frames, LakeAssets, lookback
from lakehouse.defs.describe import asset_key
from lakehouse.defs.io_manager import StoredCells, cell_event
from lakehouse.defs.partitions import MARKETS, to_key
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    DamagedObjectError,
    FramesFolderError,
    InputAnnotationError,
    InputMissingError,
    RangedOutputError,
)
from lakehouse.model.result import CellResult
from lakehouse.opening import open_lake
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.layout import cell_path
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.daemon import Daemon, running_daemon

from .conftest import BRONZE, BTC, ETH, QUARTER, VWAP, Shell, grid

pytestmark = pytest.mark.slow  # together, not one by one: the fast tests are to take two minutes

EXAMPLE = Path(__file__).parents[2] / "examples" / "downstream"
FEBRUARY, MARCH, APRIL = (Cell(f"2024-0{month}", BTC) for month in (2, 3, 4))
HOUR = timedelta(hours=1)
SINGLE, RANGED = [FEBRUARY], [FEBRUARY, MARCH]
PATH_COLUMNS = ["exchange", "market_type", "symbol", "month"]


def put(lake: LakeServices, cell: Cell, rows: int, price: float = 100.0) -> None:
    """Store a cell of `gold/vwap` with some rows, one a minute."""
    table = lake.registry.table(VWAP)
    start = cell.window.start
    times = pl.datetime_range(start, start.replace(minute=rows - 1), "1m", eager=True, time_unit="us")
    frame = pl.DataFrame({"open_time": times}).with_columns(
        **dict.fromkeys(("vwap_1h", "vwap_1d", "vwap_session"), pl.lit(price)),
        **{f"candle_count_{name}": pl.lit(1, pl.Int32) for name in ("1h", "1d", "session")},
        knowable_at=pl.col("open_time") + pl.duration(minutes=1),
    )
    lake.tables.put(table, cell, CellResult(frame.select(table.names()), inputs={}))


@pytest.fixture
def own(lake: LakeServices, instance: dg.DagsterInstance) -> LakeAssets:
    """Two stored months of a market."""
    instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key, ETH.key])
    for cell, rows in ((FEBRUARY, 2), (MARCH, 3)):
        put(lake, cell, rows)
    return LakeAssets(lake)


class Given:
    """What an asset was given, run by run."""

    def __init__(self, own: LakeAssets, instance: dg.DagsterInstance) -> None:
        self._own, self._instance, self.was = own, instance, list[Any]()

    def __call__(
        self, wanted: Any, cells: list[Cell], mapping: dg.PartitionMapping | None = None, table: str = VWAP
    ) -> Any:
        """Run an asset whose argument has this annotation over a range of cells."""

        def body(rows):  # type: ignore[no-untyped-def]
            self.was.append(rows)

        body.__annotations__ = {} if wanted is None else {"rows": wanted}
        found = dg.asset(
            name="found",
            ins={"rows": dg.AssetIn(asset_key(table), partition_mapping=mapping)},
            partitions_def=self._own.partitions(VWAP) if cells else None,
            backfill_policy=dg.BackfillPolicy.single_run(),
        )(body)
        job = self._own.definitions([found]).resolve_implicit_global_asset_job_def()
        ends = (str(to_key(cells[0])), str(to_key(cells[-1]))) if cells else ()
        tags = dict(
            zip(
                ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"),
                ends,
                strict=False,
            )
        )
        job.execute_in_process(instance=self._instance, asset_selection=[found.key], tags=tags)
        return self.was[-1]


@pytest.fixture
def given(own: LakeAssets, instance: dg.DagsterInstance) -> Given:
    return Given(own, instance)


@pytest.mark.parametrize(
    ("cells", "mapping", "rows"),
    [
        (SINGLE, None, 2),
        (RANGED, None, 5),
        ([MARCH], lookback(1), 5),
        ([MARCH], lookback(30), 5),
        ([], None, 5),
    ],
    ids=["single", "ranged", "lookback", "lookback to before the lake", "all partitions"],
)
def test_an_input_is_what_it_is_annotated_as(
    given: Given, cells: list[Cell], mapping: dg.PartitionMapping | None, rows: int
) -> None:
    lazy = given(pl.LazyFrame, cells, mapping)
    assert isinstance(lazy, pl.LazyFrame)
    eager = given(pl.DataFrame, cells, mapping)
    assert isinstance(eager, pl.DataFrame)
    assert eager.height == rows
    assert eager.columns[-4:] == PATH_COLUMNS
    assert eager["open_time"].is_sorted()
    assert lazy.collect().equals(eager)
    for wanted in (dict[str, pl.LazyFrame], Mapping[str, pl.DataFrame]):
        by_cell = given(wanted, cells, mapping)
        assert [*by_cell] == sorted(set(eager["month"] + f"|{BTC.key}"))
        assert pl.concat([frame.lazy() for frame in by_cell.values()]).collect().equals(eager)
    for wanted in (None, Any, StoredCells):
        assert isinstance(given(wanted, cells, mapping), StoredCells)


@pytest.mark.slow  # it builds silver
def test_a_table_without_cells_is_one_frame_and_tells_which_cells_lie_before_a_listing(
    given: Given, lake: LakeServices, sim: Simulator, shell: Shell
) -> None:
    with pytest.raises(InputMissingError, match="silver/market has no cell at all yet"):
        given(pl.DataFrame, SINGLE, table="silver/market")
    shell.build("silver", [BTC])
    assert given(pl.DataFrame, SINGLE, table="silver/market")["symbol"].to_list() == [BTC.symbol]
    before = given(pl.DataFrame, [Cell("2023-12", BTC)])  # the market was listed in January, as is known now
    assert (before.height, before.columns[-4:]) == (0, PATH_COLUMNS)


def test_a_cell_that_was_made_and_has_nothing_is_an_empty_frame_and_one_that_was_never_made_is_refused(
    given: Given, lake: LakeServices, instance: dg.DagsterInstance
) -> None:
    with pytest.raises(InputMissingError, match=re.escape(f"gold/vwap has no cell {APRIL} yet")):
        given(pl.LazyFrame, [MARCH, APRIL])
    instance.report_runless_asset_event(cell_event(lake, lake.registry.table(VWAP), APRIL, None))
    alone = given(pl.DataFrame, [APRIL])
    assert (alone.height, alone.schema) == (0, given(pl.DataFrame, [MARCH]).schema)
    assert given(pl.DataFrame, [MARCH, APRIL]).height == 3
    by_cell = given(dict[str, pl.LazyFrame], [MARCH, APRIL])
    assert {key: frame.collect().height for key, frame in by_cell.items()} == {str(MARCH): 3, str(APRIL): 0}
    lake.objects.delete(cell_path(lake.registry.table(VWAP), MARCH))
    event = dg.AssetMaterialization(
        asset_key(VWAP), partition=to_key(MARCH), tags={"dagster/data_version": "something"}
    )
    instance.report_runless_asset_event(event)
    with pytest.raises(InputMissingError, match="2024-03"):  # it had rows
        given(pl.LazyFrame, [MARCH])


@pytest.mark.parametrize(("cells", "mapping"), [(SINGLE, None), (SINGLE, lookback(1)), (RANGED, None)])
def test_a_run_of_all_partitions_is_given_those_and_no_market_that_left_the_universe(
    lake: LakeServices,
    instance: dg.DagsterInstance,
    cells: list[Cell],
    mapping: dg.PartitionMapping | None,
) -> None:
    short = replace(lake, start=cells[0].date, end=cells[-1].date)
    instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
    for cell in (*cells, Cell("2024-02", ETH)):
        put(lake, cell, 2)
    given = Given(LakeAssets(short), instance)
    assert given(pl.DataFrame, cells, mapping)["symbol"].unique().to_list() == [BTC.symbol]
    lake.objects.delete(cell_path(lake.registry.table(VWAP), cells[-1]))
    with pytest.raises(InputMissingError, match=str(cells[-1]).replace("|", r"\|")):
        given(pl.DataFrame, cells, mapping)


def test_a_damaged_cell_fails_who_reads_it_alone(given: Given, lake: LakeServices) -> None:
    path = cell_path(lake.registry.table(VWAP), MARCH)
    body = lake.objects.get(path)
    assert body is not None
    lake.objects.put(path, body[:8] + bytes([body[8] ^ 1]) + body[9:])
    assert given(pl.DataFrame, SINGLE).height == 2
    for cells in (RANGED, []):
        with pytest.raises(DamagedObjectError, match="2024-03"):
            given(pl.DataFrame, cells)


@pytest.mark.parametrize("wanted", [pl.Series, dict[str, int], list[pl.LazyFrame]])
def test_a_type_in_which_no_table_is_given_is_refused_by_name(given: Given, wanted: Any) -> None:
    with pytest.raises(
        InputAnnotationError, match=r"rows is gold/vwap, and annotated .* Expected pl\.LazyFrame"
    ):
        given(wanted, SINGLE)


# --- frames ---------------------------------------------------------------------------------------


def materialize(
    own: LakeAssets, assets: list[Any], instance: dg.DagsterInstance, cells: list[Cell], **more: Any
) -> dg.ExecuteInProcessResult:
    job = own.definitions(assets).resolve_implicit_global_asset_job_def()
    tags = {
        "dagster/asset_partition_range_start": str(to_key(cells[0])),
        "dagster/asset_partition_range_end": str(to_key(cells[-1])),
    }
    return job.execute_in_process(
        instance=instance, asset_selection=[each.key for each in assets], tags=tags, **more
    )


def test_frames_come_back_by_partition_as_a_range_and_whole(
    own: LakeAssets, instance: dg.DagsterInstance, lake: LakeServices
) -> None:
    cells, single_run = own.partitions(VWAP), dg.BackfillPolicy.single_run()
    seen: list[Any] = []

    @dg.asset(ins={"vwap": dg.AssetIn(["gold", "vwap"])}, partitions_def=cells, backfill_policy=single_run)
    def kept(vwap: dict[str, pl.LazyFrame]) -> dict[str, pl.DataFrame]:
        return {key: rows.select("month", "open_time").collect() for key, rows in vwap.items()}

    @dg.asset(partitions_def=cells, backfill_policy=single_run)
    def below(kept: pl.DataFrame) -> None:
        seen.append(kept)

    @dg.asset
    def whole(kept: pl.LazyFrame) -> None:
        seen.append(kept.collect())

    before = {found.path for found in lake.objects.list("")}
    materialize(own, [kept, below], instance, RANGED)
    materialize(own, [kept, below], instance, SINGLE)
    own.definitions([kept, whole]).resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[whole.key]
    )
    assert [frame["month"].to_list() for frame in seen] == [
        ["2024-02"] * 2 + ["2024-03"] * 3,
        ["2024-02"] * 2,
        ["2024-02"] * 2 + ["2024-03"] * 3,
    ]
    assert {found.path for found in lake.objects.list("")} == before
    assert [path.name for path in sorted(Path(own.folder).rglob("*.parquet"))] == [f"{BTC.key}.parquet"] * 2


def test_one_frame_of_a_run_of_several_partitions_is_refused(
    own: LakeAssets, instance: dg.DagsterInstance
) -> None:
    @dg.asset(partitions_def=own.partitions(VWAP), backfill_policy=dg.BackfillPolicy.single_run())
    def one() -> pl.DataFrame:
        return pl.DataFrame({"a": [1]})

    with pytest.raises(RangedOutputError, match=r"returned one frame\. Expected a dict"):
        materialize(own, [one], instance, RANGED)
    assert materialize(own, [one], instance, SINGLE).success


@pytest.mark.parametrize(
    "folder", ["lake", "lake/gold", "lake/gold/own", "lake/own", ".", "beside/../lake/silver", "link/gold"]
)
def test_a_folder_in_the_lake_is_refused(lake: LakeServices, tmp_path: Path, folder: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "lake")
    with pytest.raises(FramesFolderError, match="must lie beside the lake"):
        LakeAssets(lake, tmp_path / folder)
    assert LakeAssets(lake, tmp_path / "lake-own").folder == str(tmp_path / "lake-own")
    assert LakeAssets(lake).folder == str(tmp_path / "lake-frames")


def test_a_lake_in_a_bucket_has_no_folder_beside_it_that_is_not_named(lake: LakeServices) -> None:
    lake.objects = LakeObjects("s3://bucket/lake")
    with pytest.raises(FramesFolderError, match="none was named"):
        LakeAssets(lake)
    with pytest.raises(FramesFolderError):
        LakeAssets(lake, "s3://bucket/lake/gold")
    assert LakeAssets(lake, "s3://bucket/lake-frames").folder == "s3://bucket/lake-frames"


def test_who_launches_a_run_cannot_move_the_frames(
    own: LakeAssets, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @dg.asset(partitions_def=own.partitions(VWAP))
    def one() -> pl.DataFrame:
        return pl.DataFrame({"a": [1]})

    config = {"resources": {"io_manager": {"config": {"base_dir": str(tmp_path / "lake" / "gold")}}}}
    with pytest.raises(dg.DagsterInvalidConfigError):
        materialize(own, [one], instance, SINGLE, run_config=config)


@pytest.mark.parametrize(("manager", "reads"), [(PolarsParquetIOManager, False), (Frames, True)])
def test_dagster_polars_still_needs_its_reader_replaced(tmp_path: Path, manager: Any, reads: bool) -> None:
    """Where this fails, dagster-polars reads under Polars 2: `Frames.scan_df_from_path` can go."""

    @dg.asset
    def one() -> pl.DataFrame:
        return pl.DataFrame({"a": [1]})

    @dg.asset
    def other(one: pl.LazyFrame) -> pl.DataFrame:
        return one.collect()

    made = dg.materialize(
        [one, other], resources={"io_manager": manager(base_dir=str(tmp_path))}, raise_on_error=False
    )
    assert made.success == reads


# --- news -----------------------------------------------------------------------------------------


def test_news_of_the_lake_request_what_is_made_from_it_once(
    own: LakeAssets, lake: LakeServices, instance: dg.DagsterInstance
) -> None:
    @dg.asset(
        ins={"vwap": dg.AssetIn(["gold", "vwap"])},
        partitions_def=own.partitions(VWAP),
        automation_condition=ON_CHANGE,
    )
    def one(vwap: pl.LazyFrame) -> pl.DataFrame:
        return vwap.collect()

    definitions = own.definitions([one])

    def tick(last: Any = None) -> tuple[Any, set[str]]:
        found = dg.evaluate_automation_conditions(definitions, instance, cursor=last.cursor if last else None)
        return found, set(map(str, found.get_requested_partitions(one.key)))

    def tell(cell: Cell) -> None:
        table = lake.registry.table(VWAP)
        instance.report_runless_asset_event(cell_event(lake, table, cell, lake.ledger(VWAP)[cell]))

    tell(FEBRUARY)
    last, _ = tick()
    for rows, wanted in ((3, {str(FEBRUARY)}), (3, set()), (4, {str(FEBRUARY)})):
        put(lake, FEBRUARY, rows)
        tell(FEBRUARY)
        last, found = tick(last)
        assert found == wanted
        materialize(own, [one], instance, SINGLE)
        last, found = tick(last)
        assert found == set()


@pytest.fixture
def daemon(sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon over both locations of the example's workspace, and a lake of the environment."""
    named = {"ROOT": str(tmp_path / "lake"), "START": "2023-12", "CLOCK": "exchange"}
    for name, value in (named | {"BINANCE_ARCHIVE_URL": sim.url, "BINANCE_REST_URL": sim.url}).items():
        monkeypatch.setenv(f"LAKEHOUSE_{name}", value)
    workspace = WorkspaceFileTarget([str(EXAMPLE / "workspace.yaml")])
    with running_daemon(tmp_path / "dagster", workspace) as running:
        running.instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key, ETH.key])
        yield running


def signals(instance: dg.DagsterInstance) -> Counter[str]:
    """How often each partition of the example's signal was made."""
    found = instance.fetch_materializations(dg.AssetKey("signal"), limit=1000).records
    return Counter(str(record.partition_key) for record in found)


def verdicts(instance: dg.DagsterInstance) -> set[str]:
    """What the example's check has come to."""
    key = dg.AssetCheckKey(dg.AssetKey("signal"), "is_sane")
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return {record.status.value for record in history}


def test_the_example_is_made_beside_the_lake_and_again_for_the_month_that_changed(
    daemon: Daemon, sim: Simulator, tmp_path: Path
) -> None:
    lake, instance = open_lake(Settings()), daemon.instance
    Builder(lake, instance).build([lake.registry.table(VWAP)], [BTC, ETH], QUARTER)
    daemon.settle(sim.now)
    assert signals(instance) == {}

    assert daemon.backfill(["signal"], [str(MARCH)])
    daemon.settle(sim.now + HOUR)
    assert signals(instance) == {str(MARCH): 1}
    assert daemon.backfill(["signal"], map(str, grid([BTC, ETH])))
    daemon.settle(sim.now + 2 * HOUR)
    made = Counter(map(str, grid([BTC, ETH]))) + Counter([str(MARCH)])
    assert signals(instance) == made
    assert verdicts(instance) == {"SUCCEEDED"}
    frames = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "lake-frames").rglob("*.parquet")}
    assert frames == {
        f"lake-frames/signal/{cell.date}/{cell.own_market.key}.parquet" for cell in grid([BTC, ETH])
    }

    before = {cell: record.version for cell, record in lake.ledger(VWAP).items()}
    sim.add_fault("day_absent=*spot/monthly*ETHUSDT-1m-2024-02.zip")
    sim.add_fault("daily_absent=*ETHUSDT-1m-2024-02-*")
    daemon.backfill([BRONZE], [str(Cell("2024-02", ETH))])
    daemon.settle(sim.now + 3 * HOUR)
    after = {cell: record.version for cell, record in lake.ledger(VWAP).items()}
    changed = Counter(str(cell) for cell, version in after.items() if version != before[cell])
    assert str(Cell("2024-02", ETH)) in changed
    assert signals(instance) - made == changed
