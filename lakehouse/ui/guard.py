"""The layer around Dagster's webserver that asks the door before it passes anything on, for HTTP and
WebSocket alike.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from lakehouse.ui.door import Door, Refusal
from lakehouse.ui.peers import CAN_TELL, user_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

_ROOT = 0  # reads and runs what it likes without us
_NOT_YOU = (
    "This UI is open for the user who started it, and you are another, or gone. Start it with "
    "LAKEHOUSE_UI_TOKEN or --token-file to let others in."
)
_ASKED = (
    "This UI asks for its token. Open its address once with ?token=… at the end, or send it as "
    "`Authorization: Bearer …`."
)
_HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'self'"),  # beside Dagster's own: all policies hold
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)


class Guard:
    """An ASGI app that passes to another only what may come in.

    Args:
        app: Dagster's webserver.
        door: Who may come in.
    """

    def __init__(self, app: App, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request or connection; what is neither, such as the start of the server, is passed
        on.
        """
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None and self._door.shown(scope) == "right":
            await _answer(send, 200, _moved(self._place(scope)), (self._admission(),), is_page=True)
        elif refusal is None:
            await self._app(scope, receive, _marked(send) if scope["type"] == "http" else send)
        elif scope["type"] == "websocket":
            await receive()
            # before it was accepted: the client sees 403
            await send({"type": "websocket.close", "code": 1008})
        elif refusal.status == 401 and self._door.is_link(scope):
            await _answer(send, 401, _moved(""), is_page=True)
        else:
            await _answer(send, refusal.status, refusal.why)

    def _refusal(self, scope: Any) -> Refusal | None:
        if scope["type"] not in ("http", "websocket"):
            return Refusal(400, "This UI speaks HTTP and WebSocket.")
        if refusal := self._door.refusal(scope):
            return refusal
        if self._door.token is not None:
            shown = self._door.shown(scope)
            return (
                None
                if shown == "right" or (shown is None and self._door.knows(scope))
                else Refusal(401, _ASKED)
            )
        if self._door.is_for_one_user and CAN_TELL and not _is_own_user(scope):
            return Refusal(403, _NOT_YOU)
        return None

    def _place(self, scope: Any) -> str:
        """The address without the token: what is in an address is kept in histories and said to other
        pages.
        """
        rest = urlencode(
            [pair for pair in parse_qsl(scope["query_string"].decode("latin-1")) if pair[0] != "token"]
        )
        return "/" + quote(scope["path"].lstrip("/\\")) + (f"?{rest}" if rest else "")

    def _admission(self) -> tuple[bytes, bytes]:
        """A cookie in place of the token."""
        return (
            b"set-cookie",
            f"{self._door.cookie}={self._door.pass_}; HttpOnly; SameSite=Strict; Path=/".encode("ascii"),
        )


def _moved(place: str) -> str:
    """A page that leads on by itself: unlike an answer that sends elsewhere, it makes what it opens this UI's
    own request, with its cookie.
    """
    where = f";url={escape(place)}" if place else ""
    return f'<!doctype html><title>lakehouse</title><meta http-equiv="refresh" content="0{where}">'


def _is_own_user(scope: Any) -> bool:
    client, server = scope.get("client"), scope.get("server")
    return bool(client and server and server[1]) and user_of(tuple(client), tuple(server)) in (
        os.geteuid(),
        _ROOT,
    )


def _marked(send: Send) -> Send:
    """Add to every answer that no other page may frame it, open it as a script or picture, or hold on to its
    window.
    """

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", ())}
            message = {
                **message,
                "headers": [
                    *message.get("headers", ()),
                    *(one for one in _HEADERS if one[0] == b"content-security-policy" or one[0] not in given),
                ],
            }
        await send(message)

    return wrapped


async def _answer(
    send: Send, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = (), is_page: bool = False
) -> None:
    body = text.encode()
    said = (
        (b"content-type", b"text/html; charset=utf-8" if is_page else b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    )
    await send({"type": "http.response.start", "status": status, "headers": [*said, *headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
