"""OpenStack Swift with its S3 API on this machine: a second, strict implementation of S3, which verifies
signatures and replaces an object whatever `If-Match` says.

Its four servers are processes of the environment that `make .venv/.swift` lays beside the tests' own.
"""

import contextlib
import getpass
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lakehouse.cli.local_trino import free_ports

IS_STORE = os.environ.get("STORE") == "swift"
"""Whether the tests of storage run on it, in place of the local stand-in for AWS."""
USER, KEY = "test:tester", "testing"
_BIN = Path(sys.prefix) / "swift" / "bin"
_KINDS = ("account", "container", "object")
_PROXY = """
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth copy dlo slo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{nobody}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin .reseller_admin
[filter:copy]
use = egg:swift#copy
[filter:dlo]
use = egg:swift#dlo
[filter:slo]
use = egg:swift#slo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
"""
# a container is told of an object before its writer is answered, however busy the machine: no updater runs
_STORE = """
container_update_timeout = 60
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
[{kind}-replicator]
[{kind}-auditor]
"""
_SWIFT = """
[swift-hash]
swift_hash_path_suffix = a
swift_hash_path_prefix = b
[storage-policy:0]
name = p0
default = yes
"""
_DEFAULT = """[DEFAULT]
devices = {folder}/srv
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
log_level = ERROR
log_address = {folder}/log"""


@contextlib.contextmanager
def swift(folder: Path) -> Iterator[str]:
    """Run Swift with one device in a folder; yields the address of its S3 API.

    Args:
        folder: An empty folder on a file system with extended attributes.
    """
    ports = dict(zip((*_KINDS, "proxy", "nobody"), free_ports(5), strict=True))
    (folder / "srv" / "sda").mkdir(parents=True)
    (folder / "swift.conf").write_text(_SWIFT)
    for kind in (*_KINDS, "proxy"):
        text = _DEFAULT.format(folder=folder, port=ports[kind], user=getpass.getuser())
        own = _PROXY.format(nobody=ports["nobody"]) if kind == "proxy" else _STORE.format(kind=kind)
        (folder / f"{kind}-server.conf").write_text(text + own)
    _make_rings(folder, ports)
    with contextlib.ExitStack() as running:
        log = running.enter_context((folder / "said").open("wb"))
        for kind in (*_KINDS, "proxy"):
            running.callback(_end, _start(folder, kind, log))
        for kind in (*_KINDS, "proxy"):
            _await(ports[kind], folder / "said")
        yield f"http://127.0.0.1:{ports['proxy']}"


def _make_rings(folder: Path, ports: dict[str, int]) -> None:
    """A ring for each kind, of one part on one device: made in one process, which imports once."""
    script = (
        "import sys; from swift.common.ring import RingBuilder\n"
        "folder, *kinds = sys.argv[1:]\n"
        "for kind, port in (each.split(':') for each in kinds):\n"
        "    ring = RingBuilder(1, 1, 0)\n"
        "    place = {'region': 1, 'zone': 1, 'device': 'sda', 'weight': 1}\n"
        "    at = {'ip': '127.0.0.1', 'port': int(port)}\n"
        "    ring.add_dev(place | at | {f'replication_{name}': at[name] for name in at})\n"
        "    ring.rebalance(); ring.get_ring().save(f'{folder}/{kind}.ring.gz')\n"
    )
    named = [f"{kind}:{ports[kind]}" for kind in _KINDS]
    subprocess.run([_BIN / "python", "-c", script, folder, *named], check=True, timeout=60)


def _start(folder: Path, kind: str, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    command = [_BIN / f"swift-{kind}-server", folder / f"{kind}-server.conf"]
    return subprocess.Popen(command, stdout=log, stderr=log)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _await(port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < until, log.read_text()[-2000:]
        time.sleep(0.05)
