"""Whose process is at the other end of a connection from this machine: the kernel knows."""

import sys
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

# a socket that was closed after it sent something is nobody's, which the kernel writes as root's
_ESTABLISHED = "01"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
CAN_TELL = sys.platform == "linux"


def user_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """The user whose socket is connected to ours; None where there is none any more, or none on this machine.

    Args:
        client: Address and port that our side sees.
        server: Our own.
    """
    wanted = (_plain(client[0]), client[1], _plain(server[0]), server[1])
    return next((user for ends, user in _connections(client[1], server[1]) if ends == wanted), None)


def _connections(client: int, server: int) -> Iterator[tuple[tuple[str, int, str, int], int]]:
    """The ends and the user of what is connected between two ports."""
    # looked for as text: thousands of lines cost a request nothing
    ports = f":{client:04X} ", f":{server:04X} "
    for table in _TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no IPv6
            continue
        for _, local, remote, state, _, _, _, user, *_ in (
            line.split() for line in lines if ports[0] in line and ports[1] in line
        ):
            if state == _ESTABLISHED:
                yield (*_end(local), *_end(remote)), int(user)


def _end(text: str) -> tuple[str, int]:
    """Address and port, of which the kernel writes the first as words of four bytes in the machine's own
    order.
    """
    words, port = text.split(":")
    raw = b"".join(
        int(words[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(words), 8)
    )
    return _plain(str(ip_address(raw))), int(port, 16)


def _plain(address: str) -> str:
    """An address in its one spelling: one of IPv4 within IPv6 is the former."""
    parsed = ip_address(address.partition("%")[0])
    return str(parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else str(parsed)
