"""What comes back from a REST API: requests sent through ccxt, and their replies as they came.

ccxt carries the addresses and the HTTP session; what it digests is left alone (see the ADR): bodies are read
as the exchange wrote them, and its status codes and headers decide what happens next.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.exchanges.api import RestApi, RestCall
from lakehouse.model.errors import ForeignJsonError
from lakehouse.model.foreign_json import read_json
from lakehouse.model.text import plain

_TIMEOUT_MS = 20_000
_LONGEST_BAN = 3 * 86_400.0  # seconds: the longest that is documented
_SAID = 200  # characters of what came instead of an answer
# of a web page, its tags included: to search all of a large one for pairs of tags takes the square of its
# length
_PAGE_SAID = 4_000


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: no status if nothing did."""

    status: int | None
    headers: Mapping[str, str]
    value: Any
    said: str
    is_json: bool

    @property
    def told(self) -> str:
        """What came instead of an answer, for people."""
        if self.status is None:
            return f"no answer, {plain(self.said, _SAID)}"
        if self.is_json or not self.said.startswith("<"):
            return f"HTTP {self.status}, {plain(self.said, _SAID)}"
        page = re.sub(
            r"<(script|style)\b.*?</\1>|<[^>]*>",
            " ",
            self.said[:_PAGE_SAID],
            flags=re.DOTALL | re.IGNORECASE,
        )
        return (
            f"HTTP {self.status} with a web page in place of JSON "
            f"({plain(' '.join(page.split()), _SAID)!r}): "
            "something between here and the API answers for it"
        )

    @property
    def code(self) -> int | None:
        """The error code in the body, if it is an error."""
        code = self.value.get("code") if isinstance(self.value, dict) else None
        return int(code) if isinstance(code, int | str) and re.fullmatch(r"-?[0-9]{1,9}", str(code)) else None

    def retry_after(self, default: float) -> float:
        """Seconds to wait: what is told, if it can be meant."""
        said = self.headers.get("retry-after", "")
        return min(float(said), _LONGEST_BAN) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", said) else default


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
