"""The image, built by buildah on a base that stands in for the official one, and its containers, by Podman.

Where no registry of images is reachable, Debian's own Python of the same minor version, on the Debian release
of the official base, is arranged as that is: `python3` with an installer that can be removed. It proves what
the Dockerfile does, not what the official base has. Wants root, and Debian's packages buildah, debootstrap,
podman and runc.
"""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse_tests.clone import ROOT
from lakehouse_tests.docker.composed import FOLDER
from lakehouse_tests.docker.stack import FILES, Processes

BASE = (
    "docker.io/library/" + re.search(r"^ARG PYTHON_IMAGE=(\S+)", (FOLDER / "Dockerfile").read_text(), re.M)[1]
)  # type: ignore[index]
IMAGE = "localhost/lakehouse:tried"
PYTHON, RELEASE = re.search(r"python:(3\.\d+)-slim-(\w+)$", BASE).groups()  # type: ignore[union-attr]
_TOOLS = ("buildah", "debootstrap", "podman", "runc")
_ALIKE = """set -eu
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
python3 -m venv /tmp/venv
cd /usr/share/python-wheels
/tmp/venv/bin/python -m pip --python /usr/bin/python3 install --quiet --no-index ./pip-*.whl
rm -rf /tmp/venv /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
python3 -c 'import sys; sys.exit(f"{sys.version_info.major}.{sys.version_info.minor}" != "%s")'
"""
"""Done to Debian's Python, so that it is as in the official base, with pip in /usr/local."""


def said(*words: str, **more: Any) -> str:
    """What a command says; it has to succeed."""
    ended = subprocess.run(words, capture_output=True, text=True, **more)
    assert ended.returncode == 0, f"{words[0]} {words[1]}:\n{ended.stderr[-1500:]}"
    return ended.stdout.strip()


def build_base(folder: Path) -> None:
    """Make the base, under the name of the official one, where there is none of that name."""
    if subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True).returncode == 0:
        return
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    assert not missing, f"install Debian's packages {', '.join(missing)}"
    root, mirror = folder / "root", _mirror()
    wanted = "--include=ca-certificates,python3,python3-venv"
    said("debootstrap", "--variant=minbase", wanted, RELEASE, str(root), mirror)
    said("chroot", str(root), "sh", "-c", _ALIKE % PYTHON)
    made = said("buildah", "from", "scratch")
    said("buildah", "add", "-q", made, str(root), "/")
    said("buildah", "commit", "-q", made, BASE)
    said("buildah", "rm", made)


def _mirror() -> str:
    """Where this machine has its own packages from."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(file.read_text("utf-8") for file in files if file.is_file())
    found = re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+/debian/?)(?=\s|$)", text, re.M)
    assert found, "no line of apt's sources names Debian's packages"
    return found[1]


def build_image() -> None:
    """Build the Dockerfile as `make image` does, with this machine's way to the index of packages."""
    said("make", "wheel", cwd=ROOT)
    ways = [path for path in ("/etc/resolv.conf", "/etc/ssl/certs", "/etc/pip.conf") if Path(path).exists()]
    mounts = [word for path in ways for word in ("--volume", f"{path}:{path}:ro")]
    how = ["--isolation", "chroot", "--network", "host", "--pull-never", "--format", "docker", *mounts]
    revision = said("git", "rev-parse", "HEAD", cwd=ROOT)
    stated = ["--build-arg", "VERSION=0.1.0", "--build-arg", f"REVISION={revision}"]
    said("buildah", "bud", *how, *stated, "--file", "infra/docker/Dockerfile", "--tag", IMAGE, ".", cwd=ROOT)


def inspected(image: str) -> dict[str, Any]:
    """What an image says of itself."""
    (found,) = json.loads(said("podman", "image", "inspect", image))
    return dict(found)


class Containers(Processes):
    """Services as containers of the image, as compose confines them; what is no image of ours is a process.

    Args:
        folder: For logs of processes.
        files: The files of the image and of compose, by this machine's ports.
    """

    def start(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> None:
        if name == "aws":
            super().start(name, words, env)
        else:
            said("podman", "run", "--detach", "--name", _named(name), *self._how(env), IMAGE, *words)

    def run(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> tuple[int, str]:
        how = ["podman", "run", "--rm", "--name", _named(name), *self._how(env), IMAGE, *words]
        ended = subprocess.run(how, capture_output=True, text=True)
        return ended.returncode, ended.stdout + ended.stderr

    def ask(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> int:
        if name == "aws":
            return super().ask(name, words, env)
        return subprocess.run(["podman", "exec", _named(name), *words], capture_output=True).returncode

    def said(self, name: str) -> str:
        if name == "aws":
            return super().said(name)
        ended = subprocess.run(["podman", "logs", _named(name)], capture_output=True, text=True)
        return ended.stdout + ended.stderr

    def has_ended(self, name: str) -> bool:
        if name == "aws":
            return super().has_ended(name)
        return said("podman", "inspect", "--format", "{{.State.Running}}", _named(name)) != "true"

    def stop(self, name: str) -> None:
        if name == "aws":
            super().stop(name)
        else:
            with contextlib.suppress(AssertionError):
                said("podman", "rm", "--force", "--volumes", "--time", "5", _named(name))

    def _how(self, env: Mapping[str, str]) -> list[str]:
        mounts = [f"--volume={self._files / name}:/srv/lakehouse/{name}:ro" for name in FILES]
        return [
            *CONFINED,
            "--network=host",
            *mounts,
            *(f"--env={name}={value}" for name, value in env.items()),
        ]


CONFINED = (
    "--runtime=runc",
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp:mode=1777,size=2g",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--ulimit=nofile=20000:20000",
    "--ulimit=nproc=4096:4096",
)
"""As compose has it: only scratch may be written, and there is no privilege. Limits are this machine's."""


def _named(name: str) -> str:
    return f"lakehouse-tried-{name}"
