"""What lies in the working folder is data: none of it is run, and none of it decides."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.cli.console import say_env_file
from lakehouse.cli.instance import CONFIG, open_instance, prepare_home
from lakehouse.model.errors import EnvFileError, ForeignInstanceError
from lakehouse.settings import Settings
from lakehouse_tests.hostile import make_hostile

pytestmark = pytest.mark.slow

EVIL = "run_launcher: {module: evil, class: Evil}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hostile folder, in which we are."""
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    make_hostile(hostile)
    monkeypatch.chdir(hostile)
    return hostile


@pytest.mark.parametrize(
    "words", [["status"], ["markets", "list"], ["ui", "--host", "0.0.0.0"], ["markets", "add", "x:y"]]
)
def test_a_command_runs_nothing_of_a_hostile_folder(folder: Path, words: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "lakehouse", *words], capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in ended.stderr
    assert "The settings in .env are not read" in ended.stderr
    assert list((folder / "said").iterdir()) == []
    assert not (folder / "stolen").exists()


def test_the_instance_is_the_package_s_own(folder: Path) -> None:
    with open_instance(Settings()) as instance:
        assert instance.run_launcher.__class__.__name__ == "DefaultRunLauncher"
    assert (folder / ".dagster" / "dagster.yaml").resolve() == CONFIG.resolve()


def test_an_instance_file_in_a_home_that_nobody_named_is_refused(folder: Path) -> None:
    home = folder / ".dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(EVIL)
    with pytest.raises(ForeignInstanceError, match=f"DAGSTER_HOME={home}"):
        open_instance(Settings())
    with pytest.raises(ForeignInstanceError):  # as the demo names its own
        prepare_home(Settings(dagster_home=home))


@pytest.mark.parametrize("by", ["variable", "file"])
def test_an_instance_file_in_a_home_that_was_named_is_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    home = folder / "own"
    home.mkdir()
    (home / "dagster.yaml").write_text(EVIL)
    if by == "variable":
        monkeypatch.setenv("DAGSTER_HOME", "own")
    else:
        (folder / "mine").write_text("DAGSTER_HOME=own\n")
        monkeypatch.setenv("LAKEHOUSE_ENV_FILE", str(Path("mine").absolute()))
    assert prepare_home(Settings()) == home
    assert (home / "dagster.yaml").read_text() == EVIL


@pytest.mark.parametrize("was", ["a link to a foreign file", "a link to nowhere", "empty", "a copy"])
def test_what_an_earlier_release_left_in_the_home_gives_way_to_the_package_s_own(
    folder: Path, was: str
) -> None:
    home = folder / ".dagster"
    home.mkdir()
    link = home / "dagster.yaml"
    if was.startswith("a link"):
        link.symlink_to(folder / ("dagster.yaml" if "foreign" in was else "gone"))
    else:
        link.write_bytes(b"" if was == "empty" else CONFIG.read_bytes())
    prepare_home(Settings())
    assert link.read_bytes() == CONFIG.read_bytes()
    assert (folder / "dagster.yaml").read_text() == EVIL


def test_settings_come_from_a_file_only_where_the_environment_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Settings().root == "lake"
    say_env_file()
    assert 'export LAKEHOUSE_ENV_FILE="$PWD/.env"' in capsys.readouterr().err
    monkeypatch.setenv("LAKEHOUSE_ENV_FILE", str(Path(".env").absolute()))
    assert Settings().root == str(folder / "stolen")
    say_env_file()
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("LAKEHOUSE_ENV_FILE", "/absent")
    with pytest.raises(EnvFileError, match="absent, which LAKEHOUSE_ENV_FILE names, cannot be read"):
        Settings()


@pytest.mark.parametrize("kind", ["absent", "foreign", "folder", "fifo"])
def test_an_env_of_something_else_is_no_news_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make = {
        "foreign": lambda: Path(".env").write_text("PORT=1\n"),
        "folder": lambda: Path(".env").mkdir(),
        "fifo": lambda: os.mkfifo(".env"),
    }
    make.get(kind, lambda: None)()
    say_env_file()
    assert capsys.readouterr().err == ""


def test_child_processes_get_whole_paths_and_no_secret(folder: Path) -> None:
    given = {
        "LAKEHOUSE_UI_TOKEN": "secret",
        "LAKEHOUSE_ENV_FILE": ".env",
        "PYTHONPATH": f"src{os.pathsep}{os.pathsep}/lib",
        "HOME": "/home/x",
    }
    found = Settings(root="lake", ui_token="0123456789abcdef").for_children(given)
    assert found["LAKEHOUSE_ROOT"] == str(folder / "lake")
    assert found["DAGSTER_HOME"] == str(folder / ".dagster")
    assert found["PYTHONPATH"] == f"{folder / 'src'}{os.pathsep}/lib"
    assert found["HOME"] == "/home/x"
    assert not {"LAKEHOUSE_UI_TOKEN", "LAKEHOUSE_ENV_FILE"} & found.keys()
    assert not any("0123456789abcdef" in value for value in found.values())
    assert Settings(root="s3://bucket/lake").for_children({})["LAKEHOUSE_ROOT"] == "s3://bucket/lake"


@pytest.mark.parametrize("kind", ["relative", "no text"])
def test_a_file_of_settings_is_named_by_its_whole_path_and_holds_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_bytes(b"LAKEHOUSE_ROOT=\xff" if kind == "no text" else b"LAKEHOUSE_ROOT=mine")
    monkeypatch.setenv("LAKEHOUSE_ENV_FILE", "mine" if kind == "relative" else str(tmp_path / "mine"))
    with pytest.raises(EnvFileError, match="no whole path" if kind == "relative" else "not text"):
        Settings()
