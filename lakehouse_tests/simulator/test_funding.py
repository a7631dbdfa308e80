"""Funding rates of the simulated exchange."""

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse_tests.making import at
from lakehouse_tests.simulator.conftest import Client

NOW = at("2024-03-05T08:00:30")
KEY = "data/futures/um/monthly/fundingRate/COINUSDT/COINUSDT-fundingRate-2024-02.zip"
COIN = SimulatedMarket("linear", "COINUSDT", "COIN", "USDT", Decimal(100), 100, listed=at("2024-01-31T20:30"))
CHANGING = replace(
    COIN, funding=((at("2024-02-05"), 4), (at("2024-02-06T04:00"), 1), (at("2024-02-06T16:00"), 8))
)


def rest(client: Client, api: str = "fapi", **query: Any) -> Any:
    address = f"{client.sim.url}/{api}/v1/fundingRate"
    return client.session.get(address, params={"symbol": "COINUSDT"} | query, timeout=10).json()


def test_a_file_and_rest_tell_of_the_same_settlements_whose_stamps_are_late_by_moments() -> None:
    with Simulator([COIN], now=NOW) as sim:
        client = Client(sim)
        header, *lines = client.csv(KEY).splitlines()
        assert header == "calc_time,funding_interval_hours,last_funding_rate"
        assert len(lines) == 29 * 3
        start, end = (int(at(month).timestamp() * 1000) for month in ("2024-02-01", "2024-03-01"))
        answered = rest(client, startTime=start, endTime=end - 1, limit=1000)
        assert [f"{row['fundingTime']},8,{row['fundingRate']}" for row in answered] == lines
        late = [int(line.split(",")[0]) % 3_600_000 for line in lines]
        assert 10 < late.count(0) < 60
        assert max(late) < 10_000
        assert all(float(row["markPrice"]) > 0 for row in answered)
        newest = rest(client, limit=2)
        assert [row["fundingTime"] // 1000 * 1000 for row in newest][-1] <= NOW.timestamp() * 1000
        assert rest(client, startTime=start, limit=2) == answered[:2]
        assert rest(client, "dapi")["code"] == -1121


def test_the_interval_changes_within_a_month() -> None:
    with Simulator([CHANGING], now=NOW) as sim:
        lines = [line.split(",") for line in Client(sim).csv(KEY).splitlines()[1:]]
        apart = [round((int(b[0]) - int(a[0])) / 3_600_000) for a, b in pairwise(lines)]
        assert [int(hours) for _, hours, _ in lines][1:] == apart, "each row states the interval it ends"
        assert [step for n, step in enumerate(apart) if not n or apart[n - 1] != step] == [8, 4, 1, 8]


@pytest.mark.parametrize(
    ("fault", "in_file", "by_rest"),
    [
        ("funding_lost", 86, 86),
        ("funding_hole", 86, 87),
        ("funding_rest_hole", 87, 86),
        ("funding_restated", 87, 87),
        ("duplicated_rows", 88, 87),
        ("conflicting_rows", 88, 87),
        ("interleaved_rows", 87, 87),
        ("day_absent", 84, 87),
    ],
)
def test_faults_of_funding_befall_who_they_say(fault: str, in_file: int, by_rest: int) -> None:
    with Simulator([COIN], now=NOW, faults=[f"{fault}=*COINUSDT-fundingRate-2024-02*"]) as sim:
        client = Client(sim)
        lines = client.csv(KEY).splitlines()[1:]
        start, end = (int(at(month).timestamp() * 1000) for month in ("2024-02-01", "2024-03-01"))
        rows = rest(client, startTime=start, endTime=end - 1, limit=1000)
        assert (len(lines), len(rows)) == (in_file, by_rest)
        rates = [line.split(",")[2] for line in lines], [row["fundingRate"] for row in rows]
        assert (sorted(rates[0]) == sorted(rates[1])) == (fault in ("funding_lost", "interleaved_rows"))
        assert fault in sim.faults_hit


def test_rest_is_silent_the_first_time_that_it_is_asked_for_a_range_of_the_month() -> None:
    with Simulator([COIN], now=NOW, faults=["funding_rest_silent=*COINUSDT-fundingRate-2024-02*"]) as sim:
        client = Client(sim)
        start, end = (int(at(month).timestamp() * 1000) for month in ("2024-02-01", "2024-03-01"))
        answers = [rest(client, startTime=start, endTime=end - 1, limit=1000) for _ in range(3)]
        assert [len(rows) for rows in answers] == [0, 87, 87]
        assert len(rest(client, endTime=end - 1, limit=1)) == 1, "what comes before a range is told"
