"""The guard around Dagster's own webserver, in this process: the attack as it was made, first without the
guard, then against it.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver.app import create_app_from_workspace_process_context

from lakehouse.ui.door import DATA, Door, door
from lakehouse.ui.guard import Guard
from lakehouse.ui.peers import user_of
from lakehouse.ui.webserver import guarded

from .asking import FOREIGN, HOST, JSON, PORT, ask

TOKEN = "0123456789abcdef0123"
BEARER = ("Authorization", f"Bearer {TOKEN}")
CHANGE = 'mutation { setConcurrencyLimit(concurrencyKey: "evil", limit: 9) }'


@pytest.fixture(scope="module")
def context() -> Iterator[WorkspaceProcessContext]:
    with (
        dg.instance_for_test() as instance,
        WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def bare(context: WorkspaceProcessContext) -> Any:
    return create_app_from_workspace_process_context(context)


@pytest.fixture(scope="module")
def app(context: WorkspaceProcessContext) -> Any:
    """The guarded one; with a token, for in this process nobody is connected."""
    return guarded(context, Door(token=TOKEN))


@pytest.fixture
def limits(context: WorkspaceProcessContext) -> Iterator[Any]:
    """The keys that an attack has set."""
    yield lambda: set(context.instance.event_log_storage.get_concurrency_keys())
    for key in context.instance.event_log_storage.get_concurrency_keys():
        context.instance.event_log_storage.delete_concurrency_limit(key)


BY_GET = ("GET", f"/graphql?query={quote(CHANGE)}", [("Origin", FOREIGN)], b"")
BODY = json.dumps({"query": CHANGE}).encode()
ATTACKS = {
    "by GET": BY_GET,
    "by GET under a foreign Host": ("GET", BY_GET[1], [("Host", "evil.example")], b""),
    "by an image of a page": (
        "GET",
        BY_GET[1],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
        b"",
    ),
    "by a query string of a POST": (
        "POST",
        BY_GET[1],
        [("Content-Type", "application/x-www-form-urlencoded")],
        b"",
    ),
    "by a form of text": ("POST", f"/graphql?query={quote(CHANGE)}", [("Content-Type", "text/plain")], BODY),
    "by a form that says JSON": (
        "POST",
        "/graphql",
        [("Content-Type", "text/plain; x=application/json")],
        BODY,
    ),
    "as bare GraphQL": ("POST", "/graphql", [("Content-Type", "application/graphql")], CHANGE.encode()),
    "from a foreign page after a preflight": ("POST", "/graphql", [JSON, ("Origin", FOREIGN)], BODY),
    "from another port": (
        "POST",
        "/graphql",
        [JSON, ("Origin", f"http://127.0.0.1:{PORT + 1}"), ("Sec-Fetch-Site", "same-site")],
        BODY,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_what_changes_dagster_without_the_guard_is_refused_with_it(
    bare: Any, app: Any, limits: Any, attack: tuple[str, str, list[tuple[str, str]], bytes]
) -> None:
    method, address, headers, body = attack
    assert (ask(app, method, address, [*headers, BEARER], body).status, limits()) in [
        (status, set()) for status in (400, 403, 405, 415)
    ]
    assert (ask(bare, method, address, headers, body).status, limits()) == (200, {"evil"})


def test_what_the_ui_sends_is_answered(app: Any, limits: Any) -> None:
    ours = [BEARER, JSON, ("Origin", f"http://{HOST}"), ("Sec-Fetch-Site", "same-origin")]
    assert ask(app, "POST", "/graphql", ours, BODY).text == '{"data":{"setConcurrencyLimit":true}}'
    assert limits() == {"evil"}


def test_a_websocket_is_accepted_from_the_ui_and_from_no_other_page(bare: Any, app: Any) -> None:
    ours, foreign = ("Origin", f"http://{HOST}"), ("Origin", FOREIGN)
    assert [ask(bare, "GET", "/graphql", [one], kind="websocket").status for one in (ours, foreign)] == [
        101,
        101,
    ]
    assert [
        ask(app, "GET", "/graphql", [one, BEARER], kind="websocket").status for one in (ours, foreign)
    ] == [101, 403]
    assert ask(app, "GET", "/graphql", [ours], kind="websocket").status == 403  # without the token


def test_no_page_of_dagster_s_can_be_framed_or_held_by_another(app: Any) -> None:
    answer = ask(app, "GET", "/", [BEARER])
    assert answer.status == 200
    policies = answer.header("content-security-policy")
    assert any("frame-ancestors 'self'" in policy for policy in policies)
    assert any("script-src" in policy for policy in policies)  # Dagster's own stands beside it
    for name, value in {
        "x-frame-options": "SAMEORIGIN",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
    }.items():
        assert answer.header(name) == [value]
    assert ask(app, "GET", "/", [("Host", "evil.example")]).header("cross-origin-resource-policy") == [
        "same-origin"
    ]


def test_every_route_of_dagster_s_that_answers_with_data_is_known_as_such(bare: Any) -> None:
    names = {
        route.path.split("/")[1]
        for route in bare.routes
        if getattr(route, "name", None) not in ("root_static",)
        and not str(getattr(route, "name", "")).endswith("_static")
    }
    data = {name for name in names if name and not name.startswith(("{", "report_"))}
    assert data == set(DATA)
    assert {name for name in names if name.startswith("report_")} == {
        "report_asset_materialization",
        "report_asset_check",
        "report_asset_observation",
    }


def test_a_browser_shows_the_token_once_and_gets_a_cookie_for_it(app: Any) -> None:
    assert (
        ask(app, "GET", "/").status,
        ask(app, "GET", "/?token=wrong").status,
        ask(app, "GET", f"/?token={TOKEN}&token=x").status,
    ) == (401, 401, 401)
    answer = ask(app, "GET", f"/runs?{urlencode({'view': 'all', 'token': TOKEN})}")
    assert (answer.status, answer.header("content-type")) == (200, ["text/html; charset=utf-8"])
    assert 'content="0;url=/runs?view=all"' in answer.text
    assert TOKEN not in answer.text
    (cookie,) = answer.header("set-cookie")
    value, *attributes = cookie.split("; ")
    assert attributes == ["HttpOnly", "SameSite=Strict", "Path=/"]
    assert TOKEN not in cookie
    assert ask(app, "GET", "/runs", [("Cookie", value)]).status == 200
    assert 'content="0;url=/evil.example/"' in ask(app, "GET", f"//evil.example/?token={TOKEN}").text
    assert (
        "<"
        not in ask(app, "GET", f"/%22%3E%3Cscript%3E?token={TOKEN}&a=%22%3E%3Cscript%3E")
        .text.split("url=")[1]
        .split('">')[0]
    )


def test_a_link_from_elsewhere_is_loaded_once_more_and_then_brings_the_cookie(app: Any) -> None:
    link = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
    first = ask(app, "GET", "/runs", link)
    assert (first.status, '<meta http-equiv="refresh" content="0">' in first.text) == (401, True)
    again = ask(app, "GET", "/runs", [("Sec-Fetch-Site", "same-origin"), *link[1:]])
    assert (again.status, "<meta" in again.text) == (401, False), "without a cookie it ends there"


def test_a_token_with_a_plus_may_be_pasted_into_an_address(bare: Any) -> None:
    app = Guard(bare, door("127.0.0.1", 3000, (), "abcd+efgh/ijkl=mnopq", False))
    assert ask(app, "GET", "/?token=abcd+efgh/ijkl=mnopq").status == 200
    assert ask(app, "GET", "/?token=abcd-efgh/ijkl=mnopq").status == 401


def test_the_token_is_asked_for_by_every_route(app: Any, bare: Any) -> None:
    for route in bare.routes:
        path = (
            route.path.replace("{path:path}", "x")
            .replace("{run_id:str}", "x")
            .replace("{asset_key:path}", "x")
        )
        for method, headers in (("GET", []), ("POST", [JSON])):
            assert ask(app, method, path, headers).status == 401, (method, path)


async def _open(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found


@contextmanager
def connected(listener: socket.socket, words: Sequence[str], **who: Any) -> Iterator[socket.socket]:
    """Our end of a connection that another process makes and holds."""
    with subprocess.Popen(
        [*words, str(listener.getsockname()[1])], stdin=subprocess.PIPE, cwd="/", **who
    ) as other:
        client, _ = listener.accept()
        with client:
            yield client
        other.communicate()


def served(listener: socket.socket, client: socket.socket) -> int:
    """What the guard says to who is at the other end."""
    port = listener.getsockname()[1]
    app = Guard(_open, Door(port=port))

    def shifted(scope: Any, receive: Any, send: Any) -> Any:
        return app(scope | {"server": ("127.0.0.1", port)}, receive, send)

    return ask(shifted, "GET", "/", [("Host", f"127.0.0.1:{port}")], client=client.getpeername()).status


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a connection is")
class TestOtherUsersOfTheMachine:
    def test_its_own_user_comes_in(self, listener: socket.socket) -> None:
        with socket.create_connection(listener.getsockname()):
            client, _ = listener.accept()
            with client:
                assert user_of(client.getpeername(), client.getsockname()) == os.geteuid()
                assert served(listener, client) == 200

    def test_who_sent_something_and_left_is_nobody(self, listener: socket.socket) -> None:
        """The kernel writes a socket that was closed as root's, who may come in."""
        with socket.create_connection(listener.getsockname()):
            client, _ = listener.accept()
        with client:
            assert user_of(client.getpeername(), client.getsockname()) is None
            assert served(listener, client) == 403

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
    def test_another_user_is_refused(self, listener: socket.socket) -> None:
        bash = ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$0; read"]
        with connected(listener, bash, user=65534, group=65534, extra_groups=[]) as client:
            assert user_of(client.getpeername(), client.getsockname()) == 65534
            assert served(listener, client) == 403

    def test_a_connection_of_ipv4_through_a_socket_of_ipv6_is_found(self, listener: socket.socket) -> None:
        script = "import socket, sys; s = socket.socket(socket.AF_INET6); s.connect(('::ffff:127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
        with connected(listener, [sys.executable, "-c", script]) as client:
            assert served(listener, client) == 200

    def test_many_that_ask_at_once_are_told_apart(self, listener: socket.socket) -> None:
        found: list[int] = []
        ends = [socket.create_connection(listener.getsockname()) for _ in range(8)]
        clients = [listener.accept()[0] for _ in ends]
        threads = [
            threading.Thread(target=lambda client=client: found.append(served(listener, client)))
            for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one in (*ends, *clients):
            one.close()
        assert found == [200] * 8
