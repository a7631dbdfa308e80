"""The simulated exchanges as one object."""

import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from lakehouse.model.addresses import address_setting
from lakehouse.model.errors import PortError
from lakehouse.simulator.archive import Archive
from lakehouse.simulator.bybit import Bybit
from lakehouse.simulator.clock import Clock
from lakehouse.simulator.faults import Fault, FaultPlan
from lakehouse.simulator.files import RealFiles
from lakehouse.simulator.listing import BUCKET
from lakehouse.simulator.markets import BINANCE, BYBIT, DEFAULT_MARKETS, SimulatedMarket
from lakehouse.simulator.rest import Rest
from lakehouse.simulator.server import ExchangeServer

_POLL_SECONDS = 0.02


class Simulator:
    """Exchanges on a loopback port: the S3 dialect of Binance's archive, and the REST endpoints of each.

    Args:
        markets: What it lists.
        now: The exchange's clock: an instant it stands still at, or a function; by default the real time.
            What is published later does not exist.
        speed: How many times faster than real (or `now`'s) time its clock runs; with it, an instant is where
            it starts.
        files: A folder of real files arranged by archive key. A market with kline files in it has no
            generated ones, and one with files of funding rates no generated rates.
        faults: What goes wrong, as `Fault` or `NAME` or `NAME=GLOB`.
        port: Port on 127.0.0.1; 0 takes a free one.

    Attributes:
        bybit: The API of Bybit's.

    Raises:
        UnknownFaultError: There is no such fault.
        ClockSpeedError: The speed is negative.
    """

    def __init__(
        self,
        markets: Iterable[SimulatedMarket] = DEFAULT_MARKETS,
        now: datetime | Callable[[], datetime] | None = None,
        files: Path | None = None,
        faults: Iterable[Fault | str] = (),
        port: int = 0,
        speed: float | None = None,
    ) -> None:
        self._faults = FaultPlan(faults)
        self._port = port
        self._server: ExchangeServer | None = None
        self._clock = Clock(now, speed)
        listed, real = tuple(markets), RealFiles(files)
        own = {
            name: tuple(market for market in listed if market.exchange == name) for name in (BINANCE, BYBIT)
        }
        self._archive = Archive(own[BINANCE], self._clock, real, self._faults)
        self._rest = Rest(own[BINANCE], self._clock, real, self._faults)
        self.bybit = Bybit(own[BYBIT], self._clock, self._faults)

    def start(self) -> Self:
        """Begin to answer; returns once the port is open.

        Raises:
            PortError: It cannot be opened.
        """
        try:
            self._server = ExchangeServer(self._port, self._archive, (self._rest, self.bybit), self._faults)
        except OSError as error:
            raise PortError(self._port, error.strerror or str(error)) from error
        threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="simulator", daemon=True
        ).start()
        return self

    def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.close_connections()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base URL: the S3 endpoint (path style) and, with `/api/v3` and so on behind it, the REST API."""
        return f"http://127.0.0.1:{self._running.server_address[1]}"

    @property
    def addresses(self) -> dict[str, str]:
        """The settings that send whoever reads them here for all, and their values."""
        names = [address_setting(BINANCE, "archive"), *(address_setting(n, "rest") for n in (BINANCE, BYBIT))]
        return dict.fromkeys(names, self.url)

    @property
    def archive_url(self) -> str:
        """URL of the bucket: with a slash and a key behind it, that of a file."""
        return f"{self.url}/{BUCKET}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of every request since the last reset."""
        with self._running.lock:
            return list(self._running.log)

    def reset_requests(self) -> None:
        """Forget the requests so far."""
        with self._running.lock:
            self._running.log.clear()

    @property
    def sent(self) -> int:
        """Bytes of all bodies that it sent; they are not compressed."""
        with self._running.lock:
            return self._running.sent

    @property
    def now(self) -> datetime:
        """The exchange's time."""
        return self._clock()

    def advance(self, step: timedelta) -> None:
        """Put the exchange's clock forward at once: what is published in between appears."""
        self._clock.advance(step)

    def add_fault(self, fault: Fault | str) -> None:
        """Put a fault in force, from the next request on.

        Raises:
            UnknownFaultError: There is no such fault.
        """
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Lift all faults."""
        self._faults.clear()

    @property
    def faults_hit(self) -> dict[str, list[str]]:
        """The faults that clients met, each with the keys."""
        return self._faults.shown

    @property
    def _running(self) -> ExchangeServer:
        if self._server is None:
            raise RuntimeError("the simulator has not been started")
        return self._server
