"""Logs as JSON: one object a line, whoever writes it, and what a line is about where that is known."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakehouse.logs import line_of
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.secrets import learn
from lakehouse.simulator import Simulator
from lakehouse_tests.defs.conftest import listed
from lakehouse_tests.making import at
from lakehouse_tests.opened import ETH, command, log_lines

RED = Cell("2024-02", ETH)


def record(message: Any, *values: Any, **more: Any) -> dict[str, str]:
    made = logging.makeLogRecord({"msg": message, "args": values, "levelname": "WARNING", "name": "x"} | more)
    (line,) = log_lines(line_of(made))
    return line


def test_a_line_stays_one_line_and_tells_what_it_is_about() -> None:
    assert record("one\ntwo\u2028three\x85four\udcff")["message"] == "one\ntwo\u2028three\x85four\udcff"
    assert "%d" in record("%d", "word")["message"]
    assert record({"event": "of structlog"})["message"] == "of structlog"
    about = record("bad", table="bronze/candle_archive", cell=str(RED))
    assert (about["table"], about["date"], about["market"], about["exchange"]) == (
        "bronze/candle_archive",
        "2024-02",
        ETH.key,
        "binance",
    )
    assert "exchange" not in record("no market", cell="2024-02|who knows")
    assert record("a market", cell=ETH.key)["exchange"] == "binance"


def test_a_line_holds_no_secret_not_even_in_a_trace() -> None:
    learn(['quo"ted\\secret-of-logs'])
    try:
        raise ValueError('quo"ted\\secret-of-logs')
    except ValueError:
        said = record('it was quo"ted\\secret-of-logs', exc_info=sys.exc_info())
    assert said["message"] == "it was ***"
    assert said["traceback"].endswith("ValueError: ***")


def test_whoever_writes_to_a_stream_writes_objects() -> None:
    script = """
import logging, threading, warnings, sys
from lakehouse.logs import log_as
log_as("json"); log_as("json")
import coloredlogs
other = logging.getLogger("other"); coloredlogs.install(logger=other, level="INFO")
other.info("later\\nhandler")
logging.getLogger("bare").warning("no handler")
warnings.warn("a warning")
thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
class Lost:
    def __del__(self): raise KeyError("lost")
Lost()
raise OSError("at the end")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    said = log_lines(ran.stderr)
    assert ran.returncode == 1
    assert [line["message"].split("\n")[-1] for line in said[:2]] == ["handler", "no handler"]
    assert [line["traceback"].splitlines()[-1] for line in said if "traceback" in line] == [
        "ZeroDivisionError: division by zero",
        "KeyError: 'lost'",
        "OSError: at the end",
    ]
    assert [line["logger"] for line in said if "a warning" in line["message"]] == ["py.warnings"]


@pytest.mark.slow
def test_a_command_that_fails_logs_an_object_that_says_why(tmp_path: Path) -> None:
    ran = subprocess.run(
        command("build", "gold", "--markets", "nothing", "--from", "2024-01", "--to", "2024-02"),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "LAKEHOUSE_LOG_FORMAT": "json"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    (error,) = log_lines(ran.stderr)
    assert error["level"] == "error"
    assert "nothing" in error["message"]


@pytest.mark.slow
def test_a_build_with_a_bad_file_logs_objects_alone_and_claims_no_more_than_that(tmp_path: Path) -> None:
    """Into a pipe the first table is the report, and every further one is among the lines of the log."""
    perpetual = Market("binance", "linear", "AAAUSDT")
    faults = ("damaged_zip=*fundingRate-2024-02.zip", "error_451=*fundingRate*")
    with Simulator([listed(perpetual, at("2024-02-27"))], now=at("2024-04-10T12:00"), faults=faults) as sim:
        named = {"ROOT": str(tmp_path / "lake"), "LOG_FORMAT": "json"}
        named |= {"BINANCE_ARCHIVE_URL": sim.url, "BINANCE_REST_URL": sim.url}
        ran = subprocess.run(
            command(
                "build", "silver/funding_rate", "-m", perpetual.key, "--from", "2024-02", "--to", "2024-03"
            ),
            env=os.environ
            | {f"LAKEHOUSE_{name}": value for name, value in named.items()}
            | {"DAGSTER_HOME": str(tmp_path / "home")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    said = [line["message"] for line in log_lines(ran.stderr) if line["logger"] == "lakehouse"]
    assert ran.returncode == 1
    assert any(line.startswith("Problems with sources: what was wrong ") for line in said), said
    assert "silver/funding_rate,0,0,0,0," in ran.stdout
    assert not any("There is no" in line for line in said), "perpetuals have funding"


def test_looks_that_find_nothing_are_details_and_what_is_found_is_told() -> None:
    script = """
import logging, sys
from lakehouse.logs import hush_idle_looks
from lakehouse.privacy import keep_private
keep_private(); hush_idle_looks(); keep_private(); hush_idle_looks()
handler = logging.StreamHandler(sys.stdout); handler.setLevel("INFO"); logging.getLogger().addHandler(handler)
logging.getLogger().setLevel("INFO")
for said in sys.stdin.read().splitlines():
    logging.getLogger("dagster.daemon.SensorDaemon").info(said)
"""
    idle = (
        "Checking for new runs for sensor: propagation",
        "Sensor failed_cells skipped: Nothing is due.",
        "Sensor alerts skipped: Nothing new.",
        "__repository__ - propagation - Prefetching asset records for 36 records.",
    )
    told = (
        "Sensor candles_closed skipped: Could not look: no answer",
        "Launching run for propagation",
        "Checking run 7",
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join([*idle, *told]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines() == list(told)
