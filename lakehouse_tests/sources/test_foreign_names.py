"""A symbol that is no name is refused at every door, named, and costs no other market anything."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.market import MarketTable, facts_by_market, market_frame
from lakehouse.defs.partitions import MARKETS, cells_between, parse_keys
from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.binance.klines import KlineFiles
from lakehouse.exchanges.binance.markets import read_exchange_info
from lakehouse.model.cell import Cell
from lakehouse.model.errors import FetchError, MarketKeyError, NotALakeObjectError, StoreError
from lakehouse.model.interval import MINUTE
from lakehouse.model.market import LONGEST_SYMBOL, Market, symbol_fault
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.result import CellResult
from lakehouse.opening import open_lake
from lakehouse.pipeline.files import FromFiles
from lakehouse.pipeline.inventory import Inventory
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.sources.files.batch import Batch
from lakehouse.sources.files.listing import list_market
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.sources.rest.describing import describe
from lakehouse.storage.layout import cell_path, landing_prefix
from lakehouse.storage.ledger import survey
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Failed
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, FEBRUARY, ArchiveFolder, candles, facts, klines, minutes, text

from .canned import INFO, canned
from .conftest import BRONZE, serve

HOSTILE = (
    "", "..", ".", "a\0b", "a\x1b[2Jb", "a\nb", "A" * 10_000, "a/b", "../../x", "a\\b", "%2e%2e", "a\u202eb", "\ud800", "BTC.", "BTC ", " BTC", "A=B", "a|b", "a,b", 'a"b', "a'b",
    "a b", "a\u200bb", "\u3164", "a\u115fb", "ＢＴＣ", "e\u0301X", "a..b", ".BTC", "-BTC", "币" * 22, "a*b", "a?b", "${HOME}", "a`b", "a;b", "<i>", "\x85", "１２", "a\u2028b", "٣",
)  # fmt: skip
GOOD = (
    "BTCUSDT",
    "币安人生USDT",
    "BTCUSD_PERP",
    "1000SATSUSDT",
    "BTCUSDT_240628",
    "NULL",
    "A.B",
    "X-Y",
    "__X__",
    "Éclair",
    "币" * 21,
    "a" * LONGEST_SYMBOL,
)


def named(symbol: str) -> dict[str, Any]:
    return {"symbol": symbol, "status": "TRADING", "baseAsset": "A", "quoteAsset": "B"}


@pytest.mark.parametrize("symbol", HOSTILE, ids=lambda symbol: ascii(symbol)[:20])
def test_no_market_can_be_made_of_what_is_no_symbol(symbol: str) -> None:
    assert symbol_fault(symbol)
    makers = [lambda: Market("binance", "spot", symbol), lambda: Market.parse(f"binance-spot:{symbol}")]
    for make in makers[: 2 - symbol.endswith(" ")]:  # who types a key may have a space behind it
        with pytest.raises(MarketKeyError) as refused:
            make()
        said = str(refused.value)
        assert len(said) < 600
        assert said.isprintable(), "nothing of it reaches a terminal"


@pytest.mark.parametrize("symbol", GOOD)
def test_what_exchanges_do_call_their_markets_is_taken_and_is_one_name_in_every_path(symbol: str) -> None:
    market = Market("binance", "spot", symbol)
    assert Market.parse(market.key) == market
    assert unicodedata.normalize("NFC", symbol) == symbol
    key = Binance("http://x").files[CandleArchive.name].key(market, Period.parse("2024-02-29"))
    parts = [
        *cell_path(Candle, Cell("2024-02", market)).split("/"),
        *landing_prefix("binance", f"{key}.CHECKSUM").split("/"),
    ]
    assert max(map(len, parts)) <= 255, "what file systems take"


@pytest.mark.parametrize(
    "key",
    [
        "../x-spot:BTC",
        "BINANCE-spot:BTC",
        "-spot:BTC",
        "binance-swap:BTC",
        f"{'b' * 33}-spot:BTC",
        "binance\n-spot:BTC",
    ],
)
def test_an_exchange_or_market_type_that_is_none_is_refused_likewise(key: str) -> None:
    exchange, _, rest = key.partition("-")
    for make in (lambda: Market.parse(key), lambda: Market(exchange, *rest.split(":"))):  # type: ignore[arg-type]
        with pytest.raises(MarketKeyError):
            make()


# --- doors ----------------------------------------------------------------------------------------


def test_an_exchange_info_loses_what_is_no_symbol_and_says_so() -> None:
    info = read_exchange_info(
        "spot", [named(symbol) for symbol in (*HOSTILE, *GOOD)] + [{"status": "TRADING"}, None]
    )
    assert (set(info.markets), set(info.skipped)) == (set(GOOD), {""})
    assert info.symbols == set(GOOD)
    assert (
        f"{len(HOSTILE) + 2} others of it can be no market, the first because it has no symbol"
        in info.skipped[""]
    )
    assert info.skipped[""].isprintable()


def test_the_sensor_takes_in_what_a_glob_matches_and_warns_of_the_rest(tmp_path: Path) -> None:
    from lakehouse.definitions import build_definitions
    from lakehouse.defs.sensors import Refresh, refresh_sensors

    with canned() as api, dg.DagsterInstance.ephemeral() as instance:
        api.says(
            "exchangeInfo",
            INFO | {"symbols": [named(symbol) for symbol in (*HOSTILE, "BTCUSDT", "币安人生USDT")]},
        )
        lake = open_lake(
            Settings(
                root=str(tmp_path / "lake"),
                binance_archive_url="http://127.0.0.1:9",
                binance_rest_url=api.url,
            )
        )
        (sensor,) = [
            sensor
            for sensor in refresh_sensors(lake, Refresh(add_markets=("binance-spot:*",)))
            if sensor.name == "market_listing"
        ]
        context = dg.build_sensor_context(
            instance=instance, repository_def=build_definitions(lake).get_repository_def()
        )
        result = sensor._raw_fn(context)
        assert isinstance(result, dg.SensorResult)
        (request,) = result.dynamic_partitions_requests or []
        assert list(request.partition_keys) == ["binance-spot:BTCUSDT", "binance-spot:币安人生USDT"]
        instance.add_dynamic_partitions(str(MARKETS.name), list(request.partition_keys))


def test_partitions_added_by_hand_are_left_out_by_name() -> None:
    keys = [
        BTC.key,
        *(f"binance-spot:{symbol}" for symbol in HOSTILE if symbol == symbol.strip()),
        "币",
        "",
        "|",
        "2024-01|binance-spot:X",
    ]
    markets, malformed = parse_keys(keys)
    assert (markets, list(malformed)) == ([BTC], keys[1:])
    assert cells_between(f"2024-01|{keys[3]}", f"2024-01|{keys[3]}", keys) == [], (
        "a run of them stops no sensor"
    )


def test_market_facts_of_an_earlier_release_are_left_out_alone(caplog: pytest.LogCaptureFixture) -> None:
    rows = market_frame([facts(), facts(Market("binance", "spot", "X"))])
    rows = rows.with_columns(symbol=rows["symbol"].replace({"X": "../x\x1b"}))
    assert set(facts_by_market(rows)) == {BTC}
    assert "begins with" in caplog.text or "may have" in caplog.text


def test_market_assets_name_hostile_partitions_and_succeed(tmp_path: Path, exchange: Simulator) -> None:
    from lakehouse.definitions import build_definitions
    from lakehouse.defs.describe import asset_key

    keys = [
        "nonsense",
        "binance-spot:../../x",
        f"binance-spot:{'A' * 10_000}",
        "binance-spot:a\x1b[2Jb",
        BTC.key,
    ]
    lake = open_lake(
        Settings(
            root=str(tmp_path / "lake"), binance_archive_url=exchange.url, binance_rest_url=exchange.url
        ),
        clock=lambda: exchange.now,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(MARKETS.name), keys)
        job = build_definitions(lake).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=instance, asset_selection=[asset_key(MarketTable)], raise_on_error=False
        )
        assert result.success
        (event,) = result.asset_materializations_for_node("silver__market")
        left_out: Any = event.metadata["left_out"].value
        assert set(left_out) == set(keys[:-1])
    assert set(facts_by_market(lake.tables.get(MarketTable, None).rows)) == {BTC}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name",
    [
        b"a\nb",
        b"a\x1bb",
        b"\xff\xfe",
        "\u202eX".encode(),
        b"a b ",
        b"X.",
        b"x" * 240,
        b"%2E%2E",
        b"a\\b",
        b"A=B",
        b"%00",
        b"",
        "e\u0301".encode(),
        b"a%0Ab",
    ],
    ids=ascii,
)
def test_a_folder_of_the_lake_with_such_a_name_is_named_and_hides_no_other(
    objects: LakeObjects, name: bytes
) -> None:
    record = TableStore(objects).put(Candle, FEBRUARY, CellResult(candles(minutes("2024-02-05", 3)), {}))
    folder = os.path.join(
        objects.root.encode(),
        b"silver/candle/exchange=binance/market_type=spot/symbol=" + name + b"/month=2024-02",
    )
    os.makedirs(folder)
    Path(os.fsdecode(folder), "data.parquet").write_bytes(objects.get(record.path) or b"")
    for _ in range(2):  # by footers, then beside a cache
        stored, (foreign,) = survey(objects, Candle)
        assert stored == {FEBRUARY: record}
        assert isinstance(foreign, NotALakeObjectError)
        str(foreign).encode()


@pytest.mark.parametrize("month", ["2024-13", "2024-1", "0000-01", "2024-02-01", "x", "２０２４-02"])
def test_a_month_that_is_none_is_named_likewise(objects: LakeObjects, month: str) -> None:
    record = TableStore(objects).put(Candle, FEBRUARY, CellResult(candles(minutes("2024-02-05", 3)), {}))
    objects.put(record.path.replace("2024-02", month), objects.get(record.path) or b"")
    stored, foreign = survey(objects, Candle)
    assert (set(stored), len(foreign)) == ({FEBRUARY}, 1)


def test_a_folder_of_real_files_with_such_names_lists_the_others(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path)
    for symbol in ("BTCUSDT", "a b", "..a", "a'b", "币安人生USDT"):
        path = tmp_path / f"data/spot/daily/klines/{symbol}/1m/{symbol}-1m-2024-02-05.zip"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    with serve(folder) as sim:
        assert describe(Binance(sim.url, sim.url).rest_api("spot")).symbols == {"BTCUSDT", "币安人生USDT"}


@pytest.mark.parametrize(
    "key",
    [
        "binance-spot:../../x",
        "binance-spot:a\x1b[2Jb",
        f"binance-spot:{'A' * 10_000}",
        "binance-spot:",
        "binance-spot:a'b",
    ],
    ids=lambda key: ascii(key)[:30],
)
def test_the_command_refuses_it_in_a_line_and_touches_nothing(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lakehouse.cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lakehouse", "markets", "add", key])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert "not a market key" in " ".join(said.err.split())
    assert "Traceback" not in said.out + said.err
    assert "\x1b[2J" not in said.out + said.err
    assert list(tmp_path.iterdir()) == []


# --- stores and tools -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a//b", "../x", "a/../b", "a/\0b", "a/\x1bb", "a/\nb", "\ud800", "a/."])
def test_a_path_that_is_none_to_the_store_is_an_error_of_ours(objects: LakeObjects, path: str) -> None:
    for ask in (
        objects.get_tagged,
        lambda path: objects.put(path, b""),
        lambda path: list(objects.list(path)),
    ):
        with pytest.raises(StoreError) as refused:
            ask(path)
        assert not refused.value.everywhere, "the next object fares better"


@pytest.mark.parametrize("prefix", ["a//b/", "../x/", "a/./b/", "%2e%2e/", "a b&prefix=data/"])
def test_a_prefix_leads_nowhere_but_to_what_begins_with_it(exchange: Simulator, prefix: str) -> None:
    assert list(ArchiveClient(exchange.url, Binance.bucket).objects(prefix)) == []


@pytest.mark.parametrize("prefix", ["\ud800/", "data/\udfff/"])
def test_a_prefix_that_is_none_to_the_archive_is_an_error_of_its_market(
    exchange: Simulator, prefix: str
) -> None:
    with pytest.raises(FetchError):
        list(ArchiveClient(exchange.url, Binance.bucket).objects(prefix))


class OddFiles(KlineFiles):
    """One market's lie where no store has anything."""

    def prefix(self, market: Market, kind: PeriodKind) -> str:
        return "data/\ud800/" if market.symbol == "ODD" else super().prefix(market, kind)


class Odd(Binance):
    """An exchange that publishes them."""

    files = {CandleArchive.name: OddFiles(MINUTE)}


def test_a_market_that_the_store_cannot_be_asked_about_fails_alone(
    exchange: Simulator, tmp_path: Path
) -> None:
    lake = open_lake(
        Settings(
            root=str(tmp_path / "lake"),
            binance_archive_url=exchange.url,
            binance_rest_url="http://127.0.0.1:9",
        ),
        clock=lambda: exchange.now,
    )
    lake.exchanges = {"binance": Odd(exchange.url, "http://127.0.0.1:9")}
    odd = Cell("2024-02", Market("binance", "spot", "ODD"))
    has = Inventory(lake)
    has.list_files(CandleArchive.name, [odd, FEBRUARY])
    assert set(has.listings[CandleArchive.name]) == {BTC}
    assert set(has.unlisted[CandleArchive.name]) == {odd.market}
    outcomes = dict(FromFiles(REGISTRY.datasets[0]).make(Inventory(lake), [odd, FEBRUARY]))
    assert isinstance(outcomes[odd], Failed)
    assert isinstance(outcomes[odd].error, FetchError)
    assert not isinstance(outcomes[FEBRUARY], Failed)
    with pytest.raises(FetchError):
        list_market(
            ArchiveClient(exchange.url, Binance.bucket),
            Odd(exchange.url),
            BRONZE,
            odd.own_market,
            odd.window,
            exchange.now,
        )


@pytest.mark.parametrize("odd", ['a"b', "a'b", "a$b", "a`b", "a\\b", "a b", "a;b"])
def test_a_quote_in_a_key_fails_no_other_file_of_a_batch(folder: ArchiveFolder, odd: str) -> None:
    keys = [folder.put(f"2024-01-{day:02d}", text(klines(f"2024-01-{day:02d}", 2))) for day in range(1, 31)]
    key = keys[0].replace("BTCUSDT-1m", odd)
    folder.put_bytes(key, b"PK odd")
    with serve(folder) as sim, Batch(ArchiveClient(sim.url, Binance.bucket), [key, *keys]) as batch:
        assert all(batch.wait(one).body for one in keys)
        assert batch.wait(key).body == b"PK odd"
