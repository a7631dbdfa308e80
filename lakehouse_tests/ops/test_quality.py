"""The report says the worst of every cell, and everything it knows."""

import pytest

from lakehouse.datasets.candle import Candle, CandleArchive, CandleWitness
from lakehouse.model.cell import Cell
from lakehouse.model.errors import NotALakeObjectError, NothingStoredError
from lakehouse.model.result import CellFacts, CellResult, Contradiction, GapRun, Problem
from lakehouse.ops.anomalies import CellAnomalies
from lakehouse.ops.quality import DAMAGED, UNBUILT, CellQuality, lake_quality, quality_report, summary
from lakehouse.query.lake import Lake
from lakehouse.storage.layout import cell_path
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, COIN, FEBRUARY, NOW, at, bronze, candles, minutes

HALT = GapRun("halt", at("2024-02-10"), at("2024-02-10T01:00"), 60)
PENDING = GapRun("absent", at("2024-04-08"), at("2024-04-09"), 1440)  # two days before `NOW`
LATE = GapRun("absent", at("2024-02-20"), at("2024-02-21"), 1440)
UNLISTED = GapRun("not_listed", at("2024-02-01"), at("2024-02-02"), 1440)
WRONG = Contradiction(at("2024-02-10T05:00"), at("2024-02-10T07:00"), "witness", ("volume",))
ALIEN = Contradiction(at("2024-02-10"), at("2024-02-11"), "api", ("open", "close"), is_wholesale=True)
HEALED, UNHEALED = Problem("a.zip", "mismatch", "", "a day"), Problem("b.zip", "corrupt", "")


def report(
    objects: LakeObjects, facts: CellFacts, anomalies: CellAnomalies | None = None, cell: Cell = FEBRUARY
) -> list[CellQuality]:
    TableStore(objects).put(Candle, cell, CellResult(candles(minutes(f"{cell.date}-01", 5)), {}, facts))
    return quality_report(ledger(objects, Candle), {cell: anomalies} if anomalies else {}, NOW)


@pytest.mark.parametrize(
    ("facts", "anomalies", "state", "reasons"),
    [
        (CellFacts(), None, "good", []),
        (
            CellFacts(gaps=(UNLISTED,), conflict_count=4, problems=(HEALED,)),
            CellAnomalies("", {}),
            "good",
            [],
        ),
        (CellFacts(gaps=(PENDING,)), None, "pending", ["1,440 rows absent (pending)"]),
        (
            CellFacts(gaps=(HALT, PENDING)),
            None,
            "warn",
            ["60 rows absent (halt)", "1,440 rows absent (pending)"],
        ),
        (
            CellFacts(conflict_count=4, unsettled_count=3),
            None,
            "warn",
            ["3 disputed keys that no proof decided"],
        ),
        (
            CellFacts(problems=(HEALED, UNHEALED)),
            None,
            "warn",
            ["1 problem with sources, not healed (corrupt)"],
        ),
        (
            CellFacts(),
            CellAnomalies("", {"spike": 1, "stale_price": 2}),
            "warn",
            ["3 candles flagged as odd"],
        ),
        (
            CellFacts(evidence="contradicted", contradictions=(WRONG,)),
            None,
            "warn",
            [
                "1h candles by REST contradict what is served from 2024-02-10 05:00 to 2024-02-10 07:00 in "
                "volume"
            ],
        ),
        (
            CellFacts(contradictions=(WRONG,) * 5),
            None,
            "warn",
            [str(WRONG)] * 3 + ["2 further contradictions"],
        ),
        (CellFacts(contradictions=(WRONG, ALIEN)), None, "error", [str(ALIEN), str(WRONG)]),
        (
            CellFacts(gaps=(HALT, LATE)),
            None,
            "error",
            ["1,440 rows absent (unproven)", "60 rows absent (halt)"],
        ),
        (
            CellFacts(gaps=(GapRun("conflict", at("2024-02-10"), at("2024-02-10T00:02"), 2),)),
            None,
            "error",
            ["2 rows absent (conflict)"],
        ),
    ],
)
def test_a_cell_is_as_good_as_the_worst_of_it(
    objects: LakeObjects, facts: CellFacts, anomalies: CellAnomalies | None, state: str, reasons: list[str]
) -> None:
    (found,) = report(objects, facts, anomalies)
    assert (found.state, [why for _, why in found.reasons]) == (state, reasons)


def test_a_record_says_everything_that_is_known(objects: LakeObjects) -> None:
    facts = CellFacts(
        (UNLISTED, HALT, LATE), 7, "rows_daily", at("2024-03-01"), (HEALED, HEALED, UNHEALED), (), 3
    )
    (found,) = report(objects, facts, CellAnomalies("", {"spike": 2}))
    assert found.to_json() == {
        "market": BTC.key, "month": "2024-02", "state": "error", "rows": 5, "not_listed": 1440, "halt": 60, "conflict": 0, "pending": 0, "unproven": 1440,
        "quiet": 0, "silent": 0, "conflicts_settled": 4, "conflicts_unsettled": 3,
        "evidence": "rows_daily", "problems_healed": 2, "problems_unhealed": 1, "rejected": 0, "contradictions": [],
        "newest": at("2024-02-01T00:04"), "anomalies": 2, "why": [why for _, why in found.reasons],
    }  # fmt: skip
    assert len(found.reasons) == 5


def test_a_month_between_others_of_which_nothing_is_stored_is_an_error(objects: LakeObjects) -> None:
    report(objects, CellFacts())
    found = report(objects, CellFacts(), cell=FEBRUARY.shift(2))
    assert [(one.cell.date, one.rows, one.state) for one in found] == [
        ("2024-02", 5, "good"),
        ("2024-03", None, "error"),
        ("2024-04", 5, "good"),
    ]
    assert summary(found) == {"good": 2, "pending": 0, "warn": 0, "error": 1}


def test_rows_in_quarantine_are_said(objects: LakeObjects) -> None:
    TableStore(objects).put(
        Candle, FEBRUARY, CellResult(candles(minutes("2024-02-01", 3), low=[99.0, 500.0, 99.0]), {})
    )
    (found,) = quality_report(ledger(objects, Candle), {}, NOW)
    assert (found.rows, found.rejected, found.state) == (2, 1, "warn")


def test_a_damaged_cell_and_a_month_that_only_bronze_has_are_errors(objects: LakeObjects) -> None:
    """Neither is in the ledger: whoever looks there alone says that all is well."""
    store, january, march = TableStore(objects), FEBRUARY.shift(-1), FEBRUARY.shift(1)
    for cell in (january, FEBRUARY, march):
        store.put(CandleArchive, cell, CellResult(bronze(minutes(f"{cell.date}-01", 5)), {}))
    for cell in (FEBRUARY, march):
        store.put(Candle, cell, CellResult(candles(minutes(f"{cell.date}-01", 5)), {}))
    # what nothing is made of alone
    store.put(CandleWitness, FEBRUARY.shift(-4), CellResult(bronze(minutes("2023-10-01", 1)), {}))
    objects.put(cell_path(Candle, march), (objects.get(cell_path(Candle, march)) or b"")[:200])

    def told(*markets: object) -> list[tuple[str, str, list[str]]]:
        return [
            (one.cell.date, one.state, [why for _, why in one.reasons])
            for one in lake_quality(Lake(objects.root), Candle, markets, NOW)
        ]  # type: ignore[arg-type]

    assert told() == [
        ("2024-01", "error", [UNBUILT]),
        ("2024-02", "good", []),
        ("2024-03", "error", [DAMAGED]),
    ]
    assert told(BTC) == told()
    with pytest.raises(NothingStoredError, match="BTCUSD_PERP"):
        told(BTC, COIN)
    objects.put("silver/candle/copy/data.parquet", b"")
    with pytest.raises(NotALakeObjectError, match="copy"):
        told()
