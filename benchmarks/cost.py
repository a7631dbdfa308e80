"""What the second opinion costs: REST requests, bytes and CPU of five markets by twelve months, clean and
with one day in a hundred damaged.

    python -m benchmarks.cost

Builds silver/candle in this process against a simulated exchange in another. CPU of REST is that of asking
for witnesses and candles; CPU of judging that of holding 1m rows against the witness, in the archive's step
and in silver's.
"""

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lakehouse.cli.building import Builder
from lakehouse.cli.instance import open_instance
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.pipeline import pages
from lakehouse.settings import Settings
from lakehouse.sources.rest.client import RestClient
from lakehouse.transform import doubt, reconcile

COINS, SPAN = ("A", "B", "C", "D", "E"), ("2024-01-01", "2025-01-01")
FAULTS = ("hole", "differing_row", "day_absent")
_SERVER = """
import time
from datetime import UTC, datetime
from decimal import Decimal
from lakehouse.simulator import SimulatedMarket, Simulator
listed = datetime(2023, 12, 1, tzinfo=UTC)
markets = tuple(SimulatedMarket("spot", f"{{c}}USDT", c, "USDT", Decimal(100), 40, 2, 3, listed) for c in {coins})
with Simulator(markets=markets, now=datetime(2025, 2, 1, tzinfo=UTC), faults={faults}) as exchange:
    print(exchange.url, flush=True)
    time.sleep(36000)
"""


def damaged() -> list[str]:
    """Eighteen of 1,830 days: the faults in turn, each on the day that a market's month is struck at."""
    struck = [(coin, month) for month in range(1, 13) for coin in COINS][::3][:18]
    return [
        f"{FAULTS[n % 3]}=*monthly*{coin}USDT-1m-2024-{month:02}.zip"
        for n, (coin, month) in enumerate(struck)
    ]


@contextmanager
def counted() -> Iterator[dict[str, float]]:
    """Count bytes of REST answers, and CPU by part, while a build runs."""
    seen: dict[str, float] = defaultdict(float)
    send, ask, judge = RestClient._send, pages.ask, reconcile.judge

    def sent(client: RestClient, call: Any) -> Any:
        reply = send(client, call)
        seen["bytes"] += len(reply.said)
        return reply

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                seen[part] += time.process_time() - started

        return wrapper

    def asked(*args: Any) -> Iterator[Any]:
        answers = ask(*args)
        step = timed("asking", lambda: next(answers, None))
        while (answer := step()) is not None:
            yield answer

    with ExitStack() as stack:
        stack.enter_context(patch.object(RestClient, "_send", sent))
        stack.enter_context(patch.object(pages, "ask", asked))
        for module in (doubt, reconcile):
            stack.enter_context(patch.object(module, "judge", timed("judging", judge)))
        yield seen


def measure(name: str, faults: list[str]) -> None:
    """Build once and print a row."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(coins=COINS, faults=faults)], stdout=subprocess.PIPE, text=True
    )
    try:
        url = (server.stdout.readline() if server.stdout else "").strip()
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(
                root=f"{folder}/lake",
                dagster_home=Path(folder) / "dagster",
                binance_archive_url=url,
                binance_rest_url=url,
            )
            lake = open_lake(settings)
            with open_instance(settings) as instance, counted() as seen:
                started = time.process_time()
                reports = Builder(lake, instance).build(
                    lake.registry.named("silver/candle"),
                    [Market("binance", "spot", f"{coin}USDT") for coin in COINS],
                    TimeRange.parse(*SPAN),
                )
                cpu = time.process_time() - started
            assert not any(report.failed for report in reports)
            landing = (
                sum(path.stat().st_size for path in Path(folder, "lake", "landing").rglob("*.zip")) / 1e6
            )
            stats = lake.clients.of_api("binance", "spot").stats
            facts = [record.facts for record in lake.ledger("silver/candle").values()]
    finally:
        server.kill()
    evidence = sorted(
        {str(fact.evidence) for fact in facts},
        key=lambda level: -sum(str(fact.evidence) == level for fact in facts),
    )
    levels = ", ".join(f"{sum(str(fact.evidence) == level for fact in facts)} {level}" for level in evidence)
    absent = sum(run.slot_count for fact in facts for run in fact.gaps)
    print(
        f"| {name} | {stats.requests} ({stats.weight}) | {seen['bytes'] / 1e6:.1f} MB | {landing:.0f} MB | "
        f"{cpu:.1f} s | {seen['asking'] / cpu:.1%} | {seen['judging'] / cpu:.1%} "
        f"| {sum(fact.conflict_count for fact in facts)}, {sum(fact.unsettled_count for fact in facts)} "
        f"unsettled | {absent} | {levels} |",
        flush=True,
    )


def main() -> None:
    """Measure both and print the table."""
    print(
        "| | REST requests (weight) | REST bytes | files | CPU | asking REST | judging | conflicts | rows "
        "absent | evidence |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    measure("clean", [])
    measure("1 % of days damaged", damaged())


if __name__ == "__main__":
    main()
