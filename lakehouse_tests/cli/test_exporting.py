"""`lakehouse export`: a thin shell of the SDK's, in what it takes, says and ends with."""

import json
from pathlib import Path

import pytest

from lakehouse.export import TARGETS, export
from lakehouse_tests.commands import Run, environment, in_process
from lakehouse_tests.export.series import LINEAR
from lakehouse_tests.export.test_exporting import NAMELESS, files, fill
from lakehouse_tests.making import BTC, COIN


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Commands over a lake with a halt."""
    from lakehouse.storage.objects import LakeObjects

    fill(LakeObjects(tmp_path / "lake"))
    return in_process(tmp_path, environment(tmp_path, "http://127.0.0.1:9"), monkeypatch, capsys)


@pytest.mark.parametrize("target", TARGETS)
def test_the_command_writes_what_the_sdk_writes(run: Run, tmp_path: Path, target: str) -> None:
    from lakehouse.query.lake import Lake

    said = run(
        *("export", target, "-m", f"{BTC.key}, {NAMELESS.key}", "--folder", "typed", "--interval", "1m,1h"),
        *("--from", "2024-01", "--to", "2024-03", "--fill", "--name", f"{NAMELESS.key}=XYZ/USDT"),
    )
    assert said.code == 0, said.said
    lake = Lake(tmp_path / "lake")
    names = {NAMELESS.key: "XYZ/USDT"}
    asked = ("2024-01", "2024-03", ("1m", "1h"), True, names)
    export(lake, target, [BTC, NAMELESS], tmp_path / "called", *asked)
    assert files(tmp_path / "typed") == files(tmp_path / "called")


def test_it_says_what_has_to_be_known_and_that_nothing_changed(run: Run) -> None:
    words = ("export", "csv", "-m", f"{BTC.key},{LINEAR.key}", "--folder", "out", "--format", "table")
    first, second = run(*words), run(*words)
    assert first.out.startswith("3 files written to out\n")
    assert "0 files written to out, 3 there already as they are" in second.out
    assert "All: 120 1m candles absent: halt." in first.out
    assert "binance-linear:BTCUSDT: 1 settlement absent: absent." in first.said
    shorter = run(*words, "--to", "2024-02")
    assert "2 files written to out, 1 of earlier exports removed" in shorter.said


def test_a_program_gets_every_sidecar(run: Run) -> None:
    said = run("export", "csv", "-m", BTC.key, "--folder", "out", "--json")
    (found,) = json.loads(said.out)
    kept = json.loads(Path(found["sidecar_path"]).read_text("utf-8"))
    assert {name: found[name] for name in kept if name in found} == {
        name: value for name, value in kept.items() if name not in ("state", "files")
    }
    assert (found["written"], found["unchanged"], found["removed"]) == (1, 0, 0)


def test_what_failed_is_named_and_the_rest_is_done(run: Run, tmp_path: Path) -> None:
    said = run("export", "freqtrade", "-m", f"{COIN.key},{BTC.key}", "--folder", "out", "--format", "table")
    assert said.code == 1
    assert "1 file written to out" in said.out
    assert "error: 1 of 2 markets could not be exported." in said.err
    assert "binance-inverse:BTCUSD_PERP cannot be exported for freqtrade" in said.said
    assert (tmp_path / "out" / "binance" / "BTC_USDT-1m.feather").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("csv", "-m", " , "), 2, "No market is named"),
        (("csv", "-m", "BTC USDT"), 2, "is not a market key"),
        (("csv", "-m", "binance-spot:NONEUSDT"), 2, "has no candle of binance-spot:NONEUSDT"),
        (("csv", "-m", BTC.key, "--from", "2031"), 2, "is not a date"),
        (("csv", "-m", BTC.key, "--from", "2031-01"), 2, "from 2031-01-01T00:00:00Z to the end"),
        (("lean", "-m", BTC.key, "--interval", "5m"), 2, "lean reads no candles of 5m"),
        (("csv", "-m", BTC.key, "--interval", ","), 2, "No interval is named"),
        (("csv", "-m", BTC.key, "--mark-from-candles"), 2, "csv is given no mark prices"),
        (("csv", "-m", BTC.key, "--name", "XYZ/USDT"), 2, "expected a market key and its unified symbol"),
        (("freqtrade", "-m", NAMELESS.key), 2, "--name binance-spot:XYZUSDT=LUNA/USDT"),
    ],
)
def test_wrong_use_says_what_to_do_and_writes_nothing(
    run: Run, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    ended = run("export", *words, "--folder", "out")
    assert (ended.code, said in ended.said) == (code, True), ended.said
    assert files(tmp_path / "out") == {}


def test_a_file_in_the_way_is_kept_until_it_is_asked_otherwise(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "out" / "binance-spot" / "BTCUSDT-1m.csv"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    ended = run("export", "csv", "-m", BTC.key, "--folder", "out")
    assert ended.code == 1
    assert "is not as an export of binance-spot:BTCUSDT left it" in ended.said
    assert place.read_text() == "mine"
    assert run("export", "csv", "-m", BTC.key, "--folder", "out", "--overwrite").code == 0
    assert place.read_text().startswith("open_time,")
