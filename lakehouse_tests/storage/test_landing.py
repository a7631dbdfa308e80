"""Archive files as fetched: their receipts never change, and bytes nobody published are not kept."""

import dataclasses
from datetime import timedelta

import pytest

from lakehouse.storage.landing import Landing, Receipt
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.making import NOW

KEY = "data/spot/daily/klines/币安%USDT/1m/币安%USDT-1m-2024-02-05.zip"
RECEIPT = Receipt(KEY, "http://x/y", "etag:3:etag", "aa", "aa  name\n", NOW, NOW, "ok")


@pytest.fixture
def landing(objects: LakeObjects) -> Landing:
    return Landing(objects, "binance")


def later(receipt: Receipt, hours: int = 1, **changes: str) -> Receipt:
    return dataclasses.replace(receipt, fetched_at=NOW + timedelta(hours=hours), **changes)  # type: ignore[arg-type]


def find(landing: Landing, state: str = RECEIPT.state) -> Receipt | None:
    return landing.find(landing.receipts(KEY.rsplit("/", 1)[0]).get(KEY, []), state)


def count(landing: Landing) -> int:
    return sum(len(paths) for paths in landing.receipts("data").values())


def test_a_file_comes_back_with_its_receipt(landing: Landing) -> None:
    assert find(landing) is None
    assert landing.admit(RECEIPT, b"zip") == RECEIPT
    assert find(landing) == RECEIPT
    assert landing.body(RECEIPT) == b"zip"
    assert list(landing.receipts("data")) == [KEY]
    assert landing.receipts("data/futures") == {}
    assert find(landing, "another state") is None


def test_a_receipt_that_says_the_same_already_stands(landing: Landing, objects: LakeObjects) -> None:
    landing.admit(RECEIPT, b"zip")
    before = {found.path: objects.get(found.path) for found in objects.list("landing")}
    assert landing.admit(later(RECEIPT), b"zip") == RECEIPT
    assert {found.path: objects.get(found.path) for found in objects.list("landing")} == before


def test_bytes_that_are_not_the_published_ones_are_not_kept(landing: Landing, objects: LakeObjects) -> None:
    mismatch = dataclasses.replace(RECEIPT, outcome="mismatch", message="sha256 differs")
    landing.admit(mismatch, b"zip")
    assert [found.path.rsplit(".", 1)[-1] for found in objects.list("landing")] == ["json"]
    assert (find(landing), landing.body(mismatch)) == (mismatch, None)


def test_published_bytes_that_are_unusable_are_kept(landing: Landing) -> None:
    corrupt = dataclasses.replace(RECEIPT, outcome="corrupt", message="damaged")
    landing.admit(corrupt, b"zip")
    assert (find(landing), landing.body(corrupt)) == (corrupt, b"zip")


def test_the_same_bytes_under_a_new_etag_get_a_receipt_of_their_own(landing: Landing) -> None:
    landing.admit(RECEIPT, b"zip")
    again = landing.admit(later(RECEIPT, state="new:3:new"), b"zip")
    assert (find(landing, "new:3:new"), find(landing), count(landing)) == (again, None, 2)


def test_a_new_version_lies_beside_the_old_one(landing: Landing) -> None:
    landing.admit(RECEIPT, b"zip")
    other = landing.admit(later(RECEIPT, state="new:4:new", sha256="bb"), b"zip2")
    assert (landing.body(RECEIPT), landing.body(other), count(landing)) == (b"zip", b"zip2", 2)


def test_a_version_that_comes_back_is_fetched_anew_and_says_when(landing: Landing) -> None:
    """Its rows are a statement of their own: with the first receipt's instant they would lose against the version in between."""
    landing.admit(RECEIPT, b"zip")
    landing.admit(later(RECEIPT, 1, state="new:4:new", sha256="bb"), b"zip2")
    assert find(landing) is None
    back = landing.admit(later(RECEIPT, 2), b"zip")
    assert back.fetched_at == NOW + timedelta(hours=2)
    assert (find(landing), count(landing)) == (back, 3)


def test_a_new_version_is_later_than_the_one_before_it_whatever_the_clock_says(landing: Landing) -> None:
    landing.admit(RECEIPT, b"zip")
    other = landing.admit(later(RECEIPT, -5, state="new:4:new", sha256="bb"), b"zip2")
    assert other.fetched_at > RECEIPT.fetched_at
    assert (find(landing, "new:4:new"), find(landing)) == (other, None)


def test_bytes_that_were_removed_can_be_put_back_under_their_receipt(landing: Landing, objects: LakeObjects) -> None:
    landing.admit(RECEIPT, b"zip")
    objects.delete(next(found.path for found in objects.list("landing") if found.path.endswith(".zip")))
    assert landing.body(RECEIPT) is None
    assert landing.admit(later(RECEIPT), b"zip") == RECEIPT
    assert landing.body(RECEIPT) == b"zip"


@pytest.mark.parametrize("damaged", [b"", b'{"key": "x"', b"[]", b'{"key": "x"}', b'{"last_modified": "yesterday", "fetched_at": "today"}', b"\xff"])
def test_what_is_no_receipt_is_none_and_bars_no_file(landing: Landing, objects: LakeObjects, damaged: bytes) -> None:
    landing.admit(RECEIPT, b"zip")
    path = next(found.path for found in objects.list("landing") if found.path.endswith(".json"))
    objects.put(path, damaged)
    assert find(landing) is None
    assert landing.admit(later(RECEIPT), b"zip") == later(RECEIPT)
    assert (find(landing), objects.get(path)) == (later(RECEIPT), damaged)


def test_a_key_that_leads_out_of_its_folder_stays_in_it(landing: Landing, objects: LakeObjects) -> None:
    receipt = dataclasses.replace(RECEIPT, key="data/spot/daily/klines/../1m/..-1m-2024-02-05.zip")
    landing.admit(receipt, b"zip")
    assert landing.body(receipt) == b"zip"
    assert {found.path.rsplit("/", 1)[0] for found in objects.list("")} == {"landing/exchange=binance/data/spot/daily/klines/%2E%2E/1m/..-1m-2024-02-05.zip"}
