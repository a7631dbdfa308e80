"""Archive files as fetched: their receipts never change, and bytes nobody published are not kept."""

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.storage.landing import Landing, Receipt
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.making import NOW

KEY = "data/spot/daily/klines/币安%USDT/1m/币安%USDT-1m-2024-02-05.zip"
OTHER_KEY = KEY.replace("02-05", "02-06")
SHA, SHA2 = (hashlib.sha256(body).hexdigest() for body in (b"zip", b"zip2"))
RECEIPT = Receipt(KEY, "http://x/y", "etag:3:etag", SHA, "aa  name\n", NOW, NOW, "ok")


@pytest.fixture
def landing(objects: LakeObjects) -> Landing:
    return Landing(objects, "binance")


def later(receipt: Receipt, hours: int = 1, **changes: str) -> Receipt:
    return dataclasses.replace(receipt, fetched_at=NOW + timedelta(hours=hours), **changes)  # type: ignore[arg-type]


def receipt_path(landing: Landing, key: str = KEY) -> str:
    """Where the only receipt of a key lies."""
    (path,) = landing.receipts("data")[key]
    return path


def unsealed(landing: Landing, path: str) -> bytes:
    """A receipt as an earlier release wrote it."""
    said = json.loads(landing.objects.get(path) or b"")
    assert said.pop("seal")
    return json.dumps(said, indent=1).encode()


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
    other = landing.admit(later(RECEIPT, state="new:4:new", sha256=SHA2), b"zip2")
    assert (landing.body(RECEIPT), landing.body(other), count(landing)) == (b"zip", b"zip2", 2)


def test_a_version_that_comes_back_is_fetched_anew_and_says_when(landing: Landing) -> None:
    """Its rows are a statement of their own: with the first receipt's instant they would lose against the
    version in between.
    """
    landing.admit(RECEIPT, b"zip")
    landing.admit(later(RECEIPT, 1, state="new:4:new", sha256=SHA2), b"zip2")
    assert find(landing) is None
    back = landing.admit(later(RECEIPT, 2), b"zip")
    assert back.fetched_at == NOW + timedelta(hours=2)
    assert (find(landing), count(landing)) == (back, 3)


def test_a_new_version_is_later_than_the_one_before_it_whatever_the_clock_says(landing: Landing) -> None:
    landing.admit(RECEIPT, b"zip")
    other = landing.admit(later(RECEIPT, -5, state="new:4:new", sha256=SHA2), b"zip2")
    assert other.fetched_at > RECEIPT.fetched_at
    assert (find(landing, "new:4:new"), find(landing)) == (other, None)


def test_bytes_that_were_removed_can_be_put_back_under_their_receipt(
    landing: Landing, objects: LakeObjects
) -> None:
    landing.admit(RECEIPT, b"zip")
    objects.delete(next(found.path for found in objects.list("landing") if found.path.endswith(".zip")))
    assert landing.body(RECEIPT) is None
    assert landing.admit(later(RECEIPT), b"zip") == RECEIPT
    assert landing.body(RECEIPT) == b"zip"


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b'{"key": "x"',
        b"[]",
        b'{"key": "x"}',
        b'{"last_modified": "yesterday", "fetched_at": "today"}',
        b"\xff",
        b"[" * 100_000,
        b"null",
    ],
)
def test_what_is_no_receipt_is_none_and_bars_no_file(
    landing: Landing, objects: LakeObjects, damaged: bytes
) -> None:
    landing.admit(RECEIPT, b"zip")
    path = receipt_path(landing)
    objects.put(path, damaged)
    assert find(landing) is None
    assert [found.path for found in landing.inspect().damage] == [path]
    assert landing.admit(later(RECEIPT), b"zip") == later(RECEIPT)
    assert (find(landing), objects.get(path)) == (later(RECEIPT), damaged)


def test_a_key_that_leads_out_of_its_folder_stays_in_it(landing: Landing, objects: LakeObjects) -> None:
    receipt = dataclasses.replace(RECEIPT, key="data/spot/daily/klines/../1m/..-1m-2024-02-05.zip")
    landing.admit(receipt, b"zip")
    assert landing.body(receipt) == b"zip"
    assert {found.path.rsplit("/", 1)[0] for found in objects.list("")} == {
        "landing/exchange=binance/data/spot/daily/klines/%2E%2E/1m/..-1m-2024-02-05.zip"
    }


# --- bytes that are not those that were stored ----------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Landing:
    """Landing in a folder: what is read out of bytes is the same wherever they lie."""
    return Landing(LakeObjects(tmp_path / "local"), "binance")


@pytest.mark.parametrize(
    "instead", [b"zip2", b"", b"zi", b"zip" * 1000], ids=["another_sound_one", "emptied", "cut", "longer"]
)
def test_a_zip_that_is_not_the_one_it_is_named_by_is_not_there_and_is_put_back(
    landing: Landing, objects: LakeObjects, instead: bytes
) -> None:
    landing.admit(RECEIPT, b"zip")
    path = receipt_path(landing).replace(".json", ".zip")
    etag = objects.put(path, instead)
    assert landing.body(RECEIPT) is None
    (found,) = landing.inspect().damage
    assert (found.path, found.etag) == (path, etag)
    assert f"its name says {SHA[:12]}…" in found.why
    assert landing.admit(later(RECEIPT), b"zip") == RECEIPT
    assert (landing.body(RECEIPT), landing.inspect().damage) == (b"zip", ())


def test_a_receipt_that_is_cut_anywhere_is_none(local: Landing) -> None:
    local.admit(RECEIPT, b"zip")
    path = receipt_path(local)
    body = local.objects.get(path) or b""
    assert len(body) > 400
    for end in range(len(body)):
        local.objects.put(path, body[:end])
        assert find(local) is None, f"cut at {end}"
    local.objects.put(path, body)
    assert find(local) == RECEIPT


def flips(body: bytes, count: int) -> list[bytes]:
    """The body with one bit changed, as often as told."""
    drawn = random.Random(7).sample(range(len(body) * 8), count)
    return [body[: bit // 8] + bytes([body[bit // 8] ^ 1 << bit % 8]) + body[bit // 8 + 1 :] for bit in drawn]


@pytest.mark.slow
def test_a_receipt_with_a_flipped_bit_is_the_same_or_none(local: Landing) -> None:
    local.admit(RECEIPT, b"zip")
    path = receipt_path(local)
    body = local.objects.get(path) or b""
    found = []
    for flipped in flips(body, 400):
        local.objects.put(path, flipped)
        found.append(local.read(path))
        assert bool(local.inspect().damage) == (found[-1] is None), "what is not used is told"
    assert set(found) <= {RECEIPT, None}
    assert found.count(None) > 390, "only another spelling of the same character is the same"


def test_a_seal_whose_name_is_destroyed_is_no_receipt_of_an_earlier_release(local: Landing) -> None:
    local.admit(RECEIPT, b"zip")
    path = receipt_path(local)
    body = (local.objects.get(path) or b"").replace(b"http://x/y", b"http://x/z")
    at = body.index(b'"seal"')
    for place in range(at, at + len('"seal": "')):
        for bit in range(8):
            local.objects.put(path, body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :])
            assert local.read(path) is None, f"bit {bit} of {place - at}"


@pytest.mark.parametrize("seal", [None, "", 7, [], "0" * 32])
def test_any_seal_but_the_right_one_is_a_wrong_one(local: Landing, seal: Any) -> None:
    local.admit(RECEIPT, b"zip")
    path = receipt_path(local)
    said = json.loads(local.objects.get(path) or b"") | {"seal": seal}
    local.objects.put(path, json.dumps(said).encode())
    assert local.read(path) is None


def test_a_receipt_of_an_earlier_release_is_read_unchecked_and_counted(
    landing: Landing, objects: LakeObjects
) -> None:
    landing.admit(RECEIPT, b"zip")
    path = receipt_path(landing)
    objects.put(path, unsealed(landing, path))
    assert find(landing) == RECEIPT
    found = landing.inspect()
    assert (found.checked, found.unsealed, found.damage) == (2, 1, ())


def test_a_flipped_bit_in_a_receipt_of_an_earlier_release_ends_nothing(local: Landing) -> None:
    local.admit(RECEIPT, b"zip")
    path = receipt_path(local)
    for body in flips(unsealed(local, path), 400):
        local.objects.put(path, body)
        found = local.read(path)
        assert found is None or (found.key, found.sha256) == (KEY, SHA)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an_outcome_that_is_none": lambda said: said | {"outcome": "fine"},
    "a_short_hash": lambda said: said | {"sha256": SHA[:63]},
    "another_hash_than_its_name": lambda said: said | {"sha256": SHA2},
    "another_key_than_its_folder": lambda said: said | {"key": OTHER_KEY},
    "a_time_without_offset": lambda said: said | {"fetched_at": "2024-04-10 12:00:00"},
    "a_time_beyond_time": lambda said: said | {"fetched_at": "9999-12-31 23:59:59-12:00"},
    "a_time_that_is_a_number": lambda said: said | {"fetched_at": 1712750400},
    "a_message_that_is_none": lambda said: said | {"message": None},
    "a_field_too_few": lambda said: {name: value for name, value in said.items() if name != "message"},
    "a_field_too_many": lambda said: said | {"note": "x"},
    "a_list": lambda said: [said],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_receipt_is_held_to_its_values_though_nothing_seals_it(
    local: Landing, change: Callable[[dict[str, Any]], Any]
) -> None:
    local.admit(RECEIPT, b"zip")
    path = receipt_path(local)
    local.objects.put(path, json.dumps(change(json.loads(unsealed(local, path)))).encode())
    assert local.read(path) is None
    assert [found.path for found in local.inspect().damage] == [path]
    assert local.admit(later(RECEIPT), b"zip") == later(RECEIPT), "it is fetched again"


# --- the inspection -------------------------------------------------------------------------------


def test_what_was_stored_is_found_sound(landing: Landing) -> None:
    assert landing.inspect().checked == 0
    landing.admit(RECEIPT, b"zip")
    landing.admit(later(RECEIPT, 1, state="new:4:new", sha256=SHA2), b"zip2")
    landing.admit(later(RECEIPT, 2), b"zip")
    landing.admit(
        dataclasses.replace(RECEIPT, key=OTHER_KEY, sha256=SHA2, outcome="mismatch", message="stale"), b"zip2"
    )
    found = landing.inspect()
    assert (found.checked, found.unsealed, found.damage) == (6, 0, ())
    assert Landing(landing.objects, "bybit").inspect().checked == 0


@pytest.mark.parametrize("are_swapped", [True, False], ids=["swapped", "copied"])
def test_receipts_in_the_place_of_others_are_named_and_none_is_used(
    landing: Landing, objects: LakeObjects, are_swapped: bool
) -> None:
    """The same bytes under two keys, as of days without a trade: the names of the files do not tell them
    apart.
    """
    landing.admit(RECEIPT, b"zip")
    landing.admit(dataclasses.replace(RECEIPT, key=OTHER_KEY), b"zip")
    paths = [receipt_path(landing, key) for key in (KEY, OTHER_KEY)]
    bodies = [objects.get(path) or b"" for path in paths]
    objects.put(paths[0], bodies[1])
    if are_swapped:
        objects.put(paths[1], bodies[0])
    wrong = paths if are_swapped else paths[:1]
    assert [landing.read(path) is None for path in paths] == [path in wrong for path in paths]
    found = landing.inspect()
    assert {one.path for one in found.damage} == set(wrong)
    assert all("another one than its path says" in one.why for one in found.damage)


def test_a_receipt_copied_over_another_of_its_own_key_is_named(
    landing: Landing, objects: LakeObjects
) -> None:
    landing.admit(RECEIPT, b"zip")
    landing.admit(later(RECEIPT, state="new:3:new"), b"zip")
    first, second = sorted(landing.receipts("data")[KEY], key=len)
    objects.put(second, objects.get(first) or b"")
    (found,) = landing.inspect().damage
    assert found.path in (first, second)
    assert "it repeats" in found.why


def test_a_zip_that_is_gone_though_a_receipt_stands_for_it_is_named(
    landing: Landing, objects: LakeObjects
) -> None:
    landing.admit(RECEIPT, b"zip")
    landing.admit(dataclasses.replace(RECEIPT, key=OTHER_KEY, outcome="corrupt"), b"zip")
    gone = [receipt_path(landing, key).replace(".json", ".zip") for key in (KEY, OTHER_KEY)]
    for path in gone:
        objects.delete(path)
    assert {(found.path, found.etag) for found in landing.inspect().damage} == {(path, "") for path in gone}


@pytest.mark.parametrize(
    "name", ["notes.txt", f"{SHA}.zip.bak", "zip.json", f"{SHA.upper()}.zip", f"+{SHA}.json"]
)
def test_an_object_that_is_neither_zip_nor_receipt_is_named(
    landing: Landing, objects: LakeObjects, name: str
) -> None:
    landing.admit(RECEIPT, b"zip")
    path = f"{receipt_path(landing).rsplit('/', 1)[0]}/{name}"
    objects.put(path, b"zip")
    found = landing.inspect()
    assert (found.checked, [one.path for one in found.damage]) == (3, [path])
    assert "neither the zip nor the receipt" in found.damage[0].why
