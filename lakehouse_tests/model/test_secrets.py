"""What this process knows to be secret stands in no text it shows, in whatever form it came."""

import base64
import json
import time
from html import escape
from urllib.parse import quote, quote_plus

import pytest

from lakehouse.model.errors import FetchError, LakehouseError, RestUnreachableError, StoreError
from lakehouse.model.secrets import Secrets, carries_credentials, hide, hide_tokens, learn, secrets_in

KEY = "wJalrXUtn/FEMI+K7MDENG=\"bPx<RfiCY&'EX\\"
PASSWORD = "p@ss/word+1 é"
TOKEN = "FwoGZXIvYXdzEXAMPLE//////////wEaDLqx+Ru3aB4c5D6e7F8g9H0="
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": KEY,
    "AWS_SESSION_TOKEN": f" {TOKEN}\n",
    "BINANCE_API_KEY": "binance-key-of-mine",
    "BINANCE_SECRET": "binance-secret-of-mine",
    "LAKEHOUSE_UI_TOKEN": "ui-token-of-mine",
    "PGPASSWORD": "postgres-of-mine",
    "HTTPS_PROXY": f"http://me:{quote(PASSWORD, safe='')}@proxy.example:3128",
    "SOME_PRIVATE_KEY": "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n-----END KEY-----",
}
FORMS = {
    "as it is": lambda value: value,
    "in an address": lambda value: quote(value, safe=""),
    "in a path": quote,
    "in a form": quote_plus,
    "in lower case": lambda value: "".join(
        part.lower() if part.startswith("%") else part for part in _parts(quote(value, safe=""))
    ),
    "in JSON": lambda value: json.dumps(value),
    "in JSON as text": lambda value: json.dumps(value, ensure_ascii=False),
    "in Python": repr,
    "in XML": escape,
    "in XML as text": lambda value: escape(value, quote=False),
}


def _parts(text: str) -> list[str]:
    import re

    return re.split(r"(%[0-9A-F]{2})", text)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "value",
    [
        KEY,
        PASSWORD,
        TOKEN,
        "binance-key-of-mine",
        "MIIEvQIBADANBgkqhkiG9w0BAQ",
        "ui-token-of-mine",
        "postgres-of-mine",
    ],
)
def test_a_secret_of_the_environment_is_hidden_in_every_form(form: object, value: str) -> None:
    written = form(value)  # type: ignore[operator]
    shown = Secrets(secrets_in(ENVIRONMENT)).hide(f"before {written} after")
    assert value not in shown
    assert written not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "***" in shown


def test_what_is_no_secret_stays() -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
        "PWD": "/home/somebody",
        "OLDPWD": "/home/other",
    }
    environment |= {
        "AWS_SECRET_ACCESS_KEY": "test",
        "MONKEY_NAME": "chimpanzee",
        "AWS_PROFILE": "production",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
    }
    known = Secrets(secrets_in(environment))
    text = "test: /var/run/token of AKIAIOSFODNN7EXAMPLE in /home/somebody, chimpanzee at http://127.0.0.1:9000/a?prefix=b&list-type=2, binance-spot:BTCUSDT, me@example.com"
    assert known.hide(text) == text
    assert Secrets().hide(text) == text


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{quote(PASSWORD, safe='')}@host/path",
        "error for url (http://me:hunter2hunter2@127.0.0.1:9/a)",
        "https://hunter2hunter2@host",
        "https://host/a?X-Amz-Signature=hunter2hunter2&X-Amz-Date=1",
        "https://host/a?x=1&X-Amz-Security-Token=hunter2hunter2",
        "https://host/a?apiKey=hunter2hunter2&symbol=BTCUSDT",
        "https://host/a;api_key=hunter2hunter2",
        "Authorization: Bearer hunter2hunter2",
        "{'Proxy-Authorization': 'Basic hunter2hunter2'}",
        '{"X-MBX-APIKEY": "hunter2hunter2"}',
        "x-amz-security-token: hunter2hunter2",
    ],
)
def test_what_stands_where_secrets_stand_is_hidden_though_nobody_knows_it(text: str) -> None:
    assert "hunter2" not in hide(text)
    assert quote(PASSWORD, safe="") not in hide(text)
    assert "***" in hide(text)
    assert hide(hide(text)) == hide(text)


def test_the_password_of_a_proxy_is_hidden_in_its_header_too() -> None:
    header = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert header not in Secrets(secrets_in(ENVIRONMENT)).hide(f"sent {header} to it")


@pytest.mark.parametrize("length", [8, 20, len(TOKEN) - 1])
def test_a_secret_in_the_middle_of_which_a_text_was_cut_is_hidden(length: int) -> None:
    known = Secrets([TOKEN])
    assert (
        known.hide(f"it said {TOKEN[:length]}… and {quote(TOKEN, safe='')[:length]}…")
        == "it said ***… and ***…"
    )
    assert known.hide("it said nothing…") == "it said nothing…"


def test_a_stranger_who_quotes_what_he_was_sent_is_not_quoted() -> None:
    assert hide_tokens(f"The token {TOKEN} is malformed") == "The token *** is malformed"
    assert hide_tokens("The request 0123456789abcdef0123456789 failed") == "The request *** failed"
    plainly = "User: arn:aws:sts::123456789012:assumed-role/lakehouse-writer/session is not authorized to perform: s3:PutObject on binance/2024-01"
    assert hide_tokens(plainly) == plainly


def test_every_error_of_ours_is_made_without_secrets() -> None:
    learn([TOKEN])
    for error in (
        LakehouseError(TOKEN),
        FetchError("key", f"said {TOKEN}"),
        StoreError("reading", f"s3://a/{quote(TOKEN, safe='')}", TOKEN),
        RestUnreachableError(f"http://me:{TOKEN}@host", TOKEN, "Wait."),
    ):
        assert TOKEN not in str(error) + repr(error) + str(getattr(error, "why", "")) + str(error.args)


def test_hiding_takes_no_longer_for_a_hostile_text() -> None:
    known = Secrets(secrets_in(ENVIRONMENT))
    started = time.process_time()
    for text in (
        "://" * 7000,
        "?token" * 4000,
        "authorization:" * 1500,
        "…" * 20_000,
        "a" * 20_000,
        ("x" * 50 + "…") * 400,
        "&" + "token" * 4000 + "=",
        "%" * 20_000,
    ):
        known.hide(text)
        hide_tokens(text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "address",
    [
        "https://me:pw@host",
        "https://me@host",
        "https://host/a?token=b",
        "https://host?a",
        "https://me:p/w@host",
        "//me:pw@host",
        "me:pw@host",
    ],
)
def test_an_address_that_carries_credentials_is_told(address: str) -> None:
    assert carries_credentials(address)
    assert not carries_credentials("https://host:9000/path")


@pytest.mark.parametrize(
    "variable",
    [
        ("VAULT_SECRET_ID", "s3cr3t-value-1"),
        ("MY_AUTH", "s3cr3t-value-1"),
        ("DAGSTER_PG_DSN", "host=db user=me password=s3cr3t-value-1"),
        ("DSN", "x;Passwd='s3cr3t-value-1';y=1"),
    ],
)
def test_more_names_and_places_of_secrets(variable: tuple[str, str]) -> None:
    assert "s3cr3t-value-1" in secrets_in(dict([variable]))


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "SSH_AUTH_SOCK", "XAUTHORITY", "CLIENT_ID"])
def test_names_that_hold_none(name: str) -> None:
    assert secrets_in({name: "a-value-of-ours"}) == set()


def test_the_tokens_of_alert_addresses_are_secrets_and_the_words_in_them_are_not() -> None:
    said = (
        "slack://TokA1b2c3d4e/B5f6g7h8i9/Zz0987654321, "
        "mailto://me:pass-w0rd-9@mail.example.org?to=you@example.org "
        "json://127.0.0.1:8080/lakehouse/alerts"
    )
    known = Secrets(secrets_in({"LAKEHOUSE_ALERT_URLS": said}))
    for secret in ("TokA1b2c3d4e", "B5f6g7h8i9", "Zz0987654321", "pass-w0rd-9"):
        assert secret not in known.hide(f"POST https://hooks.example.org/services/{secret}/x failed")
    words = "lakehouse: alerts at 127.0.0.1:8080 and mail.example.org are taken"
    assert known.hide(words) == words
