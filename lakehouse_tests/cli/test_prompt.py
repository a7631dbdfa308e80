"""`lakehouse sql` without a statement: a prompt on a terminal, elsewhere what standard input has."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from lakehouse.cli.app import main
from lakehouse.cli.prompt import converse, history_file, is_complete
from lakehouse.cli.reporting import Report
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.model.result import CellResult
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import facts

Talk = Callable[[str], tuple[str, str]]


@pytest.fixture
def talk(
    objects: LakeObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Talk:
    """Types keys at the prompt of a lake with one market; what is said, on both outputs."""
    TableStore(objects).put(MarketTable, None, CellResult(market_frame([facts()]), {}))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def typed(keys: str) -> tuple[str, str]:
        with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
            keyboard.send_text(keys + ".quit\r")
            lake = Lake(objects.root)
            converse(lake.registry, lake.sql, report=lambda: Report("table"))
        out, err = capsys.readouterr()
        return out, err

    return typed


def test_a_statement_goes_on_over_lines_until_its_end(talk: Talk) -> None:
    out, err = talk("SELECT symbol,\r  count(*) AS n\rFROM silver.market GROUP BY ALL;\r")
    assert "BTCUSDT  1" in out
    assert "1 row in" in err


def test_what_is_refused_is_said_and_the_prompt_comes_again(talk: Talk) -> None:
    out, err = talk(
        "SELECT nothing;\r.columns\r.schema nope\rCOPY silver.market TO 'x.csv';\rSELECT 7 AS n;\r"
    )
    for words in (
        "Binder Error",
        "'.columns' is no command here; known: .tables",
        "no table 'nope'",
        "--unrestricted",
    ):
        assert words in err
    assert out.splitlines()[-1] == "7"


def test_tables_and_their_columns_are_told(talk: Talk) -> None:
    out, _ = talk(".tables;\r.schema silver.candle ;\r.help\r")
    for words in (
        "gold.vwap",
        "1m candles: one row per minute and market",
        "taker_buy_volume",
        "of its path",
        "Ctrl-D",
    ):
        assert words in out


def test_statements_are_kept_for_the_next_session_and_for_their_user_alone(talk: Talk) -> None:
    talk("SELECT 41 + 1 AS n;\r")
    up = "\x1b[A"
    out, _ = talk(f"{up}{up}\r")  # over the word that ended the session before
    assert "42" in out
    assert history_file().stat().st_mode & 0o077 == 0


def test_ctrl_c_drops_what_was_typed_and_ctrl_d_ends(talk: Talk) -> None:
    out, err = talk("SELECT nothing\x03SELECT 5 AS n;\r\x04SELECT 6 AS n;\r")
    assert out.splitlines()[-1] == "5"
    assert "error" not in err


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [
        ("", True),
        (".tables", True),
        ("SELECT 1", False),
        ("SELECT 1;", True),
        ("SELECT ';", False),
        ("SELECT 1; -- and more", True),
        ("SELECT 1 /* ;", False),
    ],
)
def test_a_semicolon_ends_a_statement_where_it_is_one(text: str, is_whole: bool) -> None:
    assert is_complete(text) is is_whole


@pytest.mark.parametrize(
    ("given", "code", "said"), [("SELECT 1 AS n; SELECT 2 AS n", 0, "n\n2\n"), ("\n", 2, "")]
)
def test_standard_input_has_the_statement_where_none_is_given(
    given: str,
    code: int,
    said: str,
    objects: LakeObjects,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    TableStore(objects).put(MarketTable, None, CellResult(market_frame([facts()]), {}))
    monkeypatch.setenv("LAKEHOUSE_ROOT", objects.root)
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    monkeypatch.setattr(sys, "argv", ["lakehouse", "sql"])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (code, said)
    assert ("There is no statement" in err) == (code == 2)
