"""The quality page: whole in itself, with a square per market and month that says why."""

from html.parser import HTMLParser

import pytest

from lakehouse.cli.quality import print_quality, quality_page
from lakehouse.cli.reporting import Report
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import GapRun, Problem
from lakehouse.ops.quality import UNBUILT, CellQuality
from lakehouse_tests.making import BTC, NOW, at

ODD = Market("binance", "linear", "币安USDT")


class Page(HTMLParser):
    """The squares of the map by row, everything that is loaded from elsewhere, the text, and tags left
    open.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, str]]] = []
        self.loaded: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.opening: list[str] = []
        self.opened: list[str] = []
        self._in_map = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.loaded += [f"{tag} {name}" for name in said if name in ("src", "href", "srcset", "data")] + [
            tag for _ in "x" if tag in ("script", "link", "img", "iframe", "object")
        ]
        self.opening += [str(said["popovertarget"])] if "popovertarget" in said else []
        self.opened += [str(said["id"])] if "popover" in said else []
        if tag in ("meta", "wbr"):
            return
        self.open.append(tag)
        if tag == "table":
            self._in_map = said["class"] == "map"
        if tag == "tr" and self._in_map:
            self.rows.append([])
        if tag == "td" and self._in_map:
            self.rows[-1].append((str(said["class"]), said.get("title") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def quality(month: str, market: Market = BTC, **known: object) -> CellQuality:
    return CellQuality(Cell(month, market), 44_640, {}, newest=at(f"{month}-28"), evidence="totals", **known)  # type: ignore[arg-type]


def test_the_page_maps_markets_and_months_and_says_why() -> None:
    bad = CellQuality(
        Cell("2024-01", BTC), 100, {"unproven": 1440, "not_listed": 60}, settled=2, unsettled=1, healed=3
    )
    report = [
        quality("2023-11", anomalies=0),
        CellQuality(Cell("2023-12", BTC), None, {}),
        bad,
        quality("2024-02", ODD),
    ]
    page = Page(quality_page(report, "s3://bucket/<lake>", NOW))
    assert page.loaded == []
    assert page.open == []
    squares = page.rows[2:]
    assert [[state for state, _ in row] for row in squares] == [
        ["good", "error", "error", "none"],
        ["none", "none", "none", "good"],
    ]
    assert (
        squares[0][0][1]
        == "2023-11 binance-spot:BTCUSDT: good\n44,640 rows, evidence totals, newest 2023-11-28 00:00"
    )
    assert (
        squares[0][1][1] == "2023-12 binance-spot:BTCUSDT: error\nnothing is stored, between months that are"
    )
    for why in (
        "1,440 rows absent (unproven)",
        "1 disputed key that no proof decided",
        "60 rows before listing",
        "2 disputed keys, settled",
        "3 problems with sources, healed",
    ):
        assert why in squares[0][2][1], why
    assert "not searched for anomalies yet" in squares[1][3][1]
    assert {
        "binance-linear:",
        "币安USDT",
        "Quality of s3://bucket/<lake>",
        "2023",
        "2024",
        "02",
        "What is not good",
    } <= set(page.text)
    assert "2024-01, binance-spot:BTCUSDT: 1,440 rows absent (unproven)" in page.text
    assert "2024-01, binance-spot:BTCUSDT: 1 disputed key that no proof decided" in page.text
    assert "good (2): every expected row is there, or known not to exist" in page.text


def test_a_page_on_nothing_says_so() -> None:
    page = Page(quality_page([], "lake", NOW))
    assert page.rows == []
    assert "Nothing is stored yet." in page.text


def test_a_long_list_is_cut_and_says_how_much() -> None:
    every_other = [quality(f"{2000 + n // 12}-{n % 12 + 1:02d}", unsettled=n % 2) for n in range(510)]
    page = Page(quality_page(every_other, "lake", NOW))
    assert sum(len(row) for row in page.rows) == 510
    assert "and 155 more" in page.text


def test_months_with_the_same_fault_are_one_line_that_names_its_markets() -> None:
    report = [
        CellQuality(Cell(f"2024-{month:02}", market), None, {}, unread=UNBUILT)
        for market in (BTC, ODD)
        for month in range(2, 12)
    ]
    page = Page(quality_page(report, "lake", NOW))
    assert "2024-02 to 2024-11, 2 markets: not built, though bronze has its rows" in page.text
    assert ODD.key in page.text
    assert sum("not built" in text for text in page.text) == 1 + len(report), "once in words, else in squares"


def test_a_square_opens_what_is_known_of_its_cell() -> None:
    run = GapRun("halt", at("2024-02-10"), at("2024-02-10T01:00"), 60)
    healed = Problem("data/x/A-2024-02.zip", "corrupt", "the zip is damaged", "y/29 daily files")
    cell = Cell("2024-02", BTC)
    report = [
        CellQuality(cell, 100, {"halt": 60}, settled=2, unsettled=1, runs=[("halt", run)], problems=[healed]),
        quality("2024-03"),
    ]
    page = Page(quality_page(report, "lake", NOW, {cell: ["2024-02", "2024-02-01", "2024-02-29"]}))
    assert set(page.opening) == set(page.opened) == {"c0", "c1"}, "good ones too"
    assert {
        "2024-02-10 00:00 to 2024-02-10 01:00: 60 rows absent (halt)",
        "3 keys, 2 settled by a proof",
        "A-2024-02.zip: corrupt, the zip is damaged; healed by 29 daily files",
        "month 2024-02",
        "2 days, 2024-02-01 to 2024-02-29",
    } <= set(page.text)


def test_the_terminal_shows_the_worst_hundred_of_a_long_report(capsys: pytest.CaptureFixture[str]) -> None:
    report = [quality(f"{2000 + n // 12}-{n % 12 + 1:02d}", unsettled=int(n == 300)) for n in range(400)]
    print_quality(report, Report("table"))
    lines = capsys.readouterr().out.splitlines()
    assert "the worst 100 of 400" in lines[0]
    assert sum("binance-spot:BTCUSDT" in line for line in lines) == 100
    (worst,) = (line for line in lines if "2025-01" in line)
    assert "warn" in worst
    assert lines[-1] == "399 good, 1 warn"
