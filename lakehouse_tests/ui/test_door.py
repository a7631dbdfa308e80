"""The door: what a foreign page can make a browser send does not come in, whatever shape it has; what the UI
itself sends does.
"""

import pytest

from lakehouse.model.errors import UiExposedError, UiTokenError
from lakehouse.ui.door import Door, Refusal, door

from .asking import FOREIGN, HOST, JSON, PORT, Headers, scope

TOKEN = "0123456789abcdef0123"
OURS = [("Origin", f"http://{HOST}"), ("Sec-Fetch-Site", "same-origin")]
LINK = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
MUTATION = "mutation%7BlaunchRun%7D"


def status(
    method: str, address: str, headers: Headers = (), kind: str = "http", at: Door | None = None
) -> int:
    found = (at or Door()).refusal(scope(method, address, headers, kind))
    assert found is None or isinstance(found, Refusal)
    return found.status if found else 200


@pytest.mark.parametrize(
    ("method", "address", "headers"),
    [
        ("GET", "/", []),
        ("GET", "/runs?view=all", OURS[1:]),
        ("GET", "/graphql", []),  # the playground, which asks for nothing by itself
        ("HEAD", "/server_info", [("Host", f"localhost:{PORT}")]),
        ("GET", "/", [("Host", f"[::1]:{PORT}")]),
        ("GET", "/", [("Host", f"LOCALHOST:{PORT}")]),
        ("GET", "/logs/a/b.out", [("Sec-Fetch-Site", "none")]),
        ("POST", "/graphql", [JSON, *OURS]),
        ("POST", "/graphql?op=AssetRecordsQuery", [JSON, *OURS]),  # as the UI does
        ("POST", "/graphql", [("Content-Type", "application/json; charset=utf-8")]),
        ("POST", "/report_asset_materialization/a", [JSON]),
        ("GET", "/assets", LINK),  # a link in a chat
    ],
)
def test_what_the_ui_and_programs_of_its_user_send_comes_in(
    method: str, address: str, headers: Headers
) -> None:
    assert status(method, address, headers) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        "127.0.0.1:9",
        f"localhost.:{PORT}",
        f"127.0.0.1:{PORT}.evil.example",
        "",
        f"127.0.0.1:{PORT}@evil",
        "(none)",
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_foreign_host_is_not_answered_so_no_name_can_be_rebound_to_this_machine(
    host: str, kind: str
) -> None:
    assert status("GET", "/graphql", [("Host", host)], kind) == 403


def test_a_host_said_twice_is_not_chosen_from() -> None:
    assert status("GET", "/", [("Host", HOST), ("Host", "evil.example")]) == 403


@pytest.mark.parametrize(
    "origin",
    [
        FOREIGN,
        "null",
        f"http://127.0.0.1:{PORT + 1}",
        f"http://localhost:{PORT}",
        f"http://{HOST}.evil.example",
        f"http://{HOST}@evil.example",
        f"ftp://{HOST}",
        "",
        f"http://{HOST}/x",
        "file://",
        "chrome-extension://abc",
    ],
)
@pytest.mark.parametrize(("method", "kind"), [("POST", "http"), ("GET", "http"), ("GET", "websocket")])
def test_a_foreign_page_is_refused_by_its_origin(origin: str, method: str, kind: str) -> None:
    assert status(method, "/graphql", [JSON, ("Origin", origin)], kind) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "CROSS-SITE", "of tomorrow"])
@pytest.mark.parametrize(
    ("method", "address", "kind"),
    [
        ("POST", "/graphql", "http"),
        ("GET", "/server_info", "http"),
        ("GET", "/", "http"),
        ("GET", "/graphql", "websocket"),
    ],
)
def test_a_foreign_page_is_refused_by_sec_fetch_site(site: str, method: str, address: str, kind: str) -> None:
    assert status(method, address, [JSON, ("Sec-Fetch-Site", site)], kind) == 403
    assert status(method, address, [JSON, *OURS, ("Sec-Fetch-Site", site)], kind) == 403


@pytest.mark.parametrize(
    "address",
    [
        "/graphql",
        "/server_info",
        "/logs/a/b.out",
        "/notebook",
        "/dagit/notebook",
        "/download_debug/x",
        "/prefix/graphql",
        "//graphql",
    ],
)
def test_a_link_from_elsewhere_opens_pages_but_no_data(address: str) -> None:
    assert status("GET", address, LINK) == 403


@pytest.mark.parametrize(
    "changed",
    [
        ("Sec-Fetch-Mode", "no-cors"),
        ("Sec-Fetch-Dest", "iframe"),
        ("Sec-Fetch-Dest", "object"),
        ("Sec-Fetch-Dest", "(none)"),
    ],
)
def test_what_is_no_link_that_a_person_followed_is_refused(changed: tuple[str, str]) -> None:
    assert (
        status("GET", "/", [*((name, value) for name, value in LINK if name != changed[0]), changed]) == 403
    )


@pytest.mark.parametrize(
    ("method", "address", "headers", "expected"),
    [
        ("GET", f"/graphql?query={MUTATION}", [], 405),
        ("GET", f"/graphql?query={MUTATION}", OURS, 405),
        ("HEAD", f"/graphql?query={MUTATION}", [], 405),
        ("GET", "/graphql?extensions=%7B%22persistedQuery%22%3A1%7D", [("Accept", "text/html")], 405),
        ("GET", f"/prefix/graphql?query={MUTATION}", [], 405),
        ("GET", "/graphql", [("Content-Length", "40")], 400),
        ("GET", "/graphql", [("Transfer-Encoding", "chunked")], 400),
        ("POST", f"/graphql?query={MUTATION}", [JSON], 400),
        ("POST", f"/graphql?op=A&query={MUTATION}", [JSON], 400),
        ("POST", "/graphql?op=A&variables=", [JSON], 400),
        ("GET", "/graphql?op=A", [], 405),
        ("POST", f"/graphql?query={MUTATION}", [], 415),
        ("POST", "/graphql", [("Content-Type", "text/plain")], 415),
        # Dagster looks for the word anywhere
        ("POST", "/graphql", [("Content-Type", "text/plain; application/json")], 415),
        ("POST", "/graphql", [("Content-Type", "application/x-www-form-urlencoded")], 415),
        ("POST", "/graphql", [("Content-Type", "multipart/form-data; boundary=application/json")], 415),
        ("POST", "/graphql", [("Content-Type", "application/graphql")], 415),
        ("POST", "/graphql", [JSON, ("Content-Type", "text/plain")], 415),
        ("POST", "/report_asset_materialization/a", [("Content-Type", "text/plain")], 415),
        ("PUT", "/graphql", [JSON], 405),
        ("OPTIONS", "/graphql", [], 405),
    ],
)
def test_a_change_comes_only_as_json_in_the_body_of_a_post(
    method: str, address: str, headers: Headers, expected: int
) -> None:
    assert status(method, address, headers) == expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "lake.example", "2001:db8::1"])
def test_an_address_that_others_reach_needs_a_token_or_a_proxy(host: str) -> None:
    with pytest.raises(UiExposedError, match="LAKEHOUSE_UI_TOKEN or --token-file, or say --behind-proxy"):
        door(host, PORT, (), None, is_proxied=False)
    with pytest.raises(UiExposedError, match="LAKEHOUSE_UI_TOKEN"):
        door(host, PORT, (), "", is_proxied=False)
    with pytest.raises(UiExposedError, match="Name it with --name"):
        door(host, PORT, (" ",), None, is_proxied=True)
    assert not door(host, PORT, (), TOKEN, is_proxied=False).is_for_one_user
    assert not door(host, PORT, ("lake.example",), None, is_proxied=True).is_for_one_user


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_on_this_machine_it_is_open_to_its_own_user_alone(host: str) -> None:
    assert door(host, PORT, (), None, is_proxied=False).is_for_one_user


@pytest.mark.parametrize(
    "token",
    [
        "short",
        "with spaces in it, and long",
        "zwölf mal zwölf ist viel",
        "0123456789abcdef\r\nSet-Cookie: a=b",
    ],
)
def test_a_token_that_can_be_guessed_or_breaks_a_header_is_refused(token: str) -> None:
    with pytest.raises(UiTokenError, match="16 characters at least"):
        Door(token=token)
    assert TOKEN not in repr(Door(token=TOKEN))


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ([], False),
        ([("Authorization", f"Bearer {TOKEN}")], True),
        ([("Authorization", f"bearer  {TOKEN}")], True),
        ([("Authorization", f"Bearer {TOKEN}x")], False),
        ([("Authorization", f"Basic {TOKEN}")], False),
        ([("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer other")], False),
        ([("Cookie", f"a=b; lakehouse-ui-{PORT}={Door(token=TOKEN).pass_}")], True),
        ([("Cookie", f"lakehouse-ui-{PORT}={TOKEN}")], False),  # the cookie is not the token
        ([("Cookie", f"lakehouse-ui-{PORT + 1}={Door(token=TOKEN).pass_}")], False),
        ([("Cookie", f"lakehouse-ui-{PORT}={Door(token=TOKEN[::-1]).pass_}")], False),
        ([("Cookie", f"lakehouse-ui-{PORT}=ü")], False),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_stranger_brings_the_token_in_a_header_or_as_its_cookie(
    headers: Headers, known: bool, kind: str
) -> None:
    assert Door(token=TOKEN).knows(scope("GET", "/", headers, kind)) is known


def test_a_proxy_s_name_comes_in_as_host_and_as_origin_and_no_other_does() -> None:
    at = door("0.0.0.0", PORT, ("Lake.Example.org", "lake.example.org:8443"), None, is_proxied=True)
    # the last where the proxy puts its own word for us
    for host in ("lake.example.org", "lake.example.org:8443", f"127.0.0.1:{PORT}"):
        for origin in ("https://lake.example.org", "https://lake.example.org:8443"):
            assert status("POST", "/graphql", [JSON, ("Host", host), ("Origin", origin)], at=at) == 200
        assert (
            status("POST", "/graphql", [JSON, ("Host", host), ("Origin", "https://evil.example.org")], at=at)
            == 403
        )
    assert status("GET", "/", [("Host", f"0.0.0.0:{PORT}")], at=at) == 403
    without = door("0.0.0.0", PORT, ("lake.example.org",), TOKEN, is_proxied=False)
    # no proxy changes the Host there
    assert status("POST", "/graphql", [JSON, ("Origin", "https://lake.example.org")], at=without) == 403
