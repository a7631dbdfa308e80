"""Builds whose store is away, throttles, or takes their credentials no more in the middle: they go on by
themselves, or say why they do not; the next build ends what they began, and the catalog agrees with the lake.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lakehouse.cli.app import main
from lakehouse.registry import REGISTRY
from lakehouse.simulator import Simulator
from lakehouse.storage import bucket
from lakehouse.storage.catalog import GlueCatalog
from lakehouse.storage.ledger import records
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.commands import Run, environment, in_process
from lakehouse_tests.storage.fault_proxy import CUT, DROP, Fault, FaultProxy, denied, expired, slow_down
from lakehouse_tests.storage.test_builds_on_s3 import OUTAGE, made
from lakehouse_tests.test_end_to_end import BTC, ETH, LISTED, NOW

pytestmark = [pytest.mark.slow, pytest.mark.glue]
ROOT, SILVER = "s3://lake/some", "some/silver/candle/exchange"
MONTH = ("--from", "2024-01", "--to", "2024-02")  # a day of each market
BUILD = ("build", "silver/candle", "--markets", f"{BTC},{ETH}", *MONTH, "--json")
Versions = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator(markets=LISTED, now=NOW) as running:
        yield running


@pytest.fixture
def run(
    sim: Simulator,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command in this process, on a lake in an empty bucket behind the proxy, with a catalog there."""
    settings = environment(tmp_path, sim.url) | {"LAKEHOUSE_ROOT": ROOT, "LAKEHOUSE_GLUE_DATABASE": "test"}
    return in_process(tmp_path, settings, monkeypatch, capsys)


@pytest.fixture(scope="module")
def calm(sim: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """The versions of an undisturbed build into a folder."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in environment(folder, sim.url).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["lakehouse", *BUILD])
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code
    return made(folder / "lake")


def hold(calm: Versions) -> None:
    """Hold that the lake is that of a build that nobody disturbed, and the catalog that of the lake."""
    assert made(ROOT) == calm
    objects, checked = LakeObjects(ROOT), 0
    for table in REGISTRY.tables:
        stored = records(objects, table) if table.zone() != "bronze" else []
        if stored:
            assert not GlueCatalog("test", objects).differences(table, stored).wrote, table.name
            checked += len(stored)
    assert checked > len(calm["silver/candle"])


def at_first_cell(proxy: FaultProxy, act: Callable[[], None]) -> threading.Thread:
    """Do something once the first cell of silver is about to be stored."""

    def work() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until and not any(
            method == "PUT" and key.startswith(SILVER) for method, key in list(proxy.requests)
        ):
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


# --- what passes ----------------------------------------------------------------------------------


def test_a_build_goes_on_after_every_kind_of_outage(proxy: FaultProxy, run: Run, calm: Versions) -> None:
    outages = {
        "connections drop": Fault(DROP, "", below="some/bronze/candle_witness", times=8),
        "errors of its own": Fault(500, "InternalError", below="some/bronze/candle_archive", times=8),
        "answers that end in the middle": Fault(
            CUT, "", methods=("GET",), below="some/bronze/candle_archive", times=2
        ),
    }
    was_away: list[float] = []

    def go_away() -> None:
        proxy.down()
        time.sleep(OUTAGE)
        proxy.up()
        was_away.append(OUTAGE)

    away = at_first_cell(proxy, go_away)
    with proxy.saying(*outages.values()):
        answer = run(*BUILD)
    away.join()
    assert answer.code == 0, answer.said
    assert was_away, "it was built before the store went away"
    assert {name: fault.answered for name, fault in outages.items()} == {
        name: fault.times for name, fault in outages.items()
    }
    hold(calm)


def test_a_build_goes_on_where_store_and_catalog_throttle(
    proxy: FaultProxy, run: Run, calm: Versions
) -> None:
    throttled = {
        "all writes for a while": Fault(503, "SlowDown", below="some/bronze", methods=("PUT",), times=8),
        "every third request": Fault(503, "SlowDown", below="some/silver", every=3),
        "the catalog": Fault(
            400, "ThrottlingException", "Rate exceeded", times=2, as_json=True, with_header="x-amz-target"
        ),
    }
    with proxy.saying(*throttled.values()):
        answer = run(*BUILD)
    assert answer.code == 0, answer.said
    for name, fault in throttled.items():
        assert fault.answered >= (fault.times or 5), name
    hold(calm)


# --- what does not pass ---------------------------------------------------------------------------

LASTING: dict[str, tuple[Fault, str]] = {
    "away for too long": (Fault(DROP, ""), "Check the network and, where it is set, AWS_ENDPOINT_URL"),
    "throttled for good": (slow_down(), "SlowDown: Please reduce your request rate. Check the network"),
    "expired": (expired(), "ExpiredToken: The provided token has expired. Renew the AWS credentials"),
}


def test_a_build_that_cannot_go_on_says_so_and_the_next_one_ends_it(
    proxy: FaultProxy, run: Run, calm: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as impatient:
        impatient.setitem(bucket._RETRY, "retry_timeout", timedelta(seconds=0.5))
        for case, (fault, said) in LASTING.items():
            proxy.once("PUT", SILVER, fault)
            answer = run(*BUILD)
            assert (answer.code, answer.out) == (1, ""), (case, answer.said)
            assert answer.err.count("\n") == 1, answer.err
            assert said in answer.err, case
            assert ROOT in answer.err
            proxy.faults.clear()
            stood = made(ROOT)["bronze/candle_archive"]
            assert stood == calm["bronze/candle_archive"], "what was stored stands"
    again = run(*BUILD)
    assert again.code == 0, again.said
    assert {row["table"]: row["built"] for row in again.json["tables"]}["bronze/candle_archive"] == 0
    hold(calm)


def test_each_cell_and_entry_that_is_refused_is_an_error_of_its_own(
    proxy: FaultProxy, run: Run, calm: Versions
) -> None:
    refused = Fault(400, "AccessDeniedException", "not authorized", as_json=True, with_header="x-amz-target")
    with proxy.saying(denied("some/silver/candle/", "PUT"), refused):
        answer = run(*BUILD)
    assert answer.code == 1, answer.said
    failed = answer.json["failed"]
    cells = {name: why for name, why in failed.items() if name.startswith("silver/candle ")}
    assert len(cells) == len(calm["silver/candle"]) > 1
    assert all("Grant these credentials s3:PutObject on" in why for why in cells.values())
    entries = {name: why for name, why in failed.items() if name.startswith("catalog/")}
    assert entries
    assert all("AccessDeniedException" in why for why in entries.values())
    assert run(*BUILD).code == 0
    hold(calm)


# --- credentials that end in the middle -----------------------------------------------------------


@pytest.fixture
def renewing(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials are asked for before each request, which otherwise happens each minute."""
    monkeypatch.setattr(bucket, "_CREDENTIALS_KEPT", timedelta(minutes=5))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


def put_profile(path: Path, key: str) -> None:
    """Put a file of credentials in the place of the one before."""
    new = path.with_suffix(".new")
    new.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")
    new.replace(path)


@pytest.mark.usefixtures("renewing")
def test_a_build_goes_on_with_what_was_put_in_place_of_credentials_that_end(
    proxy: FaultProxy, run: Run, calm: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials"
    put_profile(path, "first")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    over = Fault(400, "ExpiredToken", "The provided token has expired.", spares="second")

    def renew() -> None:
        put_profile(path, "second")
        time.sleep(0.3)  # what is under way was signed before
        proxy.faults = [over]

    proxy.delay = 0.03
    renewed = at_first_cell(proxy, renew)
    answer = run(*BUILD)
    renewed.join()
    assert answer.code == 0, answer.said
    proxy.faults.clear()
    hold(calm)


@contextlib.contextmanager
def role(keys: list[str]) -> Iterator[str]:
    """The endpoint that hands a task the credentials of its role: each answer is good for some minutes and
    names the first of these keys.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ends = f"{datetime.now(UTC) + timedelta(minutes=6):%Y-%m-%dT%H:%M:%SZ}"
            said = {"AccessKeyId": keys[0], "SecretAccessKey": "secret", "Token": "t", "Expiration": ends}
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests are not printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/role"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("renewing")
def test_a_build_goes_on_with_the_next_credentials_of_its_role(
    proxy: FaultProxy, run: Run, calm: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, over = ["first"], Fault(400, "ExpiredToken", "The provided token has expired.", spares="second")

    def renew() -> None:
        keys.insert(0, "second")
        time.sleep(0.3)
        proxy.faults = [over]

    proxy.delay = 0.03
    with role(keys) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        renewed = at_first_cell(proxy, renew)
        answer = run(*BUILD)
        renewed.join()
        assert answer.code == 0, answer.said
        proxy.faults.clear()
        hold(calm)
