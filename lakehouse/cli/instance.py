"""The Dagster instance that the UI, the sensors and every command share."""

import logging
import os
import socket
import sys
import webbrowser
from functools import partial
from pathlib import Path
from typing import Any

from dagster import DagsterInstance
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

import lakehouse
from lakehouse.cli.console import err, out, say
from lakehouse.defs.describe import pool_of
from lakehouse.defs.partitions import MARKETS
from lakehouse.logs import is_json
from lakehouse.model.errors import DagsterHomeError, ForeignInstanceError, PortError
from lakehouse.model.words import NO_MARKET
from lakehouse.opening import open_lake
from lakehouse.pipeline.markets import listed_markets
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.ui.door import Door
from lakehouse.ui.services import LOCATION, MODULE

_HOW_TO_COME_IN = "; open it once with ?token=… at the end"
_PLANNED_AT_ONCE = "1000"
"""Events of cells that a run plans, which Dagster hands to its log together."""

CONFIG = Path(lakehouse.__file__).with_name("dagster.yaml")


def prepare_home(settings: Settings) -> Path:
    """Make Dagster's home, with a link to the package's own instance file.

    That file names classes which Dagster then runs. So another one is believed only where somebody named the
    folder it lies in: what is found in a working folder was not chosen by who works there.

    Raises:
        ForeignInstanceError: There is another one, and the home was not named.
    """
    home = settings.dagster_home.expanduser().absolute()
    home.mkdir(mode=0o750, parents=True, exist_ok=True)  # events and settings say addresses
    link = home / CONFIG.name
    if not settings.names_home:
        if link.is_symlink() and link.resolve() != CONFIG.resolve():
            link.unlink()  # of an earlier release, or another checkout
        elif link.exists() and link.read_bytes() not in (b"", CONFIG.read_bytes()):
            raise ForeignInstanceError(str(link), str(home))
    if not link.exists() or not link.stat().st_size:
        link.unlink(missing_ok=True)  # a dangling link, or the empty file that earlier releases made
        link.symlink_to(CONFIG)
    return home


def check_port(door: Door) -> None:
    """Refuse a port that cannot be opened: Dagster's webserver would end on it, and its daemon run on without
    a UI.

    Raises:
        PortError: It is taken, or not this user's to open.
    """
    host = door.host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # as the webserver does: connections that have just ended are in nobody's way
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, door.port))
        except OSError as error:
            raise PortError(door.port, error.strerror or str(error), door.host) from error


def run_ui(settings: Settings, door: Door, is_verbose: bool, opens_browser: bool) -> None:
    """Run the UI with its daemon until it is ended.

    Args:
        settings: Of its lake; the markets they name are made partitions.
        door: Where it listens and whom it lets in.
        is_verbose: Whether what its processes say goes to the terminal, not to a file in Dagster's home.
        opens_browser: Whether a browser is opened on it once it answers.

    Raises:
        UnknownExchangeError: The settings name a market of an exchange that has no module.
        NoSuchListingError, ManyMarketsError: They name one by a name that none or several have.
        UiServiceError: One of its processes does not start, or ends by itself.
    """
    from lakehouse.ui.services import run_services

    lake = open_lake(settings)
    named = listed_markets(lake, settings.markets)
    for market in named:
        lake.exchange(market)
    # makes the databases of a new home as well, before webserver and daemon do at once
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions(str(MARKETS.name), [market.key for market in named])
        universe = instance.get_dynamic_partitions(str(MARKETS.name))
        log = None if is_verbose else Path(instance.root_directory) / "ui.log"
    if "ui_url" not in settings.model_fields_set:  # links in alerts lead here
        settings = settings.model_copy(update={"ui_url": door.url})
    where = err if is_json() else out
    say(f"Dagster at {door.url}{_HOW_TO_COME_IN if door.token else ''}; Ctrl-C ends it.", console=where)
    if log:
        say(f"What it says meanwhile goes to {log}.", console=where)
    if not universe:
        say(NO_MARKET, console=where)
    run_services(
        door,
        settings.for_children(os.environ),
        log,
        (lambda: webbrowser.open(door.url)) if opens_browser else lambda: None,
        settings.log_format,
    )


def open_instance(settings: Settings) -> DagsterInstance:
    """Open the instance; its log goes to Dagster's event log, not to the terminal.

    One process after another: Dagster makes the databases of a new home without looking whether somebody else
    does.

    Raises:
        DagsterHomeError: Its home cannot be written.
    """
    for name in ("dagster", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    place = settings.dagster_home.expanduser().absolute()
    try:
        place.mkdir(mode=0o750, parents=True, exist_ok=True)
        with FileLock(place / ".lock"):
            home = str(prepare_home(settings))
            os.environ["DAGSTER_HOME"] = home  # the instance file names it
            os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", _PLANNED_AT_ONCE)
            instance = DagsterInstance.from_config(home)
            prepare_pools(instance)
    except OSError as error:
        raise DagsterHomeError(str(place), error.strerror or str(error)) from error
    # A run without an origin is of no code location to the UI: it is not in the timeline, and cannot be
    # executed again there. `execute_in_process` takes none.
    create = partial(instance.create_run_for_job, **code_origin())
    instance.create_run_for_job = create  # type: ignore[method-assign]
    return instance


def prepare_pools(instance: DagsterInstance) -> None:
    """Make the pools of all tables: Dagster does not limit one that it sees for the first time.

    Raises:
        SQLAlchemyError: One cannot be made, and nobody else made it.
    """
    events = instance.event_log_storage
    known = events.get_concurrency_keys()
    for table in REGISTRY.tables:
        if (pool := pool_of(table)) not in known:
            try:
                events.initialize_concurrency_limit_to_default(pool)
            except SQLAlchemyError:  # on Postgres, where a second webserver made it meanwhile
                if pool not in events.get_concurrency_keys():
                    raise


def code_origin(job: str = "__ASSET_JOB") -> dict[str, Any]:
    """What the webserver would say of where a run's code is."""
    target = LoadableTargetOrigin(module_name=MODULE, executable_path=sys.executable)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION)
    code = RepositoryPythonOrigin(sys.executable, ModuleCodePointer(MODULE, "defs"), entry_point=["dagster"])
    return {
        "remote_job_origin": RemoteRepositoryOrigin(location, "__repository__").get_job_origin(job),
        "job_code_origin": JobPythonOrigin(job, code),
    }
