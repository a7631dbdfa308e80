"""Bytes in a lake that were made to hurt: each is the error of its own object, told before it is inflated,
and costs no other cell anything.
"""

import io
import json
import resource
import tracemalloc
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.gap import Gap
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError, NotALakeObjectError, TooManyRowsError
from lakehouse.model.market import Market
from lakehouse.model.result import Asked, CellFacts, CellResult, Contradiction, GapRun, Problem
from lakehouse.query.lake import Lake
from lakehouse.storage.footers import parse_cache, save_cache
from lakehouse.storage.landing import Landing, Receipt
from lakehouse.storage.layout import VERIFICATION, ledger_path
from lakehouse.storage.ledger import ledger, survey
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.parquet import decode, read_footer
from lakehouse.storage.seal import HOLE, SEAL_KEY, json_seal, seal
from lakehouse.storage.tables import CellRecord, TableStore
from lakehouse.storage.verification import load_verification
from lakehouse_tests.making import BTC, FEBRUARY, MINUTE, NOW, bronze, candles, minutes

from .hostile import bomb, changed, footer_of, with_footer, written

pytestmark = pytest.mark.slow

ETH = Cell("2024-02", Market("binance", "spot", "ETHUSDT"))
FACTS = CellFacts(
    (GapRun("absent", NOW, NOW + MINUTE, 1, NOW),), 1, "totals", NOW, (Problem("a", "short", "b"),), (Asked(NOW, NOW + MINUTE, NOW, "rows", NOW, NOW),), 1, ("2024-02-05",), NOW, 1,
    (NOW,), "d", (Contradiction(NOW, NOW + MINUTE, "api", ("close",)),),
)  # fmt: skip


@pytest.fixture
def objects(tmp_path: Any) -> LakeObjects:
    return LakeObjects(tmp_path / "lake")


@pytest.fixture
def store(objects: LakeObjects) -> TableStore:
    return TableStore(objects)


def put(store: TableStore, cell: Cell = FEBRUARY) -> CellRecord:
    return store.put(Candle, cell, CellResult(candles(minutes("2024-02-05", 3)), {"a": "1"}, FACTS))


DEEP = "[" * 100_000 + "]" * 100_000
TEXTS: dict[str, Callable[[str], str | bytes]] = {
    "deep lists": lambda text: DEEP,
    "deep objects": lambda text: '{"a":' * 50_000 + "1" + "}" * 50_000,
    "deep within": lambda text: text.replace('"problems": [', f'"problems": [{"[" * 900}{"]" * 900}, '),
    "a number without end": lambda text: text.replace('"rows": 3', '"rows": ' + "9" * 10_000),
    "a real number without end": lambda text: text.replace('"rows": 3', '"rows": 3.' + "0" * 10_000),
    "NaN": lambda text: text.replace('"rows": 3', '"rows": NaN'),
    "Infinity": lambda text: text.replace('"rows": 3', '"rows": -Infinity'),
    "a number that is infinite": lambda text: text.replace('"rows": 3', '"rows": 1e999'),
    "a field twice": lambda text: text.replace('"rows": 3', '"rows": 3, "rows": 3'),
    "no UTF-8": lambda text: text.encode().replace(b"absent", b"ab\xffsent"),
    "a lone surrogate": lambda text: text.replace("absent", "\\ud800"),
    "a NUL": lambda text: text.replace('"version": "', '"version": "\x00'),
    "cut": lambda text: text[:-5],
    "a list": lambda text: f"[{text}]",
    "a text": lambda text: '"' + "x" * 10_000 + '"',
    "null": lambda text: "null",
    "nothing": lambda text: "",
}
VALUES: dict[str, list[Any]] = {
    "rows": ["3", None, -3, 3.0, True, 2**70, []],
    "version": [None, 7, ["a"], {}],
    "table": [None, 7, "gold/x"],
    "cell": [None, "2024-02|binance-spot:ETHUSDT"],
    "inputs": [None, [], "a", {"a": 1}, {"a": None}, {"a": ["b"]}],
    "first_time": [
        7,
        "",
        "x",
        "2024-02-05",
        "2024-02-05 00:00:00",
        "2024-02-05 00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        [],
        "2" * 5_000,
    ],
    "last_time": [0, {}, "0000-00-00"],
    "code_version": ["1", -1, None, 1.5],
    "reject_count": [[], "x", -1, 1 << 62],
    "facts": [None, [], {}, "x"],
    "facts.gaps": [
        None,
        7,
        ["a"],
        [None],
        [{}],
        {"a": 1},
        [{"gap_class": "halt", "start": str(NOW), "end": str(NOW), "slot_count": 1}],
    ],
    "facts.gaps.0.gap_class": ["gone", None, [], {}],
    "facts.gaps.0.slot_count": ["1", -1, 10**60],
    "facts.conflict_count": ["1", None, 1.0, -1],
    "facts.evidence": ["certain", 7, []],
    "facts.asked_until": ["soon", 7, "2024-02-05"],
    "facts.problems": [
        None,
        [7],
        [{"subject": "a"}],
        [{"subject": 1, "kind": "b", "detail": "c"}],
        [{"evil": "a"}],
    ],
    "facts.asked": [[7], [{"start": None}], [{}], None],
    "facts.asked.0.outcome": ["maybe", None],
    "facts.asked.0.end": ["1999-01-01T00:00:00+00:00", None],
    "facts.asked.0.tries": ["x", -1],
    "facts.doubts": [[7], ["x"], ["2024-02-30"], ["20240205"], 7],
    "facts.revised_at": [7, "x"],
    "facts.answered_at": [[None], ["x"], 7],
    "facts.restatement_count": ["x", -1],
    "facts.conflict_digest": [7, None],
    "facts.contradictions": [[{}], ["x"], [{"columns": 7}]],
    "facts.contradictions.0.source": ["me", 7],
    "facts.contradictions.0.columns": [[7], 7, None],
    "facts.contradictions.0.is_wholesale": ["yes", None],
}


def replaced(footer: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """As `changed`, also within a list."""
    if ".0." not in path:
        return changed(footer, path, value)
    above, name = path.split(".0.")
    (first,) = footer["facts"][above.split(".")[1]]
    return changed(footer, above, [first | {name: value}])


def test_the_footer_that_is_changed_below_is_sound(store: TableStore, objects: LakeObjects) -> None:
    record = put(store)
    body = objects.get(record.path) or b""
    objects.put(record.path, with_footer(body, json.dumps(footer_of(body))))
    assert survey(objects, Candle)[0][FEBRUARY].facts == FACTS


def harm(store: TableStore, objects: LakeObjects, footer: str | bytes, is_sealed: bool) -> None:
    """Give one cell a footer: it alone is named, by every way to look."""
    other, record = put(store, ETH), put(store)
    body = objects.get(record.path) or b""
    objects.put(record.path, with_footer(body, footer, is_sealed))
    for _ in range(2):  # by footers, then beside a cache
        stored, (error,) = survey(objects, Candle)
        assert stored == {ETH: other}
        assert error.path == record.path
        assert len(str(error)) < 1_000
    with pytest.raises(NotALakeObjectError):
        store.get(Candle, FEBRUARY)


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "unsealed"])
@pytest.mark.parametrize("what", TEXTS)
def test_a_footer_that_is_no_json_damages_its_cell_alone(
    store: TableStore, objects: LakeObjects, what: str, is_sealed: bool
) -> None:
    record = put(store)
    text = json.dumps(footer_of(objects.get(record.path) or b""), sort_keys=True)
    harm(store, objects, TEXTS[what](text), is_sealed)


@pytest.mark.parametrize("path", VALUES)
def test_a_footer_with_a_value_of_another_kind_damages_its_cell_alone(
    store: TableStore, objects: LakeObjects, path: str
) -> None:
    record = put(store)
    footer = footer_of(objects.get(record.path) or b"")
    for value in VALUES[path]:
        harm(store, objects, json.dumps(replaced(footer, path, value)), is_sealed=True)


def test_status_and_reads_go_on_beside_such_a_cell(store: TableStore, objects: LakeObjects) -> None:
    put(store)
    harm(store, objects, DEEP, is_sealed=True)
    lake = Lake(objects.root)
    assert lake.candles("binance-spot:ETHUSDT", "2024-02-05", "2024-02-06").height == 3
    assert lake.scan("silver/candle", ["binance-spot:ETHUSDT"]).collect().height == 3
    with pytest.raises(LakehouseError):
        lake.candles(BTC, "2024-02-05", "2024-02-06")


# --- what would be inflated -----------------------------------------------------------------------


def peak_of(read: Callable[[], object]) -> float:
    """By how many MB the process's own peak rose while something was read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    with pytest.raises(LakehouseError):
        read()
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return max(traced / 2**20, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


@pytest.mark.parametrize("said", [None, 3])
def test_rows_beyond_the_slots_of_a_cell_are_never_inflated(
    store: TableStore, objects: LakeObjects, said: int | None
) -> None:
    """Equal rows: 3 million take some kB."""
    other, record = put(store, ETH), put(store)
    footer = footer_of(objects.get(record.path) or b"")
    rows = 3_000_000
    body = written(bomb(rows, candles(minutes("2024-02-05", 1))), json.dumps(footer | {"rows": said or rows}))
    objects.put(record.path, body)
    lake = Lake(objects.root)

    def read_all() -> None:
        for read in (
            lambda: store.get(Candle, FEBRUARY),
            lambda: decode("x", body, Candle.most_rows()),
            lambda: lake.scan("silver/candle").collect(),
        ):
            with pytest.raises(NotALakeObjectError):
                read()
        lake.candles(BTC, "2024-02-05", "2024-02-06")

    assert peak_of(read_all) < 100
    assert survey(objects, Candle)[0] == {ETH: other}
    assert lake.candles("binance-spot:ETHUSDT", "2024-02-05", "2024-02-06").height == 3


def test_texts_that_inflate_beyond_what_rows_can_have_are_never_inflated(
    store: TableStore, objects: LakeObjects
) -> None:
    import pyarrow as pa

    record = put(store)
    footer = footer_of(objects.get(record.path) or b"")
    sound = candles(minutes("2024-02-05", 3000))
    rows = sound.with_columns(source=pl.lit("x" * 50_000)).to_arrow(compat_level=pl.CompatLevel.oldest())
    body = written(pa.table(rows), json.dumps(footer | {"rows": 3000}), use_dictionary=False)
    assert len(body) < 2**20
    objects.put(record.path, body)
    assert peak_of(lambda: store.get(Candle, FEBRUARY)) < 100


@pytest.mark.parametrize(("groups", "columns"), [(1_500, 1), (1, 300)])
def test_row_groups_and_columns_without_end_are_refused(groups: int, columns: int) -> None:
    sink = io.BytesIO()
    frame = pl.DataFrame({f"c{n}": range(groups) for n in range(columns)})
    frame.write_parquet(sink, row_group_size=1)
    with pytest.raises(NotALakeObjectError, match="row groups of"):
        read_footer("x", sink.getvalue())


def test_more_rows_than_a_reader_believes_are_not_written(
    store: TableStore, objects: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Candle, "most_per_minute", 0)
    with pytest.raises(TooManyRowsError, match="3 rows, a cell of this table has 0 at most"):
        put(store)
    assert list(objects.list("silver")) == []


def test_what_cells_may_have_is_far_above_what_they_do() -> None:
    assert (Candle.most_rows(), CandleArchive.most_rows()) == (4 * 44_640, 16 * 44_640)
    assert Gap.most_rows() > 1_000_000


@pytest.mark.parametrize("size", [1 << 31, 1 << 40])
def test_an_object_of_absurd_size_is_named_unread(store: TableStore, objects: LakeObjects, size: int) -> None:
    other, record = put(store, ETH), put(store)
    with open(objects.uri(record.path), "r+b") as opened:
        opened.truncate(size)  # sparse: it takes no room
    stored, (error,) = survey(objects, Candle)
    assert stored == {ETH: other}
    assert f"{size:,} bytes" in str(error)


# --- caches ---------------------------------------------------------------------------------------


def resealed(cache: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    cache.write_parquet(sink, compression="zstd", metadata={SEAL_KEY: HOLE})
    return seal(sink.getvalue())


EDITS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "rows": lambda cache: cache.with_columns(rows=pl.lit(2, pl.Int64)),
    "version": lambda cache: cache.with_columns(version=pl.lit("0" * 32)),
    "inputs": lambda cache: cache.with_columns(inputs=pl.lit('{"a": "2"}')),
    "evidence": lambda cache: cache.with_columns(pl.col("facts").str.replace("totals", "rows_api")),
    "another cell's": lambda cache: cache.with_columns(pl.exclude("path", "etag", "size").reverse()),
    "two swapped": lambda cache: cache.with_columns(pl.col("path").reverse()),
    "no JSON": lambda cache: cache.with_columns(facts=pl.lit("{")),
    "deep": lambda cache: cache.with_columns(facts=pl.lit(DEEP)),
    "the etag of an earlier version": lambda cache: cache.with_columns(size=pl.col("size") + 1),
}


@pytest.mark.parametrize("what", EDITS)
@pytest.mark.parametrize("is_resealed", [True, False])
def test_a_cache_that_was_edited_under_a_right_etag_is_not_believed(
    store: TableStore, objects: LakeObjects, what: str, is_resealed: bool
) -> None:
    stored = {cell: put(store, cell) for cell in (FEBRUARY, ETH)}
    assert ledger(objects, Candle) == stored
    path = ledger_path(Candle)
    edited = EDITS[what](pl.read_parquet(io.BytesIO(objects.get(path) or b"")))
    if is_resealed:
        objects.put(path, resealed(edited))
    else:
        edited.write_parquet(objects.uri(path))
    assert ledger(objects, Candle) == stored
    assert ledger(objects, Candle) == stored, "and mended"


def test_a_cache_forged_whole_moves_no_row_to_another_market(store: TableStore, objects: LakeObjects) -> None:
    """Who knows how entries are sealed can forge one: what rows are told apart by is held against the cell's
    own footer all the same.
    """
    for number, cell in enumerate((FEBRUARY, ETH)):
        store.put(Candle, cell, CellResult(candles(minutes("2024-02-05", 3), close=101.0 + number), {}))
    right = Lake(objects.root).scan("silver/candle").collect()
    cache = parse_cache(ledger_path(Candle), objects.get(ledger_path(Candle)) or b"")
    forged = cache.with_columns(rows=pl.when(pl.col("path").str.contains("BTC")).then(1).otherwise(5))
    save_cache(objects, Candle, forged.cast(cache.schema))
    assert [record.rows for record in ledger(objects, Candle).values()] == [1, 5], (
        "it is believed of what is only listed"
    )
    assert Lake(objects.root).scan("silver/candle").collect().equals(right)


def test_a_cache_that_inflates_without_end_is_a_lost_one(store: TableStore, objects: LakeObjects) -> None:
    record = put(store)
    ledger(objects, Candle)
    cache = pl.read_parquet(io.BytesIO(objects.get(ledger_path(Candle)) or b""))
    huge = pl.concat([cache.with_columns(facts=pl.lit("x" * 1_000_000))] * 100)
    sink = io.BytesIO()
    huge.write_parquet(
        sink,
        compression="zstd",
        use_pyarrow=True,
        pyarrow_options={"use_dictionary": False, "store_schema": False},
    )
    import pyarrow.parquet as pq

    rows = pq.read_table(io.BytesIO(sink.getvalue())).replace_schema_metadata({SEAL_KEY: HOLE})
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink, rows.schema.remove_metadata(), compression="zstd", use_dictionary=False
    ) as writer:
        writer.write_table(rows.replace_schema_metadata(None))
        writer.add_key_value_metadata({SEAL_KEY: HOLE})
    objects.put(ledger_path(Candle), seal(sink.getvalue()))
    with pytest.raises(NotALakeObjectError, match="inflates to"):
        parse_cache(ledger_path(Candle), objects.get(ledger_path(Candle)) or b"")
    assert ledger(objects, Candle) == {FEBRUARY: record}


# --- receipts and the record of a verification ----------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        '{"a":' * 900 + "1" + "}" * 900,
        "9" * 10_000,
        "NaN",
        '{"key": "a", "key": "a"}',
        "",
        "[]",
        "null",
        '"x"',
        "\ud800",
        '{"key": "\\ud800"}',
    ],
    ids=lambda body: ascii(body)[:12],
)
def test_what_is_no_receipt_is_none(objects: LakeObjects, body: str) -> None:
    landing = Landing(objects, "binance")
    sound = landing.admit(Receipt("data/a.zip", "u", "e:3:none", "ab" * 32, "", NOW, NOW, "ok"), b"abc")
    path = f"landing/exchange=binance/data/a.zip/{'cd' * 32}.json"
    objects.put(path, body.encode("utf-8", "surrogatepass"))
    assert landing.read(path) is None
    assert landing.history(landing.receipts("data")["data/a.zip"]) == [sound]
    assert path in {one.path for one in landing.inspect().damage}


@pytest.mark.parametrize(
    "changes",
    [
        {"checked": {"a": "x"}},
        {"unsealed": -1},
        {"at": "2024-01-01"},
        {"damage": [[]]},
        {"damage": [{"path": "a"}]},
        {"checked": []},
        {"at": 7},
    ],
)
def test_a_record_of_a_verification_that_says_nonsense_is_none(
    objects: LakeObjects, changes: dict[str, Any]
) -> None:
    said = {"at": NOW.isoformat(), "checked": {"landing": 1}, "unsealed": 0, "damage": []}
    objects.put(VERIFICATION, json.dumps(said | {"seal": json_seal(said)}).encode())
    assert load_verification(objects) is not None
    objects.put(VERIFICATION, json.dumps((said | changes) | {"seal": json_seal(said | changes)}).encode())
    assert load_verification(objects) is None
    objects.put(VERIFICATION, DEEP.encode())
    assert load_verification(objects) is None


def test_bronze_keeps_room_for_what_its_sources_restate(store: TableStore) -> None:
    rows = bronze(minutes("2024-02-01", 1000))
    assert store.put(CandleArchive, FEBRUARY, CellResult(rows, {})).rows == 1000


def test_a_footer_that_no_reader_would_take_is_not_written(store: TableStore, objects: LakeObjects) -> None:
    deep = CellResult(candles(minutes("2024-02-01", 5)), {"of\ud800": "half a character"})
    with pytest.raises(NotALakeObjectError, match="half a character"):
        store.put(Candle, Cell("2024-02", BTC), deep)
    assert store.get(Candle, Cell("2024-02", BTC)) is None
