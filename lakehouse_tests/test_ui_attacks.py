"""An open UI against pages and people that are not its own: the attacks as they are made, with a real browser
and a real `lakehouse ui`.
"""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
import requests
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from lakehouse.cli.local_trino import free_ports
from lakehouse.model.market import Market
from lakehouse.ui.door import Door
from lakehouse.ui.webserver import guarded
from lakehouse_tests.browser import CHROMIUM, running_browser, serving
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.hostile import make_hostile
from lakehouse_tests.opened import Dagster, end, wait_until

pytestmark = pytest.mark.slow
with_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package chromium")

FOREIGN = "http://evil.example"
LIMIT = 'mutation { setConcurrencyLimit(concurrencyKey: "%s", limit: 9) }'

# Everything that a page can make a browser send to another origin without being asked whether it may.
ATTACK = """<!doctype html><title>kittens</title><body><script>
const results = {};
async function attack(base, change) {
  const at = base + "/graphql?query=", body = name => JSON.stringify({query: change(name)});
  const send = (name, address, options) => fetch(address, options).then(a => results[name] = a.type + a.status, e => results[name] = "refused");
  await send("fetch", at + encodeURIComponent(change("fetch")), {mode: "no-cors", credentials: "include"});
  await send("beacon", base + "/graphql", {mode: "no-cors", method: "POST", body: body("beacon"), headers: {"Content-Type": "text/plain"}});
  await send("posted", at + encodeURIComponent(change("posted")), {mode: "no-cors", method: "POST"});
  await send("preflight", base + "/graphql", {method: "POST", body: body("preflight"), headers: {"Content-Type": "application/json"}});
  for (const kind of ["img", "script", "iframe"]) await new Promise(done => {
    const one = document.createElement(kind);
    one.onload = one.onerror = done; one.src = at + encodeURIComponent(change(kind)); document.body.append(one); setTimeout(done, 3000);
  });
  for (const [name, method, type] of [["form", "get", ""], ["text", "post", "text/plain"], ["multipart", "post", "multipart/form-data"]]) await new Promise(done => {
    const frame = document.createElement("iframe"), form = document.createElement("form"), field = document.createElement("input");
    frame.name = name; frame.onload = done; form.target = name; form.method = method; form.enctype = type || form.enctype; form.action = base + "/graphql";
    field.name = "query"; field.value = change(name); form.append(field); document.body.append(frame, form); form.submit(); setTimeout(done, 3000);
  });
  results.socket = await new Promise(done => {
    const one = new WebSocket(base.replace("http", "ws") + "/graphql", "graphql-ws");
    one.onopen = () => done("opened"); one.onerror = () => done("refused");
  });
  return results;
}
</script>"""
OWN_SOCKET = """new Promise(done => {
  const one = new WebSocket("ws://" + location.host + "/graphql", "graphql-ws");
  one.onopen = () => one.send(JSON.stringify({type: "connection_init"})); one.onmessage = m => done(JSON.parse(m.data).type); one.onerror = () => done("refused");
})"""
OWN_FETCH = """fetch("/graphql", {method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify({query: "{ version }"})}).then(a => a.status)"""


@contextmanager
def served(app: Any, port: int) -> Iterator[str]:
    """An ASGI app on a port of this machine."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", proxy_headers=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(time.monotonic() + 20, lambda: server.started, lambda: "the server does not start")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@with_browser
def test_a_page_of_another_origin_drives_the_bare_webserver_and_not_the_guarded_one(tmp_path: Path) -> None:
    ports = {"bare": free_ports(1)[0], "guarded": free_ports(1)[0]}
    with (
        dg.instance_for_test() as instance,
        WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context,
    ):
        bare, behind = (
            create_app_from_workspace_process_context(context),
            guarded(context, Door(port=ports["guarded"])),
        )
        changed = instance.event_log_storage.get_concurrency_keys
        with (
            served(bare, ports["bare"]) as open_url,
            served(behind, ports["guarded"]) as url,
            serving(ATTACK) as page,
            running_browser(tmp_path) as browser,
        ):
            for host in ("127.0.0.1", "localhost"):  # to the same site, at another port, and to another site
                browser.open(f"http://{host}:{page}/")
                told = browser.run(f"attack({url!r}, name => {LIMIT!r}.replace('%s', name))")
                assert (changed(), told["socket"]) == (set(), "refused")
            told = browser.run(f"attack({open_url!r}, name => {LIMIT!r}.replace('%s', name))")
            assert told["socket"] == "opened"
            assert changed() >= {"fetch", "posted", "img", "script"}, "the attack works where nothing guards"

            browser.open(url + "/runs")
            assert (browser.run(OWN_FETCH), browser.run(OWN_SOCKET)) == (200, "connection_ack")
            browser.run(f"location.href = 'http://localhost:{page}/'")
            browser.wait_for("document.title === 'kittens'")
            browser.run(f"location.href = {url + '/runs'!r}")  # a link that is followed to the UI
            browser.wait_for("location.pathname === '/runs' && document.readyState === 'complete'")
            assert browser.run(OWN_FETCH) == 200


@with_browser
def test_a_name_that_is_rebound_to_this_machine_shows_nothing(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with (
        dg.instance_for_test() as instance,
        WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context,
    ):
        bare = free_ports(1)[0]
        with (
            served(guarded(context, Door(port=port)), port),
            served(create_app_from_workspace_process_context(context), bare),
            running_browser(tmp_path, "--host-resolver-rules=MAP evil.example 127.0.0.1") as browser,
        ):
            browser.open(f"http://evil.example:{bare}/")
            assert browser.run(OWN_FETCH) == 200, "the attack works where nothing guards"
            assert "does not answer under this Host" in browser.open(f"http://evil.example:{port}/")
            assert (browser.run(OWN_FETCH), browser.run(OWN_SOCKET)) == (403, "refused")


@with_browser
def test_a_browser_that_brought_the_token_once_stays_in(tmp_path: Path) -> None:
    port, token = free_ports(1)[0], "0123456789abcdef0123"
    with (
        dg.instance_for_test() as instance,
        WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context,
        served(guarded(context, Door(port=port, token=token)), port) as url,
        running_browser(tmp_path) as browser,
    ):
        assert "asks for its token" in browser.open(f"{url}/runs")
        browser.open(f"{url}/runs?token={token}")
        # the page that takes the token is complete, too, before it leads on by itself
        browser.wait_for("location.search === '' && document.readyState === 'complete'")
        assert browser.run("location.pathname + location.search + document.cookie") == "/runs"
        assert (browser.run(OWN_FETCH), browser.run(OWN_SOCKET)) == (200, "connection_ack")


# --- a real `lakehouse ui`, in a hostile folder ---------------------------------------------------

JOB = '{repositoryName: "__repository__", repositoryLocationName: "lakehouse", jobName: "__ASSET_JOB", assetSelection: [{path: ["silver", "market"]}]}'
LAUNCH = f'mutation {{ launchRun(executionParams: {{selector: {JOB}, mode: "default", runConfigData: "{{}}"}}) {{ __typename }} }}'
ADD = 'mutation { addDynamicPartition(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "lakehouse"}, partitionsDefName: "market", partitionKey: "binance-spot:EVIL") { __typename } }'  # fmt: skip
WIPE = (
    'mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["silver", "market"]}}]) { __typename } }'
)
HARM = {"a run": LAUNCH, "a market": ADD, "a wipe": WIPE}


@dataclass
class Ui:
    """A UI that runs."""

    dagster: Dagster
    port: int
    session: int
    said: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def state(self) -> tuple[int, list[str], int]:
        """Runs that make `silver/market`, markets, and its events; the conditions of tables ask for runs of
        checks meanwhile.
        """
        asked = self.dagster.ask(
            "{ runsOrError { ... on Runs { results { assetSelection { path } } } } assetNodes { assetKey { path } assetMaterializations(limit: 50) { timestamp } partitionKeys } }"
        )
        nodes = {"/".join(node["assetKey"]["path"]): node for node in asked["assetNodes"]}
        runs = [
            run
            for run in asked["runsOrError"]["results"]
            if {"path": ["silver", "market"]} in (run["assetSelection"] or ())
        ]
        markets = sorted({key.split("|")[1] for key in nodes["silver/candle"]["partitionKeys"]})
        return len(runs), markets, len(nodes["silver/market"]["assetMaterializations"])


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """`lakehouse ui`, started in a folder that somebody else made, with an event of `silver/market` that
    could be wiped.
    """
    folder, log = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("log") / "ui.log"
    said, port = make_hostile(folder), free_ports(1)[0]
    env = os.environ | {
        "LAKEHOUSE_START": "2024-01",
        "LAKEHOUSE_BINANCE_ARCHIVE_URL": CLOSED,
        "LAKEHOUSE_BINANCE_REST_URL": CLOSED,
    }
    env.pop("DAGSTER_HOME", None)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lakehouse", "ui", "--port", str(port)],
            cwd=folder,
            env=env,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Ui(Dagster(port), port, process.pid, said)
    try:
        wait_until(time.monotonic() + 90, found.dagster.is_up, lambda: log.read_text()[-2000:])
        assert (
            requests.post(
                f"{found.url}/report_asset_materialization/silver/market", json={}, timeout=30
            ).status_code
            == 200
        )
        yield found
    finally:
        end(process.pid)
        process.wait(10)


@pytest.mark.parametrize("change", HARM.values(), ids=HARM.keys())
def test_no_request_that_a_foreign_page_can_cause_changes_a_real_ui(ui: Ui, change: str) -> None:
    before = ui.state()
    for headers in (
        {},
        {"Origin": FOREIGN},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Accept": "text/html"},
        {"Host": f"evil.example:{ui.port}"},
    ):
        assert requests.get(
            f"{ui.url}/graphql?query={quote(change)}", headers=headers, timeout=30
        ).status_code in (403, 405)
        for path in ("/%67raphql", "/graphql/", "//graphql", "/./graphql", "/x/../graphql"):
            told = requests.get(f"{ui.url}{path}?query={quote(change)}", headers=headers, timeout=30)
            assert told.status_code in (403, 405) or "<html" in told.text, (
                "the page of the UI, which asks for nothing by itself"
            )
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/graphql",
            "",
        ):
            for data in (json.dumps({"query": change}), change, f"query={quote(change)}"):
                sent = requests.post(
                    f"{ui.url}/graphql?query={quote(change)}",
                    data=data,
                    headers=headers | {"Content-Type": kind},
                    timeout=30,
                )
                assert sent.status_code in (403, 415)
    for headers in (
        {"Origin": FOREIGN},
        {"Origin": f"http://127.0.0.1:{ui.port + 1}"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
    ):
        assert (
            requests.post(
                f"{ui.url}/graphql", json={"query": change}, headers=headers, timeout=30
            ).status_code
            == 403
        )
    assert ui.state() == before == (0, [], 1)


@pytest.mark.parametrize(
    ("origin", "host"),
    [(FOREIGN, None), ("null", None), ("http://127.0.0.1:1", None), (None, "evil.example")],
)
def test_a_websocket_of_a_foreign_page_is_refused_by_a_real_ui(
    ui: Ui, origin: str | None, host: str | None
) -> None:
    address, subprotocols = f"ws://{host or '127.0.0.1'}:{ui.port}/graphql", ["graphql-ws"]
    with (
        socket.create_connection(("127.0.0.1", ui.port)) as at,
        pytest.raises(InvalidStatus, match="403"),
        connect(address, sock=at, origin=origin, subprotocols=subprotocols),
    ):  # type: ignore[arg-type]
        pass


@with_browser
def test_a_page_in_a_real_browser_changes_nothing_of_a_real_ui_which_works_in_the_same_browser(
    ui: Ui, tmp_path: Path
) -> None:
    before = ui.state()
    with serving(ATTACK) as page, running_browser(tmp_path) as browser:
        for host, change in (("127.0.0.1", LAUNCH), ("localhost", ADD), ("localhost", WIPE)):
            browser.open(f"http://{host}:{page}/")
            assert browser.run(f"attack({ui.url!r}, name => {json.dumps(change)})")["socket"] == "refused"
        assert ui.state() == before
        browser.open(f"{ui.url}/assets")
        browser.wait_for("document.body.innerText.includes('candle_archive')")
        assert browser.run(OWN_SOCKET) == "connection_ack"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_of_the_machine_reaches_neither_the_ui_nor_its_code_server(ui: Ui) -> None:
    ask = f"exec 3<>/dev/tcp/127.0.0.1/{ui.port}; printf 'GET /server_info HTTP/1.1\\r\\nHost: 127.0.0.1:{ui.port}\\r\\nConnection: close\\r\\n\\r\\n' >&3; head -1 <&3"
    answer = subprocess.run(
        ["/bin/bash", "-c", ask],
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    assert answer.startswith("HTTP/1.1 403")
    sockets = [
        line.split()[-1]
        for line in Path("/proc/net/unix").read_text().splitlines()
        if "/lakehouse-ui-" in line and "LISTEN" not in line
    ]
    folders = {Path(one).parent for one in sockets if Path(one).exists()}
    assert folders
    assert {(stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) for folder in folders} == {
        (0o700, os.geteuid())
    }


def test_a_real_ui_refuses_a_run_that_configures_a_resource(ui: Ui) -> None:
    config = {
        "resources": {
            "duckdb": {
                "config": {"database": "sqlite:x", "connection_config": {"allow_unsigned_extensions": "true"}}
            }
        }
    }
    parameters = f'{{selector: {JOB}, mode: "default", runConfigData: $config}}'
    launch = "mutation($config: RunConfigData!) { launchRun(executionParams: %s) { __typename } }"
    launch = launch.replace("%s", parameters)
    assert ui.dagster.ask(launch, config=config) == {
        "launchRun": {"__typename": "RunConfigValidationInvalid"}
    }
    assert ui.state()[0] == 0


@pytest.mark.parametrize(
    "path",
    [
        "/logs/../../../etc/passwd",
        "/logs/..%2f..%2f..%2fetc%2fpasswd",
        "/logs/x/..%2f..%2fdagster.yaml",
        "/..%2f..%2fetc/passwd",
        "/static/..%2f..%2f..%2fcli.py",
    ],
)
def test_no_path_of_a_real_ui_leads_out_of_it(ui: Ui, path: str) -> None:
    with socket.create_connection(("127.0.0.1", ui.port), timeout=30) as at:
        at.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{ui.port}\r\nConnection: close\r\n\r\n".encode())
        answer = at.makefile("rb").read(4_000)
    assert b"root:" not in answer
    assert b"KeptSqliteStorage" not in answer
    assert b"import " not in answer


def test_what_its_user_does_works_and_nothing_of_the_folder_it_was_started_in_has_run(ui: Ui) -> None:
    ui.dagster.add_market(Market("binance", "spot", "BTCUSDT"))
    assert ui.state()[1] == ["binance-spot:BTCUSDT"]
    answer = ui.dagster.ask(
        'mutation { reloadRepositoryLocation(repositoryLocationName: "lakehouse") { __typename } }'
    )
    assert answer["reloadRepositoryLocation"]["__typename"] == "WorkspaceLocationEntry"
    launched = ui.dagster.ask(LAUNCH)["launchRun"]["__typename"]
    assert launched == "LaunchRunSuccess"
    # its exchange is out of reach: the run was run
    wait_until(time.monotonic() + 60, lambda: bool(ui.dagster.failed_runs()), ui.state)
    assert list(ui.said.iterdir()) == []
    assert not (ui.said.parent / "stolen").exists()


# --- the webserver of a deployment ----------------------------------------------------------------


def test_the_webserver_of_a_deployment_is_guarded_too_and_says_its_token_to_nobody(tmp_path: Path) -> None:
    port, token = free_ports(1)[0], "0123456789abcdef0123"
    (tmp_path / "workspace.yaml").write_text("load_from: []")
    env = os.environ | {
        "LAKEHOUSE_UI_TOKEN": token,
        "DAGSTER_HOME": str(tmp_path / "home"),
        "LAKEHOUSE_ROOT": str(tmp_path / "lake"),
    }
    words = [
        "webserver",
        "--workspace",
        "workspace.yaml",
        "--host",
        "0.0.0.0",
        "--name",
        "lake.example.org",
        "--port",
        str(port),
    ]
    log = tmp_path / "log"
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "lakehouse", *words], cwd=tmp_path, env=env, stdout=sink, stderr=sink
        ) as process,
    ):
        try:

            def status(name: str = f"127.0.0.1:{port}", **headers: str) -> int:
                try:
                    return requests.get(
                        f"http://127.0.0.1:{port}/server_info", headers={"Host": name, **headers}, timeout=10
                    ).status_code
                except requests.ConnectionError:
                    return 0

            wait_until(time.monotonic() + 60, lambda: status() != 0, log.read_text)
            bearer = {"Authorization": f"Bearer {token}"}
            assert (status(), status(Authorization="Bearer other"), status(**bearer)) == (401, 401, 200)
            assert (
                status("lake.example.org", **bearer),
                status("evil.example", **bearer),
                status(f"0.0.0.0:{port}", **bearer),
            ) == (200, 403, 403)
            assert token not in Path(f"/proc/{process.pid}/cmdline").read_text()
        finally:
            process.terminate()
    assert token not in log.read_text()
