"""What it takes to register 30,000 partitions of a table in Glue, and to keep them registered.

    python -m benchmarks.catalog [--markets 300] [--months 100]

The endpoint is moto's, in a process of its own, which shares the machine's cores: it answers slower than the
service where a request is large, has no round trip, throttles nobody, and lists without pages. What carries
over to the service is the number of requests.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import requests

from lakehouse.cli.local_trino import free_ports
from lakehouse.datasets.candle import Candle
from lakehouse.storage.aws import aws_client
from lakehouse.storage.catalog import CatalogSync, GlueCatalog
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.storage.many import WiderCandle, ledger


def measure(what: str, client: Any, sync: Callable[[], CatalogSync]) -> None:
    """Print what one sync took."""
    sent: Counter[str] = Counter()
    client.meta.events.register("before-call.glue", lambda model, **_: sent.update([model.name]), "counting")
    cpu, started = time.process_time(), time.perf_counter()
    done = sync()
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    client.meta.events.unregister("before-call.glue", unique_id="counting")
    made = ", ".join(f"{count} {name}" for name, count in sorted(sent.items()))
    changes = f"{len(done.added)} + {len(done.updated)} - {len(done.removed)}"
    print(f"| {what} | {took:.1f} s | {cpu:.1f} s | {changes} | {made} |", flush=True)


def main() -> None:
    """Run them all."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--markets", type=int, default=300)
    asked.add_argument("--months", type=int, default=100)
    size = asked.parse_args()
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    program = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    server = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.environ |= {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": "us-east-1",
    }
    try:
        while True:
            try:
                requests.get(f"{url}/moto-api", timeout=1)
                break
            except requests.RequestException:
                time.sleep(0.2)
        with tempfile.TemporaryDirectory() as folder:
            client = aws_client("glue", retries="adaptive")
            catalog = GlueCatalog("bench", LakeObjects(folder), client)
            stored = ledger(size.markets, size.months)
            grown = ledger(size.markets, size.months + 1)
            print("| sync | wall | CPU here | partitions | requests |\n|---|---|---|---|---|")
            measure("first", client, lambda: catalog.sync(Candle, stored))
            measure("again, nothing new", client, lambda: catalog.sync(Candle, stored))
            measure("one more month of each market", client, lambda: catalog.sync(Candle, grown))
            measure("the daily listing", client, lambda: catalog.sync(Candle, grown, whole=True))
            measure("a column was appended", client, lambda: catalog.sync(WiderCandle, grown))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
