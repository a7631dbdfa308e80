"""`lakehouse build` on S3: killed, twice at once, and with an endpoint that is away, slow, or refuses."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.simulator import Simulator
from lakehouse.storage.aws import aws_client
from lakehouse.storage.guarding import LEASE
from lakehouse.storage.ledger import survey
from lakehouse_tests.commands import Run, environment, in_process
from lakehouse_tests.storage.fault_proxy import (
    Fault,
    FaultProxy,
    denied,
    expired,
    no_bucket,
    redirected,
    slow_down,
)
from lakehouse_tests.storage.swift import IS_STORE
from lakehouse_tests.test_end_to_end import (
    BUILD_SECONDS,
    ETH,
    LISTED,
    NOW,
    QUARTER,
    finish,
    start_build,
    versions,
)

pytestmark = pytest.mark.slow
ROOT = "s3://lake/some"
KILLS = 7
OUTAGE = float(os.environ.get("OUTAGE", "4"))  # seconds; a minute in `make test-long`
BUILD = ("build", "gold", "--markets", ETH, *QUARTER, "--json")  # a perpetual: candles and funding
Versions = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator(markets=LISTED, now=NOW) as running:
        yield running


@pytest.fixture(scope="module")
def calm(sim: Simulator, tmp_path_factory: pytest.TempPathFactory) -> tuple[Versions, float]:
    """The versions of an undisturbed build, and how long it took."""
    folder, begun = tmp_path_factory.mktemp("calm"), time.monotonic()
    finish(start_build(environment(folder, sim.url), BUILD))
    whole, found = time.monotonic() - begun, made(folder / "lake")
    assert len(found["silver/funding_rate"]) == len(found["silver/candle"]) == 3
    return found, whole


@pytest.fixture
def env(sim: Simulator, proxy: FaultProxy, tmp_path: Path) -> dict[str, str]:
    """Settings of a lake in an empty bucket, behind the proxy."""
    return environment(tmp_path, sim.url) | {"LAKEHOUSE_ROOT": ROOT}


@pytest.fixture
def run(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command in this process."""
    return in_process(tmp_path, env, monkeypatch, capsys)


def made(root: str | Path) -> Versions:
    """The versions of all cells; of bronze, whose rows carry when they were fetched, only which cells there
    are.
    """
    return {
        name: dict.fromkeys(cells, "") if name.startswith("bronze/") else cells
        for name, cells in versions(root).items()
    }  # type: ignore[arg-type]


def strays(root: str) -> list[str]:
    """Objects in a lake that are no part of it."""
    objects = Lake(root).objects
    foreign = [
        error.path
        for table in REGISTRY.tables
        if table.spread != "one"
        for error in survey(objects, table)[1]
    ]
    places = (
        [f"{table.name}/" for table in REGISTRY.tables]
        + [
            f"ledger/{table.name}.{kind}"
            for table in REGISTRY.tables
            for kind in ("parquet", "anomalies.json")
        ]
        + ["landing/"]
    )
    landed = [found.path for found in objects.list("landing")]
    fetched = {path.rsplit("/", 1)[0] for path in landed}
    assert len(landed) == 2 * len(fetched), "the bytes and one receipt of each file"
    return foreign + [found.path for found in objects.list("") if not found.path.startswith(tuple(places))]


# --- kills and company ----------------------------------------------------------------------------


def test_a_build_on_s3_killed_at_any_instant_ends_as_one_that_was_not(
    env: dict[str, str], calm: tuple[Versions, float]
) -> None:
    expected, whole = calm
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kills, tries = 0, 0
    while kills < KILLS:
        tries += 1
        assert tries < 4 * KILLS, "builds end before they can be killed"
        build = start_build(env, BUILD)
        try:
            build.wait(chance.uniform(0.3, 0.9) * whole)
        except subprocess.TimeoutExpired:
            os.kill(build.pid, signal.SIGKILL)
            build.communicate()
            kills += 1
            made(ROOT)  # whatever stands, reads
        else:
            if not is_locked_out(build):
                finish(build)
                empty()  # it got through: begin anew
    until = time.monotonic() + 1.5 * LEASE.total_seconds()
    while is_locked_out(build := start_build(env, BUILD)):
        assert time.monotonic() < until, f"seed {seed}: a lock outlives its lease"
        time.sleep(30)
    finish(build)
    assert made(ROOT) == expected, f"seed {seed}"
    assert strays(ROOT) == []


def is_locked_out(build: subprocess.Popen[bytes]) -> bool:
    """Whether a build failed for nothing but locks that killed ones have left: on a store whose locks are
    objects they stand for ten minutes, and are told.
    """
    if not IS_STORE or build.wait(BUILD_SECONDS) == 0:
        return False
    assert build.stdout
    failed = json.loads(build.stdout.read())["failed"]
    assert all("its lock" in why for why in failed.values()), failed
    return True


@pytest.mark.parametrize("shared", [False, True], ids=["a Dagster home each", "one Dagster home"])
def test_two_builds_of_the_same_at_once_make_what_one_makes(
    env: dict[str, str], calm: tuple[Versions, float], tmp_path: Path, shared: bool
) -> None:
    builds = [
        start_build(env | {"DAGSTER_HOME": str(tmp_path / ("home" if shared else f"home{n}"))}, BUILD)
        for n in range(2)
    ]
    for build in builds:
        finish(build)
    assert made(ROOT) == calm[0]
    assert strays(ROOT) == []


def empty() -> None:
    client = aws_client("s3")
    for found in list(Lake(ROOT).objects.list("")):
        client.delete_object(Bucket="lake", Key=f"some/{found.path}")


# --- what passes ----------------------------------------------------------------------------------


def test_a_build_outlives_an_outage(
    proxy: FaultProxy, env: dict[str, str], calm: tuple[Versions, float]
) -> None:
    build = start_build(env, BUILD)
    wait_for(proxy, build, "PUT", "some/silver/candle/")
    proxy.down()
    time.sleep(OUTAGE)
    assert build.poll() is None, "it ended in the outage"
    proxy.up()
    finish(build)
    assert made(ROOT) == calm[0]


def test_a_build_gets_through_where_every_fifth_request_is_refused_for_now(
    proxy: FaultProxy, env: dict[str, str], calm: tuple[Versions, float]
) -> None:
    busy = slow_down(every=5)
    with proxy.saying(busy):
        finish(start_build(env, BUILD))
    assert busy.answered > 20
    assert made(ROOT) == calm[0]


def test_a_build_gets_through_where_every_request_takes_300_ms(
    proxy: FaultProxy, run: Run, calm: tuple[Versions, float]
) -> None:
    proxy.delay = 0.3
    answer = run(
        "build", "bronze/candle_archive", "--markets", ETH, "--from", "2024-03", "--to", "2024-04", "--json"
    )
    proxy.delay = 0
    assert answer.code == 0, answer.said
    answer = run(*BUILD)
    assert answer.code == 0, answer.said
    assert {row["table"]: row["built"] for row in answer.json["tables"]}["bronze/candle_archive"] == len(
        calm[0]["bronze/candle_archive"]
    ) - 1
    assert made(ROOT) == calm[0]


def wait_for(proxy: FaultProxy, build: subprocess.Popen[bytes], method: str, below: str) -> None:
    while not any(seen == method and key.startswith(below) for seen, key in list(proxy.requests)):
        assert build.poll() is None, build.communicate()[1].decode()
        time.sleep(0.01)


# --- what does not --------------------------------------------------------------------------------

STOPS: dict[str, tuple[Fault, str]] = {
    "expired on the way": (
        expired(),
        "ExpiredToken: The provided token has expired. Renew the AWS credentials",
    ),
    "bucket gone on the way": (no_bucket(), "there is no bucket lake. Create it, or correct LAKEHOUSE_ROOT."),
}


@pytest.mark.parametrize("case", STOPS)
def test_a_build_stops_with_one_line_and_the_next_one_ends_it(
    proxy: FaultProxy, run: Run, calm: tuple[Versions, float], case: str
) -> None:
    fault, said = STOPS[case]
    proxy.once("PUT", "some/silver/candle/exchange=binance/market_type=linear", fault)
    answer = run(*BUILD)
    assert (answer.code, answer.out) == (1, ""), answer.said
    assert answer.err.count("\n") == 1, answer.err
    assert "error: " in answer.err
    assert "s3://lake/some" in answer.err
    assert said in answer.err
    assert fault.answered < 10, "it went on although nothing could come of it"
    proxy.faults.clear()
    stood = made(ROOT)
    for table in ("bronze/candle_archive", "bronze/funding_rate_archive"):
        assert stood[table] == calm[0][table]
    again = run(*BUILD)
    assert again.code == 0, again.said
    assert {row["table"]: row["built"] for row in again.json["tables"]}["bronze/candle_archive"] == 0
    assert made(ROOT) == calm[0]


def test_a_denied_prefix_fails_its_cells_by_name_and_the_next_build_makes_them(
    proxy: FaultProxy, run: Run, calm: tuple[Versions, float]
) -> None:
    with proxy.saying(denied("some/silver/candle", "PUT")):
        answer = run(*BUILD)
    assert answer.code == 1, answer.said
    failed = answer.json["failed"]
    assert {name.split(" ")[0] for name in failed} == {"silver/candle"}
    assert len(failed) == len(calm[0]["silver/candle"])
    for name, why in failed.items():
        month, market = name.split(" ")[1].split("|")
        assert f"symbol={market.split(':')[1]}/month={month}" in why
        assert "Grant these credentials s3:PutObject on arn:aws:s3:::lake/some/*" in why
    assert run(*BUILD).code == 0
    assert made(ROOT) == calm[0]


@pytest.mark.parametrize(
    "words",
    [BUILD, ("status",), ("gaps",), ("sql", "SELECT count(*) FROM silver.candle"), ("markets", "list")],
    ids=lambda words: " ".join(words[:2]),
)
def test_commands_say_in_one_line_what_is_wrong_with_the_store(
    proxy: FaultProxy, run: Run, words: tuple[str, ...]
) -> None:
    wrong = {
        "Renew the AWS credentials": expired(),
        "Create it, or correct LAKEHOUSE_ROOT": no_bucket(),
        "Set AWS_REGION to eu-west-1": redirected("eu-west-1"),
        "Grant these credentials s3:": denied(),
    }
    for said, fault in wrong.items():
        with proxy.saying(fault):
            answer = run(*words)
        assert (answer.code, answer.out) == (1, ""), answer.said
        assert answer.err.count("\n") == 1, answer.err
        assert said in answer.err
        assert "s3://lake/some" in answer.err
