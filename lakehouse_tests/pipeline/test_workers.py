"""Cells are computed beside each other, and nobody can tell by what comes out."""

import threading
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.cli.building import Builder
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.pipeline.workers import ahead, in_order
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator

WORKERS = (1, 2, 8)


@given(st.lists(st.integers()), st.sampled_from(WORKERS))
def test_what_is_made_comes_in_the_order_of_the_items(items: list[int], workers: int) -> None:
    assert list(in_order(items, str, workers)) == [(item, str(item)) for item in items]


@given(st.lists(st.integers()), st.sampled_from(WORKERS))
def test_an_iterator_gone_through_ahead_yields_the_same(items: list[int], workers: int) -> None:
    assert list(ahead(iter(items), workers)) == items


def test_no_more_is_under_way_than_there_are_workers_and_one_that_waits() -> None:
    begun: list[int] = []
    made = in_order(range(100), begun.append, 2)
    next(made)
    time.sleep(0.05)
    assert len(begun) <= 4
    made.close()  # type: ignore[attr-defined]
    assert len(begun) <= 4, "what nobody asks for is not made"


def test_two_items_are_made_at_once() -> None:
    both = threading.Barrier(2, timeout=10)
    assert [made for _, made in in_order(range(2), lambda _: both.wait() >= 0, 2)] == [True, True]


def test_a_producer_is_only_a_few_items_ahead_and_ends_with_its_consumer() -> None:
    produced: list[int] = []
    ended = threading.Event()

    def produce() -> Iterator[int]:
        try:
            for number in range(1000):
                produced.append(number)
                yield number
        finally:
            ended.set()

    items = ahead(produce(), 2)
    assert next(items) == 0
    time.sleep(0.05)
    assert len(produced) <= 4
    items.close()  # type: ignore[attr-defined]
    assert ended.is_set()


@pytest.mark.parametrize("workers", WORKERS)
def test_what_a_producer_raises_comes_in_its_turn(workers: int) -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise OSError("the second cannot be read")

    items = ahead(produce(), workers)
    assert next(items) == 1
    with pytest.raises(OSError, match="the second"):
        next(items)


@pytest.mark.slow
def test_versions_are_the_same_for_one_worker_and_for_many(tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = []
    with Simulator(
        faults=["hole=*spot/monthly*BTCUSDT-1m-2024-02*", "conflicting_rows=*um/monthly*2024-03*"]
    ) as exchange:
        for workers in (min(WORKERS), max(WORKERS)):
            settings = Settings(
                root=str(tmp_path / f"lake{workers}"),
                binance_archive_url=exchange.url,
                binance_rest_url=exchange.url,
                workers=workers,
            )
            lake = open_lake(settings, clock=lambda: exchange.now)
            assert lake.workers == workers
            with dg.instance_for_test() as instance:
                reports = Builder(lake, instance).build(
                    lake.registry.tables,
                    [Market.parse("binance-spot:BTCUSDT"), Market.parse("binance-linear:ETHUSDT")],
                    TimeRange.parse("2024-02", "2024-04"),
                )
            assert not any(report.failed for report in reports)
            # rows of the left-out ones say when sources were fetched
            tables = [
                table.name
                for table in lake.registry.tables
                if table.zone() != "bronze" and not table.name.endswith("conflict")
            ]
            found.append(
                {
                    f"{name} {cell}": record.version
                    for name in tables[1:]
                    for cell, record in lake.ledger(name).items()
                }
            )
    assert len(found[0]) > 30
    assert found[0] == found[1]
