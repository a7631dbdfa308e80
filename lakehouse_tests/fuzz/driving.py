"""Drives what the product reads others' bytes with, as a build or a reader does, and says what came of it."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st

from lakehouse.datasets.candle import CANDLE, Candle, CandleApi, CandleArchive
from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.binance.klines import KlinePages
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError, NoSourceError, NotALakeObjectError
from lakehouse.model.interval import MINUTE as ONE_MINUTE
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.result import CellFacts, CellResult, GapRun, Problem
from lakehouse.model.timerange import TimeRange
from lakehouse.query.lake import Lake
from lakehouse.sources.files.batch import Answer
from lakehouse.sources.files.ingest import ingest
from lakehouse.sources.files.listing import MarketListing, landed_files, list_market, listing_from_landing
from lakehouse.sources.files.reader import ArchiveReader
from lakehouse.sources.files.transport import ArchiveClient, Listed
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.describing import describe
from lakehouse.sources.rest.rows import RowReader
from lakehouse.storage.landing import Landing, Receipt
from lakehouse.storage.layout import ledger_path
from lakehouse.storage.ledger import ledger, survey
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Change, Failed
from lakehouse.storage.seal import HOLE, SEAL_KEY, json_seal, seal
from lakehouse.storage.tables import TableStore
from lakehouse_tests.fuzz.drawing import LINES, checksums, csvs, damaged, json_like, listings, zips
from lakehouse_tests.making import BTC, FEBRUARY, MINUTE, NOW, candles, facts, minutes, text, zipped
from lakehouse_tests.sources.canned import INFO, Canned, canned, milliseconds, row
from lakehouse_tests.storage.hostile import footer_of, with_footer

KEY = Binance("http://x").files[CandleArchive.name].key(BTC, Period.parse("2024-02"))
NAME = KEY.rsplit("/", 1)[-1]
CSV_NAME = NAME.replace(".zip", ".csv")
REFUSALS = (
    *(
        "the zip is damaged",
        "exactly one CSV member",
        "expected the member",
        "inflates to more",
        "no row and no header",
        "neither data nor the known header",
        "does not parse",
    ),
    *(
        "outside the file's period",
        "is not ASCII",
        "CHECKSUM should read",
        "CHECKSUM is of another file",
        "sha256 is",
        "no CHECKSUM",
        "could not be handled",
        "neither seconds",
    ),
)
ETH = Cell("2024-02", Market("binance", "spot", "ETHUSDT"))
Drawn = st.SearchStrategy[Any]


class Driver:
    """One kind of foreign bytes.

    Args:
        root: A folder that it may fill.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def drawn(self) -> Drawn:
        """What to send."""
        raise NotImplementedError

    def outcome(self, sent: Any) -> str:
        """What came of it: the class of an error of ours, or how it was taken. Anything else is raised."""
        try:
            return self.drive(sent)
        except LakehouseError as error:
            str(error).encode("utf-8")
            return type(error).__name__

    def drive(self, sent: Any) -> str:
        """Read it."""
        raise NotImplementedError

    def empty(self) -> LakeObjects:
        """An empty lake."""
        shutil.rmtree(self.root, ignore_errors=True)
        return LakeObjects(self.root)


class Served:
    """A batch that has arrived."""

    answers: Mapping[str, Answer]

    def __contains__(self, key: str) -> bool:
        return True

    def wait(self, key: str) -> Answer:
        return self.answers[key]


class Files(Driver):
    """Zips, CSVs and CHECKSUMs: a bronze cell is read from them and stored, and a silver one made of it."""

    def of(self, body: bytes, checksum: bytes | None, etag: str | None) -> str:
        objects = self.empty()
        listed = {"2024-02": Listed(KEY, hashlib.md5(body).hexdigest(), len(body), NOW)}
        beside = (
            {"2024-02": Listed(f"{KEY}.CHECKSUM", "c", len(checksum), NOW)} if checksum is not None else {}
        )
        Served.answers = {KEY: Answer(body, etag, NOW), f"{KEY}.CHECKSUM": Answer(checksum or b"", "c", NOW)}
        listing = MarketListing(BTC, listed, beside, NOW, timedelta(days=7))
        ((_, outcome),) = ingest(
            CANDLE,
            Binance("http://127.0.0.1:9"),
            [FEBRUARY],
            {BTC: listing},
            {BTC: facts()},
            {},
            objects,
            lambda: NOW,
        )
        if isinstance(outcome, Failed):
            error, said = outcome.error, str(outcome.error)
            return f"{type(error).__name__}: {next((words for words in REFUSALS if words in said), said[-60:] if isinstance(error, NoSourceError) else 'other')}"
        assert isinstance(outcome, Change)
        record = TableStore(objects).update(CandleArchive, FEBRUARY, outcome.apply)
        assert record is not None
        return "rows" if record.rows else "no rows"


class Zips(Files):
    def drawn(self) -> Drawn:
        return st.tuples(zips(CSV_NAME), st.sampled_from(["md5", "", None]))

    def drive(self, sent: tuple[bytes, str | None]) -> str:
        body, etag = sent
        return self.of(
            body,
            f"{hashlib.sha256(body).hexdigest()}  {NAME}\n".encode(),
            hashlib.md5(body).hexdigest() if etag == "md5" else etag,
        )


class Csvs(Files):
    def drawn(self) -> Drawn:
        return csvs()

    def drive(self, sent: bytes) -> str:
        body = zipped((CSV_NAME, sent))
        return self.of(
            body, f"{hashlib.sha256(body).hexdigest()}  {NAME}\n".encode(), hashlib.md5(body).hexdigest()
        )


class Checksums(Files):
    BODY = zipped((CSV_NAME, text(LINES)))

    def drawn(self) -> Drawn:
        return st.tuples(
            checksums(hashlib.sha256(self.BODY).hexdigest(), NAME), st.sampled_from(["md5", None])
        )

    def drive(self, sent: tuple[bytes, str | None]) -> str:
        return self.of(self.BODY, sent[0], hashlib.md5(self.BODY).hexdigest() if sent[1] else None)


class Listings(Driver):
    """Pages of a listing, answered by a server of this machine."""

    KEYS = (
        *(
            KEY,
            f"{KEY}.CHECKSUM",
            KEY.rsplit("/", 1)[0] + "/",
            KEY.replace("2024-02", "2024-13"),
            KEY.replace("BTCUSDT-1m", "a//b"),
            KEY.replace(".zip", "%FF.zip"),
        ),
        *(KEY.replace("monthly", "daily").replace("2024-02", f"2024-02-0{n}") for n in (1, 2, 3)),
        *("", "..", "x" * 2_000, KEY + "&#10;", KEY.replace("BTCUSDT", "&quot;")),
    )

    def __init__(self, root: Path, api: Canned) -> None:
        super().__init__(root)
        self.api = api
        self.client = ArchiveClient(api.url, Binance.bucket)

    def drawn(self) -> Drawn:
        return listings(self.KEYS)

    def drive(self, sent: bytes) -> str:
        pages = iter([sent, sent])
        end = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
        self.api.answers[Binance.bucket] = lambda query: (200, next(pages, end))
        found = list_market(self.client, Binance("http://x"), CandleArchive.name, BTC, FEBRUARY.window, NOW)
        states = [found.state(period) for period in found.files]
        assert found.is_due(FEBRUARY, None)
        return f"{min(len(states), 1)} files, {min(len(found.foreign_to(FEBRUARY)), 1)} foreign"


class Rest(Driver):
    """Bodies, codes and headers of a REST API, through ccxt, and its exchangeInfo."""

    SOUND = {
        "klines": [row(time) for time in minutes("2024-04-01", 5)],
        "time": {"serverTime": milliseconds(NOW)},
        "exchangeInfo": INFO
        | {
            "symbols": [
                {
                    "symbol": "BTCUSDT",
                    "status": "TRADING",
                    "baseAsset": "BTC",
                    "quoteAsset": "USDT",
                    "deliveryDate": 4_133_404_800_000,
                }
            ]
        },
        "error": {"code": -1121, "msg": "Invalid symbol."},
    }
    NUMBERS = (
        "",
        "7",
        "-1",
        "9" * 5_000,
        "1.5",
        "NaN",
        "0" * 400,
        "soon",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "1e9",
        "٣",
    )

    def __init__(self, root: Path, api: Canned) -> None:
        super().__init__(root)
        self.api = api
        self.client = RestClient(Binance(None, api.url).rest_api("spot"), sleep=lambda seconds: None)

    def drawn(self) -> Drawn:
        def of(endpoint: str) -> Drawn:
            bodies = json_like(self.SOUND[endpoint]) | json_like(self.SOUND["error"]) | st.binary(max_size=40)
            return st.tuples(
                st.just(endpoint),
                st.sampled_from([200] * 6 + [400, 404, 418, 429, 500]),
                bodies,
                st.sampled_from(self.NUMBERS),
                st.sampled_from(self.NUMBERS),
            )

        return st.sampled_from(["klines", "time", "exchangeInfo"]).flatmap(of)

    def drive(self, sent: tuple[str, int, bytes, str, str]) -> str:
        endpoint, status, body, weight, after = sent
        clock = [0.0]

        def sleep(seconds: float) -> None:
            clock[0] += seconds

        client = RestClient(self.client.api, sleep, lambda: clock[0])
        client._local = self.client._local  # ccxt's object: making one takes longer than asking
        self.api.answers.clear()
        self.api.headers = {
            "X-MBX-USED-WEIGHT-1M": weight.encode("ascii", "ignore").decode(),
            "Retry-After": after.encode("ascii", "ignore").decode(),
        }
        self.api.rows = self.SOUND["klines"]  # type: ignore[assignment]
        self.api.answers[endpoint] = lambda query: (status, body)
        if endpoint == "exchangeInfo":
            try:
                info = describe(Binance(None, self.api.url).rest_api("spot"))
                Market("binance", "spot", next(iter(info.symbols), "X"))
            except OSError:
                return "no exchangeInfo"
        answer = RowReader(client, CandleApi, KlinePages(ONE_MINUTE), BTC).read(
            TimeRange.parse("2024-04-01", "2024-04-01T00:05"), before=True
        )
        return (
            f"{endpoint}: {'rows' if answer.rows.height else 'none'}{', unusable' if answer.unusable else ''}"
        )


class Footers(Driver):
    """Cells whose footer, or any byte, is another: surveyed, read, and counted beside a sound one."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        store = TableStore(self.empty())
        known = CellFacts(
            (GapRun("absent", NOW, NOW + MINUTE, 1),),
            1,
            "totals",
            NOW,
            (Problem("a", "short", "b"),),
            doubts=("2024-02-05",),
        )
        for cell in (FEBRUARY, ETH):
            self.record = store.put(
                Candle,
                cell,
                CellResult(
                    candles(minutes("2024-02-05", 3)), {"a": "1"}, known if cell == FEBRUARY else CellFacts()
                ),
            )
        self.objects = store.objects
        self.record = ledger(self.objects, Candle)[FEBRUARY]
        self.body = self.objects.get(self.record.path) or b""
        self.rows = pl.read_parquet(io.BytesIO(self.body))

    def drawn(self) -> Drawn:
        footers = st.tuples(st.just("footer"), json_like(footer_of(self.body)), st.booleans())
        return footers | st.tuples(st.just("bytes"), damaged(self.body), st.booleans())

    def drive(self, sent: tuple[str, bytes, bool]) -> str:
        how, drawn, is_sealed = sent
        if how == "footer":
            body = with_footer(self.body, drawn, is_sealed)
        else:
            try:
                body = (
                    seal(drawn)
                    if is_sealed
                    else drawn.replace(SEAL_KEY.encode(), b"lakehouse_sexl").replace(
                        b"lakehouse_made_with", b"lakehouse_made_wixh"
                    )
                )
            except ValueError:
                return "no Parquet"
        self.objects.put(self.record.path, body)
        for _ in range(2):
            stored, foreign = survey(self.objects, Candle)
            assert ETH in stored, "the other cell"
        lake = Lake(self.objects.root)
        assert lake.scan("silver/candle", [ETH.own_market.key]).collect().height == 3
        if FEBRUARY not in stored:
            return f"{how}: {type(foreign[0]).__name__}" if foreign else f"{how}: absent"
        try:
            found = TableStore(self.objects).get(Candle, FEBRUARY)
            lake.scan("silver/candle", [BTC.key]).collect()
        except NotALakeObjectError as error:
            return f"{how}: read {type(error).__name__}"
        assert found is not None
        return f"{how}: rows"


class Caches(Footers):
    """The cache of a ledger: whatever it holds, what is stored is what is told."""

    def drawn(self) -> Drawn:
        cache = self.objects.get(ledger_path(Candle)) or b""
        return st.tuples(st.just("bytes"), damaged(cache), st.booleans()) | st.tuples(
            st.just("footer"), json_like(footer_of(self.body)), st.booleans()
        )

    def drive(self, sent: tuple[str, bytes, bool]) -> str:
        how, drawn, is_sealed = sent
        self.objects.put(self.record.path, self.body)
        self.objects.delete(ledger_path(Candle))
        truth = ledger(self.objects, Candle)
        body = drawn
        if how == "footer":
            sink = io.BytesIO()
            cache = pl.read_parquet(io.BytesIO(self.objects.get(ledger_path(Candle)) or b""))
            cache.with_columns(facts=pl.lit(drawn.decode("utf-8", "replace"))).write_parquet(
                sink, metadata={SEAL_KEY: HOLE}
            )
            body = sink.getvalue()
        if is_sealed:
            try:
                body = seal(body)
            except ValueError:
                return "no Parquet"
        self.objects.put(ledger_path(Candle), body)
        assert ledger(self.objects, Candle) == truth
        return f"{how}: {'mended' if self.objects.get(ledger_path(Candle)) != body else 'kept'}"


class Receipts(Driver):
    """Receipts beside a sound one: what landing has of a market, and what can be made of it without the
    network.
    """

    def drawn(self) -> Drawn:
        body = Checksums.BODY
        sound = Receipt(
            KEY, "http://x", f"e:{len(body)}:none", hashlib.sha256(body).hexdigest(), "", NOW, NOW, "ok"
        )
        said = {name: str(getattr(sound, name)) for name in sound.__slots__}
        return st.tuples(json_like(said), st.sampled_from(["sealed", "unsealed", "as it is"]))

    def drive(self, sent: tuple[bytes, str]) -> str:
        drawn, how = sent
        landing = Landing(self.empty(), "binance")
        zipped_csv = Checksums.BODY
        folder = f"landing/exchange=binance/{KEY}"
        landing.objects.put(f"{folder}/{hashlib.sha256(zipped_csv).hexdigest()}.zip", zipped_csv)
        body = drawn
        if how == "sealed":
            try:
                said = json.loads(drawn)
                body = json.dumps(said | {"seal": json_seal(said)}).encode()
            except (ValueError, TypeError, RecursionError):
                body = drawn
        landing.objects.put(f"{folder}/{hashlib.sha256(zipped_csv).hexdigest()}.json", body)
        inspection = landing.inspect()
        exchange = Binance("http://127.0.0.1:9")
        landed = landed_files(landing, exchange, CandleArchive.name, BTC)
        listing = listing_from_landing(exchange, CandleArchive.name, BTC, landed.receipts, NOW)
        if not listing.files:
            return f"unsound, {len(inspection.damage)} damaged"
        with ArchiveReader(exchange, CandleArchive, landing, lambda: NOW, offline=True) as reader:
            return f"{reader.read(listing.file('2024-02')).frame.height} rows"


@contextmanager
def driver(kind: str, root: Path) -> Iterator[Driver]:
    """The driver of a kind."""
    if kind in ("listing", "rest"):
        with canned() as api:
            yield Listings(root, api) if kind == "listing" else Rest(root, api)
        return
    yield {
        "zip": Zips,
        "csv": Csvs,
        "checksum": Checksums,
        "footer": Footers,
        "cache": Caches,
        "receipt": Receipts,
    }[kind](root)


KINDS = ("zip", "csv", "checksum", "listing", "rest", "footer", "cache", "receipt")
