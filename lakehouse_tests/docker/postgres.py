"""The Postgres of this machine, as `infra/docker/compose.yaml` has one."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lakehouse_tests.docker.composed import environment, services

_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
POSTGRES = _FOUND[-1] if _FOUND else None
"""Where the newest one is; Debian's package postgresql-15 brings one."""
_PATIENCE = 60.0  # seconds
_NOBODY = "nobody"  # it refuses to run as root


@contextlib.contextmanager
def running_postgres(port: str) -> Iterator[None]:
    """A Postgres with compose's user, database and password, healthy by compose's check."""
    assert POSTGRES is not None, "no Postgres: install Debian's package postgresql-15"
    stated = services()["postgres"]
    said = environment(stated)
    user = said["POSTGRES_USER"]
    here = ["-h", "127.0.0.1", "-p", port]
    who = {"user": _NOBODY, "group": "nogroup"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="lakehouse-postgres-", ignore_cleanup_errors=True) as folder:
        data, password = Path(folder, "data"), Path(folder, "password")
        password.write_text(said["POSTGRES_PASSWORD"], encoding="utf-8")
        if who:
            shutil.chown(folder, _NOBODY)
            shutil.chown(password, _NOBODY)
        made = ["-D", data, "-U", user, "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync"]
        subprocess.run([POSTGRES / "initdb", *made], check=True, capture_output=True, cwd=folder, **who)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        words = [POSTGRES / "postgres", "-D", data, "-k", folder, "-F", *here]
        server = subprocess.Popen(words, cwd=folder, **quiet, **who)
        try:
            _, asked, *more = stated["healthcheck"]["test"]
            deadline = time.monotonic() + _PATIENCE
            while subprocess.run([POSTGRES / asked, *more, *here], capture_output=True).returncode:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            login = os.environ | {"PGPASSWORD": said["POSTGRES_PASSWORD"]}
            make = [POSTGRES / "createdb", *here, "-U", user, said["POSTGRES_DB"]]
            subprocess.run(make, check=True, env=login, capture_output=True)
            yield
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(20)
