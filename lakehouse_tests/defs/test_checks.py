"""Checks pass over a good lake and fail for real: over gaps, disputes, older meanings, and stored rows that
were tampered with.
"""

from dataclasses import replace

import dagster as dg
import polars as pl
import pytest

from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellResult
from lakehouse.ops import anomalies, findings
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.simulator import Simulator
from lakehouse.transform.anomalies import find_anomalies
from lakehouse_tests.making import at, spot_tables

from .conftest import BTC, ETH, HOURS, SILVER, Shell

BAD = Cell("2024-02", BTC)


def numbers(evaluation: dg.AssetCheckEvaluation) -> tuple[object, object]:
    return evaluation.metadata["cells"].value, evaluation.metadata["bad_cells"].value


def linked(evaluation: dg.AssetCheckEvaluation) -> str:
    """Where the findings of a check lead to."""
    return str(evaluation.metadata["where"].value)


def found(evaluation: dg.AssetCheckEvaluation) -> list[dict[str, object]]:
    table = evaluation.metadata.get("findings")
    return [dict(record.data) for record in table.records] if isinstance(table, dg.TableMetadataValue) else []


def tamper(
    lake: LakeServices, name: str, cell: Cell, rows: pl.DataFrame, inputs: dict[str, str] | None = None
) -> str:
    """Put other rows into a cell, its footer as it was; the new version."""
    table = lake.registry.table(name)
    stored = lake.tables.get(table, cell)
    assert stored is not None
    return lake.tables.put(
        table, cell, CellResult(rows, inputs or stored.record.inputs, stored.record.facts)
    ).version


def rows_of(lake: LakeServices, name: str, cell: Cell) -> pl.DataFrame:
    stored = lake.tables.get(lake.registry.table(name), cell)
    assert stored is not None
    return stored.rows


@pytest.mark.slow
def test_all_checks_of_a_good_lake_pass_and_count_its_cells(shell: Shell, lake: LakeServices) -> None:
    shell.build("gold", [BTC, ETH])
    for table in spot_tables(lake.registry.tables):
        evaluations = shell.check(table.name)
        assert list(evaluations) == list(findings.families(table)), table.name
        cells = {"one": 1, "all": 3, "market": 6 * (table.name != "bronze/candle_api")}[table.spread]
        ended = {"freshness": (True, 0, 0)} if "freshness" in evaluations else {}  # both markets are delisted
        assert {
            name: (found.passed, *numbers(found)) for name, found in evaluations.items()
        } == dict.fromkeys(evaluations, (True, cells, 0)) | ended
        if table.name == "silver/candle":
            markets = evaluations["schema"].metadata["markets"]
            assert isinstance(markets, dg.TableMetadataValue)
            assert [
                (row.data["market"], row.data["cells"], row.data["with gaps"]) for row in markets.records
            ] == [(market.key, 3, 0) for market in (BTC, ETH)]


@pytest.mark.slow
def test_a_tampered_gold_cell_fails_resample(shell: Shell, lake: LakeServices) -> None:
    shell.build(HOURS, [BTC, ETH])
    rows = rows_of(lake, HOURS, BAD)
    tamper(
        lake,
        HOURS,
        BAD,
        rows.with_columns(
            pl.when(pl.int_range(pl.len()) == 5)
            .then(pl.col("volume") * 1.001)
            .otherwise("volume")
            .alias("volume")
        ),
    )
    resample = shell.check(HOURS)["resample"]
    assert (resample.passed, resample.severity, *numbers(resample)) == (
        False,
        dg.AssetCheckSeverity.ERROR,
        6,
        1,
    )
    assert [row["cell"] for row in found(resample)] == [str(BAD)]


@pytest.mark.slow
def test_a_silver_row_that_went_missing_fails_resample(shell: Shell, lake: LakeServices) -> None:
    """The gold cell says it was made from this very version, so its counts must be those of the rows that are
    there.
    """
    shell.build(HOURS, [BTC])
    version = tamper(lake, SILVER, BAD, rows_of(lake, SILVER, BAD)[:-1])
    stale = shell.check(HOURS)["resample"]
    assert (stale.passed, *numbers(stale)) == (True, 2, 0)  # due, so not compared
    tamper(lake, HOURS, BAD, rows_of(lake, HOURS, BAD), {"silver/candle@2024-02": version})
    resample = shell.check(HOURS)["resample"]
    assert (resample.passed, *numbers(resample)) == (False, 3, 1)
    assert "41760 minutes summed where 41759 are stored" in str(found(resample)[0]["what"])


@pytest.mark.slow
def test_a_day_nobody_has_fails_gaps(shell: Shell, sim: Simulator) -> None:
    sim.add_fault("day_absent=*BTCUSDT-1m-2024-02.zip")
    sim.add_fault("daily_absent=*BTCUSDT-1m-2024-02-*")
    shell.build(SILVER, [BTC, ETH])
    gaps = shell.check(SILVER)["gaps"]
    assert (gaps.passed, gaps.severity, *numbers(gaps)) == (False, dg.AssetCheckSeverity.ERROR, 6, 1)
    assert found(gaps)[0]["cell"] == str(BAD)
    assert "1,440 rows absent" in str(found(gaps)[0]["what"])


@pytest.mark.slow
def test_a_dispute_that_a_daily_file_settles_is_a_warning(shell: Shell, sim: Simulator) -> None:
    sim.add_fault("conflicting_rows=*BTCUSDT-1m-2024-02.zip")
    shell.build(SILVER, [BTC])
    evaluations = shell.check(SILVER)
    reconciliation = evaluations["reconciliation"]
    assert (reconciliation.passed, reconciliation.severity, *numbers(reconciliation)) == (
        False,
        dg.AssetCheckSeverity.WARN,
        3,
        1,
    )
    assert evaluations["gaps"].passed


@pytest.mark.slow
def test_a_dispute_within_one_file_is_an_error_and_its_rows_are_in_quarantine(
    shell: Shell, sim: Simulator, lake: LakeServices
) -> None:
    sim.add_fault("conflicting_rows=*BTCUSDT-1m-2024-02.zip")
    sim.add_fault("daily_absent=*BTCUSDT-1m-2024-02-*")
    shell.build(SILVER, [BTC])
    evaluations = shell.check(SILVER)
    assert {
        name: (evaluations[name].passed, evaluations[name].severity) for name in ("gaps", "reconciliation")
    } == {
        "gaps": (False, dg.AssetCheckSeverity.ERROR),
        "reconciliation": (False, dg.AssetCheckSeverity.WARN),
    }
    counted = {
        name: evaluations["reconciliation"].metadata[name].value
        for name in ("settled", "unsettled", "unserved")
    }
    assert counted["settled"] == 0
    assert counted["unsettled"] == counted["unserved"] == evaluations["gaps"].metadata["conflict_rows"].value
    quarantined = lake.tables.quarantined(lake.registry.table(SILVER), BAD)
    assert quarantined is not None
    assert (evaluations["schema"].passed, evaluations["schema"].severity) == (
        False,
        dg.AssetCheckSeverity.WARN,
    )
    assert f"{quarantined.height} rows are in quarantine" in str(found(evaluations["schema"])[0]["what"])


@pytest.mark.slow
def test_cells_of_an_older_meaning_fail_schema_and_are_due(
    shell: Shell, lake: LakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.build(HOURS, [BTC])
    hours = lake.registry.table(HOURS)
    monkeypatch.setattr(hours, "code_version", hours.code_version + 1)
    schema = shell.check(HOURS)["schema"]
    assert (schema.passed, schema.severity, *numbers(schema)) == (False, dg.AssetCheckSeverity.ERROR, 3, 3)
    assert len(shell.build(HOURS, [BTC])[HOURS].built) == 3
    assert shell.check(HOURS)["schema"].passed


@pytest.mark.slow
def test_a_check_can_be_run_alone(shell: Shell) -> None:
    """As with the button beside it in the UI."""
    shell.build(SILVER, [BTC])
    key = next(
        spec.key
        for definition in shell.definitions.asset_checks or ()
        for spec in definition.check_specs
        if spec.asset_key.path == ["silver", "candle"] and spec.name == "gaps"
    )
    result = shell.job.get_subset(asset_selection=set(), asset_check_selection={key}).execute_in_process(
        instance=shell.instance
    )
    assert [evaluation.check_name for evaluation in result.get_asset_check_evaluations()] == ["gaps"]


@pytest.mark.slow
def test_anomalies_are_searched_once_per_version_and_warned_of(
    shell: Shell, lake: LakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    monkeypatch.setattr(
        anomalies,
        "find_anomalies",
        lambda rows, sensitivity: searched.append(rows.height) or find_anomalies(rows, sensitivity),
    )
    shell.build(SILVER, [BTC])
    assert sorted(searched) == [720, 1440, 29 * 1440], "a build ends with the checks"
    rows = rows_of(lake, SILVER, BAD)
    spiked = rows.with_columns(
        pl.when(pl.int_range(pl.len()) == 700).then(pl.col("high") * 3).otherwise("high").alias("high")
    )
    tamper(lake, SILVER, BAD, spiked)
    for _ in range(2):
        found_anomalies = shell.check(SILVER)["anomalies"]
        assert (found_anomalies.passed, found_anomalies.severity, *numbers(found_anomalies)) == (
            False,
            dg.AssetCheckSeverity.WARN,
            3,
            1,
        )
        assert found(found_anomalies)[0]["what"] == "1 spike; the first at 2024-02-01 11:40"
        assert {name: found_anomalies.metadata[name].value for name in ("spike", "waiting")} == {
            "spike": 1,
            "waiting": 0,
        }
    assert len(searched) == 4


@pytest.mark.slow
def test_a_market_whose_rows_stop_is_warned_of(shell: Shell, lake: LakeServices) -> None:
    """It is thought to trade on: by the lake's clock, and against its newest row alone."""
    shell.build(SILVER, [BTC])
    alive = replace(known_markets(lake)[BTC], delisted=None)
    lake.tables.put(MarketTable, None, CellResult(market_frame([alive]), {}))
    verdicts = {}
    for now in ("2024-03-03T11", "2024-03-03T13", "2024-03-11T13"):
        lake.clock = lambda now=now: at(now)  # type: ignore[misc]
        freshness = shell.check(SILVER)["freshness"]
        verdicts[now] = (
            freshness.passed,
            None if freshness.passed else freshness.severity,
            *numbers(freshness),
        )
    assert verdicts == {
        "2024-03-03T11": (True, None, 1, 0),
        "2024-03-03T13": (False, dg.AssetCheckSeverity.WARN, 1, 1),
        "2024-03-11T13": (False, dg.AssetCheckSeverity.WARN, 1, 1),
    }
    assert str(found(freshness)[0]["what"]).startswith(
        "the newest row is of 2024-03-01 11:59, 10 days old; sources answered up to"
    )
