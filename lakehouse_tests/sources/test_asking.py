"""What an API is asked, and what one answer says of the next question."""

from datetime import datetime, timedelta

import pytest

from lakehouse.datasets.candle import CandleApi, CandleWitness
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.result import Asked, CellFacts, CellResult
from lakehouse.model.timerange import TimeRange
from lakehouse.simulator import Simulator
from lakehouse.sources.rest.asking import (
    Answers,
    Question,
    api_questions,
    ask,
    witness_is_due,
    witness_range,
)
from lakehouse.sources.rest.clients import RestClients
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import CellRecord, TableStore
from lakehouse.transform.asking import was_asked_after, with_answers
from lakehouse_tests.making import BTC, FEBRUARY, MINUTE, NOW, at, bronze, facts

CELLS = [Cell(f"{year}-{month:02}", BTC) for year in range(2020, 2024) for month in range(1, 13)]


@pytest.mark.parametrize(
    ("fault", "said"), [("error_451", "451"), ("error_403", "403"), ("rest_unavailable", "503")]
)
def test_an_api_that_refuses_or_is_down_is_not_asked_about_every_cell(
    fault: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    with Simulator(now=NOW, faults=(fault,)) as sim:
        clients = RestClients(Binance(sim.url, sim.url))
        answers = dict(
            ask(CandleWitness, clients, {cell: [Question(cell.window)] for cell in CELLS}, lambda: NOW)
        )
        asked = clients.of(BTC).stats.requests
    assert list(answers) == CELLS
    assert [[asking.outcome for asking in answer.failed] for answer in answers.values()] == [
        ["unreachable"]
    ] * len(CELLS)
    assert all(said in answer.problems[0].detail for answer in answers.values())
    assert asked <= 12, "those that were under way when the first one failed"


# --- what is asked --------------------------------------------------------------------------------


def record(last: str | None = None, **known: object) -> CellRecord:
    return CellRecord(
        FEBRUARY, "", "", 0, "v", 1, None, at(last) if last else None, {}, 1, 0, CellFacts(**known)
    )  # type: ignore[arg-type]


def asked(
    start: str,
    end: str,
    when: str | datetime,
    outcome: str = "rows",
    before: str | None = None,
    after: str | None = None,
) -> Asked:
    told_at = at(when) if isinstance(when, str) else when
    return Asked(
        at(start), at(end), told_at, outcome, at(before) if before else None, at(after) if after else None
    )  # type: ignore[arg-type]


def questions_of(
    cell: Cell, archive: CellRecord | None, stored: CellRecord | None, market: MarketFacts, now: datetime
) -> list[Question]:
    """Of an API that has minutes."""
    return api_questions(cell, archive, stored, market, now, MINUTE)


def span(start: str, end: str) -> TimeRange:
    return TimeRange(at(start), at(end))


def test_a_range_that_goes_on_begins_a_candle_earlier_and_asks_for_the_candle_after_where_there_may_be_one() -> (
    None
):
    """Else a halt that ends with the second range would lack its other side."""
    stored = record(
        asked=(asked("2024-02-10", "2024-02-11", NOW, before="2024-02-09T23:59", after="2024-02-11"),)
    )
    found = questions_of(
        FEBRUARY, record("2024-02-29T23:59", doubts=("2024-02-10", "2024-02-11")), stored, facts(), NOW
    )
    assert found == [Question(span("2024-02-10T23:59", "2024-02-12"), before=False, after=True)]
    open_hour = questions_of(FEBRUARY, record("2024-02-19T23:59"), None, facts(), at("2024-02-20T10:05"))
    assert open_hour == [Question(span("2024-02-20", "2024-02-20T10:00"), before=True, after=False)], (
        "nothing behind the last whole hour is finished"
    )


def test_a_month_that_ended_without_trade_is_asked_about_hourly_until_it_goes_on_or_has_plainly_ended() -> (
    None
):
    def questions(told: Asked, now: str, delisted: str | None = None) -> list[Question]:
        return questions_of(
            FEBRUARY, record("2024-02-29T23:09"), record(asked=(told,)), facts(delisted=delisted), at(now)
        )

    silent, again = (
        asked("2024-02-20", "2024-03-01", "2024-03-01T00:05"),
        [Question(span("2024-02-29T23:59", "2024-03-01"), after=True)],
    )
    assert questions(silent, "2024-03-01T00:40") == [], "it was asked within the hour"
    assert questions(silent, "2024-03-01T01:10") == again
    assert questions(silent, "2024-03-01T01:10", delisted="2024-02-29T23:10") == []
    assert (
        questions(
            asked("2024-02-20", "2024-03-01", "2024-03-01T00:05", after="2024-03-01T01:30"),
            "2024-03-01T02:10",
        )
        == []
    ), "it goes on"
    assert questions(asked("2024-02-20", "2024-03-01", "2024-03-08T00:05"), "2024-03-20") == [], (
        "a week later it has plainly ended"
    )
    joined = with_answers(
        [silent], [asked("2024-02-29T23:59", "2024-03-01", "2024-03-01T02:05", after="2024-03-01T01:30")]
    )
    assert joined == (asked("2024-02-20", "2024-03-01", "2024-03-01T02:05", after="2024-03-01T01:30"),)


def test_that_a_market_is_unknown_proves_nothing_and_does_not_last_while_it_trades() -> None:
    told = (
        asked("2024-02-01", "2024-02-02", "2024-02-05"),
        asked("2024-02-02", "2024-02-03", "2024-02-05", "unknown"),
    )
    assert with_answers(told[:1], told[1:]) == told, "kept apart"
    known_since = asked("2024-02-01T23:59", "2024-02-03", "2024-02-06")
    assert with_answers(told, [known_since]) == (asked("2024-02-01", "2024-02-03", "2024-02-06"),)
    archive = record("2024-02-29T23:59", doubts=("2024-02-01", "2024-02-02"))
    assert questions_of(FEBRUARY, archive, record(asked=told), facts(), at("2024-02-05T20:00")) == []
    assert [
        question.span
        for question in questions_of(FEBRUARY, archive, record(asked=told), facts(), at("2024-02-06T01:00"))
    ] == [span("2024-02-01T23:59", "2024-02-03")]
    assert (
        questions_of(
            FEBRUARY, archive, record(asked=told), facts(delisted="2024-02-28"), at("2024-03-06T01:00")
        )
        == []
    )


# --- the witness ----------------------------------------------------------------------------------


def test_a_witness_begins_with_the_hour_in_which_the_market_was_listed() -> None:
    assert witness_range(FEBRUARY, facts(listed="2024-02-05T08:30"), NOW) == span(
        "2024-02-05T08:00", "2024-03-01"
    )


def test_a_witness_says_in_its_version_which_revision_it_was_asked_after(objects: LakeObjects) -> None:
    """Told the same again it has the same rows; whoever was made while it said nothing must learn that it
    does now.
    """
    store, whole = TableStore(objects), FEBRUARY.window
    rows, when = bronze([at("2024-02-05")], "api"), [NOW, NOW + timedelta(hours=2)]

    def answer(at: datetime, revised_at: datetime | None) -> CellRecord | None:
        return store.update(
            CandleWitness,
            FEBRUARY,
            Answers(
                CandleWitness, [(rows, Asked(whole.start, whole.end, at, "rows"))], [], [], revised_at, True
            ).change,
        )

    first = answer(when[0], None)
    revised = NOW + timedelta(hours=1)
    assert first is not None
    assert was_asked_after(first.facts, None)
    assert not was_asked_after(first.facts, revised)
    assert witness_is_due(FEBRUARY, first, facts(), NOW, revised)
    again = answer(when[1], revised)
    assert again is not None
    assert was_asked_after(again.facts, revised)
    assert not witness_is_due(FEBRUARY, again, facts(), NOW, revised)
    assert again.version != first.version


def test_a_revision_that_was_noted_is_not_forgotten_by_the_next_answer(objects: LakeObjects) -> None:
    """`verify` notes one where minutes contradict the hours, although no minute says anything else than
    before.
    """
    noted = CellResult(CandleApi.empty(), {}, CellFacts(revised_at=NOW))
    TableStore(objects).put(CandleApi, FEBRUARY, noted)
    stored = TableStore(objects).get(CandleApi, FEBRUARY)
    rows = bronze([at("2024-02-05")], "api")
    told = [(rows, Asked(at("2024-02-05"), at("2024-02-05") + MINUTE, NOW + timedelta(hours=1), "rows"))]
    assert Answers(CandleApi, told, [], []).change(stored).facts.revised_at == NOW
