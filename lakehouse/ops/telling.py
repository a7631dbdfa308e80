"""Sends what `alerts` decides, by apprise, and remembers in the lake what was sent: the same whether a sensor
looks or a command, and after a restart.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse.model.errors import AlertAddressError, StoreError
from lakehouse.model.secrets import alert_addresses, hide, learn, secrets_of_alerts
from lakehouse.model.text import plain
from lakehouse.ops.alerts import Look, Message, State, decide, delivered
from lakehouse.storage.layout import ALERTS
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.seal import read_sealed_json, sealed_json

if TYPE_CHECKING:
    from apprise import NotifyBase

_LONGEST = 30.0  # seconds that one look may send: Dagster gives a tick sixty


class Services:
    """The services that alerts go to. Importing apprise takes longer than all else here, so it is imported
    where something is sent.

    Args:
        addresses: Apprise's addresses, between which stand commas or spaces.
    """

    def __init__(self, addresses: str) -> None:
        learn(secrets_of_alerts(addresses))
        self._addresses = alert_addresses(addresses)

    def __len__(self) -> int:
        return len(self._addresses)

    def check(self) -> None:
        """Refuse addresses that apprise does not know.

        Raises:
            AlertAddressError: As said.
        """
        self._open()

    def send(self, title: str, body: str, is_good: bool = False) -> list[str]:
        """Send a message to all; returns the kinds of those that did not take it.

        Args:
            title: One line.
            body: The rest, as plain text.
            is_good: Whether it says that something has ended.

        Raises:
            AlertAddressError: As `check`.
        """
        failed = []
        for service in self._open():
            taken = False
            with contextlib.suppress(TypeError):  # apprise's of a message that the service cannot have
                taken = bool(
                    service.notify(
                        title=hide(title),
                        body=hide(body),
                        notify_type="success" if is_good else "failure",
                        body_format="text",
                    )
                )
            if not taken:
                failed.append(str(service.service_name))
        return failed

    def _open(self) -> list["NotifyBase"]:
        import apprise

        found = []
        for number, address in enumerate(self._addresses, 1):
            service = apprise.Apprise.instantiate(address, suppress_exceptions=True)
            if service is None:
                raise AlertAddressError(number, address.partition("://")[0] if "://" in address else "")
            found.append(service)
        return found


class Book:
    """What is remembered of incidents: in the lake, and in this process for while the lake is out of reach.

    Args:
        objects: The lake's objects.
    """

    def __init__(self, objects: LakeObjects) -> None:
        self._objects = objects
        self._own: State | None = None  # what could not be stored
        self._lock = threading.Lock()

    def remembered(self) -> State:
        """What was remembered last; nothing where that does not read."""
        with self._lock:
            if self._own is not None:
                return self._own
            with contextlib.suppress(StoreError, ValueError, KeyError, TypeError, AttributeError):
                body = self._objects.get(ALERTS)
                return State.from_json(read_sealed_json(body)) if body else State()
            return State()

    def keep(self, state: State) -> None:
        """Remember something."""
        with self._lock:
            try:
                self._objects.put(ALERTS, sealed_json(state.to_json(), indent=0))
            except StoreError:
                self._own = state
            else:
                self._own = None


def tell(
    look: Look, book: Book, services: Services, clock: Callable[[], float] = time.monotonic
) -> tuple[list[Message], list[str]]:
    """Send what a look has brought, and remember it. What nobody took is sent again after the next look.

    Args:
        look: What was found.
        book: What is remembered.
        services: Whom it is sent to.
        clock: Seconds.

    Returns:
        What was sent, and what went wrong.
    """
    before = book.remembered()
    messages, state = decide(look, before)
    sent, problems, began = list[Message](), list[str](), clock()
    for message in messages:
        if clock() - began > _LONGEST:
            problems.append("Sending took too long: the rest goes out after the next look.")
            break
        failed = services.send(message.title, message.body, message.phase == "ends")
        if failed:
            problems.append(f"{plain(message.title)} was not taken by {', '.join(failed)}.")
        if len(failed) < len(services):
            state = delivered(state, message, look.at)
            sent.append(message)
            book.keep(state)  # at once: who is killed now repeats nothing
    if not sent and state != before:
        book.keep(state)
    return sent, problems
