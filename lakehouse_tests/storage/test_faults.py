"""A lake on S3 whose endpoint is away, slow, or refuses: what passes by itself does, what cannot is said at
once, and nothing is lost.
"""

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.errors import (
    BucketMissingError,
    BucketRegionError,
    LakehouseError,
    RootNotWritableError,
    StoreCredentialsError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
)
from lakehouse.model.result import CellResult
from lakehouse.query.lake import Lake
from lakehouse.storage import bucket
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, FEBRUARY, candles, minutes
from lakehouse_tests.storage.fault_proxy import (
    DROP,
    Fault,
    FaultProxy,
    cut,
    denied,
    dropped,
    expired,
    no_bucket,
    redirected,
    signed_for,
    slow_down,
    unknown_key,
)

pytestmark = pytest.mark.slow

ROWS = 50
READS: dict[str, Callable[[Lake], Any]] = {
    "candles": lambda lake: lake.candles(BTC, "2024-02-01", "2024-02-02").height,
    "candles resampled": lambda lake: lake.candles(BTC, "2024-02-01", "2024-02-02", "1h")[
        "candle_count"
    ].sum(),
    "scan": lambda lake: lake.collect(lake.scan("silver/candle")).height,
    "sql": lambda lake: lake.sql("SELECT count(open) FROM silver.candle").item(),
}
REFUSALS = {
    "expired": (
        expired(),
        StoreCredentialsError,
        r"ExpiredToken: The provided token has expired\. Renew the AWS credentials",
    ),
    "unknown key": (
        unknown_key(),
        StoreCredentialsError,
        r"InvalidAccessKeyId: .+\. Renew the AWS credentials",
    ),
    "denied": (
        denied(),
        StoreDeniedError,
        r"AccessDenied.*\. Grant these credentials s3:\w+ on arn:aws:s3:::lake",
    ),
    "no bucket": (
        no_bucket(),
        BucketMissingError,
        r"there is no bucket lake\. Create it, or correct LAKEHOUSE_ROOT",
    ),
    "redirected": (
        redirected("eu-west-1"),
        BucketRegionError,
        r"lies in eu-west-1\. Set AWS_REGION to eu-west-1",
    ),
    "signed for another region": (
        signed_for("us-east-1", "eu-west-1"),
        BucketRegionError,
        r"lies in eu-west-1\. Set AWS_REGION to eu-west-1",
    ),
}


@pytest.fixture
def objects(proxy: FaultProxy) -> LakeObjects:
    """A lake there that holds an object."""
    opened = LakeObjects("s3://lake/some")
    opened.put("silver/a", b"0123456789")
    return opened


@pytest.fixture
def lake(proxy: FaultProxy) -> Lake:
    """A lake there that holds a cell."""
    opened = Lake("s3://lake/some")
    TableStore(opened.objects).put(Candle, FEBRUARY, CellResult(candles(minutes("2024-02-01", ROWS)), {}))
    return opened


TAG = f'"{hashlib.md5(b"0123456789", usedforsecurity=False).hexdigest()}"'
WORK: dict[str, Callable[[LakeObjects], Any]] = {
    "reading": lambda objects: objects.get("silver/a"),
    "reading a range": lambda objects: objects.get_of("silver/a", TAG, 7, 10),
    "writing": lambda objects: objects.put("silver/b", b"new"),
    "replacing": lambda objects: objects.update(
        "silver/a", lambda body, tag: objects.put("silver/a", body or b"", tag) and None
    ),
    "deleting": lambda objects: objects.delete("silver/absent"),
    "listing": lambda objects: [
        (found.path, found.size) for found in objects.list("silver") if found.path == "silver/a"
    ],
}


# --- what passes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [slow_down(times=1), pytest.param(dropped(times=2), marks=pytest.mark.slow), cut(times=1)],
    ids=["SlowDown", "dropped", "cut"],
)
def test_what_passes_is_waited_for(proxy: FaultProxy, objects: LakeObjects, fault: Fault) -> None:
    for name, work in WORK.items():
        expected = work(objects)
        fault.answered = 0
        with proxy.saying(fault):
            assert work(objects) == expected, name
        assert fault.answered == fault.times or (fault.methods and name in ("writing", "deleting")), name
    assert objects.get("silver/a") == b"0123456789"


def test_an_outage_is_waited_for(proxy: FaultProxy, objects: LakeObjects) -> None:
    proxy.down()
    back = threading.Timer(0.8, proxy.up)
    back.start()
    assert objects.put("silver/b", b"written meanwhile")
    back.join()
    assert objects.get("silver/b") == b"written meanwhile"


@pytest.mark.slow
def test_slow_answers_are_answers(proxy: FaultProxy, lake: Lake) -> None:
    proxy.delay = 0.3
    assert {name: read(lake) for name, read in READS.items()} == dict.fromkeys(READS, ROWS)


@pytest.mark.slow
def test_an_outage_that_does_not_end_is_said(
    proxy: FaultProxy, objects: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bucket._RETRY, "retry_timeout", bucket.LONGEST_PAUSE / 10)
    opened = LakeObjects("s3://lake/some")
    proxy.down()
    for work in WORK.values():
        with pytest.raises(
            StoreUnreachableError, match=r"s3://lake/some/silver.* failed: .+\. Check the network"
        ):
            work(opened)
    proxy.up()
    with (
        proxy.saying(slow_down()),
        pytest.raises(StoreUnreachableError, match="SlowDown: Please reduce your request rate"),
    ):
        opened.get("silver/a")
    assert opened.get("silver/a") == b"0123456789"


# --- what does not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if case == "redirected" else case for case in REFUSALS],
)
def test_what_cannot_pass_is_said_at_the_first_answer(
    proxy: FaultProxy, objects: LakeObjects, case: str
) -> None:
    fault, kind, said = REFUSALS[case]
    for name, work in WORK.items():
        proxy.requests.clear()
        with proxy.saying(fault), pytest.raises(kind, match=rf"s3://lake/some/silver.* failed: .*{said}"):
            work(objects)
        assert len([method for method, _ in proxy.requests if method != "HEAD"]) == 1, name
    with (
        proxy.saying(fault),
        pytest.raises(
            RootNotWritableError, match=rf"at s3://lake/some cannot be opened or written: .*{said}"
        ),
    ):
        objects.check_writable()
    assert objects.get("silver/a") == b"0123456789"
    objects.check_writable()


@pytest.mark.parametrize(
    "case",
    [
        case if case in ("expired", "no bucket") else pytest.param(case, marks=pytest.mark.slow)
        for case in REFUSALS
    ],
)
def test_readers_are_told_and_never_get_fewer_rows(proxy: FaultProxy, lake: Lake, case: str) -> None:
    fault, kind, said = REFUSALS[case]
    for name, read in READS.items():
        with proxy.saying(fault), pytest.raises(kind, match=said):
            read(lake)
        assert read(lake) == ROWS, name


@pytest.mark.slow
@pytest.mark.parametrize("name", READS)
def test_objects_that_may_be_listed_and_not_read_are_an_error(
    proxy: FaultProxy, lake: Lake, name: str
) -> None:
    """Polars and DuckDB read them by themselves; the ledger is cached and has nothing to ask."""
    assert READS[name](lake) == ROWS
    with (
        proxy.saying(
            denied("some/silver/candle/exchange=binance/market_type=spot/symbol=BTCUSDT/month", "GET", "HEAD")
        ),
        pytest.raises(
            StoreDeniedError,
            match=r"silver/candle/.+parquet failed: .*Grant these credentials s3:GetObject on arn:aws:s3:::lake/some/\*",
        ),
    ):
        READS[name](lake)


def test_each_permission_that_is_missing_is_named(proxy: FaultProxy, objects: LakeObjects) -> None:
    named = {
        "reading": "s3:GetObject",
        "writing": "s3:PutObject",
        "deleting": "s3:DeleteObject",
        "listing": "s3:ListBucket",
    }
    with proxy.saying(denied("some/silver")):
        for doing, permission in named.items():
            with pytest.raises(
                StoreDeniedError, match=f"{doing} s3://lake/some/silver.*{permission} on arn:aws:s3:::lake"
            ):
                WORK[doing](objects)
        assert objects.put("bronze/a", b"elsewhere")
    objects.put("silver/a", b"granted")


def test_who_may_only_read_reads(proxy: FaultProxy, lake: Lake) -> None:
    with proxy.saying(denied("", "PUT", "DELETE")):
        assert {name: read(lake) for name, read in READS.items()} == dict.fromkeys(READS, ROWS)
    assert not list(lake.objects.list("ledger"))


def test_absent_credentials_are_said_without_a_request(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(
        StoreCredentialsError,
        match=r"s3://lake/some failed: NoCredentials: none were found\. Renew the AWS credentials",
    ):
        LakeObjects("s3://lake/some").get("silver/a")
    assert proxy.requests == []


def test_credentials_of_a_profile_are_found(
    proxy: FaultProxy, objects: LakeObjects, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    found = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    for name in found:
        monkeypatch.delenv(name)
    lines = [f"{name.lower()} = {value}" for name, value in found.items()]
    (tmp_path / "credentials").write_text("\n".join(["[analyst]", *lines, ""]))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "analyst")
    assert LakeObjects("s3://lake/some").get("silver/a") == b"0123456789"


# --- nothing is lost ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [expired(), denied("", "PUT"), Fault(DROP, "", methods=("PUT",))],
    ids=["expired", "denied", "dropped"],
)
def test_a_cell_that_could_not_be_replaced_stands_as_it_was(
    proxy: FaultProxy, lake: Lake, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bucket._RETRY, "retry_timeout", bucket.LONGEST_PAUSE / 10)
    before = ledger(lake.objects, Candle)[FEBRUARY].version
    store, more = (
        TableStore(LakeObjects("s3://lake/some")),
        CellResult(candles(minutes("2024-02-01", 2 * ROWS)), {}),
    )
    with proxy.saying(fault), pytest.raises(StoreError):
        store.put(Candle, FEBRUARY, more)
    assert ledger(lake.objects, Candle)[FEBRUARY].version == before
    assert {name: read(lake) for name, read in READS.items()} == dict.fromkeys(READS, ROWS)
    store.put(Candle, FEBRUARY, more)
    assert {name: read(lake) for name, read in READS.items()} == dict.fromkeys(READS, 2 * ROWS)


@pytest.mark.if_match
def test_a_write_whose_answer_was_lost_is_not_made_twice(proxy: FaultProxy, objects: LakeObjects) -> None:
    """The first try arrives and its answer does not; the second finds the object changed, and the change is
    made from what is there.
    """
    seen: list[bytes | None] = []

    def add(body: bytes | None, tag: str | None) -> None:
        seen.append(body)
        if body != b"0123456789+":
            objects.put("silver/a", b"0123456789+", tag)

    assert objects.guards_by_etag()
    with proxy.saying(Fault(DROP, "", methods=("PUT",), times=1, after=True)):
        objects.update("silver/a", add)
    assert seen == [b"0123456789", b"0123456789+"]
    assert objects.get("silver/a") == b"0123456789+"


def test_the_time_a_store_may_be_away_is_longer_than_a_minute() -> None:
    assert bucket.PATIENCE.total_seconds() > 60 + 2 * bucket.LONGEST_PAUSE.total_seconds()
    assert issubclass(StoreError, LakehouseError)
