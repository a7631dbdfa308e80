"""`lakehouse markets remove`: what was added can be taken out again, whatever it is called."""

import sqlite3
import sys
from pathlib import Path

import pytest

from lakehouse.cli.app import main
from lakehouse.cli.instance import open_instance
from lakehouse.settings import Settings

BTC, ETH = "binance-spot:BTCUSDT", "binance-spot:ETHUSDT"


def test_a_market_is_removed_from_the_universe_and_a_wrong_key_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("LAKEHOUSE_ADD_MARKETS", "binance-spot:E*")
    monkeypatch.setattr("lakehouse.cli.app.say_warnings", lambda: None)
    with open_instance(Settings()) as instance:
        instance.add_dynamic_partitions("market", [BTC, ETH])
    with sqlite3.connect(
        tmp_path / "dagster" / "history" / "runs" / "index.db"
    ) as written:  # by an older release
        written.execute(
            "INSERT INTO dynamic_partitions (partitions_def_name, partition) VALUES ('market', 'junk')"
        )

    def run(*keys: str) -> None:
        monkeypatch.setattr(sys, "argv", ["lakehouse", "markets", "remove", *keys])
        main()

    with pytest.raises(SystemExit) as end:
        run(BTC, "binance-spot:NOSUCH")
    assert end.value.code == 2
    assert f"Not in the universe: 'binance-spot:NOSUCH'. It holds {BTC}" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(SystemExit) as end:
        run(f"junk,{ETH}")
    assert end.value.code == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["market", "junk", ETH]
    said = " ".join(err.split())
    assert f"Removed 2 markets: junk, {ETH}" in said
    assert f"{ETH} matches LAKEHOUSE_ADD_MARKETS" in said
    with open_instance(Settings()) as instance:
        assert instance.get_dynamic_partitions("market") == [BTC]
