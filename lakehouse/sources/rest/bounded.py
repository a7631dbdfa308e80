"""HTTP with an end to it: an answer has so many bytes, takes so long, comes at least so fast, and from the
host that was asked.

Whoever answers may be a mirror, a login page or somebody in between. Every answer that Python reads, of
listings and of REST APIs, passes through a session made here; archive files do not (obstore and s5cmd fetch
them), and are held against their listed sizes in `archive`.
"""

import io
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from lakehouse.model.text import plain

LEAST_RATE = 1024
"""Bytes per second, once an answer has begun and `_GRACE_SECONDS` have passed: the slowest line that anybody
works on is faster.
"""
_GRACE_SECONDS = 10.0
_HEADERS = 1 << 16  # bytes that may come around a body: headers, the sizes of chunks
_REDIRECTS = 3
_CHUNK = 1 << 16


class BoundError(OSError):
    """An answer that goes beyond what it may: asking again would bring the same."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an answer may take.

    Attributes:
        most: Bytes of its body, on the way and decoded.
        seconds: From the request to its last byte.
        values: Commas and opening brackets of its JSON, which bound what it is in memory; None where it is
            none.
    """

    most: int
    seconds: float = 60.0
    values: int | None = None


_REST = Bounds(4 << 20, values=100_000)  # 1,500 rows are 18,000 values in 300 KB
# a few thousand markets of some 100 values each, in up to 16 MB
_REST_INFO = Bounds(24 << 20, values=1_000_000)


def rest_bounds(info_url: str) -> Callable[[str], Bounds]:
    """The bounds of REST answers: of the description of all markets, which is asked for at `info_url`, and of
    anything else, which is far smaller.
    """
    info = urlsplit(info_url).path.lower()
    return lambda url: _REST_INFO if urlsplit(url).path.lower() == info else _REST


def session(bounds_of: Callable[[str], Bounds], connections: int = 16) -> requests.Session:
    """A session whose answers are held to bounds.

    What goes beyond them is a `requests.ConnectionError` with a `BoundError` at its root. No redirect is
    followed to another host or port, nor from https to http.

    Args:
        bounds_of: The bounds of the answer to a URL.
        connections: Kept open to one host.
    """
    made, adapter = _Session(), _Adapter(bounds_of, connections)
    made.max_redirects = _REDIRECTS
    made.mount("http://", adapter)
    made.mount("https://", adapter)
    return made


def beyond_bounds(error: BaseException | None) -> bool:
    """Whether an error comes from a bound."""
    while error is not None:
        if isinstance(error, BoundError):
            return True
        error = error.__cause__ or error.__context__
    return False


class _Session(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        self._told: dict[object, Any] = {}

    def merge_environment_settings(self, url: Any, proxies: Any, *others: Any) -> Any:
        """What the environment says of a host, read once: to read all of it takes as long as a request."""
        if proxies:
            return super().merge_environment_settings(url, proxies, *others)
        asked = _origin(url), *others
        if asked not in self._told:
            self._told[asked] = super().merge_environment_settings(url, proxies, *others)
        return self._told[asked] | {"proxies": dict(self._told[asked]["proxies"])}

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None and _origin(urljoin(resp.url, target)) not in (
            _origin(resp.url),
            _secured(resp.url),
        ):
            raise _refused(
                BoundError(f"it sends on to {plain(target)}, which is another host than was asked")
            )
        return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # no URL at all
        return "", None, None


def _secured(url: str) -> tuple[str, str | None, int | None]:
    """The same host by https, where a plain one may send on to."""
    scheme, host, port = _origin(url)
    return ("https", host, 443) if (scheme, port) == ("http", 80) else (scheme, host, port)


class _Pace:
    """One answer under way."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds, self._began, self._first, self._received = bounds, time.monotonic(), 0.0, 0

    def left(self) -> float:
        """Seconds that the next bytes may take."""
        now = time.monotonic()
        left = self._began + self._bounds.seconds - now
        if left <= 0:
            raise BoundError(f"it took longer than {self._bounds.seconds:g} s")
        lasted = now - self._first if self._received else 0.0
        if lasted > _GRACE_SECONDS and self._received < LEAST_RATE * lasted:
            raise BoundError(f"it came slower than {LEAST_RATE} bytes a second")
        return left

    def took(self, count: int) -> None:
        if not self._received:
            self._first = time.monotonic()
        self._received += count
        if self._received > self._bounds.most + _HEADERS:
            raise BoundError(f"it has more than {self._bounds.most:,} bytes")


class _PacedReader(io.RawIOBase):
    """A socket as a file that keeps a pace: headers and body alike come through here."""

    def __init__(self, sock: Any, pace: _Pace) -> None:
        self._sock, self._pace, self._inner = sock, pace, sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._pace.left())
        try:
            count: int | None = self._inner.readinto(buffer)
        except TimeoutError:
            self._pace.left()
            raise
        self._pace.took(count or 0)
        return count

    def close(self) -> None:
        self._inner.close()
        super().close()


class _PacedSocket:
    def __init__(self, sock: Any, pace: _Pace) -> None:
        self._sock, self._pace = sock, pace

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        return io.BufferedReader(_PacedReader(self._sock, self._pace), _CHUNK)


# the pace of the answer that this thread waits for: what reads it is made deep inside urllib3
_under_way = threading.local()


class _PacedResponse(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(_PacedSocket(sock, _under_way.pace), *args, **kwargs)  # type: ignore[arg-type]


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _PacedResponse


class _SecureConnection(urllib3.connection.HTTPSConnection):
    response_class = _PacedResponse


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def __init__(self, bounds_of: Callable[[str], Bounds], connections: int) -> None:
        self._bounds_of = bounds_of
        super().__init__(pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # those connect by a class of their own
            manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(
        self, request: requests.PreparedRequest, stream: bool = False, *args: Any, **kwargs: Any
    ) -> requests.Response:
        bounds = self._bounds_of(request.url or "")
        request.headers["Accept-Encoding"] = "gzip, deflate"
        _under_way.pace = _Pace(bounds)
        response = None
        try:
            response = super().send(request, True, *args, **kwargs)
            body = b"".join(
                _at_most(iter(lambda: response.raw.read(_CHUNK, decode_content=False), b""), bounds.most)
            )
            response._content = _decoded(body, response.headers.get("Content-Encoding", ""), bounds.most)
            response._content_consumed = True  # type: ignore[attr-defined]
            if (
                bounds.values is not None
                and sum(response._content.count(mark) for mark in (b",", b"[", b"{")) > bounds.values
            ):
                raise BoundError(f"it has more than {bounds.values:,} values")
        except (OSError, urllib3.exceptions.HTTPError) as error:
            if response is not None:
                response.raw.close()  # the rest of it is not wanted, nor the connection
            if isinstance(error, requests.RequestException) and not beyond_bounds(error):
                raise
            raise _refused(error) from error
        response.raw.release_conn()
        return response


def _refused(error: BaseException) -> requests.ConnectionError:
    while not isinstance(error, BoundError) and (below := error.__cause__ or error.__context__) is not None:
        error = below
    refused = requests.ConnectionError(str(error))
    refused.__cause__ = error
    return refused


def _at_most(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > most:
            raise BoundError(f"it has more than {most:,} bytes")
        yield chunk


def _decoded(body: bytes, encoding: str, most: int) -> bytes:
    """A body without its Content-Encoding: gzip or deflate, once, as was asked for."""
    name = encoding.strip().lower()
    if name in ("", "identity") or not body:
        return body
    if name in ("gzip", "x-gzip"):
        window = 16 + zlib.MAX_WBITS
    elif name == "deflate":
        window = (
            zlib.MAX_WBITS if body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0 else -zlib.MAX_WBITS
        )
    else:
        raise BoundError(f"it is encoded as {plain(encoding, 40)}, which was not asked for")
    found: list[bytes] = []
    left = most
    while body:  # gzip may have members, one behind the other
        inflater = zlib.decompressobj(window)
        try:
            found.append(inflater.decompress(body, left + 1))
        except zlib.error as error:
            raise OSError(f"its {name} is damaged: {error}") from error
        left -= len(found[-1])
        if left < 0:
            raise BoundError(f"it inflates to more than {most:,} bytes")
        if not inflater.eof:
            raise OSError(f"its {name} ends too early")
        body = inflater.unused_data.lstrip(b"\0")
    return b"".join(found)
