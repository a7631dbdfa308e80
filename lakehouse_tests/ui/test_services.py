"""What the processes behind the UI are told."""

from lakehouse.ui.door import Door
from lakehouse.ui.services import _words


def test_the_webserver_gets_its_door_as_options_and_no_token_where_anybody_can_read_it() -> None:
    at = Door("0.0.0.0", 3001, ("a.example", "b.example:81"), "0123456789abcdef0123", is_proxied=True)
    assert _words(at) == [
        "--host",
        "0.0.0.0",
        "--port",
        "3001",
        "--name",
        "a.example",
        "--name",
        "b.example:81",
        "--behind-proxy",
    ]
    assert _words(Door()) == ["--host", "127.0.0.1", "--port", "3000"]
