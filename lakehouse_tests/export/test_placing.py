"""Files in a folder: whole or not at all, and over nothing of anybody else's."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.export.placing import HOME, Folder, Placed, sidecar_path
from lakehouse.export.target import File
from lakehouse.model.errors import ExportFolderError, FileInTheWayError
from lakehouse.model.market import Market
from lakehouse_tests.export.series import LINEAR
from lakehouse_tests.making import BTC

JANUARY = [File("data/1m/january.parquet", b"january", 2), File("data/1h/january.parquet", b"hours", 1)]
WHOLE_YEAR = [File("data/1m/year.parquet", b"a year", 12), File("data/1h/january.parquet", b"hours", 1)]


def put(
    folder: Path, files: list[File], market: Market = BTC, is_alone: bool = False, overwrite: bool = False
) -> Placed:
    with Folder(folder) as opened:
        return opened.place(market, {"market": market.key}, files, is_alone, overwrite)


def there(folder: Path) -> dict[str, bytes]:
    """What a backtester finds: all but the sidecars' folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and HOME not in path.relative_to(folder).parts
    }


def said(folder: Path, market: Market = BTC) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / sidecar_path(market)).read_text("utf-8"))
    return found


def as_files(files: list[File]) -> dict[str, bytes]:
    return {file.path: file.body for file in files}


def test_files_lie_where_they_belong_and_the_sidecar_names_each(tmp_path: Path) -> None:
    placed = put(tmp_path / "new" / "folder", JANUARY)
    folder = tmp_path / "new" / "folder"
    assert placed == Placed(folder / "lakehouse/binance-spot/BTCUSDT.json", 2, 0, 0)
    assert there(folder) == as_files(JANUARY)
    assert said(folder) == {
        "market": BTC.key,
        "state": "whole",
        "files": [
            {
                "path": file.path,
                "sha256": hashlib.sha256(file.body).hexdigest(),
                "size": len(file.body),
                "rows": file.rows,
            }
            for file in JANUARY
        ],
    }
    assert not (folder / HOME / ".staging").exists()


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    put(tmp_path, JANUARY)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert put(tmp_path, JANUARY)[1:] == (0, 2, 0)
    touched = [path for path, at in before.items() if path.stat().st_mtime_ns != at]
    assert [path.name for path in touched] in ([], [".lock"])


def test_an_export_replaces_the_earlier_one_of_its_market_alone(tmp_path: Path) -> None:
    put(tmp_path, JANUARY)
    other = [File("data/other/january.parquet", b"other", 1)]
    put(tmp_path, other, LINEAR)
    assert put(tmp_path, WHOLE_YEAR)[1:] == (1, 1, 1)
    assert there(tmp_path) == as_files([*WHOLE_YEAR, *other])
    put(tmp_path, [JANUARY[1]])
    assert not (tmp_path / "data" / "1m").exists(), "a folder in which nothing lies any more"


@pytest.mark.parametrize("is_alone", [False, True])
def test_a_foreign_file_is_not_written_over(tmp_path: Path, is_alone: bool) -> None:
    place = tmp_path / JANUARY[0].path
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    with pytest.raises(FileInTheWayError, match=r"january\.parquet is not as an export.*--overwrite"):
        put(tmp_path, JANUARY, is_alone=is_alone)
    assert there(tmp_path) == {JANUARY[0].path: b"mine"}
    assert not (tmp_path / sidecar_path(BTC)).exists()
    put(tmp_path, JANUARY, is_alone=is_alone, overwrite=True)
    assert there(tmp_path) == as_files(JANUARY)


def test_a_file_that_somebody_changed_or_one_to_remove_is_not_taken_for_ours(tmp_path: Path) -> None:
    put(tmp_path, JANUARY)
    (tmp_path / JANUARY[0].path).write_bytes(b"appended by another program")
    for files in (JANUARY, WHOLE_YEAR):
        with pytest.raises(FileInTheWayError, match=r"january\.parquet is not as"):
            put(tmp_path, files)
    assert there(tmp_path)[JANUARY[0].path] == b"appended by another program"
    put(tmp_path, WHOLE_YEAR, overwrite=True)
    assert there(tmp_path) == as_files(WHOLE_YEAR)


def test_a_file_that_is_the_same_by_chance_is_no_obstacle(tmp_path: Path) -> None:
    place = tmp_path / JANUARY[0].path
    place.parent.mkdir(parents=True)
    place.write_bytes(JANUARY[0].body)
    assert put(tmp_path, JANUARY)[1:] == (1, 1, 0)


def test_two_markets_of_one_name_do_not_take_each_others_place_whatever_is_asked(tmp_path: Path) -> None:
    put(tmp_path, JANUARY)
    for overwrite in (False, True):
        with pytest.raises(
            FileInTheWayError, match=r"is of binance-spot:BTCUSDT, and binance-linear:BTCUSDT"
        ):
            put(tmp_path, [JANUARY[0], WHOLE_YEAR[0]], LINEAR, overwrite=overwrite)
    assert there(tmp_path) == as_files(JANUARY)
    with Folder(tmp_path / "one go") as opened:
        opened.place(BTC, {}, JANUARY, False, False)
        with pytest.raises(FileInTheWayError, match="has the same name there"):
            opened.place(LINEAR, {}, JANUARY, False, True)


def test_where_every_file_of_a_folder_is_read_nothing_else_may_lie_there(tmp_path: Path) -> None:
    put(tmp_path, JANUARY, is_alone=True)
    (tmp_path / "data" / "1m" / "theirs.parquet").write_bytes(b"theirs")
    (tmp_path / "data" / "1m" / "notes.txt").write_bytes(b"no rows")
    put(tmp_path, JANUARY)
    for overwrite in (False, True):
        with pytest.raises(FileInTheWayError, match=r"theirs\.parquet is read along"):
            put(tmp_path, JANUARY, is_alone=True, overwrite=overwrite)
    (tmp_path / "data" / "1m" / "theirs.parquet").unlink()
    put(tmp_path, WHOLE_YEAR, is_alone=True)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"files": [{"path": "../../x", "sha256": ""}]}', b"\xff"]
)
def test_a_sidecar_that_does_not_read_makes_nothing_ours(tmp_path: Path, body: bytes) -> None:
    put(tmp_path / "in", JANUARY)
    outside = tmp_path / "x"
    outside.write_bytes(b"outside")
    (tmp_path / "in" / sidecar_path(BTC)).write_bytes(body)
    with pytest.raises(FileInTheWayError):
        put(tmp_path / "in", [File(JANUARY[0].path, b"other", 1)])
    put(tmp_path / "in", JANUARY)
    assert outside.read_bytes() == b"outside"
    assert said(tmp_path / "in")["state"] == "whole"


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_bytes(b"")
    with pytest.raises(ExportFolderError, match=r"Nothing can be exported into .*file"):
        put(tmp_path / "file", JANUARY)
    (tmp_path / JANUARY[0].path).mkdir(parents=True)
    with pytest.raises(ExportFolderError, match="directory"):
        put(tmp_path, JANUARY, overwrite=True)
    assert there(tmp_path) == {"file": b""}


KILLED = """
import os, sys
from pathlib import Path
from lakehouse_tests.export.test_placing import JANUARY, WHOLE_YEAR, put
left = int(sys.argv[2])
def counted(own):
    def run(*given, **more):
        global left
        left -= 1
        if left < 0:
            os._exit(137)
        return own(*given, **more)
    return run
os.replace, Path.write_bytes, Path.unlink = map(counted, (os.replace, Path.write_bytes, Path.unlink))
put(Path(sys.argv[1]), WHOLE_YEAR + JANUARY[:0])
os._exit(0)
"""


@pytest.mark.slow
def test_one_that_is_killed_anywhere_leaves_whole_files_and_is_gone_on_from(tmp_path: Path) -> None:
    whole = {hashlib.sha256(file.body).hexdigest() for file in [*JANUARY, *WHOLE_YEAR]}
    states, codes = [], []
    for step in range(20):
        folder = tmp_path / str(step)
        put(folder, JANUARY)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(step)], env=os.environ, check=False
        )
        codes.append(done.returncode)
        found = there(folder)
        assert {hashlib.sha256(body).hexdigest() for body in found.values()} <= whole, "no half file"
        assert not {JANUARY[0].path, WHOLE_YEAR[0].path} <= found.keys(), "no rows twice"
        named = {entry["path"] for entry in said(folder)["files"]}  # type: ignore[attr-defined]
        assert found.keys() <= named, "whatever lies there is named"
        states.append(said(folder)["state"])
        if states[-1] == "whole":
            assert named == found.keys(), "whole is said of what is whole"
        put(folder, WHOLE_YEAR)
        assert there(folder) == as_files(WHOLE_YEAR)
        assert said(folder)["state"] == "whole"
        assert sorted(os.listdir(folder / HOME)) in (["binance-spot"], [".lock", "binance-spot"])
        if done.returncode == 0:
            break
    assert codes[-1] == 0
    assert set(codes[:-1]) == {137}
    assert "moving" in states
    assert len(codes) > 6
