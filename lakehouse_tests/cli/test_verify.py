"""`lakehouse verify` and `lakehouse restatements`: what they say and how they end."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse_tests.commands import Run, environment, in_process
from lakehouse_tests.test_end_to_end import BTC

NOW = datetime(2024, 3, 20, 12, tzinfo=UTC)
JANUARY = ("--from", "2024-01", "--to", "2024-02")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    market = SimulatedMarket(
        "spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, datetime(2024, 1, 31, tzinfo=UTC)
    )
    with Simulator(markets=[market], now=NOW, speed=1) as running:
        yield running


@pytest.fixture
def run(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command of an installation of its own."""
    return in_process(tmp_path, environment(tmp_path, sim.url), monkeypatch, capsys)


@pytest.mark.slow
def test_a_verification_says_what_it_found_and_only_a_failure_is_one(
    run: Run, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("build", "silver/candle", "--markets", BTC, *JANUARY, "--json").code == 0
    cell = f"2024-01|{BTC}"
    verified = run("verify", "--json")
    assert verified.code == 0, verified.said
    assert verified.json == {
        "cells": [{"cell": cell, "evidence_before": "totals", "evidence": "rows_api", "rest": "answered", "differing_count": 0, "restated_count": 0}],
        "differing": [], "restated": [], "failed": {}, "left": 0, "requests": 6, "before": 0,
    }, "two pages and two candles beside them, the time and the budget"  # fmt: skip
    assert "asked about every cell already" in run("verify").said
    assert "Nothing was restated" in run("restatements", "--format", "table").said

    sim.add_fault("rest_revised=*BTCUSDT-1m-2024-01.zip")
    again = run("verify", "--markets", BTC, *JANUARY, "--again", "--format", "table")
    assert again.code == 0, f"a finding is no failure: {again.said}"
    assert "Candles on which REST and the archive differ: 2 variants" in again.said
    rows = [re.split(r" {2,}", line) for line in again.out.splitlines() if " witness " in line]
    assert [row[2:5] for row in rows] == [["daily+monthly", "witness", "no"], ["api", "witness", "yes"]]
    assert {"decided_by", "is_served"} <= set(
        run("verify", "--markets", BTC, *JANUARY, "--again", "--json").json["differing"][0]
    )
    assert "Restated values: 1" in again.said
    (told,) = run("restatements", "--markets", BTC, *JANUARY, "--json").json
    assert (told["market"], told["source"], told["change"], told["trade_count_after"]) == (
        BTC,
        "api",
        "changed",
        2 * told["trade_count_before"],
    )
    assert (
        f"trade_count {told['trade_count_before']} → {told['trade_count_after']}"
        in run("restatements", "--format", "table").said
    )
    assert run("restatements", "--from", "2024-01-01", "--to", "2024-01-02", "--json").json == []
    assert run("restatements", "--to", "2024-01-02", "--json").json == []
    assert run("restatements", "--from", "2024-01", "--json").json == run("restatements", "--json").json
    for ends in (("--from", "2024-02", "--to", "2024-03"), ("--from", "2024-02")):
        assert run("restatements", *ends, "--json").code == 2, "nothing is stored of it"
        assert run("verify", *ends, "--json").code == 2
    assert run("verify", "--again", "--budget", "1", "--json").json["left"] == 1

    sim.add_fault("error_451")
    refused = run("verify", "--again", "--json")
    assert (refused.code, refused.json["cells"]) == (1, [])
    assert "HTTP 451" in refused.json["failed"][f"bronze/candle_api {cell}"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify",), "There is no lake at"),
        (("verify", "--from", "2024-01"), "There is no lake at"),
        (("verify", "--budget", "0"), "Invalid value for '--budget'"),
        (("verify", "--markets", "BTCUSDT"), "is not a market key"),
        (("restatements",), "There is no lake at"),
        (("restatements", "--to", "NaT"), "'NaT' is not a date"),
        (("restatements", "--markets", " , "), "No market is named"),
    ],
)
def test_wrong_use_is_refused(run: Run, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    answer = run(*words)
    assert (answer.code, answer.out) == (2, ""), answer.said
    assert said in answer.said
    assert list(tmp_path.iterdir()) == []


def test_a_lake_without_a_candle_cannot_be_verified(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lake" / "bronze").mkdir(parents=True)
    answer = run("verify")
    assert (answer.code, answer.out) == (2, ""), answer.said
    assert "Nothing is stored in silver/candle of what was asked for (any market)" in answer.said
