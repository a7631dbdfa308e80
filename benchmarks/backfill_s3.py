"""A backfill over S3 with 30 ms added to every request, against the same one into a local folder.

    python -m benchmarks.backfill_s3 [--months 12] [--markets 5] [--pairs 3]

Twelve months of five markets are 60 cells a table: witness, archive, silver/candle and gold/candle_1h; with
twelve of silver/gap and of silver/conflict. Each build is a process of its own, from nothing, in turn with
the other; CPU is user + system of that process and its children. The simulated exchange and the S3 endpoint
run in processes of their own on the same cores, so what they compute counts as waiting; the endpoint's is
told.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.growth import EXCHANGE
from lakehouse.model.timerange import shift_month
from lakehouse.registry import REGISTRY
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects

FIRST, TABLE, DELAY = "2024-01", "gold/candle_1h", 0.03
_STORE = """
import json, sys, time
from urllib.parse import parse_qs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from werkzeug.serving import WSGIRequestHandler
from lakehouse.cli.local_aws import local_aws
WSGIRequestHandler.protocol_version = "HTTP/1.1"  # connections stay open, as S3's do
seen, serve = [], DomainDispatcherApplication.__call__
def serve_late(self, environ, start_response):
    prefix = parse_qs(environ["QUERY_STRING"]).get("prefix", [""])[0]
    path = environ["PATH_INFO"].removeprefix("/bench").lstrip("/")
    seen.append((environ["REQUEST_METHOD"], prefix or path))
    time.sleep({delay})
    return serve(self, environ, start_response)
DomainDispatcherApplication.__call__ = serve_late
with local_aws("bench") as url:
    print(url, flush=True)
    for line in sys.stdin:
        told, seen[:] = json.dumps([time.process_time(), seen]), []
        print(told, flush=True)
"""


@contextmanager
def server(script: str) -> Iterator["subprocess.Popen[str]"]:
    """A script in a process of its own, which is asked and answers by lines."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answer(process: "subprocess.Popen[str]", line: str = "") -> str:
    """The next line that a server prints, after it was sent one."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    return process.stdout.readline().strip()


def build(root: str, home: Path, url: str, markets: int, months: int) -> dict[str, float]:
    """Build everything up to the table in a process of its own: seconds of wall and of CPU."""
    keys = ",".join(f"binance-spot:C{number}USDT" for number in range(markets))
    command = [str(Path(sys.executable).with_name("lakehouse")), "build", TABLE, "--markets", keys]
    command += ["--from", FIRST, "--to", shift_month(FIRST, months), "--json"]
    named = {
        "LAKEHOUSE_ROOT": root,
        "DAGSTER_HOME": str(home),
        "LAKEHOUSE_BINANCE_ARCHIVE_URL": url,
        "LAKEHOUSE_BINANCE_REST_URL": url,
        "PYTHONWARNINGS": "ignore",
    }
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=os.environ | named, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, f"{done.stderr[-1000:]} {json.loads(done.stdout)['failed']}"
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = {f"wall {row['table']}": row["seconds"] for row in json.loads(done.stdout)["tables"]}
    return {"wall": wall, "cpu": cpu} | seconds


def tables_of(root: str) -> dict[str, tuple[int, float]]:
    """Cells and mean bytes of a cell, by table that has any."""
    found = {}
    for table in REGISTRY.tables:
        stored = ledger(LakeObjects(root), table) if table.spread != "one" else {}
        if stored:
            sizes = [record.size for record in stored.values()]
            found[table.name] = len(sizes), statistics.fmean(sizes)
    return found


def by_place(requests: list[list[str]]) -> dict[str, Counter[str]]:
    """Requests by the table or folder they are about."""
    seen: dict[str, Counter[str]] = {}
    for method, key in requests:
        parts = key.split("/")[1:] or [""]  # behind the prefix of the lake
        place = (
            parts[0]
            if parts[0] in ("landing", "ledger", "")
            else "/".join(parts[: 3 if parts[0] == "quarantine" else 2])
        )
        is_listing = method == "GET" and "." not in parts[-1]
        seen.setdefault(place, Counter())["LIST" if is_listing else method] += 1
    return seen


def main() -> None:
    """Measure pairs in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--markets", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    size = arguments.markets, arguments.months
    sides: dict[str, list[dict[str, float]]] = {"local": [], "S3": []}
    with (
        server(EXCHANGE.format(count=arguments.markets)) as exchange,
        server(_STORE.format(delay=DELAY)) as store,
        tempfile.TemporaryDirectory() as folder,
    ):
        url = answer(exchange)
        os.environ |= {
            "AWS_ENDPOINT_URL": answer(store),
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
        }
        build(f"{folder}/warm", Path(folder) / "home-warm", url, *size)  # the exchange makes its files
        for pair in range(arguments.pairs):
            for side, root in (("local", f"{folder}/lake{pair}"), ("S3", f"s3://bench/lake{pair}")):
                sides[side].append(build(root, Path(folder) / f"home-{side}{pair}", url, *size))
            spent, requests = json.loads(answer(store, "\n"))
        stored = tables_of(f"{folder}/lake0")
    print("| | local | S3, 30 ms a request | ratio, median of pairs |\n|---|---|---|---|")
    for name in sides["local"][0]:
        local, far = ([each.get(name, 0.0) for each in side] for side in sides.values())
        ratios = [b / a for a, b in zip(local, far, strict=True) if a]
        said = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        print(f"| {name} | {statistics.median(local):.1f} s | {statistics.median(far):.1f} s | {said} |")
    print("\n| table | cells | bytes a cell |\n|---|---|---|")
    for name, (count, mean) in stored.items():
        print(f"| {name} | {count} | {mean:,.0f} |")
    seen, cells = by_place(requests), sum(count for count, _ in stored.values())
    total = sum(seen.values(), Counter[str]())
    each = ", ".join(f"{count / cells:.1f} {method}" for method, count in total.items())
    print(f"\n{len(requests):,} requests of the last build, of a cell: {each}")
    print(f"CPU of the endpoint, a build: {spent / arguments.pairs:.1f} s")
    for place, methods in sorted(seen.items()):
        print(f"  {place:40} {dict(methods)}")


if __name__ == "__main__":
    main()
