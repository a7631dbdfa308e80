"""What a build has to do is told without Dagster, and a build with nothing due ends without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.cli.building import Builder
from lakehouse.cli.instance import open_instance
from lakehouse.cli.planning import Plan, TableBuild, are_partitions
from lakehouse.defs.partitions import MARKETS
from lakehouse.model.errors import NothingInRangeError
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.settings import Settings
from lakehouse_tests.faults.lab import BTC, FEBRUARY, lab

SPAN = TimeRange.parse(*FEBRUARY)
SCRIPT = """
import sys
from lakehouse.cli.app import main
try:
    main()
finally:
    print("dagster" in sys.modules, file=sys.stderr)
"""


def summary(reports: list[TableBuild]) -> list[tuple[str, int, int]]:
    return [(report.table, len(report.built), len(report.current)) for report in reports]


@pytest.mark.slow
def test_what_is_due_is_told_as_a_build_tells_it_and_is_not_asked_twice(tmp_path: Path) -> None:
    with lab(tmp_path / "lake") as made:
        tables = made.lake.registry.named("gold/candle_1h")
        assert Plan(made.lake, [BTC], SPAN).current(tables) is None, "nothing is stored yet"
        made.build(table="gold/candle_1h")
        current = Plan(made.lake, [BTC, BTC], SPAN).current(tables)
        assert current is not None
        assert summary(current) == summary(made.build(table="gold/candle_1h"))

        made.lake.objects.delete(
            "gold/candle_1h/exchange=binance/market_type=spot/symbol=BTCUSDT/month=2024-02/data.parquet"
        )
        plan = Plan(made.lake, [BTC], SPAN)
        assert plan.current(tables) is None
        assert [len(due) for _, due in plan.due.values()] == [0] * (len(plan.due) - 1) + [1]
        made.sim.reset_requests()
        reports = Builder(made.lake, made.instance).carry_out(plan, tables)
        assert [name for name, built, _ in summary(reports) if built] == ["gold/candle_1h"]
        assert not made.sim.requests, "whether the files are current was asked by the plan"


@pytest.mark.slow
def test_what_keeps_a_build_from_beginning_is_said_by_the_build(tmp_path: Path) -> None:
    with lab(tmp_path / "lake") as made:
        made.build()
        assert (
            Plan(made.lake, [BTC], TimeRange.parse("2019-01", "2019-02")).current(
                made.lake.registry.named("silver")
            )
            is None
        )


def test_the_partitions_of_a_home_are_known_without_dagster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    home, other = tmp_path / "home", Market("binance", "spot", "ETHUSDT")
    assert not are_partitions(home, [BTC]), "there is no such home"
    with open_instance(Settings(dagster_home=home)) as instance:
        assert not are_partitions(home, [BTC])
        instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
        assert are_partitions(home, [BTC])
        assert not are_partitions(home, [BTC, other])
        instance.delete_dynamic_partition(str(MARKETS.name), BTC.key)
        assert not are_partitions(home, [BTC]), "somebody deleted it in the UI"
        instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
    config = (home / "dagster.yaml").read_text()
    (home / "dagster.yaml").unlink()
    (home / "dagster.yaml").write_text("storage: {postgres: {postgres_url: none}}")
    assert not are_partitions(home, [BTC]), "what SQLite has is of another time"
    (home / "dagster.yaml").write_text(config)
    (home / "history" / "runs" / "index.db").write_bytes(b"no database")
    assert not are_partitions(home, [BTC])


@pytest.mark.slow
def test_a_build_with_nothing_due_imports_no_dagster(tmp_path: Path) -> None:
    with lab(tmp_path / "lake") as made:
        made.build()
        environment = {
            "LAKEHOUSE_ROOT": str(tmp_path / "lake"),
            "LAKEHOUSE_START": "2023-12",
            "LAKEHOUSE_BINANCE_ARCHIVE_URL": made.sim.url,
            "LAKEHOUSE_BINANCE_REST_URL": made.sim.url,
            "LAKEHOUSE_CLOCK": "exchange",
            "DAGSTER_HOME": str(tmp_path / "home"),
        }
        words = [
            "build",
            "silver/candle",
            "--markets",
            BTC.key,
            "--from",
            FEBRUARY[0],
            "--to",
            FEBRUARY[1],
            "--json",
        ]

        def run() -> tuple[object, str]:
            command = [sys.executable, "-c", SCRIPT, *words]
            ended = subprocess.run(
                command,
                env=os.environ | environment,
                capture_output=True,
                text=True,
                check=True,
                cwd=tmp_path,
                timeout=120,
            )
            return {
                **json.loads(ended.stdout),
                "tables": [{**row, "seconds": 0} for row in json.loads(ended.stdout)["tables"]],
            }, ended.stderr.split()[-1]

        first, imported = run()
        assert imported == "True", "the market is no partition of this home yet"
        assert run() == (first, "False")


def test_a_range_that_the_lake_has_no_month_of_is_refused_with_both_ends_of_the_lake(tmp_path: Path) -> None:
    with lab(tmp_path / "lake") as made:
        made.lake.end = "2024-01"
        with pytest.raises(NothingInRangeError, match="LAKEHOUSE_START is 2023-12, LAKEHOUSE_END 2024-01"):
            assert Plan(made.lake, [BTC], SPAN).cells
