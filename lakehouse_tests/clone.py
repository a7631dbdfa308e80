"""A clone of this checkout as somebody has it who just came: its files, a venv, and no setting."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# MAKEFLAGS has what was said to the `make` that runs the tests, and would outrank what is said in the clone
_NOT_OF_A_NEW_SHELL = ("LAKEHOUSE_", "DAGSTER_", "AWS_", "GIT_", "PYTEST_", "COV", "MAKE", "MFLAGS")


def make_clone(place: Path) -> Path:
    """Copy what git knows, or would with the next commit, and make it a repository of its own."""
    clone = place / "clone"
    known = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True
    )
    for name in filter(None, known.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name, follow_symlinks=False)
    _give_venv(clone)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=clone, check=True, env=environment(clone))
    return clone


def _give_venv(clone: Path) -> None:
    """The packages of this interpreter as `.venv`, which `make` finds to be current."""
    own = clone / ".venv"
    own.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        own.joinpath(name).symlink_to(Path(sys.prefix, name))
    for made in (
        "runtime",
        "dev",
        "tools",
        "infra",
        "swift",
        "readers",
        "backtesters",
        "trino",
        "trino-server",
    ):
        own.joinpath(f".{made}").touch()
    for tool in ("tools", "infra", "swift", "trino"):  # environments of their own beside it
        if (place := Path(sys.prefix, tool)).is_dir():
            own.joinpath(tool).symlink_to(place)


def environment(clone: Path) -> dict[str, str]:
    """What a shell has in which nothing was set: the clone's code and venv, and nothing of Dagster's or ours.

    The packages of this interpreter may have another checkout installed, so the clone's goes before it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OF_A_NEW_SHELL)}
    path = f"{clone / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "PYTHONPATH": str(clone), "HOME": str(clone.parent)}
