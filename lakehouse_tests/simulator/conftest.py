"""A simulated exchange that stands still in March 2025, and a plain client for it."""

import io
import os
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest
import requests

from lakehouse.simulator import Simulator

NOW = datetime(2025, 3, 10, 12, 30, 20, tzinfo=UTC)
COLUMNS = [
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
]
_INTEGERS = ("open_time", "close_time", "count", "ignore")
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Client:
    """Reads from a simulator as any HTTP client would."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.session = requests.Session()

    def get(self, key: str, **headers: str) -> requests.Response:
        return self.session.get(f"{self.sim.archive_url}/{key}", headers=headers, timeout=10)

    def head(self, key: str) -> requests.Response:
        return self.session.head(f"{self.sim.archive_url}/{key}", timeout=10)

    def digest(self, key: str) -> str:
        return self.get(f"{key}.CHECKSUM").text.split()[0]

    def csv(self, key: str) -> str:
        """The text of a zip's only member, after its CHECKSUM and CRC have been checked."""
        body = self.get(key).content
        assert sha256(body).hexdigest() == self.digest(key)
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            (member,) = archive.namelist()
            assert member == key.rpartition("/")[2].replace(".zip", ".csv")
            return archive.read(member).decode()

    def rows(self, key: str) -> pl.DataFrame:
        """A kline file with exact decimals."""
        return kline_rows(self.csv(key))

    def klines(self, api: str, headers: dict[str, str] | None = None, **query: Any) -> pl.DataFrame:
        """The rows of a REST answer with exact decimals."""
        answer = self.session.get(f"{self.sim.url}/{api}/klines", params=query, headers=headers, timeout=10)
        assert answer.status_code == 200, answer.text
        return typed(
            pl.DataFrame(
                [[str(value) for value in row] for row in answer.json()],
                schema=dict.fromkeys(COLUMNS, pl.String),
                orient="row",
            )
        )

    def page(self, **query: str) -> ElementTree.Element:
        answer = self.session.get(self.sim.archive_url, params=query, timeout=10)
        assert answer.status_code == 200, answer.text
        return ElementTree.fromstring(answer.content)  # the simulator's own answer

    def listing(self, prefix: str, version: int = 1, **query: str) -> list[str]:
        """Every key and common prefix, page by page."""
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.page(prefix=prefix, **query, **cursor, **({"list-type": "2"} if version == 2 else {}))
            keys = texts(page, "Contents/Key") + texts(page, "CommonPrefixes/Prefix")
            found += sorted(keys)
            if texts(page, "IsTruncated") == ["false"]:
                return found
            cursor = (
                {"continuation-token": texts(page, "NextContinuationToken")[0]}
                if version == 2
                else {"marker": (texts(page, "NextMarker") or [sorted(keys)[-1]])[0]}
            )


def texts(page: ElementTree.Element, path: str) -> list[str]:
    """Texts of the elements at a path, the namespace left out."""
    return [
        element.text or ""
        for element in page.findall("/".join(_NAMESPACE + part for part in path.split("/")))
    ]


def kline_rows(text: str) -> pl.DataFrame:
    """A kline CSV with exact decimals, its header left out."""
    return typed(
        pl.read_csv(
            io.StringIO(text),
            has_header=False,
            new_columns=COLUMNS,
            skip_rows=int(text.startswith("open_time")),
            infer_schema=False,
        )
    )


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        pl.col(name).cast(pl.Int64 if name in _INTEGERS else pl.Decimal(38, 8)) for name in COLUMNS
    )


def kline_key(path: str, frequency: str, symbol: str, interval: str, date: str) -> str:
    return f"data/{path}/{frequency}/klines/{symbol}/{interval}/{symbol}-{interval}-{date}.zip"


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A client of a simulator without faults; shared, so it must not be changed."""
    with Simulator(now=NOW) as sim:
        yield Client(sim)


@pytest.fixture
def own_client() -> Iterator[Client]:
    """A client of a simulator that the test may change."""
    with Simulator(now=NOW) as sim:
        yield Client(sim)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recorded files, where there is one."""
    folder = Path(
        os.environ.get("LAKEHOUSE_REAL_DATA")
        or Path(__file__).resolve().parents[2].parent / "shared" / "real_data"
    )
    if not folder.is_dir():
        pytest.skip("no recorded files: set LAKEHOUSE_REAL_DATA to their folder")
    return folder
