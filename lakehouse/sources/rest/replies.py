"""What comes back from a REST API: requests sent through ccxt, and their replies as they came.

ccxt carries the addresses and the HTTP session; what it digests is left alone (see the ADR): bodies are read
as the exchange wrote them, and its status codes and headers decide what happens next.
"""

from collections.abc import Mapping
from typing import Any

from lakehouse.exchanges.api import RestApi, RestCall
from lakehouse.exchanges.reply import Reply
from lakehouse.model.errors import ForeignJsonError
from lakehouse.model.foreign_json import read_json
from lakehouse.model.text import plain

_TIMEOUT_MS = 20_000


class BeyondBounds(Exception):
    """An answer that goes beyond what any may have: four times as much would be no better."""


def send(connection: Any, call: RestCall) -> Reply:
    """Send one request.

    Args:
        connection: What `connect` made, for this thread.
        call: The request.

    Raises:
        BeyondBounds: The answer is larger or slower than any that can be meant.
    """
    import ccxt  # half a second, for those who ask only

    from lakehouse.sources.rest.bounded import beyond_bounds

    connection.heard = None
    said = ""
    try:
        getattr(connection, call.method)(dict(call.params))
    except (ccxt.BaseError, OSError, ValueError) as error:
        said = _root(error)
        if beyond_bounds(error):
            raise BeyondBounds(plain(said)) from error
    if connection.heard is None:
        return Reply(None, {}, None, said, is_json=False)
    status, headers, body = connection.heard
    try:
        value, is_json = read_json(body, numbers_as_text=True), True
    except ForeignJsonError:
        value, is_json = None, False
    return Reply(status, headers, value, body.strip(), is_json)


def _root(error: BaseException) -> str:
    """What went wrong at the bottom: libraries wrap it in pages of addresses."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return str(error) or type(error).__name__


def connect(api: RestApi) -> Any:
    """A ccxt object, for one thread, that keeps status, headers and body of its last answer in `heard`."""
    import ccxt

    from lakehouse.sources.rest.bounded import rest_bounds, session

    base: Any = getattr(ccxt, api.exchange)

    class Listening(base):  # type: ignore[misc]
        heard: tuple[int, dict[str, str], str] | None = None

        def on_rest_response(
            self,
            code: int,
            reason: str,
            url: str,
            method: str,
            headers: Mapping[str, str],
            body: str,
            *sent: Any,
        ) -> str:
            self.heard = code, {name.lower(): value for name, value in headers.items()}, body
            return str(super().on_rest_response(code, reason, url, method, headers, body, *sent))

        def parse_json(self, http_response: str) -> None:
            """Leave the body alone: it is read once, and guarded, by whoever asked."""

    # The budget is kept here, for all threads; proxies are taken from where requests and the archive's
    # clients take them.
    made = Listening(
        {
            "enableRateLimit": False,
            "timeout": _TIMEOUT_MS,
            "requests_trust_env": True,
            "urls": {"api": dict(api.ccxt_urls)},
        }
    )
    made.session = session(rest_bounds(api.info_call().url), connections=1)
    return made
