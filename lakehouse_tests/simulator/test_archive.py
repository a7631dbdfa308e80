"""The S3 dialect: listing, objects, ranges, and the clients that must be able to use it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import obstore
import pytest
import requests
from obstore.store import S3Store

from lakehouse.simulator import DEFAULT_MARKETS, Simulator
from lakehouse.simulator.cache import BodyCache

from .conftest import NOW, Client, kline_key, texts

DAILY = "data/spot/daily/klines/BTCUSDT/1m/"
KEY = kline_key("spot", "monthly", "BTCUSDT", "1h", "2024-02")


def test_both_versions_list_the_same_keys_in_order_over_several_pages(client: Client) -> None:
    first, second = client.listing(DAILY), client.listing(DAILY, version=2)
    assert first == second == sorted(first, key=str.encode)
    days = (NOW.date() - datetime(2021, 1, 1).date()).days
    assert len(first) == len(set(first)) == days * 2 > 3000


@pytest.mark.parametrize("version", [1, 2])
def test_pages_of_any_size_add_up(client: Client, version: int) -> None:
    prefix = "data/spot/monthly/klines/"
    assert client.listing(prefix, version, **{"max-keys": "37"}) == client.listing(prefix, version)
    folders = client.listing(prefix, version, delimiter="/")
    assert folders == [
        f"{prefix}{symbol}/" for symbol in ("ADABTC", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XYZUSDT")
    ]
    assert client.listing(prefix, version, delimiter="/", **{"max-keys": "2"}) == folders


def test_a_page_says_what_it_is(client: Client) -> None:
    page = client.page(prefix=DAILY)
    assert texts(page, "Name") == ["data.binance.vision"]
    assert (texts(page, "MaxKeys"), texts(page, "IsTruncated"), texts(page, "NextMarker")) == (
        ["1000"],
        ["true"],
        [],
    )
    assert len(texts(page, "Contents/Key")) == len(texts(page, "Contents/StorageClass")) == 1000
    folded = client.page(prefix="data/spot/", delimiter="/", **{"max-keys": "1"})
    assert (texts(folded, "CommonPrefixes/Prefix"), texts(folded, "NextMarker")) == (
        ["data/spot/daily/"],
        ["data/spot/daily/"],
    )
    assert texts(client.page(prefix="data/spot/daily/typo/"), "Contents/Key") == []
    assert texts(client.page(prefix="data/", **{"max-keys": "0"}), "IsTruncated") == ["false"]
    assert texts(client.page(prefix="data/ü /", **{"encoding-type": "url"}), "Prefix") == ["data/%C3%BC%20/"]
    after = f"{DAILY}BTCUSDT-1m-2025-03-01.zip"
    assert (
        texts(client.page(prefix=DAILY, **{"list-type": "2", "start-after": after}), "Contents/Key")[0]
        == f"{after}.CHECKSUM"
    )
    assert client.session.get(f"{client.sim.archive_url}?max-keys=many").status_code == 400


def test_a_listing_states_what_the_object_is(client: Client) -> None:
    for prefix in (
        "data/spot/monthly/klines/XYZUSDT/1h/",
        "data/futures/cm/daily/klines/BTCUSD_PERP/1d/BTCUSD_PERP-1d-2023-0",
    ):
        page = client.page(prefix=prefix, **{"max-keys": "12"})
        listed = zip(
            *(texts(page, f"Contents/{name}") for name in ("Key", "Size", "ETag", "LastModified")),
            strict=True,
        )
        for key, size, etag, modified in listed:
            answer, head = client.get(key), client.head(key)
            assert len(answer.content) == int(size) == int(head.headers["Content-Length"])
            assert answer.headers["ETag"] == head.headers["ETag"] == etag
            assert parsedate_to_datetime(answer.headers["Last-Modified"]) == datetime.fromisoformat(modified)


def test_files_are_published_the_next_day_and_the_next_month() -> None:
    clock = [datetime(2024, 3, 1, 5, 59, tzinfo=UTC)]
    with Simulator(now=lambda: clock[0]) as sim:
        client = Client(sim)
        daily, monthly = (
            kline_key("spot", frequency, "BTCUSDT", "1m", date)
            for frequency, date in (("daily", "2024-02-29"), ("monthly", "2024-02"))
        )

        def exist() -> list[bool]:
            listed = [key in client.listing(key) for key in (daily, monthly)]
            assert listed == [client.head(key).status_code == 200 for key in (daily, monthly)]
            return listed

        assert exist() == [False, False]
        clock[0] += timedelta(minutes=11)
        assert exist() == [True, False]
        clock[0] += timedelta(hours=2)
        assert exist() == [True, True]
        assert client.get(kline_key("spot", "daily", "BTCUSDT", "1m", "2024-03-01")).status_code == 404


def test_old_checksums_lack_the_newline() -> None:
    market = replace(DEFAULT_MARKETS[0], listed=datetime(2020, 12, 30, tzinfo=UTC))
    with Simulator([market], now=NOW) as sim:
        old, new = (
            Client(sim).get(kline_key("spot", "daily", "BTCUSDT", "1d", day) + ".CHECKSUM").text
            for day in ("2020-12-31", "2021-01-01")
        )
    assert old.endswith("  BTCUSDT-1d-2020-12-31.zip")
    assert new.endswith("  BTCUSDT-1d-2021-01-01.zip\n")


@pytest.mark.parametrize(
    ("header", "status", "span"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges(client: Client, header: str, status: int, span: slice) -> None:
    whole = client.get(KEY).content
    answer = client.get(KEY, Range=header)
    assert (answer.status_code, answer.content) == (status, whole[span])
    first, end, _ = span.indices(len(whole))
    assert answer.headers.get("Content-Range") == (
        f"bytes {first}-{end - 1}/{len(whole)}" if status == 206 else None
    )
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_a_range_behind_the_end_is_refused(client: Client) -> None:
    answer = client.get(KEY, Range="bytes=99999999-")
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{client.head(KEY).headers['Content-Length']}"


@pytest.mark.parametrize(
    "key",
    [
        "data/nothing",
        f"{DAILY}BTCUSDT-1m-2020-12-31.zip",
        f"{DAILY}BTCUSDT-1m-2024-02-30.zip",
        f"{DAILY}BTCUSDT-1m-2024-02.zip",
        f"{DAILY}BTCUSDT-1h-2024-02-01.zip",
        f"{DAILY}x.csv",
    ],
)
def test_an_absent_key(client: Client, key: str) -> None:
    answer = client.get(key)
    assert answer.status_code == 404
    assert "<Code>NoSuchKey</Code>" in answer.text
    assert (client.head(key).status_code, client.head(key).content) == (404, b"")


def test_the_bucket_itself(client: Client) -> None:
    assert client.session.head(client.sim.archive_url).status_code == 200
    assert "ap-northeast-1" in client.session.get(f"{client.sim.archive_url}?location").text


def test_years_are_listed_without_generating_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    get = BodyCache.get

    def noted(cache: BodyCache, key: Any, make: Callable[[], bytes]) -> bytes:
        made.append(key)
        return get(cache, key, make)

    monkeypatch.setattr(BodyCache, "get", noted)
    with Simulator(now=NOW) as sim:
        keys = Client(sim).listing(DAILY)
        assert made == []
        assert Client(sim).get(keys[0]).ok
        assert len(made) > 0


@pytest.mark.slow
def test_s5cmd_copies_and_lists(client: Client, tmp_path: Path) -> None:
    keys = [key for key in client.listing("data/spot/monthly/klines/ETHUSDT/1d/") if "2024" in key] + [
        "data/spot/absent.zip"
    ]
    script = tmp_path / "run.txt"
    script.write_text(
        "".join(
            f"cp --raw s3://data.binance.vision/{key} {tmp_path / key.rpartition('/')[2]}\n" for key in keys
        )
    )
    s5cmd = [
        str(Path(sys.executable).parent / "s5cmd"),
        "--no-sign-request",
        "--endpoint-url",
        client.sim.url,
        "--json",
    ]
    run = subprocess.run(
        [*s5cmd, "run", str(script)], capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode != 0
    assert sum(json.loads(line)["success"] for line in run.stdout.splitlines()) == 24
    assert "404" in run.stderr or "NoSuchKey" in run.stderr
    for key in keys[:-1]:
        assert (tmp_path / key.rpartition("/")[2]).read_bytes() == client.get(key).content
    run = subprocess.run(
        [*s5cmd, "ls", f"s3://data.binance.vision/{DAILY}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert [json.loads(line)["key"].rpartition("/")[2] for line in run.stdout.splitlines()] == [
        key.rpartition("/")[2] for key in client.listing(DAILY)
    ]


def test_obstore_lists_and_reads(client: Client) -> None:
    store = S3Store(
        "data.binance.vision",
        endpoint=client.sim.url,
        region="ap-northeast-1",
        skip_signature=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    keys = client.listing(DAILY)
    assert [item["path"] for page in obstore.list(store, DAILY) for item in page] == keys
    assert [item["path"] for page in obstore.list(store, DAILY, offset=keys[2000]) for item in page] == keys[
        2001:
    ]
    folders = obstore.list_with_delimiter(store, "data/futures/um/monthly/klines")["common_prefixes"]
    assert [folder.rpartition("/")[2] for folder in folders] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    body = bytes(obstore.get(store, KEY).bytes())
    assert sha256(body).hexdigest() == client.digest(KEY)
    facts = obstore.head(store, KEY)
    assert (facts["size"], facts["e_tag"]) == (len(body), client.head(KEY).headers["ETag"])
    assert bytes(obstore.get_range(store, KEY, start=5, length=20)) == body[5:25]
    with pytest.raises(FileNotFoundError):
        obstore.head(store, f"{DAILY}absent.zip")


def test_requests_are_logged_until_forgotten(own_client: Client) -> None:
    own_client.head(KEY)
    own_client.get(KEY)
    assert own_client.sim.requests == [
        ("HEAD", f"/data.binance.vision/{KEY}"),
        ("GET", f"/data.binance.vision/{KEY}"),
    ]
    own_client.sim.reset_requests()
    assert own_client.sim.requests == []


def test_a_stopped_exchange_answers_nobody() -> None:
    sim = Simulator(now=NOW).start()
    client = Client(sim)
    client.head(KEY)
    sim.stop()
    with pytest.raises(requests.ConnectionError):
        client.head(KEY)
