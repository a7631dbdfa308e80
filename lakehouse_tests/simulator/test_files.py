"""Real files served in place of generated ones."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import md5, sha256
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from lakehouse.simulator import Simulator
from lakehouse.simulator.files import LinkedFileError

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
    assert datetime.strptime(answer.headers["Last-Modified"], "%a, %d %b %Y %H:%M:%S GMT").replace(
        tzinfo=UTC
    ).timestamp() == int(path.stat().st_mtime)
    assert overlaid.rows(KEY).height == 1440


def test_a_market_with_real_klines_has_no_generated_ones(overlaid: Client) -> None:
    assert overlaid.listing(FOLDER) == [
        f"{FOLDER}BTCUSDT-1m-2020-01-0{day}.zip{end}" for day in (1, 2) for end in ("", ".CHECKSUM")
    ]
    assert overlaid.listing("data/spot/monthly/klines/BTCUSDT/") == []
    assert overlaid.get(kline_key("spot", "monthly", "BTCUSDT", "1h", "2024-02")).status_code == 404
    assert overlaid.klines("api/v3", symbol="BTCUSDT", interval="1m").height == 0
    assert len(overlaid.listing("data/spot/daily/klines/ETHUSDT/1m/")) > 3000
    assert len(overlaid.listing("data/futures/um/monthly/klines/BTCUSDT/1m/")) == 100
    assert "data/futures/um/monthly/fundingRate/" in overlaid.listing(
        "data/futures/um/monthly/", delimiter="/"
    )


def test_a_market_with_real_funding_rates_has_no_generated_ones(overlaid: Client, real_data: Path) -> None:
    folder = "data/futures/um/monthly/fundingRate/BTCUSDT/"
    key = f"{folder}BTCUSDT-fundingRate-2026-04.zip"
    assert overlaid.listing(folder) == [key, f"{key}.CHECKSUM"]
    assert overlaid.get(key).content == (real_data / "binance_archive" / key).read_bytes()
    address = f"{overlaid.sim.url}/fapi/v1/fundingRate"
    assert requests.get(address, {"symbol": "BTCUSDT"}, timeout=10).json() == []
    assert requests.get(address, {"symbol": "ETHUSDT"}, timeout=10).json() != []


def test_both_versions_list_real_and_generated_keys_in_one_order(real_data: Path) -> None:
    with Simulator(now=datetime(2021, 4, 1, tzinfo=UTC), files=real_data / "binance_archive") as sim:
        client = Client(sim)
        keys = client.listing("data/futures/")
        assert keys == client.listing("data/futures/", version=2) == sorted(keys)
        assert {key.split("/")[4] for key in keys} == {"klines", "aggTrades", "fundingRate"}


def test_a_market_that_only_the_folder_knows_is_listed(made: tuple[Client, Path]) -> None:
    client, _ = made
    symbols = client.session.get(f"{client.sim.url}/api/v3/exchangeInfo").json()["symbols"]
    assert [
        (market["baseAsset"], market["quoteAsset"]) for market in symbols if market["symbol"] == "NEWUSDT"
    ] == [("NEW", "USDT")]
    assert client.klines("api/v3", symbol="NEWUSDT", interval="1m").height == 0
    assert client.listing("data/spot/daily/klines/NEWUSDT/") == [
        kline_key("spot", "daily", "NEWUSDT", "1m", "2024-06-01")
    ]


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


SECRET = b"of another folder"
LINKS = {
    "a_file": lambda folder, secret: (folder / "BTCUSDT-1m-2024-06-01.zip").symlink_to(secret),
    "a_folder": lambda folder, secret: (folder / "linked").symlink_to(secret.parent),
    "a_relative_one": lambda folder, secret: (folder / "x.zip").symlink_to("../" * 9 + str(secret)),
    "one_that_leads_back": lambda folder, secret: (folder / "again").symlink_to(folder),
    "one_that_leads_nowhere": lambda folder, secret: (folder / "x.zip").symlink_to("nowhere"),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "secret").write_bytes(SECRET)
    return tmp_path / "mine" / "secret"


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_a_folder_with_a_link_is_not_served(
    tmp_path: Path, secret: Path, link: Callable[[Path, Path], None]
) -> None:
    folder = tmp_path / "served" / FOLDER
    folder.mkdir(parents=True)
    link(folder, secret)
    with pytest.raises(LinkedFileError, match="is a link"):
        Simulator(now=NOW, files=tmp_path / "served")


def test_a_file_that_becomes_a_link_is_served_no_more(made: tuple[Client, Path], secret: Path) -> None:
    client, path = made
    key = kline_key("spot", "daily", "NEWUSDT", "1m", "2024-06-01")
    path.unlink()
    path.symlink_to(secret)
    assert (client.get(key).status_code, SECRET in client.get(key).content) == (500, False)
    path.unlink()
    moved = path.parent.with_name("moved")
    path.parent.rename(moved)
    (secret.parent / path.name).write_bytes(SECRET)
    path.parent.symlink_to(secret.parent)
    assert (client.get(key).status_code, SECRET in client.get(key).content) == (500, False)


@pytest.mark.parametrize(
    "way",
    [
        "..%2f..%2fmine%2fsecret",
        "../../mine/secret",
        "%2e%2e/%2e%2e/mine/secret",
        "..%5c..%5cmine%5csecret",
        "data/..%2f..%2f..%2fmine%2fsecret",
        "{secret}",
        "%2F{secret}",
        "..%252f..%252fmine%252fsecret",
        "data/spot%00/../../mine/secret",
    ],
)
def test_no_path_leads_out_of_the_folder(made: tuple[Client, Path], secret: Path, way: str) -> None:
    client, _ = made
    url = urlsplit(client.sim.archive_url)
    connection = HTTPConnection("127.0.0.1", url.port or 0, timeout=10)
    # as it is: other clients would tidy it up
    connection.request("GET", f"{url.path}/{way.format(secret=secret)}")
    answer = connection.getresponse()
    assert (answer.status, SECRET in answer.read()) == (404, False)
