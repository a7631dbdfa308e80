"""4,000 objects on S3 with 30 ms added to every request: what ticks, `status` and SQL cost there.

    python -m benchmarks.scale_s3 [--markets 28] [--months 12]

The lake is that of `benchmarks.scale`, copied to a local S3 endpoint behind a proxy that delays. Listings and
footers grow with the objects: what a larger lake costs is told by two sizes.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.reading import delayed_s3
from benchmarks.scale import make_lake, measure, simulated
from lakehouse.storage.objects import LakeObjects

_DELAY = 0.03  # seconds
_NAMES = (
    "ledgers, cold",
    "ledgers, warm",
    "status",
    "tick failed_cells",
    "tick candles_closed",
    "tick archive_published",
    "gaps of one",
    "sql, symbol and month",
    "sql, count(*)",
    "lakehouse build gold of one",
)
_ROOT = "s3://bench/lake"


def main() -> None:
    """Make the lake, copy it, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--markets", type=int, default=28)
    parser.add_argument("--months", type=int, default=12)
    arguments = parser.parse_args()
    size = arguments.markets, arguments.months
    with tempfile.TemporaryDirectory() as temporary:
        lake = Path(temporary) / "lake"
        make_lake(str(lake), simulated(*size), arguments.months)
        paths = list(lake.rglob("*.parquet"))

        def copy() -> None:
            bucket = LakeObjects(_ROOT)
            for path in paths:
                bucket.put(path.relative_to(lake).as_posix(), path.read_bytes())

        with delayed_s3(_DELAY, copy):
            found = measure(Path(__file__).parents[1], _ROOT, Path(temporary) / "home", _NAMES, *size)
    count = len(paths)
    print(f"| {count:,} objects | seconds | lists |\n|---|---|---|")
    for name in _NAMES:
        lists = (
            f"{found[name]['lists']:.0f} of {found[name]['listed']:,.0f}" if "lists" in found[name] else ""
        )
        print(f"| {name} | {found[name]['seconds']:.2f} | {lists} |")


if __name__ == "__main__":
    main()
