"""The examples of CONTRIBUTING run as they stand: an exchange, a dataset and a feature are declared from the
page alone, and built from files and from REST.
"""

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse_tests.extensibility.toys import (
    answering,
    build,
    milliseconds,
    put,
    require_shown,
    toy_lake,
)
from lakehouse_tests.faults.cases import CASES
from lakehouse_tests.making import at, minutes

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
MARKET = Market("bazaar", "spot", "COIN-USD")
BEGUN, PUBLISHED, NOW = at("2024-01-31"), at("2024-02-01"), at("2024-02-01T02:30")
OPENS = [int(milliseconds(time)) for time in minutes("2024-01-31", 1440 + 150)]


def examples() -> list[str]:
    """The Python of the page; each begins with the file that it would be in."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The examples as one module; the case of the fault is taken from the cases again."""
    path, cases = tmp_path / "declared.py", list(CASES)
    path.write_text("\n".join(examples()), "utf-8")
    spec = importlib.util.spec_from_file_location("declared", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "declared", module)  # where the source of an asset is looked up
    spec.loader.exec_module(module)
    module.CASE = CASES[-1]  # type: ignore[attr-defined]
    yield module
    CASES[:] = cases


def line(opens: int, length: int = 1) -> list[object]:
    """What the archive and the API have of a candle."""
    return [opens, 100, 102, 99, 101, length, 100 * length]


def history(query: Mapping[str, str]) -> dict[str, Any]:
    """What the API answers: the newest candles of a range, newest first; both bounds are excluded."""
    if query["instId"] != MARKET.symbol:
        return {"code": "51001", "msg": "Instrument ID does not exist", "data": []}
    length = {"1m": 1, "1H": 60, "1Dutc": 1440}[query["bar"]]
    now = milliseconds(NOW)
    low, high = int(query.get("before", 0)), int(query.get("after", now + 1))
    found = [line(opens, length) for opens in OPENS[::length] if low < opens < high]
    rows = [[str(value) for value in row] + ["1"] for row in found[::-1][: int(query["limit"])]]
    return {"code": "0", "msg": "", "data": rows}


@pytest.fixture
def lake(declared: ModuleType, tmp_path: Path) -> Iterator[LakeServices]:
    """A lake beside an archive with the last day of January, and an API that goes on until now."""
    files = declared.Bazaar.files | {declared.FundingArchive.name: declared.FundingFiles()}

    class Here(declared.Bazaar):  # type: ignore[misc]
        bucket = "data.binance.vision"  # the one that the simulator serves

    Here.files = files
    minutes_of_january = [
        ",".join(map(str, line(opens))) for opens in OPENS if opens < milliseconds(PUBLISHED)
    ]
    put(tmp_path, files["bronze/candle_archive"].key(MARKET, Period.parse("2024-01")), minutes_of_january)
    rates = [f"{milliseconds(BEGUN + n * timedelta(hours=8))},0.0001" for n in range(3)]
    put(tmp_path, files[declared.FundingArchive.name].key(MARKET, Period.parse("2024-01")), rates)
    described = {"instId": MARKET.symbol, "baseCcy": "COIN", "quoteCcy": "USD", "state": "live"}
    api = {
        "/public/time": lambda query: {"code": "0", "data": [{"ts": str(milliseconds(NOW))}]},
        "/public/instruments": lambda query: {"code": "0", "data": [described]},
        "/market/history-candles": history,
    }
    datasets, features = (declared.FUNDING,), (declared.DailyFunding,)
    with answering(api) as url, toy_lake(tmp_path, Here, NOW, datasets, features, rest_url=url) as opened:
        yield opened


def test_the_exchange_of_the_page_has_less_than_120_lines_of_code() -> None:
    (exchange, *_) = examples()
    assert "class Bazaar(Exchange)" in exchange
    assert sum(bool(line.strip()) for line in exchange.splitlines()) < 120


@pytest.mark.parametrize("name", ["bronze/funding_archive", "silver/funding", "gold/daily_funding"])
def test_tables_of_the_page_appear_wherever_tables_are_shown(lake: LakeServices, name: str) -> None:
    require_shown(lake, name, ["exchange", "market_type", "symbol", "month"])


def test_an_answer_that_holds_a_row_without_values_has_its_time_alone(declared: ModuleType) -> None:
    pages = declared.Bazaar.pages["bronze/candle_api"]
    answer = {"data": [["60000", *"123456"], ["0", "1", "2", "NaN", "4", "5", "6"]]}
    rows = pages.read(MARKET, answer)
    assert rows["open_time"].to_list() == [at("1970-01-01T00:01"), at("1970-01-01")]
    assert rows["low"].to_list() == [3.0, None]
    assert rows["close_time"].null_count() == 1
    assert pages.read(MARKET, []).schema == rows.schema


@pytest.mark.slow
def test_the_exchange_of_the_page_builds_from_files_and_goes_on_by_rest(lake: LakeServices) -> None:
    build(lake, "silver/candle", [MARKET], "2024-01", "2024-03")
    reader = Lake(lake.objects.root, lake.registry)
    rows = reader.sql("SELECT source, count(*), min(open_time), max(open_time) FROM silver.candle GROUP BY 1")
    assert set(rows.rows()) == {
        ("archive", 1440, BEGUN, at("2024-01-31T23:59")),
        ("api", 120, PUBLISHED, at("2024-02-01T01:59")),
    }
    assert reader.markets().row(0, named=True)["base"] == "COIN"
    assert lake.ledger("silver/candle")[Cell("2024-01", MARKET)].facts.evidence == "totals"


@pytest.mark.slow
def test_the_dataset_and_the_feature_of_the_page_build(lake: LakeServices) -> None:
    build(lake, "gold/daily_funding", [MARKET], "2024-01", "2024-03")
    reader = Lake(lake.objects.root, lake.registry)
    found = reader.sql("SELECT day_time, rate, close, knowable_at FROM gold.daily_funding")
    assert found.rows() == [(BEGUN, 0.0003, 101.0, PUBLISHED)]


@pytest.mark.slow
def test_the_fault_of_the_page_is_met_and_healed(declared: ModuleType, tmp_path: Path) -> None:
    assert declared.CASE.name == "refused at first"  # type: ignore[attr-defined]
    assert declared.CASE.show(tmp_path).gaps == []
