"""Sensors and a cache that goes on serving the file before a re-upload: they ask less and less often, and the
cell heals by itself.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from lakehouse.model.cell import Cell
from lakehouse.ops.attempts import Attempts
from lakehouse.pipeline.refresh import Round, archive_published, failed_cells
from lakehouse.simulator import Simulator

from .conftest import BRONZE, SHORT, Shell, asked

FEBRUARY = Cell("2024-02", SHORT)
HOUR = timedelta(hours=1)
FILE = "*monthly*XYZUSDT-1m-2024-02.zip"


@pytest.mark.slow
def test_a_file_that_a_cache_holds_back_is_asked_for_later_and_later_and_then_heals(
    shell: Shell, sim: Simulator
) -> None:
    lake, sim_time = shell.lake, shell.lake.clock()
    shell.build(BRONZE, [SHORT])
    before = lake.ledger(BRONZE)[FEBRUARY].version
    attempts, behind = Attempts(), Attempts()

    def tick(hour: int) -> bool:
        later = replace(lake, clock=lambda: sim_time + hour * HOUR)
        if hour % 8 == 0:
            assert BRONZE not in asked(failed_cells(later, [SHORT], {}, behind)), (
                "a cell that was made is not a failed one"
            )
        wanted = asked(archive_published(later, [SHORT], {}, attempts, Round())).get(BRONZE, set())
        assert wanted <= {FEBRUARY}
        if wanted:
            shell.build(BRONZE, [SHORT])
        return bool(wanted)

    assert not tick(0)
    sim.add_fault(f"stale={FILE}")
    hours = [hour for hour in range(1, 40) if tick(hour)]
    assert hours == [1, 2, 3, 5, 9, 17, 33], "each time later"
    assert lake.ledger(BRONZE)[FEBRUARY].version == before

    sim.clear_faults()
    sim.add_fault(f"reupload={FILE}")
    assert [hour for hour in (34, 58, 59, 90) if tick(hour)] == [58], (
        "but once a day for good; then it is over"
    )
    assert lake.ledger(BRONZE)[FEBRUARY].version != before
    assert lake.ledger(BRONZE)[FEBRUARY].facts.problems == ()
