"""`.env.example` says what it says it does."""

from pathlib import Path

import pytest

from lakehouse.exchanges import EXCHANGES
from lakehouse.model.addresses import address_setting
from lakehouse.settings import Settings

EXAMPLE = Path(__file__).parents[1] / ".env.example"
ADDRESSES = {
    setting: address
    for exchange in EXCHANGES
    for setting, address, is_there in (
        (address_setting(exchange.name, "archive"), exchange.archive_home, bool(exchange.files)),
        (address_setting(exchange.name, "rest"), "", bool(exchange.pages)),
    )
    if is_there
}


def test_it_has_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings().environment(), *ADDRESSES):
        monkeypatch.delenv(name, raising=False)
    said = dict(
        line.split("=", 1)
        for line in EXAMPLE.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    # Dagster refuses a home that is no whole path, and a default cannot know one: it is there as a comment
    assert "\n# DAGSTER_HOME=/" in EXAMPLE.read_text(encoding="utf-8")
    assert said.keys() | {"DAGSTER_HOME"} == Settings().environment().keys() | ADDRESSES.keys()
    assert Settings(_env_file=EXAMPLE) == Settings(_env_file=None, addresses=ADDRESSES)


def test_it_has_the_addresses_of_every_exchange_and_they_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ADDRESSES:
        monkeypatch.delenv(name, raising=False)
    told = Settings(_env_file=EXAMPLE)
    assert told.addresses == ADDRESSES
    for exchange in EXCHANGES:
        here, own = (
            exchange(told.address(exchange.name, "archive"), told.address(exchange.name, "rest")),
            exchange(),
        )
        assert (here.archive_url, here.rest_url) == (own.archive_url, own.rest_url)


def test_an_exchange_nobody_thought_of_has_its_addresses_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_KIOSK_REST_URL", "http://kiosk")
    assert Settings().address("kiosk", "rest") == "http://kiosk"
    assert Settings().address("kiosk", "archive") is None
    assert Settings().environment()["LAKEHOUSE_KIOSK_REST_URL"] == "http://kiosk"
