"""A Trino server over the demo's lake, for all tests of this folder: on AWS endpoints of this machine, with
the configuration that compose and ECS use.

Its Java believes to be in New York, so what keeps times in UTC is the configuration, not the machine. A
second catalog, `careless`, reads the same tables without what ours sets: what would be wrong then is wrong
there.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from lakehouse.cli.demo import shown_demo
from lakehouse.cli.local_trino import CONFIG, LocalTrino, missing_for_trino
from lakehouse.query.lake import Lake
from lakehouse.query.trino import Trino
from lakehouse.settings import Settings

CARED = (
    "hive.timestamp-precision",
    "hive.parquet.time-zone",
    "hive.partition-projection-enabled",
    "hive.query-partition-filter-required",
    "parquet.small-file-threshold",
)
CARELESS = (
    "hive.partition-projection-enabled=true",
    "parquet.small-file-threshold=0B",
    "parquet.max-buffer-size=1MB",
    "parquet.max-merge-distance=0B",
)
ELSEWHERE = "America/New_York"
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Shown:
    """What the tests have.

    Attributes:
        said: What the demo said.
        is_whole: What came of it.
        settings: Of its lake, with the server's address.
        lake: The lake, for DuckDB.
        trino: The server, as `lakehouse sql --engine trino` asks it.
    """

    said: str
    is_whole: bool
    settings: Settings
    lake: Lake
    trino: Trino

    def rows(self, statement: str, zone: str = "UTC", catalog: str = "lake") -> Rows:
        """Rows as any other client gets them, whose machine is in some time zone."""
        from trino.dbapi import connect

        port = int(self.trino.url.rpartition(":")[2])
        with connect(host="127.0.0.1", port=port, user="other", catalog=catalog, timezone=zone) as connection:
            return [tuple(row) for row in connection.cursor().execute(statement).fetchall()]


@pytest.fixture(scope="package")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The demo on AWS, shown once, with all that it started."""
    if why := missing_for_trino():
        pytest.skip(f"no Trino: {why}")
    said = io.StringIO()
    start = partial(LocalTrino, java=[f"-Duser.timezone={ELSEWHERE}"], catalogs={"careless": careless()})
    with pytest.MonkeyPatch.context() as of_others, contextlib.ExitStack() as kept:
        # which the demo's instance names, and other files are not to find
        of_others.setenv("DAGSTER_HOME", "")
        with contextlib.redirect_stdout(said):
            demo = kept.enter_context(
                shown_demo(tmp_path_factory.mktemp("demo"), aws=True, start_trino=start)
            )
        assert demo.trino is not None
        settings = demo.settings.model_copy(update={"trino_url": demo.trino.url})
        trino = Trino(demo.trino.url, settings.glue_database)
        words = " ".join(said.getvalue().split())  # lines end where the terminal does
        yield Shown(words, demo.is_whole, settings, Lake(settings.root), trino)


def careless() -> str:
    """Our catalog without what keeps times, months and versions right; objects are read in parts, as large
    ones are by default.
    """
    lines = (CONFIG / "catalog" / "lake.properties").read_text("utf-8").splitlines()
    assert len([line for line in lines if line.startswith(CARED)]) == len(CARED), "each is set by ours"
    kept = [line for line in lines if not line.startswith((*CARED, "#"))]
    return "\n".join([*kept, *CARELESS, ""])
