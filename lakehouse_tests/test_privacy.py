"""Secrets in every place where they came to light: settings, a store's words, a log, a trace, Dagster's
events; and the modes of files that hold addresses.
"""

import io
import json
import logging
import os
import stat
import sys
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.app import main
from lakehouse.cli.instance import open_instance
from lakehouse.exchanges.binance import Binance
from lakehouse.model.errors import AddressCredentialsError, SettingError, StoreError
from lakehouse.privacy import keep_private
from lakehouse.query.lake import Lake
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.landing import Landing
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.recording import Serving

SECRET, TOKEN = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "FwoGZXIvYXdzEXAMPLETOKEN/0123456789+abcdef=="
PASSWORD = "hunter2-of-mine"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The process as it was before a door was entered."""
    factory, mask = logging.getLogRecordFactory(), os.umask(0)
    os.umask(mask)
    yield
    logging.setLogRecordFactory(factory)
    os.umask(mask)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment, and the process as its door leaves it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    keep_private()


def assert_hidden(text: str) -> None:
    assert not [
        secret
        for secret in (SECRET, TOKEN, PASSWORD, TOKEN[:20], SECRET.replace("/", "%2F"))
        if secret in text
    ]


def ended(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str]:
    """The code a command ends with, and all it said."""
    monkeypatch.setattr(sys, "argv", ["lakehouse", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, "".join(capsys.readouterr())


# --- settings -------------------------------------------------------------------------------------

ADDRESSES = [
    f"https://me:{PASSWORD}@archive.example",
    f"https://{PASSWORD}@archive.example",
    f"https://archive.example/base?token={PASSWORD}",
    f"https://me:a/{PASSWORD}@archive.example",
    f"htp://me:{PASSWORD}@archive.example",
    f"me:{PASSWORD}@archive.example:80",
    f"https://me:{PASSWORD}@archive.example:port",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("variable", ["LAKEHOUSE_BINANCE_ARCHIVE_URL", "LAKEHOUSE_BINANCE_REST_URL"])
def test_credentials_in_an_address_are_refused_and_not_repeated(
    variable: str,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, address)
    with pytest.raises((AddressCredentialsError, SettingError)) as refused:
        Settings()
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))
    code, said = ended(["doctor"], monkeypatch, capsys)
    assert code == 2
    assert variable in said
    assert PASSWORD not in said


@pytest.mark.parametrize(
    "root",
    [
        f"s3://key:{PASSWORD}@lake/some",
        f"s3://lake/some?X-Amz-Signature={PASSWORD}",
        f"https://me:{PASSWORD}@lake",
    ],
)
def test_credentials_in_the_root_are_refused_and_a_folder_may_be_named_so(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AddressCredentialsError) as refused:
        Settings(root=root)
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))
    assert Settings(root=str(tmp_path / "me@home?")).root.endswith("me@home?")


def test_an_exchange_takes_no_credentials_either() -> None:
    for archive, rest in ((ADDRESSES[0], None), (None, ADDRESSES[0]), ("https://a", ADDRESSES[2])):
        with pytest.raises(AddressCredentialsError, match=r"^(archive|rest)_url holds a user") as refused:
            Binance(archive, rest)
        assert PASSWORD not in str(refused.value)


# --- a store's words ------------------------------------------------------------------------------


def quoting(handler: BaseHTTPRequestHandler) -> str:
    return handler.headers.get("x-amz-security-token") or ""


STORES = {
    "a token": lambda h: (
        400,
        f"<Error><Code>InvalidToken</Code><Message>The token {quoting(h)} is "
        f"malformed</Message><Token-0>{quoting(h)}</Token-0></Error>",
    ),
    "a header": lambda h: (
        403,
        f"<Error><Code>AccessDenied</Code><Message>No: {h.headers['Authorization']} x-amz-security-token: "
        f"{quoting(h)}</Message></Error>",
    ),
    "a secret": lambda h: (
        403,
        f"<Error><Code>SignatureDoesNotMatch</Code><Message>Signed with {SECRET}, "
        f"{SECRET.replace('/', '%2F')}</Message></Error>",
    ),
    "no document": lambda h: (403, f"{quoting(h)} {SECRET}"),
    "another's token": lambda h: (
        400,
        "<Error><Code>InvalidToken</Code><Message>Not FwoGZXIvYXdzEXAMPLETOKEN but some other "
        "0f9e8d7c6b5a4</Message></Error>",
    ),
    "a long text": lambda h: (
        403,
        f"<Error><Code>AccessDenied</Code><Message>{'no ' * 59}{quoting(h) * 2000}</Message></Error>",
    ),
}


@pytest.mark.parametrize("says", STORES.values(), ids=STORES)
def test_a_store_that_repeats_what_it_was_sent_is_not_repeated(
    says: object, environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        status, text = says(handler)  # type: ignore[operator]
        return status, text.encode()

    with Serving(answer) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        objects = LakeObjects("s3://lake/some")
        for work in (
            lambda: objects.get("a"),
            lambda: objects.put("a", b""),
            lambda: objects.delete("a"),
            lambda: list(objects.list("a")),
            lambda: Lake(objects.root).markets(),
        ):
            with pytest.raises(StoreError) as refused:
                work()
            assert_hidden("".join(traceback.format_exception(refused.value)) + refused.value.why)
            assert len(refused.value.why) <= 200
    assert any(quoted.get("x-amz-security-token") == TOKEN for quoted in store.asked), "it was sent"


def test_credentials_of_a_file_are_known_once_a_store_is_opened_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "in-a-file-of-mine"
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = {secret}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with Serving(
        lambda handler: (
            403,
            f"<Error><Code>AccessDenied</Code><Message>Signed with {secret}</Message></Error>".encode(),
        )
    ) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        with pytest.raises(StoreError, match=r"AccessDenied: Signed with \*\*\*"):
            LakeObjects("s3://lake/some").get("a")


# --- logs, traces, events -------------------------------------------------------------------------


def fail() -> None:
    try:
        raise ValueError(f"https://me:{PASSWORD}@host refused {SECRET}")
    except ValueError as error:
        raise RuntimeError(f"token {TOKEN}") from error


def test_no_log_holds_a_secret(environment: None) -> None:
    sink = io.StringIO()
    log, handler = logging.Logger("test"), logging.StreamHandler(sink)
    log.addHandler(handler)
    log.warning("token %s of %s", TOKEN, {"Authorization": SECRET})
    log.error(f"in place {SECRET.replace('/', '%2F')}")
    log.error("misfit %d", "x")
    try:
        fail()
    except RuntimeError:
        log.exception("failed")
    said = sink.getvalue()
    assert_hidden(said)
    assert said.count("***") >= 5
    assert "RuntimeError" in said


def test_no_trace_of_a_command_holds_a_secret(
    environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Lake, "markets", lambda lake: fail())
    code, said = ended(["markets", "list"], monkeypatch, capsys)
    assert code == 1
    assert "RuntimeError: token ***" in said
    assert_hidden(said)


def test_a_log_that_does_not_fit_its_values_is_nobodys_error(environment: None) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("cannot be shown")

    keep_private()
    record = logging.getLogRecordFactory()
    for message, values in (("%(y)s", ({"x": 1},)), ("%s", (Odd(),)), ("%d", ("x",))):
        assert record("a", logging.INFO, "", 1, message, values, None).msg == message


@pytest.mark.slow
def test_no_event_of_a_run_that_fails_holds_a_secret(environment: None, tmp_path: Path) -> None:
    @dg.asset
    def failing(context: dg.AssetExecutionContext) -> None:
        context.log.error(f'about to fail with {TOKEN} and "quoted\\ {SECRET}"')
        context.add_output_metadata(
            {"address": f"https://me:{PASSWORD}@host", "cells": dg.MetadataValue.json({"a": [SECRET, 1]})}
        )
        fail()

    home = tmp_path / "home"
    with open_instance(Settings(dagster_home=home)) as instance:
        found = dg.materialize([failing], instance=instance, raise_on_error=False)
        told = [str(entry.to_json()) for entry in instance.all_logs(found.run_id)]
    assert not found.success
    assert any("RuntimeError" in text for text in told)
    assert any("***" in text for text in told)
    for path in (path for path in home.rglob("*") if path.is_file()):
        assert_hidden(path.read_bytes().decode("utf-8", "replace"))


@pytest.mark.slow
def test_doctor_and_help_tell_no_secret(
    environment: None,
    exchange: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LAKEHOUSE_BINANCE_ARCHIVE_URL", "LAKEHOUSE_BINANCE_REST_URL"):
        monkeypatch.setenv(name, exchange.url)
    with Serving(
        lambda handler: (
            403,
            f"<Error><Code>AccessDenied</Code><Message>{quoting(handler)}</Message></Error>".encode(),
        )
    ) as store:
        monkeypatch.setenv("LAKEHOUSE_ROOT", "s3://lake/some")
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url.replace("://", f"://me:{PASSWORD}@"))
        code, said = ended(["doctor", "--json"], monkeypatch, capsys)
    assert code == 1
    assert "failed" in [row["state"] for row in json.loads(said) if row["what"] == "LAKEHOUSE_ROOT"]
    assert_hidden(said)
    assert_hidden(
        ended(["--help"], monkeypatch, capsys)[1] + ended(["sql", "--help"], monkeypatch, capsys)[1]
    )


# --- files ----------------------------------------------------------------------------------------


def open_to_others(folder: Path) -> list[str]:
    """What others may read, or the group write."""
    return [
        str(path)
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o027
    ]


@pytest.mark.slow
def test_the_folders_of_a_lake_and_of_dagster_let_nobody_else_in(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        LakeObjects(tmp_path / "a" / "lake").put("landing/receipt.json", b"{}")
        LakeObjects(tmp_path / "cached").update("ledger/x", lambda body, tag: None)
        open_instance(Settings(dagster_home=tmp_path / "home")).dispose()
    finally:
        os.umask(mask)
    for folder in ("a/lake", "cached", "home"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o750


@pytest.mark.slow
def test_what_a_process_of_ours_writes_is_nobody_elses_to_read(environment: None, tmp_path: Path) -> None:
    objects = LakeObjects(tmp_path / "lake")
    objects.put("bronze/a/data.parquet", b"rows")
    objects.update("ledger/x", lambda body, tag: objects.put("ledger/x", b"new") and None)
    assert Landing(objects, "binance").receipts("data/") == {}
    open_instance(Settings(dagster_home=tmp_path / "home")).dispose()
    assert open_to_others(tmp_path / "lake") == open_to_others(tmp_path / "home") == []
    assert len(list((tmp_path / "home").rglob("*.db"))) >= 2


def test_the_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake").chmod(0o755)
    LakeObjects(tmp_path / "lake").put("a", b"")
    assert stat.S_IMODE((tmp_path / "lake").stat().st_mode) == 0o755
