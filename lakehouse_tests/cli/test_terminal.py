"""Every command that reports, as a terminal of 80 and of 120 columns shows it, and into a pipe: nothing is
split, nothing is wider, and what a program reads is CSV alone.
"""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from lakehouse.cli.commands import building, exporting, looking, reading
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse_tests.making import at
from lakehouse_tests.opened import SHOTS

LISTED = (
    SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-01-25")),
    SimulatedMarket("inverse", "BTCUSD_PERP", "BTC", "USD", Decimal(45_000), 90, 1, 0, at("2024-01-25")),
)
FAULTS = (
    "funding_hole",
    "funding_restated",
    "conflicting_rows=*/cm/monthly/*2024-02*",
    "day_absent=*/spot/monthly/*2024-02*",
    "halt=*/spot/monthly/*2024-02*",
)
KEYS = "binance-spot:BTCUSDT,binance-inverse:BTCUSD_PERP"
SPAN = ("--from", "2024-02", "--to", "2024-03")
BUILD = ["build", "gold", "--markets", KEYS, *SPAN]
SHOWN: dict[str, list[str]] = {
    "build": BUILD,
    "status": ["status"],
    "quality": ["quality"],
    "gaps": ["gaps", "--not-listed"],
    "conflicts": ["conflicts"],
    "restatements": ["restatements"],
    "markets show": ["markets", "show", "binance-spot:BTCUSDT"],
    "quality --table": ["quality", "--table", "silver/funding_rate"],
    "gaps --table": ["gaps", "--table", "silver/funding_rate"],
    "conflicts --table": ["conflicts", "--table", "silver/funding_rate"],
    "restatements --table": ["restatements", "--table", "silver/funding_rate"],
    "markets scan": ["markets", "scan"],
    "markets list": ["markets", "list"],
    "markets list --all": ["markets", "list", "--all"],
    "markets list --as-of": ["markets", "list", "--as-of", "2024-02-20"],
    "markets show --as-of": ["markets", "show", "binance-inverse:BTCUSD_PERP", "--as-of", "2024-02-20"],
    "markets add": ["markets", "add", KEYS],
    "markets remove": ["markets", "remove", "binance-inverse:BTCUSD_PERP"],
    "doctor": ["doctor"],
    "verify": ["verify", "--budget", "1"],
    "verify --stored": ["verify", "--stored"],
    "sql": ["sql", "SELECT * FROM silver.conflict"],
    "sql of funding": ["sql", "SELECT * FROM silver.funding_rate LIMIT 2"],
    "sql of carry": ["sql", "SELECT * FROM gold.funding_carry LIMIT 2"],
    "sql of one row": ["sql", "SELECT * FROM silver.candle LIMIT 1"],
    "export": [
        "export",
        "csv",
        "-m",
        KEYS,
        "--interval",
        "1m,1h",
        "--fill",
        "--folder",
        "$LAKEHOUSE_ROOT-out",
    ],
    "duckdb": ["duckdb", "$LAKEHOUSE_ROOT.duckdb", "--markets", KEYS],
    "simulate": ["simulate", "--fault", "list"],
}
# one process runs them all: starting Python and Dagster takes longer than any of them
PROGRAM = """
import json, os, sys
from lakehouse.cli.app import main
for name, words in json.loads(os.environ["WORDS"]).items():
    sys.argv = ["lakehouse", *map(os.path.expandvars, words)]
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    print(f"--- {name} ended with {code}", flush=True)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of a lake with a halt, a dispute and a healed day, which is built."""
    folder = tmp_path_factory.mktemp("terminal")
    with Simulator(markets=LISTED, now=at("2024-03-20"), faults=FAULTS) as exchange:
        told = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | {
            "LAKEHOUSE_ROOT": str(folder / "lake"),
            "DAGSTER_HOME": str(folder / "dagster"),
            "LAKEHOUSE_START": "2024-02",
            "LAKEHOUSE_CLOCK": "exchange",
            "LAKEHOUSE_BINANCE_ARCHIVE_URL": exchange.url,
            "LAKEHOUSE_BINANCE_REST_URL": exchange.url,
            "TERM": "xterm",
        }
        said = piped(told, {"build": BUILD})
        assert said["build"][1] == 0, said
        yield told


def parted(said: str) -> dict[str, tuple[str, int]]:
    """What each command said, and its code."""
    parts = re.split(r"--- (.+) ended with (\d+)\r?\n", said)
    return {
        name: (text, int(code)) for text, name, code in zip(*(parts[n::3] for n in range(3)), strict=False)
    }


def piped(environment: dict[str, str], words: dict[str, list[str]]) -> dict[str, tuple[str, int]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"WORDS": json.dumps(words)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return parted(done.stdout)


def on_terminal(environment: dict[str, str], width: int) -> dict[str, tuple[str, int]]:
    """What a terminal shows, without what moves its cursor."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    words = environment | {"WORDS": json.dumps(SHOWN)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=words, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL
    ):
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:  # the other end is gone
            pass
    os.close(ours)
    return parted(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()))


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_name_or_number_is_split(
    environment: dict[str, str], width: int
) -> None:
    shown = on_terminal(environment, width)
    if SHOTS:
        Path(SHOTS, f"terminal_{width}.txt").write_text("\n".join(text for text, _ in shown.values()))
    assert shown.keys() == SHOWN.keys()
    for name, (text, code) in shown.items():
        assert code == 0, (name, text)
        for line in text.splitlines():
            assert len(line) <= width or " " not in line.strip(), (name, line)
    for name, words in {
        "build": ["gold/candle_15m", "Problems with sources"],
        "status": ["binance-inverse:BTCUSD_PERP", "Last runs", "REST budget"],
        "quality --table": ["binance-inverse:BTCUSD_PERP"],
        "markets list --as-of": ["binance-inverse:BTCUSD_PERP", "binance-spot:BTCUSDT"],
        "markets show --as-of": ["BTCUSD_PERP", "Times are UTC."],
        "sql of carry": ["annual_rate"],
        "quality": ["binance-inverse:BTCUSD_PERP", "absent (halt)"],
        "gaps": ["binance-spot:BTCUSDT", "halt", "Times are UTC."],
        "conflicts": ["binance-inverse:BTCUSD_PERP", "both_families"],
        "markets list": ["binance-inverse:BTCUSD_PERP"],
        "doctor": ["binance archive", "LAKEHOUSE_ROOT"],
        "sql": ["binance-inverse:BTCUSD_PERP", "api+daily+monthly"],
        "export": ["binance-inverse:BTCUSD_PERP", "1h", "absent: halt."],
        "duckdb": ["silver/candle", "gold/daily_panel"],
        "sql of one row": ["taker_buy_quote_volume", "binance-inverse:BTCUSD_PERP"],
    }.items():
        for word in words:
            assert word in shown[name][0], (name, word, shown[name][0])


@pytest.mark.slow
def test_a_pipe_gets_the_first_table_as_csv_and_nothing_else(environment: dict[str, str]) -> None:
    for name, (text, code) in piped(environment, SHOWN).items():
        assert code == 0, name
        frame = pl.read_csv(text.encode(), infer_schema=False) if text else None
        assert frame is not None, name
        assert frame.width > 0, name
        if name == "gaps":
            assert frame.columns[:4] == ["exchange", "market_type", "symbol", "start_time"]
            assert "2024-02-" in frame["start_time"][0]
            assert frame["start_time"][0].endswith("+00:00")
        if name == "status":
            assert "gold/vwap" in frame["table"].to_list()


def test_every_command_that_reports_is_captured_above() -> None:
    """Whoever adds one is told here."""
    groups = (
        *(building.commands, building.markets_commands),
        *(looking.commands, reading.commands, exporting.commands),
    )
    named = {
        ("markets " if group is building.markets_commands else "")
        + (command.name or command.callback.__name__)
        for group in groups
        for command in group.registered_commands
    }
    assert named <= {" ".join(name.split()[: 2 if name.startswith("markets") else 1]) for name in SHOWN}


def test_what_is_cut_off_by_its_reader_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "lake" / "landing").mkdir(parents=True)
    words = f"{sys.executable} -m lakehouse sql 'SELECT range FROM range(300000)' | head -n 1"
    for unbuffered in ("", "1"):
        done = subprocess.run(
            ["bash", "-c", words + '; echo "${PIPESTATUS[0]}"'],
            env=os.environ | {"LAKEHOUSE_ROOT": str(tmp_path / "lake"), "PYTHONUNBUFFERED": unbuffered},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("range\n141\n", "")
