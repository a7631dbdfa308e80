"""`silver/market` as it is asked anew: what another release wrote is written again, and what is the same is
not.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from lakehouse.datasets.market import MarketFacts, MarketTable, market_frame
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.opening import open_lake
from lakehouse.pipeline.markets import known_markets, refresh_markets
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.making import NOW, at

ADA = Market("binance", "spot", "ADABTC")


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
