"""What the demo may remove: what a demo made, and nothing else."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from lakehouse.cli.app import main
from lakehouse.cli.demo import MARKER, empty_folder, say_next
from lakehouse.model.errors import DemoFolderError


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kept", ["lake/silver/candle/part.parquet", "dagster/history/runs.db", "lake"])
def test_what_no_demo_made_is_refused_and_stays(
    tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / kept
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    monkeypatch.setattr(sys, "argv", ["lakehouse", "demo", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert files(tmp_path) == [kept]
    said = capsys.readouterr().err
    assert str(tmp_path / kept.split("/")[0]) in said
    assert "--folder" in said


def test_what_a_demo_made_is_emptied_and_so_are_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    for name in ("lake/old.parquet", "dagster/old.db"):
        empty_folder(tmp_path)
        (tmp_path / name).touch()
    empty_folder(tmp_path)
    assert files(tmp_path) == ["dagster/.lakehouse-demo", "lake/.lakehouse-demo"]


def test_a_lake_made_where_a_demo_was_removed_is_no_demo(tmp_path: Path) -> None:
    empty_folder(tmp_path)
    (tmp_path / "lake" / ".lakehouse-demo").unlink()
    (tmp_path / "lake" / "mine.parquet").touch()
    with pytest.raises(DemoFolderError, match="not made by a demo"):
        empty_folder(tmp_path)
    assert files(tmp_path) == ["dagster/.lakehouse-demo", "lake/mine.parquet"]


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DemoFolderError, match="file: Not a directory"):
        empty_folder(tmp_path / "file")


def leave_demo(folder: Path) -> None:
    """What a demo leaves, as far as it is known by it."""
    (folder / "lake" / "silver").mkdir(parents=True)
    (folder / "lake" / MARKER).touch()


@pytest.mark.parametrize("left", ["nothing", "a lake of one's own", "an emptied place"])
def test_no_demo_is_opened_where_none_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    if left == "an emptied place":
        empty_folder(tmp_path / "demo")
    elif left != "nothing":
        leave_demo(tmp_path / "demo")
        (tmp_path / "demo" / "lake" / MARKER).unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lakehouse.cli.instance.check_port", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["lakehouse", "ui", "--demo"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "There is no demo in demo. Make one: lakehouse demo --folder demo" in capsys.readouterr().err


def test_what_the_demo_says_to_do_next_is_about_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = []
    monkeypatch.setattr("lakehouse.cli.instance.check_port", lambda _: None)
    monkeypatch.setattr("lakehouse.cli.instance.run_ui", lambda settings, *_: opened.append(settings.root))
    monkeypatch.chdir(tmp_path)
    for folder in (Path("demo"), Path("my demo"), tmp_path / "other"):
        leave_demo(folder)
        say_next(folder)
        (hint,) = re.findall(r"lakehouse (ui .*?) {3}", capsys.readouterr().out)
        monkeypatch.setattr(sys, "argv", ["lakehouse", *shlex.split(hint)])
        with pytest.raises(SystemExit):
            main()
    assert opened == [str(tmp_path / name / "lake") for name in ("demo", "my demo", "other")]
