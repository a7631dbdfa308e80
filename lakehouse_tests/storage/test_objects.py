"""The place a lake lies in."""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import obstore
import pytest

from lakehouse.model.errors import LakehouseError, RootNotWritableError, StoreError
from lakehouse.storage.objects import ChangedMeanwhileError, LakeObjects


def test_objects_come_back_are_replaced_and_may_be_absent(objects: LakeObjects) -> None:
    assert objects.get("a/b") is None
    tags = [objects.put("a/b", body) for body in (b"one", b"two")]
    assert tags[0] != tags[1]
    assert objects.get_tagged("a/b") == (b"two", tags[1])
    objects.delete("a/b")
    objects.delete("a/b")
    assert objects.get("a/b") is None


def test_ranges_are_of_the_version_that_is_named(objects: LakeObjects) -> None:
    etag = objects.put("a", b"0123456789")
    assert [objects.get_of("a", etag, *where) for where in ((7, 10), (0, 10), (2, 4))] == [
        b"789",
        b"0123456789",
        b"23",
    ]
    newer = objects.put("a", b"abcdefghij")
    for path, tag in (("a", etag), ("absent", etag)):
        with pytest.raises(ChangedMeanwhileError):
            objects.get_of(path, tag, 0, 3)
    assert objects.get_of("a", newer, 0, 3) == b"abc"


def test_listing_is_by_folder_and_says_what_put_said(objects: LakeObjects) -> None:
    tags = {
        path: objects.put(path, b"x" * n)
        for n, path in enumerate(["t/a/1", "t/a/2", "t/b%2F/3", "t_other/4"])
    }
    assert {(found.path, found.etag, found.size) for found in objects.list("t")} == {
        (path, tags[path], n) for n, path in enumerate(tags) if path.startswith("t/")
    }
    assert list(objects.list("absent")) == []


def test_a_lake_is_made_where_there_is_none(tmp_path: Path) -> None:
    objects = LakeObjects(tmp_path / "not" / "yet")
    objects.check_writable()
    assert list(objects.list("ledger")) == []
    assert objects.uri("a/b") == str(tmp_path / "not" / "yet" / "a" / "b")
    assert list(tmp_path.iterdir()) == [], "and of the probe nothing is left"
    objects.put("a/b", b"")
    objects.check_writable()
    assert [path.name for path in (tmp_path / "not" / "yet").iterdir()] == ["a"]


@pytest.mark.parametrize("zone", ["bronze", "silver", "gold", "landing"])
def test_a_lake_is_where_one_of_its_zones_is(objects: LakeObjects, zone: str) -> None:
    assert not objects.exists()
    objects.put("ledger/silver/candle.parquet", b"")
    objects.put(f"else/{zone}/data.parquet", b"")
    objects.put(f"{zone}_notes/data.parquet", b"")
    assert not objects.exists()
    objects.put(f"{zone}/candle/data.parquet", b"")
    assert objects.exists()


@pytest.mark.parametrize("root", ["file", "file/below", "gs3://bucket/prefix"])
def test_a_root_that_cannot_be_written_says_what_to_set(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").write_text("in the way")
    objects = LakeObjects(root if "://" in root else tmp_path / root)
    with pytest.raises(RootNotWritableError, match=r"cannot be opened or written: .+\. Set LAKEHOUSE_ROOT"):
        objects.check_writable()
    assert issubclass(RootNotWritableError, LakehouseError)


def test_a_store_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    objects = LakeObjects(tmp_path)
    objects.put("a/b", b"")
    with pytest.raises(LakehouseError, match="a/b/c"):
        objects.put("a/b/c", b"a file stands where a folder should")


def test_uris_of_s3_are_addresses() -> None:
    assert LakeObjects("s3://bucket/prefix/").uri("a/b") == "s3://bucket/prefix/a/b"
    assert not LakeObjects("s3://bucket/prefix").is_local


def test_a_local_listing_is_that_of_obstore_and_follows_links_once(tmp_path: Path) -> None:
    objects = LakeObjects(tmp_path / "lake")
    for path in (
        "silver/a/x",
        "silver/a/b/y",
        "silver/a/b/c/z",
        "silver/a#1/w",
        "silver/ab/v",
        "silver/%C3%A4/u",
    ):
        objects.put(path, path.encode())
    (tmp_path / "lake/silver/a/part#12").write_bytes(b"what obstore has not finished")
    listed = [each for batch in obstore.list(objects.store, "silver") for each in batch]
    expected = sorted((each["path"], each["e_tag"], each["size"]) for each in listed)
    assert len(expected) == 6
    assert sorted((found.path, found.etag, found.size) for found in objects.list("silver")) == expected
    assert list(objects.list("gold")) == list(objects.list("silver/a/x")) == []
    (tmp_path / "far").mkdir()
    (tmp_path / "far/f").write_bytes(b"f")
    for link, target in {
        "silver/far": "far",
        "silver/a/up": "lake/silver",
        "silver/a/beside": "lake/silver/ab",
    }.items():
        (tmp_path / "lake" / link).symlink_to(tmp_path / target)
    (tmp_path / "far/back").symlink_to(tmp_path / "far")
    followed = {found.path for found in objects.list("silver")} - {path for path, _, _ in expected}
    assert followed == {"silver/far/f", "silver/a/beside/v"}


def test_a_listing_of_one_name_has_every_object_of_that_name_wherever_it_lies(tmp_path: Path) -> None:
    objects = LakeObjects(tmp_path / "lake")
    window = "silver/t/symbol=A/month=2024-01"
    named = [f"{window}/x", f"{window}/sub/x", "silver/t/symbol=B/date=2024-01-01/x", "silver/t/x"]
    for path in (*named, f"{window}/y", f"{window}/sub/y", "silver/t/symbol=B/month=2024-01/y"):
        objects.put(path, b"")
    (tmp_path / "lake/silver/t/symbol=B/month=2024-02").mkdir()
    (tmp_path / "lake/silver/t/symbol=B/month=2024-03").symlink_to(tmp_path / "lake" / window)
    named += [f"silver/t/symbol=B/month=2024-03/{path}" for path in ("x", "sub/x")]
    of_all = [found for found in objects.list("silver") if found.path.rsplit("/", 1)[1] == "x"]
    assert sorted(found.path for found in of_all) == sorted(named)
    assert sorted(objects.only("x").list("silver")) == sorted(of_all)


def test_a_folder_that_cannot_be_read_is_an_error_and_no_empty_one(tmp_path: Path) -> None:
    objects = LakeObjects(tmp_path / "lake")
    objects.put("silver/a/x", b"x")
    scandir = os.scandir

    def refusing(folder: bytes) -> Any:
        if folder.endswith(b"/a"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    with patch("os.scandir", refusing), pytest.raises(StoreError):
        list(objects.list("silver"))
