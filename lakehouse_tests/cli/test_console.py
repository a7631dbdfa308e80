"""What others wrote is printed as it is: values, names, errors."""

import re
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from lakehouse.cli.app import main
from lakehouse.cli.building import TableBuild
from lakehouse.cli.console import build_progress, out
from lakehouse.cli.report import print_build
from lakehouse.cli.reporting import Report
from lakehouse.cli.verifying import Verification, print_verification
from lakehouse.model.cell import Cell
from lakehouse.registry import REGISTRY
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.making import BTC

ODD = "[red]x[/red] [/foo] [a] binance-spot:x: :smile:"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    return " ".join(f"{out} {err}".split())


def test_cells_columns_and_titles_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Report("table").table(f"title {ODD}", pl.DataFrame({f"column {ODD}": [f"cell {ODD}"]}))
    printed = said(capsys)
    for part in ("title", "column", "cell"):
        assert f"{part} {ODD}" in printed


def test_values_are_written_for_people(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 150)
    first, second = datetime(2024, 11, 2, 15, 34, tzinfo=UTC), datetime(2024, 11, 3, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "instant": [first, None],
            "elsewhere": [first, second],
            "day": [second, None],
            "fraction": [datetime(2024, 1, 1, 0, 0, 17, 816_000, UTC), first],
            "local": [datetime(2024, 1, 1, 0, 0, 1), None],
            "is_served": [True, False],
            "count": [1234, None],
            "sum": [Decimal(7), None],
            "price": [0.5, None],
        }
    ).with_columns(pl.col("elsewhere").dt.convert_time_zone("Asia/Kolkata"))
    Report("table").table("", frame)
    heads, _, *rows, end = capsys.readouterr().out.splitlines()
    assert [re.split(r" {2,}", row.strip()) for row in rows] == [
        [
            "2024-11-02 15:34",
            "2024-11-02 15:34",
            "2024-11-03",
            "2024-01-01 00:00:17.816",
            "2024-01-01 00:00:01",
            "yes",
            "1,234",
            "7",
            "0.5",
        ],
        ["2024-11-03 00:00", "2024-11-02 15:34:00.000", "no"],
    ]
    for name, value in (("count", "1,234"), ("sum", "7"), ("price", "0.5")):
        assert rows[0][: heads.index(name) + len(name)].endswith(f" {value}"), "numbers stand to the right"
    assert end == "Times are UTC."


def test_of_many_rows_the_first_are_printed_with_how_many_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report("table")
    report.table("", pl.DataFrame({"n": [f"row {n}." for n in range(12_345)]}), "add LIMIT")
    printed = said(capsys)
    assert "row 99." in printed
    assert "row 100." not in printed
    assert "The first 100 of 12,345 rows; --format csv has all, or add LIMIT." in printed
    report.table("", pl.DataFrame({"n": range(100)}), "add LIMIT")
    assert "LIMIT" not in said(capsys)


def test_reasons_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], objects: LakeObjects) -> None:
    print_build(
        objects, REGISTRY, [TableBuild("silver/candle", failed={"cell": f"build {ODD}"})], Report("table")
    )
    print_verification(Verification(failed={"cell": f"verify {ODD}"}), Report("table"), "silver/candle")
    with build_progress() as progress:
        progress.announce(f"{ODD}", 1)
        progress.cell(ODD, Cell("2024-01", BTC), "failed")
    printed = said(capsys)
    for line in (
        f"failed silver/candle cell: build {ODD}",
        f"failed cell: verify {ODD}",
        f"failed {ODD} 2024-01|binance-spot:BTCUSDT",
    ):
        assert line in printed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sql", f"select '{ODD}'"), ODD),
        (("gaps", "--markets", "[/x]"), "'[/x]' is not a market key"),
        (
            ("build", ODD, "--markets", "binance-spot:BTCUSDT", "--from", "2024-01", "--to", "2024-02"),
            f"no table '{ODD}'",
        ),
    ],
)
def test_what_was_typed_is_printed_as_it_is(
    words: tuple[str, ...],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "lake").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lakehouse", *words])
    with pytest.raises(SystemExit):
        main()
    assert expected in said(capsys)
