"""The transport: whole listings, identical bytes by two ways, and one failed file that is one failed file."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
import requests

from lakehouse.exchanges.binance import Binance
from lakehouse.model.errors import FetchError, LakehouseError, ListingUnreachableError
from lakehouse.simulator import Simulator
from lakehouse.sources.files import transport
from lakehouse.sources.files.batch import Batch
from lakehouse.sources.files.staging import make_staging, sweep_staging
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.making import NOW, ArchiveFolder, at, klines, text
from lakehouse_tests.recording import passing_on

from .conftest import fetched, serve

DAILY = "data/spot/daily/klines/BTCUSDT/1m/"
DAYS = [f"2024-02-0{day}" for day in range(1, 6)]


def client(sim: Simulator) -> ArchiveClient:
    return ArchiveClient(sim.url, Binance.bucket)


@pytest.fixture
def by_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Fetch with the tool, or without it."""
    monkeypatch.setattr("lakehouse.sources.files.batch._FEW", 0)
    if request.param == "http":
        monkeypatch.setattr("lakehouse.sources.files.batch.s5cmd_path", lambda: None)
    return str(request.param)


ways = pytest.mark.parametrize("by_way", ["s5cmd", "http"], indirect=True)
both_slowly = pytest.mark.parametrize(
    "by_way", [pytest.param("s5cmd", marks=pytest.mark.slow), "http"], indirect=True
)


@pytest.fixture
def files(folder: ArchiveFolder) -> dict[str, bytes]:
    """Five daily files and their bytes, by key."""
    keys = [folder.put(day, text(klines(day, 50))) for day in DAYS]
    return {key: (folder.root / key).read_bytes() for key in keys}


def outcomes(batch: Batch, keys: Sequence[str]) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for key in keys:
        try:
            found[key] = batch.wait(key).body
        except FetchError as error:
            found[key] = str(error)
    return found


# --- listing --------------------------------------------------------------------------------------


def test_a_listing_of_many_pages_is_whole_and_in_order(exchange: Simulator) -> None:
    found = list(client(exchange).objects(DAILY))
    days = [date(2021, 1, 1) + timedelta(days=n) for n in range((NOW.date() - date(2021, 1, 1)).days)]
    assert len(days) * 2 > 2000
    assert [listed.key for listed in found] == [
        f"{DAILY}BTCUSDT-1m-{day}.zip{end}" for day in days for end in ("", ".CHECKSUM")
    ]
    some = next(listed for listed in found if listed.key.endswith("2024-02-05.zip"))
    answer = requests.head(f"{exchange.archive_url}/{some.key}", timeout=10)
    assert (f'"{some.etag}"', str(some.size)) == (answer.headers["ETag"], answer.headers["Content-Length"])
    assert some.last_modified.utcoffset() == timedelta(0)
    assert at("2024-02-06T06:00") <= some.last_modified < at("2024-02-06T06:10")


def test_a_listing_can_begin_behind_a_key(exchange: Simulator) -> None:
    found = [
        listed.key for listed in client(exchange).objects(DAILY, after=f"{DAILY}BTCUSDT-1m-2024-04-08.zip")
    ]
    assert found == [
        f"{DAILY}BTCUSDT-1m-2024-04-08.zip.CHECKSUM",
        f"{DAILY}BTCUSDT-1m-2024-04-09.zip",
        f"{DAILY}BTCUSDT-1m-2024-04-09.zip.CHECKSUM",
    ]


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(exchange: Simulator) -> None:
    assert list(client(exchange).objects("data/spot/daily/klines/BTC/")) == []
    assert list(client(exchange).objects("data/spot/daily/klines/BTCUSDT/1/")) == []


def test_folders_are_listed_by_name(exchange: Simulator) -> None:
    assert client(exchange).folders("data/spot/daily/klines/") == [
        "ADABTC",
        "BTCUSDT",
        "ETHUSDT",
        "SOLUSDT",
        "XYZUSDT",
    ]
    assert client(exchange).folders("data/spot/daily/nothing/") == []


@pytest.mark.parametrize(
    "ask", [lambda one: list(one.objects(DAILY)), lambda one: one.folders(DAILY)], ids=["objects", "folders"]
)
def test_an_archive_out_of_reach_says_where_it_was_looked_for(
    exchange: Simulator, ask: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_TRIES", 1)
    for url in (CLOSED, f"{exchange.url}/api/v3", f"{exchange.url}/nowhere"):
        with pytest.raises(
            ListingUnreachableError,
            match=f"The archive listing of {DAILY} at {url} does not answer: .*LAKEHOUSE_BINANCE_ARCHIVE_URL",
        ):
            ask(ArchiveClient.of(Binance(url)))  # type: ignore[operator]
    assert issubclass(ListingUnreachableError, LakehouseError)


# --- fetching -------------------------------------------------------------------------------------


@ways
def test_files_arrive_byte_for_byte_and_one_that_is_absent_is_one_error(
    by_way: str, folder: ArchiveFolder, files: dict[str, bytes]
) -> None:
    absent = f"{DAILY}BTCUSDT-1m-2024-02-28.zip"
    with serve(folder) as sim, Batch(client(sim), [*files, absent, next(iter(files))]) as batch:
        found = outcomes(batch, [absent, *reversed(files)])
        assert absent in batch
        assert "data/other.zip" not in batch
    why = found.pop(absent)
    assert found == files
    assert isinstance(why, str)
    assert absent in why
    assert "404" in why
    assert "run the same build again" in why


@both_slowly
@pytest.mark.parametrize("fault", ["error_503", "cut_transfer"])
def test_a_fault_that_passes_is_not_seen(
    by_way: str, folder: ArchiveFolder, files: dict[str, bytes], fault: str
) -> None:
    with serve(folder) as sim:
        sim.add_fault(f"{fault}=*2024-02-03.zip")
        with Batch(client(sim), list(files)) as batch:
            assert outcomes(batch, list(files)) == files
        assert sim.faults_hit == {fault: [f"{DAILY}BTCUSDT-1m-2024-02-03.zip"]}


@both_slowly
def test_a_file_that_stays_unavailable_is_one_error_and_the_others_arrive(
    by_way: str, folder: ArchiveFolder, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_TRIES", 1)
    refused = f"{DAILY}BTCUSDT-1m-2024-02-03.zip"
    with serve(folder) as sim:
        sim.add_fault(f"unavailable={refused}")
        with Batch(client(sim), list(files)) as batch:
            found = outcomes(batch, list(files))
    assert "503" in str(found.pop(refused))
    assert found == {key: body for key, body in files.items() if key != refused}


def test_a_tool_that_does_not_work_is_replaced_by_plain_http(
    folder: ArchiveFolder, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.sources.files.batch._FEW", 0)
    monkeypatch.setattr("lakehouse.sources.files.batch.s5cmd_path", lambda: "/bin/false")
    with serve(folder) as sim, Batch(client(sim), list(files)) as batch:
        assert outcomes(batch, list(files)) == files


@ways
def test_an_archive_out_of_reach_fails_every_file_and_nothing_hangs(
    by_way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_TRIES", 1)
    keys = [f"{DAILY}BTCUSDT-1m-{day}.zip" for day in DAYS]
    with Batch(ArchiveClient(CLOSED, Binance.bucket), keys) as batch:
        found = outcomes(batch, keys)
    assert all(isinstance(why, str) and "could not be fetched" in why for why in found.values())


@ways
def test_any_key_can_be_fetched(by_way: str, folder: ArchiveFolder) -> None:
    keys = [
        f"data/spot/daily/klines/{symbol}/1m/{symbol}-1m-2024-02-05.zip"
        for symbol in ("币安人生USDT", "A%2FB", "A+B C", "A*[B]?")
    ]
    for key in keys:
        folder.put_bytes(key, key.encode())
    with serve(folder) as sim, Batch(client(sim), keys) as batch:
        assert outcomes(batch, keys) == {key: key.encode() for key in keys}


def test_nothing_to_fetch_is_no_process_and_no_request(exchange: Simulator) -> None:
    with serve(ArchiveFolder(Path("nowhere"))) as sim:
        with Batch(client(sim), []):
            pass
        assert fetched(sim) == []


def test_the_archives_keys_need_no_credentials_and_take_none(
    folder: ArchiveFolder, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's credentials and profile for their own lake must not be sent to the exchange, nor break
    reading from it.
    """
    for name, value in {
        "AWS_ACCESS_KEY_ID": "mine",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_PROFILE": "absent",
        "AWS_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    with serve(folder) as sim:
        assert len(list(client(sim).objects(DAILY))) == 10
        with Batch(client(sim), list(files)) as batch:
            assert outcomes(batch, list(files)) == files


ODD = {
    "a secret alone": {"AWS_SECRET_ACCESS_KEY": "of-the-lake-alone"},
    "a key alone": {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"},
    "a token and a secret": {
        "AWS_SESSION_TOKEN": "of-the-lake",
        "AWS_SECRET_ACCESS_KEY": "of-the-lake-alone",
    },
    "credentials of the lake": {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "of-the-lake",
        "AWS_SESSION_TOKEN": "t",
    },
    "a profile that is not there": {"AWS_PROFILE": "nobody", "AWS_CONFIG_FILE": "/nowhere"},
    "an endpoint of the lake": {
        "AWS_ENDPOINT_URL": CLOSED,
        "AWS_ENDPOINT": CLOSED,
        "AWS_ENDPOINT_URL_S3": CLOSED,
    },
    "a role of a cluster": {
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/x",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x",
    },
    "a kind of bucket": {
        "AWS_S3_EXPRESS": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_BUCKET": "other",
        "AWS_REGION": "eu-west-1",
    },
}


@pytest.mark.parametrize("by_way", ["s5cmd"], indirect=True)
@pytest.mark.parametrize("variables", ODD.values(), ids=ODD)
def test_the_public_archive_is_read_unsigned_whatever_aws_variables_say_of_the_lake(
    by_way: str,
    variables: dict[str, str],
    folder: ArchiveFolder,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with serve(folder) as sim, passing_on(sim.url) as recorded:
        asked = ArchiveClient(recorded.url, Binance.bucket)
        assert asked.folders("data/") == ["spot"]
        assert [entry.key for entry in asked.objects(DAILY) if entry.key in files] == list(files)
        with Batch(asked, list(files)) as batch:
            assert outcomes(batch, list(files)) == files
    assert len(recorded.asked) > len(files)
    assert not [
        name
        for headers in recorded.asked
        for name in headers
        if name.lower() in ("authorization", "x-amz-security-token", "x-amz-request-payer")
    ]


# --- staging --------------------------------------------------------------------------------------


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's temporary folder, for this test alone."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_staged_files_go_with_their_batch(
    staging: Path, folder: ArchiveFolder, files: dict[str, bytes]
) -> None:
    with serve(folder) as sim:
        with Batch(client(sim), list(files)) as batch:
            batch.wait(next(iter(files)))
            assert [path.name.startswith("lakehouse-fetch-") for path in staging.iterdir()] == [True]
        assert list(staging.iterdir()) == []
        with pytest.raises(RuntimeError, match="stop"), Batch(client(sim), list(files)):
            raise RuntimeError("stop")
    assert list(staging.iterdir()) == []


HOLD = """
import fcntl, os, sys
from lakehouse.sources.files.staging import make_staging
folder, held = make_staging()
print(folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(staging: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that stages files, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(staging)},
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    (folder / "0").write_text("being fetched")
    yield process, folder
    process.kill()
    process.wait()


def test_a_folder_is_swept_once_nobody_holds_it_and_not_before(
    staging: Path, holder: tuple[subprocess.Popen[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen from another PID namespace the holder has no process: whether it lives is told by its lock
    alone.
    """
    process, folder = holder
    monkeypatch.setattr(os, "getpid", lambda: 1)
    sweep_staging()
    assert (folder / "0").exists()
    process.kill()
    process.wait()
    sweep_staging()
    assert not folder.exists()


def test_what_was_not_made_for_staging_is_never_swept(staging: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "0").write_text("mine")
    names = ["lakehouse-fetch-notes", "lakehouse-fetch-4711-abcdefgh", "other"]
    for name in names:
        (staging / name).mkdir()
        (staging / name / "0").write_text("left behind")
    (staging / "lakehouse-fetch-aaaaaaaa").symlink_to(precious)
    (staging / "lakehouse-fetch-bbbbbbbb").write_text("no folder")
    sweep_staging()
    assert sorted(path.name for path in staging.iterdir()) == sorted(
        [*names, "lakehouse-fetch-aaaaaaaa", "lakehouse-fetch-bbbbbbbb"]
    )
    assert (precious / "0").exists()


def test_a_folder_that_is_swept_before_it_is_held_is_made_again(
    staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real = [], tempfile.mkdtemp

    def swept_at_once(**kwargs: str) -> str:
        made.append(real(**kwargs))
        if len(made) == 1:
            sweep_staging()
        return made[-1]

    monkeypatch.setattr("lakehouse.sources.files.staging.tempfile.mkdtemp", swept_at_once)
    folder, held = make_staging()
    os.close(held)
    assert (len(made), str(folder)) == (2, made[1])
