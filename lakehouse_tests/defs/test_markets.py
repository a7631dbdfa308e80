"""`silver/market` as it is asked anew: what another release wrote is written again, and what is the same is
not.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lakehouse.datasets.market import MarketFacts, MarketTable, market_frame
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.opening import open_lake
from lakehouse.pipeline.markets import known_markets, refresh_markets
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.layout import MARKETS_ASKED
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.defs.conftest import lake_at
from lakehouse_tests.making import NOW, at

ADA = Market("binance", "spot", "ADABTC")
BTC, ETH = (Market("binance", "spot", f"{coin}USDT") for coin in ("BTC", "ETH"))


@pytest.mark.parametrize(("base", "quote"), [("ADA", "BTC"), ("AD", "ABTC"), (None, None)])
def test_what_an_earlier_release_guessed_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str | None, quote: str | None
) -> None:
    """Even where the facts are the same: it was written by another meaning of the table."""
    known = MarketFacts(ADA, base, quote, None, None, at("2021-01-01"), None, "derived")
    with Simulator(now=NOW) as sim:
        lake = open_lake(
            Settings(root=str(tmp_path), binance_archive_url=sim.url, binance_rest_url=CLOSED),
            clock=lambda: NOW,
        )
        with monkeypatch.context() as earlier:
            earlier.setattr(MarketTable, "code_version", 1)
            lake.tables.put(MarketTable, None, CellResult(market_frame([known]), {}))
        record, changed, failed = refresh_markets(lake, [ADA])
        assert record is not None
        assert (changed, failed, record.code_version) == (True, {}, MarketTable.code_version)
        assert known_markets(lake) == {ADA: replace(known, base=None, quote=None)}
        assert refresh_markets(lake, [ADA])[1] is False


@pytest.mark.slow
def test_a_build_asks_about_a_known_market_once_a_day_and_about_a_new_one_at_once(tmp_path: Path) -> None:
    with Simulator(now=NOW) as sim:
        lake = lake_at(tmp_path / "lake", sim)

        def asked(hours: float, *markets: Market) -> int:
            sim.reset_requests()
            lake.clock = lambda: NOW + timedelta(hours=hours)
            refresh_markets(lake, markets, timedelta(days=1))
            return sum("exchangeInfo" in path for _, path in sim.requests)

        assert [asked(hours, BTC) for hours in (0, 1, 23, 24, 25)] == [1, 0, 0, 1, 0]
        assert asked(26, BTC, ETH) == 1, "one that nobody knows"
        assert asked(-1, BTC) == 1, "a clock that was set back proves nothing"
        body = bytearray(lake.objects.get(MARKETS_ASKED) or b"")
        body[20] ^= 1
        lake.objects.put(MARKETS_ASKED, bytes(body))
        assert asked(0, BTC) == 1, "a memory that is not as it was written is none"


def test_a_market_whose_exchange_did_not_answer_is_asked_about_by_the_next_build(tmp_path: Path) -> None:
    with Simulator(now=NOW, faults=["rest_unavailable"]) as sim:
        lake = lake_at(tmp_path / "lake", sim)
        for _ in range(2):
            sim.reset_requests()
            refresh_markets(lake, [BTC], timedelta(days=1))
            assert any("exchangeInfo" in path for _, path in sim.requests)


def test_damaged_market_facts_are_asked_for_anew_however_young_they_are(tmp_path: Path) -> None:
    with Simulator(now=NOW) as sim:
        lake = lake_at(tmp_path / "lake", sim)
        refresh_markets(lake, [BTC])
        whole = known_markets(lake)
        path = "silver/market/data.parquet"
        body = bytearray(lake.objects.get(path) or b"")
        body[len(body) // 2] ^= 1
        lake.objects.put(path, bytes(body))
        record, changed, failed = refresh_markets(lake, [BTC], timedelta(days=1))
        assert (record is not None, changed, failed) == (True, True, {})
        assert known_markets(lake) == whole
