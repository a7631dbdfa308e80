"""Whom a verification asks, and whom it leaves alone: no market and no API stops another, and what was given
up is not begun with again.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult
from lakehouse.opening import open_lake
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.verifying import ask_in_full, change_by, note_failure, plan
from lakehouse.settings import Settings
from lakehouse_tests.making import BTC, NOW, facts
from lakehouse_tests.sources.canned import Answer, Canned, canned

pytestmark = pytest.mark.slow

AAA, ODD, ZZZ = (Market("binance", "spot", symbol) for symbol in ("AAA", "ODD", "ZZZ"))
LINEAR = Market("binance", "linear", "BTCUSDT")
REFUSED, SETTLED, DOWN = (
    (400, {"code": -1100, "msg": "Illegal characters."}),
    (400, {"code": -1122, "msg": "Invalid symbol status."}),
    (503, {"code": -1001}),
)
MONTHS = [f"2023-{month:02}" for month in range(1, 13)]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canned]:
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    monkeypatch.setattr("lakehouse.sources.rest.asking._SILENT_SECONDS", 0.0)
    with canned() as listening:
        yield listening


class Run:
    """A lake whose silver cells nobody proved, and what REST says of its markets."""

    def __init__(
        self, root: Path, api: Canned, markets: Collection[Market], months: Collection[str] = MONTHS[:6]
    ) -> None:
        self.lake: LakeServices = open_lake(
            Settings(root=str(root), start="2023-01"),
            exchanges={"binance": Binance(None, api.url)},
            clock=lambda: NOW,
        )
        self.dataset = self.lake.registry.dataset("candle")
        self.lake.tables.put(
            MarketTable, None, CellResult(market_frame([facts(market) for market in markets]), {})
        )
        for market in markets:
            for month in months:
                self.lake.tables.put(
                    self.dataset.silver,
                    Cell(month, market),
                    CellResult(self.dataset.silver.empty(), {}, CellFacts(evidence="totals")),
                )

    def planned(self, budget: int = 10_000) -> list[Cell]:
        return list(plan(self.lake, self.dataset, [], None, budget).wanted)

    def verify(self, budget: int = 10_000) -> tuple[list[Cell], list[Cell]]:
        """The cells that were answered, and those that were not, as `lakehouse verify` keeps them."""
        assert self.dataset.api is not None
        answered, failed = [], []
        for cell, answers in ask_in_full(
            self.lake, self.dataset, plan(self.lake, self.dataset, [], None, budget).wanted
        ):
            (failed if answers.failed else answered).append(cell)
            self.lake.tables.update(
                self.dataset.api, cell, note_failure(answers) if answers.failed else change_by(answers, None)
            )
        return answered, failed


def by_symbol(said: Mapping[str, Answer]) -> Any:
    """Some markets are answered otherwise; all others have no candle."""
    return lambda query: said.get(query["symbol"], (200, []))


def of(cells: Collection[Cell]) -> Counter[str]:
    return Counter(cell.own_market.symbol for cell in cells)


@pytest.mark.parametrize(
    "answer",
    [
        REFUSED,
        pytest.param((200, {}), marks=pytest.mark.slow),
        pytest.param((200, [[1, 2]]), marks=pytest.mark.slow),
    ],
)
def test_a_market_that_is_never_answered_stops_no_other_and_is_left_alone_itself(
    tmp_path: Path, api: Canned, answer: Answer
) -> None:
    run = Run(tmp_path, api, [ODD, ZZZ], MONTHS)
    api.answers["klines"] = by_symbol({"ODD": answer})
    answered, failed = run.verify()
    assert of(answered) == {"ZZZ": 12}
    assert of(failed) == {"ODD": 8}, "those of the batch in which it was given up, and no more"
    assert of(run.planned()) == {"ODD": 12}
    assert run.planned()[-len(failed) :] == failed, "in vain, and so behind those never tried"


def test_a_settled_market_is_answered_about_and_not_asked_again(tmp_path: Path, api: Canned) -> None:
    run = Run(tmp_path, api, [ODD, LINEAR])
    api.answers["klines"] = by_symbol({"BTCUSDT": SETTLED})
    answered, failed = run.verify()
    assert (of(answered), failed) == ({"BTCUSDT": 6, "ODD": 6}, [])
    assert run.planned() == []


def test_an_api_that_is_down_is_given_up_and_the_others_are_asked(tmp_path: Path, api: Canned) -> None:
    run = Run(tmp_path, api, [LINEAR, ODD])
    api.answers["klines"] = by_symbol({"BTCUSDT": DOWN})
    answered, failed = run.verify()
    assert (of(answered), of(failed)) == ({"ODD": 6}, {"BTCUSDT": 3})


def test_what_was_given_up_is_not_begun_with_the_next_time(tmp_path: Path, api: Canned) -> None:
    run = Run(tmp_path, api, [BTC, ODD, ZZZ])
    api.says("klines", *reversed(DOWN))
    newest = run.planned()[:3]
    assert [cell.date for cell in newest] == ["2023-06"] * 3
    assert run.verify() == ([], newest)
    assert run.planned()[0] == Cell("2023-05", BTC)
    assert run.planned()[-3:] == newest


def test_markets_for_which_an_api_always_fails_do_not_keep_the_others_from_their_turn(
    tmp_path: Path, api: Canned
) -> None:
    """Their newest months come first, and no budget reaches further."""
    run = Run(tmp_path, api, [AAA, BTC, ODD, ZZZ])
    api.answers["klines"] = by_symbol({"AAA": DOWN, "BTCUSDT": DOWN, "ODD": DOWN})
    answered = [cell for _ in range(10) for cell in run.verify(budget=46 * 4)[0]]
    assert of(answered) == {"ZZZ": 6}


def test_what_was_asked_in_vain_is_all_that_is_noted(tmp_path: Path, api: Canned) -> None:
    run = Run(tmp_path, api, [ODD])
    api.answers["klines"] = by_symbol({})
    run.verify()
    before = run.lake.ledger("bronze/candle_api")
    api.answers["klines"] = by_symbol({"ODD": REFUSED})
    wanted = plan(run.lake, run.dataset, [], None, 10_000, again=True).wanted
    for cell, answers in ask_in_full(run.lake, run.dataset, wanted):
        run.lake.tables.update(run.dataset.api, cell, note_failure(answers))  # type: ignore[arg-type]
        kept = run.lake.ledger("bronze/candle_api")[cell].facts
        assert [asked for asked in kept.asked if asked.outcome != "refused"] == list(before[cell].facts.asked)
        assert (kept.problems, kept.revised_at, kept.answered_at) == (
            before[cell].facts.problems,
            before[cell].facts.revised_at,
            before[cell].facts.answered_at,
        )


@pytest.mark.parametrize("answer", [(200, {}), (200, [[1, 2]])])
def test_what_was_answered_by_something_else_is_noted_once_and_left_open_for_no_build(
    tmp_path: Path, api: Canned, answer: Answer
) -> None:
    run = Run(tmp_path, api, [ODD, ZZZ], MONTHS[:2])
    api.answers["klines"] = by_symbol({"ODD": answer})
    for _ in range(2):
        assert of(run.verify()[1]) == {"ODD": 2}
        noted = {
            cell: record.facts.asked
            for cell, record in run.lake.ledger("bronze/candle_api").items()
            if cell.market == ODD
        }
        assert [[(asked.span, asked.outcome) for asked in listed] for listed in noted.values()] == [
            [(cell.window, "unreachable")] for cell in noted
        ]
