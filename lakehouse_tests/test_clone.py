"""What Dagster's users type first in a fresh clone works there: no argument, no setting, the venv alone."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.instance import CONFIG, open_instance
from lakehouse.cli.local_trino import free_ports
from lakehouse.model.market import Market
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse_tests.browser import CHROMIUM, running_browser
from lakehouse_tests.clone import ROOT, environment, make_clone
from lakehouse_tests.opened import CODE, Dagster, shoot, wait_until

MARKET = Market("binance", "spot", "BTCUSDT")


def test_there_is_one_instance_file() -> None:
    assert (ROOT / "dagster.yaml").read_bytes() == CONFIG.read_bytes()


@pytest.fixture(scope="module", params=["bare", "with a copied .env.example"])
def clone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = make_clone(tmp_path_factory.mktemp("fresh"))
    if request.param != "bare":
        shutil.copy(found / ".env.example", found / ".env")
    return found


def run(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=clone, env=environment(clone), capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("dagster", "definitions", "validate"), ("dg", "check", "defs"), ("dg", "list", "defs", "--json")],
)
def test_dagster_s_own_commands_load_a_fresh_clone(clone: Path, words: tuple[str, ...]) -> None:
    ended = run(clone, *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    if words[-1] == "--json":
        listed = json.dumps(json.loads(ended.stdout))
        assert [table.name for table in REGISTRY.tables if f'"{table.name}"' not in listed] == []


@pytest.fixture
def developing(request: pytest.FixtureRequest, clone: Path, tmp_path: Path) -> Iterator[Dagster]:
    """`dagster dev` in the clone, with the words of its parameter, beside a simulated exchange."""
    words = getattr(request, "param", ())
    (port,) = free_ports(1)
    log = tmp_path / "dev.log"
    with Simulator() as exchange, log.open("wb") as sink:
        addresses = dict.fromkeys(
            ("LAKEHOUSE_BINANCE_ARCHIVE_URL", "LAKEHOUSE_BINANCE_REST_URL"), exchange.url
        )
        shell = environment(clone) | addresses
        if (clone / ".env").exists():  # what stands there outranks the shell, as Dagster has it
            for name, address in addresses.items():
                text = (clone / ".env").read_text("utf-8")
                (clone / ".env").write_text(re.sub(f"^{name}=.*$", f"{name}={address}", text, flags=re.M))
        dev = subprocess.Popen(
            ["dagster", "dev", "--port", str(port), *words], cwd=clone, env=shell, stdout=sink, stderr=sink
        )
        try:
            server = Dagster(port)
            wait_until(time.monotonic() + 120, server.is_up, lambda: log.read_text()[-2000:])
            yield server
        finally:
            dev.send_signal(signal.SIGINT)
            dev.wait(60)


@pytest.mark.slow
def test_what_is_done_in_dagster_dev_is_there_in_the_instance_of_every_command(
    developing: Dagster, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    developing.add_market(MARKET)
    started = developing.ask(
        "mutation($job: JobOrPipelineSelector!) { launchRun(executionParams: {selector: $job}) "
        "{ __typename ... on LaunchRunSuccess { run { runId } } } }",
        job=CODE | {"jobName": "__ASSET_JOB", "assetSelection": [{"path": ["silver", "market"]}]},
    )["launchRun"]
    assert started["__typename"] == "LaunchRunSuccess", started
    asked = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"

    def is_done() -> bool:
        status = developing.ask(asked, id=started["run"]["runId"])["runOrError"]["status"]
        assert status != "FAILURE"
        return bool(status == "SUCCESS")

    wait_until(time.monotonic() + 120, is_done, lambda: "the run did not end")
    monkeypatch.chdir(clone)
    with open_instance(Settings()) as instance:
        assert instance.root_directory == str(clone / ".dagster")
        assert instance.get_dynamic_partitions("market") == [MARKET.key]
        assert instance.get_latest_materialization_event(dg.AssetKey(["silver", "market"]))
    assert (clone / "lake" / "silver" / "market").is_dir()
    assert (clone / ".dagster").stat().st_mode & 0o007 == 0  # events say addresses


@pytest.mark.slow
@pytest.mark.parametrize("clone", ["bare"], indirect=True)
@pytest.mark.parametrize("developing", [("-w", "examples/downstream/workspace.yaml")], indirect=True)
def test_a_location_of_a_user_s_own_is_there_beside_the_lake_s(developing: Dagster, tmp_path: Path) -> None:
    loaded = developing.ask(
        "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename "
        "... on RepositoryLocation { repositories { sensors { name sensorState { status } } } } } } } } }"
    )["workspaceOrError"]["locationEntries"]
    found = {entry["name"]: entry["locationOrLoadError"] for entry in loaded}
    assert {name: each["__typename"] for name, each in found.items()} == dict.fromkeys(
        ("lakehouse", "research"), "RepositoryLocation"
    )
    (repository,) = found["research"]["repositories"]
    assert repository["sensors"] == [{"name": "downstream", "sensorState": {"status": "RUNNING"}}]
    nodes = developing.ask(
        "{ assetNodes { assetKey { path } dependencyKeys { path } repository { location { name } } } }"
    )["assetNodes"]
    places = {"/".join(node["assetKey"]["path"]): node for node in nodes}
    assert places["signal"]["repository"]["location"]["name"] == "research"
    assert places["signal"]["dependencyKeys"] == [{"path": ["gold", "vwap"]}]
    assert {places[table.name]["repository"]["location"]["name"] for table in REGISTRY.tables} == {
        "lakehouse"
    }
    if CHROMIUM is not None:
        with running_browser(tmp_path, "--window-size=1600,1000") as browser:
            browser.open(f"{developing.address}/assets/signal?view=lineage")
            assert browser.wait_for(
                "['signal', 'vwap', 'gold', 'research'].every(word => "
                "document.body.innerText.includes(word)) && document.body.innerText"
            )
            shoot(browser, "own_asset")
