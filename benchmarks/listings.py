"""What it takes to find every listing of an exchange: LISTs and seconds, the first time and again.

    python -m benchmarks.listings [MARKETS]

The simulated exchange answers from the same machine, in a process of its own.
"""

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime

from lakehouse.exchanges.binance import Binance
from lakehouse.pipeline.markets import scan_listings
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
_SERVE = """
import sys
from datetime import datetime, UTC
from lakehouse.simulator import Simulator
from lakehouse.simulator.universe import dated_universe
count = int(sys.argv[1])
with Simulator(dated_universe(count, count * 3 // 10), now=datetime(2026, 11, 20, 12, tzinfo=UTC)) as sim:
    print(sim.url, flush=True)
    for line in sys.stdin:
        print(len(sim.requests), flush=True)
        sim.reset_requests()
"""


def main(count: int) -> None:
    """Measure for so many listings, of which three in ten have ended."""
    served = [sys.executable, "-c", _SERVE, str(count)]
    with (
        subprocess.Popen(served, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        tempfile.TemporaryDirectory() as root,
    ):
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        url = process.stdout.readline().strip()
        lake = LakeServices(LakeObjects(root), {"binance": Binance(url, url)}, clock=lambda: NOW)
        for what in ("first", "again"):
            started, busy = time.monotonic(), time.process_time()
            found = scan_listings(lake)
            seconds, busy = time.monotonic() - started, time.process_time() - busy
            print("?", file=process.stdin, flush=True)
            requests = process.stdout.readline().strip()
            listings = sum(found.counts.values())
            taken = f"{seconds:.1f} s, {busy:.1f} s of CPU here"
            print(f"{what}: {listings:,} listings, {requests} requests, {taken}")
            assert not found.problems, found.problems
        started = time.monotonic()
        rows = Lake(root).markets(as_of="2023-01-01").height
        print(f"as of an instant: {rows:,} markets in {time.monotonic() - started:.2f} s")
        process.terminate()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2500)
