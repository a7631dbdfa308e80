"""A lake for a Dagster code location of your own: its tables as typed inputs, and a place for your frames.

    import dagster as dg
    import polars as pl
    from lakehouse.dagster import ON_CHANGE, LakeAssets

    lake = LakeAssets()

    @dg.asset(
        ins={"vwap": dg.AssetIn(["gold", "vwap"])},
        partitions_def=lake.partitions("gold/vwap"),
        automation_condition=ON_CHANGE,
    )
    def signal(vwap: pl.LazyFrame) -> pl.DataFrame: ...

    defs = lake.definitions([signal])

`examples/downstream` has it whole, with a check.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster_polars import PolarsParquetIOManager

from lakehouse.defs.automation import ON_CHANGE
from lakehouse.defs.describe import asset_key
from lakehouse.defs.io_manager import LakeIOManager
from lakehouse.defs.loading import asked_keys
from lakehouse.defs.partitions import lookback, partitions_of
from lakehouse.defs.resources import fixed_io_manager
from lakehouse.model.errors import FramesFolderError, RangedOutputError
from lakehouse.opening import open_lake
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings

__all__ = ["ON_CHANGE", "Frames", "LakeAssets", "lookback"]

_LAKE_IO = "lake_io_manager"
_ONE = (pl.DataFrame, pl.LazyFrame)


class Frames(PolarsParquetIOManager):
    """Stores frames as Parquet, a file per partition, by dagster-polars; its own reader passes what Polars 2
    does not take any more.

    An asset that makes several partitions in one run returns a `dict` of frames by partition key. One that
    reads several of them is given one frame, or a `dict` where it is annotated so; of all partitions, those
    that are stored.
    """

    def scan_df_from_path(
        self, path: Any, context: dg.InputContext, partition_key: str | None = None
    ) -> pl.LazyFrame:
        return pl.scan_parquet(str(path), glob=False, hive_partitioning=False)

    def load_input(self, context: dg.InputContext) -> Any:
        """What is stored, as the argument is annotated.

        Raises:
            FileNotFoundError: A partition that is asked for is not stored, or none of them all.
        """
        if not context.has_asset_partitions or context.dagster_type.typing_type not in _ONE:
            return super().load_input(context)
        paths, is_whole = self._get_paths_for_partitions(context), not asked_keys(context)
        # in order: the keys of several partitions come in any
        stored = [paths[key] for key in sorted(paths) if not is_whole or paths[key].exists()]
        if not stored:
            raise FileNotFoundError(f"No partition of {context.asset_key.to_user_string()} is stored yet.")
        frames: list[Any] = [self.load_from_path(context, path) for path in stored]
        return pl.concat(frames)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store a frame, or one per partition of the run; an asset that returns nothing has stored it itself.

        Raises:
            RangedOutputError: The run has several partitions, and there is not a frame for each.
        """
        if obj is None:
            return
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else []
        if len(keys) < 2 and not (keys and isinstance(obj, Mapping)):
            super().handle_output(context, obj)
            return
        found = set(obj) if isinstance(obj, Mapping) else None
        if found != set(keys):
            raise RangedOutputError(context.asset_key.to_user_string(), keys, found)
        for key, path in self._get_paths_for_partitions(context).items():
            self.make_directory(path.parent)
            self.dump_to_path(context, obj[key], path)
        context.add_output_metadata({"partitions": len(keys)})


class LakeAssets:
    """The tables of a lake, as another code location declares and reads them.

    An argument of an asset is given a table's cells as it is annotated: `pl.LazyFrame`, `pl.DataFrame`, or
    `dict[str, pl.LazyFrame]` by partition key. What assets return is stored by `Frames`.

    Args:
        lake: The lake; that of the settings if left out.
        folder: Where frames are stored: beside the lake, by default in `<lake>-frames`. A lake on S3 has no
            default.

    Raises:
        FramesFolderError: The folder lies in the lake, or the lake in it.
    """

    def __init__(self, lake: LakeServices | None = None, folder: str | Path | None = None) -> None:
        self.lake = lake or open_lake(Settings())
        self.folder = _beside(self.lake.objects.root, folder)

    def partitions(self, table: str) -> dg.PartitionsDefinition | None:
        """The partitions of a table: those that an asset made from it cell by cell has too; None for a table
        without cells.
        """
        return partitions_of(self.lake.registry.table(table), self.lake.start, self.lake.end)

    def specs(self) -> list[dg.AssetSpec]:
        """Every table as an asset that is made elsewhere and read from the lake."""
        return [
            dg.AssetSpec(
                asset_key(table),
                description=table.description(),
                group_name=table.zone(),
                partitions_def=self.partitions(table.name),
            ).with_io_manager_key(_LAKE_IO)
            for table in self.lake.registry.tables
        ]

    def definitions(
        self,
        assets: Iterable[Any],
        resources: Mapping[str, Any] | None = None,
        sensors: Iterable[Any] = (),
        **more: Any,
    ) -> dg.Definitions:
        """The definitions of a code location: assets of your own, the lake's tables that they read, and a
        sensor, switched on, that carries news to them.

        Args:
            assets: Yours. What they return goes to `Frames` where they name no other `io_manager_key`.
            resources: Yours, by key.
            sensors: Yours.
            more: Further arguments of `dagster.Definitions`, such as `asset_checks`, or another `executor`
                than that of one process for all steps of a run.
        """
        own = {
            "io_manager": fixed_io_manager(self._frames),
            _LAKE_IO: fixed_io_manager(lambda _: LakeIOManager(self.lake)),
        }
        return dg.Definitions(
            assets=[*self.specs(), *assets],
            resources=own | dict(resources or {}),
            sensors=[_sensor(), *sensors],
            **{"executor": dg.in_process_executor} | more,
        )

    def _frames(self, context: dg.InitResourceContext) -> dg.IOManager:
        frames = Frames(base_dir=self.folder)
        frames.setup_for_execution(context)
        return frames


def _sensor() -> dg.AutomationConditionSensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        "downstream",
        target=dg.AssetSelection.all() | dg.AssetSelection.all_asset_checks(),
        description="Carries news of the lake's tables to the assets below them.",
        default_status=dg.DefaultSensorStatus.RUNNING,  # Dagster's own starts switched off
        minimum_interval_seconds=10,
    )


def _beside(root: str, folder: str | Path | None) -> str:
    """A folder for frames, as a whole path or address.

    Raises:
        FramesFolderError: As `LakeAssets`.
    """
    is_local = "://" not in root
    if folder is None:
        if not is_local:
            raise FramesFolderError(None, root)
        folder = f"{root}-frames"
    own, lake = _place(str(folder)), _place(root)
    if own == lake or own.startswith(f"{lake}/") or lake.startswith(f"{own}/"):
        raise FramesFolderError(str(folder), root)
    return own


def _place(name: str) -> str:
    return name.rstrip("/") if "://" in name else str(Path(name).expanduser().resolve())
