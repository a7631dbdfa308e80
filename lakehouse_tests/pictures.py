"""Takes the README's pictures of the real thing: `python -m lakehouse_tests.pictures`, with Chromium there.

The demo is run in a folder of its own and opened in its UI; the quality page is that of its lake.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from lakehouse.cli.demo import run_demo
from lakehouse.cli.local_trino import free_ports
from lakehouse.cli.quality import quality_page
from lakehouse.ops.quality import lake_quality
from lakehouse.query.lake import Lake
from lakehouse_tests.browser import Browser, running_browser

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
_DRAWN_WITHIN = 8.0  # seconds in which the graph is laid out, and its nodes have asked for what they show


def main() -> None:
    """Take both."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place, running_browser(Path(place), "--hide-scrollbars") as browser:
        folder = Path(place, "demo")
        run_demo(folder)
        take_quality(browser, folder)
        take_graph(browser, folder)


def take_quality(browser: Browser, folder: Path) -> None:
    """The quality page of the demo's lake."""
    lake, now = Lake(folder / "lake"), datetime.now(UTC)
    page = folder / "quality.html"
    page.write_text(
        quality_page(lake_quality(lake, lake.registry.table("silver/candle"), [], now), "demo/lake", now),
        "utf-8",
    )
    browser.resize(1200, 480)
    browser.open(page.as_uri())
    PICTURES.joinpath("quality.png").write_bytes(browser.picture())


def take_graph(browser: Browser, folder: Path) -> None:
    """The asset graph in the UI: all that one gold table is made of."""
    (port,) = free_ports(1)
    words = ("ui", "--demo", "--folder", str(folder), "--port", str(port))
    ui = subprocess.Popen([sys.executable, "-m", "lakehouse", *words], env=os.environ)
    try:
        _await(port)
        browser.resize(1800, 860)
        upstream = "view=lineage&lineageScope=upstream&lineageDepth=5"
        browser.open(f"http://127.0.0.1:{port}/assets/gold/daily_panel?{upstream}")
        browser.wait_for("document.body.innerText.includes('candle_witness')")
        time.sleep(_DRAWN_WITHIN)
        PICTURES.joinpath("graph.png").write_bytes(browser.picture())
    finally:
        ui.send_signal(signal.SIGINT)
        ui.wait(60)


def _await(port: int) -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    main()
