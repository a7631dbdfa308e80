"""Real files served in place of generated ones."""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import md5, sha256
from pathlib import Path

import pytest

from lakehouse.simulator import Simulator

from .conftest import NOW, Client, kline_key

FOLDER = "data/spot/daily/klines/BTCUSDT/1m/"
KEY = f"{FOLDER}BTCUSDT-1m-2020-01-01.zip"


@pytest.fixture
def overlaid(real_data: Path) -> Iterator[Client]:
    with Simulator(now=NOW, files=real_data / "binance_archive") as sim:
        yield Client(sim)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Client, Path]]:
    path = tmp_path / kline_key("spot", "daily", "NEWUSDT", "1m", "2024-06-01")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"as recorded")
    with Simulator(now=NOW, files=tmp_path) as sim:
        yield Client(sim), path


def test_real_files_are_served_as_they_are(overlaid: Client, real_data: Path) -> None:
    path = real_data / "binance_archive" / KEY
    answer = overlaid.get(KEY)
    assert answer.content == path.read_bytes()
    assert answer.headers["ETag"] == f'"{md5(answer.content, usedforsecurity=False).hexdigest()}"'
    assert datetime.strptime(answer.headers["Last-Modified"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp() == int(path.stat().st_mtime)
    assert overlaid.rows(KEY).height == 1440


def test_a_market_with_real_klines_has_no_generated_ones(overlaid: Client) -> None:
    assert overlaid.listing(FOLDER) == [f"{FOLDER}BTCUSDT-1m-2020-01-0{day}.zip{end}" for day in (1, 2) for end in ("", ".CHECKSUM")]
    assert overlaid.listing("data/spot/monthly/klines/BTCUSDT/") == []
    assert overlaid.get(kline_key("spot", "monthly", "BTCUSDT", "1h", "2024-02")).status_code == 404
    assert overlaid.klines("api/v3", symbol="BTCUSDT", interval="1m").height == 0
    assert len(overlaid.listing("data/spot/daily/klines/ETHUSDT/1m/")) > 3000
    assert len(overlaid.listing("data/futures/um/monthly/klines/BTCUSDT/1m/")) == 100
    assert "data/futures/um/monthly/fundingRate/" in overlaid.listing("data/futures/um/monthly/", delimiter="/")


def test_both_versions_list_real_and_generated_keys_in_one_order(real_data: Path) -> None:
    with Simulator(now=datetime(2021, 4, 1, tzinfo=UTC), files=real_data / "binance_archive") as sim:
        client = Client(sim)
        keys = client.listing("data/futures/")
        assert keys == client.listing("data/futures/", version=2) == sorted(keys)
        assert {key.split("/")[4] for key in keys} == {"klines", "aggTrades", "fundingRate"}


def test_a_market_that_only_the_folder_knows_is_listed(made: tuple[Client, Path]) -> None:
    client, _ = made
    symbols = client.session.get(f"{client.sim.url}/api/v3/exchangeInfo").json()["symbols"]
    assert [(market["baseAsset"], market["quoteAsset"]) for market in symbols if market["symbol"] == "NEWUSDT"] == [("NEW", "USDT")]
    assert client.klines("api/v3", symbol="NEWUSDT", interval="1m").height == 0
    assert client.listing("data/spot/daily/klines/NEWUSDT/") == [kline_key("spot", "daily", "NEWUSDT", "1m", "2024-06-01")]


def test_faults_of_bytes_and_transfers_hit_real_files(overlaid: Client) -> None:
    whole = overlaid.get(KEY)
    overlaid.sim.add_fault(f"damaged_zip={KEY}")
    damaged = overlaid.get(KEY)
    assert damaged.content != whole.content
    assert damaged.headers["ETag"] != whole.headers["ETag"]
    assert overlaid.digest(KEY) == sha256(damaged.content).hexdigest()
    overlaid.sim.clear_faults()
    overlaid.sim.add_fault(f"stale_checksum={KEY}")
    assert overlaid.digest(KEY) != sha256(whole.content).hexdigest()
    overlaid.sim.clear_faults()
    overlaid.sim.add_fault("reupload=*")
    assert overlaid.get(KEY).headers["ETag"] == whole.headers["ETag"]
