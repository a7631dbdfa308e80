"""24 months of a market into twelve tables, by one worker and by two, in turn with an older commit.

    python -m benchmarks.cores [--before WORKTREE] [--rounds 5] [--workers 1 2]

Each run is a process of its own that builds into an empty lake, and then again with nothing due; wall time
and CPU are those of the build, without imports. One simulated exchange serves them all from a process of its
own, on the same cores; a run before the first one makes it generate its files.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_BUILD = """
import json, time
from lakehouse.cli.building import Builder
from lakehouse.cli.instance import open_instance
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.settings import Settings
settings = Settings()
lake = open_lake(settings)
span, markets = TimeRange.parse("2023-01-01", "2025-01-01"), [Market.parse("binance-spot:BTCUSDT")]
names = "candle_5m", "candle_15m", "candle_1h", "candle_4h", "candle_1d", "vwap"
tables = [lake.registry.table("gold/" + name) for name in names]
said = {}
with open_instance(settings) as instance:
    builder = Builder(lake, instance)
    for what in "build", "again":
        wall, cpu = time.perf_counter(), time.process_time()
        reports = builder.build(tables, markets, span)
        said[what] = time.perf_counter() - wall, time.process_time() - cpu
        said[what + " cells"] = sum(len(report.built) for report in reports)
        said["tables"] = sorted(report.table for report in reports)
print(json.dumps(said))
"""
_SERVE = """
from lakehouse.simulator import Simulator
exchange = Simulator().start()
print(exchange.url, flush=True)
input()
"""


def build(tree: Path, url: str, workers: int) -> dict[str, list[float]]:
    """What a build by the code of a worktree says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "PYTHONPATH": str(tree),
            "PYTHONWARNINGS": "ignore",
            "LAKEHOUSE_ROOT": f"{folder}/lake",
            "DAGSTER_HOME": f"{folder}/dagster",
            "LAKEHOUSE_WORKERS": str(workers),
            "LAKEHOUSE_BINANCE_ARCHIVE_URL": url,
            "LAKEHOUSE_BINANCE_REST_URL": url,
        }
        done = subprocess.run(
            [sys.executable, "-c", _BUILD],
            check=False,
            env=environment,
            cwd=tree,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    said: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return said


def _folder(text: str) -> Path:
    return Path(text).absolute()


def main() -> None:
    """Build in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--before", type=lambda text: Path(text).absolute(), help="a worktree of an older commit"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    own = Path(__file__).parents[1]
    sides = [(arguments.before, 1)] if arguments.before else []
    sides += [(own, workers) for workers in arguments.workers]
    exchange = subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    seen: dict[tuple[Path, int], list[dict[str, list[float]]]] = {side: [] for side in sides}
    try:
        url = exchange.stdout.readline().strip() if exchange.stdout else ""
        build(own, url, 1)
        for _ in range(arguments.rounds):
            for tree, workers in sides:
                seen[tree, workers].append(said := build(tree, url, workers))
                print(f"  {tree.name}, workers {workers}: {said['build']}", file=sys.stderr, flush=True)
    finally:
        exchange.kill()
    for (tree, workers), runs in seen.items():
        walls = [run["build"][0] for run in runs]
        ratios = [wall / other["build"][0] for wall, other in zip(walls, seen[sides[0]], strict=True)]
        print(
            f"{tree.name}, workers {workers}: {runs[0]['build cells']} cells in {len(runs[0]['tables'])} "
            f"tables, wall {statistics.median(walls):.2f} s ({min(walls):.2f} to {max(walls):.2f}), "
            f"CPU {statistics.median(run['build'][1] for run in runs):.2f} s, "
            f"again {statistics.median(run['again'][0] for run in runs):.2f} s; "
            f"of the first {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
