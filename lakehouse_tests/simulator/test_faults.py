"""Every fault, and that it leaves the rest alone."""

import io
import time
import zipfile
import zlib
from datetime import timedelta
from hashlib import sha256

import polars as pl
import pytest
import requests

from lakehouse.model.errors import UsageError
from lakehouse.simulator import FAULTS, Fault, Simulator, UnknownFaultError
from lakehouse.simulator.faults import REST_FAULTS

from .conftest import NOW, Client, kline_key

pytestmark = pytest.mark.slow

MONTH = kline_key("spot", "monthly", "ETHUSDT", "1h", "2024-02")
MINUTES = kline_key("spot", "monthly", "ETHUSDT", "1m", "2024-02")
DAY = kline_key("spot", "daily", "ETHUSDT", "1m", "2024-02-10")
OTHER = kline_key("spot", "daily", "ETHUSDT", "1m", "2024-02-11")


def daily(date: str) -> str:
    return kline_key("spot", "daily", "ETHUSDT", "1m", date)


def test_an_unknown_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownFaultError, match=r"rotten.*stale_checksum.*reupload"):
        Simulator(faults=["rotten"])
    assert issubclass(UnknownFaultError, UsageError)
    assert [str(Fault.parse(text)) for text in ("slow", "slow=*x[0-9]=*")] == ["slow", "slow=*x[0-9]=*"]


@pytest.mark.parametrize("name", sorted(set(FAULTS) - REST_FAULTS))
def test_without_a_pattern_about_one_in_six_minute_files_is_hit(client: Client, name: str) -> None:
    frequency = "daily" if name == "daily_absent" else "monthly"
    keys = [
        key
        for symbol in (["XYZUSDT"] if frequency == "daily" else ["BTCUSDT", "ETHUSDT", "ADABTC"])
        for key in client.listing(f"data/spot/{frequency}/klines/{symbol}/")
    ]
    if is_of_funding := name.startswith("funding_"):
        symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
        keys = [key for s in symbols for key in client.listing(f"data/futures/um/monthly/fundingRate/{s}/")]
    fault = Fault(name)
    hit = [key for key in keys if fault.matches(key)]
    minutes = [key for key in keys if (is_of_funding or "/1m/" in key) and key.endswith(".zip")]
    assert len(minutes) / 12 < len(hit) < len(minutes) / 3.5
    assert set(hit) <= set(minutes)
    assert Fault(name, "*").matches(keys[0])


def test_stale_checksum(own_client: Client) -> None:
    own_client.sim.add_fault(f"stale_checksum={DAY}")
    assert own_client.digest(DAY) != sha256(own_client.get(DAY).content).hexdigest()
    assert own_client.rows(OTHER).height == 1440
    assert own_client.sim.faults_hit == {"stale_checksum": [f"{DAY}.CHECKSUM"]}


def test_damaged_zip(own_client: Client) -> None:
    whole = own_client.get(DAY)
    own_client.sim.add_fault(f"damaged_zip={DAY}")
    damaged = own_client.get(DAY)
    assert sha256(damaged.content).hexdigest() == own_client.digest(DAY)
    assert len(damaged.content) == len(whole.content)
    assert damaged.headers["ETag"] != whole.headers["ETag"]
    with (
        zipfile.ZipFile(io.BytesIO(damaged.content)) as archive,
        pytest.raises((zipfile.BadZipFile, zlib.error)),
    ):
        archive.read(archive.namelist()[0])


def test_cut_transfer(own_client: Client) -> None:
    own_client.sim.add_fault(f"cut_transfer={DAY}")
    assert own_client.head(DAY).status_code == 200
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        own_client.get(DAY)
    assert own_client.rows(DAY).height == 1440
    assert own_client.sim.faults_hit == {"cut_transfer": [DAY]}


def test_error_503(own_client: Client) -> None:
    own_client.sim.add_fault(f"error_503={DAY}")
    answers = [own_client.get(DAY) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert "<Code>SlowDown</Code>" in answers[0].text
    assert own_client.get(OTHER).status_code == 200


def test_unavailable(own_client: Client) -> None:
    own_client.sim.add_fault("unavailable=*.CHECKSUM")
    assert [own_client.get(f"{DAY}.CHECKSUM").status_code for _ in range(4)] == [503] * 4
    assert own_client.head(f"{DAY}.CHECKSUM").status_code == 503
    assert own_client.get(DAY).status_code == 200


@pytest.mark.parametrize(
    ("name", "key", "gone"),
    [
        ("monthly_absent", MONTH, [MONTH, f"{MONTH}.CHECKSUM"]),
        ("daily_absent", DAY, [DAY, f"{DAY}.CHECKSUM"]),
        ("checksum_absent", DAY, [f"{DAY}.CHECKSUM"]),
        ("zip_absent", DAY, [DAY]),
    ],
)
def test_absences(own_client: Client, name: str, key: str, gone: list[str]) -> None:
    folder = key.rpartition("/")[0] + "/"
    before = own_client.listing(folder)
    own_client.sim.add_fault(f"{name}={key}")
    assert sorted(set(before) - set(own_client.listing(folder))) == gone
    assert [own_client.get(item).status_code for item in gone] == [404] * len(gone)
    assert own_client.sim.faults_hit == {name: gone}


def test_monthly_absent_spares_the_dailies(own_client: Client) -> None:
    own_client.sim.add_fault("monthly_absent=*")
    assert own_client.listing("data/spot/monthly/klines/") == []
    assert own_client.listing("data/spot/", delimiter="/") == ["data/spot/daily/"]
    assert own_client.get(DAY).status_code == 200


def test_day_absent(own_client: Client) -> None:
    whole = own_client.rows(MINUTES)
    own_client.sim.add_fault("day_absent=*spot/monthly/*ETHUSDT-1m-2024-02*")
    lacking = own_client.rows(MINUTES)
    gone = whole.join(lacking, on="open_time", how="anti")
    assert (gone.height, lacking.height) == (1440, whole.height - 1440)
    day = (
        gone.select(pl.from_epoch("open_time", "ms").dt.date().cast(pl.String).unique()).to_series().to_list()
    )
    assert own_client.rows(daily(day[0])).equals(gone)


def test_duplicated_rows(own_client: Client) -> None:
    whole = own_client.rows(MONTH)
    own_client.sim.add_fault(f"duplicated_rows={MONTH}")
    doubled = own_client.rows(MONTH)
    assert doubled.height > whole.height
    assert doubled.unique(maintain_order=True).equals(whole)


def test_conflicting_rows(own_client: Client) -> None:
    whole = own_client.rows(MONTH)
    own_client.sim.add_fault(f"conflicting_rows={MONTH}")
    twice = own_client.rows(MONTH).filter(pl.col("open_time").is_duplicated())
    assert twice.height == twice.unique().height == 6
    assert twice["open_time"].n_unique() == 3
    assert twice.join(whole, on=twice.columns, how="semi").height == 3
    assert twice.select(pl.col("close").is_between(pl.col("low"), pl.col("high"))).to_series().all()


def test_reupload(own_client: Client) -> None:
    before, rows, digest = own_client.head(DAY), own_client.rows(DAY), own_client.digest(DAY)
    own_client.sim.add_fault(f"reupload={DAY}")
    after = own_client.head(DAY)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert after.headers["Last-Modified"] != before.headers["Last-Modified"]
    assert own_client.digest(DAY) != digest
    changed = own_client.rows(DAY).join(rows, on=rows.columns, how="anti")
    assert changed.height == 1
    assert changed.drop("close").join(rows, on=changed.drop("close").columns, how="semi").height == 1


def test_faults_combine_and_are_lifted(own_client: Client) -> None:
    whole = own_client.rows(MONTH)
    for name in ("day_absent", "duplicated_rows", "conflicting_rows", "reupload"):
        own_client.sim.add_fault(f"{name}=*ETHUSDT-1h-2024-02*")
    rows = own_client.rows(MONTH)
    assert rows["open_time"].n_unique() == whole.height - 24
    assert rows.height == whole.height - 24 + 5 + 3
    assert set(own_client.sim.faults_hit) == {"day_absent", "duplicated_rows", "conflicting_rows", "reupload"}
    own_client.sim.clear_faults()
    assert own_client.rows(MONTH).equals(whole)


def test_interleaved_rows(own_client: Client) -> None:
    whole = own_client.rows(MONTH)
    own_client.sim.add_fault(f"interleaved_rows={MONTH}")
    mixed = own_client.rows(MONTH)
    assert mixed["open_time"].to_list() != whole["open_time"].to_list()
    assert pl.concat([mixed[::2], mixed[1::2]]).equals(whole)
    assert own_client.rows(DAY)["open_time"].is_sorted()


def test_lagging_listing(own_client: Client) -> None:
    folder = DAY.rpartition("/")[0] + "/"
    before, months = own_client.listing(folder), own_client.listing("data/spot/monthly/klines/ETHUSDT/1m/")
    own_client.sim.add_fault("lagging_listing=*ETHUSDT*")
    hidden = sorted(set(before) - set(own_client.listing(folder, version=2)))
    assert hidden == [
        f"{daily(day)}{end}"
        for day in ("2025-03-07", "2025-03-08", "2025-03-09")
        for end in ("", ".CHECKSUM")
    ]
    assert own_client.sim.faults_hit == {"lagging_listing": hidden}
    assert [own_client.head(key).status_code for key in hidden] == [200] * 6
    assert own_client.listing("data/spot/monthly/klines/ETHUSDT/1m/") == months
    assert f"{daily('2025-03-09').replace('ETH', 'BTC')}" in own_client.listing(
        "data/spot/daily/klines/BTCUSDT/1m/"
    )
    own_client.sim.advance(timedelta(days=22))
    assert own_client.listing("data/spot/monthly/klines/ETHUSDT/1m/") == months
    assert own_client.head(kline_key("spot", "monthly", "ETHUSDT", "1m", "2025-03")).status_code == 200
    own_client.sim.advance(timedelta(days=3))
    assert own_client.listing("data/spot/monthly/klines/ETHUSDT/1m/")[:-2] == months


def test_rest_forgotten(own_client: Client) -> None:
    own_client.sim.add_fault("rest_forgotten=*spot*/ETHUSDT/*")
    asked = {
        api: own_client.session.get(f"{own_client.sim.url}/{api}/klines?symbol=ETHUSDT&interval=1m&limit=1")
        for api in ("api/v3", "fapi/v1")
    }
    assert (asked["api/v3"].status_code, asked["api/v3"].json()["code"]) == (400, -1121)
    assert asked["fapi/v1"].status_code == 200
    listed = [
        market["symbol"]
        for market in own_client.session.get(f"{own_client.sim.url}/api/v3/exchangeInfo").json()["symbols"]
    ]
    assert listed == ["BTCUSDT", "SOLUSDT", "ADABTC"]
    assert own_client.rows(DAY).height == 1440
    assert own_client.sim.faults_hit == {
        "rest_forgotten": [kline_key("spot", "monthly", "ETHUSDT", "1m", "2021-01")]
    }


def test_error_429(own_client: Client) -> None:
    own_client.sim.add_fault("error_429")
    url = f"{own_client.sim.url}/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1"
    answers = [own_client.session.get(url) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert (answers[0].headers["Retry-After"], answers[0].json()["code"]) == ("1", -1003)


@pytest.mark.parametrize(
    ("fault", "statuses", "code"),
    [
        ("error_418", [418] * 4, -1003),
        ("error_403", [403] * 4, None),
        ("error_451", [451] * 4, 0),
        ("rest_503", [503, 503, 200, 200], -1001),
        ("body_error", [200] * 4, -1003),
        ("rest_unavailable", [503] * 4, -1001),
    ],
)
def test_faults_of_the_rest_api(
    own_client: Client, fault: str, statuses: list[int], code: int | None
) -> None:
    own_client.sim.add_fault(fault)
    answers = [
        own_client.session.get(f"{own_client.sim.url}/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1")
        for _ in range(4)
    ]
    assert [answer.status_code for answer in answers] == statuses
    assert code is None or answers[0].json()["code"] == code
    assert ("Retry-After" in answers[0].headers) == (fault == "error_418")
    whole = own_client.session.get(f"{own_client.sim.url}/fapi/v1/time").status_code
    assert whole == (503 if fault == "rest_unavailable" else 200)
    assert own_client.get(DAY).status_code == 200
    last = answers[3].json() if fault in ("rest_503", "body_error") else []
    assert len(last) == (1 if fault in ("rest_503", "body_error") else 0)


def test_clock_skew(own_client: Client) -> None:
    own_client.sim.add_fault("clock_skew")
    ahead = int((NOW + timedelta(hours=1)).timestamp()) * 1000
    assert own_client.session.get(f"{own_client.sim.url}/api/v3/time").json() == {"serverTime": ahead}
    assert (
        own_client.klines("api/v3", symbol="BTCUSDT", interval="1m", limit=1)["open_time"][0]
        == ahead // 60_000 * 60_000
    )


def test_slow(own_client: Client) -> None:
    own_client.sim.add_fault(f"slow={DAY}")
    begun = time.perf_counter()
    own_client.head(DAY)
    assert time.perf_counter() - begun > 0.15


def test_the_same_faults_show_the_same_bytes_in_every_run() -> None:
    bodies = []
    for _ in range(2):
        with Simulator(now=NOW, faults=["day_absent=*", "conflicting_rows=*", "damaged_zip=*"]) as sim:
            bodies.append(Client(sim).get(MONTH).content)
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("fault", ["stale", "stale_at_first"])
def test_a_cache_lists_what_is_new_and_serves_what_was(own_client: Client, fault: str) -> None:
    old = {key: own_client.get(key) for key in (DAY, f"{DAY}.CHECKSUM")}
    own_client.sim.add_fault(f"{fault}={DAY}")
    held = own_client.get(DAY)
    assert own_client.head(DAY).headers["ETag"] == old[DAY].headers["ETag"] == held.headers["ETag"]
    assert (held.content, held.headers["Last-Modified"]) == (
        old[DAY].content,
        old[DAY].headers["Last-Modified"],
    )
    new = own_client.get(f"{DAY}.CHECKSUM")
    assert new.headers["ETag"] != old[f"{DAY}.CHECKSUM"].headers["ETag"], "only the zip is held back"
    assert (own_client.get(DAY).content == held.content, own_client.get(DAY).content == held.content) == (
        True,
        fault == "stale",
    )
    assert own_client.sim.faults_hit[fault] == [DAY]
    own_client.sim.clear_faults()
    own_client.sim.add_fault(f"reupload={DAY}")
    assert own_client.get(DAY).headers["ETag"] != held.headers["ETag"]
    assert sha256(own_client.get(DAY).content).hexdigest() == new.text.split()[0], (
        "what is listed is the re-upload"
    )


def test_a_cache_may_hold_a_checksum_alone(own_client: Client) -> None:
    old = own_client.get(f"{DAY}.CHECKSUM")
    own_client.sim.add_fault(f"stale={DAY}.CHECKSUM")
    assert own_client.get(f"{DAY}.CHECKSUM").content == old.content
    assert sha256(own_client.get(DAY).content).hexdigest() != own_client.digest(DAY)
    assert own_client.rows(OTHER).height == 1440
