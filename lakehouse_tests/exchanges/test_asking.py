"""Asking an API about many cells: what one answer says of the next question."""

import pytest

from lakehouse.datasets.candle import CandleWitness
from lakehouse.exchanges.asking import HOUR, Question, ask
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.simulator import Simulator
from lakehouse_tests.making import BTC, NOW

CELLS = [Cell(f"{year}-{month:02}", BTC) for year in range(2020, 2024) for month in range(1, 13)]


@pytest.mark.parametrize(("fault", "said"), [("error_451", "451"), ("error_403", "403"), ("rest_unavailable", "503")])
def test_an_api_that_refuses_or_is_down_is_not_asked_about_every_cell(fault: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.exchanges.rest._TRIES", 1)
    with Simulator(now=NOW, faults=(fault,)) as sim:
        exchange = Binance(sim.url, sim.url)
        answers = dict(ask(CandleWitness, exchange, {cell: [Question(cell.window, bracket=False)] for cell in CELLS}, HOUR, lambda: NOW))
        asked = exchange.rest("spot").stats.requests
    assert list(answers) == CELLS
    assert [[asking.outcome for asking in answer.failed] for answer in answers.values()] == [["unreachable"]] * len(CELLS)
    assert all(said in answer.problems[0].detail for answer in answers.values())
    assert asked <= 12, "those that were under way when the first one failed"
