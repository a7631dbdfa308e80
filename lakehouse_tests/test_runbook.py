"""The runbook has every kind of alert, and what it tells to type works."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.cli.app import app
from lakehouse.datasets.candle import Candle
from lakehouse.model.result import CellResult
from lakehouse.ops.alerts import QUIET
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.defs.conftest import listed
from lakehouse_tests.making import BTC, FEBRUARY, NOW, at, candles, minutes
from lakehouse_tests.webhook import listening

PAGE = (Path(__file__).parents[1] / "docs" / "runbook.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^    (lakehouse .+)$", PAGE, re.MULTILINE)))
BRIEF = listed(BTC, at("2024-01-30"), at("2024-02-02"))
TOKEN = "T0kenThatNobodyElseKnows42"


def test_each_kind_of_alert_has_its_place_with_something_to_type() -> None:
    _, *parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert list(sections) == list(QUIET)
    assert all("\n    lakehouse " in section for section in sections.values())


def typed(command: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as somebody types it in an empty folder."""
    return subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ
        | {"LAKEHOUSE_ROOT": str(tmp_path / "lake"), "DAGSTER_HOME": str(tmp_path / "home")}
        | environment,
        check=False,
    )


@pytest.mark.slow
def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = LakeObjects(tmp_path / "lake")
    TableStore(objects).put(Candle, FEBRUARY, CellResult(candles(minutes("2024-02-01", 5)), {}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with listening() as hook, Simulator(markets=[BRIEF], now=NOW) as exchange:
        named = {f"BINANCE_{kind}_URL": exchange.url for kind in ("ARCHIVE", "REST")}
        named |= {"ROOT": objects.root, "START": "2024-01", "ALERT_URLS": hook.url}
        for name, value in named.items():
            monkeypatch.setenv(f"LAKEHOUSE_{name}", value)
        for command in COMMANDS:
            done = CliRunner().invoke(app, shlex.split(command)[1:])
            assert done.exit_code == 0, (command, done.output, done.exception)
    assert "lakehouse: a test" in [message["title"] for message in hook.got]


@pytest.mark.slow
def test_a_test_message_arrives_with_all_that_an_alert_has(tmp_path: Path) -> None:
    with listening(TOKEN) as hook:
        done = typed(
            "lakehouse alerts test --format json", tmp_path, LAKEHOUSE_ALERT_URLS=f"{hook.url}, {hook.url}"
        )
        assert (done.returncode, json.loads(done.stdout)) == (0, {"sent": 2}), done.stderr
    assert [message["title"] for message in hook.got] == ["lakehouse: a test"] * 2
    for part in ("lake\n", "cause: ", "command: lakehouse status", "link: http://127.0.0.1:3000/"):
        assert part in hook.got[0]["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        (f"json://127.0.0.1:9/{TOKEN}", 1, "JSON"),
        (f"slack://{TOKEN}/{TOKEN}", 2, "of slack"),
        (f"pigeon://{TOKEN}/loft", 2, "of pigeon"),
        (TOKEN, 2, "Address 1"),
        ("", 2, "names nobody"),
    ],
)
def test_an_address_that_does_not_work_is_named_without_its_secret(
    tmp_path: Path, address: str, code: int, said: str
) -> None:
    done = typed("lakehouse alerts test", tmp_path, LAKEHOUSE_ALERT_URLS=address)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_processes_behind_the_ui_are_told_whom_alerts_go_to_also_by_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.env"
    file.write_text(f"LAKEHOUSE_ALERT_URLS=json://127.0.0.1/{TOKEN}\n", encoding="utf-8")
    monkeypatch.setenv("LAKEHOUSE_ENV_FILE", str(file))
    settings = Settings()
    assert TOKEN not in repr(settings)
    assert TOKEN not in str(settings.environment())
    assert settings.for_children(os.environ)["LAKEHOUSE_ALERT_URLS"] == f"json://127.0.0.1/{TOKEN}"
