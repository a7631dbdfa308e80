"""Answers that were made to hurt: depths, digits and headers beyond all measure are told of the API that sent
them, and end nothing else.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.datasets.candle import CANDLE, CandleApi
from lakehouse.definitions import build_definitions
from lakehouse.defs.sensors import Refresh, refresh_sensors
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.errors import ForeignJsonError, LakehouseError, RestBannedError, RestUnreachableError
from lakehouse.model.foreign_json import DEEPEST, MOST_DIGITS, read_json, read_own_json
from lakehouse.model.interval import MINUTE
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.sources.markets import discover
from lakehouse.sources.rest.asking import Question, ask
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.describing import describe
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.making import BTC, FEBRUARY, NOW, minutes

from .canned import INFO, Canned, candles_by, canned, milliseconds, row

pytestmark = pytest.mark.slow

TEN = minutes("2024-04-01", 10)
SPAN = TimeRange.parse("2024-04-01", "2024-04-01T00:10")
NINES = "9" * 10_000
DEEP = b"[" * 100_000 + b"]" * 100_000
BODIES = {
    "deep": DEEP,
    "deep and open": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "as deep as Python goes": b"[" * 900 + b"]" * 900,
    "a number without end": NINES.encode(),
    "a code without end": b'{"code": -%s, "msg": "x"}' % NINES.encode(),
    "a code as text": b'{"code": "%s", "msg": "x"}' % NINES.encode(),
    "a code that is deep": b'{"code": ' + b"[" * 500 + b"]" * 500 + b"}",
    "a field twice": b'{"code": -1121, "code": 0}',
    "a message that is no text": b'{"code": -1121, "msg": [[[]]]}',
    "no UTF-8": b"[[\xff\xfe]]",
}


@pytest.fixture(scope="module")
def listening() -> Iterator[Canned]:
    with canned() as api:
        yield api


@pytest.fixture
def api(listening: Canned, monkeypatch: pytest.MonkeyPatch) -> Canned:
    listening.rows = [row(time, price=100.0 + n) for n, time in enumerate(TEN)]
    listening.answers.clear()
    listening.headers = {}
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    return listening


class Asking:
    """A client by a clock that goes on as it waits."""

    def __init__(self, api: Canned) -> None:
        self.slept: list[float] = []
        self.client = RestClient(
            Binance(None, api.url).rest_api("spot"), self.slept.append, lambda: sum(self.slept)
        )

    def candles(self) -> int:
        return candles_by(self.client, BTC, MINUTE, SPAN).rows.height


@pytest.mark.parametrize("endpoint", ["klines", "time", "exchangeInfo"])
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("what", BODIES)
def test_a_hostile_body_is_an_error_of_its_api(api: Canned, what: str, endpoint: str, status: int) -> None:
    api.says(endpoint, BODIES[what], status)
    try:
        asked = Asking(api).candles()
    except LakehouseError as error:
        said = str(error)
        assert (api.url in said, len(said) < 1_000) == (True, True)
    else:
        assert (endpoint, asked) == ("exchangeInfo", 10), "the budget is all that can be done without"


@pytest.mark.parametrize(
    "said",
    [
        NINES,
        "-" + NINES,
        "9" * 400,
        "9" * 19,
        "1e400",
        NINES + ".5",
        "[" * 500 + "]" * 500,
        "null",
        '"' + NINES + '"',
        "NaN",
    ],
    ids=lambda said: said[:6] + str(len(said)),
)
def test_a_server_time_that_is_none_is_told(api: Canned, said: str) -> None:
    api.says("time", b'{"serverTime": %s}' % said.encode())
    with pytest.raises(RestUnreachableError):
        Asking(api).candles()


@pytest.mark.parametrize(
    "said",
    [
        NINES,
        NINES + "." + NINES,
        "9" * 400,
        "-5",
        "1e300",
        "inf",
        "nan",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "0" * 5_000,
    ],
)
@pytest.mark.parametrize("status", [418, 429])
def test_a_wait_that_cannot_be_meant_is_the_documented_one(api: Canned, status: int, said: str) -> None:
    api.says("klines", {"code": -1003, "msg": "slow down"}, status)
    api.headers = {"Retry-After": said}
    asking = Asking(api)
    with pytest.raises(RestUnreachableError) as told:
        asking.candles()
    assert isinstance(told.value, RestBannedError) == (status == 418)
    if isinstance(told.value, RestBannedError):
        assert told.value.until.year < 2100


def test_a_ban_lasts_no_longer_than_any_that_is_documented(api: Canned) -> None:
    api.says("klines", {"code": -1003, "msg": "banned"}, 418)
    api.headers = {"Retry-After": "999999999"}
    with pytest.raises(RestBannedError) as told:
        Asking(api).candles()
    assert told.value.until < datetime.now(UTC) + timedelta(days=3, minutes=1)


@pytest.mark.parametrize("said", [NINES, "-" + NINES, "1.5", "1e9", "NaN", "", "0x10", "1_000"])
def test_a_weight_that_is_no_number_is_counted_by_the_price_list(api: Canned, said: str) -> None:
    api.headers = {"X-MBX-USED-WEIGHT-1M": said}
    asking = Asking(api)
    assert asking.candles() == 10
    assert (asking.slept, asking.client.stats.weight > 0) == ([], True)


@pytest.mark.parametrize("field", [0, 1, 5, 6, 8])
@pytest.mark.parametrize(
    "said",
    [NINES, "1e400", "NaN", "-Infinity", "[" * 20 + "]" * 20, '"' + NINES + '"'],
    ids=lambda said: said[:6],
)
def test_one_hostile_value_costs_one_candle_or_the_answer_and_nothing_else(
    api: Canned, field: int, said: str
) -> None:
    rows: Any = [row(time) for time in TEN]
    rows[3][field] = "@"
    api.says("klines", json.dumps(rows).replace('"@"', said).encode())
    asking = Asking(api)
    try:
        answer = candles_by(asking.client, BTC, MINUTE, SPAN)
    except RestUnreachableError:
        assert field == 0, "without its time nobody knows which candle it is"
    else:
        assert (answer.rows.height, answer.unusable) == (9, (TEN[3],))
    api.answers.clear()
    assert asking.candles() == 10, "and it is asked again"


def test_a_hostile_api_leaves_a_problem_in_its_cell_and_the_next_one_is_asked(api: Canned) -> None:
    odd = Market("binance", "spot", "ODD")
    api.answers["klines"] = lambda query: (
        (400, BODIES["a code without end"]) if query["symbol"] == "ODD" else (200, [])
    )
    questions = {Cell("2024-02", market): [Question(FEBRUARY.window)] for market in (odd, BTC)}
    found = dict(ask(CandleApi, RestClients(Binance(None, api.url)), questions, lambda: NOW))
    assert [asked.outcome for asked in found[Cell("2024-02", odd)].failed] == ["short"], (
        "open: asked again later"
    )
    assert [asked.outcome for _, asked in found[FEBRUARY].told] == ["empty"]


@pytest.mark.parametrize("what", [name for name in BODIES if name != "a message that is no text"])
def test_a_hostile_exchange_info_leaves_what_archive_and_symbol_say(
    exchange: Simulator, objects: LakeObjects, api: Canned, what: str
) -> None:
    api.says("exchangeInfo", BODIES[what])
    with pytest.raises(OSError, match=r"did not answer with an exchangeInfo"):
        describe(Binance(None, api.url).rest_api("spot"))
    found, failed = discover(
        Binance(exchange.url, api.url),
        [CANDLE],
        [BTC],
        objects,
        RestClients(Binance(exchange.url, api.url)),
        lambda: NOW,
    )
    assert ([facts.origin for facts in found.values()], failed) == (["derived"], {})


def test_a_hostile_exchange_info_skips_the_sensors_own_look(tmp_path: Path, api: Canned) -> None:
    api.says("exchangeInfo", DEEP)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("market", [BTC.key])
        lake = open_lake(
            Settings(
                root=str(tmp_path / "lake"),
                binance_archive_url="http://127.0.0.1:9",
                binance_rest_url=api.url,
            )
        )
        (sensor,) = [sensor for sensor in refresh_sensors(lake, Refresh()) if sensor.name == "market_listing"]
        context = dg.build_sensor_context(
            instance=instance, repository_def=build_definitions(lake).get_repository_def()
        )
        result = sensor._raw_fn(context)
        assert isinstance(result, dg.SensorResult)
        assert result.run_requests


# --- the one reader -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 33 + "]" * 33, "deeper than 32 levels"),
        ("[" * 10**6, "deeper than 32 levels"),
        ("9" * 65, "65 digits"),
        ("1e400", "no finite number"),
        ("-" + "9" * 400 + ".5", "no finite number"),
        ("NaN", "NaN is no number"),
        ('{"a": {"b": 1, "b": 2}}', "'b' twice"),
        (b"\xff", "utf-8"),
        ('["\\ud800"]', "half a character"),
        (b'{"\\uDFFF": 1}', "half a character"),
        ("{", "Expecting"),
        ("[" + "1," * 600 + "1]", "more than 1,000"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_the_reader_of_foreign_json_says_what_it_refuses(text: str | bytes, why: str) -> None:
    with pytest.raises(ForeignJsonError, match=why):
        read_json(text, 1_000 if "more than" in why else 1 << 26)


def test_the_reader_takes_what_everybody_sends() -> None:
    nested = "[" * DEEPEST + "]" * DEEPEST
    assert read_json(nested) == json.loads(nested)
    assert read_json("9" * MOST_DIGITS) == 10**MOST_DIGITS - 1
    assert read_json(b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}') == {"a": [1, 2.5, None, True, "é"]}
    assert read_json("[1, 2.50, NaN, 1e400]", numbers_as_text=True) == ["1", "2.50", "NaN", "1e400"]
    assert milliseconds(NOW) == read_json(str(milliseconds(NOW)))
    assert read_json(json.dumps(INFO)) == INFO
    for text in ("[" * 10**6, "{", NINES):
        with pytest.raises(ForeignJsonError):
            read_own_json(text)
