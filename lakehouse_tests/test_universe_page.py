"""What `docs/universe.md` works out is what a lake answers."""

import contextlib
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.exchanges.binance import Binance
from lakehouse.pipeline.markets import scan_listings
from lakehouse.pipeline.services import LakeServices
from lakehouse.simulator import Simulator
from lakehouse.simulator.universe import dated_universe
from lakehouse.storage.objects import LakeObjects

PAGE = Path(__file__).parents[1] / "docs" / "universe.md"


@pytest.mark.slow
def test_the_worked_example_of_survivorship_bias_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PAGE.read_text("utf-8")
    (code,), (told,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "text"))
    now = datetime(2026, 11, 20, tzinfo=UTC)
    monkeypatch.chdir(tmp_path)
    with Simulator(dated_universe(80, 32), now=now) as sim:
        exchange = Binance(sim.url, sim.url)
        scan_listings(LakeServices(LakeObjects("lake"), {"binance": exchange}, clock=lambda: now))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, str(PAGE), "exec"), {})
    assert printed.getvalue() == told
