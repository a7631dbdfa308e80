"""The one family of errors. Each class takes its culprits as data and writes the message itself.

A message says which file, cell or option is meant, what was expected, what was found, and what to do. Longer
than other modules on purpose: read side by side, all messages stay in one voice, and who adds one sees its
nearest kin.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from lakehouse.model.secrets import hide
from lakehouse.model.text import plain, plain_message
from lakehouse.model.words import count_of


class LakehouseError(Exception):
    """Anything this project refuses, with a message a user can act on, in which no secret stands.

    Whatever a class puts into its message, no control character leaves it; what is foreign and may be long is
    made `plain` by the class, which knows it.
    """

    def __init__(self, message: object = "", *rest: object) -> None:
        super().__init__(hide(plain_message(message)), *rest)


# --- wrong use ------------------------------------------------------------------------------------


class UsageError(LakehouseError):
    """The words of a command or call are off; nothing was done."""


class MarketKeyError(UsageError):
    """A market key that is not `exchange-market_type:SYMBOL`, or whose symbol could not be a name; `why` says
    so.
    """

    def __init__(self, key: object, market_types: Iterable[str], why: str = "") -> None:
        expected = (
            f"Expected exchange-market_type:SYMBOL with market type one of {', '.join(market_types)}, such "
            "as binance-spot:BTCUSDT."
        )
        super().__init__(
            f"{ascii(key) if len(ascii(key)) <= 200 else ascii(key)[:200] + '…'} is not a market "
            f"key{f': {why}' if why else ''}. {expected}"
        )


class UnknownMarketError(UsageError):
    """A market the exchange does not list."""

    def __init__(self, key: str, where: str, similar: Iterable[str] = ()) -> None:
        hint = ", ".join(similar)
        super().__init__(
            f"{key} is not listed: nothing is published under {where}. "
            + (
                f"Did you mean {hint}?"
                if hint
                else "Check the symbol's spelling; symbols are the exchange's own, in upper case."
            )
        )


class NoSuchListingError(UsageError):
    """A pattern or a unified symbol that no listing has."""

    def __init__(self, name: str, known: int, where: str) -> None:
        super().__init__(
            f"No market is called {plain(name)}, of {known:,} {where}. `lakehouse markets scan` asks "
            "exchanges for all they list, and `lakehouse markets add` takes in what a name or pattern means "
            "of that; a market key, such as binance-spot:BTCUSDT, needs no list. What was delisted often "
            "states no currencies: it has its key alone."
        )


class ManyMarketsError(UsageError):
    """A name that several markets have where one is meant."""

    def __init__(self, name: str, keys: Iterable[str]) -> None:
        choices = list(keys)
        more = f" and {len(choices) - 10:,} more" if len(choices) > 10 else ""
        super().__init__(
            f"{plain(name)} can mean {', '.join(choices[:10])}{more}. Name one by its market key."
        )


class NotScannedError(UsageError):
    """An instant that is asked about where not every listing is known: what had ended would be absent."""

    def __init__(self, exchanges: Iterable[str]) -> None:
        super().__init__(
            f"Of {', '.join(exchanges)} only the markets of this lake are known, so what could be traded at "
            "an instant cannot be told. `lakehouse markets scan` asks for every listing, delisted ones too."
        )


class UnknownExchangeError(UsageError):
    """An exchange without a module in `exchanges/`."""

    def __init__(self, exchange: str, known: Iterable[str]) -> None:
        super().__init__(f"Exchange {exchange!r} is not supported; known: {', '.join(known)}.")


class UnknownTableError(UsageError):
    """A table that no declaration names."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no table {name!r}; known: {', '.join(known)}.")


class UnknownIntervalError(UsageError):
    """An interval that no table has."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"{name!r} is not an interval; known: {', '.join(known)}.")


class UnknownFillError(UsageError):
    """A way to fill absent candles that there is not."""

    def __init__(self, how: str, known: Iterable[str]) -> None:
        super().__init__(
            f"{how!r} is no way to fill absent candles; known: {', '.join(known)}, or None to leave them out."
        )


class NoStatementError(UsageError):
    """SQL was to come on standard input, and none came."""

    def __init__(self) -> None:
        super().__init__(
            'There is no statement: give one, such as `lakehouse sql "SELECT 1"`, or write '
            "it to standard input."
        )


class UnknownCommandError(UsageError):
    """A word with a dot before it, at the prompt of SQL, that means nothing there."""

    def __init__(self, text: str, known: Iterable[str]) -> None:
        super().__init__(f"{plain(text)!r} is no command here; known: {', '.join(known)}.")


class UnknownColumnError(UsageError):
    """Columns that what is read or reported does not have."""

    def __init__(self, names: Iterable[str], known: Iterable[str]) -> None:
        super().__init__(
            f"There is no column {', '.join(plain(name) for name in names)}; known: {', '.join(known)}."
        )


class TwoFormatsError(UsageError):
    """`--json` beside another format."""

    def __init__(self, form: str) -> None:
        super().__init__(f"--json is the same as --format json, and --format is {form}: give one of them.")


class BinaryOutputError(UsageError):
    """Parquet on a terminal."""

    def __init__(self) -> None:
        super().__init__(
            "Parquet is bytes, which a terminal cannot show: write it to a file, `> rows.parquet`."
        )


def _minute(instant: datetime) -> str:
    # a year of four digits, which `strftime` does not promise
    return instant.replace(tzinfo=None).isoformat(" ", "minutes")


class RangeBackwardsError(UsageError):
    """A range whose end is not after its start."""

    def __init__(self, start: datetime, end: datetime) -> None:
        super().__init__(
            f"The range from {_minute(start)} to {_minute(end)} is empty or backwards. Ranges are half-open: "
            "the end must be later than the start."
        )


class TimeFormatError(UsageError):
    """Something that is no date or instant."""

    def __init__(self, value: object) -> None:
        super().__init__(
            f"{value!r} is not a date. Expected YYYY-MM-DD, YYYY-MM or an ISO date-time, in the years 1 to "
            "9999 and no finer than a microsecond; times without an offset are UTC."
        )


class SettingError(UsageError):
    """A setting with a value that cannot be meant."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"{name}={value!r}: expected {expected}.")


class FramesFolderError(UsageError):
    """A folder for users' own frames that is not beside the lake: what is put into a zone would be taken for a
    cell.
    """

    def __init__(self, folder: str | None, root: str) -> None:
        found = f"{folder} and the lake {root} lie in one another" if folder else f"none was named for {root}"
        super().__init__(
            f"The folder for frames of your own must lie beside the lake: {found}. Expected another one, such "
            "as lake-frames beside lake."
        )


class InputAnnotationError(UsageError):
    """An argument of an asset that is annotated with a type in which its table is not given."""

    def __init__(self, argument: str, table: str, found: str, has_cells: bool) -> None:
        by_cell = ", or dict[str, pl.LazyFrame] by partition key" if has_cells else ""
        super().__init__(
            f"{argument} is {table}, and annotated {found}. Expected pl.LazyFrame or pl.DataFrame{by_cell}."
        )


class RangedOutputError(UsageError):
    """What an asset returned for a run of several partitions is not a frame for each."""

    def __init__(self, asset: str, partitions: Iterable[str], found: Iterable[str] | None) -> None:
        wanted = ", ".join(sorted(partitions)[:3])
        got = "one frame" if found is None else ", ".join(sorted(found)[:3]) or "none"
        super().__init__(
            f"A run made several partitions of {asset} ({wanted}, …), and it returned {got}. Expected a dict "
            "of a frame for each partition key, or a run for each partition: leave out `single_run()`."
        )


class AlertAddressError(UsageError):
    """An address in `LAKEHOUSE_ALERT_URLS` that is none; of it only the scheme is said, for the rest is a
    secret.
    """

    def __init__(self, number: int, scheme: str) -> None:
        super().__init__(
            f"Address {number} in LAKEHOUSE_ALERT_URLS{f', of {plain(scheme)},' if scheme else ''} is none "
            "that apprise knows. Expected that of a service (slack, discord, msteams, mailto), or "
            "json://host/path: see https://appriseit.com/services/."
        )


class NoAlertAddressError(UsageError):
    """Alerts, and nobody they go to."""

    def __init__(self) -> None:
        super().__init__(
            "LAKEHOUSE_ALERT_URLS names nobody. Set it to one or several of apprise's addresses, such as "
            "json://127.0.0.1:8080/alerts: see docs/runbook.md."
        )


class AlertNotSentError(LakehouseError):
    """Services that took no message; their addresses are secrets, so only their kinds are said."""

    def __init__(self, failed: Iterable[str], number: int) -> None:
        super().__init__(
            f"{', '.join(failed)}: no message was taken ({number} of the services in LAKEHOUSE_ALERT_URLS). "
            "Check their addresses and tokens, and that this machine reaches them."
        )


class AddressCredentialsError(UsageError):
    """An address of which a part is a secret: it would be told on with every file that was fetched from
    there. It is not repeated.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} holds a user, a password or a query (@ or ?): an address is stored with what comes from "
            "there, and shown. Expected one without; "
            "let a proxy add the credentials, or use the variables that AWS's tools read."
        )


class NothingInRangeError(UsageError):
    """A range in which no market has a cell."""

    def __init__(
        self,
        start: datetime,
        end: datetime,
        lives: Mapping[str, tuple[datetime, datetime | None]],
        first: str,
        last: str | None,
    ) -> None:
        said = ", ".join(
            f"{key} from {listed:%Y-%m-%d} to {f'{delisted:%Y-%m-%d}' if delisted else 'today'}"
            for key, (listed, delisted) in lives.items()
        )
        super().__init__(
            f"Nothing to build from {start.date()} to {end.date()}: the archive has "
            f"{said or 'no market that was named'}, and LAKEHOUSE_START is {first}"
            + (f", LAKEHOUSE_END {last}." if last else ".")
        )


class NoMarketError(UsageError):
    """A command that was given no market."""

    def __init__(self) -> None:
        super().__init__(
            "No market is named. Give market keys, comma-separated, such as binance-spot:BTCUSDT."
        )


class NotInUniverseError(UsageError):
    """Markets that are to be removed, and are not there."""

    def __init__(self, keys: Iterable[str], universe: Iterable[str]) -> None:
        known = list(universe)
        has = (
            f"It holds {', '.join(known[:10])}{' …' if len(known) > 10 else ''}." if known else "It is empty."
        )
        super().__init__(f"Not in the universe: {', '.join(map(ascii, keys))}. {has}")


class NoLakeError(UsageError):
    """A folder or prefix without a lake: it has no zone, neither bronze nor silver nor gold, and nothing
    landed.
    """

    def __init__(self, root: str) -> None:
        super().__init__(
            f"There is no lake at {root}. Set LAKEHOUSE_ROOT, or build one: lakehouse build gold --markets "
            "binance-spot:BTCUSDT --from 2024-01 --to 2024-02. To look around first: lakehouse demo"
        )


class NoRootError(UsageError):
    """A root that names no place of its own."""

    def __init__(self, root: str) -> None:
        super().__init__(f"{root!r} is no place for a lake: expected a folder, or s3://bucket/prefix.")


class FillAsOfError(UsageError):
    """A read that is to be filled and as of an earlier instant."""

    def __init__(self) -> None:
        super().__init__(
            "Slots are filled by what the lake knows now of a market's life, which it did not know then: "
            "give fill or as_of, not both."
        )


class NotKnowableError(UsageError):
    """A frame that is to be joined by when its rows could have been known, and does not say it."""

    def __init__(self, which: str, columns: Iterable[str]) -> None:
        super().__init__(
            f"The {which} frame has no column knowable_at, only {', '.join(columns) or 'no columns at all'}: "
            "join gold rows, which have it, or add the instant from which each of your rows could have been "
            "known."
        )


class NotJoinableError(UsageError):
    """Frames, or tables, that cannot be joined as they were given."""

    def __init__(self, why: str, do: str) -> None:
        super().__init__(f"These rows cannot be joined: {why}. {do}")


class NothingStoredError(UsageError):
    """A range and markets of which a table has no cell; no keys stand for all markets."""

    def __init__(self, table: str, keys: Iterable[str]) -> None:
        super().__init__(
            f"Nothing is stored in {table} of what was asked for ({', '.join(keys) or 'any market'}). Build "
            "it first, or widen the range; `lakehouse status` says what there is."
        )


class NotOfThisTypeError(NothingStoredError):
    """A market that cannot have a table, such as funding rates of a spot market, or of a contract that is
    delivered on a day.
    """

    def __init__(self, table: str, key: str, market_types: Collection[str]) -> None:
        is_of_type = key.partition(":")[0].rpartition("-")[2] in market_types
        why = (
            "contracts such as this one have none"
            if is_of_type
            else f"{' and '.join(market_types)} markets alone have it"
        )
        UsageError.__init__(self, f"There is no {table} of {key}: {why}.")


class BeforeFirstReceiptError(UsageError):
    """An `as_of` at which a lake had nothing yet of a cell that was asked for.

    Attributes:
        first: When it had the first of it.
    """

    def __init__(self, cell: str, as_of: datetime, first: datetime) -> None:
        super().__init__(
            f"At {as_of.replace(tzinfo=None).isoformat(timespec='seconds')}Z this lake had nothing yet of "
            f"{cell}: the first of it was fetched at {first:%Y-%m-%dT%H:%M:%S.%fZ}. "
            "Ask as of that instant or later, or leave this month out of the range."
        )
        self.first = first


class UnknownTargetError(UsageError):
    """A target of an export that there is not."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"{plain(name)!r} is no target of an export; known: {', '.join(known)}.")


class IntervalNotOfTargetError(UsageError):
    """Intervals that the target of an export does not read, or none at all."""

    def __init__(self, target: str, names: Iterable[str], read: Iterable[str]) -> None:
        unread = ", ".join(names)
        super().__init__(
            (f"{target} reads no candles of {unread}" if unread else "No interval is named")
            + f". Expected some of {', '.join(read)}."
        )


class MarkOfTargetError(UsageError):
    """Candles in place of mark prices, for a target that wants none."""

    def __init__(self, target: str) -> None:
        super().__init__(
            f"{target} is given no mark prices, so nothing stands in for them: leave out the option. It is "
            "for freqtrade alone."
        )


class NotOfTargetError(UsageError):
    """A market that the target of an export does not have."""

    def __init__(self, key: str, target: str, why: str) -> None:
        super().__init__(f"{key} cannot be exported for {target}: {why}. Target csv takes every market.")


class ExportNameError(UsageError):
    """A market that a target calls by its currencies, which nobody stated; or what was given for them is no
    unified symbol of its type.
    """

    def __init__(self, key: str, target: str, is_spot: bool, given: str | None = None) -> None:
        example = "BASE/QUOTE" if is_spot else "BASE/QUOTE:SETTLE"
        found = (
            f"{plain(given)} is no unified symbol of its type"
            if given is not None
            else "nobody stated them, as of most markets that were delisted before the lake asked"
        )
        super().__init__(
            f"{target} calls {key} by its currencies, and {found}. Expected {example}, such as "
            f"--name {key}={'LUNA/USDT' if is_spot else 'LUNA/USDT:USDT'}; or `lakehouse markets scan` asks "
            "the exchange."
        )


class ExportNamesError(UsageError):
    """A name for a market that does not say for which."""

    def __init__(self, given: str) -> None:
        super().__init__(
            f"--name {plain(given)}: expected a market key and its unified symbol, such as "
            "binance-linear:LUNAUSDT=LUNA/USDT:USDT."
        )


class NothingToExportError(UsageError):
    """A market of which the lake has no candle in a range, or none of some intervals."""

    def __init__(self, key: str, start: str | None, end: str | None, intervals: Iterable[str] = ()) -> None:
        span = f"from {start or 'the beginning'} to {end or 'the end'}"
        noun = f"{', '.join(intervals)} candle".strip()
        super().__init__(
            f"The lake has no {noun} of {key} that opens {span}: nothing was written. Build it first, or "
            "widen the range; `lakehouse status` says what there is."
        )


class NoDemoError(UsageError):
    """A folder in which no demo left a lake."""

    def __init__(self, folder: str) -> None:
        super().__init__(f"There is no demo in {folder}. Make one: lakehouse demo --folder {folder}")


class DemoFolderError(UsageError):
    """A place that the demo would empty and may not, or cannot use."""

    def __init__(self, place: str, why: str, otherwise: str = "") -> None:
        super().__init__(
            f"The demo does not touch {place}: {why}. Name another folder with --folder{otherwise}."
        )


class PortError(UsageError):
    """A port of this machine on which nothing can be opened."""

    def __init__(self, port: int, why: str, host: str = "127.0.0.1") -> None:
        super().__init__(
            f"Port {port} on {host} cannot be opened: {why}. End what listens there, or name another with "
            "--port."
        )


class UiExposedError(UsageError):
    """A UI that others would reach and that asks nobody who they are."""

    def __init__(self, host: str, why: str, remedy: str) -> None:
        super().__init__(f"The UI was not opened on {host}: {why}. {remedy}")


class UiTokenError(UsageError):
    """A token that can be guessed, or that no header can carry."""

    def __init__(self, least: int) -> None:
        super().__init__(
            f"The token of the UI is too short or has spaces or signs beyond ASCII: {least} characters at "
            "least, such as those of `openssl rand -hex 32`."
        )


class EnvFileError(UsageError):
    """A file of settings that was named and cannot be read."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"The settings in {path}, which LAKEHOUSE_ENV_FILE names, cannot be read: {why}. Name another, "
            "or unset it."
        )


class SqlError(UsageError):
    """A statement that the SQL engine refuses; `known` are the tables, where it names one that there is
    not.
    """

    def __init__(self, why: str, known: Iterable[str] = ()) -> None:
        tables = ", ".join(known)
        super().__init__(
            f"The statement was refused: {why}" + (f"\nKnown tables: {tables}." if tables else "")
        )


class SqlBeyondLakeError(SqlError):
    """A statement that does more than read the lake, of somebody who did not say that it may."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}. A statement reads this lake and nothing else; with --unrestricted (in Python: "
            "unrestricted=True) it may do all that DuckDB can, to your own files too."
        )


class SqlResultError(SqlError):
    """A column that SQL yields and that Polars, Python or JSON has no place for."""

    def __init__(self, column: str, sql_type: str, why: str) -> None:
        super().__init__(
            f"its column {column} ({sql_type}) {why}. Leave such values out, or have it as text: CAST(… AS "
            "VARCHAR)"
        )


class PartitionFilterError(SqlError):
    """A statement that would read all cells of a table, on a server that wants to be told which."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{plain(why, 500)}. It would read every market and month. Say which are meant, in the WHERE of "
            "each table: month >= '2024-01', or one of the other columns that the message names."
        )


class AttachableFileError(UsageError):
    """A path at which no DuckDB file over a lake can be."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(
            f"No file for DuckDB can be made at {plain(str(path))}: {plain(why)}. Name another one."
        )


class NotRegisteredError(SqlError):
    """A table that the lake has, and the catalog that a server reads it by does not."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"{table} is not registered in Glue, which has silver and gold tables. DuckDB reads it: leave "
            "out --engine."
        )


class EngineOptionError(UsageError):
    """An option that the engine which is to answer has not."""

    def __init__(self, option: str, engine: str) -> None:
        super().__init__(f"{option} is for DuckDB, which runs here; with --engine {engine} leave it out.")


class NoTrinoError(UsageError):
    """Trino is to answer, and something of where it is was not said."""

    def __init__(self, absent: str) -> None:
        super().__init__(
            f"{absent} is not set. --engine trino needs LAKEHOUSE_TRINO_URL, such as http://127.0.0.1:8080, "
            "and LAKEHOUSE_GLUE_DATABASE, the prefix under which the lake's tables are registered."
        )


class TrinoClientMissingError(UsageError):
    """The package that speaks with Trino is not installed."""

    def __init__(self) -> None:
        super().__init__("--engine trino needs Trino's client: pip install 'lakehouse[trino]'.")


class TrinoUnreachableError(LakehouseError):
    """A Trino server that does not answer, or something else that does."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"Trino at {plain(url, 200)} does not answer: {plain(why, 300)}. Check LAKEHOUSE_TRINO_URL, and "
            "that the server has started; it takes about ten seconds."
        )


class TrinoTimesError(LakehouseError):
    """A Trino server that answers with other times than the lake has."""

    def __init__(self, url: str, found: str, setting: str) -> None:
        super().__init__(
            f"Trino at {plain(url, 200)} reads times wrongly: {plain(found, 300)}. "
            "Expected UTC and microseconds: "
            f"configure it as infra/trino/etc does ({setting})."
        )


class LocalTrinoError(LakehouseError):
    """A Trino server on this machine that does not come up."""

    def __init__(self, code: int | None, said: str) -> None:
        ended = "did not answer in time" if code is None else f"ended with exit code {code}"
        super().__init__(
            f"The Trino server {ended}. It said last: {plain(said or 'nothing', 500)}. `make trino` puts its "
            "files in order."
        )


class TrinoFailedError(LakehouseError):
    """A statement that was right and could not be carried out by the server."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"Trino could not read to the end ({name}): {plain(why, 500)}. A cell that a build replaces "
            "while it is read ends so as well: run the same again. What lasts, DuckDB explains: leave out "
            "--engine."
        )


# --- places out of reach --------------------------------------------------------------------------


class RootNotWritableError(LakehouseError):
    """A lake root that cannot be written."""

    def __init__(
        self,
        root: str,
        why: str,
        remedy: str = "Set LAKEHOUSE_ROOT to a folder or s3://bucket/prefix you may write to.",
    ) -> None:
        super().__init__(f"The lake at {root} cannot be opened or written: {why}. {remedy}")


class ExportFolderError(LakehouseError):
    """A folder that cannot hold an export."""

    def __init__(self, folder: str, why: str) -> None:
        super().__init__(f"Nothing can be exported into {folder}: {why}. Name another folder with --folder.")


class FileInTheWayError(LakehouseError):
    """A file where an export has to write or remove one, and that no export of the market left there as it
    is.
    """

    def __init__(self, path: str, key: str, owner: str = "", is_read_along: bool = False) -> None:
        if owner:
            said = f"is of {owner}, and {key} has the same name there. Export one of them into another folder"
        elif is_read_along:
            said = (
                f"is read along with {key}, and is of no export of it. Move it away, or export into another "
                "folder"
            )
        else:
            said = (
                f"is not as an export of {key} left it. Move it away, export into another folder, or have it "
                "replaced with --overwrite"
            )
        super().__init__(f"{path} {said}: nothing was changed.")


class DagsterHomeError(LakehouseError):
    """A folder in which Dagster cannot keep its instance."""

    def __init__(self, home: str, why: str) -> None:
        super().__init__(
            f"Dagster's home {home} cannot be opened or written: {why}. Set DAGSTER_HOME to a folder you may "
            "write to."
        )


class UnknownInstanceError(UsageError):
    """A kind of Dagster instance that there is not."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"There is no instance {plain(name)!r}. Expected one of {', '.join(known)}: each is a part of "
            "lakehouse/instances.yaml."
        )


class NoQueueError(UsageError):
    """An instance that starts runs at once, in whatever asks for them."""

    def __init__(self, coordinator: str) -> None:
        super().__init__(
            f"This Dagster instance has no queue: its run coordinator is {plain(coordinator)}. Leave "
            "`run_coordinator` out of its dagster.yaml, or name QueuedRunCoordinator."
        )


class ForeignInstanceError(LakehouseError):
    """A file in Dagster's home that says which code Dagster runs, in a folder that nobody named."""

    def __init__(self, path: str, home: str) -> None:
        super().__init__(
            f"{path} says which code Dagster runs, was not put there by lakehouse, and nobody named that "
            f"folder. If it is yours, say so with DAGSTER_HOME={home}; "
            "otherwise remove it."
        )


class UiServiceError(LakehouseError):
    """A process of the UI that does not start, or ends by itself."""

    def __init__(self, what: str, code: int | None, seconds: float, log: str | None = None) -> None:
        ended = f"did not answer within {seconds:.0f} s" if code is None else f"ended with exit code {code}"
        super().__init__(
            f"The UI is closed: {what} {ended}; what it said stands {f'in {log}' if log else 'above'}."
        )


class TaskTagError(LakehouseError):
    """Tags by which a run would be another task than is declared: another command, role, image or network."""

    def __init__(self, run: str, found: Iterable[str]) -> None:
        super().__init__(
            f"Run {run} was not started: its tags {', '.join(found)} would make its task another than is "
            "declared. Of tags for tasks ecs/cpu, ecs/memory and ecs/ephemeral_storage are expected; start "
            "it without others."
        )


class UnhealthyError(LakehouseError):
    """A service of a deployment that does not do its work."""

    def __init__(self, service: str, expected: str, found: str) -> None:
        super().__init__(
            f"The service {service} is not healthy: expected {expected}, found {plain(found, 200)}. Read its "
            "log; its container is to be started again if it stays so."
        )


class StoreError(LakehouseError):
    """A lake's store that does not answer, or refuses.

    Attributes:
        why: The store's own words.
        remedy: What to do about it.
        everywhere: Whether the next object would fare no better, so that going on is in vain.
    """

    everywhere = False

    def __init__(self, doing: str, uri: str, why: str, remedy: str = "") -> None:
        why = hide(plain(why, 500))  # what is cut off is not looked through
        super().__init__(
            f"{doing} {plain(uri, 400)} failed: {why}. {remedy}{' ' if remedy else ''}What is stored stays; "
            "run the same again."
        )
        self.why, self.remedy = why, remedy


class StoreUnreachableError(StoreError):
    """A store that did not answer, or only with errors of its own, for as long as requests are repeated."""

    everywhere = True

    def __init__(self, doing: str, uri: str, why: str) -> None:
        super().__init__(doing, uri, why, "Check the network and, where it is set, AWS_ENDPOINT_URL.")


class StoreCredentialsError(StoreError):
    """Credentials that are absent, expired or unknown."""

    everywhere = True

    def __init__(self, doing: str, uri: str, why: str) -> None:
        super().__init__(
            doing,
            uri,
            why,
            "Renew the AWS credentials: AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, "
            "a profile, or a role.",
        )


class StoreDeniedError(StoreError):
    """A request that the credentials have no permission for; `missing` maps actions to resources."""

    def __init__(self, doing: str, uri: str, why: str, missing: Mapping[str, str]) -> None:
        super().__init__(
            doing,
            uri,
            why,
            "Grant these credentials "
            f"{' and '.join(f'{action} on {resource}' for action, resource in missing.items())}.",
        )


class StoreLacksError(StoreError):
    """A request that a store does not know at all."""

    def __init__(self, doing: str, uri: str, why: str) -> None:
        super().__init__(
            doing, uri, why, "This store does not know such a request: docs/stores.md has what a lake needs."
        )


class StoreLockedError(StoreError):
    """An object that another process is changing, in a store that does not keep two writers of it apart by
    itself.
    """

    def __init__(self, uri: str, holder: str, since: str, lock: str) -> None:
        super().__init__(
            "locking",
            uri,
            f"{holder} is changing it{f' since {since}' if since else ''}, and this store replaces an object "
            "whatever it was told to expect (If-Match), so one of two writers would undo the other",
            f"Wait until that ends; if it was killed, its lock {plain(lock, 400)} is void ten minutes after "
            "it was made.",
        )


class StoreListingError(StoreError):
    """A store whose listing does not have what was just written: nobody can tell there who else writes."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            "locking",
            uri,
            "the listing does not have the lock that was just written, and this store replaces an object "
            "whatever it was told to expect (If-Match), so nothing keeps two writers apart",
        )


class BucketMissingError(StoreError):
    """A bucket that does not exist."""

    everywhere = True

    def __init__(self, doing: str, uri: str, bucket: str) -> None:
        super().__init__(doing, uri, f"there is no bucket {bucket}", "Create it, or correct LAKEHOUSE_ROOT.")


class BucketRegionError(StoreError):
    """A bucket that is asked for in a region where it does not lie; `region` is empty if nobody says where it
    does.
    """

    everywhere = True

    def __init__(self, doing: str, uri: str, bucket: str, region: str) -> None:
        super().__init__(
            doing,
            uri,
            f"the bucket {bucket} lies in {region or 'another region'}",
            f"Set AWS_REGION to {region or 'its region'}.",
        )


class CatalogError(LakehouseError):
    """A catalog that refuses something, or a name it would."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"The catalog does not take {plain(what)}: {plain(why, 500)}. What was registered before is "
            "right; the next sync does the rest."
        )


class ColumnChangeError(LakehouseError):
    """A declared column that no longer fits what is registered."""

    def __init__(self, table: str, column: str, registered: str, declared: str) -> None:
        super().__init__(
            f"{table}.{column} is registered as {registered} and declared as {declared}. Columns can be "
            "appended and widened (int to bigint, float to double); "
            "anything else would misread the files that exist. Declare a new column, or drop the table from "
            "the catalog and rebuild its cells."
        )


class ListingUnreachableError(LakehouseError):
    """An archive whose listing does not answer."""

    def __init__(self, url: str, prefix: str, why: str, setting: str = "the archive's address") -> None:
        super().__init__(
            f"The archive listing of {plain(prefix)} at {url} does not answer: {plain(why, 500)}. Check the "
            f"network and {setting}, then run the same again."
        )


class FetchError(LakehouseError):
    """A file that could not be fetched; worth trying again."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(
            f"{plain(key, 400)} could not be fetched: {plain(why, 500)}. What had been built stays; run the "
            "same build again."
        )
        self.key = key


class NotTheFileError(FetchError):
    """Bytes that came in place of a file, such as the login page of a network: they say nothing of the file,
    so no receipt is left of them.
    """

    def __init__(self, key: str, expected: str, found: bytes) -> None:
        began = f"beginning {found[:80].decode('utf-8', 'replace')!r}" if found else "an empty answer"
        super().__init__(
            key,
            f"expected {expected}, what came has {len(found):,} bytes, {began}; something between here and "
            "the archive may have answered in its place",
        )


class ListingBoundsError(FetchError):
    """A listing of one folder that goes beyond what any such folder has, or comes too slowly; it says nothing
    of the others.
    """

    def __init__(self, url: str, prefix: str, why: str) -> None:
        super().__init__(prefix, f"its listing at {url} goes beyond its bounds, {why}")


class OtherVersionError(FetchError):
    """A file of which no version is served that is newer than what was fetched before, though the archive
    lists one; what is stored of it stays.
    """

    def __init__(self, key: str, listed: str, served: str) -> None:
        super().__init__(
            key,
            f"the archive lists version {listed} and still serves {served}, which is no news; a cache in "
            "between may hold it for a while",
        )


class RestUnreachableError(LakehouseError):
    """A REST API that does not answer, or not with what was asked for; worth trying again later.

    Attributes:
        url: Base of the API.
        why: What happened instead.
    """

    def __init__(self, url: str, why: str, do: str) -> None:
        super().__init__(f"The REST API at {url} does not answer as expected: {plain(why, 500)}. {do}")
        self.url, self.why = url, hide(plain(why, 500))


class RestBoundsError(RestUnreachableError):
    """A REST API whose answer is larger or slower than any that it can mean."""


class RestBannedError(RestUnreachableError):
    """A REST API that has banned this address for asking too much.

    Attributes:
        url: The API's address.
        until: When it may be asked again.
    """

    def __init__(self, url: str, until: datetime) -> None:
        super().__init__(
            url,
            f"it has banned this address until {until:%Y-%m-%d %H:%M:%S} UTC",
            "It is not asked again before; another process that does lengthens the ban.",
        )
        self.url, self.until = url, until


class RestRefusedError(RestUnreachableError):
    """A REST API that serves others, but not this address."""

    def __init__(self, url: str, status: int, setting: str, hint: str) -> None:
        why = "it refuses requests from this region" if status == 451 else "its firewall refuses this client"
        super().__init__(
            url, f"{why} (HTTP {status})", f"Set {setting} to a base URL that serves you; {hint}."
        )


class ClockBehindError(LakehouseError):
    """A machine whose clock is behind an exchange's, so that what is over there has not begun here."""

    def __init__(self, now: datetime, exchange: str, told: datetime, consequence: str) -> None:
        super().__init__(
            f"This machine's clock is behind: it says {now:%Y-%m-%d %H:%M} UTC where {exchange} says "
            f"{told:%Y-%m-%d %H:%M}. {consequence} Set the clock, then run the same again."
        )


class UnknownSymbolError(LakehouseError):
    """A market that the archive may have and REST does not, such as one that was delisted.

    Attributes:
        market: Key of the market.
    """

    def __init__(self, market: str, url: str) -> None:
        super().__init__(
            f"The REST API at {url} does not know {market}: it was delisted, or never listed. What the "
            "archive has of it is all there is."
        )
        self.market = market


class RestQuestionError(LakehouseError):
    """A question that a REST API answers with an error of its own: it says something of this question, and
    nothing of the API.

    Attributes:
        url: Base of the API.
        subject: Key of the market, or the call.
        code: The API's error code.
    """

    def __init__(self, url: str, subject: str, code: int, said: str) -> None:
        super().__init__(
            f"The REST API at {url} refuses what it was asked about {subject}: error {plain(code, 40)}, "
            f"{plain(said) or 'without a word'}. "
            "It answers other questions; this one is asked again later. If the error stays, look the code up "
            "in the API's documentation, and check the symbol."
        )
        self.url, self.subject, self.code = url, subject, code


# --- damaged files --------------------------------------------------------------------------------


class ArchiveFileError(LakehouseError):
    """An archive file whose content cannot be trusted.

    Attributes:
        key: The archive key.
        outcome: How the receipt records it: `mismatch` (not the published bytes) or `corrupt` (unusable
            content).
    """

    outcome = "corrupt"

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key

    def __reduce__(self) -> tuple[type[LakehouseError], tuple[str]]:
        return LakehouseError, (str(self),)


class ChecksumMissingError(ArchiveFileError):
    """A zip without a published checksum."""

    outcome = "mismatch"

    def __init__(self, key: str) -> None:
        super().__init__(
            key,
            "no CHECKSUM is published beside the file, so its bytes cannot be verified. It is left out until "
            "one appears.",
        )


class ChecksumFormatError(ArchiveFileError):
    """A CHECKSUM file that is not `<sha256>  <name>`."""

    outcome = "mismatch"

    def __init__(self, key: str, found: str) -> None:
        super().__init__(
            key, f"its CHECKSUM should read '<64 hex digits>  <file name>', found {plain(repr(found[:100]))}."
        )


class ChecksumNameError(ArchiveFileError):
    """A CHECKSUM that belongs to another file."""

    outcome = "mismatch"

    def __init__(self, key: str, expected: str, found: str) -> None:
        super().__init__(key, f"its CHECKSUM is of another file: expected {expected}, found {plain(found)}.")


class ChecksumMismatchError(ArchiveFileError):
    """Bytes whose sha256 is not the published one."""

    outcome = "mismatch"

    def __init__(self, key: str, expected: str, found: str) -> None:
        super().__init__(
            key,
            f"sha256 is {found[:12]}…, published is {expected[:12]}…: the file was replaced or its CHECKSUM "
            "is stale. It is left out until the two agree.",
        )


class ZipDamagedError(ArchiveFileError):
    """A zip that does not open or fails its CRC."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key, f"the zip is damaged: {plain(why)}.")


class ZipMembersError(ArchiveFileError):
    """A zip that does not hold exactly one CSV."""

    def __init__(self, key: str, found: Iterable[str]) -> None:
        super().__init__(
            key,
            f"expected exactly one CSV member, found {plain(sorted(plain(name) for name in found), 500)}.",
        )


class ZipMemberNameError(ArchiveFileError):
    """A member whose name is a path or belongs to another file."""

    def __init__(self, key: str, expected: str, found: str) -> None:
        super().__init__(key, f"expected the member {expected}, found {plain(repr(found[:200]))}.")


class ZipTooLargeError(ArchiveFileError):
    """A member that inflates beyond the cap."""

    def __init__(self, key: str, cap: int) -> None:
        super().__init__(key, f"its member inflates to more than the cap of {cap:,} bytes.")


class ListedTooLargeError(ArchiveFileError):
    """A file that is listed with more bytes than its kind can have; it is not asked for."""

    def __init__(self, key: str, name: str, size: int, most: int) -> None:
        super().__init__(
            key,
            f"{name} is listed with {size:,} bytes, where {most:,} are the most that such a file can have. "
            "It was not fetched.",
        )


class CsvTooLongError(ArchiveFileError):
    """A CSV with more lines than its period can have."""

    def __init__(self, key: str, most: int) -> None:
        super().__init__(
            key, f"the CSV has more than {most:,} lines, which are the most that such a file can have."
        )


class CsvEncodingError(ArchiveFileError):
    """CSV bytes that are no text."""

    def __init__(self, key: str, offset: int) -> None:
        super().__init__(key, f"byte {offset} of the CSV is not ASCII, which every column of this file is.")


class CsvHeaderError(ArchiveFileError):
    """A first line that is neither data nor the known header."""

    def __init__(self, key: str, expected: Iterable[str], found: str) -> None:
        super().__init__(
            key,
            f"the first line is neither data nor the known header. Expected {','.join(expected)}; found "
            f"{plain(repr(found[:200]))}.",
        )


class CsvParseError(ArchiveFileError):
    """Lines that do not parse as the declared columns."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key, f"the CSV does not parse: {plain(why, 500)}.")


class CsvEmptyError(ArchiveFileError):
    """A CSV without a row or a header: a header alone says that there is no row, nothing says nothing."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "the CSV holds no row and no header.")


class RowsOutsidePeriodError(ArchiveFileError):
    """Rows whose time is outside the period in the file's name."""

    def __init__(self, key: str, period: str, count: int, first: str) -> None:
        super().__init__(key, f"{count} rows are outside the file's period {period}, the first at {first}.")


class ForeignJsonError(LakehouseError, ValueError):
    """JSON that nobody of good will writes, or none at all. Who reads an object says whose it is."""

    def __init__(self, why: str) -> None:
        super().__init__(f"It is no JSON that is read here: {why}.")
        self.why = why


# --- cells ----------------------------------------------------------------------------------------


class CellError(LakehouseError):
    """A cell that could not be built."""


class NoSourceError(CellError):
    """A cell for which no source could be read."""

    def __init__(self, cell: str, problems: Iterable[str]) -> None:
        super().__init__(
            f"{cell}: none of its files could be used, so nothing was written. " + " | ".join(problems)
        )


class CellUnreadableError(CellError):
    """A cell with values that a library could not handle; `place` is the file they stand in, or the cell
    itself.
    """

    def __init__(self, cell: str, place: str, error: BaseException) -> None:
        said = plain(str(error)[:1000].strip().split("\n", 1)[0], 500)
        super().__init__(
            f"{cell}: what {place} holds could not be handled ({type(error).__name__}: {said}). Nothing was "
            "written of this cell; others go on. Please report it."
        )


class InputMissingError(CellError):
    """A cell whose own input is not stored.

    Attributes:
        table: The table that has no such cell.
    """

    def __init__(self, table: str, cell: str) -> None:
        self.table = table
        super().__init__(
            f"{table} has no cell {cell} yet: materialize it first (`lakehouse build` does both)."
        )


class FailedAboveError(CellError):
    """A cell that was not made because one that it is made from failed in the same run; `why` is what that
    one said.
    """

    def __init__(self, table: str, cell: str, why: str) -> None:
        super().__init__(f"{table} {cell} failed above in this run: {why}")


class MarketFactsMissingError(CellError):
    """A market without a row in `silver/market`."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"silver/market has no row for {key}: materialize silver/market, or run `lakehouse markets add "
            f"{key}`."
        )


class SchemaError(CellError):
    """A frame that is not what its table declares."""

    def __init__(self, table: str, cell: str, differences: Iterable[str]) -> None:
        super().__init__(
            f"{table} {cell}: the frame is not as declared, nothing was written: {'; '.join(differences)}."
        )


class DuplicateKeyError(CellError):
    """Rows that share a key."""

    def __init__(self, table: str, cell: str, count: int, first: str) -> None:
        super().__init__(
            f"{table} {cell}: {count} rows share a key with another row, the first at {first}; nothing was "
            "written."
        )


class TooManyRowsError(CellError):
    """A cell with more rows than any of its table can have, which nobody would be given to read."""

    def __init__(self, table: str, cell: str, count: int, most: int) -> None:
        super().__init__(
            f"{table} {cell}: {count:,} rows, a cell of this table has {most:,} at most; nothing was "
            "written. Look at the files it is made from."
        )


class BeyondTargetError(CellError):
    """A value that the target of an export would read as another one, or not at all."""

    def __init__(self, key: str, target: str, found: str, allowed: str) -> None:
        super().__init__(
            f"{key} has {found}, and {target} takes {allowed}: nothing was written. Target csv takes it; a "
            "range without it can be exported."
        )


class NotExportedError(LakehouseError):
    """Markets that could not be exported; those beside them were.

    Attributes:
        failures: Why, by market key.
        exported: What was.
    """

    def __init__(self, failures: Mapping[str, LakehouseError], exported: Iterable[object]) -> None:
        self.failures, self.exported = dict(failures), list(exported)
        said = "".join(f"\n{key}: {error}" for key, error in self.failures.items())
        whole = len(self.failures) + len(self.exported)
        super().__init__(
            f"{len(self.failures):,} of {count_of(whole, 'market')} could not be exported.{said}"
        )


class NotALakeObjectError(LakehouseError):
    """An object in a table's folder that lakehouse did not write.

    Attributes:
        path: Where it lies.
        why: What is wrong with it.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} is not a cell of this lake: {why}. Remove it, or rebuild the cell.")
        self.path, self.why = path, why


class ForeignFolderError(NotALakeObjectError):
    """An object in a folder that no market or month can have: it is nobody's cell, so nobody lacks anything
    for it.
    """


class DamagedObjectError(NotALakeObjectError):
    """An object whose bytes are not those that were stored there."""

    def __init__(self, path: str, why: str) -> None:
        LakehouseError.__init__(
            self,
            f"{path} is damaged: {why}. Nothing of it is used. `lakehouse verify --stored --repair` makes it "
            "again from what is stored, or says why it cannot.",
        )
        self.path, self.why = path, why


class ReplacedMeanwhileError(LakehouseError):
    """An object that was replaced while it was read, whenever that was tried; half of one version and half of
    another are never served together.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} was replaced while it was read, and again when that was tried anew: a build is at work "
            "there. Run the same again."
        )
        self.path = path


class GoneMeanwhileError(LakehouseError):
    """An object that was taken away between the look that found it and its reading: without its rows the
    answer would be of no state that the lake was in.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} was there when it was looked for, and is gone now: somebody took it away. Ask anew; "
            "`lakehouse status` says whether it is to be made again."
        )
        self.path = path


class LakehouseWarning(UserWarning):
    """What a reader is told beside the rows. The command line says it in the same words."""


class BehindInputsWarning(LakehouseWarning):
    """Cells that are read although what they were made from has been replaced since. Said in the same words
    by SDK, command line and `lakehouse status`.
    """

    def __init__(self, table: str, cells: Iterable[str]) -> None:
        named = list(cells)
        first = ", ".join(named[:3]) + (", …" if len(named) > 3 else "")
        are = (
            "1 cell is behind its inputs"
            if len(named) == 1
            else f"{len(named):,} cells are behind their inputs"
        )
        super().__init__(
            f"{table}: {are} ({first}): the rows are right for what these were before. `lakehouse build "
            f"{table}` makes them again."
        )
        self.table, self.cells = table, named


class NotCollectedWarning(LakehouseWarning):
    """Cells that tell of disputed keys whose values are not collected yet: there are more than are read."""

    def __init__(self, table: str, cells: Iterable[str]) -> None:
        named = list(cells)
        first = ", ".join(named[:3]) + (", …" if len(named) > 3 else "")
        super().__init__(
            f"{table} has nothing of {count_of(len(named), 'cell')} with disputed keys ({first}): they are "
            f"left out. `lakehouse build {table}` collects them."
        )
        self.table, self.cells = table, named


class NothingStoredWarning(LakehouseWarning):
    """A statement that names a market, or a month, of which a table has nothing: most often mistyped."""

    def __init__(self, table: str, asked: Mapping[str, Iterable[str]]) -> None:
        said = [f"{column} {' or '.join(sorted(values))}" for column, values in sorted(asked.items())]
        super().__init__(
            f"{table} has nothing of {', '.join(said)}, so the statement finds no row of it. `lakehouse "
            "status` says what there is."
        )
        self.table = table


class NotInLandingError(LakehouseError):
    """A file that is to be read from landing alone, and cannot be.

    Attributes:
        key: The archive key.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(
            f"{key} cannot be read without the network: {why}. Nothing was written; `lakehouse build` asks "
            "the archive for it."
        )
        self.key = key
