"""A Postgres server on this machine, from the system's own package, with a database for whoever asks.

It listens on Postgres's own port and speaks TLS, as a deployment's does, on a loopback address of its own.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "lake", "a secret: of-tests"


def programs() -> Path | None:
    """Where the server's programs are: beside the newest `initdb` that Debian's package has put somewhere, or
    in the path; None where it is not installed.
    """
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(packaged[-1]) if packaged else shutil.which("initdb")
    return Path(found).parent if found else None


class Postgres:
    """A server that runs.

    Attributes:
        host: The address it listens on.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self._count = 0

    def database(self) -> dict[str, str]:
        """An empty database, as the variables that a deployment has."""
        self._count += 1
        name = f"dagster{self._count}"
        with contextlib.closing(self._connect()) as connection:
            connection.autocommit = True
            connection.cursor().execute(f'CREATE DATABASE "{name}"')
        return {
            "DAGSTER_POSTGRES_HOST": self.host,
            "DAGSTER_POSTGRES_DB": name,
            "DAGSTER_POSTGRES_USER": USER,
            "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
        }

    def is_up(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(psycopg2.OperationalError):
            self._connect().close()
            return True
        return False

    def _connect(self) -> Any:
        return psycopg2.connect(host=self.host, user=USER, password=PASSWORD, dbname="postgres")


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server on a folder of its own; nothing of it is left. It refuses root, so root starts it as
    nobody.
    """
    own = programs()
    assert own is not None, "there is no Postgres server: install Debian's package postgresql"
    host = ".".join(["127", *(str(random.SystemRandom().randrange(1, 255)) for _ in range(3))])
    who: dict[str, Any] = (
        {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    )
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        data, secret = Path(folder, "data"), Path(folder, "secret")
        secret.write_text(PASSWORD)
        data.mkdir(mode=0o700)
        key, certificate = Path(folder, "server.key"), Path(folder, "server.crt")
        _certify(host, key, certificate)
        if who:
            for path in (Path(folder), data, secret, key, certificate):
                shutil.chown(path, "nobody", "nogroup")
        made = [
            own / "initdb",
            "-D",
            data,
            "-U",
            USER,
            "--pwfile",
            secret,
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
        ]
        subprocess.run([*made, "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd=folder, **who)
        told = {
            "listen_addresses": host,
            "unix_socket_directories": "",
            "fsync": "off",
            "ssl": "on",
            "ssl_key_file": str(key),
            "ssl_cert_file": str(certificate),
        }
        words = [word for name, value in told.items() for word in ("-c", f"{name}={value}")]
        said = Path(folder, "said")
        with said.open("wb") as sink:
            server = subprocess.Popen(
                [own / "postgres", "-D", data, *words], stdout=sink, stderr=sink, cwd=folder, **who
            )
        try:
            postgres, deadline = Postgres(host), time.monotonic() + 60
            while not postgres.is_up():
                assert server.poll() is None, said.read_text()
                assert time.monotonic() < deadline, said.read_text()
                time.sleep(0.1)
            yield postgres
        finally:
            server.send_signal(signal.SIGINT)  # it does not wait for who is still connected
            server.wait(30)


def _certify(host: str, key: Path, certificate: Path) -> None:
    """Make a key, and a certificate that it has signed itself."""
    private, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]),
    )
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    key.touch(mode=0o600)
    key.write_bytes(
        private.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate.write_bytes(signed.public_bytes(form))
