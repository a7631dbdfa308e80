"""Two writers of one object on S3: kept apart by its etag, and by locks in a store that ignores what etag a
writer names.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from lakehouse.model.errors import (
    StoreDeniedError,
    StoreError,
    StoreListingError,
    StoreLockedError,
    StoreUnreachableError,
)
from lakehouse.storage import bucket, guarding
from lakehouse.storage.aws import aws_client
from lakehouse.storage.guarding import LOCKS, ChangedMeanwhileError
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.storage.fault_proxy import Fault, FaultProxy, denied, slow_down
from lakehouse_tests.storage.swift import IS_STORE

pytestmark = pytest.mark.slow
ROOT, PATH = "s3://lake/some", "bronze/candle_archive/data.parquet"
LOCK = f"{LOCKS}/{PATH.replace('/', '+')}"
# Swift knows no such header where something is written, and by the signature it would miss one that is lost
IGNORED = set() if IS_STORE else {"if-match"}
STORES: dict[str, Fault | None] = {
    "ignores it in silence": None,
    "says that it does not know it": Fault(501, "NotImplemented", with_header="if-match"),
    "refuses the header": Fault(400, "InvalidRequest", with_header="if-match"),
    "refuses every such write": Fault(412, "PreconditionFailed", with_header="if-match", methods=("PUT",)),
}


@pytest.fixture(params=STORES)
def unguarded(request: pytest.FixtureRequest, proxy: FaultProxy) -> LakeObjects:
    """A lake in a store that does not keep two writers apart."""
    fault = STORES[request.param]
    if fault is None:
        proxy.loses = IGNORED
    else:
        proxy.faults = [fault]
    return LakeObjects(ROOT)


@pytest.fixture
def ignoring(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> LakeObjects:
    """A lake in a store that ignores etags of writers, in which nobody waits for long."""
    proxy.loses = IGNORED
    monkeypatch.setattr(guarding, "WAIT", timedelta(seconds=0.3))
    return LakeObjects(ROOT)


def add(objects: LakeObjects, text: bytes) -> None:
    objects.update(PATH, lambda body, tag: objects.put(PATH, (body or b"") + text, tag) and None)


def locks(objects: LakeObjects) -> list[str]:
    return [found.path for found in objects.list(LOCKS)]


# --- what a store does ----------------------------------------------------------------------------


@pytest.mark.if_match
def test_a_store_that_compares_etags_is_asked_once_and_trusted(proxy: FaultProxy) -> None:
    objects = LakeObjects(ROOT)
    for text in (b"a", b"b", b"c"):
        add(objects, text)
    assert objects.get(PATH) == b"abc"
    asked = [method for method, key in proxy.requests if "/ledger/.guard-" in key]
    assert sorted(asked) == ["DELETE", "PUT", "PUT", "PUT"]
    assert not any("/ledger/locks/" in key for _, key in proxy.requests)
    assert not list(objects.list("ledger"))


def test_a_store_that_does_not_keep_writers_apart_is_found_out(
    unguarded: LakeObjects, proxy: FaultProxy
) -> None:
    assert not unguarded.guards_by_etag()
    for text in (b"a", b"b", b"c"):
        add(unguarded, text)
    assert unguarded.get(PATH) == b"abc"
    assert len({key for _, key in proxy.requests if "/ledger/.guard-" in key}) == 1, "asked once"
    assert not list(unguarded.list("ledger"))


@pytest.mark.if_match
def test_an_answer_that_is_lost_makes_no_store_one_that_refuses(proxy: FaultProxy) -> None:
    """The write arrives and its answer does not; made again, it finds the object changed by itself."""
    lost = Fault(0, "", methods=("PUT",), with_header="if-match", after=True, every=2, times=1)
    with proxy.saying(lost):
        assert LakeObjects(ROOT).guards_by_etag()
    assert lost.answered == 1


@pytest.mark.if_match
def test_an_outage_says_nothing_of_what_a_store_can_do(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "BRIEF", timedelta(seconds=0.1))
    busy = slow_down(times=6)
    with proxy.saying(busy):
        assert LakeObjects(ROOT).guards_by_etag()
    assert busy.answered == 6
    for fault, kind in ((denied(), StoreDeniedError), (slow_down(), StoreUnreachableError)):
        monkeypatch.setitem(bucket._RETRY, "retry_timeout", timedelta(seconds=0.2))
        objects = LakeObjects(ROOT)
        with proxy.saying(fault), pytest.raises(kind):
            objects.guards_by_etag()
        assert objects.guards_by_etag(), "asked again once it answers"


# --- two writers ----------------------------------------------------------------------------------


def test_many_writers_lose_nothing_where_the_store_guards_nothing(
    ignoring: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarding, "WAIT", timedelta(seconds=60))
    writers = [LakeObjects(ROOT) for _ in range(4)]
    texts = [f"{writer}{n} ".encode() for writer in range(4) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(add, writers[int(text[:1])], text) for text in texts]:
            done.result()
    assert sorted((ignoring.get(PATH) or b"").split()) == sorted(text.strip() for text in texts)
    assert locks(ignoring) == []


@pytest.mark.if_match
def test_without_its_lock_the_same_store_loses_what_the_other_one_wrote(ignoring: LakeObjects) -> None:
    """What the lock is for: the store takes the second write for the first one's successor."""
    ignoring._guards = True  # as the header alone would have it
    add(ignoring, b"a")

    def change(body: bytes | None, tag: str | None) -> None:
        other = LakeObjects(ROOT)
        other.put(PATH, b"theirs")
        ignoring.put(PATH, (body or b"") + b"b", tag)

    ignoring.update(PATH, change)
    assert ignoring.get(PATH) == b"ab"


def test_a_second_writer_is_refused_with_the_reason_and_the_first_one_ends(ignoring: LakeObjects) -> None:
    add(ignoring, b"a")

    def change(body: bytes | None, tag: str | None) -> None:
        with pytest.raises(StoreLockedError) as refused:
            add(LakeObjects(ROOT), b"theirs")
        said = str(refused.value)
        assert f"locking {ROOT}/{PATH} failed: process " in said
        assert "this store replaces an object whatever it was told to expect (If-Match)" in said
        assert f"{ROOT}/{LOCK}/" in said
        assert not refused.value.everywhere, "the next cell may be free"
        ignoring.put(PATH, (body or b"") + b"b", tag)

    ignoring.update(PATH, change)
    assert ignoring.get(PATH) == b"ab"
    add(LakeObjects(ROOT), b"c")
    assert ignoring.get(PATH) == b"abc"
    assert locks(ignoring) == []


def test_writers_of_two_objects_do_not_meet(ignoring: LakeObjects) -> None:
    def change(body: bytes | None, tag: str | None) -> None:
        add(LakeObjects(ROOT), b"here")

    ignoring.update("bronze/candle_api/data.parquet", change)
    assert ignoring.get(PATH) == b"here"


def test_a_change_that_fails_lets_go(ignoring: LakeObjects) -> None:
    def change(body: bytes | None, tag: str | None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ignoring.update(PATH, change)
    assert locks(ignoring) == []
    assert ignoring._leases == {}


# --- writers that never end -----------------------------------------------------------------------


def test_the_lock_of_a_writer_that_was_killed_is_void_after_its_lease(
    ignoring: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignoring.put(f"{LOCK}/of-one-that-was-killed", b"cut of")
    with pytest.raises(StoreLockedError, match="another process is changing it since 20"):
        add(ignoring, b"a")
    assert locks(ignoring) == [f"{LOCK}/of-one-that-was-killed"]
    monkeypatch.setattr(guarding, "LEASE", timedelta(seconds=-1))
    monkeypatch.setattr(guarding, "ENOUGH", timedelta(seconds=-60))
    add(ignoring, b"a")
    assert ignoring.get(PATH) == b"a"
    assert locks(ignoring) == []


def test_who_is_late_with_a_write_does_not_write_but_begins_anew(ignoring: LakeObjects) -> None:
    add(ignoring, b"a")
    seen: list[bytes | None] = []

    def change(body: bytes | None, tag: str | None) -> None:
        if not seen:  # as long in the making as a lease lasts; another writer was let in meanwhile
            ignoring._leases[PATH] = 0.0
            aws_client("s3").put_object(Bucket="lake", Key=f"some/{PATH}", Body=b"theirs")
        seen.append(body)
        ignoring.put(PATH, (body or b"") + b"b", tag)

    ignoring.update(PATH, change)
    assert seen == [b"a", b"theirs"]
    assert ignoring.get(PATH) == b"theirsb"


def test_a_store_whose_listing_is_behind_takes_no_writer(ignoring: LakeObjects, proxy: FaultProxy) -> None:
    said = {"Name": "lake", "KeyCount": "0", "MaxKeys": "1000", "IsTruncated": "false"}
    within = "".join(f"<{name}>{value}</{name}>" for name, value in said.items())
    nothing = f"<ListBucketResult>{within}</ListBucketResult>"
    behind = Fault(200, "", below="some/ledger/locks", methods=("GET",), within=nothing)
    with proxy.saying(behind), pytest.raises(StoreListingError, match="does not have the lock that was just"):
        add(ignoring, b"a")
    assert behind.answered
    assert locks(ignoring) == []
    add(ignoring, b"a")
    assert ignoring.get(PATH) == b"a"


def test_errors_of_two_writers_are_errors_of_the_store() -> None:
    assert issubclass(StoreLockedError, StoreError)
    assert issubclass(StoreListingError, StoreError)
    assert not issubclass(ChangedMeanwhileError, StoreError), "it is an answer, not a failure"
