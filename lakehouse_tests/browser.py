"""A real browser without a window, and pages of other origins for it to open."""

import base64
import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_PATIENCE = 60.0
_CLICK = """label => {
    const shown = [...document.querySelectorAll('button, a, span, div')].filter(
        one => one.offsetParent && one.innerText?.trim() === label && !one.closest(':disabled'));
    shown.at(-1)?.click();
    return shown.length;
}"""
_FILL = """(hint, text) => {
    const field = [...document.querySelectorAll('input')].find(one => one.placeholder === hint);
    if (!field) return false;
    // React hears of no value that was set without its own setter
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, text);
    return field.dispatchEvent(new Event('input', {bubbles: true}));
}"""


class Browser:
    """Chromium with one page, told what to do through its debugging protocol.

    Args:
        connection: To that page.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._count = 0

    def _tell(self, method: str, **params: Any) -> Any:
        self._count += 1
        self._connection.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            answer = json.loads(self._connection.recv(timeout=_PATIENCE))
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, address: str) -> str:
        """Go to an address as who typed it; the text that is there once it is loaded."""
        self._tell("Page.navigate", url=address)
        return str(
            self.wait_for(
                "document.readyState === 'complete' && location.href !== 'about:blank' && "
                "(document.body.innerText || ' ')"
            )
        )

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise's once it is kept."""
        found = self._tell("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Keep what is seen."""
        path.write_bytes(base64.b64decode(self._tell("Page.captureScreenshot")["data"]))

    def wait_for(self, script: str) -> Any:
        """The value of an expression as soon as it is something."""
        deadline = time.monotonic() + _PATIENCE
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, script
            time.sleep(0.1)
        return value

    def click(self, label: str) -> None:
        """Press what says just this, as soon as it is there and can be pressed: the innermost, and of several
        the last.
        """
        self.wait_for(f"({_CLICK})({json.dumps(label)})")

    def fill(self, hint: str, text: str) -> None:
        """Type a text into the field with a hint."""
        self.wait_for(f"({_FILL})({json.dumps(hint)}, {json.dumps(text)})")

    def resize(self, width: int, height: int) -> None:
        """What the page has room for, in pixels."""
        self._tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def picture(self) -> bytes:
        """What is seen of the page, as PNG."""
        return base64.b64decode(self._tell("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def running_browser(home: Path, *options: str) -> Iterator[Browser]:
    """A browser that knows nobody yet."""
    assert CHROMIUM is not None, "asked where there is one"
    common = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--remote-debugging-port=0",
    ]
    with (home / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [CHROMIUM, *common, *options, f"--user-data-dir={home / 'profile'}", "about:blank"],
            stdout=log,
            stderr=log,
        )
    try:
        told = home / "profile" / "DevToolsActivePort"
        deadline = time.monotonic() + _PATIENCE
        while not (told.exists() and told.read_text().count("\n")):
            assert time.monotonic() < deadline, (home / "browser.log").read_text()[-2000:]
            time.sleep(0.1)
        port = told.read_text().split("\n", 1)[0]
        with connect(_page_of(port, deadline), max_size=None) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        process.wait(20)


def _page_of(port: str, deadline: float) -> str:
    import requests

    while True:
        pages = [
            one
            for one in requests.get(f"http://127.0.0.1:{port}/json", timeout=10).json()
            if one["type"] == "page"
        ]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.contextmanager
def serving(html: str) -> Iterator[int]:
    """A page of another origin, at a port of this machine."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
