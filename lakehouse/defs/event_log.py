"""Dagster's SQLite storage with its connections kept open: an event costs a fifth.

Dagster's own opens an engine for every event, so each insert is compiled anew, asks the file for its tables,
and waits for the disk three times: 26 ms of CPU a cell (planned event and materialization), and 60 to 130 ms
of waiting where the disk is busy. Kept engines take 5 to 7 ms.

With WAL and `synchronous=NORMAL` a killed process loses nothing and the file stays whole; a power cut may
lose the last events, whose cells stand in the lake and are logged again by the next run. Used by
`dagster.yaml` of one machine; `postgres.py` takes its place where more than one writes.
"""

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dagster import AssetCheckKey, AssetKey, DagsterInstance, EventLogEntry, Field
from dagster._config import StringSource
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetKeyTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData, deserialize_value, serialize_value
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.dialects.sqlite import insert

from lakehouse.model.market import Market
from lakehouse.model.secrets import hide

MARKET_PARTITIONS = "market"
_RUNS_KEPT = 8  # a webserver reads the shards of thousands of runs: only the latest stay open


class CarefulEventLog(SqlEventLogStorage):
    """What our event logs take care of, whichever database keeps them. To be named before Dagster's own."""

    def store_event(self, event: EventLogEntry) -> None:
        """Without secrets: an error comes with those it was raised from, which are not ours."""
        super().store_event(without_secrets(event))

    def add_dynamic_partitions(self, partitions_def_name: str, partition_keys: Sequence[str]) -> None:
        """Only markets become partitions of markets, whoever adds them: one that is none would be in every
        range that it lies in, and fail at every step.

        Raises:
            MarketKeyError: A key names none.
        """
        for key in partition_keys if partitions_def_name == MARKET_PARTITIONS else ():
            Market.parse(key)
        super().add_dynamic_partitions(partitions_def_name, partition_keys)


class KeptSqliteEventLogStorage(CarefulEventLog, SqliteEventLogStorage):
    """Dagster's event log in SQLite, on engines that are kept."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._tables: set[str] = set()
        self._under_way = _UnderWay()
        super().__init__(base_dir, inst_data)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events in one transaction for each file, all or none of them."""
        with self._db_lock, ExitStack() as transactions:
            self._under_way.connections = _Connections(self._engine, transactions)
            transactions.callback(setattr, self._under_way, "connections", None)
            super().store_event_batch(events)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        if (batch := self._under_way.connections) is not None:
            yield batch[shard]
            return
        with self._db_lock, self._engine(shard).connect() as connection, connection.begin():
            yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.pop(shard, None)
        # deleted with its run, by this process or another
        if engine is None or not Path(self.path_for_shard(shard)).exists():
            if engine is not None:
                engine.dispose()
            engine = _hurried(self.conn_string_for_shard(shard))
            if not self._begun(shard):
                self._initdb(engine, for_index_shard=shard == INDEX_SHARD_NAME)
        self._engines[shard] = engine
        while len(self._engines) > _RUNS_KEPT:
            self._engines.popitem(last=False)[1].dispose()
        return engine

    def _begun(self, shard: str) -> bool:
        """Whether this call made the file of the shard, out of one whose tables Dagster made: that takes a
        tenth of a second, and every run begins with it.
        """
        if Path(self.path_for_shard(shard)).exists():
            return False
        with TemporaryDirectory(dir=self._base_dir) as folder:
            made = Path(folder, "new")
            made.write_bytes(self._new_shard)
            with suppress(OSError):  # another process was sooner, or the disk has no links
                os.link(made, self.path_for_shard(shard))
                return True
        return False

    @cached_property
    def _new_shard(self) -> bytes:
        """The file of a shard without events, as Dagster's migrations leave it."""
        with TemporaryDirectory() as folder:
            made = Path(folder, "new")
            engine = _hurried(f"sqlite:///{made}")
            self._initdb(engine)
            engine.dispose()  # the last connection writes the log into the file
            return made.read_bytes()

    def has_table(self, table_name: str) -> bool:
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _has_asset_key_index_cols_on_connection(self, conn: Connection) -> bool:
        return True  # Dagster reads the table's columns for every event; `_initdb` has made them all

    def _store_asset_event(self, conn: Connection, event: EventLogEntry, event_id: int) -> None:
        """As Dagster's, in one statement: it tries to insert a row that is there since the first event."""
        key = event.dagster_event.asset_key if event.dagster_event else None
        values = self._get_asset_entry_values(event, event_id, True) if key else {}
        if key and values:
            row = insert(AssetKeyTable).values(asset_key=key.to_string(), **values)
            conn.execute(row.on_conflict_do_update([AssetKeyTable.c.asset_key], set_=values))

    def dispose(self) -> None:
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()
        super().dispose()


class _Connections(dict[str, Connection]):
    """A connection with a transaction for each file that is asked for, until the stack ends.

    Args:
        engine: The engine of a shard.
        stack: Ends transactions and connections.
    """

    def __init__(self, engine: Callable[[str], Engine], stack: ExitStack) -> None:
        super().__init__()
        self._engine, self._stack = engine, stack

    def __missing__(self, shard: str) -> Connection:
        connection = self[shard] = self._stack.enter_context(self._engine(shard).connect())
        self._stack.enter_context(connection.begin())
        return connection


class _UnderWay(threading.local):
    """The batch that this thread stores; None if it stores none."""

    connections: _Connections | None = None


class KeptSqliteRunStorage(SqliteRunStorage):
    """Dagster's runs in SQLite, on an engine that is kept."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(conn_string, inst_data)
        self._engine = _kept(conn_string)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()
        super().dispose()


class KeptSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage of schedules and, with kept connections, runs and events."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._run_storage = KeptSqliteRunStorage.from_local(str(Path(base_dir, "history")))
        self._event_log_storage = KeptSqliteEventLogStorage(str(Path(base_dir, "history", "runs")))

    @classmethod
    def config_type(cls) -> Any:
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "KeptSqliteStorage":
        return cls.from_local(config_value.get("base_dir") or str(_home()), inst_data)


def without_secrets(event: EventLogEntry) -> EventLogEntry:
    """An event as it may be stored and shown."""
    said = serialize_value(event)
    if hide(said) == said:
        return event
    return deserialize_value(json.dumps(_hidden(json.loads(said))), EventLogEntry)


def checks_after(instance: DagsterInstance, after: int) -> tuple[set[AssetCheckKey], int]:
    """The checks that were evaluated, or were to be, after an evaluation, and the newest evaluation. Dagster
    lists none: it asks the code for its checks, and here the code may be another location's.
    """
    log, executions = instance.event_log_storage, AssetCheckExecutionsTable.c
    assert isinstance(log, SqlEventLogStorage), "every storage of Dagster's own is one"
    with log.index_connection() as connection:
        rows = connection.execute(
            select(executions.asset_key, executions.check_name, func.max(executions.id))
            .where(executions.id > after)
            .group_by(executions.asset_key, executions.check_name)
        ).all()
    keys = {key: AssetKey.from_db_string(key) for key, _, _ in rows}
    found = {AssetCheckKey(own, name) for key, name, _ in rows if (own := keys[key])}
    return found, max((newest for _, _, newest in rows), default=after)


def _home() -> Path:
    """Where everything is kept if `dagster.yaml` names no place: in Dagster's home, and where there is none,
    as for `dagster dev` in a fresh clone, in the folder that commands and `lakehouse ui` use there.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or ".dagster").absolute()
    home.mkdir(mode=0o750, parents=True, exist_ok=True)
    return home


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _hidden(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_hidden(member) for member in value]
    return hide(value) if isinstance(value, str) else value


def _kept(address: str) -> Engine:
    """An engine whose connections are kept."""
    return create_engine(address, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})


def _hurried(address: str) -> Engine:
    """As `_kept`, of connections that wait less for the disk."""
    engine = _kept(address)
    event.listen(engine, "connect", _hurry)
    return engine


def _hurry(connection: Any, _: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")
