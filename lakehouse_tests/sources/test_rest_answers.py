"""What comes in place of a good answer: it costs no more than it must, is told for what it is, and is never
taken for the absence of candles.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse.datasets.candle import CandleApi, CandleWitness
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    RestBannedError,
    RestQuestionError,
    RestUnreachableError,
    UnknownSymbolError,
)
from lakehouse.model.interval import MINUTE
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.rest.asking import Question, ask
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.rows import RestAnswer
from lakehouse.storage.tables import CellRecord, StoredCell
from lakehouse_tests.making import BTC, COIN, FEBRUARY, NOW, at, minutes

from .canned import INFO, PORTAL, Canned, candles_by, canned, milliseconds, row

TEN = minutes("2024-04-01", 10)
SPAN = TimeRange.parse("2024-04-01", "2024-04-01T00:10")
LINEAR = Market("binance", "linear", "BTCUSDT")


@pytest.fixture(scope="module")
def listening() -> Iterator[Canned]:
    with canned() as api:
        yield api


@pytest.fixture
def api(listening: Canned) -> Canned:
    """One that gives ten candles, and may be changed."""
    listening.rows = [row(time, price=100.0 + n) for n, time in enumerate(TEN)]
    listening.answers.clear()
    listening.asked.clear()
    return listening


def client(api: Canned, market: Market = BTC) -> RestClient:
    """A client that need not wait."""
    return RestClient(Binance(None, api.url).rest_api(market.market_type), sleep=lambda seconds: None)


_CLIENTS: dict[str, RestClient] = {}


def candles(api: Canned, market: Market = BTC, bracket: bool = False) -> RestAnswer:
    """What a client says that has asked before: making one takes longer than asking."""
    if market.market_type not in _CLIENTS:
        _CLIENTS[market.market_type] = client(api, market)
    return candles_by(_CLIENTS[market.market_type], market, MINUTE, SPAN, bracket)


def opens(rows: pl.DataFrame) -> list[datetime]:
    return rows["open_time"].to_list()


def without(*gone: int) -> list[datetime]:
    return [time for number, time in enumerate(TEN) if number not in gone]


# --- one question, or the API ---------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 200])
@pytest.mark.parametrize("market", [BTC, LINEAR, COIN])
@pytest.mark.parametrize("code", [-1121, -1122])
def test_a_market_that_was_settled_is_unknown_like_one_that_never_was(
    api: Canned, market: Market, code: int, status: int
) -> None:
    api.says("klines", {"code": code, "msg": "Invalid symbol status."}, status)
    asking = client(api, market)
    with pytest.raises(UnknownSymbolError):
        candles_by(asking, market, MINUTE, SPAN)
    assert (asking.is_up, api.asked.count("klines")) == (True, 1)


@pytest.mark.parametrize(
    ("code", "status"), [(-1100, 400), (-1128, 400), (-1120, 200), (-1130, 404), (-2015, 401)]
)
def test_an_error_about_one_question_is_told_and_says_nothing_of_the_api(
    api: Canned, code: int, status: int
) -> None:
    asking = client(api)
    api.says("klines", {"code": code, "msg": "Illegal characters found in parameter 'symbol'."}, status)
    with pytest.raises(
        RestQuestionError,
        match=rf"{api.url}/api/v3 .*binance-spot:BTCUSDT: error {code}, Illegal characters.*asked again later",
    ) as refused:
        candles_by(asking, BTC, MINUTE, SPAN)
    assert not isinstance(refused.value, RestUnreachableError)
    assert (asking.is_up, api.asked.count("klines")) == (True, 1)
    del api.answers["klines"]
    assert candles_by(asking, BTC, MINUTE, SPAN).rows.height == 10


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, {"code": -1121, "msg": "x"}),
        (500, {"code": -1100, "msg": "x"}),
        (400, {"code": -1001, "msg": "x"}),
        (200, {"code": -1016}),
    ],
)
def test_an_api_that_fails_is_down_whatever_code_it_sends_along(api: Canned, status: int, body: Any) -> None:
    asking = client(api)
    api.says("klines", body, status)
    with pytest.raises(RestUnreachableError, match=f"HTTP {status}"):
        candles_by(asking, BTC, MINUTE, SPAN)
    assert (asking.is_up, api.asked.count("klines")) == (False, 4)


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, {"code": 404, "msg": "no route"}), (200, {"code": 0, "data": []}), (400, b"Bad Request")],
)
def test_an_error_that_is_none_of_this_api_is_no_answer_of_it(api: Canned, status: int, body: Any) -> None:
    api.says("klines", body, status)
    with pytest.raises(RestUnreachableError, match=r"LAKEHOUSE_BINANCE_REST_URL"):
        candles(api)


def test_a_banned_api_is_not_up(api: Canned) -> None:
    asking = client(api)
    api.says("klines", {"code": -1003, "msg": "banned"}, 418)
    with pytest.raises(RestBannedError):
        candles_by(asking, BTC, MINUTE, SPAN)
    assert not asking.is_up


def test_a_question_that_is_refused_stands_in_the_record_and_leaves_the_others_alone(api: Canned) -> None:
    """Two markets, one of which REST refuses; and a range of the same market that it answers."""
    odd = Market("binance", "spot", "ODD")
    api.answers["klines"] = lambda query: (
        (400, {"code": -1100, "msg": "Illegal"}) if query["symbol"] == "ODD" else (200, [])
    )
    questions = {Cell("2024-02", market): [Question(FEBRUARY.window)] for market in (odd, BTC)}
    (_, refused), (_, good) = ask(CandleWitness, RestClients(Binance(None, api.url)), questions, lambda: NOW)
    assert ([asked.outcome for asked in refused.failed], [problem.kind for problem in refused.problems]) == (
        ["refused"],
        ["refused"],
    )
    assert "error -1100" in refused.problems[0].detail
    assert ([asked.outcome for _, asked in good.told], good.failed) == (["empty"], [])
    (kept,) = refused.change(None).facts.asked
    assert (kept.outcome, kept.at) == ("refused", NOW)


# --- no answer at all -----------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["klines", "time", "exchangeInfo"])
def test_a_web_page_in_place_of_an_answer_says_what_it_says_and_what_to_set(
    api: Canned, endpoint: str
) -> None:
    api.says(endpoint, PORTAL)
    with pytest.raises(
        RestUnreachableError,
        match=r"HTTP 200 with a web page .*'Guest Wi-Fi Please log in to go on\.'.*LAKEHOUSE_BINANCE_REST_URL",
    ):
        candles_by(client(api), BTC, MINUTE, SPAN)


def test_a_captive_portal_leaves_nothing_for_ever(api: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    api.says("klines", PORTAL)
    ((_, answers),) = ask(
        CandleApi,
        RestClients(Binance(None, api.url)),
        {FEBRUARY: [Question(FEBRUARY.window)]},
        lambda: NOW,
    )
    assert ([asked.outcome for asked in answers.failed], answers.told) == (["unreachable"], [])
    assert "log in" in answers.problems[0].detail


@pytest.mark.parametrize(
    "body", [{}, None, "text", 7, True, {"data": []}, {"symbols": []}, [None], [{}], ["a"], [[]], [[1, 2]]]
)
def test_only_a_list_of_candles_is_an_answer(api: Canned, body: Any) -> None:
    asking = client(api)
    api.says("klines", body)
    with pytest.raises(RestUnreachableError, match="answered with something else"):
        candles_by(asking, BTC, MINUTE, SPAN)
    assert asking.is_up, "it answered, though not this question"


@pytest.mark.parametrize("market", [BTC, COIN])
def test_an_empty_list_is_an_answer(api: Canned, market: Market) -> None:
    api.rows = []
    assert candles(api, market).asked.outcome == "empty"


# --- rows that cannot be used ---------------------------------------------------------------------

BAD = {
    "NaN": (2, "NaN"), "nan": (2, float("nan")), "inf": (5, "inf"), "1e400": (5, "1e400"), "null": (4, None), "text": (1, "abc"), "empty": (7, ""), "comma": (1, "1,5"),
    "true": (1, True), "list": (9, [1]), "count": (8, "7.5"), "underscore": (1, "1_0"), "no close": (6, None), "closed before it opened": (6, milliseconds(at("2024-03-31"))),
    "closed in 1970": (6, 0), "closed in 2100": (6, milliseconds(at("2100-01-01"))), "line": (1, "1\n2"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("market", "what"),
    [*((BTC, what) for what in BAD), (COIN, "NaN"), (COIN, "list"), (LINEAR, "closed in 1970")],
)
def test_a_row_that_cannot_be_used_is_named_and_loses_no_other(
    api: Canned, market: Market, what: str
) -> None:
    good = candles(api, market).rows
    api.rows[3] = row(TEN[3], BAD[what])
    answer = candles(api, market)
    assert (opens(answer.rows), answer.unusable) == (without(3), (TEN[3],))
    assert answer.rows.equals(good.filter(pl.col("open_time") != TEN[3])), (
        "the values of the others are what they were"
    )
    assert (answer.asked.start, answer.asked.end, answer.asked.outcome) == (SPAN.start, SPAN.end, "rows")


@pytest.mark.parametrize("bad", [(3,), (2, 5, 8), (0, 9)])
def test_rows_before_and_behind_one_that_cannot_be_used_are_all_kept(
    api: Canned, bad: tuple[int, ...]
) -> None:
    """Also where they are asked for again, and the same is answered."""
    for number in bad:
        api.rows[number] = row(TEN[number], (5, "NaN"))
    stored: StoredCell | None = None
    for _ in range(2):
        ((_, answers),) = ask(
            CandleApi, RestClients(Binance(None, api.url)), {FEBRUARY: [Question(SPAN)]}, lambda: NOW
        )
        result = answers.change(stored)
        assert sorted(opens(result.rows)) == without(*bad)
        assert sum(
            (asked.end - asked.start) // MINUTE.delta for asked in result.facts.asked if asked.is_of_rows
        ) == 10 - len(bad)
        stored = StoredCell(
            result.rows, CellRecord(FEBRUARY, "", "", 0, "", 10, None, None, {}, 1, 0, result.facts)
        )


@pytest.mark.parametrize("fields", [1, 5, 11, 13])
def test_a_row_with_too_few_or_too_many_fields_is_named(api: Canned, fields: int) -> None:
    api.rows[9] = (api.rows[9] + ["0"])[:fields]
    api.rows[0] = row(TEN[0], (2, "NaN"))
    answer = candles(api)
    assert (opens(answer.rows), answer.unusable) == (without(0, 9), (TEN[0], TEN[9]))


def test_where_no_row_can_be_used_the_range_is_not_empty(api: Canned) -> None:
    api.rows = [row(time, (1, "NaN")) for time in TEN]
    answer = candles(api)
    assert (answer.rows.height, answer.unusable, answer.asked.outcome) == (0, tuple(TEN), "rows")


def test_the_column_that_means_nothing_may_hold_anything(api: Canned) -> None:
    api.rows[3] = row(TEN[3], (11, "what?"))
    answer = candles(api)
    assert (opens(answer.rows), answer.unusable) == (TEN, ())


@pytest.mark.parametrize("time", [None, "soon", 1.5, True, -1, 10**18, "12 3"])
def test_a_row_without_a_time_leaves_its_page_unanswered_and_the_api_up(api: Canned, time: Any) -> None:
    asking = client(api)
    api.says("klines", [api.rows[0], row(TEN[3], (0, time))])
    with pytest.raises(RestUnreachableError, match="a candle without a time"):
        candles_by(asking, BTC, MINUTE, SPAN)
    assert asking.is_up


@pytest.mark.parametrize("time", ["1970-01-01", "2010-01-01", "2500-01-01"])
@pytest.mark.parametrize("side", ["startTime", "endTime"])
def test_a_candle_of_a_time_that_cannot_be_is_no_candle_beside_a_range(
    api: Canned, time: str, side: str
) -> None:
    """It would prove that trading stopped, or that nothing comes any more."""
    api.answers["klines"] = lambda query: (
        200,
        [row(at(time))]
        if set(query) & {"startTime", "endTime"} == {side}
        else api.rows
        if "startTime" in query
        else [],
    )
    with pytest.raises(RestUnreachableError, match=f"answered with one of {time}"):
        candles(api, bracket=True)


def test_a_candle_beside_a_range_that_cannot_be_used_proves_nothing(api: Canned) -> None:
    beside = [SPAN.start - MINUTE.delta, SPAN.end]
    api.rows = [row(beside[0]), *api.rows, row(beside[1])]
    asked = candles(api, bracket=True).asked
    assert [asked.before, asked.after] == beside
    api.rows[0], api.rows[-1] = row(beside[0], (4, "NaN")), row(beside[1], (4, None))
    answer = candles(api, bracket=True)
    assert (answer.asked.before, answer.asked.after, answer.unusable, answer.rows.height) == (
        None,
        None,
        (),
        10,
    )


def test_unusable_rows_do_not_end_a_range_early(api: Canned) -> None:
    """Two pages of a thousand: all of the first are unusable, and so is the row that the second is found
    by.
    """
    times = minutes("2024-04-01", 2500)
    bad = {*range(1000), 1000, 2499}
    api.rows = [row(time, (2, "NaN")) if n in bad else row(time) for n, time in enumerate(times)]
    answer = candles_by(client(api), BTC, MINUTE, TimeRange(times[0], times[-1] + MINUTE.delta))
    assert (answer.rows.height, len(answer.unusable)) == (2500 - len(bad), len(bad))
    assert opens(answer.rows) == times[1001:2499]


# --- one row for each candle ----------------------------------------------------------------------


def test_rows_that_repeat_another_are_left_out_and_counted(api: Canned) -> None:
    whole = candles(api).rows
    api.rows = [api.rows[0], *api.rows, api.rows[4], api.rows[9]]
    answer = candles(api)
    assert (answer.duplicate_count, answer.unusable) == (3, ())
    assert answer.rows.equals(whole)
    ((_, answers),) = ask(
        CandleApi, RestClients(Binance(None, api.url)), {FEBRUARY: [Question(SPAN)]}, lambda: NOW
    )
    assert [(problem.kind, problem.healed_by) for problem in answers.problems] == [
        ("duplicates", "one of each was kept")
    ]


@pytest.mark.parametrize("position", [4, 5, 0, 10])
@pytest.mark.parametrize("field", [4, 5, 6, 8])
def test_of_two_values_for_one_candle_neither_is_believed(api: Canned, position: int, field: int) -> None:
    other = 3 if field != 6 else milliseconds(TEN[4]) + 30_000
    api.rows.insert(position, row(TEN[4], (field, other), price=104.0))
    answer = candles(api)
    assert (opens(answer.rows), answer.unusable, answer.duplicate_count) == (without(4), (TEN[4],), 0)


def test_a_value_is_not_believed_because_its_rival_cannot_be_read_or_comes_twice(api: Canned) -> None:
    api.rows += [row(TEN[2], (1, "NaN")), row(TEN[5], (4, "1.5")), row(TEN[5], (4, "1.5"))]
    answer = candles(api)
    assert (opens(answer.rows), answer.unusable, answer.duplicate_count) == (
        without(2, 5),
        (TEN[2], TEN[5]),
        1,
    )


def test_rows_out_of_order_are_put_in_order(api: Canned) -> None:
    whole = candles(api).rows
    api.rows = [*api.rows[5:], *reversed(api.rows[:5])]
    assert candles(api).rows.equals(whole)


# --- limits and time ------------------------------------------------------------------------------

WEIGHT = INFO["rateLimits"][0]  # type: ignore[index]
LIMITS: dict[str, Any] = {
    "absent": {"symbols": []}, "empty": {"rateLimits": []}, "null": {"rateLimits": None}, "a map": {"rateLimits": {}}, "texts": {"rateLimits": ["REQUEST_WEIGHT"]},
    "zero": {"rateLimits": [WEIGHT | {"limit": 0}]}, "negative": {"rateLimits": [WEIGHT | {"limit": -1}]}, "text": {"rateLimits": [WEIGHT | {"limit": "lots"}]},
    "null limit": {"rateLimits": [WEIGHT | {"limit": None}]}, "of five minutes": {"rateLimits": [WEIGHT | {"intervalNum": 5}]}, "a list": [], "half": {"rateLimits": [WEIGHT | {"limit": 0.5}]},
    "beyond its bounds": b'{"symbols":[' + b"0," * 1_000_001 + b"0]}",
}  # fmt: skip


@pytest.mark.parametrize(
    ("market", "documented", "what"),
    [*((BTC, 6000, what) for what in LIMITS), (LINEAR, 2400, "absent"), (COIN, 2400, "zero")],
)
def test_an_api_that_names_no_limits_is_held_to_the_documented_ones_and_that_is_said_once(
    api: Canned, market: Market, documented: int, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    api.says("exchangeInfo", LIMITS[what])
    asking = client(api, market)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert candles_by(asking, market, MINUTE, SPAN).rows.height == 10
    assert [record.getMessage() for record in caplog.records] == [
        f"The REST API at {asking.api.url} names no weight per minute: the documented {documented} are kept "
        "to."
    ]
    assert api.asked.count("exchangeInfo") == 1
    assert asking.spending.weight == documented


def test_an_api_that_refuses_to_name_its_limits_is_held_to_the_documented_ones(api: Canned) -> None:
    api.says("exchangeInfo", {"code": -1101, "msg": "Too many parameters."}, 400)
    assert candles_by(client(api), BTC, MINUTE, SPAN).rows.height == 10


@pytest.mark.parametrize(
    "said",
    [
        0,
        1,
        1_712_750_400,
        milliseconds(at("2016-12-31")),
        milliseconds(at("2500-01-01")),
        10**15,
        10**30,
        -1,
        None,
        "soon",
        True,
    ],
)
def test_a_time_that_cannot_be_is_told_and_nothing_is_cut_by_it(api: Canned, said: Any) -> None:
    api.says("time", {"serverTime": said})
    asking = client(api)
    with pytest.raises(RestUnreachableError, match=r"which cannot be|answered with something else"):
        candles_by(asking, BTC, MINUTE, SPAN)
    assert "klines" not in api.asked
    ((_, answers),) = ask(
        CandleApi,
        RestClients(Binance(None, api.url)),
        {FEBRUARY: [Question(FEBRUARY.window)]},
        lambda: NOW,
    )
    assert [asked.outcome for asked in answers.failed] == ["unreachable"]


@pytest.mark.parametrize("ahead", [timedelta(minutes=30), timedelta(hours=3), timedelta(days=400)])
def test_a_machine_ahead_of_the_exchange_waits_with_what_has_not_begun_there(
    api: Canned, ahead: timedelta
) -> None:
    """It asks for what by its clock is over: of that, nothing is proven absent, and nothing breaks."""
    api.rows = []
    begun, tomorrow = (
        Question(TimeRange(NOW - timedelta(hours=1), NOW + ahead), before=True),
        Question(TimeRange(NOW + ahead, NOW + 2 * ahead), before=True, after=True),
    )
    ((_, answers),) = ask(
        CandleApi,
        RestClients(Binance(None, api.url)),
        {FEBRUARY: [begun, tomorrow]},
        lambda: NOW + 2 * ahead,
    )
    assert [(asked.start, asked.end) for _, asked in answers.told] == [(begun.span.start, NOW)]
    assert (answers.failed, answers.problems) == ([], [])
    assert [asked.end for asked in answers.change(None).facts.asked] == [NOW]
