"""Who may come in to the UI: decided from what a request says of itself, before Dagster sees it.

Dagster's webserver answers anybody: a mutation goes by GET, under any Host, from any page. Here a request
comes in only where a browser could not have been made to send it by somebody else's page, and where it comes
from who opened the UI, or brings the token, or a proxy has asked already.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, urlsplit

from lakehouse.model.errors import UiExposedError, UiTokenError

Scope = Mapping[str, Any]
"""A request or connection, as ASGI describes it."""

TOKEN_AT_LEAST = 16
"""Characters of a token: no fewer can be told to be hard to guess."""

DATA = ("graphql", "server_info", "dagit_info", "logs", "notebook", "dagit", "download_debug")
"""First parts of paths that answer with data; all others that a GET may ask for are the page of the UI and
what it is drawn with.
"""

_READING = ("GET", "HEAD")
_SAID_OF_A_QUESTION = {"op"}  # the UI adds the name of what it asks to the address, for logs
_OURS = {"same-origin", "none"}  # of Sec-Fetch-Site: our own page, or what a person typed


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request does not come in.

    Attributes:
        status: Of the HTTP answer.
        why: What was found, and what to do.
    """

    status: int
    why: str


@dataclass(frozen=True, slots=True)
class Door:
    """Where the UI listens and whom it lets in.

    Attributes:
        host: The address it listens on.
        port: Its port.
        names: Further names under which browsers reach it, with a port where that is another.
        token: What a stranger must bring; None where nobody but its own user comes in, or a proxy has asked.
        is_proxied: Whether a proxy in front lets in only who may, by the word of who opened it.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    names: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    is_proxied: bool = False

    def __post_init__(self) -> None:
        """Refuse a door that stands open.

        Raises:
            UiExposedError: It is on an address others reach, and neither a token nor a proxy asks who they
                are; or a proxy's name is not said.
            UiTokenError: The token can be guessed, or is none that a header can carry.
        """
        if self.token is not None and (
            len(self.token) < TOKEN_AT_LEAST
            or not self.token.isascii()
            or not self.token.isprintable()
            or " " in self.token
        ):
            raise UiTokenError(TOKEN_AT_LEAST)
        if self.is_proxied and not self.names:
            raise UiExposedError(
                self.host,
                "behind a proxy, only requests to its public name come in, and none was named",
                "Name it with --name lake.example.org.",
            )
        if not self.is_loopback and self.token is None and not self.is_proxied:
            why = "others reach that address, and who opens the UI can run everything the lake's user can"
            raise UiExposedError(
                self.host,
                why,
                "Set LAKEHOUSE_UI_TOKEN or --token-file, or say --behind-proxy where a proxy authenticates "
                "every request.",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def is_for_one_user(self) -> bool:
        """Whether it tells users of this machine apart: the only way where nothing else does."""
        return self.token is None and not self.is_proxied

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104
        return f"http://{_bracketed(host)}:{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """The Host headers that mean this UI. A foreign name that resolves to this machine is none of
        them.
        """
        ours = {"127.0.0.1", "localhost", "[::1]", _bracketed(self.host)} - {"0.0.0.0", "[::]"}  # noqa: S104
        found = {f"{name}:{self.port}" for name in ours} | (ours if self.port == 80 else set())
        return frozenset(
            name.lower()
            for name in (
                *found,
                *self.names,
                *(f"{name}:{self.port}" for name in self.names if ":" not in name),
            )
        )

    @property
    def cookie(self) -> str:
        """The name of the cookie that stands for the token; cookies of one host know no port."""
        return f"lakehouse-ui-{self.port}"

    @property
    def pass_(self) -> str:
        """What the cookie holds: it proves the token and does not tell it."""
        assert self.token is not None, "asked where there is one"
        return hmac.new(self.token.encode(), b"lakehouse ui cookie", hashlib.sha256).hexdigest()

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request does not come in, whoever sent it; None if it may."""
        headers = _Headers(scope)
        host = headers.only("host")
        if host is None or host.lower() not in self.hosts:
            return Refusal(
                403,
                "This UI does not answer under this Host. Open it under its own address; further names are "
                "given with --name.",
            )
        if (origin := headers.all("origin")) and not (len(origin) == 1 and self._is_ours(origin[0], host)):
            return Refusal(403, "Another page asked for this. Nothing was done.")
        if any(site not in _OURS for site in headers.all("sec-fetch-site")) and not _is_link(scope, headers):
            return Refusal(403, "Another page asked for this. Nothing was done.")
        return None if scope["type"] == "websocket" else _misshapen(scope, headers)

    def _is_ours(self, origin: str, host: str) -> bool:
        """Whether a page is this UI's own: the very host that is asked, or where a proxy may have changed
        that, the proxy's name.
        """
        parts = urlsplit(origin.lower())
        return (
            parts.scheme in ("http", "https")
            and not parts.path
            and (parts.netloc == host.lower() or (self.is_proxied and parts.netloc in self.names))
        )

    def is_link(self, scope: Scope) -> bool:
        """Whether a person followed a link on another page: the browser then keeps this UI's cookie to itself
        until the page is loaded once more.
        """
        headers = _Headers(scope)
        return any(site not in _OURS for site in headers.all("sec-fetch-site")) and _is_link(scope, headers)

    def knows(self, scope: Scope) -> bool:
        """Whether a request brings the token: in a header, or as the cookie that was given for it."""
        assert self.token is not None, "asked where there is one"
        headers = _Headers(scope)
        words = (headers.only("authorization") or "").split(" ", 1)
        if len(words) == 2 and words[0].lower() == "bearer":
            return _equal(words[1].strip(), self.token)
        brought = [
            value
            for header in headers.all("cookie")
            for name, _, value in (part.strip().partition("=") for part in header.split(";"))
            if name == self.cookie
        ]
        return any(_equal(value, self.pass_) for value in brought)

    def shown(self, scope: Scope) -> Literal["right", "wrong"] | None:
        """Whether an address brings a token, as a browser does at first, and whether that is the one."""
        if scope["type"] != "http" or scope["method"] != "GET" or self.token is None:
            return None
        brought = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("token")
        if brought is None:
            return None
        # a plus in an address is read as a space, and no token has one
        return "right" if len(brought) == 1 and _equal(brought[0].replace(" ", "+"), self.token) else "wrong"


class _Headers:
    """The headers of a request, all of a name where there are several: what is said twice is not chosen
    from.
    """

    def __init__(self, scope: Scope) -> None:
        self._found: list[tuple[str, str]] = [
            (name.decode("latin-1").lower(), value.decode("latin-1").strip())
            for name, value in scope["headers"]
        ]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._found if key == name]

    def only(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if len(found) == 1 else None


def _is_link(scope: Scope, headers: _Headers) -> bool:
    """Whether a person followed a link from elsewhere to a page of the UI: that shows it to them and to
    nobody else, and does nothing.
    """
    is_navigation = headers.all("sec-fetch-mode") == ["navigate"] and headers.all("sec-fetch-dest") == [
        "document"
    ]
    return (
        scope["type"] == "http" and scope["method"] == "GET" and is_navigation and not _is_data(scope["path"])
    )


def _is_data(path: str) -> bool:
    return any(part in DATA or part.startswith("report_") for part in path.split("/"))


def _misshapen(scope: Scope, headers: _Headers) -> Refusal | None:
    """Why a request has a shape that changes must not have: only JSON in the body of a POST does, which no
    foreign page can send unasked.
    """
    query, is_graphql, has_body = (
        scope["query_string"].decode("latin-1"),
        "graphql" in scope["path"].split("/"),
        headers.all("transfer-encoding") or headers.all("content-length") not in ([], ["0"]),
    )
    if scope["method"] in _READING:
        if has_body:
            return Refusal(400, "A request that reads has no body.")
        if is_graphql and query:
            return Refusal(405, "GraphQL is asked by POST, with application/json in the body.")
        return None
    if scope["method"] != "POST":
        return Refusal(405, "This UI is asked by GET and POST.")
    if (headers.only("content-type") or "").split(";")[0].strip().lower() != "application/json":
        return Refusal(415, "A POST holds application/json, said once.")
    if is_graphql and {name for name, _ in parse_qsl(query, keep_blank_values=True)} - _SAID_OF_A_QUESTION:
        return Refusal(400, "What a POST asks for stands in its body, not in its address.")
    return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())


def door(host: str, port: int, names: Iterable[str], token: str | None, is_proxied: bool) -> Door:
    """A door out of what was said on the command line: an empty token is none, names are as browsers write
    them.
    """
    return Door(
        host, port, tuple(name.strip().lower() for name in names if name.strip()), token or None, is_proxied
    )
