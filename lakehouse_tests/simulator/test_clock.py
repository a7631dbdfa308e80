"""The exchange's clock: still, put forward, or fast."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.model.errors import UsageError
from lakehouse.simulator import Simulator
from lakehouse.simulator.clock import Clock

from .conftest import NOW, Client


def test_an_instant_stands_still_until_it_is_put_forward() -> None:
    clock = Clock(NOW)
    time.sleep(0.001)
    assert clock() == NOW
    clock.advance(timedelta(hours=5))
    assert clock() == NOW + timedelta(hours=5)


def test_a_function_is_followed() -> None:
    told = [NOW]
    plain, fast = Clock(lambda: told[0]), Clock(lambda: told[0], speed=1_000)
    told[0] += timedelta(seconds=2)
    plain.advance(timedelta(days=1))
    assert plain() == NOW + timedelta(days=1, seconds=2)
    assert fast() == NOW + timedelta(seconds=2_000)


def test_by_default_it_is_the_real_time() -> None:
    before = datetime.now(UTC)
    assert before <= Clock()() <= datetime.now(UTC)


def test_a_clock_does_not_run_backwards() -> None:
    with pytest.raises(UsageError, match="-2 times"):
        Clock(NOW, speed=-2)


def test_days_pass_while_a_fast_exchange_answers() -> None:
    folder = "data/spot/daily/klines/ETHUSDT/1d/"
    with Simulator(now=NOW, speed=3_000_000) as sim:
        client = Client(sim)
        first = client.listing(folder)
        while sim.now < NOW + timedelta(days=3):
            time.sleep(0.01)
        later = client.listing(folder)
        assert later[: len(first)] == first
        assert len(later) >= len(first) + 6
        assert (
            client.session.get(f"{sim.url}/api/v3/time", timeout=10).json()["serverTime"]
            > int((NOW + timedelta(days=3)).timestamp()) * 1000
        )
