"""One unpartitioned, non-blocking check step per table, over its whole ledger: a small good run never hides
an older bad cell.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from lakehouse.defs.automation import ON_UPDATE, ON_UPDATE_AND_DAILY
from lakehouse.defs.describe import asset_key, partition_page
from lakehouse.defs.partitions import parse_cells
from lakehouse.model.check import SCHEMA
from lakehouse.model.errors import NotALakeObjectError
from lakehouse.model.table import Table
from lakehouse.ops import findings
from lakehouse.ops.anomalies import search_anomalies
from lakehouse.ops.intervals import check_intervals
from lakehouse.ops.saying import by_market
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.engine import prepare
from lakehouse.storage.ledger import Ledger, records, survey
from lakehouse.storage.verification import known_damage

_SHOWN = 50
_LINKED = 5  # so many are shown at once, and not behind a click


def checks_of(table: type[Table]) -> dg.AssetChecksDefinition:
    """The check step of a table: one result per rule family."""
    specs = [
        dg.AssetCheckSpec(
            name,
            asset=asset_key(table),
            description=said,
            automation_condition=ON_UPDATE_AND_DAILY if name in findings.BY_CLOCK else ON_UPDATE,
        )
        for name, said in findings.families(table).items()
    ]

    # Without `can_subset` the UI offers no way to run one of them, or all of them, by hand.
    @dg.multi_asset_check(
        name=f"check_{table.name.replace('/', '_')}",
        specs=specs,
        description=f"Quality of {table.name}, over all its cells",
        can_subset=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[LakeServices],
        duckdb: dg.ResourceParam[DuckDBResource],
    ) -> Iterator[dg.AssetCheckResult]:
        stored, foreign = survey(lake.objects, table) if table.spread != "one" else ({}, [])
        rules = _rules(table, stored, foreign, lake, duckdb)
        for spec, declared in zip(specs, table.checks, strict=True):
            if spec.key in context.selected_asset_check_keys:
                verdict = rules[declared.family](**declared.parameters)
                yield _result(table, spec.name, verdict, stored, lake)

    return check


def _rules(
    table: type[Table],
    stored: Ledger,
    foreign: list[NotALakeObjectError],
    lake: LakeServices,
    duckdb: DuckDBResource,
) -> dict[str, Callable[..., findings.Verdict]]:
    """The families of a table with cells, or of a single object; each takes its declared parameters."""
    if table.spread == "one":
        return {"schema": lambda: _check_single(table, lake)}
    is_archive = table in [dataset.archive for dataset in lake.registry.datasets]
    beside = (
        [one for one in known_damage(lake.objects).values() if one.path.startswith("landing/")]
        if is_archive
        else []
    )

    def freshness(late: timedelta) -> findings.Verdict:
        ended = [market for market, facts in known_markets(lake).items() if facts.delisted]
        return findings.check_freshness(stored, ended, min(lake.clock(), lake.until), late)

    def resample(of: type[Table]) -> findings.Verdict:
        with duckdb.get_connection() as connection:
            files = prepare(connection, lake.objects)
            minutes = lake.ledger(of.name)
            return findings.check_resample(connection, files, table, stored, of, minutes, lake.summed)

    return {
        "schema": lambda: findings.check_schema(table, stored.values(), foreign, beside),
        "gaps": lambda: findings.check_gaps(stored, lake.clock(), table.published),
        "reconciliation": lambda: findings.check_reconciliation(stored),
        "evidence": lambda: findings.check_evidence(stored, lake.registry.dataset(table.name).evidence),
        "freshness": freshness,
        "intervals": lambda column: check_intervals(lake.objects, table, stored, column),
        "anomalies": lambda: findings.check_anomalies(stored, search_anomalies(lake.objects, table, stored)),
        "resample": resample,
    }


def _check_single(table: type[Table], lake: LakeServices) -> findings.Verdict:
    try:
        return findings.check_schema(table, records(lake.objects, table))
    except NotALakeObjectError as error:
        return findings.check_schema(table, [], [error])


def _result(
    table: type[Table], name: str, verdict: findings.Verdict, stored: Ledger, lake: LakeServices
) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {
        "cells": verdict.cells,
        "bad_cells": len({finding.cell for finding in verdict.findings}),
        **verdict.counts,
    }
    if verdict.findings:
        rows = [
            dg.TableRecord({"cell": found.cell, "severity": found.severity, "what": found.what})
            for found in verdict.findings[:_SHOWN]
        ]
        metadata["findings"] = dg.MetadataValue.table(rows)
        metadata["where"] = dg.MetadataValue.md(
            "\n".join(
                f"- [{found.cell}]({partition_page(table, found.cell)})"
                for found in verdict.findings[:_LINKED]
                if parse_cells([found.cell])
            )
        )
    if name == SCHEMA.family and table.spread == "market":
        markets = by_market(stored.values(), lake.clock())
        if markets:
            metadata["markets"] = dg.MetadataValue.table([dg.TableRecord(row) for row in markets[:_SHOWN]])
    severity = dg.AssetCheckSeverity.ERROR if verdict.severity == "error" else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        asset_key=asset_key(table),
        check_name=name,
        passed=verdict.passed,
        severity=severity,
        metadata=metadata,
    )
