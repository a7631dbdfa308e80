"""Two years of one market, from the archive to gold: how long, and where the time goes.

    python -m benchmarks.million

Wall time of a build in this process against the simulated exchange, which shares the machine's cores: what it
spends on generating files counts as waiting for them.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dagster import JobDefinition

from lakehouse.cli.building import Builder
from lakehouse.cli.instance import open_instance
from lakehouse.defs.io_manager import LakeIOManager
from lakehouse.exchanges.binance import Binance
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.query.lake import Lake
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.sources.files import reader
from lakehouse.sources.files.batch import Batch
from lakehouse.storage import tables
from lakehouse.storage.objects import LakeObjects

MARKET, SPAN = "binance-spot:BTCUSDT", ("2023-01-01", "2025-01-01")
SECONDS: dict[str, float] = defaultdict(float)


def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its wall time added to a phase."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            SECONDS[phase] += time.perf_counter() - started

    return wrapper


LEAVES = (
    (Batch, "wait", "wait for files"),
    (reader, "extract_csv", "inflate and check CRC"),
    (Binance, "parse", "parse"),
    (tables, "encode", "encode Parquet"),
    (tables, "decode", "decode Parquet"),
    (LakeObjects, "put", "put objects"),
    (LakeObjects, "get", "get objects"),
)


def handle_output(original: Callable[..., Any]) -> Callable[..., Any]:
    """`LakeIOManager.handle_output`, with the time its cells take to compute counted."""

    def cells(obj: Iterator[Any]) -> Iterator[Any]:
        step = timed("cells", lambda: next(obj, None))
        while (cell := step()) is not None:
            yield cell

    def wrapper(manager: LakeIOManager, context: Any, obj: Iterator[Any]) -> Iterator[Any]:
        yield from original(manager, context, cells(obj))

    return wrapper


@contextmanager
def stopwatches() -> Iterator[None]:
    """Time the parts of a build while it runs."""
    with ExitStack() as stack:
        for owner, name, phase in (
            *LEAVES,
            (JobDefinition, "execute_in_process", "runs"),
            (Builder, "_run_checks", "checks"),
            (LakeIOManager, "_settle", "settle"),
        ):
            stack.enter_context(patch.object(owner, name, timed(phase, getattr(owner, name))))
        stack.enter_context(
            patch.object(LakeIOManager, "handle_output", handle_output(LakeIOManager.handle_output))
        )
        yield


def split(total: float) -> dict[str, float]:
    """Exclusive shares of the wall time."""
    leaves = {phase: SECONDS[phase] for _, _, phase in LEAVES}
    work, runs = SECONDS["cells"] + SECONDS["settle"], SECONDS["runs"] - SECONDS["checks"]
    return leaves | {
        "hash, verify, join and aggregate frames": work - sum(leaves.values()),
        "Dagster: runs and events": runs - work,
        "checks over all tables": SECONDS["checks"],
        "plan: listings, ledgers, what is due": total - runs - SECONDS["checks"],
    }


def main() -> None:
    """Run the build and print the split."""
    with tempfile.TemporaryDirectory() as folder, Simulator() as exchange:
        settings = Settings(
            root=f"{folder}/lake",
            dagster_home=Path(folder) / "dagster",
            binance_archive_url=exchange.url,
            binance_rest_url=exchange.url,
        )
        lake = open_lake(settings)
        with open_instance(settings) as instance:
            builder = Builder(lake, instance)
            started = time.perf_counter()
            with stopwatches():
                reports = builder.build(
                    lake.registry.named("gold"), [Market.parse(MARKET)], TimeRange.parse(*SPAN)
                )
            total = time.perf_counter() - started
            again = time.perf_counter()
            builder.build(lake.registry.named("gold"), [Market.parse(MARKET)], TimeRange.parse(*SPAN))
            again = time.perf_counter() - again
        rows = Lake(settings.root).sql("SELECT count(*) FROM silver.candle").item()
        cells = sum(len(report.built) for report in reports)
    print(
        f"{rows:,} rows of silver/candle, {cells} cells in {len(reports)} tables: {total:.1f} s; again with "
        f"nothing due: {again:.1f} s"
    )
    overhead = split(total)["Dagster: runs and events"] + split(total)["plan: listings, ledgers, what is due"]
    print(f"beyond the work, per cell and table: {overhead / cells * 1000:.0f} ms\n")
    for phase, seconds in sorted(split(total).items(), key=lambda item: -item[1]):
        print(f"{seconds:7.2f} s  {seconds / total:5.1%}  {phase}")
    for report in reports:
        print(f"{report.seconds:7.2f} s  {report.table}")


if __name__ == "__main__":
    main()
